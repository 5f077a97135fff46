//! Bringing silver and gold up to bronze: after a crash, and as the scheduled job `assay refine`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;

use super::error::PipelineError;
use super::stages::Stages;
use super::tables::{BronzeEpoch, EpochWork, Tables};
use crate::domain::{EpochRecord, Positions, schema};
use crate::lake::{DataFile, FileReader};
use crate::telemetry::Metrics;

/// Reads a table's files in the order in which their rows arrived: by epoch, and within one by micro-batch
/// (`ingested_at`), topic, partition and offset. `each` says whether to go on.
///
/// A file holds its rows in that order; files that share epochs (those of different days) are merged in memory.
///
/// # Errors
/// When a file cannot be read, or `each` fails.
pub fn each_in_order(
    reader: &FileReader,
    files: &[DataFile],
    mut each: impl FnMut(RecordBatch) -> Result<bool, PipelineError>,
) -> Result<(), PipelineError> {
    let columns = reader.columns();
    for group in groups(files) {
        if let [file] = group.as_slice() {
            for batch in reader.open(file, &columns, None)? {
                if !each(batch.map_err(PipelineError::State)?)? {
                    return Ok(());
                }
            }
            continue;
        }
        let mut batches = Vec::new();
        for file in group {
            batches.extend(reader.read(file, &columns, None)?);
        }
        let Some(first) = batches.first() else { continue };
        if !each(sorted(&concat_batches(&first.schema(), &batches)?)?)? {
            return Ok(());
        }
    }
    Ok(())
}

/// While a table is read in order: which of its files are behind the reader, and so are its past.
pub struct ReadSoFar {
    files: Vec<DataFile>,
    /// The epochs up to this one are told already.
    told: i64,
    epoch: i64,
}

impl ReadSoFar {
    #[must_use]
    pub fn new(files: Vec<DataFile>) -> Self {
        Self { files, told: 0, epoch: 0 }
    }

    /// Notes that a batch comes; gives its first epoch.
    pub fn take(&mut self, batch: &RecordBatch) -> i64 {
        let epochs = batch.column_by_name(schema::EPOCH).and_then(|column| column.as_primitive_opt::<Int64Type>());
        if let Some(epochs) = epochs.filter(|epochs| !epochs.is_empty()) {
            self.epoch = epochs.value(0);
        }
        self.epoch
    }

    /// The epochs whose files are read to their ends, and those files; `None` when there are no more than last time.
    pub fn done(&mut self) -> Option<(i64, Vec<DataFile>)> {
        let span = |file: &DataFile| file.ranges.get(schema::EPOCH).copied().unwrap_or((i64::MIN, i64::MAX));
        let open = self.files.iter().filter(|file| span(file).1 >= self.epoch).map(|file| span(file).0).min();
        let done = open.unwrap_or(self.epoch) - 1;
        if done <= self.told {
            return None;
        }
        self.told = done;
        Some((done, self.files.iter().filter(|file| span(file).1 <= done).cloned().collect()))
    }
}

