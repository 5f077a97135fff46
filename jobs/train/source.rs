//! Where the rows to learn from are: files, or the lake.

use assay::lake::{EpochLedger, open_session, require_tables};
use assay::model::registry::LakeSource;
use assay::model::table::{Roles, Table, Wanted};
use assay::refine::TrainingDef;
use assay::scoring::{TrainingSet, TrainingSetError, lineage};

use super::TrainArgs;
use crate::app::{App, usage};

/// The rows, what their columns are for, and where they were read.
pub struct Source {
    pub table: Table,
    pub roles: Roles,
    pub ignored: Vec<String>,
    pub lake: Option<LakeSource>,
}

pub fn read(args: &TrainArgs, app: &App, label_delay_hours: u32) -> anyhow::Result<Source> {
    if let Some(label) = &args.label {
        let table = Table::read(&args.data, &Wanted::AllBut(&args.ignore))?;
        let roles = Roles {
            label: label.clone(),
            time: args.time.clone(),
            card: args.card.clone(),
            segments: args.segment.clone(),
        };
        return Ok(Source { table, roles, ignored: args.ignore.clone(), lake: None });
    }
    let contract = app.contract()?;
    let plan = app.plan(&contract)?;
    let def = set(&plan.catalog.training, &args.set)?;
    let lineage = lineage(&plan).map_err(usage)?;
    let lake = app.open_lake(false)?;
    let delay_us = i64::from(label_delay_hours) * 3_600_000_000;
    let (location, pipeline) = (lake.location(), lake.pipeline().to_owned());
    let read = app.handle.block_on(async {
        require_tables(&lake, &[EpochLedger::table_name()]).await?;
        let session = open_session(&lake, args.epoch, app.clock.now_us() / 1000, None).await?;
        let place = (location.as_str(), pipeline.as_str());
        let references = &plan.catalog.references;
        Ok::<_, anyhow::Error>(TrainingSet::read(&session, def, references, &lineage, place, delay_us).await)
    })?;
    let set = read.map_err(|error| match error {
        TrainingSetError::Query { .. } => anyhow::Error::new(error),
        TrainingSetError::Table(error) => error.into(),
        wrong => usage(wrong),
    })?;
    Ok(Source { table: set.table, roles: set.roles, ignored: def.ignore.clone(), lake: Some(set.source) })
}

pub fn set<'a>(sets: &'a [TrainingDef], name: &str) -> anyhow::Result<&'a TrainingDef> {
    sets.iter().find(|set| set.name == name).ok_or_else(|| {
        let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        let hint = assay::domain::did_you_mean(name, names.iter().copied());
        usage(format!("there is no training set `{name}`{hint} (training/ has: {})", names.join(", ")))
    })
}
