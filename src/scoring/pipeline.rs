//! The SQL files of a pipeline, compiled for transactions that come by request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::sql::parser::DFParser;

use super::training_set::{lineage, with_added};
use super::{Added, FeatureSource, ScoringError};
use crate::contract::{Contract, Decoded, Decoder, Format, LocalSchemas};
use crate::domain::{MessageBatchBuilder, TableName, schema};
use crate::pipeline::Plan;
use crate::refine::{Lineage, RowsTable, Screened, Screening};

/// Rows that are computed together.
pub const CHUNK_ROWS: usize = 4096;
/// Decoders that are kept for the next request.
const DECODERS_MAX: usize = 64;
/// In the place of a topic.
const SOURCE: &str = "request";

/// Contract, silver and the tables that follow from it row by row.
pub struct ScoringPipeline {
    contract: Arc<Contract>,
    bronze: SchemaRef,
    /// Columns of provenance that are the same for every request, [`CHUNK_ROWS`] long.
    constants: Vec<ArrayRef>,
    silver: Screening,
    tables: Vec<Following>,
    decoders: Mutex<Vec<Decoder>>,
    /// The fields of the contract that each expectation looks at.
    fields: BTreeMap<String, Vec<String>>,
    key: usize,
    stand_ins: StandIns,
    sql_blake3: String,
}

/// The fields of the contract that a transaction which has not happened yet may lack; `None` where silver makes its key or
/// its event time of something else than one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandIns {
    pub key: Option<String>,
    pub event_time: Option<String>,
}

/// A table that follows from silver row by row.
pub struct Following {
    pub name: TableName,
    rows: RowsTable,
    /// Silver, and what the header adds to it.
    source: SchemaRef,
    /// Columns of silver among them.
    own: usize,
}

/// Rows of a table that follows, and whether all that was added to a row could be told.
#[derive(Debug, Clone)]
pub struct Followed {
    pub rows: RecordBatch,
    /// What the header added, in its order.
    added: Vec<ArrayRef>,
    /// Why it could not for some rows; `None` when it could for all.
    missing: Option<String>,
    /// The rows for which it could not; empty when that is none.
    unknown: Vec<bool>,
}

impl Followed {
    /// Rows of the stream: all is known that was added to them.
    pub(super) fn known(rows: RecordBatch) -> Self {
        Self { rows, added: Vec::new(), missing: None, unknown: Vec::new() }
    }

    /// Why not all is known that was added to a row; `None` when it is.
    #[must_use]
    pub fn lacks(&self, row: usize) -> Option<&str> {
        let lacks = self.unknown.get(row).copied().unwrap_or(false);
        lacks.then(|| self.missing.as_deref().unwrap_or_default())
    }

    /// Some of the rows, by number; `numbers` are the same.
    pub(super) fn take(&self, rows: &[usize], numbers: &UInt32Array) -> Result<Self, ArrowError> {
        let unknown = if self.unknown.is_empty() {
            Vec::new()
        } else {
            rows.iter().map(|row| self.unknown.get(*row) == Some(&true)).collect()
        };
        let added = self.added.iter().map(|column| take(column, numbers, None)).collect::<Result<_, _>>()?;
        Ok(Self { rows: take_record_batch(&self.rows, numbers)?, added, missing: self.missing.clone(), unknown })
    }

    /// What was added to the rows, in the order of [`ScoringPipeline::added`]; a row of which not all is known has none.
    pub(super) fn added(&self, fields: &Fields) -> Result<StructArray, ArrowError> {
        let known =
            (!self.unknown.is_empty()).then(|| NullBuffer::from_iter(self.unknown.iter().map(|unknown| !unknown)));
        StructArray::try_new(fields.clone(), self.added.clone(), known)
    }
}

impl ScoringPipeline {
    /// Compiles the SQL of `plan`. A label that the training sets learn from need not be sent: it is not known yet.
    ///
    /// # Errors
    /// When a SQL file does not fit its source, with file and line.
    pub fn compile(plan: &Plan, contract: &Contract) -> Result<Self, ScoringError> {
        let references = &plan.catalog.references;
        let lineage = lineage(plan)?;
        let silver = Screening::compile(&plan.silver, &plan.bronze_schema, references)?;
        let mut tables = Vec::new();
        for def in &plan.rows {
            let own = silver.schema().fields().len();
            let source = with_unknown(&with_added(def, silver.schema())?, own);
            let rows = RowsTable::compile(def, &source, references)?;
            tables.push(Following { name: def.table.clone(), rows, source, own });
        }
        let labels = plan.catalog.training.iter().map(|set| set.label.as_str());
        let labels = labels.filter(|label| silver.schema().column_with_name(label).is_some());
        let sent = labels.flat_map(|label| lineage.of(&plan.silver.table, label));
        let optional: Vec<String> =
            sent.filter(|origin| origin.table == plan.bronze).map(|origin| origin.column).collect();
        let contract = contract.with_false_defaults(&optional);
        let key = plan.silver.key.first().and_then(|key| silver.schema().index_of(key).ok());
        let key = key.ok_or_else(|| ScoringError::Contract(format!("{}: silver needs a `key`", plan.silver.file)))?;
        Ok(Self {
            contract: Arc::new(contract),
            bronze: Arc::clone(&plan.bronze_schema),
            constants: constants(),
            fields: fields_of(plan, &lineage),
            silver,
            tables,
            decoders: Mutex::default(),
            key,
            stand_ins: stand_ins(plan, &lineage),
            sql_blake3: sql_blake3(plan),
        })
    }

    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The columns of silver.
    #[must_use]
    pub fn silver(&self) -> (&TableName, &SchemaRef) {
        (self.silver.table(), self.silver.schema())
    }

