//! The HTTP service: metrics, liveness, readiness, and transactions scored by request.
//!
//! | route | answers |
//! |---|---|
//! | `GET /` | the console to a browser, a plain list of the routes to everybody else |
//! | `GET /metrics` | Prometheus text |
//! | `GET /health` | 200 `{"status":"live"}` while the process can answer at all |
//! | `GET /ready` | 200 `{"status":"ready"}`, or 503 with the list of what is missing |
//! | `POST /predict` | what is thought of one transaction |
//! | `POST /predict/batch` | of many: a JSON array, NDJSON, or an Arrow IPC stream |
//! | `GET /models` | the versions of the model, and which ones answer |
//! | `GET /openapi.json`, `GET /docs` | the routes, for machines and for people |
//!
//! What the [`Console`] asks is below `/console/`, and told of there. The last five are there where a [`Predict`] is given. They ask for an API key where keys are set.
//!
//! Errors are problem details (RFC 9457). With a certificate all routes are TLS, but over a Unix domain socket. Everything is bounded: connections, idle and request time, bodies, shutdown.

mod asking;
mod batching;
mod body;
mod bounded;
mod bulk;
mod busy_poll;
mod connection;
mod connections;
mod console;
mod counts;
pub mod flight;
mod keys;
mod models;
mod openapi;
mod pinning;
pub mod postgres;
mod predict;
mod predictions;
mod problem;
mod readiness;
mod routes;
mod score;
mod socket;
pub mod sql;
mod timer;
mod tls;
mod traced;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use console::{Console, ConsoleParts, ConsoleSettings};
pub use keys::{ApiKeys, KeyError};
pub use predict::{Predict, PredictParts};
pub use problem::Problem;
pub use readiness::{Missing, Readiness};
pub use socket::Socket;
pub use tls::{Tls, TlsError};

use crate::telemetry::Metrics;
use crate::telemetry::traces::Traces;

/// The `[serve]` section of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// Where to listen, `host:port`; port 0 takes a free one.
    pub address: String,
    /// A Unix domain socket to listen at too, for clients on the same machine; none where it is empty.
    pub socket: PathBuf,
    /// A request that takes longer is answered with 503.
    pub request_timeout_ms: u64,
    /// A connection on which nothing moves for this long is closed.
    pub idle_timeout_ms: u64,
    /// Further connections wait in the system's queue.
    pub connections_max: usize,
    /// A larger body is refused with 413.
    pub body_bytes_max: usize,
    /// So long after it has scored a transaction that came alone a thread looks for the next one before it sleeps.
    pub busy_poll_us: u64,
    /// How long a shutdown waits for the requests under way.
    pub drain_timeout_ms: u64,
    /// A file with the API keys of the routes that score, one a line: `blake3:<hash>`, or the key itself.
    pub api_key_file: PathBuf,
    /// A file with the keys that may promote and roll back in the console, in the same form.
    pub admin_key_file: PathBuf,
    /// The server's certificate and its key, PEM; without them HTTP is plain.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
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
    /// The same of admin keys.
    #[serde(skip)]
    pub admin_keys: Vec<String>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:9464".to_owned(),
            socket: PathBuf::new(),
            request_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            connections_max: 256,
            body_bytes_max: 1 << 20,
            busy_poll_us: 50,
            drain_timeout_ms: 5_000,
            api_key_file: PathBuf::new(),
            admin_key_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            requests_max: 1024,
            batches_max: 2,
            batch_rows_max: 100_000,
            batch_bytes_max: 64 << 20,
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
        }
    }
}

impl ServeSettings {
    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let own = [
            ("requests_max", self.requests_max == 0, "must be at least 1"),
            ("batches_max", self.batches_max == 0, "must be at least 1"),
            (
                "key_file",
                self.certificate_file.as_os_str().is_empty() != self.key_file.as_os_str().is_empty(),
                "and serve.certificate_file go together: give both or none",
            ),
        ];
        own.into_iter().find(|(_, is_bad, _)| *is_bad).map(|(key, _, cause)| (key, cause))
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
    /// Absent where there is no page.
    pub console: Option<Console>,
    /// Each request has a span there, but for what machines ask all day.
    pub traces: Traces,
}

impl ServeState {
    /// For a thread that shares everything with the others, but scores the requests that it takes by itself.
    fn of_thread(&self) -> Self {
        Self { predict: self.predict.as_ref().map(Predict::of_thread), ..self.clone() }
    }
}

/// Where clients come in.
pub struct Listeners {
    pub tcp: TcpListener,
    /// Encrypts what comes by TCP.
    pub tls: Option<Tls>,
    pub socket: Option<Socket>,
}

impl From<TcpListener> for Listeners {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None, socket: None }
    }
}

/// Starts the threads of HTTP. What it gives serves until `shutdown` resolves and the requests under way are answered, or the
/// drain timeout is over.
///
/// # Errors
/// When a thread cannot be started.
///
/// # Panics
/// Where no runtime was entered.
pub fn serve(
    Listeners { tcp, tls, socket }: Listeners,
    state: ServeState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<impl Future<Output = ()> + Send> {
    let drain = Duration::from_millis(state.settings.drain_timeout_ms);
    let idle = Duration::from_millis(state.settings.idle_timeout_ms);
    let listener = bounded::BoundedListener::new(tcp, tls, state.settings.connections_max, idle).beside(socket);
    let threads = connections::Threads::start(&state)?;
    let (stopping, stopped) = oneshot::channel();
    let served = threads.answer(listener, async move {
        shutdown.await;
        let _ = stopping.send(());
    });
    Ok(async move {
        tokio::select! {
            () = served => {}
            () = overdue(stopped, drain) => {
                tracing::warn!(drain_timeout_ms = drain.as_millis() as u64, "requests under way were cut off by the shutdown");
            }
        }
    })
}

/// Resolves so long after a shutdown was asked for.
async fn overdue(stopped: oneshot::Receiver<()>, drain: Duration) {
    // An error means that the server ended first, and then nobody waits for this any more.
    if stopped.await.is_ok() {
        #[expect(clippy::disallowed_methods, reason = "the deadline of a shutdown")]
        tokio::time::sleep(drain).await;
    } else {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
