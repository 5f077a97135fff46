//! Rows for the tables `ml.*` of the lake.

use assay::lake::{Lake, LakeError, Put};
use assay::model::TrainReport;
use assay::model::records::{self, Records};
use assay::model::registry::{Manifest, ModelName, Registry};
use assay::scoring::{lake_versions, record, record_versions};

use crate::app::App;

/// Puts rows into their table, beside whoever writes the lake.
pub fn put(app: &App, lake: &Lake, records: Records) -> anyhow::Result<Put> {
    let now_ms = app.clock.now_us() / 1000;
    Ok(app.handle.block_on(record(lake, records, now_ms))?)
}

/// What became of the records of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// In `ml.runs` and `ml.models`, or in the latter alone.
    In(&'static str),
    /// Nowhere, and why.
    Not(String),
}

impl Recorded {
    /// The tables, for machines.
    pub fn tables(&self) -> Option<&'static str> {
        match self {
            Self::In(tables) => Some(tables),
            Self::Not(_) => None,
        }
    }
}

/// Writes a run into `ml.runs`, and the versions of its model into `ml.models`.
pub fn run(app: &App, registry: &Registry, manifest: &Manifest, report: &TrainReport) -> anyhow::Result<Recorded> {
    if manifest.data.lake.is_none() {
        return Ok(Recorded::Not("the rows are from files, not from a lake".to_owned()));
    }
    let lake = app.open_lake(false)?;
    let _ = put(app, &lake, records::runs(manifest, report)?)?;
    versions(app, &lake, registry, &manifest.name)?;
    Ok(Recorded::In("ml.runs, ml.models"))
}

/// Writes what the registry has of a model into `ml.models` of the lake that it was learned from, if that is at hand.
pub fn aliases(app: &App, registry: &Registry, name: &ModelName) -> anyhow::Result<Recorded> {
    if of_lake(app, registry, name)?.is_empty() {
        return Ok(Recorded::Not(format!("no version of {name} is from a lake of this pipeline")));
    }
    match app.open_lake(false) {
        Ok(lake) => {
            versions(app, &lake, registry, name)?;
            Ok(Recorded::In("ml.models"))
        }
        Err(error) => match error.downcast_ref::<LakeError>() {
            Some(LakeError::NoLake { location, .. }) => {
                Ok(Recorded::Not(format!("{location} holds no lake; --lake says where it is")))
            }
            _ => Err(error),
        },
    }
}

fn versions(app: &App, lake: &Lake, registry: &Registry, name: &ModelName) -> anyhow::Result<()> {
    let now_ms = app.clock.now_us() / 1000;
    Ok(app.handle.block_on(record_versions(lake, registry, name, &of_lake(app, registry, name)?, now_ms))?)
}

fn of_lake(app: &App, registry: &Registry, name: &ModelName) -> anyhow::Result<Vec<Manifest>> {
    Ok(lake_versions(registry, name, &app.settings.pipeline)?)
}
