//! Many transactions in one request: JSON in and out, or Arrow.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, RecordBatch, RecordBatchOptions, StringBuilder,
    new_null_array,
};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rayon::prelude::*;

use super::Problem;
use super::asking::{Asking, Came};
use super::body::{ARROW, BodyKind, LINES, elements, lines};
use super::counts::{Counted, Counts};
use super::predictions::{Answered, push_item};
use super::traced::Traced;
use crate::contract::Decoded;
use crate::scoring::{CHUNK_ROWS, Item, Scores, ScoringError, Served};
use crate::telemetry::Metrics;

/// A transaction's answer in Arrow is about so long.
const ANSWER_BYTES: usize = 192;

/// What a batch is scored with.
pub(super) struct Bulk<'a> {
    pub asking: &'a Asking,
    pub rows_max: usize,
    /// The version that is to answer, where one was named.
    pub pin: Option<&'a Arc<Served>>,
    pub traced: Option<&'a Traced>,
}

/// What was said of transactions that were scored together.
struct Scored {
    all: Vec<Arc<Scores>>,
    /// For each transaction, in the order in which they came, its scores and its item.
    order: Vec<(usize, usize)>,
}

impl Bulk<'_> {
    /// Scores a body. Blocking, for a thread of its own.
    pub(super) fn score(&self, kind: BodyKind, body: &Bytes, contributions: usize) -> Result<Response, Problem> {
        match kind {
            BodyKind::Arrow => score_arrow(self, body),
            BodyKind::Json => {
                let items = elements(body).map_err(|cause| bad(format!("the body is no JSON array: {cause}")))?;
                score_json(self, &items, contributions, false)
            }
            BodyKind::Lines => score_json(self, &lines(body), contributions, true),
        }
    }

    fn scored(&self, decoded: Decoded) -> Result<Scored, ScoringError> {
        let parts = self.asking.scorer.prepare(decoded, |_| self.pin)?;
        let all: Vec<Arc<Scores>> = parts.into_iter().flat_map(|part| self.asking.ask(part, Came::InBatch)).collect();
        if let Some(traced) = self.traced {
            all.iter().for_each(|scores| traced.scored(scores));
        }
        let mut order = vec![(0, 0); all.iter().map(|scores| scores.items.len()).sum()];
        for (number, scores) in all.iter().enumerate() {
            for (item, place) in scores.places.iter().enumerate() {
                if let Some(at) = order.get_mut(*place) {
                    *at = (number, item);
                }
            }
        }
        Ok(Scored { all, order })
    }
}

impl Scored {
    /// In the order in which they came, with the number of their scores.
    fn items(&self) -> impl Iterator<Item = (usize, &Arc<Scores>, &Item)> {
        self.order.iter().filter_map(|(number, item)| {
            let scores = self.all.get(*number)?;
            Some((*number, scores, scores.items.get(*item)?))
        })
    }

    fn counts(&self) -> Vec<Counts> {
        self.all.iter().map(|_| Counts::default()).collect()
    }

