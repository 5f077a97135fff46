//! Scoring by HTTP over loopback and over a Unix domain socket: latency at a given rate, what is reached at saturation, batches, and the model alone.

mod client;
mod load;
mod model;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use assay::domain::{NoHistory, TableName};
use assay::generate::{GenerateSettings, Generated, Generator};
use assay::model::registry::{CHAMPION, ModelName};
use assay::refine::{RefineSettings, TrailingCount};
use assay::scoring::{Added, FeatureSource, Keeper, Models, ReceiptPlace, Scorer, ScoringPipeline, Standing};
use assay::serve::{ApiKeys, Predict, PredictParts, Readiness};
use clap::Args;
use serde_json::json;

use super::machine::{Cpu, Machine, peak_rss_mib};
use super::scratch::{Scratch, ScratchArgs};
use crate::app::{App, usage};
use crate::exit::Exit;
use crate::run::Server;
use crate::ui::thousands;
use client::{Connection, Request};
use load::{Answers, Load, Pace, Place};

/// Requests a second, their latency, and rows a second of batches, with a client on this machine
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// Requests a second for the latency
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// How long each measurement takes
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Connections of the client, kept alive
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Transactions of a batch
    #[arg(long, default_value_t = 20_000)]
    pub batch_rows: usize,
    /// Keep no receipts
    #[arg(long)]
    pub no_receipts: bool,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// Transactions that the model learns from and that are sent.
const EVENTS: u64 = 60_000;
/// CPU time for which the scorer is asked by itself.
const ALONE_NS: u64 = 500_000_000;

pub fn run(args: &ServeArgs, mut app: App) -> anyhow::Result<Exit> {
    let machine = Machine::look();
    if args.rate == 0 || args.seconds == 0 || args.connections == 0 || args.batch_rows == 0 {
        return Err(usage("--rate, --seconds, --connections and --batch-rows must be at least 1"));
    }
    app.stop_on_signals();
    let _scratch = Scratch::make(&args.scratch, &mut app)?;
    app.settings.serve.address = "127.0.0.1:0".to_owned();
    // Not in the scratch folder: the path of a socket must be short.
    app.settings.serve.socket = std::env::temp_dir().join(format!("assay-{}.sock", uuid::Uuid::new_v4().simple()));
    (app.settings.serve.certificate_file, app.settings.serve.key_file) = Default::default();
    app.settings.serve.batch_rows_max = args.batch_rows.max(app.settings.serve.batch_rows_max);
    let contract = app.contract()?;
    let plan = app.plan_of_new(&contract)?;
    let pipeline = Arc::new(ScoringPipeline::compile(&plan, &contract).map_err(usage)?);
    let name = ModelName::parse("bench")?;
    let (payloads, past) = champion(&app, args.seed, &name, &plan, &pipeline)?;
    let past = Arc::new(past);
    let models = Arc::new(Models::new(app.models()?, name));
    models.follow(&pipeline);
    if let Some(problem) = models.chosen().problem {
        return Err(anyhow::anyhow!(problem));
    }
    let (settings, clock) = (app.settings.scoring.clone(), Arc::clone(&app.clock));
    let scorer = Arc::new(Scorer::new(Arc::clone(&pipeline), past, models, settings, clock));
    let keeper = if args.no_receipts { None } else { Some(keeper(&app, &scorer)?) };
    let receipts = keeper.as_ref().map(Keeper::receipts);
    let (keys, metrics) = (ApiKeys::default(), Arc::clone(&app.metrics));
    let parts = PredictParts { scorer: Arc::clone(&scorer), receipts, shadows: None, keys, metrics };
    let predict = Predict::new(parts, &app.settings.serve);
    let server = Server::start(&app, Readiness::default(), Some(predict), None)?;
    let requests: Vec<Request> = payloads.iter().take(4096).map(|text| Request::json("/predict", text)).collect();
    let alone = model::evaluate(args.seed)?;
    let inline = score_alone(&app, &scorer, &payloads)?;
    let nothing = [Request::get("/health")];
    let tcp = Place::Tcp(server.address);
    let unix = Place::Unix(&app.settings.serve.socket);
    let idle = Measured::of(args, &app, tcp, &nothing)?;
    let measured = Measured::of(args, &app, tcp, &requests)?;
    let by_socket = Measured::of(args, &app, unix, &requests)?;
    let batch = batch_json(args, &payloads);
    let json_rows_s = batches(args, &app, &server, &Request::json("/predict/batch", &batch))?;
    let arrow = batch_arrow(args, &pipeline, &payloads)?;
    let arrow_rows_s = batches(args, &app, &server, &Request::arrow("/predict/batch", &arrow))?;
    drop(server);
    drop(keeper);
    let receipts = ["kept", "shed", "lost"].map(|outcome| app.metrics.receipts_so_far(outcome));
    let lines = [
        format!("/predict {}", measured.told(args)),
        format!("/predict over a Unix domain socket {}", by_socket.told(args)),
        format!("/health, which computes nothing, {}", idle.told(args)),
        format!(
            "/predict/batch of {} transactions: JSON {} rows/s, Arrow {} rows/s",
            thousands(args.batch_rows as u64),
            thousands(json_rows_s),
            thousands(arrow_rows_s)
        ),
        format!(
            "the scorer alone: 1 transaction {:.1} µs, 64 together {:.2} µs each, 4,096 together {:.2} µs each (one core)",
            inline[0] / 1e3,
            inline[1] / 1e3,
            inline[2] / 1e3
        ),
        format!(
            "receipts: {} kept, {} shed, {} lost",
            thousands(receipts[0]),
            thousands(receipts[1]),
            thousands(receipts[2])
        ),
        format!(
            "the model alone, {} trees of depth 6: {:.0} ns a row in a batch, {:.0} ns one by one (one core)",
            alone.trees, alone.batch_ns, alone.single_ns
        ),
    ];
    let figures = json!({
        "rate": args.rate, "connections": args.connections, "batch_rows": args.batch_rows,
        "predict": measured.figures(), "predict_unix": by_socket.figures(), "health": idle.figures(),
        "batch_json_rows_s": json_rows_s, "batch_arrow_rows_s": arrow_rows_s,
        "scorer_ns_a_row": {"1": inline[0], "64": inline[1], "4096": inline[2]},
        "model_ns_a_row": {"batch": alone.batch_ns, "single": alone.single_ns, "trees": alone.trees},
        "receipts": {"kept": receipts[0], "shed": receipts[1], "lost": receipts[2]},
        "peak_rss_mib": peak_rss_mib(),
    });
    super::report(&app, &machine, "serve", &figures, &lines)?;
    Ok(Exit::Done)
}