/// Files by epoch, those that share epochs together.
fn groups(files: &[DataFile]) -> Vec<Vec<&DataFile>> {
    let span = |file: &DataFile| file.ranges.get(schema::EPOCH).copied().unwrap_or((i64::MIN, i64::MAX));
    let mut sorted: Vec<&DataFile> = files.iter().collect();
    sorted.sort_by_key(|file| span(file));
    let mut groups: Vec<(i64, Vec<&DataFile>)> = Vec::new();
    for file in sorted {
        let (first, last) = span(file);
        match groups.last_mut() {
            Some((reached, group)) if first <= *reached => {
                *reached = last.max(*reached);
                group.push(file);
            }
            _ => groups.push((last, vec![file])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn sorted(batch: &RecordBatch) -> Result<RecordBatch, PipelineError> {
    let order = [
        schema::EPOCH,
        schema::INGESTED_AT,
        schema::SOURCE_TOPIC,
        schema::SOURCE_PARTITION,
        schema::SOURCE_OFFSET,
    ];
    let columns = order
        .iter()
        .map(|name| {
            let index = batch.schema().index_of(name)?;
            Ok(SortColumn { values: Arc::clone(batch.column(index)), options: None })
        })
        .collect::<Result<Vec<_>, PipelineError>>()?;
    Ok(take_record_batch(batch, &lexsort_to_indices(&columns, None)?)?)
}

/// Where the source goes on: after the newest epoch of bronze. Blocking.
///
/// # Errors
/// When bronze's log cannot be read.
pub fn next_positions(tables: &Tables) -> Result<Positions, PipelineError> {
    let info = tables.handle().block_on(tables.bronze.newest_info())?;
    if let Some(epoch) = info.as_ref().and_then(BronzeEpoch::parse) {
        return Ok(epoch.next);
    }
    // The entry may be older than the log that is kept: then the ledger knows.
    if tables.bronze.epoch() > tables.ledger.last_epoch() {
        return Err(PipelineError::State(format!(
            "the log of {} no longer says where epoch {} ended; restore its _delta_log",
            tables.bronze.name(),
            tables.bronze.epoch()
        )));
    }
    let mut next = Positions::new();
    for record in tables.ledger.scan(1, i64::MAX)? {
        next.extend(record.ranges.into_iter().map(|(partition, range)| (partition, range.next)));
    }
    Ok(next)
}

/// The epochs that bronze has and the ledger has not, oldest first. Blocking.
///
/// # Errors
/// When bronze's log cannot be read.
pub fn pending_epochs(tables: &Tables) -> Result<Vec<BronzeEpoch>, PipelineError> {
    let infos = tables.handle().block_on(tables.bronze.infos_after(tables.ledger.last_epoch()))?;
    Ok(infos.iter().filter_map(BronzeEpoch::parse).collect())
}

/// Refines every epoch that bronze has and the ledger has not, in order; `done` hears of each. Blocking.
///
/// # Errors
/// As the stages and the tables.
pub fn refine_pending(
    tables: &mut Tables,
    stages: &mut Stages,
    patience: Duration,
    metrics: &Metrics,
    mut done: impl FnMut(&EpochRecord, &mut Tables) -> bool,
) -> Result<u64, PipelineError> {
    let mut refined = 0;
    for bronze in pending_epochs(tables)? {
        stages.begin();
        let mut work = EpochWork {
            epoch: bronze.epoch,
            started_at_us: bronze.started_at_us,
            ranges: bronze.ranges,
            next: bronze.next,
            messages: bronze.messages,
            dead_letters: bronze.dead_letters,
            bronze_rows: bronze.bronze_rows,
            evolved: bronze.evolved,
            bronze_done: true,
            ..EpochWork::default()
        };
        let reader = tables.reader(&tables.bronze);
        let (first, next) = (bronze.epoch, bronze.epoch + 1);
        let files = tables.bronze.files().filter(|file| file.may_contain(schema::EPOCH, first, next));
        let files: Vec<DataFile> = files.cloned().collect();
        each_in_order(&reader, &files, |batch| {
            if let Some(rows) = of_epoch(&batch, first)? {
                stages.refine(&rows, &mut work, metrics)?;
            }
            Ok(true)
        })?;
        stages.finish(&mut work)?;
        let record = tables.write(work, patience)?;
        stages.written(record.epoch, tables.silver.files().cloned().collect());
        metrics.epoch_published(&record);
        refined += 1;
        if !done(&record, tables) {
            break;
        }
    }
    Ok(refined)
}

fn of_epoch(batch: &RecordBatch, epoch: i64) -> Result<Option<RecordBatch>, PipelineError> {
    let epochs = batch.column_by_name(schema::EPOCH).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let Some(epochs) = epochs else { return Ok(None) };
    let wanted = BooleanArray::from_unary(epochs, |found| found == epoch);
    let rows = filter_record_batch(batch, &wanted)?;
    Ok((rows.num_rows() > 0).then_some(rows))
}
