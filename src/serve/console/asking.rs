//! Questions in SQL for the page: planned to read only, stopped by the clock, bounded in memory, rows and bytes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use axum::http::{StatusCode, header};
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::super::{Problem, traced};
use super::{ConsoleSettings, cells};
use crate::domain::{Clock, Reaction, TableName};
use crate::lake::{LakeError, LakeSettings, Session};
use crate::query::{Explained, Names, Sessions, Task, begin, bound, plan};
use crate::refine::{References, functions};
use crate::telemetry::Metrics;

/// A page need not see each epoch, and to open one costs CPU that the pipeline has use for.
const LASTING: Duration = Duration::from_secs(2);

/// Answers questions from the lake's complete epochs.
pub(super) struct Asking {
    sessions: Sessions,
    references: Arc<References>,
    settings: ConsoleSettings,
    turns: Arc<Semaphore>,
    runtime: Handle,
    metrics: Arc<Metrics>,
    /// Questions that are being answered, for those who ask the same meanwhile.
    under_way: Mutex<HashMap<Key, WeakShared<Answering>>>,
}

/// Who asks the same of the same opened tables gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The place of the session in memory: who answers holds it, so no other one can be there.
    session: usize,
    sql: String,
    values: Vec<ScalarValue>,
    rows_max: Option<usize>,
}

type Answering = BoxFuture<'static, (Arc<Session>, Result<Arc<Answer>, Problem>)>;

/// What is asked, with values for `$1` and so on.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    /// Who wants to know, for the metrics.
    pub view: &'static str,
    pub sql: String,
    pub values: Vec<ScalarValue>,
    pub epoch: Option<i64>,
    /// Fewer rows than the settings allow.
    pub rows_max: Option<usize>,
}

impl Question {
    pub fn new(view: &'static str, sql: impl Into<String>) -> Self {
        Self { view, sql: sql.into(), ..Self::default() }
    }

    pub fn with(mut self, value: impl Into<ScalarValue>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// Rows as the page gets them.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// 0 in a lake without a complete epoch.
    pub epoch: i64,
    pub schema: SchemaRef,
    pub rows: Vec<Vec<Value>>,
    /// There are more rows than these.
    pub is_cut: bool,
}

impl Answer {
    pub fn into_value(self) -> Value {
        json!({
            "epoch": self.epoch,
            "columns": cells::columns(&self.schema),
            "rows": self.rows,
            "is_cut": self.is_cut,
        })
    }

    pub fn objects(self) -> Vec<Value> {
        cells::objects(&self.schema, self.rows)
    }
}

/// Rows between two looks at how large an answer is.
const ROWS_AT_ONCE: usize = 64;

impl Asking {
    /// Opens nothing before it is asked.
    pub fn new(
        lake: LakeSettings,
        pipeline: &str,
        clock: Arc<dyn Clock>,
        references: Arc<References>,
        settings: ConsoleSettings,
        runtime: Handle,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DataFusionError> {
        let pool = Arc::new(FairSpillPool::new(settings.memory_bytes_max));
        let environment = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let turns = Arc::new(Semaphore::new(settings.statements_max.min(Semaphore::MAX_PERMITS)));
        let sessions = Sessions::new(lake, pipeline, clock, environment).lasting(LASTING);
        Ok(Self { sessions, references, settings, turns, runtime, metrics, under_way: Mutex::default() })
    }

    /// The newest complete epoch, or an earlier one. Who stops waiting does not stop the opening of the newest: the next one
    /// finds it. An earlier one is for who asked.
    pub async fn session(self: &Arc<Self>, epoch: Option<i64>) -> Result<Arc<Session>, Problem> {
        let asking = Arc::clone(self);
        let most = Duration::from_millis(self.settings.statement_timeout_ms);
        let opening = self.runtime.spawn(async move { asking.sessions.at(epoch).await });
        let opened = match epoch {
            None => timeout(most, opening).await,
            Some(_) => {
                let mut opening = Task(opening);
                timeout(most, &mut opening.0).await
            }
        };
        match (opened, epoch) {
            (Ok(Ok(opened)), _) => opened.map_err(|error| of_lake(&error)),
            (Ok(Err(error)), _) => Err(internal(&error.to_string())),
            (Err(_), None) => {
                let detail = "the tables are still being opened; this is asked again";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                    .with("code", "opening")
                    .with_header(header::RETRY_AFTER, "1"))
            }
            (Err(_), Some(epoch)) => Err(self.too_long(&format!("opening the tables of epoch {epoch}"))),
        }
    }

