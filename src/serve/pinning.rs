//! A request may name the version that is to answer it.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Problem;
use crate::model::registry::Which;
use crate::scoring::{Models, PinError, Pins, Scorer, Served};

const HEADER: &str = "X-Model-Version";
/// Requests that wait for a version to be loaded; more are told to come back.
const WAITING_MAX: usize = 16;
/// Versions that an error names, the newest.
const NAMED_MAX: usize = 20;

/// Finds the versions that requests name. They are loaded one after the other, on a thread that may block: those who named
/// none wait for nothing.
pub(super) struct Pinning {
    pins: Arc<Pins>,
    loading: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Pinning {
    pub(super) fn new(scorer: &Scorer) -> Self {
        let pins = Pins::new(Arc::clone(&scorer.models), Arc::clone(&scorer.pipeline), scorer.settings.pinned_max);
        Self { pins: Arc::new(pins), loading: Arc::new(Semaphore::new(1)), waiting: Semaphore::new(WAITING_MAX) }
    }

    /// The version that the headers name; `None` where they name none.
    pub(super) async fn of(&self, headers: &HeaderMap) -> Result<Option<Arc<Served>>, Problem> {
        let mut named = headers.get_all(HEADER).iter();
        let Some(first) = named.next() else { return Ok(None) };
        let which = match (first.to_str(), named.next()) {
            (_, Some(_)) => Err("is given more than once".to_owned()),
            (Ok(text), None) => Which::parse(text).map_err(|error| error.to_string()),
            (Err(_), None) => Err("is no text".to_owned()),
        };
        if let Ok(which) = &which
            && let Some(served) = self.pins.at_hand(which)
        {
            return Ok(Some(served));
        }
        let _place = self.waiting.try_acquire().map_err(|_| {
            Problem::busy(format!(
                "{HEADER}: {WAITING_MAX} requests wait for a version to be loaded already; try again"
            ))
        })?;
        let turn = Arc::clone(&self.loading).acquire_owned().await;
        let pins = Arc::clone(&self.pins);
        let loaded = tokio::task::spawn_blocking(move || {
            // Also when whoever asked has gone: one is loaded at a time.
            let _turn = turn;
            let loaded = which.map_err(PinError::Unknown).and_then(|which| pins.load(&which));
            loaded.map_err(|error| refused(&error, pins.models()))
        });
        match loaded.await {
            Ok(loaded) => loaded.map(Some),
            Err(error) => {
                tracing::error!(%error, "a version that a request named could not be loaded");
                Err(refused_as("unusable_version", "the version could not be loaded; the log says more"))
            }
        }
    }
}

fn refused_as(code: &str, detail: &str) -> Problem {
    let detail = format!("{HEADER}: {detail}");
    Problem::new(StatusCode::BAD_REQUEST, detail).with("code", code).with("header", HEADER)
}

/// Reads the registry.
fn refused(error: &PinError, models: &Models) -> Problem {
    let problem = match error {
        PinError::Unreadable(cause) => {
            let detail = format!("the registry cannot be read: {cause}");
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_header(header::RETRY_AFTER, "1");
        }
        PinError::Unknown(cause) => refused_as("unknown_version", cause),
        PinError::Unusable(cause) => refused_as("unusable_version", cause),
    };
    let (registry, name) = (models.registry(), models.name());
    let mut versions = registry.versions(name).unwrap_or_default();
    versions.truncate(NAMED_MAX);
    let aliases = registry.aliases(name).unwrap_or_default();
    let aliases: serde_json::Map<String, Value> =
        aliases.iter().map(|(alias, version)| (alias.to_owned(), json!(version))).collect();
    problem.with("versions", json!(versions)).with("aliases", Value::Object(aliases))
}
