//! The console: a page that shows the lake, and the routes that it asks.
//!
//! | route | answers |
//! |---|---|
//! | `GET /` | the page, to a browser |
//! | `GET /console/page/{name}` | its files, all of them part of the binary |
//! | `GET /console/about` | what this process is, and the tables of its pipeline |
//! | `GET /console/pulse` | how fresh the lake is |
//! | `GET /console/flow`, `/console/epochs` | the ledger: what was read, and what became of it |
//! | `GET /console/transactions`, `/console/story` | the newest rows to look at, and all that is known of one |
//! | `GET /console/receipt` | a decision by request, computed again |
//! | `GET /console/rejects`, `/console/drift` | dead letters and quarantine; how far the rows of now are from those learned from |
//! | `GET /console/models`, `/console/models/{name}/{version}` | versions, metrics, aliases; curves of one |
//! | `POST /console/models/{name}/promote`, `…/rollback` | move an alias: an admin key |
//! | `GET /console/names`, `POST /console/sql` | the tables; one question that reads |
//!
//! Rows come from complete epochs, through [`crate::query::Sessions`]. Everything is text and numbers: the page makes text nodes of it.

mod access;
mod asking;
mod assets;
mod cells;
mod ledger;
mod lineup;
mod receipts;
mod registry;
mod settings;
mod sql_prompt;
#[cfg(test)]
mod tests;
mod transactions;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use datafusion::common::DataFusionError;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

pub(super) use assets::{index, wants_page};
pub use settings::ConsoleSettings;

use super::{ApiKeys, Problem, ServeSettings, ServeState};
use crate::domain::Clock;
use crate::lake::LakeSettings;
use crate::model::registry::Registry;
use crate::pipeline::Plan;
use crate::scoring::Explainer;
use crate::telemetry::Metrics;
use access::Access;
use asking::Asking;
use ledger::Ledger;
use lineup::Lineup;

/// What the console is made of.
pub struct ConsoleParts<'a> {
    pub settings: ConsoleSettings,
    pub serve: &'a ServeSettings,
    pub lake: LakeSettings,
    pub pipeline: String,
    pub plan: &'a Plan,
    pub clock: Arc<dyn Clock>,
    pub registry: Registry,
    /// Of the routes that score; they let look.
    pub readers: ApiKeys,
    /// They let promote and roll back too.
    pub admins: ApiKeys,
    /// Computes decisions again, or why it cannot.
    pub explainer: Result<Arc<Explainer>, String>,
    /// The subcommand that serves it.
    pub job: &'static str,
    /// Where questions compute.
    pub runtime: Handle,
    pub metrics: Arc<Metrics>,
}

/// The console of a process. Clones share their state.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    settings: ConsoleSettings,
    asking: Arc<Asking>,
    ledger: Arc<Ledger>,
    access: Access,
    lineup: Lineup,
    place: LakeSettings,
    pipeline: String,
    lake: String,
    job: &'static str,
    clock: Arc<dyn Clock>,
    registry: Registry,
    explainer: Result<Arc<Explainer>, String>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("job", &self.0.job).finish_non_exhaustive()
    }
}

impl Console {
    /// The lake need not be there yet.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn new(parts: ConsoleParts<'_>) -> Result<Self, DataFusionError> {
        let ConsoleParts { settings, serve, lake, pipeline, plan, clock, .. } = parts;
        let references = Arc::clone(&plan.catalog.references);
        let (place, ours) = (lake.clone(), settings.clone());
        let asking = Asking::new(lake, &pipeline, Arc::clone(&clock), references, ours, parts.runtime, parts.metrics)?;
        Ok(Self(Arc::new(Inner {
            settings,
            asking: Arc::new(asking),
            ledger: Arc::new(Ledger::new(place.clone(), &pipeline, Arc::clone(&clock))),
            access: Access::new(parts.readers, parts.admins, serve),
            lineup: Lineup::of(plan),
            lake: place.location.clone(),
            place,
            pipeline,
            job: parts.job,
            clock,
            registry: parts.registry,
            explainer: parts.explainer,
        })))
    }

    /// The console, for a request that may look.
    fn reading(state: &ServeState, headers: &HeaderMap) -> Result<Self, Problem> {
        let console = Self::of(state)?;
        console.0.access.read(headers)?;
        Ok(console)
    }

    /// The console, for a request that may change something.
    fn changing(state: &ServeState, headers: &HeaderMap) -> Result<Self, Problem> {
        let console = Self::of(state)?;
        console.0.access.change(headers)?;
        Ok(console)
    }

    fn of(state: &ServeState) -> Result<Self, Problem> {
        state
            .console
            .clone()
            .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "this process has no console: console.enabled says so"))
    }
}

/// The routes of the console.
pub(super) fn routes() -> Router<Arc<ServeState>> {
    Router::new()
        .merge(assets::routes())
        .route("/console/about", get(views::about))
        .route("/console/pulse", get(views::pulse))
        .route("/console/flow", get(views::flow))
        .route("/console/epochs", get(views::epochs))
        .route("/console/rejects", get(views::rejects))
        .route("/console/drift", get(views::drift))
        .route("/console/transactions", get(transactions::newest))
        .route("/console/story", get(transactions::story))
        .route("/console/receipt", get(receipts::one))
        .route("/console/models", get(registry::list))
        .route("/console/models/{name}/{version}", get(registry::version))
        .route("/console/models/{name}/promote", post(registry::promote))
        .route("/console/models/{name}/rollback", post(registry::rollback))
        .route("/console/names", get(sql_prompt::names))
        .route("/console/sql", post(sql_prompt::ask))
}

/// What stands behind the `?`; `takes` says what may.
fn query_of<T: DeserializeOwned>(uri: &Uri, takes: &str) -> Result<T, Problem> {
    let parsed = axum::extract::Query::<T>::try_from_uri(uri);
    parsed.map(|query| query.0).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, format!("the query takes {takes}")))
}
