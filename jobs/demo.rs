use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay::features::Enabled;
use assay::generate::{GenerateSettings, Generated, Generator};
use assay::lake::open_session;
use assay::pipeline::{MessageFeed, Progress, Reach, Stream};
use assay::refine::functions;
use assay::serve::Readiness;
use assay::source::{EmbeddedBroker, KafkaSource, Outgoing, Pace, Producer, SharedPositions};
use clap::Args;

use crate::app::{App, nap, usage};
use crate::console::ConsoleHost;
use crate::exit::Exit;
use crate::generate::Shape;
use crate::run::{Server, Watch, recover};
use crate::summary;
use crate::ui::{Goal, Look};

const TOPIC: &str = "ecommerce.transactions";
const PARTITIONS: u32 = 4;
/// The embedded broker keeps little: so many messages of a partition may be ahead of the consumer.
const AHEAD_MAX: u32 = 10_000;

/// Watch all of it on this machine with nothing else installed: an embedded broker, a generator and the pipeline.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many messages
    #[arg(long, default_value_t = 300_000)]
    pub events: u64,
    /// The same seed gives the same silver, gold and scores
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Messages a second; 0 for as fast as it goes
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Keep serving /metrics, /health and /ready when all is done, until Ctrl-C
    #[arg(long)]
    pub keep_running: bool,
    /// Serve them here
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub http: String,
    #[command(flatten)]
    pub shape: Shape,
}

