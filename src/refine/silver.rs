use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, ListBuilder, RecordBatch, StringBuilder, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::checks::{Checks, Outcome, kept};
use super::rows::Evaluated;
use super::{Dedup, OnFail, References, RefineError, RefineSettings, RowsTable, SqlFileError, TableDef, TrailingCount};
use crate::domain::{History, HistoryError, TableName, schema};
use crate::features::Features;

/// The built-in expectation that the SQL can be computed for the row: no overflow, no bad cast.
pub const EVALUATES: &str = "evaluates";
/// The built-in expectation of tables with an event time that each row has one. Rows that break another expectation
/// of quarantine are not charged with it.
pub const EVENT_TIME_PRESENT: &str = "event_time_present";

/// Runs one `rows` table batch by batch: trailing counts, features, SQL, expectations, deduplication.
#[derive(Debug)]
pub struct Refiner {
    def: TableDef,
    /// The source with the trailing counts and features.
    counted: SchemaRef,
    quarantine: SchemaRef,
    trailing: Vec<TrailingCount>,
    features: Option<Features>,
    rows: RowsTable,
    checks: Checks,
    dedup: Option<Dedup>,
}

/// What became of a batch: its rows = rows of `silver` + rows of `quarantined` + `duplicates`.
#[derive(Debug, Clone)]
pub struct Refined {
    /// The rows of the table, in the order of the input.
    pub silver: RecordBatch,
    /// The rows of the source that break an expectation, with the names of all that they break.
    pub quarantined: RecordBatch,
    pub duplicates: u64,
    /// How many rows of `silver` break each expectation that only warns; those that hold for all are left out.
    pub warned: Vec<(String, u64)>,
    /// How many rows break each expectation of quarantine; a row counts for each that it breaks.
    pub broken: Vec<(String, u64)>,
}

impl Refiner {
    /// Compiles a `rows` table for a source with these columns.
    ///
    /// `hash_key` belongs to the lake: ids and keys are held in memory as a hash under it.
    ///
    /// # Errors
    /// When the SQL, an expectation or a name in the header does not fit the source, with file and line.
    pub fn new(
        def: &TableDef,
        source: &SchemaRef,
        references: &Arc<References>,
        settings: &RefineSettings,
        hash_key: [u8; 16],
    ) -> Result<Self, SqlFileError> {
        let in_header = |problem: String| SqlFileError::in_header(def, problem);
        let event_time = def.event_time.as_deref().unwrap_or_default();
        let trailing =
            def.trailing.iter().map(|count| TrailingCount::new(count, source, event_time, settings, hash_key));
        let trailing = trailing.collect::<Result<Vec<_>, _>>().map_err(in_header)?;
        let features = match def.features.as_slice() {
            [] => None,
            declared => Some(Features::new(declared, source, event_time, hash_key).map_err(in_header)?),
        };
        let counts = trailing.iter().map(|count| count.field(source));
        let counts = counts.chain(features.iter().flat_map(Features::fields)).map(Arc::new);
        let counted = Arc::new(Schema::new(source.fields().iter().cloned().chain(counts).collect::<Vec<_>>()));
        let rows = RowsTable::compile(def, &counted, references)?;
        let dedup = if def.deduplicate {
            Some(Dedup::new(rows.schema(), &def.key, event_time, settings, hash_key).map_err(in_header)?)
        } else {
            None
        };
        Ok(Self {
            def: def.clone(),
            quarantine: schema::quarantine(source),
            checks: Checks::compile(def, rows.schema(), &counted, references)?,
            counted,
            trailing,
            features,
            rows,
            dedup,
        })
    }

