//! The whole pipeline: a backlog in Kafka becomes committed gold and scores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay::generate::{Generated, Generator};
use assay::pipeline::{Feed, MessageFeed, Progress, Reach, Stream, Tables};
use assay::source::{EmbeddedBroker, KafkaSource, Outgoing, Pace, Producer, SharedPositions};
use clap::Args;
use serde_json::json;

use super::machine::{Cpu, Machine, cpu_of_threads, peak_rss_mib};
use super::scratch::{PARTITIONS, Scratch, ScratchArgs, Seen, TOPIC, Watched, another, generator, lock, report_of};
use crate::app::{App, KafkaArgs, Running};
use crate::exit::Exit;
use crate::generate::Shape;
use crate::run::BROKER_PATIENCE;
use crate::ui::{Goal, thousands};

/// The embedded broker keeps little: so many messages of a partition may be ahead of the consumer.
const AHEAD_MAX: u32 = 20_000;
/// What the stages alone are measured on, at most.
const STAGE_EVENTS: u64 = 1_000_000;

/// Drain a backlog in Kafka into committed gold and scores, and hold it against the sum of the stages
#[derive(Debug, Clone, Args)]
pub struct WholeArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// Stop after so many messages [default: all that is in Kafka now; 2,000,000 without --brokers]
    #[arg(long)]
    pub events: Option<u64>,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Do not measure the stages alone
    #[arg(long)]
    pub no_stages: bool,
    #[command(flatten)]
    pub shape: Shape,
}

/// A drained stream.
struct Drained {
    tables: Tables,
    messages: u64,
    elapsed_s: f64,
    cpu: Duration,
    /// What the generator and the embedded broker took of it.
    elsewhere: Option<Duration>,
}

pub fn run(args: &WholeArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    let machine = Machine::look();
    app.stop_on_signals();
    let sum_ns = if args.no_stages { None } else { sum_of_stages(args)? };
    let scratch = Scratch::make(&args.scratch, &mut app)?;
    let drained = match args.kafka.brokers {
        Some(_) => drain_kafka(args, &mut app)?,
        None => drain_embedded(args, &mut app)?,
    };
    let Drained { tables, messages, elapsed_s, cpu, elsewhere } = drained;
    let rate = messages as f64 / elapsed_s;
    let cpu_ns = cpu.as_nanos() as f64 / messages.max(1) as f64;
    let epochs = tables.ledger.last_epoch();
    let ratio = sum_ns.map(|sum| elapsed_s * 1e9 / messages.max(1) as f64 / (sum / machine.cores as f64));
    let mut lines = vec![
        format!("{} events in {elapsed_s:.1} s: {} events/s", thousands(messages), thousands(rate as u64)),
        format!(
            "{:.1} s of CPU, {cpu_ns:.0} ns an event, {:.2} cores",
            cpu.as_secs_f64(),
            cpu.as_secs_f64() / elapsed_s
        ),
    ];
    if let Some(elsewhere) = elsewhere {
        let ns = elsewhere.as_nanos() as f64 / messages.max(1) as f64;
        lines
            .push(format!("of which the generator and the embedded broker, in this process, took {ns:.0} ns an event"));
    }
    lines.push(format!("{epochs} epochs, peak RSS {} MiB, lake {} MiB", peak_rss_mib(), scratch.size_mib()));
    if let (Some(sum), Some(ratio)) = (sum_ns, ratio) {
        lines.push(format!("{ratio:.2} times the sum of the stages ({sum:.0} ns) divided by {} cores", machine.cores));
    }
    let figures = json!({
        "events": messages, "elapsed_s": elapsed_s, "events_per_s": rate, "cpu_s": cpu.as_secs_f64(),
        "cpu_ns_per_event": cpu_ns, "elsewhere_cpu_s": elsewhere.map(|time| time.as_secs_f64()), "epochs": epochs,
        "peak_rss_mib": peak_rss_mib(), "sum_of_stages_ns": sum_ns, "ratio": ratio,
        "broker": if elsewhere.is_some() { "embedded" } else { "given" },
    });
    super::report(&app, &machine, "whole", &figures, &lines)?;
    Ok(if app.stop.load(Ordering::Relaxed) { Exit::Failed } else { Exit::Done })
}

/// The stages run in a process of their own, so that their memory and time are not counted here.
fn sum_of_stages(args: &WholeArgs) -> anyhow::Result<Option<f64>> {
    let events = args.events.unwrap_or(STAGE_EVENTS).min(STAGE_EVENTS).to_string();
    let mut arguments = vec!["bench", "--json", "stages", "--events", &events];
    if let Some(brokers) = &args.kafka.brokers {
        arguments.extend(["--brokers", brokers]);
    }
    for topic in &args.kafka.topic {
        arguments.extend(["--topic", topic]);
    }
    let scratch = args.scratch.scratch.as_ref().map(|folder| folder.display().to_string());
    if let Some(scratch) = &scratch {
        arguments.extend(["--scratch", scratch]);
    }
    let report = report_of(another(arguments)?)?;
    Ok(report.pointer("/figures/sum_ns_per_event").and_then(serde_json::Value::as_f64))
}