pub fn run(args: DemoArgs, mut app: App) -> anyhow::Result<Exit> {
    app.settings.serve.address.clone_from(&args.http);
    // As the address: another process may have that of the settings.
    app.settings.serve.socket.clear();
    // All of it, at whatever cost.
    app.settings.features.enabled = Enabled::Yes;
    // The same seed gives the same scores, whatever was trained meanwhile.
    app.settings.scoring.stream = false;
    app.stop_on_signals();
    let mut settings = GenerateSettings { seed: args.seed, events: Some(args.events), ..GenerateSettings::default() };
    args.shape.apply(&mut settings);
    let generator = Generator::new(settings, PARTITIONS).map_err(usage)?;
    if let Ok(lake) = app.open_lake(false)
        && app.handle.block_on(open_session(&lake, None, app.clock.now_us() / 1000, None))?.record.is_some()
    {
        return Err(usage(format!(
            "there is a lake at {} already, and its offsets are those of another broker; give a new one with --lake, or delete it",
            lake.location()
        )));
    }
    let readiness = Readiness::awaiting(["lake", "kafka"]);
    let console = ConsoleHost::start(&app, "demo")?;
    let server = Server::start(&app, readiness.clone(), None, console)?;
    let progress = Arc::new(Progress::new());
    let began_us = app.clock.now_us();
    let broker = EmbeddedBroker::start(&[(TOPIC, i32::try_from(PARTITIONS)?)])?;
    app.settings.kafka.brokers = broker.bootstrap_servers().to_owned();
    app.settings.kafka.topics = vec![TOPIC.to_owned()];
    let mut running = app.open(true)?.split(&app)?;
    readiness.set("lake", Ok(()));
    recover(&app, &mut running)?;
    let positions: SharedPositions = Arc::new(Mutex::new(running.positions()?));
    let source = KafkaSource::open(app.settings.kafka.clone(), Arc::clone(&positions))?;
    let handle = source.handle();
    let watch = Watch::start(&app, handle, readiness, Arc::clone(&progress));
    let decoder = app.decoder(&running.contract)?;
    let feed = MessageFeed::new(source, decoder, Arc::clone(&app.clock), Arc::clone(&app.metrics));
    let shown = app.show("demo", Goal::Messages(args.events), &progress);
    let next = positions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (stream_ended, sent) = (AtomicBool::new(false), Arc::new(AtomicU64::new(u64::MAX)));
    let stop = Arc::new(AtomicBool::new(false));
    let tables = std::thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let gone = || app.stop.load(Ordering::Relaxed) || stream_ended.load(Ordering::Relaxed);
            let produced = produce(&app, generator, &positions, args.rate, &gone);
            match &produced {
                Ok(messages) => sent.store(*messages, Ordering::Relaxed),
                Err(_) => stop.store(true, Ordering::Relaxed),
            }
            // The stream has no end of its own: it is stopped once it has read what was sent.
            while !gone() && progress.messages.load(Ordering::Relaxed) < sent.load(Ordering::Relaxed) {
                nap(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            produced
        });
        let stream = Stream {
            stages: running.stages,
            tables: running.tables,
            next,
            settings: app.settings.epoch.clone(),
            clock: Arc::clone(&app.clock),
            metrics: Arc::clone(&app.metrics),
            progress: Arc::clone(&progress),
            stop: &stop,
            reach: Reach::Gold,
            maintenance: app.maintenance(),
            on_durable: Box::new(|_| {}),
        };
        let streamed = stream.run(feed);
        stream_ended.store(true, Ordering::Relaxed);
        let produced =
            producing.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the generator stopped without a word")));
        let tables = streamed?;
        produced?;
        Ok::<_, anyhow::Error>(tables)
    })?;
    drop(watch);
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    let mut ledger = summary::ledger("demo", &tables, &progress, elapsed_s);
    let lake = app.open_lake(false)?;
    let session = app.handle.block_on(open_session(&lake, None, app.clock.now_us() / 1000, None))?;
    functions::register(&session.context, &running.plan.catalog.references);
    ledger.riskiest = app.handle.block_on(summary::riskiest(&session.context, 5))?;
    let location = lake.location();
    ledger.try_next = [
        "SELECT window_start, merchant, transactions, revenue, fraud_rate FROM gold.merchant_activity ORDER BY revenue DESC LIMIT 10",
        "SELECT class, count(*) AS transactions, sum(amount) AS amount FROM gold.fraud_scores GROUP BY class ORDER BY amount DESC",
        "SELECT user_id, event_at, user_count_5m, user_amount_sum_5m, amount_to_user_avg_30d FROM silver.transaction_features ORDER BY user_count_5m DESC LIMIT 10",
        "SELECT reason, count(*) AS messages FROM bronze.dead_letters GROUP BY reason ORDER BY messages DESC",
    ]
    .map(|query| format!("assay sql --lake {location} \"{query}\""))
    .to_vec();
    summary::print(&app, &ledger, true)?;
    if args.keep_running && !app.stop.load(Ordering::Relaxed) {
        let look = Look::of_stderr();
        eprintln!("{}", look.fit(&format!("{}/metrics stays up; Ctrl-C ends it", server.url())));
        while !app.stop.load(Ordering::Relaxed) {
            nap(Duration::from_millis(100));
        }
    }
    Ok(Exit::Done)
}

/// Sends everything that the generator makes, never further ahead of the consumer than the broker can keep.
fn produce(
    app: &App,
    mut generator: Generator,
    positions: &SharedPositions,
    rate: u64,
    gone: &dyn Fn() -> bool,
) -> anyhow::Result<u64> {
    let mut producer = Producer::open(&app.settings.kafka)?;
    let mut pace = Pace::new(TOPIC, Arc::clone(positions), AHEAD_MAX);
    let mut message = Generated::default();
    let began_us = app.clock.now_us();
    let mut sent = 0_u64;
    while !gone() && generator.next_into(&mut message) {
        if rate > 0 && sent.is_multiple_of(32) {
            let due_us = began_us + i64::try_from(sent * 1_000_000 / rate).unwrap_or(i64::MAX);
            while app.clock.now_us() < due_us && !gone() {
                producer.serve(Duration::ZERO)?;
                nap(Duration::from_millis(1));
            }
        }
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
        sent += 1;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(sent)
}
