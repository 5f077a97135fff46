//! The rows of one query into one table of PostgreSQL, in bounded memory.

use std::sync::Arc;

use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_postgres::Transaction;

use super::ddl::quoted;
use super::encode::{Encoded, Encoder, HEADER, TRAILER};
use super::error::{QueryFault, WarehouseError};
use super::file::Mode;
use super::source::{Source, Table};

/// Encoded batches that wait for the socket: so much of the lake is read and encoded while PostgreSQL writes.
const AHEAD: usize = 4;

/// What one COPY brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub rows: u64,
    pub adjusted: u64,
}

/// Runs the query of a table over the epochs to which `source` is narrowed, and puts its rows into the table.
///
/// # Errors
/// When the lake cannot answer, or PostgreSQL refuses a row; the transaction is then of no use.
pub async fn load(
    tx: &Transaction<'_>,
    source: &Source,
    table: &Table,
    constants: &[&[u8]],
    freeze: bool,
    mut progress: impl FnMut(u64),
) -> Result<Copied, WarehouseError> {
    let name = quoted(&table.file.name);
    let frame = source.plan(&table.file).await?;
    let stream = frame.execute_stream().await.map_err(|error| WarehouseError::Query {
        file: table.file.file.clone(),
        fault: QueryFault::of(&error, &table.file.sql),
    })?;
    let encoder = Arc::new(Encoder::new(table.kinds.clone(), constants));
    if table.file.mode == Mode::Rows {
        return copy(tx, &table.copy(&name, freeze), table, stream, encoder, &mut progress).await;
    }
    let staged = format!("pg_temp.{}", quoted(&format!("{}__new", table.file.name)));
    let failed = |what: &str| WarehouseError::of(format!("to {what} {name}"));
    let sql = format!("CREATE TEMP TABLE {staged} (LIKE {name}) ON COMMIT DROP");
    tx.batch_execute(&sql).await.map_err(failed("stage rows of"))?;
    let copied = copy(tx, &table.copy(&staged, false), table, stream, encoder, &mut progress).await?;
    tx.batch_execute(&table.merge(&staged)).await.map_err(failed("merge rows into"))?;
    tx.batch_execute(&format!("DROP TABLE {staged}")).await.map_err(failed("merge rows into"))?;
    Ok(copied)
}

async fn copy(
    tx: &Transaction<'_>,
    statement: &str,
    table: &Table,
    stream: SendableRecordBatchStream,
    encoder: Arc<Encoder>,
    progress: &mut impl FnMut(u64),
) -> Result<Copied, WarehouseError> {
    let failed = || WarehouseError::of(format!("to copy rows into {}", table.file.name));
    let sink = tx.copy_in::<_, bytes::Bytes>(statement).await.map_err(failed())?;
    futures::pin_mut!(sink);
    let (encoded_tx, mut encoded_rx) = mpsc::channel(AHEAD);
    // Ends when the receiver is dropped.
    tokio::spawn(encode(stream, encoder, table.file.sql.clone(), encoded_tx));
    let mut copied = Copied::default();
    sink.feed(bytes::Bytes::from_static(HEADER)).await.map_err(failed())?;
    loop {
        let unanswered = |fault| WarehouseError::Query { file: table.file.file.clone(), fault };
        // A task that broke down says nothing: without its word the rows are not all.
        let next = encoded_rx.recv().await.unwrap_or_else(|| Err(QueryFault::internal("reading it broke down")));
        let Some(Encoded { bytes, rows, adjusted }) = next.map_err(unanswered)? else { break };
        sink.send(bytes).await.map_err(failed())?;
        copied.rows += rows;
        copied.adjusted += adjusted;
        progress(rows);
    }
    sink.feed(bytes::Bytes::from_static(TRAILER)).await.map_err(failed())?;
    let stored = sink.finish().await.map_err(failed())?;
    if stored != copied.rows {
        let cause = format!("{} rows were sent, and {stored} were stored", copied.rows);
        return Err(WarehouseError::Postgres {
            action: format!("to copy rows into {}", table.file.name),
            code: None,
            cause,
        });
    }
    Ok(copied)
}

async fn encode(
    mut stream: SendableRecordBatchStream,
    encoder: Arc<Encoder>,
    sql: String,
    out: mpsc::Sender<Result<Option<Encoded>, QueryFault>>,
) {
    while let Some(batch) = stream.next().await {
        let encoded = match batch {
            Ok(batch) => {
                let encoder = Arc::clone(&encoder);
                let encoded = tokio::task::spawn_blocking(move || encoder.encode(&batch)).await;
                let encoded = encoded.unwrap_or_else(|error| Err(format!("the thread that encodes ended: {error}")));
                encoded.map_err(QueryFault::internal)
            }
            Err(error) => Err(QueryFault::of(&error, &sql)),
        };
        let is_last = encoded.is_err();
        if out.send(encoded.map(Some)).await.is_err() || is_last {
            return;
        }
    }
    // Nobody listens where the copy failed.
    let _ = out.send(Ok(None)).await;
}
