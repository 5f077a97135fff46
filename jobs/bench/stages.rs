//! Each stage alone: its CPU time for an event, on generated messages, with the code of the stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use assay::contract::Decoder;
use assay::domain::{Clock, MessageBatch, OffsetRange, Stint};
use assay::generate::{Batches, Generated, Generator};
use assay::lake::{FileHistory, LakeError, Revision, Table};
use assay::pipeline::{EpochWork, Plan, Tables, Watermark, arrived, dead_letter_rows, is_open, seal};
use assay::refine::window::{TableChanges, WindowEngine, WindowTable};
use assay::refine::{Dedup, Refiner, functions};
use assay::source::{EmbeddedBroker, KafkaSource, Outgoing, Polled, Producer, Source};
use clap::Args;
use datafusion::prelude::SessionContext;
use serde_json::json;

use super::machine::{Cpu, Machine, cpu_of_threads};
use super::scratch::{PARTITIONS, Scratch, ScratchArgs, TOPIC, generator};
use crate::app::{App, KafkaArgs, Opened, usage};
use crate::exit::Exit;
use crate::generate::Shape;
use crate::ui::thousands;

/// What the embedded broker surely keeps of all partitions together.
const BROKER_KEEPS: u64 = 40_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// The CPU time of each stage for an event, on one thread
#[derive(Debug, Clone, Args)]
pub struct StagesArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub scratch: ScratchArgs,
    #[arg(long, default_value_t = 1_000_000)]
    pub events: u64,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    #[command(flatten)]
    pub shape: Shape,
}

/// The stages in the order in which an event meets them.
const STAGES: [&str; 15] = [
    "fetch",
    "decode",
    "bronze rows",
    "silver",
    "dedup",
    "scores",
    "features",
    "windows",
    "windows finish",
    "restate",
    "bronze encode",
    "silver encode",
    "scores encode",
    "features encode",
    "gold encode",
];

/// CPU and wall time by stage.
#[derive(Debug, Default)]
struct Meter {
    stages: Vec<(&'static str, Duration)>,
}

impl Meter {
    fn time<T>(&mut self, stage: &'static str, work: impl FnOnce() -> T) -> T {
        let before = Cpu::Thread.time();
        let done = work();
        self.add(stage, Cpu::Thread.time().saturating_sub(before));
        done
    }

    fn add(&mut self, stage: &'static str, time: Duration) {
        match self.stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, total)) => *total += time,
            None => self.stages.push((stage, time)),
        }
    }
}

/// Lets the tables time themselves in CPU time: nothing else runs in this process while they write.
struct CpuClock {
    began_us: i64,
}

impl Clock for CpuClock {
    fn now_us(&self) -> i64 {
        self.began_us + i64::try_from(Cpu::Process.time().as_micros()).unwrap_or(0)
    }
}

