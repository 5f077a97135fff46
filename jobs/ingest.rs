use std::sync::Arc;

use assay::pipeline::{MessageFeed, Progress, Reach, Stream};
use assay::source::KafkaSource;
use clap::Args;

use crate::app::{App, KafkaArgs};
use crate::exit::Exit;
use crate::run::BROKER_PATIENCE;
use crate::summary;
use crate::ui::Goal;

/// Bring what is in Kafka into bronze; `assay refine` makes silver and gold of it.
#[derive(Debug, Clone, Args)]
pub struct IngestArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Stop when everything that is in Kafka now has been read
    #[arg(long)]
    pub until_end: bool,
}

pub fn run(args: IngestArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    app.settings.check()?;
    app.stop_on_signals();
    let progress = Arc::new(Progress::new());
    let began_us = app.clock.now_us();
    let running = app.open(true)?.split(&app)?;
    let positions = running.positions()?;
    let mut source = KafkaSource::open(app.settings.consumer(), Arc::new(std::sync::Mutex::new(positions.clone())))?;
    if args.until_end {
        source.until_end(BROKER_PATIENCE)?;
    }
    let handle = source.handle();
    let shown = app.show("ingest", Goal::Endless, &progress);
    let decoder = app.decoder(&running.contract)?;
    let feed = MessageFeed::new(source, decoder, Arc::clone(&app.clock), Arc::clone(&app.metrics));
    let stream = Stream {
        stages: running.stages,
        tables: running.tables,
        next: positions,
        settings: app.settings.epoch.clone(),
        clock: Arc::clone(&app.clock),
        metrics: Arc::clone(&app.metrics),
        progress: Arc::clone(&progress),
        stop: &app.stop,
        reach: Reach::Bronze,
        maintenance: app.maintenance(),
        on_durable: Box::new(move |positions| handle.commit_telemetry(positions)),
    };
    let tables = stream.run(feed)?;
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    summary::print(&app, &summary::ledger("ingest", &tables, &progress, elapsed_s), false)?;
    Ok(Exit::Done)
}
