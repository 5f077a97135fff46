//! How old an event is when its gold is committed, at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assay::domain::EpochRecord;
use assay::source::{EmbeddedBroker, KafkaSource, SharedPositions, end_offsets};
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
}

pub fn run(args: &FreshnessArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    let machine = Machine::look();
    app.stop_on_signals();
    if args.rate == 0 || args.seconds == 0 {
        return Err(usage("--rate and --seconds must be at least 1"));
    }
    let _scratch = Scratch::make(&args.scratch, &mut app)?;
    let broker = match args.kafka.brokers {
        Some(_) => None,
        None => Some(EmbeddedBroker::start(&[(TOPIC, i32::try_from(PARTITIONS)?)])?),
    };
    if let Some(broker) = &broker {
        app.settings.kafka.brokers = broker.bootstrap_servers().to_owned();
        app.settings.kafka.topics = vec![TOPIC.to_owned()];
    }
    app.settings.kafka.group_id = format!("assay-bench-{}", uuid::Uuid::new_v4().simple());
    // What lies in a given topic already is none of the bench's.
    app.settings.kafka.start = assay::source::Start::Latest;
    // A topic that is not there is told now, and not after a minute without partitions.
    end_offsets(&app.settings.kafka, Duration::from_secs(30))?;
    let events = args.rate * args.seconds;
    let running = app.open(true)?.split(&app)?;
    let positions: SharedPositions = Arc::default();
    let source = KafkaSource::open(app.settings.kafka.clone(), Arc::clone(&positions))?;
    let kafka = source.handle();
    let feed = feed(&app, &running, source)?;
    let (feed, seen) = Watched::new(feed, Some(events), true, &app);
    let (stop, ended) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let (app_ref, topic) = (&app, app.settings.kafka.topics.first().cloned().unwrap_or_default());
    let (tables, cpu_before, broker_before) = std::thread::scope(|scope| {
        let generating = scope.spawn(|| {
            let generated = generate(app_ref, args, &topic, &|| kafka.status().assigned > 0, &ended);
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
    let lines = [
        format!("{} events in {elapsed_s:.1} s, {} epochs", thousands(seen.messages), records.len()),
        format!(
            "from the event's timestamp to committed gold: p50 {p50:.0} ms, p99 {p99:.0} ms, max {worst:.0} ms ({} samples)",
            ages.len()
        ),
        format!("{:.1} % of one core, without generator and broker; peak RSS {} MiB", share * 100.0, peak_rss_mib()),
    ];
    let figures = json!({
        "rate": args.rate, "events": seen.messages, "elapsed_s": elapsed_s, "epochs": records.len(), "samples": ages.len(),
        "p50_ms": p50, "p99_ms": p99, "max_ms": worst, "cores": share, "peak_rss_mib": peak_rss_mib(),
    });
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
