//! Bringing silver and gold up to bronze: after a crash, and as the scheduled job `assay refine`.

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::error::PipelineError;
use super::stages::Stages;
use super::tables::{BronzeEpoch, EpochWork, Tables};
use crate::domain::{EpochRecord, Positions, schema};
use crate::lake::{DataFile, FileReader};
use crate::telemetry::Metrics;

/// The files of a table in the order in which their rows arrived.
#[must_use]
pub fn in_order<'a>(files: impl Iterator<Item = &'a DataFile>) -> Vec<&'a DataFile> {
    let mut files: Vec<&DataFile> = files.collect();
    files.sort_by_key(|file| (file.path.rsplit('/').next(), &file.partition));
    files
}

/// Where the source goes on: after the newest epoch of bronze. Blocking.
///
/// # Errors
/// When bronze's log cannot be read.
pub fn next_positions(tables: &Tables) -> Result<Positions, PipelineError> {
    let info = tables.handle().block_on(tables.bronze.newest_info())?;
    Ok(info.as_ref().and_then(BronzeEpoch::parse).map(|epoch| epoch.next).unwrap_or_default())
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
        let epochs = bronze.epoch..bronze.epoch + 1;
        for file in in_order(tables.bronze.files().filter(|file| file.may_contain(schema::EPOCH, epochs.start, epochs.end))) {
            for batch in epoch_rows(&reader, file, epochs.start)? {
                stages.refine(&batch, &mut work, metrics)?;
            }
        }
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

fn epoch_rows(reader: &FileReader, file: &DataFile, epoch: i64) -> Result<Vec<RecordBatch>, PipelineError> {
    let range = crate::lake::RangeFilter { column: schema::EPOCH.into(), from: epoch, to: epoch + 1 };
    Ok(reader.read(file, &reader.columns(), Some(range))?)
}
