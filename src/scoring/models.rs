//! Which models answer: the aliases of the registry, followed while requests go on.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::{NotServed, ScoringPipeline, Served, Trial, TrialBounds};
use crate::model::registry::{Aliases, CHALLENGER, CHAMPION, ModelName, Registry, RegistryError, Version};

/// The champion of a model and its challenger, each exchanged as a whole when its alias moves. A request keeps those that it
/// began with.
#[derive(Debug)]
pub struct Models {
    registry: Registry,
    name: ModelName,
    /// `None` where no challenger is wanted.
    trials: Option<TrialBounds>,
    /// Whether a registry without a champion is worth a warning.
    is_awaited: bool,
    current: RwLock<Current>,
}

#[derive(Debug, Default)]
struct Current {
    champion: Slot,
    challenger: Slot,
    /// Of the challenger that is loaded.
    trial: Option<Arc<Trial>>,
    aliases: Aliases,
    /// Why the registry could not be read when it was looked at last.
    unreadable: Option<String>,
}

#[derive(Debug, Default)]
struct Slot {
    served: Option<Arc<Served>>,
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
    pub challenger: Option<Challenger>,
    /// Why there is no challenger although its alias stands for a version.
    pub challenger_problem: Option<String>,
    /// Why the registry could not be read when it was looked at last: what answers goes on answering.
    pub unreadable: Option<String>,
}

/// A version that is tried beside the champion.
#[derive(Debug, Clone)]
pub struct Challenger {
    pub served: Arc<Served>,
    pub trial: Arc<Trial>,
}

impl Models {
    /// No model is loaded before [`Models::follow`].
    #[must_use]
    pub fn new(registry: Registry, name: ModelName) -> Self {
        let problem = Some("no model was looked for yet".to_owned());
        let champion = Slot { problem, ..Slot::default() };
        Self::of(registry, name, champion)
    }

    fn of(registry: Registry, name: ModelName, champion: Slot) -> Self {
        let current = RwLock::new(Current { champion, ..Current::default() });
        Self { registry, name, trials: None, is_awaited: true, current }
    }

    /// Where there may be no champion, and no need of one.
    #[must_use]
    pub(super) fn unawaited(self) -> Self {
        Self { is_awaited: false, ..self }
    }

    /// Follows the challenger too, with these bounds of its trial.
    #[must_use]
    pub fn with_challenger(self, bounds: Option<TrialBounds>) -> Self {
        Self { trials: bounds, ..self }
    }

    /// One version, or why there is none, for ever.
    pub(super) fn fixed(registry: Registry, name: ModelName, chosen: Result<Arc<Served>, String>) -> Self {
        let champion = match chosen {
            Ok(served) => Slot { served: Some(served), ..Slot::default() },
            Err(problem) => Slot { problem: Some(problem), ..Slot::default() },
        };
        Self::of(registry, name, champion)
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
        let current = self.current();
        let challenger = current.challenger.served.as_ref().zip(current.trial.as_ref());
        Chosen {
            champion: current.champion.served.clone(),
            problem: current.champion.problem.clone(),
            challenger: challenger
                .map(|(served, trial)| Challenger { served: Arc::clone(served), trial: Arc::clone(trial) }),
            challenger_problem: current.challenger.problem.clone(),
            unreadable: current.unreadable.clone(),
        }
    }

    /// The version that an alias stood for when it was looked at last.
    #[must_use]
    pub fn alias(&self, alias: &str) -> Option<Version> {
        self.current().aliases.get(alias).cloned()
    }

    /// Looks where the aliases point, and loads those versions that are other ones. Requests go on meanwhile; a champion that
    /// does not verify is not taken, and the one before goes on; such a challenger is not taken, and there is none. Where the
    /// registry cannot be read, all stays as it is until it can. Blocking. Returns whether the champion changed.
    pub fn follow(&self, pipeline: &ScoringPipeline) -> bool {
        let before = self.current().champion.served.as_ref().map(|served| served.version.clone());
        let looked = self.look(pipeline);
        self.change(|current| current.set_readable(&self.name, looked.err()));
        self.current().champion.served.as_ref().map(|served| &served.version) != before.as_ref()
    }

    /// The error is that the registry cannot be read now.
    fn look(&self, pipeline: &ScoringPipeline) -> Result<(), String> {
        let aliases = match self.registry.aliases(&self.name) {
            Ok(aliases) => aliases,
            Err(error @ RegistryError::Io { .. }) => return Err(error.to_string()),
            Err(error) => {
                self.change(|current| {
                    current.champion.set_problem(&self.name, CHAMPION, Some(error.to_string()), None)
                });
                return Ok(());
            }
        };
        self.follow_champion(aliases.get(CHAMPION), pipeline)?;
        if self.trials.is_some() {
            self.follow_challenger(&aliases, pipeline)?;
        }
        if self.current().aliases != aliases {
            self.change(|current| current.aliases = aliases);
        }
        Ok(())
    }

