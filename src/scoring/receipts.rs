//! Receipts: what is kept of a decision, so that it can be computed again.
//!
//! A row of `gold.predictions` holds what went in (the transaction as it was sent, what was known of the past, the version of
//! the model) and what came out. The former are texts in JSON, whose numbers are the shortest that give the same bits
//! again: the contract and the SQL files may change, and the table stays the same.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Date32Builder, Float64Builder, Int32Builder,
    Int64Builder, RecordBatch, StringBuilder, StructArray, TimestampMicrosecondBuilder, UInt32Array,
};
use arrow::compute::{concat, concat_batches, take_record_batch};
use arrow::datatypes::{
    DataType, Field, Fields, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::json::{LineDelimitedWriter, ReaderBuilder, WriterBuilder};
use serde::Serializer;

use super::pipeline::CHUNK_ROWS;
use super::scores::Chunk;
use super::{Reasons, Role, RuleScore, Scorer, Scores, ScoringPipeline};
use crate::domain::schema;
use crate::lake::{Encoding, TableSpec, predictions_table};

const DATE: &str = "prediction_date";
/// Place is made for so many bytes of a column at most before they are there.
const PLACE_BYTES_MAX: usize = 1 << 20;

/// The table of receipts.
#[must_use]
pub fn receipts_table() -> TableSpec {
    TableSpec {
        name: predictions_table(),
        schema: receipts_schema(),
        later: Vec::new(),
        partition_by: vec![DATE.to_owned()],
        about: "One row for each transaction that was scored by request: the decision, and all that it was made from. Where the role is shadow, nobody was answered."
            .into(),
        encoding: Encoding::default(),
    }
}

fn receipts_schema() -> SchemaRef {
    let field = |name: &str, kind: DataType, nullable: bool| Field::new(name, kind, nullable);
    Arc::new(Schema::new(vec![
        field("prediction_id", DataType::Utf8, false),
        field("transaction_id", DataType::Utf8, false),
        field("predicted_at", schema::timestamp(), false),
        field("decided_by", DataType::Utf8, false),
        field("is_fraud", DataType::Boolean, false),
        field("fraud_probability", DataType::Float64, true),
        field("threshold", DataType::Float64, false),
        field("rule_score", DataType::Int32, true),
        field("rule_class", DataType::Utf8, true),
        field("rule_reasons", DataType::Utf8, true),
        field("degraded_reason", DataType::Utf8, true),
        field("model", DataType::Utf8, true),
        field("model_version", DataType::Utf8, true),
        field("model_blake3", DataType::Utf8, true),
        field("features_epoch", DataType::Int64, false),
        field("sent", DataType::Utf8, false),
        field("known", DataType::Utf8, false),
        field("features", DataType::Utf8, true),
        field("sql_blake3", DataType::Utf8, false),
        field("code_version", DataType::Utf8, false),
        field(DATE, DataType::Date32, false),
        // Tables of older versions of assay lack these; in their rows the champion answered.
        field("role", DataType::Utf8, true),
        field("shadow_of", DataType::Utf8, true),
    ]))
}

/// A receipt, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub prediction_id: String,
    pub transaction_id: String,
    pub predicted_at_us: i64,
    pub decided_by: String,
    pub is_fraud: bool,
    pub fraud_probability: Option<f64>,
    pub threshold: f64,
    pub rules: Option<RuleScore<'static>>,
    pub degraded: Option<String>,
    pub model: Option<ModelUsed>,
    pub features_epoch: i64,
    /// The columns of the contract, in JSON.
    pub sent: String,
    /// For each table what its header added; null where it was not known.
    pub known: String,
    /// What the model was asked about, by name; `None` where it was not asked.
    pub features: Option<String>,
    pub sql_blake3: String,
    pub code_version: String,
    /// What the version answered as.
    pub role: String,
    /// The prediction in whose shadow this one was made.
    pub shadow_of: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelUsed {
    pub name: String,
    pub version: String,
    pub blake3: String,
}

/// Lines of JSON: what was sent, a row each.
fn sent_lines(pipeline: &ScoringPipeline, chunks: &[(&Scores, usize, &Chunk)]) -> Result<String, ArrowError> {
    let sent = chunks.iter().map(|(_, _, chunk)| {
        if (0..chunk.sent.num_rows()).eq(chunk.origins.iter().map(|(row, _)| *row as usize)) {
            return Ok(chunk.sent.clone());
        }
        let rows: UInt32Array = chunk.origins.iter().map(|(row, _)| *row).collect();
        take_record_batch(&chunk.sent, &rows)
    });
    let sent = sent.collect::<Result<Vec<_>, _>>()?;
    lines(&concat_batches(&pipeline.contract().arrow_schema(), &sent)?)
}

/// Lines of JSON: what was known of the past, a row each.
fn known_lines(pipeline: &ScoringPipeline, chunks: &[(&Scores, usize, &Chunk)]) -> Result<String, ArrowError> {
    let schema = known_schema(pipeline);
    if schema.fields().is_empty() {
        return Ok("{}\n".repeat(chunks.iter().map(|(_, _, chunk)| chunk.silver.num_rows()).sum()));
    }
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (name, fields) in pipeline.added() {
        let number = pipeline.tables().position(|(table, _)| table == name).unwrap_or(usize::MAX);
        let of_chunk = |chunk: &Chunk| -> Result<Option<ArrayRef>, ArrowError> {
            let Some(table) = chunk.following.get(number) else { return Ok(None) };
            Ok(Some(Arc::new(table.added(&fields)?)))
        };
        let parts: Vec<ArrayRef> =
            chunks.iter().filter_map(|(_, _, chunk)| of_chunk(chunk).transpose()).collect::<Result<_, _>>()?;
        let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
        columns.push(concat(&parts)?);
    }
    lines(&RecordBatch::try_new(schema, columns)?)
}

fn known_schema(pipeline: &ScoringPipeline) -> SchemaRef {
    let fields = pipeline.added().map(|(name, fields)| Field::new(name.to_string(), DataType::Struct(fields), true));
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// One JSON object for each row.
fn lines(rows: &RecordBatch) -> Result<String, ArrowError> {
    let mut writer: LineDelimitedWriter<Vec<u8>> = WriterBuilder::new().with_explicit_nulls(true).build(Vec::new());
    if rows.num_rows() > 0 {
        writer.write(rows)?;
    }
    writer.finish()?;
    String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))
}