    /// Which of these tables the newest epoch has.
    pub async fn has(self: &Arc<Self>, table: &TableName) -> Result<bool, Problem> {
        let session = self.session(None).await?;
        Ok(session.context.table_exist(name_of(table)).unwrap_or(false))
    }

    /// The columns of a table; none where the lake has no such table.
    pub async fn columns(self: &Arc<Self>, table: &TableName) -> Result<Vec<String>, Problem> {
        let session = self.session(None).await?;
        if !session.context.table_exist(name_of(table)).unwrap_or(false) {
            return Ok(Vec::new());
        }
        let frame = session.context.table(name_of(table)).await;
        let frame = frame.map_err(|error| internal(&error.strip_backtrace()))?;
        Ok(frame.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    /// Asks, in turn, and no longer than a statement may take. Who asks what is being answered waits for that answer; when
    /// nobody waits any more, it is dropped.
    pub async fn ask(self: &Arc<Self>, question: Question) -> Result<Answer, Problem> {
        let (began, view) = (Instant::now(), question.view);
        let traced = traced::current();
        let asked_us = traced.as_ref().map_or(0, |traced| traced.now_us());
        let asked = self.shared(question).await;
        if let Some(traced) = &traced {
            traced.took("query", asked_us);
            if let Ok(answer) = &asked {
                traced.answered_from(answer.epoch);
            }
        }
        self.told(view, began, &asked);
        asked.map(Arc::unwrap_or_clone)
    }

    async fn shared(self: &Arc<Self>, question: Question) -> Result<Arc<Answer>, Problem> {
        let session = self.session(question.epoch).await?;
        let Question { sql, values, rows_max, .. } = question.clone();
        let key = Key { session: Arc::as_ptr(&session) as usize, sql, values, rows_max };
        let answering = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, answering| answering.upgrade().is_some());
            match under_way.get(&key).and_then(WeakShared::upgrade) {
                Some(answering) => answering,
                None => {
                    let asking = Arc::clone(self);
                    let answer = async move {
                        let (answering, held) = (Arc::clone(&asking), Arc::clone(&session));
                        let answer = asking.in_turn(async move { answering.answer(session, question).await }).await;
                        (held, answer.map(Arc::new))
                    };
                    let answering: Shared<Answering> = answer.boxed().shared();
                    if let Some(weak) = answering.downgrade() {
                        under_way.insert(key, weak);
                    }
                    answering
                }
            }
        };
        answering.await.1
    }

    /// What is no question in SQL, under the same bounds.
    pub async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        view: &'static str,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let began = Instant::now();
        let done = self.in_turn(work).await;
        self.told(view, began, &done);
        done
    }

    fn told<T>(&self, view: &'static str, began: Instant, done: &Result<T, Problem>) {
        let outcome = done.as_ref().map_or_else(Problem::code, |_| "ok");
        self.metrics.console_question(view, outcome, began.elapsed());
    }

