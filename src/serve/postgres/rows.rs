//! Rows on their way to a client: computed on the engine's threads, encoded here, stopped by the client, the clock or a bound.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_pg::datatypes::{field_into_pg_type, into_pg_type};
use arrow_pg::row_encoder::RowEncoder;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldInfo, QueryResponse};
use pgwire::error::PgWireResult;
use pgwire::messages::data::DataRow;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::failure::{Failure, state};
use crate::query::{Task, flat_schema, flatten};
use crate::serve::sql::engine::Engine;
use crate::serve::sql::information::is_json;
use crate::serve::sql::measured::{Measured, Protocol};
use crate::serve::sql::running::{BATCHES_AHEAD, Wait, in_turns};

/// The columns of an answer: as they are computed, and as they are sent.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    fields: Arc<Vec<FieldInfo>>,
    /// Nested values are JSON text, and types that PostgreSQL has not are those nearest.
    sent: SchemaRef,
}

impl Columns {
    pub fn of(schema: &Schema, format: &Format) -> Result<Self, Failure> {
        let count = schema.fields().len();
        check_formats(format, count)?;
        let flat = flat_schema(schema, is_json);
        let mut sent = Vec::with_capacity(count);
        let mut fields = Vec::with_capacity(count);
        for (at, (field, flat)) in schema.fields().iter().zip(flat.fields()).enumerate() {
            let (flat, kind) = match field_into_pg_type(flat) {
                _ if is_json(field.data_type()) => (Arc::clone(flat), Type::JSON),
                Ok(kind) => (Arc::clone(flat), kind),
                Err(_) => (Arc::new(Field::new(flat.name(), DataType::Utf8, true)), Type::TEXT),
            };
            let modifier = match flat.data_type() {
                DataType::Decimal128(precision, scale) => (i32::from(*precision) << 16 | i32::from(*scale)) + 4,
                _ => -1,
            };
            let info = FieldInfo::new(flat.name().clone(), None, None, kind.clone(), format.format_for(at));
            fields.push(info.with_type_size(size(&kind)).with_type_modifier(modifier));
            sent.push(flat);
        }
        Ok(Self { fields: Arc::new(fields), sent: Arc::new(Schema::new(sent)) })
    }

    /// The same columns in another format.
    pub fn with_format(&self, format: &Format) -> Result<Self, Failure> {
        check_formats(format, self.fields.len())?;
        let field = |(at, field): (usize, &FieldInfo)| {
            let sent =
                FieldInfo::new(field.name().to_owned(), None, None, field.datatype().clone(), format.format_for(at));
            sent.with_type_size(field.type_size()).with_type_modifier(field.type_modifier())
        };
        let fields = self.fields.iter().enumerate().map(field).collect();
        Ok(Self { fields: Arc::new(fields), sent: Arc::clone(&self.sent) })
    }

    pub fn fields(&self) -> &Arc<Vec<FieldInfo>> {
        &self.fields
    }

    /// Whether a client that was told of the one can read the other.
    pub fn is_same(&self, other: &Self) -> bool {
        let told = |columns: &Self| -> Vec<(String, Type)> {
            columns.fields.iter().map(|field| (field.name().to_owned(), field.datatype().clone())).collect()
        };
        told(self) == told(other)
    }