fn parsed(schema: SchemaRef, text: &str) -> Result<RecordBatch, ArrowError> {
    let mut rows = ReaderBuilder::new(schema).with_coerce_primitive(false).build(text.as_bytes())?;
    rows.next().unwrap_or_else(|| Err(ArrowError::JsonError("there is no row".to_owned())))
}

impl Receipt {
    /// The row of the contract that was sent.
    ///
    /// # Errors
    /// When the contract is another one now.
    pub fn sent(&self, pipeline: &ScoringPipeline) -> Result<RecordBatch, ArrowError> {
        parsed(pipeline.contract().arrow_schema(), &self.sent)
    }

    /// What was known for each table.
    ///
    /// # Errors
    /// When the headers of the SQL files add other columns now.
    pub fn known(&self, pipeline: &ScoringPipeline) -> Result<Vec<(String, StructArray)>, ArrowError> {
        let schema = known_schema(pipeline);
        if schema.fields().is_empty() {
            return Ok(Vec::new());
        }
        let rows = parsed(Arc::clone(&schema), &self.known)?;
        let columns = schema.fields().iter().zip(rows.columns());
        Ok(columns.map(|(field, column)| (field.name().clone(), column.as_struct().clone())).collect())
    }

    /// The receipts in rows of [`receipts_table`], with its columns in any order.
    #[must_use]
    pub fn read(rows: &RecordBatch) -> Vec<Self> {
        (0..rows.num_rows()).filter_map(|row| Self::of(rows, row)).collect()
    }