pub fn run(args: &StagesArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    let machine = Machine::look();
    let mut meter = Meter::default();
    let (fetched, fetch) = match args.kafka.brokers {
        Some(_) => fetch_from(&app, args.events)?,
        None => fetch_embedded(&mut app, args)?,
    };
    let scratch = Scratch::make(&args.scratch, &mut app)?;
    app.clock = Arc::new(CpuClock { began_us: app.clock.now_us() });
    let began_us = app.clock.now_us();
    let mut line = Line::open(&app)?;
    let start_up_us = app.clock.now_us() - began_us;
    let mut batches = Batches::new(generator(args.events, args.seed, 5_000.0, &args.shape)?, TOPIC);
    let mut messages = 0;
    while let Some(batch) = batches.next(app.settings.kafka.batch_messages) {
        messages += batch.len() as u64;
        line.take(&batch, &mut meter)?;
        if line.work.messages >= app.settings.epoch.messages_max {
            line.finish(&mut meter)?;
        }
    }
    line.finish(&mut meter)?;
    let mut figures = vec![("fetch", fetch.as_nanos() as f64 / fetched.max(1) as f64)];
    figures.extend(meter.stages.iter().map(|(name, time)| (*name, time.as_nanos() as f64 / messages.max(1) as f64)));
    figures.sort_by_key(|(name, _)| STAGES.iter().position(|stage| stage == name).unwrap_or(STAGES.len()));
    let sum: f64 = figures.iter().map(|(_, ns)| ns).sum();
    let mut lines = vec![format!("{:<16} {:>10} {:>12}", "stage", "ns/event", "M events/s")];
    let row = |name: &str, ns: f64| format!("{name:<16} {ns:>10.0} {:>12.2}", 1e3 / ns.max(0.001));
    lines.extend(figures.iter().map(|(name, ns)| row(name, *ns)));
    lines.push(row("sum", sum));
    lines.push(format!(
        "{} events in {} epochs; ns of CPU, events a second on one core; start-up {} ms of CPU, lake {} MiB",
        thousands(messages),
        line.epoch,
        start_up_us / 1000,
        scratch.size_mib()
    ));
    if args.kafka.brokers.is_none() {
        lines.push("fetch is from the embedded broker, whose own time is left out".to_owned());
    }
    let by_stage: serde_json::Map<_, _> = figures.iter().map(|(name, ns)| ((*name).to_owned(), json!(ns))).collect();
    let figures = json!({"events": messages, "epochs": line.epoch, "ns_per_event": by_stage, "sum_ns_per_event": sum});
    super::report(&app, &machine, "stages", &figures, &lines)?;
    Ok(Exit::Done)
}

/// Reads what is in Kafka, at most `events`.
fn fetch_from(app: &App, events: u64) -> anyhow::Result<(u64, Duration)> {
    let mut kafka = app.settings.kafka.clone();
    kafka.group_id = format!("assay-bench-{}", uuid::Uuid::new_v4().simple());
    let mut source = KafkaSource::open(kafka, Arc::default())?;
    source.until_end(PATIENCE)?;
    let (mut messages, mut began) = (0, Cpu::Process.time());
    while messages < events {
        match source.poll(Duration::from_millis(20))? {
            Polled::Batch(batch) => messages += batch.len() as u64,
            // Joining the group is no part of fetching.
            Polled::Idle if messages == 0 => began = Cpu::Process.time(),
            Polled::Idle => {}
            Polled::End => break,
        }
    }
    Ok((messages, Cpu::Process.time() - began))
}

/// Sends as much as the embedded broker keeps, reads it, and so on.
fn fetch_embedded(app: &mut App, args: &StagesArgs) -> anyhow::Result<(u64, Duration)> {
    let broker = EmbeddedBroker::start(&[(TOPIC, i32::try_from(PARTITIONS)?)])?;
    app.settings.kafka.brokers = broker.bootstrap_servers().to_owned();
    app.settings.kafka.topics = vec![TOPIC.to_owned()];
    let events = args.events.min(10 * BROKER_KEEPS);
    let mut generator = generator(events, args.seed, 5_000.0, &args.shape)?;
    let mut source = KafkaSource::open(app.settings.kafka.clone(), Arc::new(Mutex::default()))?;
    let (mut read, mut took) = (0, Duration::ZERO);
    loop {
        let sent = send(app, &mut generator, BROKER_KEEPS)?;
        if sent == 0 {
            return Ok((read, took));
        }
        let (mut left, deadline_us) = (sent, app.clock.now_us() + 60_000_000);
        let (mut began, mut broker_began) = (Cpu::Process.time(), cpu_of_threads("rdk:mock"));
        while left > 0 {
            match source.poll(Duration::from_millis(20))? {
                Polled::Batch(batch) => left = left.saturating_sub(batch.len() as u64),
                _ if read == 0 && left == sent => {
                    (began, broker_began) = (Cpu::Process.time(), cpu_of_threads("rdk:mock"))
                }
                _ => {}
            }
            if app.clock.now_us() > deadline_us {
                anyhow::bail!("the embedded broker lost {left} messages of {sent}");
            }
        }
        read += sent;
        took += (Cpu::Process.time() - began).saturating_sub(cpu_of_threads("rdk:mock") - broker_began);
    }
}

