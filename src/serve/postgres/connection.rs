use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::logical_expr::LogicalPlan;
use pgwire::api::portal::Format;
use pgwire::api::results::QueryResponse;
use tokio::sync::watch;

use super::Shared;
use super::failure::{Failure, state};
use super::rows::{Columns, Run};
use crate::query::split_epoch;
use crate::serve::sql::engine::{Asked, Tables};
use crate::serve::sql::measured::{Measured, Protocol};
use crate::serve::sql::parameters::Parameters;
use crate::serve::sql::running::Wait;

/// One client: its settings, its transaction, and what stops it.
pub(super) struct Connection {
    pub shared: Arc<Shared>,
    own: Mutex<Own>,
    /// Counts the requests to cancel.
    cancel: watch::Sender<u64>,
    /// Statements under way: none or one.
    busy: AtomicUsize,
    idle: tokio::sync::Notify,
    /// There were too many others: it is told so, and that is all.
    pub refused: bool,
}

struct Own {
    parameters: Parameters,
    role: Option<String>,
    /// BEGIN was said, or several statements came as one.
    transaction: bool,
    /// The epoch of the transaction, from its first question on.
    pinned: Option<Arc<Tables>>,
}

impl Connection {
    pub fn new(shared: Arc<Shared>, refused: bool) -> Self {
        let parameters = Parameters::new("", shared.sql.settings.statement_timeout_ms);
        let own = Own { parameters, role: None, transaction: false, pinned: None };
        let (cancel, _) = watch::channel(0);
        Self {
            shared,
            own: Mutex::new(own),
            cancel,
            busy: AtomicUsize::new(0),
            idle: tokio::sync::Notify::new(),
            refused,
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user is known: what it may read is decided.
    pub fn admit(&self, user: &str) -> Result<(), Failure> {
        let role = self.shared.sql.engine.role_of(user)?;
        let mut own = self.own();
        own.parameters = Parameters::new(user, self.shared.sql.settings.statement_timeout_ms);
        own.role = role;
        Ok(())
    }

    pub fn parameters(&self) -> Parameters {
        self.own().parameters.clone()
    }

    pub fn with_parameters<T>(&self, change: impl FnOnce(&mut Parameters) -> T) -> T {
        change(&mut self.own().parameters)
    }

    /// All settings as they were at the start.
    pub fn reset(&self) {
        let mut own = self.own();
        own.parameters = Parameters::new(own.parameters.user(), self.shared.sql.settings.statement_timeout_ms);
    }

    /// From now on questions read one epoch.
    pub fn begin(&self) {
        self.own().transaction = true;
    }

    /// From now on each question reads the newest epoch.
    pub fn end(&self) {
        let mut own = self.own();
        own.transaction = false;
        own.pinned = None;
    }

    pub fn cancel(&self) {
        self.cancel.send_modify(|count| *count += 1);
    }

    /// How long a statement that begins now may take.
    pub fn wait(&self) -> Wait {
        let most = self.own().parameters.statement_timeout(self.shared.sql.settings.statement_timeout_ms);
        Wait::new(Protocol::Postgres, self.cancel.subscribe(), most)
    }

    /// Until it is dropped, a statement is under way.
    pub fn busy(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(self)
    }

    /// Resolves when no statement is under way.
    pub async fn idle(&self) {
        loop {
            let told = self.idle.notified();
            if self.busy.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }

    async fn tables(&self, epoch: Option<i64>) -> Result<Arc<Tables>, Failure> {
        let role = {
            let own = self.own();
            if let (None, Some(pinned)) = (epoch, &own.pinned) {
                return Ok(Arc::clone(pinned));
            }
            own.role.clone()
        };
        let tables = self.shared.sql.engine.tables(role.as_deref(), epoch).await?;
        let mut own = self.own();
        if own.transaction && epoch.is_none() {
            own.pinned = Some(Arc::clone(&tables));
        }
        Ok(tables)
    }

    /// Plans a question about the epoch that it names, or that of its transaction, or the newest.
    pub async fn plan(self: &Arc<Self>, statement: &str, wait: &mut Wait) -> Result<Asked, Failure> {
        let (sql, epoch) = split_epoch(statement).map_err(|error| Failure::of_text(&error, statement))?;
        let this = Arc::clone(self);
        let planned = async move {
            let tables = this.tables(epoch).await?;
            this.shared.sql.engine.ask(sql, tables, &this.parameters()).await
        };
        wait.on(&self.shared.sql.runtime, planned).await?
    }

    /// The same question, planned anew when there is a newer epoch to read.
    pub async fn refresh(self: &Arc<Self>, statement: &str, asked: &Asked, wait: &mut Wait) -> Result<Asked, Failure> {
        let (_, epoch) = split_epoch(statement).map_err(|error| Failure::of_text(&error, statement))?;
        let tables = self.tables(epoch).await?;
        if tables.is_same(&asked.tables) {
            return Ok(asked.clone());
        }
        self.plan(statement, wait).await
    }

    /// Runs a planned question; its rows come as they are asked for.
    pub async fn run(
        &self,
        asked: Asked,
        plan: LogicalPlan,
        format: &Format,
        wait: Wait,
        mut measured: Measured,
    ) -> Result<QueryResponse, Failure> {
        measured.reads(asked.tables.epoch());
        let columns = Columns::of(plan.schema().as_arrow(), format)?;
        let run = Run {
            engine: Arc::clone(&self.shared.sql.engine),
            runtime: self.shared.sql.runtime.clone(),
            turns: Arc::clone(&self.shared.sql.turns),
            sql: asked.sql,
            context: asked.context,
            plan,
            columns,
            wait,
            rows_max: self.shared.sql.settings.rows_max,
            measured,
        };
        run.start().await
    }

    /// In a transaction that failed, nothing but its end is listened to.
    pub fn failed_transaction() -> Failure {
        let told = "current transaction is aborted, commands ignored until end of transaction block";
        Failure::new(state::FAILED_TRANSACTION, told)
    }
}

pub(super) struct Busy<'a>(&'a Connection);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        self.0.idle.notify_waiters();
    }
}