    fn of(rows: &RecordBatch, row: usize) -> Option<Self> {
        let column = |name: &str| rows.column_by_name(name).filter(|column| !column.is_null(row));
        let text = |name: &str| column(name).and_then(|column| text_at(column, row));
        let number = |name: &str| Some(column(name)?.as_primitive_opt::<Float64Type>()?.value(row));
        let flag = |name: &str| Some(column(name)?.as_any().downcast_ref::<BooleanArray>()?.value(row));
        Some(Self {
            prediction_id: text("prediction_id")?,
            transaction_id: text("transaction_id")?,
            predicted_at_us: column("predicted_at")?.as_primitive_opt::<TimestampMicrosecondType>()?.value(row),
            decided_by: text("decided_by")?,
            is_fraud: flag("is_fraud")?,
            fraud_probability: number("fraud_probability"),
            threshold: number("threshold")?,
            rules: column("rule_score").and_then(|scores| {
                Some(RuleScore {
                    score: scores.as_primitive_opt::<Int32Type>()?.value(row),
                    class: text("rule_class").unwrap_or_default().into(),
                    reasons: Reasons::new(text("rule_reasons").unwrap_or_default()),
                })
            }),
            degraded: text("degraded_reason"),
            model: text("model").and_then(|name| {
                Some(ModelUsed { name, version: text("model_version")?, blake3: text("model_blake3")? })
            }),
            features_epoch: column("features_epoch")?.as_primitive_opt::<Int64Type>()?.value(row),
            sent: text("sent")?,
            known: text("known")?,
            features: text("features"),
            sql_blake3: text("sql_blake3")?,
            code_version: text("code_version")?,
            role: text("role").unwrap_or_else(|| Role::Champion.as_str().to_owned()),
            shadow_of: text("shadow_of"),
        })
    }
}

/// DataFusion reads texts as views.
fn text_at(column: &ArrayRef, row: usize) -> Option<String> {
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Some(column.as_string_view().value(row).to_owned()),
        _ => None,
    }
}

/// Receipts in the making.
#[derive(Debug, Default)]
pub struct ReceiptRows {
    prediction_id: StringBuilder,
    transaction_id: StringBuilder,
    predicted_at: TimestampMicrosecondBuilder,
    decided_by: StringBuilder,
    is_fraud: BooleanBuilder,
    probability: Float64Builder,
    threshold: Float64Builder,
    rule_score: Int32Builder,
    rule_class: StringBuilder,
    rule_reasons: StringBuilder,
    degraded: StringBuilder,
    model: StringBuilder,
    model_version: StringBuilder,
    model_blake3: StringBuilder,
    features_epoch: Int64Builder,
    sent: StringBuilder,
    known: StringBuilder,
    features: StringBuilder,
    date: Date32Builder,
    role: StringBuilder,
    shadow_of: StringBuilder,
}

