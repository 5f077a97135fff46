//! Rows on their way to a client: computed and encoded on the engine's threads, a few messages ahead of who reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::common::DataFusionError;
use datafusion::prelude::DataFrame;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::query::Task;
use crate::serve::sql::Shared;
use crate::serve::sql::engine::Asked;
use crate::serve::sql::failure::{Failure, state};
use crate::serve::sql::measured::{Measured, Protocol};
use crate::serve::sql::running::{BATCHES_AHEAD, Wait, in_turns};

/// What a message of rows aims at. Rows are not cut in two, so one may have more.
const MESSAGE_BYTES: usize = 2 << 20;
/// The most that one may have; clients have bounds of their own, ADBC's is 16 MiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The epoch of an answer, in the metadata of its schema.
pub(super) const EPOCH: &str = "assay.epoch";

/// The columns of an answer as they are sent.
pub(super) fn sent_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| sent_field(field).with_nullable(true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The columns of a table as they are sent.
pub(super) fn sent_table(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| sent_field(field)).collect::<Vec<_>>())
}

pub(super) fn with_epoch(schema: &Schema, epoch: i64) -> SchemaRef {
    let metadata = [(EPOCH.to_owned(), epoch.to_string())];
    Arc::new(schema.clone().with_metadata(metadata.into()))
}

fn sent_field(field: &Field) -> Field {
    Field::new(field.name(), sent(field.data_type()), field.is_nullable())
}

/// The type that all clients know: views would carry the bytes of rows that are not sent, and dictionaries are how files
/// hold a column, not what is in it.
pub(super) fn sent(kind: &DataType) -> DataType {
    let item = |field: &FieldRef| Arc::new(sent_field(field));
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => sent(value),
        DataType::List(field) | DataType::ListView(field) => DataType::List(item(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(item(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field), *size),
        DataType::Map(field, sorted) => DataType::Map(item(field), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect()),
        other => other.clone(),
    }
}

fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let fit = |(column, field): (&ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false => cast(column, field.data_type()),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(fit).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// A planned question, ready to run.
pub(super) struct Run<G> {
    pub sql: Arc<Shared>,
    pub asked: Asked,
    pub rows_max: u64,
    /// Who reads nothing for so long gets nothing more.
    pub idle: Duration,
    pub wait: Wait,
    pub measured: Measured,
    /// Kept until all is read, or was not for the time above.
    pub place: OwnedSemaphorePermit,
    /// Kept as long as the answer is.
    pub guard: G,
}

type Produced = Result<Option<FlightData>, Failure>;

impl<G: Send + 'static> Run<G> {
    /// The messages of the answer, as they are asked for.
    pub fn start(self) -> impl Stream<Item = Result<FlightData, Failure>> + Send {
        let Self { sql, asked, rows_max, idle, wait, measured, place, guard } = self;
        let (sender, messages) = mpsc::channel::<Produced>(BATCHES_AHEAD);
        let rows = Arc::new(AtomicU64::new(0));
        let engine = Producer { sql: Arc::clone(&sql), asked, rows_max, rows: Arc::clone(&rows) };
        let producer = Task(sql.runtime.spawn(async move {
            let unread = sender.clone();
            if engine.produce(idle, sender).await {
                let _ = tokio::time::timeout(idle, unread.closed()).await;
            }
            drop(place);
        }));
        let answer = Answer { messages, _producer: producer, rows, wait, measured, _guard: guard };
        futures::stream::unfold(Some(answer), |answer| async {
            let mut answer = answer?;
            match answer.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(answer))),
                Ok(None) => None,
                Err(failure) => Some((Err(failure), None)),
            }
        })
    }
}

struct Producer {
    sql: Arc<Shared>,
    asked: Asked,
    rows_max: u64,
    rows: Arc<AtomicU64>,
}

/// Why rows end before their end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Engine(#[from] DataFusionError),
    #[error("too many rows")]
    TooMany,
}