    fn follow_champion(&self, wanted: Option<&Version>, pipeline: &ScoringPipeline) -> Result<(), String> {
        let Some(wanted) = wanted else {
            if self.is_awaited || self.current().champion.served.is_some() {
                let (name, place) = (&self.name, self.registry.location());
                let problem = format!("{name} has no champion in {place}; `assay train` makes one");
                self.change(|current| current.champion.set_problem(name, CHAMPION, Some(problem), None));
            }
            return Ok(());
        };
        if self.current().champion.is_settled(wanted) {
            return Ok(());
        }
        if self.current().champion.is(wanted) {
            self.change(|current| current.champion.set_problem(&self.name, CHAMPION, None, None));
            return Ok(());
        }
        match Served::load(&self.registry, &self.name, wanted, pipeline) {
            Ok(served) => {
                tracing::info!(model = %self.name, version = %wanted, "the champion is loaded");
                self.change(|current| current.champion = Slot::of(served));
            }
            Err(NotServed::Unreadable(cause)) => return Err(cause),
            Err(NotServed::Unusable(problem)) => {
                let failed = Some(wanted.clone());
                self.change(|current| current.champion.set_problem(&self.name, CHAMPION, Some(problem), failed));
            }
        }
        Ok(())
    }

    fn follow_challenger(&self, aliases: &Aliases, pipeline: &ScoringPipeline) -> Result<(), String> {
        // The champion has nobody to be compared with in itself.
        let wanted = aliases.get(CHALLENGER).filter(|version| aliases.get(CHAMPION) != Some(version));
        let Some(wanted) = wanted else {
            let (was_there, is_clear) = {
                let challenger = &self.current().challenger;
                (challenger.served.is_some(), challenger.served.is_none() && challenger.problem.is_none())
            };
            if was_there {
                tracing::info!(model = %self.name, "there is no challenger any more");
            }
            if !is_clear {
                self.change(|current| (current.challenger, current.trial) = (Slot::default(), None));
            }
            return Ok(());
        };
        if self.current().challenger.is_settled(wanted) {
            return Ok(());
        }
        match Served::load(&self.registry, &self.name, wanted, pipeline) {
            Ok(served) => {
                tracing::info!(model = %self.name, version = %wanted, "the challenger is loaded");
                let trial = self.trials.map(|bounds| Arc::new(Trial::new(bounds)));
                self.change(|current| (current.challenger, current.trial) = (Slot::of(served), trial));
            }
            Err(NotServed::Unreadable(cause)) => return Err(cause),
            Err(NotServed::Unusable(problem)) => self.change(|current| {
                (current.challenger.served, current.trial) = (None, None);
                current.challenger.set_problem(&self.name, CHALLENGER, Some(problem), Some(wanted.clone()));
            }),
        }
        Ok(())
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Current) -> T) -> T {
        change(&mut self.current.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Current {
    /// Says once that the registry cannot be read, and once that it can be again. Without a champion that is why.
    fn set_readable(&mut self, name: &ModelName, cause: Option<String>) {
        match (&cause, &self.unreadable) {
            (Some(cause), None) => {
                let stays = self.champion.served.as_ref().map(|served| served.version.to_string());
                tracing::warn!(model = %name, cause, stays, "the registry cannot be read; what is loaded stays");
            }
            (None, Some(_)) => tracing::info!(model = %name, "the registry can be read again"),
            _ => {}
        }
        if let (Some(cause), None) = (&cause, &self.champion.served) {
            self.champion.problem = Some(cause.clone());
        }
        self.unreadable = cause;
    }
}

impl Slot {
    fn of(served: Served) -> Self {
        Self { served: Some(Arc::new(served)), problem: None, failed: None }
    }

    fn is(&self, wanted: &Version) -> bool {
        self.served.as_ref().is_some_and(|served| served.version == *wanted)
    }

    /// Whether there is nothing to do for this version.
    fn is_settled(&self, wanted: &Version) -> bool {
        self.failed.as_ref() == Some(wanted) || (self.is(wanted) && self.problem.is_none())
    }

    fn set_problem(&mut self, name: &ModelName, alias: &str, problem: Option<String>, failed: Option<Version>) {
        if self.problem != problem
            && let Some(problem) = &problem
        {
            tracing::warn!(model = %name, problem, "the {alias} is not served");
        }
        self.problem = problem;
        self.failed = failed;
    }
}
