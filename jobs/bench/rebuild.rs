//! Recomputing everything from a large bronze.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use assay::domain::EpochRecord;
use assay::generate::Batches;
use assay::lake::FileHistory;
use assay::pipeline::{MessageFeed, Progress, Reach, Stream, Target, pending_epochs, rebuild};
use clap::Args;
use serde_json::json;

use super::machine::{Cpu, Machine, peak_rss_mib};
use super::scratch::{GeneratedSource, Scratch, ScratchArgs, TOPIC, another, generator, report_of};
use crate::app::{App, Opened};
use crate::exit::Exit;
use crate::generate::Shape;
use crate::ui::{Goal, thousands};

/// Events of the simulated second.
const EVENT_RATE: u32 = 5_000;

/// Recompute silver, gold and scores from a bronze of an hour at 5,000 events a second
#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    pub scratch: ScratchArgs,
    #[command(flatten)]
    pub fill: Fill,
}

#[derive(Debug, Clone, Args)]
pub struct Fill {
    /// How many messages; fewer than an hour's are spread over an hour all the same
    #[arg(long, default_value_t = 18_000_000)]
    pub events: u64,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    #[command(flatten)]
    pub shape: Shape,
}

/// Fill bronze with generated messages.
#[derive(Debug, Clone, Args)]
pub struct FillArgs {
    #[command(flatten)]
    pub fill: Fill,
}

pub fn run(args: &RebuildArgs, mut app: App) -> anyhow::Result<Exit> {
    let machine = Machine::look();
    let scratch = Scratch::make(&args.scratch, &mut app)?;
    // Bronze is filled by a process of its own, so that this one's memory is that of the rebuild.
    let lake = scratch.lake().display().to_string();
    let (events, seed) = (args.fill.events.to_string(), args.fill.seed.to_string());
    let mut arguments = vec!["bench", "--json", "--lake", &lake, "fill", "--events", &events, "--seed", &seed];
    let shape = shape_arguments(&args.fill.shape);
    arguments.extend(shape.iter().map(String::as_str));
    let filled = report_of(another(arguments)?)?;
    let (began_us, cpu_before) = (app.clock.now_us(), Cpu::Process.time());
    let Opened { compiled, mut tables, plan, lake: _lake, lease: _lease, .. } = app.open(false)?;
    let rows = u64::try_from(tables.bronze.rows()).unwrap_or(0);
    let history = FileHistory::new(tables.reader(&tables.silver), plan.event_time());
    let stages = compiled.with_history(history, None, Arc::clone(&app.clock));
    let progress = Arc::new(Progress::new());
    let shown = app.show("rebuild", Goal::Messages(rows), &progress);
    let record = rebuild(&mut tables, stages, Target::All, &app.clock, &app.metrics, &progress)?;
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    let cpu = Cpu::Process.time() - cpu_before;
    let rate = rows as f64 / elapsed_s;
    let cpu_ns = cpu.as_nanos() as f64 / rows.max(1) as f64;
    let mut lines = vec![
        format!(
            "rebuild all of {} bronze rows in {elapsed_s:.1} s: {} rows/s",
            thousands(rows),
            thousands(rate as u64)
        ),
        format!("{:.1} s of CPU, {cpu_ns:.0} ns a row, {:.2} cores", cpu.as_secs_f64(), cpu.as_secs_f64() / elapsed_s),
        format!("peak RSS {} MiB, lake {} MiB", peak_rss_mib(), scratch.size_mib()),
    ];
    let rebuilt = record.tables.iter().filter(|table| table.rows_added > 0);
    lines.extend(rebuilt.map(|table| {
        format!(
            "  {:<28} {:>14} rows",
            table.table.to_string(),
            thousands(u64::try_from(table.rows_added).unwrap_or(0))
        )
    }));
    let figures = json!({
        "bronze_rows": rows, "elapsed_s": elapsed_s, "rows_per_s": rate, "cpu_s": cpu.as_secs_f64(),
        "cpu_ns_per_row": cpu_ns, "peak_rss_mib": peak_rss_mib(), "fill": filled.get("figures"),
    });
    super::report(&app, &machine, "rebuild", &figures, &lines)?;
    Ok(Exit::Done)
}

fn shape_arguments(shape: &Shape) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut push = |flag: &str, value: Option<String>| arguments.extend(value.map(|value| format!("--{flag}={value}")));
    push("event-rate", shape.event_rate.map(|value| value.to_string()));
    push("start-at", shape.start_at.clone());
    push("users", shape.users.map(|value| value.to_string()));
    push("merchants", shape.merchants.map(|value| value.to_string()));
    let shares = [
        ("duplicates", shape.duplicates),
        ("late", shape.late),
        ("out-of-order", shape.out_of_order),
        ("malformed", shape.malformed),
        ("bad-rows", shape.bad_rows),
        ("v2", shape.v2),
        ("json-share", shape.json_share),
    ];
    for (flag, share) in shares {
        push(flag, share.map(|value| value.to_string()));
    }
    arguments
}

/// `ingest` from the generator, in bounded memory; the ledger then says that its epochs are complete.
pub fn fill(args: &FillArgs, mut app: App) -> anyhow::Result<Exit> {
    let machine = Machine::look();
    app.stop_on_signals();
    let began_us = app.clock.now_us();
    let Fill { events, seed, shape } = &args.fill;
    let event_rate = (*events as f64 / 3600.0).min(f64::from(EVENT_RATE));
    let batches = Batches::new(generator(*events, *seed, event_rate, shape)?, TOPIC);
    app.settings.epoch.messages_max = 250_000;
    let running = app.open(true)?.split(&app)?;
    let source = GeneratedSource { batches, batch_messages: app.settings.kafka.batch_messages };
    let decoder = app.decoder(&running.contract)?;
    let progress = Arc::new(Progress::new());
    let shown = app.show("fill", Goal::Messages(*events), &progress);
    let stream = Stream {
        next: running.positions()?,
        stages: running.stages,
        tables: running.tables,
        settings: app.settings.epoch.clone(),
        clock: Arc::clone(&app.clock),
        metrics: Arc::clone(&app.metrics),
        progress: Arc::clone(&progress),
        stop: &app.stop,
        reach: Reach::Bronze,
        maintenance: app.maintenance(),
        on_durable: Box::new(|_| {}),
    };
    let mut tables = stream.run(MessageFeed::new(source, decoder, Arc::clone(&app.clock), Arc::clone(&app.metrics)))?;
    drop(shown);
    // A rebuild takes the rows of the epochs that the ledger has.
    let now_us = app.clock.now_us();
    for epoch in pending_epochs(&tables)? {
        let record = EpochRecord {
            epoch: epoch.epoch,
            started_at_us: epoch.started_at_us,
            published_at_us: now_us,
            ranges: epoch.ranges,
            messages: epoch.messages,
            bronze_rows: epoch.bronze_rows,
            dead_letters: epoch.dead_letters,
            ..EpochRecord::default()
        };
        let _ = app.handle.block_on(tables.ledger.publish(&record, now_us / 1000))?;
    }
    let messages = progress.messages.load(Ordering::Relaxed);
    let elapsed_s = (now_us - began_us) as f64 / 1e6;
    let figures = json!({
        "events": messages, "elapsed_s": elapsed_s, "epochs": tables.bronze.epoch(), "peak_rss_mib": peak_rss_mib(),
    });
    let line = format!("{} messages into bronze in {elapsed_s:.1} s", thousands(messages));
    super::report(&app, &machine, "fill", &figures, &[line])?;
    Ok(Exit::Done)
}
