//! Whether each table stands where the ledger says.

use std::collections::BTreeMap;

use super::bronze_epoch::BronzeEpoch;
use super::error::PipelineError;
use super::tables::Tables;
use super::verify::Finding;
use crate::domain::{EpochKind, EpochRecord, Positions, TableName};
use crate::lake::Table;

/// Logs are read so far back; the counts of rows speak for what is older.
const EPOCHS_COMPARED: i64 = 1000;

/// What a reader of the ledger would not find: tables whose log ends before the version that the ledger names. Blocking.
///
/// # Errors
/// When the ledger cannot be read.
pub fn lost_versions(tables: &Tables) -> Result<Vec<Finding>, PipelineError> {
    let Some(record) = tables.ledger.get(tables.ledger.last_epoch())? else { return Ok(Vec::new()) };
    let lost = versions(&record).into_iter().filter_map(|(name, version)| {
        let table = tables.all().find(|table| table.name() == name)?;
        (table.version() < version).then(|| {
            let detail = format!(
                "its log ends at version {}, but the ledger says that epoch {} left it at version {version}; restore its _delta_log",
                table.version(),
                record.epoch
            );
            finding(table, record.epoch, detail)
        })
    });
    Ok(lost.collect())
}

/// What tables have of epochs that are not complete, which no reader of ours sees: a job is at work, or was interrupted.
pub(super) fn ahead(tables: &Tables) -> Option<String> {
    let last = tables.ledger.last_epoch();
    let ahead: Vec<String> = tables
        .all()
        .filter(|table| table.epoch() > last)
        .map(|table| format!("{} (epoch {})", table.name(), table.epoch()))
        .collect();
    (!ahead.is_empty()).then(|| {
        format!(
            "the ledger ends at epoch {last}, and {} went ahead: readers do not see it, and `assay refine` or the next `assay run` completes it",
            ahead.join(", ")
        )
    })
}

/// Compares versions and epochs of every table with the ledger. Blocking.
pub(super) fn compare(tables: &Tables, records: &[EpochRecord]) -> Result<Vec<Finding>, PipelineError> {
    let mut findings = lost_versions(tables)?;
    let known = records.last().map(versions).unwrap_or_default();
    for table in tables.all().filter(|table| known.contains_key(table.name())) {
        let name = table.name();
        let wrote =
            |record: &&EpochRecord| record.tables.iter().any(|entry| entry.table == *name && entry.rows_added > 0);
        if let Some(record) = records.iter().rev().find(wrote).filter(|record| table.epoch() < record.epoch) {
            let detail = format!(
                "its last transaction is of epoch {}, but the ledger says that epoch {} added rows to it",
                table.epoch(),
                record.epoch
            );
            findings.push(finding(table, record.epoch, detail));
        }
        if let Some(found) = against_log(tables, table, records)? {
            findings.push(found);
        }
    }
    Ok(findings)
}

/// The first epoch whose version, by the ledger, is not the one that the table's own log gives.
fn against_log(tables: &Tables, table: &Table, records: &[EpochRecord]) -> Result<Option<Finding>, PipelineError> {
    let from = records.last().map_or(0, |last| last.epoch - EPOCHS_COMPARED).max(0);
    let infos = tables.handle().block_on(table.infos_after(from))?;
    // What a rebuild was taken back by stands for an epoch that has a version already.
    let commits = infos.iter().filter(|(_, info)| info.get("kind").is_none_or(|kind| kind != "restore"));
    let commits: Vec<(u64, i64)> =
        commits.filter_map(|(version, info)| Some((*version, info.get("epoch")?.as_i64()?))).collect();
    for record in records.iter().filter(|record| record.epoch > from) {
        let Some(version) = versions(record).get(table.name()).copied() else { continue };
        let late = commits.iter().find(|(at, epoch)| *epoch == record.epoch && *at > version);
        let early = commits.iter().find(|(at, epoch)| *epoch > record.epoch && *at <= version);
        if let Some((at, epoch)) = late.or(early) {
            let detail = format!(
                "the ledger says that epoch {} left it at version {version}, but its log has epoch {epoch} at version {at}",
                record.epoch
            );
            return Ok(Some(finding(table, record.epoch, detail)));
        }
    }
    Ok(None)
}

/// The next offset of each partition as of the last epoch of the ledger. What bronze has beyond it does not count.
pub(super) fn published_positions(tables: &Tables, records: &[EpochRecord]) -> Result<Positions, PipelineError> {
    let mut next = Positions::new();
    for record in records {
        next.extend(record.ranges.iter().map(|(partition, range)| (partition.clone(), range.next)));
    }
    // Offsets may end with some that hold no message, such as marks of transactions: only bronze's commit tells.
    if let Some(last) = records.iter().rev().find(|record| record.kind == EpochKind::Stream) {
        let infos = tables.handle().block_on(tables.bronze.infos_after(last.epoch - 1))?;
        let entry = infos.iter().filter_map(|(_, info)| BronzeEpoch::parse(info));
        next.extend(entry.filter(|bronze| bronze.epoch == last.epoch).flat_map(|bronze| bronze.next));
    }
    Ok(next)
}

fn versions(record: &EpochRecord) -> BTreeMap<&TableName, u64> {
    record.tables.iter().map(|entry| (&entry.table, u64::try_from(entry.version).unwrap_or(0))).collect()
}

fn finding(table: &Table, epoch: i64, detail: String) -> Finding {
    Finding { check: "versions", epoch: Some(epoch), table: Some(table.name().to_string()), detail }
}