    fn tell(&self, metrics: &Metrics, counts: &[Counts]) {
        self.all.iter().zip(counts).for_each(|(scores, counts)| counts.tell(metrics, scores));
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn too_many(rows: usize, rows_max: usize) -> Problem {
    let detail = format!("a batch may have {rows_max} transactions at most, and this one has {rows}");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn not_computed(error: &ScoringError) -> Problem {
    tracing::warn!(%error, "a batch could not be scored");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the batch cannot be computed; the log says more")
        .with("code", "evaluates")
}

fn score_json(bulk: &Bulk<'_>, items: &[&[u8]], contributions: usize, by_line: bool) -> Result<Response, Problem> {
    if items.len() > bulk.rows_max {
        return Err(too_many(items.len(), bulk.rows_max));
    }
    let scorer = &bulk.asking.scorer;
    let parts = items
        .par_chunks(CHUNK_ROWS)
        .map(|items| {
            let parsing_us = bulk.traced.map_or(0, Traced::now_us);
            let decoded = scorer.pipeline.decode(items.iter().copied());
            if let Some(traced) = bulk.traced {
                traced.took("parse", parsing_us);
            }
            let scored = bulk.scored(decoded)?;
            let mut text = Vec::with_capacity(items.len() * 380);
            let mut counts = scored.counts();
            for (place, (number, scores, item)) in scored.items().enumerate() {
                if place > 0 {
                    text.push(if by_line { b'\n' } else { b',' });
                }
                let counted = push_item(scorer, scores, item, contributions, &mut text);
                if let Some(counts) = counts.get_mut(number) {
                    counts.add(counted, item);
                }
            }
            scored.tell(&bulk.asking.metrics, &counts);
            Ok((text, scored.all))
        })
        .collect::<Result<Vec<_>, ScoringError>>()
        .map_err(|error| not_computed(&error))?;
    let mut body = Vec::with_capacity(parts.iter().map(|(text, _)| text.len() + 1).sum::<usize>() + 256);
    if by_line {
        for (text, _) in &parts {
            body.extend_from_slice(text);
            body.push(b'\n');
        }
        return Ok(([(header::CONTENT_TYPE, LINES)], body).into_response());
    }
    body.extend_from_slice(b"{\"results\":[");
    for (place, (text, _)) in parts.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(text);
    }
    body.push(b']');
    if let Some(answered) = Answered::of_all(parts.iter().flat_map(|(_, all)| all).map(AsRef::as_ref)) {
        let answered = serde_json::to_vec(&answered).unwrap_or_default();
        // The members of an object, within another one.
        body.push(b',');
        body.extend_from_slice(answered.get(1..answered.len().saturating_sub(1)).unwrap_or_default());
    }
    body.push(b'}');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The columns of an answer in Arrow: one row for each that came, in its order.
pub(super) fn answer_schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        field("prediction_id", DataType::Utf8),
        field("transaction_id", DataType::Utf8),
        field("fraud_probability", DataType::Float64),
        field("is_fraud", DataType::Boolean),
        field("decided_by", DataType::Utf8),
        field("rule_score", DataType::Int32),
        field("rule_class", DataType::Utf8),
        field("degraded_reason", DataType::Utf8),
        field("error", DataType::Utf8),
        field("error_fields", DataType::Utf8),
        field("role", DataType::Utf8),
        field("model_version", DataType::Utf8),
    ]))
}

fn score_arrow(bulk: &Bulk<'_>, body: &Bytes) -> Result<Response, Problem> {
    let Bulk { asking, rows_max, .. } = *bulk;
    let scorer = &asking.scorer;
    let unreadable = |cause: String| bad(format!("the body is no Arrow IPC stream: {cause}"));
    let contract = scorer.pipeline.contract().arrow_schema();
    let required: Vec<&str> = scorer.pipeline.contract().required().collect();
    // It takes what is there; a reader would set aside what the lengths in the body promise, be it gigabytes.
    let mut decoder = StreamDecoder::new();
    let mut rest = Buffer::from(body.clone());
    let mut batches = Vec::new();
    let mut rows = 0;
    while let Some(batch) = decoder.decode(&mut rest).map_err(|error| unreadable(error.to_string()))? {
        rows += batch.num_rows();
        if rows > rows_max {
            return Err(too_many(rows, rows_max));
        }
        let mut from = 0;
        let whole = in_contract(&batch, &contract, &required)?;
        while from < whole.num_rows() {
            let count = CHUNK_ROWS.min(whole.num_rows() - from);
            batches.push(whole.slice(from, count));
            from += count;
        }
    }
    decoder.finish().map_err(|error| unreadable(error.to_string()))?;
    if decoder.schema().is_none() {
        return Err(unreadable("it has no schema".to_owned()));
    }
    let answers: Result<Vec<RecordBatch>, ScoringError> = batches
        .into_par_iter()
        .map(|rows| {
            let count = rows.num_rows();
            let decoded = Decoded {
                message_of_row: (0..u32::try_from(count).unwrap_or(u32::MAX)).collect(),
                schema_ids: Vec::new(),
                newest_version_rows: false,
                rejected: Vec::new(),
                rows,
            };
            answer(asking, &bulk.scored(decoded)?)
        })
        .collect();
    let answers = answers.map_err(|error| not_computed(&error))?;
    let mut text = Vec::with_capacity(rows * ANSWER_BYTES + 4096);
    let written = StreamWriter::try_new(&mut text, &answer_schema()).and_then(|mut writer| {
        answers.iter().try_for_each(|answer| writer.write(answer))?;
        writer.finish()
    });
    written.map_err(|error| unreadable(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, ARROW)], text).into_response())
}

