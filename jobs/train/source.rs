//! Where the rows to learn from are: files, or the lake.

use assay::lake::{EpochLedger, open_session, require_tables};
use assay::model::registry::LakeSource;
use assay::model::table::{Roles, Table, Wanted};
use assay::refine::TrainingDef;
use assay::scoring::{TrainingSet, TrainingSetError, lineage};
use clap::Args;

use crate::app::{App, usage};

/// Which rows to learn from, or to measure on.
#[derive(Debug, Clone, Args)]
pub struct RowsArgs {
    /// The training set to read from the lake: a file of training/ among the SQL files
    #[arg(long, default_value = "fraud", conflicts_with = "data")]
    pub set: String,
    /// Read the lake as it was after this epoch [default: the last complete one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..), conflicts_with = "data")]
    pub epoch: Option<i64>,
    /// Files (.csv, .csv.gz, .parquet) with the same columns, one below the other, in the place of the lake
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "label")]
    pub data: Vec<String>,
    /// The column that says what is fraud: true and false, or 1 and 0
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub label: Option<String>,
    /// The column that says when a row happened [default: the rows are in the order of time]
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub time: Option<String>,
    /// Columns that are no features, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', requires = "data")]
    pub ignore: Vec<String>,
    /// Columns by which quality is reported, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', requires = "data")]
    pub segment: Vec<String>,
    /// The column of the card or user, for the precision among the top cards of a day; no feature
    #[arg(long, value_name = "COLUMN", requires = "data")]
    pub card: Option<String>,
}

/// The rows, what their columns are for, and where they were read.
pub struct Source {
    pub table: Table,
    pub roles: Roles,
    pub ignored: Vec<String>,
    pub lake: Option<LakeSource>,
}

pub fn read(args: &RowsArgs, app: &App, label_delay_hours: u32) -> anyhow::Result<Source> {
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
