//! Parquet, cast to the contract's types.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use arrow::util::display::array_value_to_string;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::bytes::{Chunks, Input};
use super::cells::{excerpt, map_columns};
use super::{Origin, ParsedRows, ranges_of};
use crate::domain::{DeadLetter, Reason, Stage};
use crate::source::SourceError;

pub(super) struct Columnar {
    reader: ParquetRecordBatchReader,
    origin: Origin,
    schema: SchemaRef,
    /// The column of each field in what the reader yields.
    columns: Vec<Option<usize>>,
    /// Rows read and not handed over yet.
    waiting: VecDeque<RecordBatch>,
    next_row: i64,
}

const BATCH_ROWS: usize = 8_192;

impl Columnar {
    pub(super) fn open(
        input: &Arc<Input>,
        origin: Origin,
        schema: &SchemaRef,
        aliases: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, SourceError> {
        let error = |cause: &dyn Display| input.error("read as Parquet", cause);
        let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(Chunks(input.clone())))
            .map_err(|cause| error(&cause))?;
        let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        let places = map_columns(&origin.url, &names, schema, aliases)?;
        for (field, place) in schema.fields().iter().zip(&places) {
            let Some(found) = place.and_then(|place| builder.schema().fields().get(place)) else { continue };
            if !can_cast_types(found.data_type(), field.data_type()) {
                let (from, to) = (found.data_type(), field.data_type());
                return Err(error(&format!("column `{}` has the type {from}, which cannot become {to}", found.name())));
            }
        }
        // The reader yields the columns that are wanted in the order of the file.
        let mut wanted: Vec<usize> = places.iter().copied().flatten().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let columns = places.iter().map(|place| wanted.iter().position(|other| Some(*other) == *place)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let skipped = usize::try_from(origin.resume_at - 1).unwrap_or(0);
        let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_offset(skipped);
        let reader = guarded(|| builder.build()).map_err(|cause| error(&cause))?;
        let next_row = origin.resume_at.max(1);
        Ok(Self { reader, origin, schema: schema.clone(), columns, waiting: VecDeque::new(), next_row })
    }

    pub(super) fn next_batch(&mut self, max_rows: usize) -> Result<Option<ParsedRows>, SourceError> {
        let batch = match self.waiting.pop_front() {
            Some(batch) => batch,
            None => match guarded(|| self.reader.next().transpose()).map_err(|cause| self.error(&cause))? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        let taken = batch.num_rows().min(max_rows);
        if taken < batch.num_rows() {
            self.waiting.push_front(batch.slice(taken, batch.num_rows() - taken));
        }
        self.convert(&batch.slice(0, taken)).map(Some)
    }

    fn convert(&mut self, batch: &RecordBatch) -> Result<ParsedRows, SourceError> {
        let first = self.next_row;
        let count = batch.num_rows();
        self.next_row += i64::try_from(count).unwrap_or(0);
        let last = self.next_row - 1;
        let safe = CastOptions { safe: true, ..CastOptions::default() };
        let mut faults: BTreeMap<usize, (Reason, String)> = BTreeMap::new();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (field, column) in self.schema.fields().iter().zip(&self.columns) {
            let Some(source) = column.and_then(|column| batch.columns().get(column)) else {
                arrays.push(new_null_array(field.data_type(), count));
                continue;
            };
            let cast = cast_with_options(source, field.data_type(), &safe).map_err(|cause| self.error(&cause))?;
            let suspicious = cast.null_count() > 0 && (!field.is_nullable() || cast.null_count() > source.null_count());
            for row in (0..count).filter(|row| suspicious && cast.is_null(*row)) {
                let fault = if source.is_valid(row) {
                    let value = array_value_to_string(source, row).unwrap_or_default();
                    let wrong =
                        format!("column `{}`: `{}` is not {}", field.name(), excerpt(&value), field.data_type());
                    (Reason::WrongType, wrong)
                } else if field.is_nullable() {
                    continue;
                } else {
                    (Reason::MissingField, format!("column `{}` is null", field.name()))
                };
                faults.entry(row).or_insert(fault);
            }
            arrays.push(cast);
        }
        let kept: BooleanArray = (0..count).map(|row| Some(!faults.contains_key(&row))).collect();
        let lines =
            (first..=last).zip(kept.iter()).filter(|(_, kept)| *kept == Some(true)).map(|(line, _)| line).collect();
        let rows = self.rows(arrays, &kept, !faults.is_empty())?;
        let rejected = faults
            .into_iter()
            .map(|(row, (reason, detail))| self.dead_letter(batch, row, first, reason, &detail))
            .collect();
        Ok(ParsedRows { rows, lines, rejected, ranges: ranges_of(&self.origin.identity, first, last, count) })
    }

    /// The good rows; those that a required column lacks must go before the contract's schema is put on.
    fn rows(&self, arrays: Vec<ArrayRef>, kept: &BooleanArray, any_fault: bool) -> Result<RecordBatch, SourceError> {
        let arrays = if any_fault {
            let fields = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let lenient = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
            let all = RecordBatch::try_new(lenient, arrays).map_err(|cause| self.error(&cause))?;
            filter_record_batch(&all, kept).map_err(|cause| self.error(&cause))?.columns().to_vec()
        } else {
            arrays
        };
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(|cause| self.error(&cause))
    }

    /// The payload is the row as JSON: a Parquet file has no bytes of a row.
    fn dead_letter(&self, batch: &RecordBatch, row: usize, first: i64, reason: Reason, detail: &str) -> DeadLetter {
        let mut json = LineDelimitedWriter::new(Vec::new());
        let written = json.write(&batch.slice(row, 1)).and_then(|()| json.finish());
        let payload = written.is_ok().then(|| json.into_inner().trim_ascii().to_vec());
        let offset = first + i64::try_from(row).unwrap_or(0);
        DeadLetter {
            topic: self.origin.identity.clone(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            payload,
            headers: Vec::new(),
            schema_id: None,
            stage: Stage::Parse,
            reason,
            detail: format!("{}, row {offset}: {detail}", self.origin.url),
        }
    }

    fn error(&self, cause: &dyn Display) -> SourceError {
        SourceError::File { url: self.origin.url.clone(), action: "read as Parquet", cause: cause.to_string() }
    }
}

/// The reader takes some of what a file says on trust, and panics where it is wrong: that must refuse the file only.
fn guarded<T, E: Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|cause| cause.to_string()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}