    /// The tables that follow, with their columns.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = (&TableName, &SchemaRef)> {
        self.tables.iter().map(|table| (&table.name, table.rows.schema()))
    }

    /// What the headers of these tables add to rows of silver.
    pub fn added(&self) -> impl Iterator<Item = (&TableName, Fields)> {
        let tables = self.tables.iter().filter(|table| table.source.fields().len() > table.own);
        tables.map(|table| (&table.name, table.source.fields().iter().skip(table.own).cloned().collect()))
    }

    /// Of the SQL files that transactions go through, in hexadecimal.
    #[must_use]
    pub fn sql_blake3(&self) -> &str {
        &self.sql_blake3
    }

    /// The column of silver that identifies a transaction.
    #[must_use]
    pub fn key(&self) -> usize {
        self.key
    }

    /// The fields of the contract that a question may leave to the server.
    #[must_use]
    pub fn stand_ins(&self) -> &StandIns {
        &self.stand_ins
    }

    /// The fields of the contract that an expectation looks at, sorted.
    #[must_use]
    pub fn fields_of(&self, expectation: &str) -> &[String] {
        self.fields.get(expectation).map_or(&[], Vec::as_slice)
    }

    /// Decodes JSON objects by the contract.
    #[must_use]
    pub fn decode<'a>(&self, payloads: impl ExactSizeIterator<Item = &'a [u8]>) -> Decoded {
        let mut messages = MessageBatchBuilder::with_capacity(payloads.len(), payloads.len() * 256);
        for (offset, payload) in (0..).zip(payloads) {
            messages.push(SOURCE, 0, offset, None, None, Some(payload), Vec::new());
        }
        let decoders = || self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut decoder = decoders().pop().unwrap_or_else(|| {
            let lookup = Box::new(LocalSchemas::new(Arc::clone(&self.contract)));
            Decoder::new(Arc::clone(&self.contract), Format::Json, lookup)
        });
        let decoded = decoder.decode(&messages.finish());
        let mut kept = decoders();
        if kept.len() < DECODERS_MAX {
            kept.push(decoder);
        }
        drop(kept);
        #[expect(clippy::expect_used, reason = "JSON asks no registry")]
        decoded.expect("JSON asks no registry")
    }

    /// Silver of rows with the contract's columns, at most [`CHUNK_ROWS`] of them.
    ///
    /// # Errors
    /// When the rows do not have the contract's columns.
    pub fn refine(&self, rows: &RecordBatch, now_us: i64) -> Result<Screened, ScoringError> {
        let count = rows.num_rows();
        let mut columns = rows.columns().to_vec();
        columns.extend(self.constants.iter().map(|column| column.slice(0, count)));
        let day = i32::try_from(now_us.div_euclid(86_400_000_000)).unwrap_or_default();
        columns.push(Arc::new(TimestampMicrosecondArray::from_value(now_us, count).with_timezone("UTC")));
        columns.push(Arc::new(Int64Array::from_value(0, count)));
        columns.push(Arc::new(Date32Array::from_value(day, count)));
        let bronze = RecordBatch::try_new(Arc::clone(&self.bronze), columns)
            .map_err(|error| ScoringError::Contract(error.to_string()))?;
        Ok(self.silver.screen(&bronze)?)
    }

    /// The rows that follow from rows of silver, in the order of [`ScoringPipeline::tables`].
    ///
    /// # Errors
    /// When an expression fails on a row.
    pub fn follow(&self, silver: &RecordBatch, features: &dyn FeatureSource) -> Result<Vec<Followed>, ScoringError> {
        self.tables.iter().map(|table| table.follow(silver, features)).collect()
    }
}