/// Stores receipts in the lake of the bench.
fn keeper(app: &App, scorer: &Arc<Scorer>) -> anyhow::Result<Keeper> {
    app.open_lake(true)?;
    let place = ReceiptPlace {
        lake: app.settings.lake.clone(),
        pipeline: app.settings.pipeline.clone(),
        every: Duration::from_millis(app.settings.scoring.receipts_every_ms),
    };
    Ok(Keeper::start(place, scorer, Arc::clone(&app.metrics), app.handle.clone())?)
}

/// Makes a champion that learned from generated transactions; gives them, and what was known of their past.
pub(super) fn champion(
    app: &App,
    seed: u64,
    name: &ModelName,
    plan: &assay::pipeline::Plan,
    pipeline: &ScoringPipeline,
) -> anyhow::Result<(Vec<Vec<u8>>, Past)> {
    let payloads = payloads(seed, app)?;
    let past = Past::new(plan, pipeline)?;
    let registry = app.models()?;
    let version = model::learn(app, &registry, name, pipeline, &past, &payloads)?;
    registry.promote(name, &version, CHAMPION, app.clock.now_us())?;
    Ok((payloads, past))
}

/// Transactions of the last day, as JSON.
fn payloads(seed: u64, app: &App) -> anyhow::Result<Vec<Vec<u8>>> {
    let began = chrono::DateTime::from_timestamp_micros(app.clock.now_us() - 86_400_000_000).unwrap_or_default();
    let settings = GenerateSettings {
        seed,
        events: Some(EVENTS),
        start_at: began.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        // Half a day, so that no column stands still.
        rate: EVENTS as f64 / 43_200.0,
        users: 20_000,
        malformed: 0.0,
        bad_rows: 0.0,
        duplicates: 0.0,
        fraud: 0.02,
        json: 1.0,
        ..GenerateSettings::default()
    };
    let mut generator = Generator::new(settings, 1).map_err(usage)?;
    let (mut message, mut payloads) = (Generated::default(), Vec::new());
    while generator.next_into(&mut message) {
        payloads.extend(message.payload().map(<[u8]>::to_vec));
    }
    Ok(payloads)
}

/// Trailing counts of what was generated, as a server holds those of its lake.
pub(super) struct Past {
    counts: Mutex<Vec<TrailingCount>>,
}

impl Past {
    fn new(plan: &assay::pipeline::Plan, pipeline: &ScoringPipeline) -> anyhow::Result<Self> {
        let (_, silver) = pipeline.silver();
        let settings = RefineSettings::default();
        let all = plan.rows.iter().flat_map(|def| &def.trailing);
        let counts = all.map(|count| TrailingCount::new(count, silver, plan.event_time(), &settings, [7; 16]));
        Ok(Self { counts: Mutex::new(counts.collect::<Result<_, _>>().map_err(usage)?) })
    }

    fn record(&self, silver: &RecordBatch) -> anyhow::Result<()> {
        for count in self.counts.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            count.count(silver, &NoHistory)?;
            count.record(silver)?;
        }
        Ok(())
    }
}

impl FeatureSource for Past {
    fn added(&self, _: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let told = counts.iter_mut().map(|count| count.count_apart(silver, &NoHistory));
        let told = told.map(|told| told.map(|told| Arc::new(told) as ArrayRef).map_err(|error| error.cause));
        told.collect::<Result<_, _>>().map(Added::counts)
    }

    fn standing(&self) -> Standing {
        Standing { epoch: 1, published_at_us: Some(0) }
    }
}

