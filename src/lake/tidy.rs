use chrono::Duration;
use deltalake_core::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::kernel::Version;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::vacuum::VacuumMode;

use super::error::LakeError;
use super::table::Table;
use crate::domain::TableName;

/// Writes a checkpoint of a table's log; with `clean`, also drops files and log entries that are older than the history.
///
/// Safe beside the writer: a checkpoint adds no version, and what is dropped no reader within the history needs.
///
/// # Errors
/// When the store does not answer; nothing that readers see has changed then.
pub async fn tidy(
    log: &LogStoreRef,
    name: &TableName,
    version: Version,
    history_s: u64,
    clean: bool,
) -> Result<(), LakeError> {
    let delta = Table::load_at(log, name, version).await?;
    create_checkpoint(&delta, None).await.map_err(|e| LakeError::store(name, "writing a checkpoint", e))?;
    if clean {
        let seconds = i64::try_from(history_s).unwrap_or(i64::MAX / 2000);
        delta
            .clone()
            .vacuum()
            .with_mode(VacuumMode::Full)
            .with_retention_period(Duration::seconds(seconds))
            .with_enforce_retention_duration(false)
            .await
            .map_err(|e| LakeError::store(name, "removing old files", e))?;
        cleanup_metadata(&delta, None).await.map_err(|e| LakeError::store(name, "removing old log entries", e))?;
    }
    Ok(())
}
