use chrono::{DateTime, TimeDelta, Utc};
use deltalake_core::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::kernel::Version;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::vacuum::VacuumMode;
use futures::TryStreamExt;
use object_store::ObjectStore as _;

use super::error::LakeError;
use super::table::Table;
use crate::domain::TableName;

/// What is so old that it may go.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// Each version that was in force within so many seconds stays readable.
    pub history_s: u64,
    /// The entries of this version and of each after it stay, whatever their age.
    pub keep: Version,
}

/// Writes a checkpoint of a table's log as of `version`; with an expiry, also drops files and log entries that are older.
///
/// Safe beside the writer: a checkpoint adds no version, and what is dropped no reader of a version that stays needs.
///
/// # Errors
/// When the store does not answer; nothing that readers see has changed then.
pub async fn tidy(
    log: &LogStoreRef,
    name: &TableName,
    version: Version,
    expiry: Option<Expiry>,
) -> Result<(), LakeError> {
    let delta = Table::load_at(log, name, version).await?;
    create_checkpoint(&delta, None).await.map_err(|e| LakeError::store(name, "writing a checkpoint", e))?;
    let Some(Expiry { history_s, keep }) = expiry else { return Ok(()) };
    let history = TimeDelta::seconds(i64::try_from(history_s).unwrap_or(i64::MAX / 2000));
    delta
        .vacuum()
        .with_mode(VacuumMode::Full)
        .with_retention_period(history)
        .with_enforce_retention_duration(false)
        .await
        .map_err(|e| LakeError::store(name, "removing old files", e))?;
    let error = |e: &dyn std::fmt::Display| LakeError::store(name, "removing old log entries", e);
    #[expect(clippy::disallowed_methods, reason = "entries carry the time of the store, whatever clock the lake has")]
    let now = Utc::now();
    let Some(from) = now.checked_sub_signed(history) else { return Ok(()) };
    let Some(in_force) = in_force(log, from).await.map_err(|e| error(&e))? else { return Ok(()) };
    // Delta's own retention of entries is 30 days: at an epoch a second, 2.6 million of them for each reader to list.
    cleanup_expired_logs_for(in_force.min(keep), log.as_ref(), from.timestamp_millis(), None)
        .await
        .map_err(|e| error(&e))?;
    Ok(())
}

/// The version that was the newest at that time, if its entry still stands.
async fn in_force(log: &LogStoreRef, at: DateTime<Utc>) -> object_store::Result<Option<Version>> {
    let store = log.object_store(None);
    let entries = store.list(Some(log.log_path()));
    entries
        .try_fold(None, |newest: Option<Version>, entry| {
            let version = entry.location.filename().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            let version = version.filter(|_| entry.last_modified < at);
            std::future::ready(Ok(newest.max(version)))
        })
        .await
}
