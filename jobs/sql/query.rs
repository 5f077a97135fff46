//! One query from text to output, with a way to stop it.

use std::time::Duration;

use anyhow::{Context, anyhow};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use assay::query::{Explained, Names, SqlTextError, plan, split_epoch};
use datafusion::common::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::output::{self, Target, Written};
use super::{Format, PIPED_ROWS, QueryContext, SqlArgs, TERMINAL_ROWS};
use crate::exit::UsageError;
use crate::ui::{Look, thousands};

/// Batches between the engine and the writer; two keep both busy.
const BATCHES_AHEAD: usize = 2;
/// How long a cancelled query waits for its writer to clean up.
const CLEAN_UP: Duration = Duration::from_secs(1);

/// How queries are answered.
#[derive(Debug, Clone)]
pub struct Settings {
    pub format: Format,
    pub target: Target,
    pub look: Look,
    /// Rows of a table at most.
    pub rows_max: usize,
    /// The epoch of the flag; a query may repeat it, not contradict it.
    pub epoch: Option<i64>,
}

impl Settings {
    pub fn new(args: &SqlArgs, look: Look, target: Target) -> Self {
        let rows_max = match args.limit_rows {
            Some(0) => usize::MAX,
            Some(rows) => rows,
            None if look.width.is_some() => TERMINAL_ROWS,
            None => PIPED_ROWS,
        };
        Self { format: args.format(), target, look, rows_max, epoch: args.epoch }
    }
}

/// What stops a query that runs.
pub trait Interrupt: Send + Sync {
    /// Resolves when the query shall stop.
    fn interrupted(&self) -> BoxFuture<'_, ()>;
}

/// The user's Ctrl-C.
#[derive(Debug, Clone, Copy)]
pub struct CtrlC;

impl Interrupt for CtrlC {
    fn interrupted(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without a handler the signal ends the process, which is a way to stop as well.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// The query was stopped before its end. Exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// Runs one statement; its rows go where the settings say.
///
/// # Errors
/// [`UsageError`] when the query is wrong, [`Cancelled`], or what went wrong while it ran.
pub async fn run(
    statement: &str,
    settings: &Settings,
    ctx: &dyn QueryContext,
    interrupt: &dyn Interrupt,
) -> anyhow::Result<Written> {
    let (sql, epoch) = prepare(statement, settings.epoch, ctx.latest_epoch())?;
    let mut stop = interrupt.interrupted();
    tokio::select! {
        biased;
        () = &mut stop => Err(Cancelled.into()),
        stream = open(&sql, epoch, ctx) => {
            let (stream, session) = stream?;
            let schema = stream.schema();
            let failed = match drain(stream, schema, settings, stop).await {
                Err(error) if error.is::<DataFusionError>() => error,
                other => return other,
            };
            Err(explain(failed, &sql, &session, false).await)
        }
    }
}

/// What to say under a table that does not show all rows.
pub fn truncation_note(rows: u64) -> String {
    format!("the first {} rows; --limit-rows N shows more, --format csv|json|parquet writes all", thousands(rows))
}

/// The query without its epoch, and the epoch.
pub fn prepare(statement: &str, flag: Option<i64>, latest: i64) -> Result<(String, Option<i64>), UsageError> {
    let (sql, named) = split_epoch(statement).map_err(|error: SqlTextError| UsageError(error.render(statement)))?;
    if let (Some(flag), Some(named)) = (flag, named)
        && flag != named
    {
        return Err(UsageError(format!("--epoch says {flag} and the query says AS OF EPOCH {named}: drop one")));
    }
    let epoch = named.or(flag);
    match epoch {
        Some(epoch) if epoch > latest => Err(UsageError(match latest {
            0 => format!("there is no epoch {epoch}: the lake has none yet"),
            _ => format!("there is no epoch {epoch} yet: the latest complete one is {latest}"),
        })),
        epoch => Ok((sql, epoch)),
    }
}

async fn open(
    sql: &str,
    epoch: Option<i64>,
    ctx: &dyn QueryContext,
) -> anyhow::Result<(SendableRecordBatchStream, SessionContext)> {
    let session = ctx.session(epoch).await?;
    let opened = match plan(&session, sql).await {
        Ok(frame) => frame.execute_stream().await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(stream) => Ok((stream, session)),
        Err(error) => Err(explain(error.into(), sql, &session, true).await),
    }
}

async fn explain(error: anyhow::Error, sql: &str, session: &SessionContext, planning: bool) -> anyhow::Error {
    let Some(cause) = error.downcast_ref::<DataFusionError>() else { return error };
    let explained = Explained::new(cause, sql, &Names::load(session).await, planning);
    let text = explained.render(sql);
    if explained.is_usage { UsageError(text).into() } else { anyhow!(text) }
}

/// The engine works in a task, the writer on a thread that may block; the stop is heard whatever they do.
async fn drain(
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    settings: &Settings,
    stop: BoxFuture<'_, ()>,
) -> anyhow::Result<Written> {
    let (sender, mut batches) = mpsc::channel::<Result<Option<RecordBatch>, DataFusionError>>(BATCHES_AHEAD);
    let engine = tokio::spawn(async move {
        while let Some(batch) = stream.next().await {
            // The writer has seen enough, or failed.
            if sender.send(batch.map(Some)).await.is_err() {
                return;
            }
        }
        // An explicit end: a channel that just closes is a query that was stopped.
        let _ = sender.send(Ok(None)).await;
    });
    let Settings { format, target, look, rows_max, .. } = settings.clone();
    let mut writer = tokio::task::spawn_blocking(move || {
        let next = || match batches.blocking_recv() {
            Some(batch) => Ok(batch?),
            None => Err(anyhow!("the query ended before its last row")),
        };
        output::write(format, &schema, &target, look, rows_max, next)
    });
    tokio::select! {
        biased;
        () = stop => {
            engine.abort();
            // Time to remove a file that is not whole; a writer that hangs in a full pipe is left behind.
            let _ = tokio::time::timeout(CLEAN_UP, &mut writer).await;
            Err(Cancelled.into())
        }
        written = &mut writer => {
            engine.abort();
            written.context("the writer of the rows failed")?
        }
    }
}
