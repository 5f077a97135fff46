//! What the endpoints of SQL have in common, whatever protocol their clients speak: one engine and its limits, users and what they
//! may read, what is told of errors.

pub(in crate::serve) mod command;
mod concessions;
pub(in crate::serve) mod engine;
pub(in crate::serve) mod failure;
mod functions;
pub(in crate::serve) mod information;
pub(in crate::serve) mod measured;
pub(in crate::serve) mod parameters;
pub(in crate::serve) mod passwords;
pub(in crate::serve) mod placeholders;
pub(in crate::serve) mod running;
mod settings;

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub use passwords::{PasswordError, Passwords};
pub use settings::{PostgresSettings, Role};

use crate::domain::Clock;
use crate::lake::LakeSettings;
use crate::query::Sessions;
use crate::refine::References;
use crate::telemetry::Metrics;
use crate::telemetry::traces::Traces;

use engine::Engine;
use failure::{Failure, state};

/// A longer text is not read: each literal of it takes hundreds of bytes once it is planned.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// The statements of a text that a client sent.
pub(in crate::serve) fn statements(sql: &str) -> Result<Vec<String>, Failure> {
    if sql.len() > TEXT_BYTES_MAX {
        let told = format!("a text of {} bytes came, and {TEXT_BYTES_MAX} are the most", sql.len());
        return Err(Failure::new(state::LIMIT_EXCEEDED, told).with_hint("ask in parts, or join with a table"));
    }
    crate::query::statements(sql).map_err(|error| Failure::of_text(&error, sql))
}

/// What the endpoints of SQL are made of.
pub struct SqlParts {
    /// Users, roles, and the limits of the engine; of the rest, what the endpoint of PostgreSQL's protocol listens to.
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

/// Endpoints that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("the engine of the SQL endpoint cannot be started: {0}")]
    Engine(#[from] DataFusionError),
}

/// The engine that answers, whatever the protocol.
#[derive(Clone)]
pub struct Sql(pub(in crate::serve) Arc<Shared>);

pub(in crate::serve) struct Shared {
    pub settings: PostgresSettings,
    pub engine: Arc<Engine>,
    pub passwords: Passwords,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
    pub runtime: Handle,
    /// How many compute at a time.
    pub turns: Arc<Semaphore>,
    /// Salts of users that do not exist, and what signs.
    pub secret: [u8; 32],
}

impl Sql {
    /// Checks what the user wrote; the lake is opened by the first question.
    ///
    /// # Errors
    /// When passwords cannot be used, or the engine cannot be started.
    pub fn new(parts: SqlParts) -> Result<Self, SqlError> {
        let SqlParts { settings, lake, pipeline, references, clock, metrics, traces, runtime, threads } = parts;
        let passwords = Passwords::load(&settings)?;
        let pool = Arc::new(FairSpillPool::new(settings.memory_bytes_max));
        let environment = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let sessions = Sessions::new(lake, &pipeline, Arc::clone(&clock), environment);
        let engine = Arc::new(Engine::new(sessions, &references, settings.roles.clone(), threads)?);
        let turns = Arc::new(Semaphore::new(settings.statements_max.min(Semaphore::MAX_PERMITS)));
        let mut secret = [0; 32];
        for (half, random) in secret.chunks_mut(16).zip([uuid::Uuid::new_v4(), uuid::Uuid::new_v4()]) {
            half.copy_from_slice(random.as_bytes());
        }
        let shared = Shared { settings, engine, passwords, clock, metrics, traces, runtime, turns, secret };
        Ok(Self(Arc::new(shared)))
    }
}
