//! Which model answers: the aliases of the registry, followed while requests go on.

use std::sync::{Arc, PoisonError, RwLock};

use super::{ScoringPipeline, Served};
use crate::model::registry::{Aliases, CHAMPION, ModelName, Registry, Version};

/// The champion of a model, exchanged as a whole when its alias moves. A request keeps the one that it began with.
#[derive(Debug)]
pub struct Models {
    registry: Registry,
    name: ModelName,
    current: RwLock<Current>,
}

#[derive(Debug, Default)]
struct Current {
    champion: Option<Arc<Served>>,
    /// Why there is none, or why the alias was not followed.
    problem: Option<String>,
    /// What was tried last and failed: not again before the alias moves.
    failed: Option<Version>,
}

/// What answers, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub champion: Option<Arc<Served>>,
    pub problem: Option<String>,
}

impl Models {
    /// No model is loaded before [`Models::follow`].
    #[must_use]
    pub fn new(registry: Registry, name: ModelName) -> Self {
        let problem = Some("no model was looked for yet".to_owned());
        Self { registry, name, current: RwLock::new(Current { problem, ..Current::default() }) }
    }

    /// One version, or why there is none, for ever.
    pub(super) fn fixed(registry: Registry, name: ModelName, chosen: Result<Arc<Served>, String>) -> Self {
        let current = match chosen {
            Ok(served) => Current { champion: Some(served), ..Current::default() },
            Err(problem) => Current { problem: Some(problem), ..Current::default() },
        };
        Self { registry, name, current: RwLock::new(current) }
    }

    #[must_use]
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What answers now.
    #[must_use]
    pub fn chosen(&self) -> Chosen {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Chosen { champion: current.champion.clone(), problem: current.problem.clone() }
    }

    /// Looks where the alias points, and loads that version if it is another one. Requests go on meanwhile; a version that
    /// does not verify is not taken, and the one before goes on. Blocking. Returns whether the champion changed.
    pub fn follow(&self, pipeline: &ScoringPipeline) -> bool {
        let wanted = match self.registry.aliases(&self.name) {
            Ok(aliases) => champion(&aliases),
            // A file that is half replaced is read again soon; the champion stays.
            Err(error) => return self.set_problem(Some(error.to_string()), None),
        };
        let Some(wanted) = wanted else {
            let (name, folder) = (&self.name, self.registry.folder().display());
            return self
                .set_problem(Some(format!("{name} has no champion in {folder}; `assay train` makes one")), None);
        };
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            let is_current = current.champion.as_ref().is_some_and(|served| served.version == wanted);
            if current.failed.as_ref() == Some(&wanted) || (is_current && current.problem.is_none()) {
                return false;
            }
            if is_current {
                drop(current);
                return self.set_problem(None, None);
            }
        }
        match Served::load(&self.registry, &self.name, &wanted, pipeline) {
            Ok(served) => {
                tracing::info!(model = %self.name, version = %wanted, "the champion is loaded");
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Current { champion: Some(Arc::new(served)), problem: None, failed: None };
                true
            }
            Err(problem) => self.set_problem(Some(problem), Some(wanted)),
        }
    }

    fn set_problem(&self, problem: Option<String>, failed: Option<Version>) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.problem != problem
            && let Some(problem) = &problem
        {
            tracing::warn!(model = %self.name, problem, "the champion is not served");
        }
        current.problem = problem;
        current.failed = failed;
        false
    }
}

fn champion(aliases: &Aliases) -> Option<Version> {
    aliases.get(CHAMPION).cloned()
}