impl ReceiptRows {
    /// Adds the receipts of what was scored: all of them, or none.
    ///
    /// # Errors
    /// When a value cannot be written as JSON.
    pub fn extend(&mut self, scorer: &Scorer, all: &[Arc<Scores>]) -> Result<(), ArrowError> {
        let chunks: Vec<(&Scores, usize, &Chunk)> = all
            .iter()
            .flat_map(|scores| {
                scores.chunks().iter().enumerate().map(move |(number, chunk)| (&**scores, number, chunk))
            })
            .collect();
        let sent = sent_lines(&scorer.pipeline, &chunks)?;
        let known = known_lines(&scorer.pipeline, &chunks)?;
        let mut texts = sent.lines().zip(known.lines());
        for (scores, number, chunk) in &chunks {
            for row in 0..chunk.silver.num_rows() {
                let Some((sent, known)) = texts.next() else { break };
                self.push(scorer, scores, *number, row, sent, known);
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.date.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, scorer: &Scorer, scores: &Scores, chunk: usize, row: usize, sent: &str, known: &str) {
        let Some(told) = scorer.prediction(scores, chunk, row) else { return };
        self.prediction_id.append_value(scores.prediction_id(chunk, row));
        self.transaction_id.append_value(&told.transaction_id);
        self.predicted_at.append_value(scores.now_us);
        self.decided_by.append_value(told.decided_by.as_str());
        self.is_fraud.append_value(told.is_fraud);
        self.probability.append_option(told.fraud_probability);
        self.threshold.append_value(told.threshold);
        self.rule_score.append_option(told.rules.as_ref().map(|rules| rules.score));
        self.rule_class.append_option(told.rules.as_ref().map(|rules| &rules.class));
        self.rule_reasons.append_option(told.rules.as_ref().map(|rules| rules.reasons.as_str()));
        self.degraded.append_option(told.degraded.as_deref());
        let model = scores.model.as_ref();
        self.model.append_option(model.map(|model| model.name.as_str()));
        self.model_version.append_option(model.map(|model| model.version.as_str()));
        self.model_blake3.append_option(model.map(|model| model.blake3.as_str()));
        self.features_epoch.append_value(scores.standing.epoch);
        self.sent.append_value(sent);
        self.known.append_value(known);
        self.features.append_option(features_text(scores, chunk, row));
        self.role.append_value(scores.role.as_str());
        self.shadow_of.append_option(scores.shadow_of(chunk, row));
        self.date.append_value(i32::try_from(scores.now_us.div_euclid(86_400_000_000)).unwrap_or_default());
    }

    /// Those that were added since the last time, as rows of [`receipts_table`].
    ///
    /// # Errors
    /// When they do not fit the table: an error of assay.
    pub fn finish(&mut self, pipeline: &ScoringPipeline) -> Result<RecordBatch, ArrowError> {
        let rows = self.len();
        let repeated = |text: &str| -> ArrayRef {
            let mut texts = StringBuilder::with_capacity(rows, rows * text.len());
            (0..rows).for_each(|_| texts.append_value(text));
            Arc::new(texts.finish())
        };
        // The next rows will be about as long as these.
        let text = |texts: &mut StringBuilder| -> ArrayRef {
            let bytes = texts.values_slice().len();
            let place = (bytes + bytes / 8).min(PLACE_BYTES_MAX);
            let next = StringBuilder::with_capacity(rows.min(CHUNK_ROWS), place);
            Arc::new(std::mem::replace(texts, next).finish())
        };
        let columns: Vec<ArrayRef> = vec![
            text(&mut self.prediction_id),
            text(&mut self.transaction_id),
            Arc::new(self.predicted_at.finish().with_timezone("UTC")),
            text(&mut self.decided_by),
            Arc::new(self.is_fraud.finish()),
            Arc::new(self.probability.finish()),
            Arc::new(self.threshold.finish()),
            Arc::new(self.rule_score.finish()),
            text(&mut self.rule_class),
            text(&mut self.rule_reasons),
            text(&mut self.degraded),
            text(&mut self.model),
            text(&mut self.model_version),
            text(&mut self.model_blake3),
            Arc::new(self.features_epoch.finish()),
            text(&mut self.sent),
            text(&mut self.known),
            text(&mut self.features),
            repeated(pipeline.sql_blake3()),
            repeated(env!("CARGO_PKG_VERSION")),
            Arc::new(self.date.finish()),
            text(&mut self.role),
            text(&mut self.shadow_of),
        ];
        RecordBatch::try_new(receipts_schema(), columns)
    }
}

/// What the model was asked about a row, by name; a value that is missing is null.
pub(super) fn features_text(scores: &Scores, chunk: usize, row: usize) -> Option<String> {
    let (model, values) = (scores.model.as_ref()?, scores.features(chunk, row)?);
    // Doubles: what is not finite is null.
    let named = model.features().iter().zip(values.iter().map(|value| f64::from(*value)));
    let mut text = Vec::with_capacity(model.width() * 24);
    serde_json::Serializer::new(&mut text).collect_map(named).ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests;