    /// The columns of the table.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.def.table
    }

    /// The columns of the table's quarantine.
    #[must_use]
    pub fn quarantine_schema(&self) -> &SchemaRef {
        &self.quarantine
    }

    /// Memory that the caches hold, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let features = self.features.as_ref().map_or(0, Features::bytes);
        let counts = self.trailing.iter().map(TrailingCount::bytes).sum::<usize>();
        self.dedup.as_ref().map_or(0, Dedup::bytes) + counts + features
    }

    /// Forgets what is held of the past; it is loaded again when needed. To be called when a batch that was refined did
    /// not get into the history, because its epoch was given up.
    pub fn forget(&mut self) {
        self.dedup.iter_mut().for_each(Dedup::forget);
        self.trailing.iter_mut().for_each(TrailingCount::forget);
        self.features.iter_mut().for_each(Features::forget);
    }

    /// Loads what rows at `at_us` need of the past for features, so that the first of them does not wait.
    ///
    /// # Errors
    /// When the past cannot be read.
    pub fn warm_up(&mut self, at_us: i64, history: &dyn History) -> Result<(), HistoryError> {
        self.features.as_mut().map_or(Ok(()), |features| features.warm_up(at_us, history))
    }

    /// Refines a batch of the source, and remembers its ids and counts.
    ///
    /// `history` must answer for the silver rows of **all earlier batches and none of this one**: those that this table
    /// kept where it deduplicates, those of its source where it counts. Add this batch to it after the call.
    ///
    /// # Errors
    /// When an expectation that is set to fail is broken, the SQL fails where there is no quarantine, or the past cannot
    /// be read. Nothing of the batch is then remembered.
    pub fn refine(&mut self, input: &RecordBatch, history: &dyn History) -> Result<Refined, RefineError> {
        let refined = self.refine_all(input, history);
        if refined.is_err() {
            // They have recorded the batch already.
            self.features.iter_mut().for_each(Features::forget);
        }
        refined
    }

    fn refine_all(&mut self, input: &RecordBatch, history: &dyn History) -> Result<Refined, RefineError> {
        let counted = self.with_counts(input, history)?;
        let evaluated = self.rows.evaluate_rows(&counted)?;
        let origin = self.origin(&evaluated, input)?;
        let counted = match &origin {
            None => counted,
            Some(rows) => take_record_batch(&counted, rows).map_err(|error| self.mismatch(&error))?,
        };
        let outcomes = self.checks.judge(&evaluated.batch, &counted).map_err(|error| self.mismatch(&error))?;
        self.refuse(&outcomes, input, origin.as_ref())?;
        let kept = kept(&outcomes).map(|kept| BooleanArray::new(kept, None));
        let silver = self.filtered(evaluated.batch.clone(), kept.as_ref())?;
        let quarantined = self.quarantined(input, &evaluated, origin.as_ref(), kept.as_ref(), &outcomes)?;
        let broken = broken(&outcomes, &evaluated);
        let first_seen = match &mut self.dedup {
            Some(dedup) => dedup.keep(&silver, history)?.map(|first| BooleanArray::new(first, None)),
            None => None,
        };
        let before = silver.num_rows();
        let silver = self.filtered(silver, first_seen.as_ref())?;
        let warned = warned(&outcomes, [kept.as_ref(), first_seen.as_ref()]).map_err(|error| self.mismatch(&error))?;
        for count in &mut self.trailing {
            count.record(input)?;
        }
        Ok(Refined { duplicates: (before - silver.num_rows()) as u64, silver, quarantined, warned, broken })
    }

    fn with_counts(&mut self, input: &RecordBatch, history: &dyn History) -> Result<RecordBatch, RefineError> {
        if self.trailing.is_empty() && self.features.is_none() {
            return Ok(input.clone());
        }
        let mut columns = input.columns().to_vec();
        for count in &mut self.trailing {
            columns.push(Arc::new(count.count(input, history)?) as ArrayRef);
        }
        if let Some(features) = &mut self.features {
            columns.extend(features.compute(input, history)?);
        }
        RecordBatch::try_new(Arc::clone(&self.counted), columns).map_err(|error| self.mismatch(&error))
    }

    /// For each row that could be computed, its row in the input; `None` when that is all of them.
    fn origin(&self, evaluated: &Evaluated, input: &RecordBatch) -> Result<Option<UInt32Array>, RefineError> {
        let Some(first) = evaluated.failing.first() else { return Ok(None) };
        if self.def.quarantine.is_none() {
            return Err(RefineError::Evaluate {
                table: self.def.table.to_string(),
                file: self.def.file.clone(),
                rows: evaluated.failing.len() as u64,
                place: place(input, *first),
                cause: evaluated.cause.clone(),
            });
        }
        let mut failing = evaluated.failing.iter().peekable();
        let computed = (0..input.num_rows()).filter(|row| failing.next_if_eq(&row).is_none());
        Ok(Some(computed.filter_map(|row| u32::try_from(row).ok()).collect()))
    }

    /// Stops at an expectation that is set to fail.
    fn refuse(
        &self,
        outcomes: &[Outcome],
        input: &RecordBatch,
        origin: Option<&UInt32Array>,
    ) -> Result<(), RefineError> {
        for outcome in outcomes.iter().filter(|outcome| outcome.on_fail == OnFail::Fail) {
            let Some(holds) = &outcome.holds else { continue };
            let Some(row) = (0..holds.len()).find(|row| !holds.value(*row)) else { continue };
            return Err(RefineError::Refused {
                table: self.def.table.to_string(),
                file: self.def.file.clone(),
                expectation: outcome.name.to_owned(),
                rows: (holds.len() - holds.count_set_bits()) as u64,
                place: place(input, in_input(row, origin)),
            });
        }
        Ok(())
    }

    fn quarantined(
        &self,
        input: &RecordBatch,
        evaluated: &Evaluated,
        origin: Option<&UInt32Array>,
        kept: Option<&BooleanArray>,
        outcomes: &[Outcome],
    ) -> Result<RecordBatch, RefineError> {
        if kept.is_none() && evaluated.failing.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.quarantine)));
        }
        // The row in the input, and the row among those computed.
        let judged = kept.into_iter().flat_map(|kept| (0..kept.len()).filter(|row| !kept.value(*row)));
        let judged = judged.map(|row| (in_input(row, origin), Some(row)));
        let mut rows = judged.chain(evaluated.failing.iter().map(|row| (*row, None))).collect::<Vec<_>>();
        rows.sort_unstable();
        let element = Arc::new(Field::new("element", DataType::Utf8, false));
        let mut names = ListBuilder::new(StringBuilder::new()).with_field(element);
        for (_, computed) in &rows {
            match computed {
                None => names.values().append_value(EVALUATES),
                Some(row) => {
                    let is_broken = |outcome: &&Outcome| outcome.holds.as_ref().is_some_and(|holds| !holds.value(*row));
                    outcomes.iter().filter(is_broken).for_each(|outcome| names.values().append_value(outcome.name));
                }
            }
            names.append(true);
        }
        let rows = rows.iter().filter_map(|(row, _)| u32::try_from(*row).ok()).collect::<UInt32Array>();
        let taken = take_record_batch(input, &rows).map_err(|error| self.mismatch(&error))?;
        let columns = taken.columns().iter().cloned().chain([Arc::new(names.finish()) as _]).collect();
        RecordBatch::try_new(Arc::clone(&self.quarantine), columns).map_err(|error| self.mismatch(&error))
    }

    fn filtered(&self, batch: RecordBatch, keep: Option<&BooleanArray>) -> Result<RecordBatch, RefineError> {
        match keep {
            None => Ok(batch),
            Some(keep) => filter_record_batch(&batch, keep).map_err(|error| self.mismatch(&error)),
        }
    }

    fn mismatch(&self, error: &ArrowError) -> RefineError {
        RefineError::Schema { table: self.def.table.to_string(), detail: error.to_string() }
    }
}

