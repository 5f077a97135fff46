use tokio::runtime::Handle;

use super::epochs::EpochLedger;
use super::error::LakeError;
use super::root::Lake;
use crate::domain::TableName;

/// Which of these tables the lake does not hold. Creates nothing.
///
/// # Errors
/// When the store does not answer.
pub async fn missing_tables(lake: &Lake, names: &[TableName]) -> Result<Vec<TableName>, LakeError> {
    let mut missing = Vec::new();
    for name in names {
        let there = lake.log_store(name)?.is_delta_table_location().await;
        if !there.map_err(|e| LakeError::store(name, "looking for it", e))? {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

/// The tables of the newest complete epoch; none in a lake without one. Creates nothing. Blocking.
///
/// # Errors
/// When the ledger cannot be read.
pub fn newest_tables(lake: &Lake, handle: &Handle, now_ms: i64) -> Result<Vec<TableName>, LakeError> {
    let ledger = handle.block_on(async {
        match missing_tables(lake, &[EpochLedger::table_name()]).await?.is_empty() {
            true => EpochLedger::open(lake, now_ms).await.map(Some),
            false => Ok(None),
        }
    })?;
    let newest = match ledger {
        Some(ledger) => ledger.get(ledger.last_epoch())?,
        None => None,
    };
    Ok(newest.into_iter().flat_map(|record| record.tables).map(|entry| entry.table).collect())
}

/// Refuses to read a lake without these tables, which would be created otherwise.
///
/// # Errors
/// [`LakeError::Missing`] with their names, or when the store does not answer.
pub async fn require_tables(lake: &Lake, names: &[TableName]) -> Result<(), LakeError> {
    let missing = missing_tables(lake, names).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let tables = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(LakeError::Missing { location: lake.location(), tables })
}
