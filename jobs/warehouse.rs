//! `assay warehouse`: tables of PostgreSQL brought to the newest epoch of the lake.

use std::sync::Arc;

use assay::lake::{EpochLedger, open_session, require_tables};
use assay::refine::RowsTable;
use assay::warehouse::{Definitions, Job, Options, Outcome, Report, load};
use clap::Args;

use crate::app::{App, usage};
use crate::exit::Exit;
use crate::ui::thousands;

/// Bring tables of PostgreSQL to the newest epoch of the lake: each epoch exactly once, checked before it is seen.
///
/// What the tables are is in sql/warehouse, and what must hold of them in sql/checks. Only what is new is read; after a
/// rebuild, everything. Works beside `assay run`. Exits 1 when the connection is lost or another such job is at work, 2 when
/// tables differ from their files, 3 when a check does not hold.
#[derive(Debug, Clone, Args)]
pub struct WarehouseArgs {
    /// postgres://user@host:port/database, without a password (ASSAY_WAREHOUSE_PASSWORD) [default: that of the settings]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The schema of the tables [default: that of the settings, warehouse]
    #[arg(long, value_name = "NAME")]
    pub schema: Option<String>,
    /// Fill all tables anew, in one transaction; those that differ from their files are dropped and made anew
    #[arg(long)]
    pub full: bool,
    /// Add columns that the files have and the tables lack, if they may be NULL
    #[arg(long)]
    pub migrate: bool,
    /// Load no epoch after this one [default: the last complete one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub until: Option<i64>,
}

pub fn run(args: &WarehouseArgs, app: &App) -> anyhow::Result<Exit> {
    let mut settings = app.settings.warehouse.clone();
    if let Some(url) = &args.url {
        settings.url.clone_from(url);
    }
    if let Some(schema) = &args.schema {
        settings.schema.clone_from(schema);
    }
    if let Some((key, cause)) = settings.problem() {
        return Err(usage(format!("warehouse.{key} {cause}")));
    }
    // Everything that the user wrote is checked before the lake is read.
    settings.target()?;
    let contract = app.contract()?;
    let plan = app.plan(&contract)?;
    let references = &plan.catalog.references;
    let silver = RowsTable::compile(&plan.silver, &plan.bronze_schema, references).map_err(usage)?;
    let definitions = Definitions::of(&plan.catalog).map_err(usage)?;
    if definitions.tables.is_empty() {
        return Err(usage(
            "no file of warehouse/ among the SQL files reads a table of this lake: write one, and set sql.folder",
        ));
    }
    let lake = app.open_lake(false)?;
    let steps = app.screen.steps("warehouse");
    steps.at("read the lake", 0, 1);
    let location = lake.location();
    let job = Job {
        settings: &settings,
        definitions: &definitions,
        references,
        silver: (plan.silver.table.clone(), Arc::clone(silver.schema())),
        pipeline: &app.settings.pipeline,
        lake: &location,
        clock: app.clock.as_ref(),
        progress: &|what, done, of| {
            steps.at(what, usize::try_from(done).unwrap_or(0), usize::try_from(of).unwrap_or(0))
        },
    };
    let options = Options { full: args.full, migrate: args.migrate, until: args.until };
    let report = app.handle.block_on(async {
        require_tables(&lake, &[EpochLedger::table_name()]).await?;
        let session = open_session(&lake, None, app.clock.now_us() / 1000, None).await?;
        load(&job, session, &options).await
    })?;
    drop(steps);
    print(app, &report)?;
    Ok(Exit::Done)
}

fn print(app: &App, report: &Report) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    let place = format!("{}, schema {}", report.warehouse, report.schema);
    match report.processing_type {
        "none" => say!("{place}: at epoch {}, nothing is new", report.epoch)?,
        "full" => {
            let because = report.because.as_deref().unwrap_or_default();
            say!("{place}: filled anew up to epoch {}, because {because}", report.epoch)?;
        }
        _ => say!("{place}: epochs {} to {} added", report.after_epoch + 1, report.epoch)?,
    }
    for table in &report.tables {
        let (rows, rate) = (thousands(table.rows), thousands(table.rows_per_s as u64));
        say!("{:<24} {rows:>14} rows  {:>8.2} s  {rate:>11} rows/s", table.table, table.seconds)?;
    }
    if report.transactions > 0 {
        let (rows, rate) = (thousands(report.rows), thousands(report.rows_per_s as u64));
        let all = format!("{} transactions, {} checks", report.transactions, report.checks);
        say!("{all:<24} {rows:>14} rows  {:>8.2} s  {rate:>11} rows/s", report.seconds)?;
    }
    for Outcome { check, failing, samples, .. } in &report.warnings {
        say!("warning  {check}: {failing} rows, such as {}", samples.join(", "))?;
    }
    for note in &report.notes {
        say!("note     {note}")?;
    }
    Ok(())
}