fn broken(outcomes: &[Outcome], evaluated: &Evaluated) -> Vec<(String, u64)> {
    let failing = (EVALUATES.to_owned(), evaluated.failing.len() as u64);
    let quarantining = outcomes.iter().filter(|outcome| outcome.on_fail == OnFail::Quarantine);
    let counts = quarantining.filter_map(|outcome| Some((outcome.name.to_owned(), unset(outcome.holds.as_ref()?))));
    std::iter::once(failing).chain(counts).filter(|(_, count)| *count > 0).collect()
}

/// Breaches that only warn, among the rows that pass all filters.
fn warned(outcomes: &[Outcome], filters: [Option<&BooleanArray>; 2]) -> Result<Vec<(String, u64)>, ArrowError> {
    let mut counts = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.on_fail == OnFail::Warn) {
        let Some(holds) = &outcome.holds else { continue };
        let mut holds = BooleanArray::new(holds.clone(), None);
        for keep in filters.into_iter().flatten() {
            holds = filter(&holds, keep)?.as_boolean().clone();
        }
        counts.push((outcome.name.to_owned(), unset(holds.values())));
    }
    counts.retain(|(_, count)| *count > 0);
    Ok(counts)
}

fn unset(holds: &BooleanBuffer) -> u64 {
    (holds.len() - holds.count_set_bits()) as u64
}

fn in_input(row: usize, origin: Option<&UInt32Array>) -> usize {
    origin.and_then(|rows| rows.values().get(row)).map_or(row, |row| *row as usize)
}

/// Where a row of bronze comes from, for people.
fn place(batch: &RecordBatch, row: usize) -> String {
    let found = || {
        let topic = batch.column_by_name(schema::SOURCE_TOPIC)?.as_string_opt::<i32>()?;
        let partition = batch.column_by_name(schema::SOURCE_PARTITION)?.as_primitive_opt::<Int32Type>()?;
        let offset = batch.column_by_name(schema::SOURCE_OFFSET)?.as_primitive_opt::<Int64Type>()?;
        let exists = row < batch.num_rows();
        exists.then(|| format!("{}/{} offset {}", topic.value(row), partition.value(row), offset.value(row)))
    };
    found().unwrap_or_else(|| format!("row {row} of the batch"))
}

#[cfg(test)]
mod tests;
