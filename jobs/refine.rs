use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assay::pipeline::{Progress, refine_pending};
use clap::Args;

use crate::app::App;
use crate::exit::Exit;
use crate::summary;
use crate::ui::Goal;

/// Make silver and gold of the epochs that bronze has and they have not, then stop.
#[derive(Debug, Clone, Args)]
pub struct RefineArgs {}

pub fn run(_args: RefineArgs, app: App) -> anyhow::Result<Exit> {
    app.stop_on_signals();
    let progress = Arc::new(Progress::new());
    let began_us = app.clock.now_us();
    let mut running = app.open(false)?.split(&app)?;
    running.stages.warm_up()?;
    let shown = app.show("refine", Goal::Endless, &progress);
    let patience = Duration::from_secs(app.settings.epoch.store_patience_s);
    let mut maintenance = app.maintenance();
    let counted = Arc::clone(&progress);
    refine_pending(&mut running.tables, &mut running.stages, patience, &app.metrics, |record, tables| {
        counted.note(record);
        maintenance.after_epoch(tables);
        !app.stop.load(Ordering::Relaxed)
    })?;
    maintenance.finish(&mut running.tables);
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    summary::print(&app, &summary::ledger("refine", &running.tables, &progress, elapsed_s), true)?;
    Ok(Exit::Done)
}