    /// Work where questions compute, once it is its turn. Waiting for that is no work: who waits too long is told to come back.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let patience = Duration::from_millis(self.settings.wait_timeout_ms);
        let Ok(turn) = timeout(patience, Arc::clone(&self.turns).acquire_owned()).await else {
            let detail =
                format!("{} other questions are being answered: ask again in a moment", self.settings.statements_max);
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                .with("code", "busy")
                .with_header(header::RETRY_AFTER, "1"));
        };
        let mut task = Task(self.runtime.spawn(async move {
            let _turn = turn;
            work.await
        }));
        let most = Duration::from_millis(self.settings.statement_timeout_ms);
        match timeout(most, &mut task.0).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(internal(&error.to_string())),
            Err(_) => Err(self.too_long("it")),
        }
    }

    fn too_long(&self, what: &str) -> Problem {
        let detail = format!(
            "{what} was stopped after {} ms: ask for less, raise console.statement_timeout_ms, or use `assay sql`",
            self.settings.statement_timeout_ms
        );
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("code", "timeout")
    }

    async fn answer(self: &Arc<Self>, session: Arc<Session>, question: Question) -> Result<Answer, Problem> {
        let epoch = session.record.as_ref().map_or(0, |record| record.epoch);
        let state = SessionStateBuilder::new_from_existing(session.context.state()).build();
        let context = SessionContext::new_with_state(state);
        functions::register(&context, &self.references);
        bound(&context);
        let sql = question.sql.clone();
        let planned = self.plan(&context, question).await;
        let (frame, rows_max) = match planned {
            Ok(planned) => planned,
            Err(error) => return Err(self.explain(&error, &sql, &context, true).await),
        };
        let mut stream = match begin(frame).await {
            Ok(stream) => stream,
            Err(error) => return Err(self.explain(&error, &sql, &context, true).await),
        };
        let schema = stream.schema();
        let (mut rows, mut bytes, mut is_cut) = (Vec::new(), 0, false);
        while let Some(batch) = stream.next().await {
            let taken = batch.and_then(|batch: RecordBatch| {
                for from in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
                    let (left, part) = (rows_max - rows.len(), ROWS_AT_ONCE.min(batch.num_rows() - from));
                    rows.extend(cells::rows(&batch.slice(from, part), left, &mut bytes)?);
                    is_cut |= part > left || bytes > self.settings.answer_bytes_max;
                    if is_cut {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = taken {
                return Err(self.explain(&error, &sql, &context, false).await);
            }
            if is_cut {
                break;
            }
        }
        Ok(Answer { epoch, schema, rows, is_cut })
    }

    async fn plan(
        &self,
        context: &SessionContext,
        question: Question,
    ) -> Result<(datafusion::prelude::DataFrame, usize), DataFusionError> {
        let Question { sql, values, rows_max, .. } = question;
        let mut frame = plan(context, &sql).await?;
        if !values.is_empty() {
            frame = frame.with_param_values(ParamValues::from(values))?;
        }
        Ok((frame, rows_max.unwrap_or(usize::MAX).min(self.settings.rows_max)))
    }

    async fn explain(&self, error: &DataFusionError, sql: &str, context: &SessionContext, planning: bool) -> Problem {
        if let DataFusionError::ResourcesExhausted(_) = error.find_root() {
            let detail =
                "the question needs more memory than console.memory_bytes_max allows: ask for less, or use `assay sql`";
            return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("code", "memory");
        }
        let explained = Explained::new(error, sql, &Names::load(context).await, planning);
        if !explained.is_usage {
            tracing::warn!(%error, "a question of the console failed");
        }
        let status = if explained.is_usage { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
        let place =
            explained.place.map(|place| json!({"line": place.line, "column": place.column, "width": place.width}));
        Problem::new(status, explained.render(sql))
            .with("code", "sql")
            .with("message", explained.message)
            .with("place", place)
            .with("did_you_mean", explained.did_you_mean)
    }
}

/// A table as DataFusion is asked for it.
fn name_of(table: &TableName) -> datafusion::common::TableReference {
    datafusion::common::TableReference::partial(table.layer.as_str(), table.name.as_str())
}

/// What to say of a lake that does not answer.
pub(super) fn of_lake(error: &LakeError) -> Problem {
    match error {
        LakeError::NoLake { .. } | LakeError::Missing { .. } => {
            Problem::new(StatusCode::NOT_FOUND, error.to_string()).with("code", "no_lake")
        }
        LakeError::Epoch(_) => Problem::new(StatusCode::BAD_REQUEST, error.to_string()).with("code", "epoch"),
        error if error.reaction() == Reaction::Correct => {
            Problem::new(StatusCode::CONFLICT, error.to_string()).with("code", "lake")
        }
        error => {
            tracing::warn!(%error, "the console cannot read the lake");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the lake cannot be read now; the log says more")
                .with("code", "lake")
                .with_header(header::RETRY_AFTER, "1")
        }
    }
}

pub(super) fn internal(cause: &str) -> Problem {
    tracing::error!(cause, "the console failed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "an error of assay itself; the log says more")
}