fn send(app: &App, generator: &mut Generator, messages: u64) -> anyhow::Result<u64> {
    let mut producer = Producer::open(&app.settings.kafka)?;
    let mut message = Generated::default();
    let mut sent = 0;
    while sent < messages && generator.next_into(&mut message) {
        producer.send(&Outgoing {
            topic: TOPIC,
            partition: Some(message.partition),
            key: Some(&message.key),
            payload: message.payload(),
            timestamp_ms: Some(message.timestamp_ms),
            headers: &message.headers(),
        })?;
        sent += 1;
    }
    producer.flush(PATIENCE)?;
    Ok(sent)
}

/// The stages in a row, each apart.
struct Line {
    decoder: Decoder,
    silver: Refiner,
    dedup: Dedup,
    rows: Vec<Refiner>,
    windows: WindowEngine,
    history: FileHistory,
    plan: Plan,
    tables: Tables,
    clock: Arc<dyn Clock>,
    metrics_patience: Duration,
    watermark: Watermark,
    epoch: i64,
    work: EpochWork,
    _lease: assay::lake::Lease,
}

impl Line {
    fn open(app: &App) -> anyhow::Result<Self> {
        let Opened { contract, plan, lake, lease, tables, .. } = app.open(true)?;
        let settings = app.stage_settings();
        let mut key = [0; 16];
        for (half, word) in key.chunks_exact_mut(8).zip(lake.hash_key()) {
            half.copy_from_slice(&word.to_le_bytes());
        }
        let references = &plan.catalog.references;
        let mut alone = plan.silver.clone();
        alone.deduplicate = false;
        let silver = Refiner::new(&alone, &plan.bronze_schema, references, &settings.refine, key)?;
        let dedup =
            Dedup::new(silver.schema(), &plan.silver.key, plan.event_time(), &settings.refine, key).map_err(usage)?;
        let refiner = |def| Refiner::new(def, silver.schema(), references, &settings.refine, key);
        let rows = plan.rows.iter().map(refiner).collect::<Result<Vec<_>, _>>()?;
        let context = SessionContext::new();
        functions::register(&context, references);
        let compile = |def| WindowTable::compile(def, silver.schema(), &context);
        let windows = plan.windows.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            decoder: app.decoder(&contract)?,
            dedup,
            rows,
            windows: WindowEngine::new(windows, settings.windows.clone())?,
            history: FileHistory::new(tables.reader(&tables.silver), plan.event_time()),
            silver,
            plan,
            tables,
            clock: Arc::clone(&app.clock),
            metrics_patience: Duration::from_secs(app.settings.epoch.store_patience_s),
            watermark: Watermark::new(settings.lateness_us, None),
            epoch: 0,
            work: EpochWork::default(),
            _lease: lease,
        })
    }

    fn take(&mut self, batch: &MessageBatch, meter: &mut Meter) -> anyhow::Result<()> {
        if self.work.epoch == 0 {
            self.epoch += 1;
            self.watermark.begin();
            self.work = EpochWork { epoch: self.epoch, started_at_us: self.clock.now_us(), ..EpochWork::default() };
            self.work.rows.resize_with(self.rows.len(), Vec::new);
        }
        let now_us = self.clock.now_us();
        let decoded = meter.time("decode", || self.decoder.decode(batch))?;
        let (epoch, schema) = (self.epoch, Arc::clone(&self.plan.bronze_schema));
        let (arrived, bronze, dead) = meter.time("bronze rows", || {
            let arrived = arrived(batch, decoded, now_us, Stint::new(now_us, now_us));
            let rows = seal(&arrived.contract, &arrived.provenance, now_us, epoch, &schema)?;
            let dead = dead_letter_rows(&arrived.dead_letters, now_us, epoch)?;
            Ok::<_, arrow::error::ArrowError>((arrived, rows, dead))
        })?;
        let (silver, history) = (&mut self.silver, &self.history);
        let refined = meter.time("silver", || silver.refine(&bronze, history))?;
        let dedup = &mut self.dedup;
        let kept = meter.time("dedup", || -> anyhow::Result<RecordBatch> {
            Ok(match dedup.keep(&refined.silver, history)? {
                Some(first) => filter_record_batch(&refined.silver, &BooleanArray::new(first, None))?,
                None => refined.silver.clone(),
            })
        })?;
        for ((def, refiner), out) in self.plan.rows.iter().zip(&mut self.rows).zip(&mut self.work.rows) {
            let stage = if def.features.is_empty() { "scores" } else { "features" };
            out.push(meter.time(stage, || refiner.refine(&kept, history))?.silver);
        }
        let (windows, before) = (&mut self.windows, self.watermark.before());
        meter.time("windows", || windows.update(&kept, history, before))?;
        self.history.push(self.epoch, kept.clone());
        let times =
            kept.column_by_name(self.plan.event_time()).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        self.work.late_rows += times.map_or(0, |times| self.watermark.note(&kept, times));
        let work = &mut self.work;
        work.messages += arrived.messages;
        work.dead_letters += arrived.dead_letters.len() as u64;
        work.bronze_rows += bronze.num_rows() as u64;
        work.evolved |= arrived.evolved;
        work.duplicates += (refined.silver.num_rows() - kept.num_rows()) as u64;
        for (partition, range) in arrived.ranges {
            work.next.insert(partition.clone(), range.next);
            let known: &mut OffsetRange = work.ranges.entry(partition).or_insert(OffsetRange { messages: 0, ..range });
            known.next = range.next;
            known.messages += range.messages;
        }
        if dead.num_rows() > 0 {
            work.dead.push(dead);
        }
        if refined.quarantined.num_rows() > 0 {
            work.quarantine.push(refined.quarantined);
        }
        work.bronze.push(bronze);
        work.silver.push(kept);
        Ok(())
    }

    fn finish(&mut self, meter: &mut Meter) -> anyhow::Result<()> {
        if self.work.epoch == 0 {
            return Ok(());
        }
        let mut work = std::mem::take(&mut self.work);
        work.watermark_us = self.watermark.now();
        work.changes = meter.time("windows finish", || self.windows.finish(work.watermark_us))?;
        self.encode(&work, meter)?;
        let record = self.tables.write(work, self.metrics_patience)?;
        let commit = record.stages.iter().find(|time| time.stage == "commit").map_or(0, |time| time.micros);
        meter.add("commit", Duration::from_micros(u64::try_from(commit).unwrap_or(0)));
        self.history.written(record.epoch, self.tables.silver.files().cloned());
        Ok(())
    }

    /// Encodes each layer once more than needed: the tables do it on many threads at once.
    fn encode(&self, work: &EpochWork, meter: &mut Meter) -> anyhow::Result<()> {
        let tables = &self.tables;
        let mut encode = |stage, table: &Table, batches: &[RecordBatch]| {
            meter.time(stage, || table.encoder().encode(batches, "bench", 0)).map(drop)
        };
        encode("bronze encode", &tables.bronze, &work.bronze)?;
        encode("silver encode", &tables.silver, &work.silver)?;
        for ((def, table), rows) in self.plan.rows.iter().zip(&tables.rows).zip(&work.rows) {
            let stage = if def.features.is_empty() { "scores encode" } else { "features encode" };
            encode(stage, table, rows)?;
        }
        for (table, changes) in tables.windows.iter().zip(&work.changes) {
            let TableChanges { closed, open, restated, .. } = changes;
            let mut rows = vec![closed.clone()];
            rows.extend(open.clone());
            rows.extend(restated.as_ref().map(|restated| restated.after.clone()));
            let rows: Vec<RecordBatch> = rows.into_iter().filter(|rows| rows.num_rows() > 0).collect();
            encode("gold encode", table, &rows)?;
        }
        for (table, changes) in tables.windows.iter().zip(&work.changes) {
            let Some(restated) = &changes.restated else { continue };
            let closed = table.files().filter(|file| !is_open(file));
            meter.time("restate", || -> anyhow::Result<()> {
                let after = std::slice::from_ref(&restated.after);
                let Some(revision) = Revision::new(after, tables.key(table.name()))? else { return Ok(()) };
                revision.apply(&tables.reader(table), closed, |_, rows| {
                    table.encoder().encode(&rows, "bench", 0)?;
                    Ok::<_, LakeError>(())
                })?;
                Ok(())
            })?;
        }
        Ok(())
    }
}
