//! The command line. Each job is one file: thin arguments and a `run`.

#[macro_use]
mod ui;

mod allocator;
mod app;
mod bench;
mod console;
mod demo;
mod drift;
mod exit;
mod explain;
mod features;
mod generate;
mod ingest;
mod load;
mod models;
mod online;
mod predict;
mod rebuild;
mod records;
mod refine;
mod register;
mod replay;
mod run;
mod serve;
mod settings;
mod sql;
mod sql_server;
mod stopping;
mod summary;
mod traces;
mod train;
mod verify;
mod warehouse;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use app::{App, Globals, classify};
use exit::Exit;

/// From a Kafka topic of transactions to a lakehouse that can be trusted.
#[derive(Debug, Parser)]
#[command(name = "assay", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed and worth trying again, 2 bad usage or settings, 3 data refused.")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
    Run(run::RunArgs),
    Ingest(ingest::IngestArgs),
    Refine(refine::RefineArgs),
    Load(load::LoadArgs),
    Generate(generate::GenerateArgs),
    Register(register::RegisterArgs),
    Sql(sql::SqlArgs),
    Verify(verify::VerifyArgs),
    Features(features::FeaturesArgs),
    Rebuild(rebuild::RebuildArgs),
    Replay(replay::ReplayArgs),
    Train(train::TrainArgs),
    Models(models::ModelsArgs),
    Promote(models::PromoteArgs),
    Rollback(models::RollbackArgs),
    Predict(predict::PredictArgs),
    Explain(explain::ExplainArgs),
    Drift(drift::DriftArgs),
    Warehouse(warehouse::WarehouseArgs),
    Serve(serve::ServeArgs),
    Online(online::OnlineArgs),
    Settings(settings::SettingsArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let error = classify(error);
            eprintln!("assay: {error:#}");
            Exit::of(&error).into()
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<Exit> {
    allocator::set_up();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("assay-io").build()?;
    if let Job::Settings(args) = cli.job {
        return settings::run(&args, &cli.globals);
    }
    let app = App::new(&cli.globals, runtime.handle().clone())?;
    match cli.job {
        Job::Bench(args) => bench::run(args, app),
        Job::Demo(args) => demo::run(args, app),
        Job::Run(args) => run::run(args, app),
        Job::Ingest(args) => ingest::run(args, app),
        Job::Refine(args) => refine::run(args, app),
        Job::Load(args) => load::run(args, app),
        Job::Generate(args) => generate::run(args, app),
        Job::Register(args) => register::run(args, app),
        Job::Sql(args) => summary::sql(args, &app),
        Job::Verify(args) => verify::run(args, app),
        Job::Features(args) => features::run(args, &app),
        Job::Rebuild(args) => rebuild::run(args, app),
        Job::Replay(args) => replay::run(&args, app),
        Job::Train(args) => train::run(args, app),
        Job::Models(args) => models::run(&args, &app),
        Job::Promote(args) => models::promote(&args, &app),
        Job::Rollback(args) => models::rollback(&args, &app),
        Job::Predict(args) => predict::run(&args, &app),
        Job::Explain(args) => explain::run(&args, &app),
        Job::Drift(args) => drift::run(&args, &app),
        Job::Warehouse(args) => warehouse::run(&args, &app),
        Job::Serve(args) => serve::run(args, app),
        Job::Online(args) => online::run(args, app),
        Job::Settings(args) => settings::run(&args, &cli.globals),
    }
}