impl Following {
    fn follow(&self, silver: &RecordBatch, features: &dyn FeatureSource) -> Result<Followed, ScoringError> {
        let rows = silver.num_rows();
        let unfit = |problem: String| ScoringError::Contract(format!("{}: {problem}", self.name));
        let mut columns = silver.columns().to_vec();
        let (mut missing, mut unknown) = (None, Vec::new());
        let added = self.source.fields().get(self.own..).unwrap_or_default();
        if !added.is_empty() {
            let told = features.added(&self.name, silver).and_then(|told| {
                let all = told.columns.len() == added.len();
                if all { Ok(told) } else { Err(format!("not all that {} counts is kept for requests", self.name)) }
            });
            let told = told.unwrap_or_else(|cause| {
                missing = Some(cause);
                let nulls = added.iter().map(|field| new_null_array(field.data_type(), rows)).collect();
                Added { columns: nulls, unknown: vec![true; rows] }
            });
            if told.unknown.contains(&true) {
                missing.get_or_insert_with(|| NOT_HELD.to_owned());
            }
            unknown = told.unknown;
            columns.extend(told.columns);
        }
        let kept = columns.get(self.own..).unwrap_or_default().to_vec();
        let source =
            RecordBatch::try_new(Arc::clone(&self.source), columns).map_err(|error| unfit(error.to_string()))?;
        Ok(Followed { rows: self.rows.evaluate(&source)?, added: kept, missing, unknown })
    }
}

impl std::fmt::Debug for ScoringPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScoringPipeline").field("silver", &self.silver.table()).finish_non_exhaustive()
    }
}

const NOT_HELD: &str = "the transaction is older than the past that is held in memory";

/// Counts may be NULL here: what is not in memory is not known.
fn with_unknown(counted: &SchemaRef, source: usize) -> SchemaRef {
    let field = |(index, field): (usize, &Arc<Field>)| {
        if index < source { Arc::clone(field) } else { Arc::new(field.as_ref().clone().with_nullable(true)) }
    };
    Arc::new(Schema::new(counted.fields().iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// Where a row comes from, up to the time of its ingestion.
fn constants() -> Vec<ArrayRef> {
    let fields = schema::provenance();
    let constant = |name: &str, kind: &DataType| -> Option<ArrayRef> {
        Some(match name {
            schema::SOURCE_TOPIC => Arc::new(StringArray::from(vec![SOURCE; CHUNK_ROWS])),
            schema::SOURCE_PARTITION => Arc::new(Int32Array::from_value(0, CHUNK_ROWS)),
            schema::SOURCE_OFFSET => Arc::new((0..CHUNK_ROWS as i64).collect::<Int64Array>()),
            schema::INGESTED_AT | schema::EPOCH | schema::PROCESSING_DATE => return None,
            _ => new_null_array(kind, CHUNK_ROWS),
        })
    };
    fields.iter().filter_map(|field| constant(field.name(), field.data_type())).collect()
}

/// Headers count: a feature is a line of one.
fn sql_blake3(plan: &Plan) -> String {
    let mut hasher = blake3::Hasher::new();
    for def in std::iter::once(&plan.silver).chain(&plan.rows) {
        let features: Vec<String> = def.features.iter().map(|feature| format!("{feature:?}")).collect();
        let header = (&def.expectations, &def.trailing, features);
        hasher.update(format!("{} {header:?} {}\n", def.table, def.sql).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn stand_ins(plan: &Plan, lineage: &Lineage) -> StandIns {
    let text = |column: &str| {
        let mut origins = lineage.of(&plan.silver.table, column).into_iter();
        let (Some(one), None) = (origins.next(), origins.next()) else { return None };
        let field = plan.bronze_schema.field_with_name(&one.column).ok()?;
        (one.table == plan.bronze && *field.data_type() == DataType::Utf8).then_some(one.column)
    };
    let key = match plan.silver.key.as_slice() {
        [key] => text(key),
        _ => None,
    };
    StandIns { key, event_time: text(plan.event_time()) }
}

/// Which fields of the contract each expectation of silver looks at.
fn fields_of(plan: &Plan, lineage: &Lineage) -> BTreeMap<String, Vec<String>> {
    let tables = [plan.silver.table.clone(), plan.bronze.clone()];
    let sent = |name: &String| plan.bronze_schema.column_with_name(name).is_some();
    let added: Vec<String> = schema::provenance().iter().map(|field| field.name().clone()).collect();
    let fields = plan.silver.expectations.iter().map(|expectation| {
        let names = names_in(&expectation.check);
        let origins = lineage.of_names(&tables, names.iter().map(String::as_str));
        let mut fields: Vec<String> = origins.into_iter().map(|origin| origin.column).collect();
        fields.retain(|field| sent(field) && !added.contains(field));
        (expectation.name.clone(), fields)
    });
    fields.collect()
}

/// The names in an expression: columns, and what is none of them harmlessly.
fn names_in(check: &str) -> Vec<String> {
    use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};
    let Ok(parsed) = DFParser::parse_sql_into_expr(check) else { return Vec::new() };
    let mut names = Vec::new();
    let _ = visit_expressions(&parsed.expr, |expression| {
        match expression {
            Expr::Identifier(name) => names.push(name.value.clone()),
            Expr::CompoundIdentifier(parts) => names.extend(parts.last().map(|part| part.value.clone())),
            _ => {}
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    names
}