    fn encoder(&self, batch: &RecordBatch) -> Result<RowEncoder, ArrowError> {
        let flat = flatten(batch, &flat_schema(&batch.schema(), is_json))?;
        let told = self.sent.fields().iter().zip(flat.columns()).zip(self.fields.iter());
        let columns = told.map(|((field, column), info)| {
            // The engine may choose another layout of a type; another type would be read wrongly by the client.
            let is_readable = info.datatype() == &Type::JSON
                || into_pg_type(column.data_type()).is_ok_and(|kind| kind == *info.datatype());
            let is_tagged = !field.metadata().is_empty();
            if is_readable || is_tagged && column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let fields = self.sent.fields().iter().zip(&columns);
        let fields = fields.map(|(field, column)| {
            field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(true)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        Ok(RowEncoder::new(batch, Arc::clone(&self.fields)))
    }
}

fn check_formats(format: &Format, columns: usize) -> Result<(), Failure> {
    match format {
        Format::Individual(formats) if formats.len() != columns => {
            let told = format!("bind message has {} result formats but query has {columns} columns", formats.len());
            Err(Failure::new(state::PROTOCOL, told))
        }
        _ => Ok(()),
    }
}

fn size(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// A planned question, ready to run.
pub(super) struct Run {
    pub engine: Arc<Engine>,
    pub runtime: Handle,
    /// How many compute at a time.
    pub turns: Arc<Semaphore>,
    pub sql: String,
    pub context: SessionContext,
    pub plan: LogicalPlan,
    pub columns: Columns,
    pub wait: Wait,
    pub rows_max: u64,
    pub measured: Measured,
}

type Produced = Result<Option<RecordBatch>, DataFusionError>;

impl Run {
    /// Begins; the first rows, or what is wrong, are there when this returns.
    pub async fn start(self) -> Result<QueryResponse, Failure> {
        let Self { engine, runtime, turns, sql, context, plan, columns, wait, rows_max, measured } = self;
        let (sender, batches) = mpsc::channel::<Produced>(BATCHES_AHEAD);
        let frame = DataFrame::new(context.state(), plan);
        let producer = Task(runtime.spawn(produce(frame, turns, sender)));
        let fields = Arc::clone(columns.fields());
        let mut rows = Rows {
            columns,
            batches,
            _producer: producer,
            current: None,
            wait,
            rows: 0,
            rows_max,
            measured,
            engine,
            sql,
            context,
        };
        // What fails at once is told in the place of a description of columns.
        rows.current = rows.next_batch().await?;
        let stream = futures::stream::unfold(Some(rows), |rows| async {
            let mut rows = rows?;
            match rows.next().await {
                Some(Ok(row)) => Some((Ok(row), Some(rows))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        Ok(QueryResponse::new(fields, stream))
    }
}

async fn produce(frame: DataFrame, turns: Arc<Semaphore>, sender: mpsc::Sender<Produced>) {
    let mut batches = std::pin::pin!(in_turns(frame, turns));
    loop {
        let batch = batches.next().await;
        // An explicit end: a channel that just closes is an engine that failed.
        let is_over = !matches!(batch, Some(Ok(_)));
        if sender.send(batch.transpose()).await.is_err() || is_over {
            return;
        }
    }
}

struct Rows {
    columns: Columns,
    batches: mpsc::Receiver<Produced>,
    _producer: Task<()>,
    current: Option<RowEncoder>,
    wait: Wait,
    rows: u64,
    rows_max: u64,
    measured: Measured,
    engine: Arc<Engine>,
    sql: String,
    context: SessionContext,
}

impl Rows {
    async fn next(&mut self) -> Option<PgWireResult<DataRow>> {
        loop {
            if let Some(row) = self.current.as_mut()?.next_row() {
                if self.rows_max > 0 && self.rows >= self.rows_max {
                    let failure = Failure::too_many_rows(self.rows_max, Protocol::Postgres);
                    self.measured.failed(&failure);
                    return Some(Err(failure.into()));
                }
                self.rows += 1;
                self.measured.rows(1);
                return Some(row);
            }
            match self.next_batch().await {
                Ok(next) => self.current = next,
                Err(failure) => return Some(Err(failure.into())),
            }
        }
    }

    /// `None` after the last.
    async fn next_batch(&mut self) -> Result<Option<RowEncoder>, Failure> {
        let batch = match self.wait.until(self.batches.recv()).await {
            Ok(Some(Ok(Some(batch)))) => self.columns.encoder(&batch).map_err(DataFusionError::from),
            Ok(Some(Ok(None))) => {
                self.measured.done();
                return Ok(None);
            }
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(DataFusionError::Internal("the query ended before its last row".to_owned())),
            Err(failure) => {
                self.measured.failed(&failure);
                return Err(failure);
            }
        };
        match batch {
            Ok(encoder) => Ok(Some(encoder)),
            Err(error) => {
                let failure = self.engine.explain(&error, &self.sql, &self.context, false).await;
                self.measured.failed(&failure);
                Err(failure)
            }
        }
    }
}