/// The columns of the contract, by name; what is not sent is NULL, or false where it need not be sent.
fn in_contract(batch: &RecordBatch, contract: &SchemaRef, required: &[&str]) -> Result<RecordBatch, Problem> {
    let rows = batch.num_rows();
    let wrong = |field: &Field, what: String| {
        let name = field.name().clone();
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("field `{name}`: {what}")).with("field", name)
    };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(contract.fields().len());
    for field in contract.fields() {
        let column = match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => cast_with_options(column, field.data_type(), &strict)
                .map_err(|error| wrong(field, format!("expected {}: {error}", field.data_type())))?,
            None if required.contains(&field.name().as_str()) => {
                return Err(wrong(field, "absent, but the contract requires it".to_owned()));
            }
            None if *field.data_type() == DataType::Boolean && !field.is_nullable() => {
                Arc::new(arrow::array::BooleanArray::from(vec![false; rows]))
            }
            None => new_null_array(field.data_type(), rows),
        };
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(wrong(field, "null, but the contract requires a value".to_owned()));
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(contract), columns, &options).map_err(|error| bad(error.to_string()))
}

fn answer(asking: &Asking, scored: &Scored) -> Result<RecordBatch, ScoringError> {
    let (rows, scorer) = (scored.order.len(), &asking.scorer);
    let text = || StringBuilder::with_capacity(rows, rows * 16);
    let (mut predictions, mut ids, mut by, mut class, mut degraded) = (text(), text(), text(), text(), text());
    let (mut errors, mut fields, mut roles, mut versions) = (text(), text(), text(), text());
    let mut probabilities = Float64Builder::with_capacity(rows);
    let mut frauds = BooleanBuilder::with_capacity(rows);
    let mut points = Int32Builder::with_capacity(rows);
    let mut counts = scored.counts();
    for (number, scores, item) in scored.items() {
        let told = match item {
            Item::Scored { chunk, row } => {
                // A builder takes everything, and ends the value that was written with an empty one.
                let _ = scores.write_prediction_id(*chunk, *row, &mut predictions);
                predictions.append_value("");
                scorer.prediction(scores, *chunk, *row)
            }
            Item::Refused(_) => {
                predictions.append_null();
                None
            }
        };
        let counted = told.as_ref().map_or(Counted::Refused, |told| Counted::Scored {
            fraud: told.is_fraud,
            probability: told.fraud_probability,
            degraded: told.degraded.is_some(),
        });
        if let Some(counts) = counts.get_mut(number) {
            counts.add(counted, item);
        }
        roles.append_option(told.as_ref().map(|_| scores.role.as_str()));
        let model = scores.model.as_ref().filter(|_| told.is_some());
        versions.append_option(model.map(|model| model.version.as_str()));
        ids.append_option(told.as_ref().map(|told| told.transaction_id.as_ref()));
        probabilities.append_option(told.as_ref().and_then(|told| told.fraud_probability));
        frauds.append_option(told.as_ref().map(|told| told.is_fraud));
        by.append_option(told.as_ref().map(|told| told.decided_by.as_str()));
        let rules = told.as_ref().and_then(|told| told.rules.as_ref());
        points.append_option(rules.map(|rules| rules.score));
        class.append_option(rules.map(|rules| rules.class.as_ref()));
        degraded.append_option(told.as_ref().and_then(|told| told.degraded.as_deref()));
        let refusal = if let Item::Refused(refusal) = item { Some(refusal) } else { None };
        errors.append_option(refusal.map(|refusal| refusal.detail.as_str()));
        fields.append_option(refusal.map(|refusal| refusal.fields.join(",")));
    }
    scored.tell(&asking.metrics, &counts);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(predictions.finish()),
        Arc::new(ids.finish()),
        Arc::new(probabilities.finish()),
        Arc::new(frauds.finish()),
        Arc::new(by.finish()),
        Arc::new(points.finish()),
        Arc::new(class.finish()),
        Arc::new(degraded.finish()),
        Arc::new(errors.finish()),
        Arc::new(fields.finish()),
        Arc::new(roles.finish()),
        Arc::new(versions.finish()),
    ];
    RecordBatch::try_new(answer_schema(), columns).map_err(|error| ScoringError::Contract(error.to_string()))
}