fn drain_kafka(args: &WholeArgs, app: &mut App) -> anyhow::Result<Drained> {
    app.settings.kafka.group_id = format!("assay-bench-{}", uuid::Uuid::new_v4().simple());
    let running = app.open(true)?.split(app)?;
    let mut source = KafkaSource::open(app.settings.kafka.clone(), Arc::default())?;
    source.until_end(BROKER_PATIENCE)?;
    let handle = source.handle();
    let feed = feed(app, &running, source)?;
    let (feed, seen) = Watched::new(feed, args.events, false, app);
    let goal = args.events.map_or(Goal::Endless, Goal::Messages);
    let stop = Arc::clone(&app.stop);
    let tables =
        stream(app, running, feed, goal, &stop, Box::new(move |positions| handle.commit_telemetry(positions)))?;
    let (began_us, cpu_before) =
        lock(&seen).first.ok_or_else(|| crate::app::usage("there is nothing in Kafka to read"))?;
    Ok(drained(app, tables, &seen, began_us, cpu_before, None))
}

fn drain_embedded(args: &WholeArgs, app: &mut App) -> anyhow::Result<Drained> {
    let events = args.events.unwrap_or(2_000_000);
    let generator = generator(events, args.seed, 5_000.0, &args.shape)?;
    let broker = EmbeddedBroker::start(&[(TOPIC, i32::try_from(PARTITIONS)?)])?;
    app.settings.kafka.brokers = broker.bootstrap_servers().to_owned();
    app.settings.kafka.topics = vec![TOPIC.to_owned()];
    let running = app.open(true)?.split(app)?;
    let positions: SharedPositions = Arc::default();
    let source = KafkaSource::open(app.settings.kafka.clone(), Arc::clone(&positions))?;
    let feed = feed(app, &running, source)?;
    let (feed, seen) = Watched::new(feed, Some(events), false, app);
    let (ended, generated_ns) = (AtomicBool::new(false), AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let app: &App = app;
    let tables = std::thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let gone = || app.stop.load(Ordering::Relaxed) || ended.load(Ordering::Relaxed);
            let produced = produce(app, generator, &positions, &gone);
            generated_ns.store(Cpu::Thread.ns(), Ordering::Relaxed);
            if produced.is_err() || app.stop.load(Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
            }
            produced
        });
        let streamed = stream(app, running, feed, Goal::Messages(events), &stop, Box::new(|_| {}));
        ended.store(true, Ordering::Relaxed);
        let produced =
            producing.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the generator stopped without a word")));
        let tables = streamed?;
        produced?;
        Ok::<_, anyhow::Error>(tables)
    })?;
    let elsewhere = Duration::from_nanos(generated_ns.load(Ordering::Relaxed)) + cpu_of_threads("rdk:mock");
    let (began_us, cpu_before) = lock(&seen).first.unwrap_or_default();
    Ok(drained(app, tables, &seen, began_us, cpu_before, Some(elsewhere)))
}

/// The time ends when the last epoch is published, and not when the threads have gone home.
fn drained(
    app: &App,
    tables: Tables,
    seen: &Mutex<Seen>,
    began_us: i64,
    cpu_before: Duration,
    elsewhere: Option<Duration>,
) -> Drained {
    let cpu = Cpu::Process.time().saturating_sub(cpu_before);
    let last = tables.ledger.get(tables.ledger.last_epoch()).ok().flatten();
    let ended_us = last.map_or_else(|| app.clock.now_us(), |record| record.published_at_us);
    let messages = lock(seen).messages;
    Drained { tables, messages, elapsed_s: (ended_us - began_us).max(1) as f64 / 1e6, cpu, elsewhere }
}

pub fn feed(app: &App, running: &Running, source: KafkaSource) -> anyhow::Result<MessageFeed<KafkaSource>> {
    let decoder = app.decoder(&running.contract)?;
    Ok(MessageFeed::new(source, decoder, Arc::clone(&app.clock), Arc::clone(&app.metrics)))
}

/// Runs the stream to the end of its feed.
pub fn stream<'a>(
    app: &'a App,
    running: Running,
    feed: impl Feed,
    goal: Goal,
    stop: &'a AtomicBool,
    on_durable: Box<dyn FnMut(&assay::domain::Positions) + Send + 'a>,
) -> anyhow::Result<Tables> {
    let progress = Arc::new(Progress::new());
    let next = running.positions()?;
    let shown = app.show("bench", goal, &progress);
    let stream = Stream {
        stages: running.stages,
        tables: running.tables,
        next,
        settings: app.settings.epoch.clone(),
        clock: Arc::clone(&app.clock),
        metrics: Arc::clone(&app.metrics),
        progress: Arc::clone(&progress),
        stop,
        reach: Reach::Gold,
        maintenance: app.maintenance(),
        on_durable,
    };
    let tables = stream.run(feed)?;
    drop(shown);
    Ok(tables)
}

fn produce(
    app: &App,
    mut generator: Generator,
    positions: &SharedPositions,
    gone: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let mut producer = Producer::open(&app.settings.kafka)?;
    let mut pace = Pace::new(TOPIC, Arc::clone(positions), AHEAD_MAX);
    let mut message = Generated::default();
    while !gone() && generator.next_into(&mut message) {
        let outgoing = Outgoing {
            topic: TOPIC,
            partition: Some(message.partition),
            key: Some(&message.key),
            payload: message.payload(),
            timestamp_ms: Some(message.timestamp_ms),
            headers: &message.headers(),
        };
        if !producer.send_paced(&outgoing, message.partition, &mut pace, gone)? {
            break;
        }
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}
