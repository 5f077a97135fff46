//! Bringing silver and gold up to bronze: after a crash, and as the scheduled job `assay refine`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ahead::EncodeAhead;
use super::arrival::Arrivals;
use super::bronze_epoch::BronzeEpoch;
use super::error::PipelineError;
use super::stages::Stages;
use super::tables::Tables;
use super::work::EpochWork;
use crate::domain::{EpochRecord, Positions, TableName};
use crate::lake::DataFile;
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
    Ok(infos.iter().filter_map(|(_, info)| BronzeEpoch::parse(info)).collect())
}

/// Epochs and the versions that brought them.
type Epochs = Vec<(i64, u64)>;

/// Versions of the tables that run ahead of the ledger, by epoch.
struct Ahead {
    /// For each table: the version that it had before, then epochs and their versions, oldest first.
    tables: Vec<(TableName, u64, Epochs)>,
}

impl Ahead {
    fn of(tables: &Tables) -> Result<Self, PipelineError> {
        let mut ahead = Vec::new();
        for table in [&tables.bronze, &tables.dead_letters] {
            let infos = tables.handle().block_on(table.infos_after(tables.ledger.last_epoch()))?;
            let epoch = |info: &serde_json::Value| info.get("epoch").and_then(serde_json::Value::as_i64);
            let epochs: Vec<(i64, u64)> =
                infos.iter().filter_map(|(version, info)| Some((epoch(info)?, *version))).collect();
            let before = epochs.first().map_or(table.version(), |(_, version)| version.saturating_sub(1));
            ahead.push((table.name().clone(), before, epochs));
        }
        Ok(Self { tables: ahead })
    }

    /// What readers see as of `epoch`, where that is not what stands there now.
    fn versions_at(&self, epoch: i64) -> BTreeMap<TableName, u64> {
        let lagging = self.tables.iter().filter(|(.., epochs)| epochs.iter().any(|(later, _)| *later > epoch));
        lagging
            .map(|(table, before, epochs)| {
                let reached = epochs.iter().take_while(|(reached, _)| *reached <= epoch).last();
                (table.clone(), reached.map_or(*before, |(_, version)| *version))
            })
            .collect()
    }
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
    let ahead = Ahead::of(tables)?;
    for bronze in pending_epochs(tables)? {
        let _in_log = tables.tracer().log_span(bronze.epoch).entered();
        stages.begin();
        if bronze.evolved {
            tables.gain();
        }
        let encode_ahead = EncodeAhead::new(tables, stages.ahead_rows());
        let mut work = EpochWork {
            epoch: bronze.epoch,
            past: bronze.epoch,
            started_at_us: bronze.started_at_us,
            ranges: bronze.ranges,
            next: bronze.next,
            messages: bronze.messages,
            dead_letters: bronze.dead_letters,
            bronze_rows: bronze.bronze_rows,
            evolved: bronze.evolved,
            bronze_done: true,
            versions: ahead.versions_at(bronze.epoch),
            ..EpochWork::default()
        };
        for batch in Arrivals::of_bronze(tables).rows(&(bronze.epoch..bronze.epoch + 1))? {
            stages.refine(&batch, &mut work, metrics).inspect_err(|error| tables.tracer().failed(&work, error))?;
            encode_ahead.take(&mut work);
        }
        let finished = stages.finish(&mut work, &encode_ahead);
        finished.inspect_err(|error| tables.tracer().failed(&work, error))?;
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
