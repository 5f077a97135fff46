//! How old an event is when its gold is committed, at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay::domain::EpochRecord;
use assay::model::registry::ModelName;
use assay::scoring::{ScoringPipeline, streamed_model};
use assay::source::{EmbeddedBroker, KafkaHandle, KafkaSource, Polled, Source, end_offsets};
use clap::Args;
use serde_json::json;

use super::machine::{Cpu, Machine, cpu_of_threads, peak_rss_mib};
use super::scratch::{PARTITIONS, Scratch, ScratchArgs, Seen, TOPIC, Watched, another, lock, report_of};
use super::whole::{feed, stream};
use crate::app::{App, KafkaArgs, nap, usage};
use crate::exit::Exit;
use crate::ui::{Goal, thousands};

/// How long the consumer may take to get its partitions.
const JOIN_MAX_S: i64 = 60;
/// How long the brokers may take to tell where topics end.
const ASK: Duration = Duration::from_secs(30);
/// Events of so long after the first one are of a start: what is told is what it is with them, and without.
const START_MS: f64 = 2_000.0;

/// The time from an event's Kafka timestamp to its committed gold, at a steady rate
#[derive(Debug, Clone, Args)]
pub struct FreshnessArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// Events a second
    #[arg(long, default_value_t = 5_000)]
    pub rate: u64,
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Score the stream with a model, send what it says to a topic, and time that too
    #[arg(long)]
    pub predictions: bool,
}

pub fn run(args: &FreshnessArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    let machine = Machine::look();
    app.stop_on_signals();
    if args.rate == 0 || args.seconds == 0 {
        return Err(usage("--rate and --seconds must be at least 1"));
    }
    let _scratch = Scratch::make(&args.scratch, &mut app)?;
    let partitions = i32::try_from(PARTITIONS)?;
    let broker = match args.kafka.brokers {
        Some(_) => None,
        None => Some(EmbeddedBroker::start(&[(TOPIC, partitions), (Predicted::TOPIC, partitions)])?),
    };
    if let Some(broker) = &broker {
        app.settings.kafka.brokers = broker.bootstrap_servers().to_owned();
        app.settings.kafka.topics = vec![TOPIC.to_owned()];
    }
    app.settings.kafka.group_id = format!("assay-bench-{}", uuid::Uuid::new_v4().simple());
    // What lies in a given topic already is none of the bench's.
    app.settings.kafka.start = assay::source::Start::Latest;
    // A topic that is not there is told now, and not after a minute without partitions.
    // And a reader that begins at known places reads from its first moment on.
    let positions = Arc::new(Mutex::new(end_offsets(&app.settings.kafka, ASK)?));
    let events = args.rate * args.seconds;
    if args.predictions {
        app.settings.scoring.topic = Predicted::TOPIC.to_owned();
        let contract = app.contract()?;
        let plan = app.plan_of_new(&contract)?;
        let pipeline = ScoringPipeline::compile(&plan, &contract).map_err(usage)?;
        let (_, model) = streamed_model(&plan).ok_or_else(|| usage("no table names a `model` in its header"))?;
        super::serve::champion(&app, args.seed, &ModelName::parse(model)?, &plan, &pipeline)?;
    }
    let running = app.open(true)?.split(&app)?;
    let predicted = args.predictions.then(|| Predicted::watch(&app)).transpose()?;
    let is_watched = || predicted.as_ref().is_none_or(|predicted| predicted.kafka.status().assigned > 0);
    let source = KafkaSource::open(app.settings.kafka.clone(), Arc::clone(&positions))?;
    let kafka = source.handle();
    let feed = feed(&app, &running, source)?;
    let (feed, seen) = Watched::new(feed, Some(events), true, &app);
    let (stop, ended) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let (app_ref, topic) = (&app, app.settings.kafka.topics.first().cloned().unwrap_or_default());
    let (tables, cpu_before, broker_before) = std::thread::scope(|scope| {
        let generating = scope.spawn(|| {
            let generated = generate(app_ref, args, &topic, &|| kafka.status().assigned > 0 && is_watched(), &ended);
            if generated.is_err() || app_ref.stop.load(Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
            }
            generated
        });
        let streamed = stream(app_ref, running, feed, Goal::Messages(events), &stop, Box::new(|_| {}));
        ended.store(true, Ordering::Relaxed);
        let generated =
            generating.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the generator stopped without a word")));
        let tables = streamed?;
        let (cpu_before, broker_before) = generated?;
        Ok::<_, anyhow::Error>((tables, cpu_before, broker_before))
    })?;
    let predicted = predicted.map(|predicted| predicted.end(&app)).transpose()?;
    let broker_cpu = cpu_of_threads("rdk:mock").saturating_sub(broker_before);
    let cpu = Cpu::Process.time().saturating_sub(cpu_before).saturating_sub(broker_cpu);
    let records = tables.ledger.scan(0, i64::MAX)?;
    let seen = lock(&seen);
    let ages = ages_ms(&seen, &records);
    let elapsed_s = match (seen.first, records.last()) {
        (Some((began_us, _)), Some(last)) => (last.published_at_us - began_us).max(1) as f64 / 1e6,
        _ => return Err(usage("no message arrived")),
    };
    let share = cpu.as_secs_f64() / elapsed_s;
    let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| percentile(&ages, share));
    let mut lines = vec![
        format!("{} events in {elapsed_s:.1} s, {} epochs", thousands(seen.messages), records.len()),
        format!(
            "from the event's timestamp to committed gold: p50 {p50:.0} ms, p99 {p99:.0} ms, max {worst:.0} ms ({} samples)",
            ages.len()
        ),
        format!("{:.1} % of one core, without generator and broker; peak RSS {} MiB", share * 100.0, peak_rss_mib()),
    ];
    let mut figures = json!({
        "rate": args.rate, "events": seen.messages, "elapsed_s": elapsed_s, "epochs": records.len(), "samples": ages.len(),
        "p50_ms": p50, "p99_ms": p99, "max_ms": worst, "cores": share, "peak_rss_mib": peak_rss_mib(),
    });
    if let Some(delays) = predicted {
        let began_ms = delays.iter().map(|(made_ms, _)| *made_ms).fold(f64::INFINITY, f64::min);
        let of = |from_ms: f64| {
            let after = delays.iter().filter(|(made_ms, _)| *made_ms >= began_ms + from_ms);
            let mut delays: Vec<f64> = after.map(|(_, delay)| *delay).collect();
            delays.sort_by(f64::total_cmp);
            let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| percentile(&delays, share));
            (
                format!("p50 {p50:.0} ms, p99 {p99:.0} ms, max {worst:.0} ms"),
                json!({"count": delays.len(), "p50_ms": p50, "p99_ms": p99, "max_ms": worst}),
            )
        };
        let ((all, mut told), (settled, after)) = (of(0.0), of(START_MS));
        lines.push(format!(
            "from the event's timestamp to its prediction read from the topic: {all} ({} predictions); without the first 2 s: {settled}",
            thousands(delays.len() as u64)
        ));
        told["after_start"] = after;
        figures["predictions"] = told;
    }
    super::report(&app, &machine, "freshness", &figures, &lines)?;
    Ok(Exit::Done)
}

