//! Many small epochs in a row: what an epoch costs must not grow with their number.

use std::sync::{Arc, Mutex};

use assay::domain::EpochRecord;
use assay::generate::Batches;
use assay::pipeline::MessageFeed;
use clap::Args;
use serde_json::json;

use super::machine::{Machine, peak_rss_mib, rss_mib};
use super::scratch::{GeneratedSource, Scratch, ScratchArgs, TOPIC, generator, lock};
use super::whole::stream;
use crate::app::App;
use crate::exit::Exit;
use crate::generate::Shape;
use crate::ui::Goal;

/// Epochs that are compared, at the beginning and at the end.
const COMPARED: usize = 100;

/// The time of a commit and the memory, over many small epochs
#[derive(Debug, Clone, Args)]
pub struct EpochsArgs {
    #[command(flatten)]
    pub scratch: ScratchArgs,
    #[arg(long, default_value_t = 2_000)]
    pub epochs: u64,
    /// Messages of an epoch, which is one second of event time
    #[arg(long, default_value_t = 500)]
    pub epoch_events: u64,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    #[command(flatten)]
    pub shape: Shape,
}

/// What an epoch took, and the memory after it.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    encode_ms: f64,
    commit_ms: f64,
    whole_ms: f64,
}

pub fn run(args: &EpochsArgs, mut app: App) -> anyhow::Result<Exit> {
    let machine = Machine::look();
    app.stop_on_signals();
    let scratch = Scratch::make(&args.scratch, &mut app)?;
    app.settings.epoch.messages_max = args.epoch_events.max(1);
    app.settings.epoch.interval_ms = 60_000;
    let events = args.epochs * args.epoch_events;
    let batches = Batches::new(generator(events, args.seed, args.epoch_events as f64, &args.shape)?, TOPIC);
    let running = app.open(true)?.split(&app)?;
    let source = GeneratedSource { batches, batch_messages: usize::try_from(args.epoch_events.max(1))? };
    let decoder = app.decoder(&running.contract)?;
    let feed = MessageFeed::new(source, decoder, Arc::clone(&app.clock), Arc::clone(&app.metrics));
    let memory = Mutex::new(Vec::new());
    let began_us = app.clock.now_us();
    let note = Box::new(|_: &_| lock(&memory).push(rss_mib()));
    let tables = stream(&app, running, feed, Goal::Messages(events), &app.stop, note)?;
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    let costs: Vec<Cost> = costs(&tables.ledger.scan(0, i64::MAX)?);
    let memory = lock(&memory);
    let width = COMPARED.min(costs.len() / 2).max(1);
    let [first, middle, last] =
        [0, costs.len() / 2, costs.len().saturating_sub(width)].map(|at| mean(&costs, at, width));
    let rss = [0, memory.len() / 2, memory.len().saturating_sub(width)].map(|at| highest(&memory, at, width));
    let files: usize = tables.all().map(|table| table.files().count()).sum();
    let mut lines = vec![format!("{} epochs of {} events in {elapsed_s:.1} s", costs.len(), args.epoch_events)];
    lines.push(format!("{:<22} {:>10} {:>10} {:>10} {:>10}", "", "encode ms", "commit ms", "epoch ms", "RSS MiB"));
    for (name, cost, rss) in [("first", first, rss[0]), ("middle", middle, rss[1]), ("last", last, rss[2])] {
        let Cost { encode_ms, commit_ms, whole_ms } = cost;
        let name = format!("{name} {width} epochs");
        lines.push(format!("{name:<22} {encode_ms:>10.1} {commit_ms:>10.1} {whole_ms:>10.1} {rss:>10}"));
    }
    lines.push(format!(
        "peak RSS {} MiB; {files} live files in all tables; lake {} MiB",
        peak_rss_mib(),
        scratch.size_mib()
    ));
    let part = |cost: Cost, rss: u64| json!({"encode_ms": cost.encode_ms, "commit_ms": cost.commit_ms, "epoch_ms": cost.whole_ms, "rss_mib": rss});
    let figures = json!({
        "epochs": costs.len(), "epoch_events": args.epoch_events, "elapsed_s": elapsed_s, "compared": width,
        "first": part(first, rss[0]), "middle": part(middle, rss[1]), "last": part(last, rss[2]),
        "peak_rss_mib": peak_rss_mib(), "live_files": files,
    });
    super::report(&app, &machine, "epochs", &figures, &lines)?;
    Ok(Exit::Done)
}

fn costs(records: &[EpochRecord]) -> Vec<Cost> {
    let stage = |record: &EpochRecord, name: &str| {
        record.stages.iter().find(|time| time.stage == name).map_or(0.0, |time| time.micros as f64 / 1000.0)
    };
    let mut before_us = None;
    let mut costs = Vec::with_capacity(records.len());
    for record in records {
        let since_us = before_us.replace(record.published_at_us).unwrap_or(record.started_at_us);
        costs.push(Cost {
            encode_ms: stage(record, "encode"),
            commit_ms: stage(record, "commit"),
            whole_ms: (record.published_at_us - since_us) as f64 / 1000.0,
        });
    }
    costs
}

fn mean(costs: &[Cost], from: usize, width: usize) -> Cost {
    let part = costs.get(from..(from + width).min(costs.len())).unwrap_or_default();
    let of = |field: fn(&Cost) -> f64| part.iter().map(field).sum::<f64>() / part.len().max(1) as f64;
    Cost {
        encode_ms: of(|cost| cost.encode_ms),
        commit_ms: of(|cost| cost.commit_ms),
        whole_ms: of(|cost| cost.whole_ms),
    }
}

fn highest(memory: &[u64], from: usize, width: usize) -> u64 {
    memory.iter().skip(from).take(width).max().copied().unwrap_or(0)
}
