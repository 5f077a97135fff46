//! `assay bench`: what the pipeline takes of the machine, stage by stage and as a whole.

mod epochs;
mod freshness;
mod machine;
mod rebuild;
mod scratch;
mod serve;
mod stages;
mod train;
mod whole;

use std::io;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::app::App;
use crate::exit::Exit;
use crate::ui::Look;
use machine::Machine;

/// Measure the speed and the memory of the pipeline on this machine.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    Whole(whole::WholeArgs),
    Stages(stages::StagesArgs),
    Rebuild(rebuild::RebuildArgs),
    Freshness(freshness::FreshnessArgs),
    Epochs(epochs::EpochsArgs),
    Serve(serve::ServeArgs),
    Train(train::TrainArgs),
    #[command(hide = true)]
    Fill(rebuild::FillArgs),
}

pub fn run(args: BenchArgs, app: App) -> anyhow::Result<Exit> {
    match args.what {
        What::Whole(args) => whole::run(&args, app),
        What::Stages(args) => stages::run(&args, app),
        What::Rebuild(args) => rebuild::run(&args, app),
        What::Freshness(args) => freshness::run(&args, app),
        What::Epochs(args) => epochs::run(&args, app),
        What::Serve(args) => serve::run(&args, app),
        What::Train(args) => train::run(&args, app),
        What::Fill(args) => rebuild::fill(&args, app),
    }
}

/// Prints a report: figures by name for machines, lines for people.
fn report(app: &App, machine: &Machine, name: &str, figures: &Value, lines: &[String]) -> io::Result<()> {
    if app.json {
        return say!("{}", json!({"job": "bench", "bench": name, "machine": machine, "figures": figures}));
    }
    let look = Look::of_stdout();
    say!("{}", look.fit(&machine.line()))?;
    for line in lines {
        say!("{line}")?;
    }
    Ok(())
}
