use std::collections::BTreeMap;
use std::sync::Arc;

use assay::features::{Enabled, FeatureSettings};
use assay::lake::open_session;
use assay::model::registry::ModelName;
use assay::pipeline::{
    Finding, Plan, RowScorer, Subject, Verification, bronze_name, bronze_schema, lost_versions, verify, verify_features,
};
use assay::refine::{Mode, TableDef};
use assay::scoring::{RecallScorer, ScoringPipeline, streamed_model};
use assay::source::end_offsets;
use clap::Args;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use crate::app::{App, KafkaArgs, Reading};
use crate::exit::{Exit, Refused};
use crate::run::BROKER_PATIENCE;

/// What the queries of a verification may hold; beyond it they go to temporary files.
const MEMORY_BYTES_MAX: usize = 1 << 30;

/// Prove conservation, uniqueness and gold from the tables alone; exits 3 when something does not hold.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Hold features against their definition instead: a sample of what stands there, recomputed from silver row by row.
    /// Also beside a running job
    #[arg(long)]
    pub features: bool,
    /// How many rows of features are recomputed
    #[arg(long, value_name = "ROWS", default_value_t = 1000, requires = "features")]
    pub sample: usize,
    /// Another seed gives another sample
    #[arg(long, default_value_t = 0, requires = "features")]
    pub seed: u64,
}

pub fn run(args: VerifyArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    app.settings.check()?;
    if args.features {
        return features(&args, &app);
    }
    let Reading { plan, lake, _lease, tables, unfilled } = app.open_to_read()?;
    let ends = match args.kafka.brokers {
        Some(_) => Some(end_offsets(&app.settings.kafka, BROKER_PATIENCE)?),
        None => None,
    };
    let lost = lost_versions(&tables)?;
    let mut report = if lost.is_empty() {
        let pool = Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        // One complete epoch is judged, whatever a writer adds meanwhile.
        let epoch = Some(tables.ledger.last_epoch()).filter(|epoch| *epoch > 0);
        let session = app.handle.block_on(open_session(&lake, epoch, app.clock.now_us() / 1000, Some(runtime)))?;
        let settings = app.stage_settings();
        let recall = |said: &BTreeMap<i64, String>| recall(&app, &plan, said);
        let subject = Subject {
            plan: &plan,
            settings: &settings,
            hash_key: lake.hash_key(),
            ends: ends.as_ref(),
            recall: Some(&recall),
        };
        let quiet = app.json;
        verify(&tables, &session.context, &subject, |step| {
            if !quiet {
                eprintln!("checking {step}");
            }
        })?
    } else {
        // Nobody can read the last epoch, so there is nothing else to look at.
        Verification { epochs: tables.ledger.last_epoch(), findings: lost, ..Verification::default() }
    };
    report.findings.splice(0..0, unfilled.iter().map(unfilled_table));
    outcome(&app, &report, &lake.location())
}

/// The versions of the registry that answered in a stream.
fn recall(app: &App, plan: &Plan, said: &BTreeMap<i64, String>) -> Result<Box<dyn RowScorer>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (_, model) = streamed_model(plan).ok_or("no table names a `model`")?;
    let name = ModelName::parse(model).map_err(|error| told(&error))?;
    let contract = app.contract().map_err(|error| told(&error))?;
    let pipeline = ScoringPipeline::compile(plan, &contract).map_err(|error| told(&error))?;
    let registry = app.models().map_err(|error| error.to_string())?;
    Ok(Box::new(RecallScorer::new(&pipeline, &registry, &name, said)?))
}

/// A lake that is written meanwhile is looked at as of its newest epoch.
fn features(args: &VerifyArgs, app: &App) -> anyhow::Result<Exit> {
    let contract = app.contract()?;
    // Whoever asks for them has a lake that holds them, whatever is set for the stream.
    let wanted = FeatureSettings { enabled: Enabled::Yes, ..app.settings.features.clone() };
    let catalog = app.catalog(&contract)?.with_features(&wanted, |_| true);
    let plan = Plan::new(catalog, bronze_name(contract.name()), bronze_schema(&contract))?;
    let lake = app.open_lake(false)?;
    let now_ms = app.clock.now_us() / 1000;
    let session = app.handle.block_on(open_session(&lake, None, now_ms, None))?;
    let report = app.handle.block_on(verify_features(&session.context, &plan, args.sample, args.seed));
    let mut report = report?;
    report.epochs = session.record.as_ref().map_or(0, |record| record.epoch);
    outcome(app, &report, &lake.location())
}

fn outcome(app: &App, report: &Verification, location: &str) -> anyhow::Result<Exit> {
    print(app, report)?;
    match report.findings.len() {
        0 => Ok(Exit::Done),
        1 => Err(Refused(format!("1 check of the lake at {location} does not hold")).into()),
        count => Err(Refused(format!("{count} checks of the lake at {location} do not hold")).into()),
    }
}

fn unfilled_table(def: &TableDef) -> Finding {
    let rebuild = if def.mode == Mode::Window { "gold" } else { "scores" };
    Finding {
        check: "tables",
        epoch: None,
        table: Some(def.table.to_string()),
        detail: format!("{} defines it, and no epoch of the lake has it: run `assay rebuild {rebuild}`", def.file),
    }
}

fn print(app: &App, report: &Verification) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    for line in &report.proven {
        say!("ok    {line}")?;
    }
    for note in &report.notes {
        say!("note  {note}")?;
    }
    for finding in &report.findings {
        let epoch = finding.epoch.map_or_else(String::new, |epoch| format!(" epoch {epoch}"));
        let table = finding.table.as_deref().map_or_else(String::new, |table| format!(" {table}"));
        say!("FAIL  {}{epoch}{table}: {}", finding.check, finding.detail)?;
    }
    Ok(())
}