impl Producer {
    /// Whether it came to an end, and not only to the end of a client's patience.
    async fn produce(self, idle: Duration, sender: mpsc::Sender<Produced>) -> bool {
        let plan = self.asked.plan.clone();
        let schema = with_epoch(&sent_schema(plan.schema().as_arrow()), self.asked.tables.epoch());
        let frame = DataFrame::new(self.asked.context.state(), plan);
        let (rows, rows_max, fitting) = (Arc::clone(&self.rows), self.rows_max, Arc::clone(&schema));
        let fitted = move |batch: Result<RecordBatch, DataFusionError>| -> Result<RecordBatch, Broken> {
            let batch = fit(&batch?, &fitting).map_err(DataFusionError::from)?;
            let before = rows.load(Ordering::Relaxed);
            let now = before + batch.num_rows() as u64;
            if rows_max > 0 && now > rows_max {
                return Err(Broken::TooMany);
            }
            rows.store(now, Ordering::Relaxed);
            Ok(batch)
        };
        let batches = in_turns(frame, Arc::clone(&self.sql.turns)).map(fitted);
        let batches = batches.map(|batch| batch.map_err(|broken| FlightError::ExternalError(Box::new(broken))));
        let encoder = FlightDataEncoderBuilder::new().with_schema(schema).with_max_flight_data_size(MESSAGE_BYTES);
        let mut messages = encoder.build(batches);
        loop {
            let message = match messages.next().await {
                Some(Ok(message)) if message.data_body.len() > MESSAGE_BYTES_MAX => {
                    Err(too_large(message.data_body.len()))
                }
                Some(Ok(message)) => Ok(Some(message)),
                Some(Err(error)) => Err(self.failure(error).await),
                // An explicit end: a channel that just closes is an engine that failed.
                None => Ok(None),
            };
            let is_over = !matches!(message, Ok(Some(_)));
            let sent = tokio::time::timeout(idle, sender.send(message)).await;
            let is_sent = matches!(sent, Ok(Ok(())));
            if !is_sent || is_over {
                return is_sent;
            }
        }
    }

    async fn failure(&self, error: FlightError) -> Failure {
        let broken = match error {
            FlightError::ExternalError(cause) => match cause.downcast::<Broken>() {
                Ok(broken) => *broken,
                Err(cause) => Broken::Engine(DataFusionError::External(cause)),
            },
            FlightError::Arrow(error) => Broken::Engine(error.into()),
            other => return Failure::new(state::INTERNAL, other.to_string()),
        };
        match broken {
            Broken::TooMany => Failure::too_many_rows(self.rows_max, Protocol::Flight),
            Broken::Engine(error) => self.sql.engine.explain(&error, &self.asked.sql, &self.asked.context, false).await,
        }
    }
}

fn too_large(bytes: usize) -> Failure {
    let told = format!("a row has {bytes} bytes, and {MESSAGE_BYTES_MAX} are the most that one message carries");
    Failure::new(state::LIMIT_EXCEEDED, told).with_hint("ask for its parts, or write a file with `assay sql`")
}

struct Answer<G> {
    messages: mpsc::Receiver<Produced>,
    _producer: Task<()>,
    rows: Arc<AtomicU64>,
    wait: Wait,
    measured: Measured,
    _guard: G,
}

impl<G> Answer<G> {
    /// `None` after the last.
    async fn next(&mut self) -> Result<Option<FlightData>, Failure> {
        let failure = match self.wait.until(self.messages.recv()).await {
            Ok(Some(Ok(Some(message)))) => return Ok(Some(message)),
            Ok(Some(Ok(None))) => {
                self.measured.done();
                return Ok(None);
            }
            Ok(Some(Err(failure))) | Err(failure) => failure,
            Ok(None) => Failure::new(state::INTERNAL, "the query ended before its last row")
                .with_hint("the engine failed, or nothing was read for longer than flight.idle_timeout_s"),
        };
        self.measured.failed(&failure);
        Err(failure)
    }
}

impl<G> Drop for Answer<G> {
    fn drop(&mut self) {
        self.measured.rows(self.rows.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, DictionaryArray, ListArray, StringArray, StringViewArray, types::UInt16Type};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn views_and_dictionaries_are_sent_as_what_is_in_them() {
        let names: DictionaryArray<UInt16Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        let texts = StringViewArray::from(vec![Some("a text that is longer than a view"), Some(""), None]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), None, Some(vec![])]);
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(names) as ArrayRef),
            ("text", Arc::new(texts) as ArrayRef),
            ("list", Arc::new(lists) as ArrayRef),
        ])
        .unwrap();
        let schema = with_epoch(&sent_schema(&batch.schema()), 7);
        let found = fit(&batch, &schema).unwrap();
        let kinds: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        assert_eq!(kinds[..2], [&DataType::Utf8, &DataType::Utf8]);
        assert_eq!(schema.metadata()[EPOCH], "7");
        assert_eq!(found.column(0).as_string::<i32>(), &StringArray::from(vec![Some("a"), None, Some("a")]));
        assert_eq!(found.column(1).as_string::<i32>().value(0), "a text that is longer than a view");
        assert!(found.column(1).is_null(2) && found.column(2).is_null(1));
    }
}