/// Lets another process generate once the consumer is ready; gives the CPU time until then, and the broker's.
fn generate(
    app: &App,
    args: &FreshnessArgs,
    topic: &str,
    is_ready: &dyn Fn() -> bool,
    ended: &AtomicBool,
) -> anyhow::Result<(Duration, Duration)> {
    let deadline_us = app.clock.now_us() + JOIN_MAX_S * 1_000_000;
    while !is_ready() && !ended.load(Ordering::Relaxed) {
        if app.clock.now_us() > deadline_us {
            anyhow::bail!("the consumer got no partition in {JOIN_MAX_S} s");
        }
        nap(Duration::from_millis(20));
    }
    let before = (Cpu::Process.time(), cpu_of_threads("rdk:mock"));
    let (events, rate, seed) = ((args.rate * args.seconds).to_string(), args.rate.to_string(), args.seed.to_string());
    let brokers = &app.settings.kafka.brokers;
    let arguments = [
        "generate",
        "--json",
        "--live",
        "--events",
        &events,
        "--rate",
        &rate,
        "--seed",
        &seed,
        "--brokers",
        brokers,
        "--topic",
        topic,
        "--users",
        "1000000",
    ];
    report_of(another(arguments)?)?;
    Ok(before)
}

/// When an event was made, and how much later its prediction was read, in milliseconds.
type Delay = (f64, f64);

/// A client of the topic of predictions, as another service would be one.
struct Predicted {
    kafka: KafkaHandle,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<Vec<Delay>>>,
}

impl Predicted {
    const TOPIC: &str = "bench.predictions";
    /// What is still under way when the stream has ended arrives meanwhile.
    const REST: Duration = Duration::from_secs(2);

    fn watch(app: &App) -> anyhow::Result<Self> {
        let mut settings = app.settings.kafka.clone();
        settings.topics = vec![Self::TOPIC.to_owned()];
        settings.group_id = format!("{}-predictions", settings.group_id);
        let positions = Arc::new(Mutex::new(end_offsets(&settings, ASK)?));
        let mut source = KafkaSource::open(settings, positions)?;
        let kafka = source.handle();
        let (stop, clock) = (Arc::new(AtomicBool::new(false)), Arc::clone(&app.clock));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut delays = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Polled::Batch(batch) = source.poll(Duration::from_millis(20))? else { continue };
                let now_ms = clock.now_us() as f64 / 1e3;
                for payload in batch.iter().filter_map(|message| message.payload) {
                    let message: serde_json::Value = serde_json::from_slice(payload)?;
                    let made_ms = message.pointer("/source/timestamp_ms").and_then(serde_json::Value::as_f64);
                    delays.extend(made_ms.map(|made_ms| (made_ms, now_ms - made_ms)));
                }
            }
            Ok(delays)
        });
        Ok(Self { kafka, stop, thread })
    }

    fn end(self, app: &App) -> anyhow::Result<Vec<Delay>> {
        let until_us = app.clock.now_us() + i64::try_from(Self::REST.as_micros())?;
        while app.clock.now_us() < until_us {
            nap(Duration::from_millis(50));
        }
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the reader of predictions stopped without a word")))
    }
}

/// The age of every sampled event when its epoch was published, in order.
fn ages_ms(seen: &Seen, records: &[EpochRecord]) -> Vec<f64> {
    let mut ages = Vec::new();
    for (ranges, stamps) in &seen.samples {
        let published = ranges.iter().next().and_then(|(partition, range)| {
            let holds = |record: &&EpochRecord| {
                record.ranges.get(partition).is_some_and(|known| known.first <= range.first && range.first < known.next)
            };
            records.iter().find(holds)
        });
        if let Some(record) = published {
            ages.extend(stamps.iter().map(|at| (record.published_at_us - at) as f64 / 1000.0));
        }
    }
    ages.sort_by(f64::total_cmp);
    ages
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the samples")]
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_a_sample_by_nearest_rank() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&samples, share)), [100.0, 198.0, 200.0]);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
