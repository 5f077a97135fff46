use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::common::{Column, DataFusionError, JoinType, NullEquality};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlanBuilder, cast};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext, col, lit};
use deltalake_core::DeltaTable;

use super::columns::conform;
use super::epochs::EpochLedger;
use super::error::LakeError;
use super::records::record_tables;
use super::restatements;
use super::rewrite::Revision;
use super::root::Lake;
use super::table::{Table, restated_in};
use crate::domain::{EpochRecord, Layer, TableName};

/// The version of each table at one epoch.
pub type TableVersions = BTreeMap<TableName, i64>;

/// All tables as they were when an epoch was complete, as `layer.table`.
pub struct Session {
    pub context: SessionContext,
    /// `None` in a lake without a complete epoch.
    pub record: Option<EpochRecord>,
    /// Versions of what has no epoch: the ledger and tables of records.
    loose: BTreeMap<TableName, u64>,
}

impl Session {
    /// Whether the newest session would read the same. Looks at the end of each log concerned, and opens nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_newest(&self, lake: &Lake) -> Result<bool, LakeError> {
        let ledger = EpochLedger::table_name();
        let names: Vec<TableName> = record_tables(lake).await?.into_iter().chain([ledger]).collect();
        if names.len() != self.loose.len() {
            return Ok(false);
        }
        for name in names {
            let Some(known) = self.loose.get(&name) else { return Ok(false) };
            // A log that ends before what was read is another one.
            let found = lake.log_store(&name)?.get_latest_version(*known).await;
            if found.map_or(true, |newest| newest != *known) {
                return Ok(false);
            }
        }
        Ok(true)
    }
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
/// What runs in it is bounded by `runtime`, when one is given.
///
/// # Errors
/// When the epoch does not exist or is older than the history that is kept.
pub async fn open_session(
    lake: &Lake,
    epoch: Option<i64>,
    now_ms: i64,
    runtime: Option<Arc<RuntimeEnv>>,
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
    let runtime = runtime.unwrap_or_default();
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
    let ledger_version = ledger.table().version();
    versions.insert(EpochLedger::table_name(), i64::try_from(ledger_version).unwrap_or(i64::MAX));
    // Tables of records have no epochs: they are read as they are now.
    let mut loose = BTreeMap::from([(EpochLedger::table_name(), ledger_version)]);
    for name in record_tables(lake).await? {
        let log_store = lake.log_store(&name)?;
        let error = |e: &dyn std::fmt::Display| LakeError::read(&name, e);
        let mut delta = DeltaTable::new(Arc::clone(&log_store));
        delta.load().await.map_err(|e| error(&e))?;
        loose.insert(name.clone(), delta.version().unwrap_or(0));
        let provider = delta.table_provider().with_session(Arc::new(context.state())).await.map_err(|e| error(&e))?;
        if let Some(schema) = schemas.get(&name.layer) {
            schema.register_table(name.name.clone(), provider).map_err(|e| error(&e))?;
        }
    }
    let mut gold = Vec::new();
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
        if name.layer == Layer::Gold {
            let restated =
                restated_in(&delta, &log_store, lake.pipeline()).await.map_err(|e| LakeError::read(name, e))?;
            gold.push((name, restated));
        }
    }
    context.register_catalog("assay", Arc::new(catalog));
    let now = record.as_ref().map_or(0, |record| record.epoch);
    for (name, restated) in gold.into_iter().filter(|(_, restated)| *restated < now) {
        let error = |e: DataFusionError| LakeError::read(name, e);
        if let Some(view) = with_restatements(&context, name, restated).await.map_err(error)?
            && let Some(schema) = schemas.get(&name.layer)
        {
            schema.deregister_table(&name.name).map_err(error)?;
            schema.register_table(name.name.clone(), view).map_err(error)?;
        }
    }
    Ok(Session { context, record, loose })
}

/// The table with the restatements after epoch `restated`, which are not in its files yet; `None` when there are none.
async fn with_restatements(
    context: &SessionContext,
    name: &TableName,
    restated: i64,
) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
    let Ok(log) = context.table(restatements::table_name().to_string()).await else { return Ok(None) };
    let waiting = log
        .filter(col(restatements::TABLE).eq(lit(name.to_string())).and(col(restatements::EPOCH).gt(lit(restated))))?
        .sort(vec![col(restatements::EPOCH).sort(true, false)])?
        .select(vec![cast(col(restatements::KEY), DataType::Utf8), cast(col(restatements::AFTER), DataType::Utf8)])?
        .collect()
        .await?;
    let texts =
        |column: usize| waiting.iter().flat_map(move |batch| batch.column(column).as_string::<i32>().iter().flatten());
    let Some(key) = texts(0).next() else { return Ok(None) };
    let key: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(key).map_err(|e| DataFusionError::External(Box::new(e)))?;
    let key: Vec<String> = key.into_iter().map(|(name, _)| name).collect();
    let base = context.table(name.to_string()).await?;
    let schema = Arc::clone(base.schema().inner());
    let rows = restatements::parse(texts(1), &plain(&schema))?;
    let Some(revision) = Revision::new(&rows, &key)? else { return Ok(None) };
    let rows = conform(revision.rows(), &schema).map_err(DataFusionError::Execution)?;
    let rows = context.read_batch(rows)?;
    let on: Vec<Column> = key.iter().map(Column::from_name).collect();
    let (state, base) = base.into_parts();
    let kept = LogicalPlanBuilder::from(base).join_detailed(
        rows.logical_plan().clone(),
        JoinType::LeftAnti,
        (on.clone(), on),
        None,
        NullEquality::NullEqualsNull,
    )?;
    let plan = kept.union(rows.logical_plan().clone())?.build()?;
    Ok(Some(DataFrame::new(state, plan).into_view()))
}

/// Strings and bytes as the JSON reader makes them.
fn plain(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        DataType::BinaryView => Arc::new(field.as_ref().clone().with_data_type(DataType::Binary)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
