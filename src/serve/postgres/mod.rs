//! The lake for clients of PostgreSQL: psql, drivers, dashboards, notebooks. Read-only, complete epochs only.
//!
//! The protocol is pgwire's, the tables of `pg_catalog` are datafusion-pg-catalog's; statements are planned as
//! `assay sql` plans them. What is here is between them: sessions and transactions, each of one epoch; passwords; what a
//! role may read; values to and fro; limits. Sockets live where the caller does, queries compute on a runtime of their own.

mod bind;
mod command;
mod concessions;
mod connection;
mod engine;
mod failure;
mod functions;
mod handler;
mod information;
mod measured;
mod parameters;
mod passwords;
mod rows;
mod scram;
mod settings;
mod startup;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::CancelHandler;
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::{ErrorHandler, PgWireServerHandlers, RandomPidSecretKeyGenerator};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use pgwire::tokio::{TlsAcceptor, process_socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use passwords::{PasswordError, Passwords};
pub use settings::{PostgresSettings, Role};

use crate::domain::Clock;
use crate::lake::LakeSettings;
use crate::query::Sessions;
use crate::refine::References;
use crate::serve::TlsError;
use crate::telemetry::Metrics;
use crate::telemetry::traces::Traces;

use connection::Connection;
use engine::Engine;
use handler::{Errors, Handler};
use startup::Startup;

/// So many more than the most connections are listened to, to be told that they are too many, and to cancel.
const REFUSED_MAX: usize = 16;

/// What the server is made of.
pub struct PostgresParts {
    pub settings: PostgresSettings,
    pub lake: LakeSettings,
    pub pipeline: String,
    pub references: Arc<References>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Each question has a span there.
    pub traces: Traces,
    /// Where queries compute.
    pub runtime: Handle,
    /// Threads of that.
    pub threads: usize,
}

/// A server that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the engine of the SQL endpoint cannot be started: {0}")]
    Engine(#[from] DataFusionError),
}

/// The server, ready to listen.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
}

struct Shared {
    settings: PostgresSettings,
    engine: Arc<Engine>,
    passwords: Passwords,
    metrics: Arc<Metrics>,
    traces: Traces,
    runtime: Handle,
    turns: Arc<Semaphore>,
    keys: RandomPidSecretKeyGenerator,
    /// Salts of users that do not exist.
    secret: [u8; 16],
    connected: Mutex<HashMap<CancelKey, Weak<Connection>>>,
}

/// What a client that cancels its query shows: the number and the secret that it was given.
type CancelKey = (i32, Vec<u8>);

impl Shared {
    fn has_certificate(&self) -> bool {
        !self.settings.certificate_file.as_os_str().is_empty()
    }
}

impl Postgres {
    /// Checks what the user wrote; the lake is opened by the first question.
    ///
    /// # Errors
    /// When passwords or certificates cannot be used, or anybody could connect from elsewhere without a password.
    pub fn new(parts: PostgresParts) -> Result<Self, PostgresError> {
        let PostgresParts { settings, lake, pipeline, references, clock, metrics, traces, runtime, threads } = parts;
        let passwords = Passwords::load(&settings)?;
        passwords.check_address(&settings.address)?;
        let tls = tls::acceptor(&settings)?;
        let pool = Arc::new(FairSpillPool::new(settings.memory_bytes_max));
        let environment = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let sessions = Sessions::new(lake, &pipeline, clock, environment);
        let engine = Arc::new(Engine::new(sessions, &references, settings.roles.clone(), threads)?);
        let turns = Arc::new(Semaphore::new(settings.statements_max.min(Semaphore::MAX_PERMITS)));
        let (keys, secret) = (RandomPidSecretKeyGenerator::default(), uuid::Uuid::new_v4().into_bytes());
        let connected = Mutex::default();
        let shared = Shared { settings, engine, passwords, metrics, traces, runtime, turns, keys, secret, connected };
        Ok(Self { shared: Arc::new(shared), tls })
    }

    /// Serves until `shutdown` resolves and the statements under way are answered, or the drain timeout is over.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> std::io::Result<()> {
        let places = Arc::new(Semaphore::new(self.shared.settings.connections_max.min(Semaphore::MAX_PERMITS)));
        let beyond = Arc::new(Semaphore::new(REFUSED_MAX));
        let (stopping, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                // Those that ended leave nothing behind.
                Some(_) = clients.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (socket, _) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_client(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    #[expect(clippy::disallowed_methods, reason = "a process without free files tries again later")]
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let place = Arc::clone(&places).try_acquire_owned();
            let refused = place.is_err();
            let place = place.or_else(|_| Arc::clone(&beyond).try_acquire_owned());
            let Ok(place) = place else { continue };
            let connection = Arc::new(Connection::new(Arc::clone(&self.shared), refused));
            let (tls, stopped) = (self.tls.clone(), stopped.clone());
            clients.spawn(async move {
                let _place = place;
                attend(socket, tls, connection, stopped).await;
            });
        }
        drop(listener);
        let _ = stopping.send(true);
        let drained = async { while clients.join_next().await.is_some() {} };
        let drain = Duration::from_millis(self.shared.settings.drain_timeout_ms);
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!(
                drain_timeout_ms = drain.as_millis() as u64,
                "statements under way were cut off by the shutdown"
            );
        }
        Ok(())
    }
}

/// Speaks with one client until it leaves, or the server stops and nothing is under way.
async fn attend(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: Arc<Connection>,
    mut stopped: watch::Receiver<bool>,
) {
    let stop = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
        connection.idle().await;
    };
    tokio::select! {
        ended = process_socket(socket, tls, Handlers(Arc::clone(&connection))) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        }
        () = stop => {}
    }
}

fn is_of_one_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What answers one client.
struct Handlers(Arc<Connection>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::new(Handler(Arc::clone(&self.0)))
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(Handler(Arc::clone(&self.0)))
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::new(Startup::new(Arc::clone(&self.0)))
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(Errors(Arc::clone(&self.0)))
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(Cancel(Arc::clone(&self.0.shared)))
    }
}

struct Cancel(Arc<Shared>);

#[async_trait]
impl CancelHandler for Cancel {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let key = (request.pid, request.secret_key.to_bytes().to_vec());
        let connected = self.0.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connected.get(&key).and_then(Weak::upgrade) {
            connection.cancel();
        }
    }
}

/// A client that was let in and can be cancelled, until it is dropped.
struct Registered {
    key: (i32, Vec<u8>),
    shared: Arc<Shared>,
}

impl Registered {
    fn new(connection: &Arc<Connection>, pid: i32, key: &SecretKey) -> Self {
        let registered = Self { key: (pid, key.to_bytes().to_vec()), shared: Arc::clone(&connection.shared) };
        registered.change(|connected| connected.insert(registered.key.clone(), Arc::downgrade(connection)));
        registered
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<(i32, Vec<u8>), Weak<Connection>>) -> T) {
        let mut connected = self.shared.connected.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut connected);
        self.shared.metrics.set_sql_connections(connected.len());
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.change(|connected| connected.remove(&self.key));
    }
}
