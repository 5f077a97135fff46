//! Questions: planned for a user, of one epoch, kept until they are fetched, and cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use datafusion::common::ParamValues;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::FlightSettings;
use super::admission::{Admission, Who};
use super::bind::Places;
use super::kept::{Handle, Kept};
use super::rows::{Run, sent_schema, with_epoch};
use crate::query::split_epoch;
use crate::serve::sql::command::Command;
use crate::serve::sql::engine::{Asked, Tables};
use crate::serve::sql::failure::{Failure, state};
use crate::serve::sql::measured::{Measured, Protocol};
use crate::serve::sql::parameters::Parameters;
use crate::serve::sql::running::Wait;
use crate::serve::sql::{Shared, statements};

/// An epoch that only an idle prepared statement holds is let go after this.
const PLAN_IDLE_US: i64 = 10_000_000;

/// What answers all calls.
pub(super) struct State {
    pub sql: Arc<Shared>,
    pub settings: FlightSettings,
    pub admission: Admission,
    pub tickets: Kept<Ticket>,
    pub prepared: Kept<Prepared>,
    /// With the tables that the first question got.
    pub transactions: Kept<Option<Arc<Tables>>>,
    running: Mutex<HashMap<Handle, Running>>,
    places: Arc<Semaphore>,
}

/// A question that was planned and not fetched yet.
pub(super) struct Ticket {
    asked: Asked,
    measured: Measured,
}

struct Running {
    user: String,
    cancel: watch::Sender<u64>,
}

/// A statement that was prepared.
pub(super) struct Prepared {
    statement: String,
    transaction: Option<Vec<u8>>,
    asked: Option<Asked>,
    pub places: Places,
    pub columns: SchemaRef,
    values: Option<RecordBatch>,
}

/// A question that can be fetched.
pub(super) struct Planned {
    pub ticket: Handle,
    pub columns: SchemaRef,
    pub epoch: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    Now,
    /// It is over, or was never there.
    NotThere,
}

impl State {
    pub fn new(sql: Arc<Shared>, settings: FlightSettings) -> Self {
        let kept = (settings.kept_max, Arc::clone(&sql.clock));
        let (most, clock) = &kept;
        Self {
            admission: Admission::new(Arc::clone(&sql), settings.login_timeout_s),
            tickets: Kept::new(*most, settings.ticket_timeout_s, Arc::clone(clock)),
            prepared: Kept::new(*most, settings.idle_timeout_s, Arc::clone(clock)),
            transactions: Kept::new(*most, settings.idle_timeout_s, Arc::clone(clock)),
            running: Mutex::default(),
            places: Arc::new(Semaphore::new(settings.questions_max.clamp(1, Semaphore::MAX_PERMITS))),
            sql,
            settings,
        }
    }

    /// Lets go of what nobody came back for.
    pub fn sweep(&self) {
        self.tickets.sweep(|_, _| ());
        self.transactions.sweep(|_, _| ());
        let mut plans = Vec::new();
        self.prepared.sweep(|prepared, idle_us| {
            if idle_us > PLAN_IDLE_US {
                plans.extend(prepared.asked.take());
            }
        });
    }

    pub fn failed(&self, failure: Failure) -> tonic::Status {
        self.sql.metrics.sql_error(Protocol::Flight.as_str(), failure.code());
        failure.into()
    }

