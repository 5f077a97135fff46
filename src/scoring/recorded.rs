//! What the registry has of a model, in the lake that it was learned from.

use crate::domain::{Layer, TableName};
use crate::lake::{Lake, LakeError, Put, RecordSpec, put_records};
use crate::model::records::{self, Records};
use crate::model::registry::{Manifest, ModelName, Registry, RegistryError};

/// Puts rows into their table of the layer `ml`, beside whoever writes the lake.
///
/// # Errors
/// As [`put_records`].
pub async fn record(lake: &Lake, records: Records, now_ms: i64) -> Result<Put, LakeError> {
    let spec = RecordSpec {
        name: TableName::new(Layer::Ml, records.table),
        schema: records.rows.schema(),
        key: records.key.iter().map(ToString::to_string).collect(),
        about: records.about.to_owned(),
    };
    put_records(lake, &spec, records.rows, now_ms).await
}

/// The versions that were learned from a lake of this pipeline. A damaged one is told where versions are listed, not here.
///
/// # Errors
/// When the registry cannot be read.
pub fn lake_versions(registry: &Registry, name: &ModelName, pipeline: &str) -> Result<Vec<Manifest>, RegistryError> {
    let is_ours = |of: &Manifest| of.data.lake.as_ref().is_some_and(|lake| lake.pipeline == pipeline);
    let mut ours = Vec::new();
    for version in registry.versions(name)? {
        match registry.manifest(name, &version) {
            Ok(manifest) => ours.extend(Some(manifest).filter(is_ours)),
            Err(error @ RegistryError::Io { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(ours)
}

/// Writes versions, with the aliases that they have now, into `ml.models`.
///
/// # Errors
/// When the registry cannot be read, or the lake takes no rows.
pub async fn record_versions(
    lake: &Lake,
    registry: &Registry,
    name: &ModelName,
    versions: &[Manifest],
    now_ms: i64,
) -> Result<(), LakeError> {
    let table = TableName::new(Layer::Ml, "models");
    let (registry, name) = (registry.clone(), name.clone());
    let read = tokio::task::spawn_blocking(move || registry.aliases(&name)).await;
    let failed = |error: &dyn std::fmt::Display| LakeError::store(&table, "reading the aliases", error);
    let aliases = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let rows = records::models(versions, &aliases).map_err(|error| LakeError::store(&table, "making rows", error))?;
    let _ = record(lake, rows, now_ms).await?;
    Ok(())
}
