use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::epochs::EpochLedger;
use super::error::LakeError;
use super::root::Lake;
use super::table::Table;
use crate::domain::{EpochRecord, Layer, TableName};

/// The version of each table at one epoch.
pub type TableVersions = BTreeMap<TableName, i64>;

/// All tables as they were when an epoch was complete, as `layer.table`.
pub struct Session {
    pub context: SessionContext,
    /// `None` in a lake without a complete epoch.
    pub record: Option<EpochRecord>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("epoch", &self.record.as_ref().map(|record| record.epoch))
            .finish_non_exhaustive()
    }
}

/// Opens the lake for SQL, as of `epoch` or the newest complete one.
///
/// # Errors
/// When the epoch does not exist or is older than the history that is kept.
pub async fn open_session(
    lake: &Lake,
    epoch: Option<i64>,
    now_ms: i64,
    memory_bytes: Option<usize>,
) -> Result<Session, LakeError> {
    let ledger = EpochLedger::open(lake, now_ms).await?;
    let last = ledger.last_epoch();
    let epoch = epoch.unwrap_or(last);
    let (record, ledger) = tokio::task::spawn_blocking(move || (ledger.get(epoch), ledger))
        .await
        .map_err(|e| LakeError::Epoch(e.to_string()))?;
    let record = record?;
    if record.is_none() && epoch != 0 {
        return Err(LakeError::Epoch(format!("there is no epoch {epoch}: the newest complete epoch is {last}")));
    }
    let config = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema("assay", "silver")
        .set_bool("datafusion.catalog.create_default_catalog_and_schema", false);
    let mut runtime = datafusion::execution::runtime_env::RuntimeEnvBuilder::new();
    if let Some(bytes) = memory_bytes {
        runtime = runtime.with_memory_limit(bytes, 1.0);
    }
    let runtime = runtime.build_arc().map_err(|e| LakeError::Epoch(e.to_string()))?;
    let state =
        SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features().build();
    let context = SessionContext::new_with_state(state);
    let catalog = MemoryCatalogProvider::new();
    let schemas: BTreeMap<Layer, Arc<MemorySchemaProvider>> =
        Layer::ALL.into_iter().map(|layer| (layer, Arc::new(MemorySchemaProvider::new()))).collect();
    for (layer, schema) in &schemas {
        catalog
            .register_schema(layer.as_str(), Arc::clone(schema) as _)
            .map_err(|e| LakeError::Epoch(e.to_string()))?;
    }
    let mut versions: TableVersions =
        record.iter().flat_map(|record| &record.tables).map(|entry| (entry.table.clone(), entry.version)).collect();
    versions.insert(EpochLedger::table_name(), i64::try_from(ledger.table().version()).unwrap_or(i64::MAX));
    for (name, version) in &versions {
        let log_store = lake.log_store(name)?;
        let version = u64::try_from(*version).unwrap_or(0);
        let delta = Table::load_at(&log_store, name, version).await?;
        let provider = delta
            .table_provider()
            .with_session(Arc::new(context.state()))
            .await
            .map_err(|e| LakeError::read(name, e))?;
        if let Some(schema) = schemas.get(&name.layer) {
            schema.register_table(name.name.clone(), provider).map_err(|e| LakeError::read(name, e))?;
        }
    }
    context.register_catalog("assay", Arc::new(catalog));
    Ok(Session { context, record })
}
