//! The HTTP service: metrics, liveness, readiness, and transactions scored by request.
//!
//! | route | answers |
//! |---|---|
//! | `GET /` | a plain list of the routes |
//! | `GET /metrics` | Prometheus text |
//! | `GET /health` | 200 `{"status":"live"}` while the process can answer at all |
//! | `GET /ready` | 200 `{"status":"ready"}`, or 503 with the list of what is missing |
//! | `POST /predict` | what is thought of one transaction |
//! | `POST /predict/batch` | of many: a JSON array, NDJSON, or an Arrow IPC stream |
//! | `GET /models` | the versions of the model, and which one answers |
//! | `GET /openapi.json`, `GET /docs` | the routes, for machines and for people |
//!
//! The last five are there where a [`Predict`] is given. They ask for an API key where keys are set.
//!
//! Errors are problem details (RFC 9457). Everything is bounded: connections, idle and request time, bodies, shutdown.

mod batching;
mod body;
mod bounded;
mod bulk;
mod keys;
mod models;
mod openapi;
pub mod postgres;
mod predict;
mod predictions;
mod problem;
mod readiness;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use keys::{ApiKeys, KeyError};
pub use predict::Predict;
pub use problem::Problem;
pub use readiness::{Missing, Readiness};
pub use routes::router;

use crate::telemetry::Metrics;

/// The `[serve]` section of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Where to listen, `host:port`; port 0 takes a free one.
    pub address: String,
    /// A request that takes longer is answered with 503.
    pub request_timeout_ms: u64,
    /// A connection on which nothing moves for this long is closed.
    pub idle_timeout_ms: u64,
    /// Further connections wait in the system's queue.
    pub connections_max: usize,
    /// A larger body is refused with 413.
    pub body_bytes_max: usize,
    /// How long a shutdown waits for the requests under way.
    pub drain_timeout_ms: u64,
    /// A file with the API keys of the routes that score, one a line: `blake3:<hash>`, or the key itself.
    pub api_key_file: std::path::PathBuf,
    /// Transactions that are scored one by one at a time; more are refused with 429.
    pub requests_max: usize,
    /// Batches at a time; more are refused with 429.
    pub batches_max: usize,
    /// Transactions of one batch; more are refused with 413.
    pub batch_rows_max: usize,
    /// Bytes of one batch; more are refused with 413.
    pub batch_bytes_max: usize,
    /// Hashes of keys that came by a variable, in hexadecimal.
    #[serde(skip)]
    pub api_keys: Vec<String>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:9464".to_owned(),
            request_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            connections_max: 256,
            body_bytes_max: 1 << 20,
            drain_timeout_ms: 5_000,
            api_key_file: std::path::PathBuf::new(),
            requests_max: 1024,
            batches_max: 2,
            batch_rows_max: 100_000,
            batch_bytes_max: 64 << 20,
            api_keys: Vec::new(),
        }
    }
}

/// What the routes answer from.
#[derive(Debug, Clone)]
pub struct ServeState {
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub settings: ServeSettings,
    /// Absent where the process scores nothing.
    pub predict: Option<Predict>,
}

/// Serves until `shutdown` resolves and the requests under way are answered, or the drain timeout is over.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    state: ServeState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let drain = Duration::from_millis(state.settings.drain_timeout_ms);
    let listener = bounded::BoundedListener::new(listener, &state.settings);
    let (stopping, stopped) = oneshot::channel();
    let graceful = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        shutdown.await;
        let _ = stopping.send(());
    });
    let overdue = async {
        // An error means that the server ended first, and then this branch is not asked again.
        if stopped.await.is_ok() {
            #[expect(clippy::disallowed_methods, reason = "the deadline of a shutdown")]
            tokio::time::sleep(drain).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = async { graceful.await } => result,
        () = overdue => {
            tracing::warn!(drain_timeout_ms = drain.as_millis() as u64, "requests under way were cut off by the shutdown");
            Ok(())
        }
    }
}
