use std::sync::Arc;

use assay::lake::FileHistory;
use assay::pipeline::{Progress, Target, pending_epochs, rebuild};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::app::{App, Opened, usage};
use crate::exit::Exit;
use crate::run::recover;
use crate::ui::{Goal, Look};

/// Recompute silver, gold or scores from bronze. The old tables stay in force until the new ones are whole.
#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    /// What to recompute
    #[arg(value_enum)]
    pub target: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum What {
    /// Silver and quarantine, from bronze
    Silver,
    /// The window tables, from silver
    Gold,
    /// The tables that follow from silver row by row
    Scores,
    /// Everything, from bronze
    All,
}

pub fn run(args: RebuildArgs, mut app: App) -> anyhow::Result<Exit> {
    // What happened long ago is no news.
    app.settings.scoring.topic.clear();
    app.end_on_signals("the tables are what they were, or the next start makes them so; run it again to rebuild");
    let progress = Arc::new(Progress::new());
    let began_us = app.clock.now_us();
    // What waits in bronze comes before the rebuild in the ledger.
    recover(&app, &mut app.open(false)?.split(&app)?)?;
    let Opened { compiled, mut tables, contract, plan, lake: _lake, lease: _lease } = app.open(false)?;
    let pending = pending_epochs(&tables)?.len();
    if pending > 0 {
        return Err(usage(format!("bronze has {pending} epochs that silver lacks; run `assay refine` first")));
    }
    let history = FileHistory::new(tables.reader(&tables.silver), plan.event_time());
    let mut stages = compiled.with_history(history, None, Arc::clone(&app.clock));
    if let Some(scorer) = app.stream_scorer(&contract, &plan)? {
        stages.ask(Box::new(scorer.with_one_champion().map_err(anyhow::Error::msg)?));
    }
    let target = match args.target {
        What::Silver => Target::Silver,
        What::Gold => Target::Gold,
        What::Scores => Target::Scores,
        What::All => Target::All,
    };
    let shown = app.show("rebuild", Goal::Endless, &progress);
    let record = rebuild(&mut tables, stages, target, &app.clock, &app.metrics, &progress)?;
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    let rebuilt: Vec<_> = record.tables.iter().filter(|table| table.rows_added > 0).collect();
    if app.json {
        let tables: Vec<_> = rebuilt
            .iter()
            .map(|table| json!({"table": table.table.to_string(), "rows": table.rows_added, "version": table.version}))
            .collect();
        say!("{}", json!({"job": "rebuild", "epoch": record.epoch, "elapsed_s": elapsed_s, "tables": tables}))?;
    } else {
        let look = Look::of_stdout();
        say!("{}", look.fit(&format!("rebuilt as epoch {} in {elapsed_s:.1} s", record.epoch)))?;
        for table in rebuilt {
            say!(
                "  {:<28} {:>14} rows",
                table.table.to_string(),
                crate::ui::thousands(u64::try_from(table.rows_added).unwrap_or(0))
            )?;
        }
    }
    Ok(Exit::Done)
}