    pub fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let told = format!("{} questions are under way already", self.settings.questions_max);
            let failure = Failure::new(state::TOO_MANY_CONNECTIONS, told);
            failure.with_hint("ask again when one is answered, or raise flight.questions_max")
        })
    }

    fn wait(&self, cancelled: watch::Receiver<u64>) -> Wait {
        let most = Some(self.settings.statement_timeout_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
        Wait::new(Protocol::Flight, cancelled, most)
    }

    /// The tables of a user: as of the epoch that is named, or that of the transaction, or the newest.
    pub async fn tables(
        &self,
        who: &Who,
        transaction: Option<&[u8]>,
        epoch: Option<i64>,
    ) -> Result<Arc<Tables>, Failure> {
        let gone = || {
            let told = "this transaction has ended, or nothing was asked in it for longer than flight.idle_timeout_s";
            Failure::new(state::NO_ACTIVE_TRANSACTION, told).with_hint("roll back, and begin another one")
        };
        let engine = &self.sql.engine;
        let Some(handle) = transaction else { return engine.tables(who.role.as_deref(), epoch).await };
        let pinned = self.transactions.with(handle, &who.user, |pinned| pinned.clone()).ok_or_else(gone)?;
        if let (None, Some(pinned)) = (epoch, pinned) {
            return Ok(pinned);
        }
        let tables = engine.tables(who.role.as_deref(), epoch).await?;
        if epoch.is_some() {
            return Ok(tables);
        }
        // Of two questions that were the first, one says which epoch it is.
        self.transactions.with(handle, &who.user, |pinned| Arc::clone(pinned.get_or_insert(tables))).ok_or_else(gone)
    }

    /// Plans a statement of a user.
    async fn ask(self: &Arc<Self>, who: &Who, statement: &str, transaction: Option<&[u8]>) -> Result<Asked, Failure> {
        let (sql, epoch) = split_epoch(statement).map_err(|error| Failure::of_text(&error, statement))?;
        let (this, who, transaction) = (Arc::clone(self), who.clone(), transaction.map(<[u8]>::to_vec));
        self.timely(async move {
            let tables = this.tables(&who, transaction.as_deref(), epoch).await?;
            let parameters = Parameters::new(&who.user, this.settings.statement_timeout_ms);
            this.sql.engine.ask(sql, tables, &parameters).await
        })
        .await
    }

    /// Plans on the engine's threads, within the time that a statement may take.
    pub async fn timely<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (_cancel, cancelled) = watch::channel(0);
        self.wait(cancelled).on(&self.sql.runtime, work).await?
    }

    /// Plans a question and keeps it until it is fetched.
    pub async fn plan(self: &Arc<Self>, who: &Who, sql: &str, transaction: Option<&[u8]>) -> Result<Planned, Failure> {
        let _place = self.place()?;
        let statement = one_question(sql)?;
        let mut measured = Measured::begin(&self.sql, Protocol::Flight);
        let asked = self.ask(who, &statement, transaction).await.inspect_err(|failure| measured.failed(failure))?;
        let places = Places::of(&asked.plan)?;
        if !places.is_empty() {
            let told = Failure::new(state::WRONG, "there are parameters, and no values for them");
            return Err(told.with_hint("prepare the statement, and bind values"));
        }
        Ok(self.keep(who, asked, measured))
    }

    /// The columns of a question.
    pub async fn columns(
        self: &Arc<Self>,
        who: &Who,
        sql: &str,
        transaction: Option<&[u8]>,
    ) -> Result<SchemaRef, Failure> {
        let _place = self.place()?;
        let asked = self.ask(who, &one_question(sql)?, transaction).await?;
        Ok(sent_schema(asked.plan.schema().as_arrow()))
    }

    fn keep(&self, who: &Who, asked: Asked, mut measured: Measured) -> Planned {
        let epoch = asked.tables.epoch();
        measured.reads(epoch);
        let columns = with_epoch(&sent_schema(asked.plan.schema().as_arrow()), epoch);
        let ticket = self.tickets.keep(&who.user, Ticket { asked, measured });
        Planned { ticket, columns, epoch }
    }

    /// The rows of a question, once.
    pub fn fetch(
        self: &Arc<Self>,
        who: &Who,
        handle: &[u8],
    ) -> Result<impl Stream<Item = Result<FlightData, Failure>> + Send + use<>, Failure> {
        let place = self.place()?;
        let gone = || {
            let seconds = self.settings.ticket_timeout_s;
            let told = format!("this ticket was used, or has expired: it can be fetched once, within {seconds} s");
            Failure::new(state::INVALID_VALUE, told)
                .with_hint("ask again, or raise flight.ticket_timeout_s or flight.kept_max")
        };
        let Ticket { asked, measured } = self.tickets.take(handle, &who.user).ok_or_else(gone)?;
        let handle = Handle::try_from(handle).map_err(|_| gone())?;
        let (cancel, cancelled) = watch::channel(0);
        self.running().insert(handle, Running { user: who.user.clone(), cancel });
        let run = Run {
            sql: Arc::clone(&self.sql),
            asked,
            rows_max: self.settings.rows_max,
            idle: Duration::from_secs(self.settings.idle_timeout_s),
            wait: self.wait(cancelled),
            measured,
            place,
            guard: Registered { state: Arc::clone(self), handle },
        };
        Ok(run.start())
    }

    /// Stops a question, wherever it is.
    pub fn cancel(&self, who: &Who, handle: &[u8]) -> Cancelled {
        if let Some(mut ticket) = self.tickets.take(handle, &who.user) {
            ticket.measured.failed(&Failure::cancelled());
            return Cancelled::Now;
        }
        let running = self.running();
        let found = Handle::try_from(handle).ok().and_then(|handle| running.get(&handle));
        match found.filter(|running| running.user == who.user) {
            Some(running) => {
                running.cancel.send_modify(|count| *count += 1);
                Cancelled::Now
            }
            None => Cancelled::NotThere,
        }
    }

    /// Stops whatever is under way.
    pub fn cancel_all(&self) {
        self.running().values().for_each(|running| running.cancel.send_modify(|count| *count += 1));
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Handle, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prepared statements.
impl State {
    pub async fn prepare(
        self: &Arc<Self>,
        who: &Who,
        sql: &str,
        transaction: Option<&[u8]>,
    ) -> Result<(Handle, Places, SchemaRef), Failure> {
        let _place = self.place()?;
        let statement = one_question(sql)?;
        let asked = self.ask(who, &statement, transaction).await?;
        let (asked, places, columns) = self
            .timely(async move {
                let places = Places::of(&asked.plan)?;
                let columns = columns_of(&asked, &places)?;
                Ok((asked, places, columns))
            })
            .await?;
        let prepared = Prepared {
            statement,
            transaction: transaction.map(<[u8]>::to_vec),
            asked: Some(asked),
            places: places.clone(),
            columns: Arc::clone(&columns),
            values: None,
        };
        Ok((self.prepared.keep(&who.user, prepared), places, columns))
    }

    pub fn bind(&self, who: &Who, handle: &[u8], row: RecordBatch) -> Result<(), Failure> {
        let bound = self.prepared.with(handle, &who.user, |prepared| {
            prepared.places.values(&row)?;
            prepared.values = Some(row);
            Ok(())
        });
        bound.unwrap_or_else(|| Err(not_prepared()))
    }

    /// The question of a prepared statement with the values that were bound, of the newest epoch or that of its transaction.
    pub async fn plan_prepared(self: &Arc<Self>, who: &Who, handle: &[u8]) -> Result<Planned, Failure> {
        let _place = self.place()?;
        let held = self.prepared.with(handle, &who.user, |prepared| {
            let Prepared { statement, transaction, asked, places, columns, values } = prepared;
            (statement.clone(), transaction.clone(), asked.clone(), places.clone(), Arc::clone(columns), values.clone())
        });
        let (statement, transaction, asked, places, columns, values) = held.ok_or_else(not_prepared)?;
        let values: ParamValues = match values {
            Some(row) => places.values(&row)?,
            None if places.is_empty() => ParamValues::List(Vec::new()),
            None => {
                let told = Failure::new(state::PROTOCOL, "the statement has parameters, and none was bound");
                return Err(told.with_hint("bind one row of values before it is executed"));
            }
        };
        let mut measured = Measured::begin(&self.sql, Protocol::Flight);
        let (this, asking) = (Arc::clone(self), who.clone());
        let planned = self.timely(async move {
            let asked = this.refreshed(&asking, &statement, transaction.as_deref(), asked).await?;
            if columns_of(&asked, &places)? != columns {
                let told = Failure::new(state::CHANGED_RESULT, "cached plan must not change result type");
                return Err(
                    told.with_hint("the table has other columns since the statement was prepared: prepare it again")
                );
            }
            let plan = Places::fill(&asked.plan, &values)?;
            Ok((asked, plan))
        });
        let (asked, plan) = planned.await.inspect_err(|failure| measured.failed(failure))?;
        self.prepared.with(handle, &who.user, |prepared| prepared.asked = Some(asked.clone()));
        Ok(self.keep(who, Asked { plan, ..asked }, measured))
    }

    /// The same question, planned anew when there is another epoch to read.
    async fn refreshed(
        self: &Arc<Self>,
        who: &Who,
        statement: &str,
        transaction: Option<&[u8]>,
        asked: Option<Asked>,
    ) -> Result<Asked, Failure> {
        let Some(asked) = asked else { return self.ask(who, statement, transaction).await };
        let (_, epoch) = split_epoch(statement).map_err(|error| Failure::of_text(&error, statement))?;
        let tables = self.tables(who, transaction, epoch).await?;
        if tables.is_same(&asked.tables) { Ok(asked) } else { self.ask(who, statement, transaction).await }
    }
}

fn columns_of(asked: &Asked, places: &Places) -> Result<SchemaRef, Failure> {
    let typed = Places::fill(&asked.plan, &places.nulls()?)?;
    Ok(sent_schema(typed.schema().as_arrow()))
}

pub(super) fn not_prepared() -> Failure {
    let told = "there is no such prepared statement: it was closed, or not used for longer than flight.idle_timeout_s";
    Failure::new(state::INVALID_VALUE, told).with_hint("prepare it again")
}

/// The one question of a text.
pub(super) fn one_question(sql: &str) -> Result<String, Failure> {
    let parts = statements(sql)?;
    let Ok([statement]) = <[String; 1]>::try_from(parts) else {
        return Err(Failure::new(state::SYNTAX, "one question at a time: send each statement by itself"));
    };
    let hint = match Command::parse(&statement)? {
        Command::Query => return Ok(statement),
        Command::Begin | Command::Commit | Command::Rollback | Command::Savepoint(_) | Command::RollbackTo => {
            "transactions begin and end by the protocol: switch autocommit off, then commit or roll back"
        }
        _ => "there is no session to set or to show: write the layer before a table's name",
    };
    Err(Failure::new(state::NOT_SUPPORTED, "only questions are answered here").with_hint(hint))
}

/// A question that is being answered, until it is dropped.
struct Registered {
    state: Arc<State>,
    handle: Handle,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.state.running().remove(&self.handle);
    }
}
