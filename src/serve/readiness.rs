use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// A condition of readiness that does not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub condition: String,
    pub reason: String,
}

/// Named conditions that must all hold before the service is ready. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Result<(), String>>>>);

impl Readiness {
    /// All these conditions are missing until they are [`set`](Self::set).
    #[must_use]
    pub fn awaiting<'a>(conditions: impl IntoIterator<Item = &'a str>) -> Self {
        let unset = |name: &str| (name.to_owned(), Err("not started yet".to_owned()));
        Self(Arc::new(Mutex::new(conditions.into_iter().map(unset).collect())))
    }

    /// The condition holds from now on, or does not and why. Logged when it changes.
    pub fn set(&self, condition: &str, state: Result<(), String>) {
        let before = self.conditions().insert(condition.to_owned(), state.clone());
        if before.as_ref() == Some(&state) {
            return;
        }
        match state {
            Ok(()) => tracing::info!(condition, "ready"),
            Err(reason) => tracing::info!(condition, reason, "not ready"),
        }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions().values().all(Result::is_ok)
    }

    /// What does not hold, by name.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let conditions = self.conditions();
        let failed = conditions.iter().filter_map(|(condition, state)| {
            Some(Missing { condition: condition.clone(), reason: state.as_ref().err()?.clone() })
        });
        failed.collect()
    }

    /// A panic elsewhere cannot leave the map half-changed, so a poisoned lock is as good as any.
    fn conditions(&self) -> MutexGuard<'_, BTreeMap<String, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