/// Nanoseconds of CPU a row, for 1, 64 and 4,096 rows at a time.
fn score_alone(app: &App, scorer: &Scorer, payloads: &[Vec<u8>]) -> anyhow::Result<[f64; 3]> {
    let mut figures = [0.0; 3];
    for (figure, rows) in figures.iter_mut().zip([1, 64, 4096]) {
        let (before, mut rounds) = (Cpu::Thread.ns(), 0);
        while Cpu::Thread.ns() - before < ALONE_NS && !app.stop.load(Ordering::Relaxed) {
            let from = (rounds * rows) % (payloads.len().saturating_sub(rows)).max(1);
            let part = payloads.get(from..from + rows).unwrap_or_default();
            std::hint::black_box(scorer.score_json(part.iter().map(Vec::as_slice))?);
            rounds += 1;
        }
        *figure = (Cpu::Thread.ns() - before) as f64 / (rounds * rows).max(1) as f64;
    }
    Ok(figures)
}

struct Latency {
    answers: u64,
    due: u64,
    per_s: u64,
    p50_us: i64,
    p99_us: i64,
    max_us: i64,
}

impl Latency {
    fn of(answers: Answers) -> Self {
        let Answers { mut times_us, due, elapsed_us } = answers;
        times_us.sort_unstable();
        let at = |share: f64| {
            let place = (times_us.len() as f64 * share) as usize;
            times_us.get(place.min(times_us.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let answers = times_us.len() as u64;
        Self {
            answers,
            due,
            per_s: (answers as f64 * 1e6 / elapsed_us.max(1) as f64) as u64,
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: at(1.0),
        }
    }
}

/// A route at the rate that was asked for, and at saturation.
struct Measured {
    steady: Latency,
    full: Latency,
}

impl Measured {
    fn of(args: &ServeArgs, app: &App, place: Place<'_>, requests: &[Request]) -> anyhow::Result<Self> {
        let measured = |pace| -> anyhow::Result<Latency> {
            let load = Load { pace, connections: args.connections, seconds: args.seconds };
            Ok(Latency::of(load.run(place, requests, app.clock.as_ref(), &app.stop)?))
        };
        Ok(Self { steady: measured(Pace::Rate(args.rate))?, full: measured(Pace::Saturated)? })
    }

    fn told(&self, args: &ServeArgs) -> String {
        let Self { steady, full } = self;
        format!(
            "at {} requests/s: p50 {} µs, p99 {} µs, max {} µs ({} answers of {} due); at saturation, {} connections: {} \
             requests/s, p99 {} µs",
            thousands(args.rate),
            steady.p50_us,
            steady.p99_us,
            steady.max_us,
            thousands(steady.answers),
            thousands(steady.due),
            args.connections,
            thousands(full.per_s),
            full.p99_us
        )
    }

    fn figures(&self) -> serde_json::Value {
        let Self { steady, full } = self;
        json!({
            "p50_us": steady.p50_us, "p99_us": steady.p99_us, "max_us": steady.max_us, "answers": steady.answers,
            "saturated": {"requests_s": full.per_s, "p99_us": full.p99_us},
        })
    }
}

/// Rows a second of one batch, sent over two connections for the time of a measurement.
fn batches(args: &ServeArgs, app: &App, server: &Server, batch: &Request) -> anyhow::Result<u64> {
    let began_us = app.clock.now_us();
    let until_us = began_us + i64::try_from(args.seconds).unwrap_or(10) * 1_000_000;
    let batches: Vec<anyhow::Result<u64>> = std::thread::scope(|scope| {
        let ask = || {
            let (mut connection, mut asked) = (Connection::open(server.address)?, 0);
            while app.clock.now_us() < until_us && !app.stop.load(Ordering::Relaxed) {
                connection.ask(batch)?;
                asked += 1;
            }
            Ok(asked)
        };
        let threads = [scope.spawn(ask), scope.spawn(ask)];
        let stopped = |_| Err(anyhow::anyhow!("a client stopped without a word"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(stopped)).collect()
    });
    let batches: u64 = batches.into_iter().sum::<anyhow::Result<u64>>()?;
    let elapsed_us = app.clock.now_us() - began_us;
    Ok((batches as f64 * args.batch_rows as f64 * 1e6 / elapsed_us.max(1) as f64) as u64)
}

fn batch_json(args: &ServeArgs, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut text = vec![b'['];
    for (place, payload) in payloads.iter().cycle().take(args.batch_rows).enumerate() {
        if place > 0 {
            text.push(b',');
        }
        text.extend_from_slice(payload);
    }
    text.push(b']');
    text
}

fn batch_arrow(args: &ServeArgs, pipeline: &ScoringPipeline, payloads: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
    let all: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).cycle().take(args.batch_rows).collect();
    let rows = pipeline.decode(all.into_iter()).rows;
    let mut text = Vec::new();
    let mut writer = StreamWriter::try_new(&mut text, &rows.schema())?;
    writer.write(&rows)?;
    writer.finish()?;
    drop(writer);
    Ok(text)
}
