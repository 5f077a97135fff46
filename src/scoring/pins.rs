//! Versions that requests name: loaded when one is asked for, and a few of them kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Models, NotServed, ScoringPipeline, Served};
use crate::model::registry::{Reference, RegistryError, Version, Which};

/// The versions that were asked for last. The champion and the challenger are at hand anyway.
#[derive(Debug)]
pub struct Pins {
    models: Arc<Models>,
    pipeline: Arc<ScoringPipeline>,
    /// The one asked for last is the last.
    kept: Mutex<Vec<Arc<Served>>>,
    most: usize,
}

/// Why a request cannot be answered by the version that it names.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("{0}")]
    Unknown(String),
    /// It is there and cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The registry cannot be read now.
    #[error("{0}")]
    Unreadable(String),
}

impl Pins {
    #[must_use]
    pub fn new(models: Arc<Models>, pipeline: Arc<ScoringPipeline>, most: usize) -> Self {
        Self { models, pipeline, kept: Mutex::default(), most: most.max(1) }
    }

    #[must_use]
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// The version, if it is in memory.
    #[must_use]
    pub fn at_hand(&self, which: &Which) -> Option<Arc<Served>> {
        match which {
            Which::Version(version) => self.in_memory(version),
            Which::Alias(alias) => self.in_memory(&self.models.alias(alias)?),
        }
    }

    /// The version, loaded and verified where it is not in memory; the one that was not asked for longest gives way. Blocking.
    ///
    /// # Errors
    /// When there is none, or it does not verify or fit requests.
    pub fn load(&self, which: &Which) -> Result<Arc<Served>, PinError> {
        let reference = Reference { name: self.models.name().clone(), which: which.clone() };
        let version = self.models.registry().resolve(&reference).map_err(|error| match error {
            RegistryError::Io { .. } | RegistryError::Damaged { .. } => PinError::Unreadable(error.to_string()),
            error => PinError::Unknown(error.to_string()),
        })?;
        if let Some(served) = self.in_memory(&version) {
            return Ok(served);
        }
        let served = Served::load(self.models.registry(), self.models.name(), &version, &self.pipeline);
        let served = Arc::new(served.map_err(|error| match error {
            NotServed::Unreadable(cause) => PinError::Unreadable(cause),
            NotServed::Unusable(cause) => PinError::Unusable(cause),
        })?);
        tracing::info!(model = %self.models.name(), %version, "a version that a request named is loaded");
        let mut kept = self.kept();
        if kept.len() >= self.most {
            kept.remove(0);
        }
        kept.push(Arc::clone(&served));
        Ok(served)
    }

    fn in_memory(&self, version: &Version) -> Option<Arc<Served>> {
        let chosen = self.models.chosen();
        let challenger = chosen.challenger.map(|challenger| challenger.served);
        if let Some(served) = [chosen.champion, challenger].into_iter().flatten().find(|of| of.version == *version) {
            return Some(served);
        }
        let mut kept = self.kept();
        let place = kept.iter().position(|served| served.version == *version)?;
        let served = kept.remove(place);
        kept.push(Arc::clone(&served));
        Some(served)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Arc<Served>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::registry::MODEL_FILE;
    use crate::scoring::testing::{Kept, NOON_US};

    #[test]
    fn few_versions_are_kept_and_those_that_were_asked_for_last() {
        let (kept, scorer) = Kept::champion();
        let versions: Vec<Version> = (1..5).map(|n| kept.record(NOON_US + n * 1_000_000, 2_000.0)).collect();
        let pins = Pins::new(Arc::clone(&scorer.models), Arc::clone(&scorer.pipeline), 2);
        let which = |number: usize| Which::Version(versions[number].clone());
        let has = |number: usize| pins.kept().iter().any(|served| served.version == versions[number]);
        assert!(pins.at_hand(&which(0)).is_none());
        assert_eq!(pins.load(&which(0)).unwrap().version, versions[0]);
        pins.load(&which(1)).unwrap();
        assert!(pins.at_hand(&which(0)).is_some(), "asked for again");
        pins.load(&which(2)).unwrap();
        assert!(has(0) && !has(1) && has(2));
        pins.load(&which(2)).unwrap();
        assert_eq!(pins.kept().len(), 2);
        // The champion takes no place.
        let champion = scorer.models.chosen().champion.unwrap();
        for which in [Which::Alias("champion".into()), Which::Version(champion.version.clone())] {
            assert!(Arc::ptr_eq(&pins.at_hand(&which).unwrap(), &champion));
        }
        let missing = pins.load(&Which::Alias("gamma".into())).unwrap_err();
        assert!(matches!(&missing, PinError::Unknown(cause) if cause.contains("no alias `gamma`")), "{missing}");
        let missing = pins.load(&Which::Version(Version::at(0))).unwrap_err();
        assert!(matches!(missing, PinError::Unknown(_)), "{missing}");
        std::fs::write(kept.path(&versions[3]).join(MODEL_FILE), b"{}").unwrap();
        let damaged = pins.load(&which(3)).unwrap_err();
        assert!(matches!(&damaged, PinError::Unusable(cause) if cause.contains("not what was written")), "{damaged}");
        assert_eq!(pins.kept().len(), 2);
    }
}
