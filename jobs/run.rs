use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use assay::pipeline::{MessageFeed, Progress, Reach, Stream, refine_pending};
use assay::serve::{Listeners, Predict, Readiness, ServeSettings, ServeState, Socket, Tls, serve};
use assay::source::{KafkaHandle, KafkaSource};
use clap::Args;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::app::{App, KafkaArgs, Running, nap, usage};
use crate::console::ConsoleHost;
use crate::exit::Exit;
use crate::serve::Scoring;
use crate::sql_server::SqlServer;
use crate::summary;
use crate::ui::Goal;

/// Follow a Kafka topic: ingest, refine, score and maintain in one process, until it is stopped.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Serve the console, /metrics, /health and /ready here
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Serve the same over a Unix domain socket here, to clients on this machine
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Answer clients of PostgreSQL here: psql, drivers, dashboards
    #[arg(long, value_name = "HOST:PORT")]
    pub postgres: Option<String>,
    /// Answer clients of Arrow Flight SQL here: ADBC, JDBC
    #[arg(long, value_name = "HOST:PORT")]
    pub flight: Option<String>,
    /// Score transactions by request too, as `assay serve` does
    #[arg(long)]
    pub predict: bool,
    /// Send what is said of each transaction to this topic as soon as it is scored
    #[arg(long, value_name = "TOPIC")]
    pub predictions: Option<String>,
    /// Stop when everything that is in Kafka now has been read
    #[arg(long)]
    pub until_end: bool,
}

/// How long the brokers may take to tell the end offsets.
pub const BROKER_PATIENCE: Duration = Duration::from_secs(30);

pub fn run(args: RunArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    if let Some(address) = &args.http {
        app.settings.serve.address.clone_from(address);
    }
    if let Some(socket) = &args.socket {
        app.settings.serve.socket.clone_from(socket);
    }
    if let Some(address) = &args.postgres {
        app.settings.postgres.address.clone_from(address);
    }
    if let Some(address) = &args.flight {
        app.settings.flight.address.clone_from(address);
    }
    if let Some(topic) = &args.predictions {
        app.settings.scoring.topic.clone_from(topic);
    }
    app.settings.check()?;
    app.stop_on_signals();
    let readiness = Readiness::awaiting(["lake", "recovery", "kafka"]);
    let scoring = if args.predict { Some(Scoring::start(&app, None)?) } else { None };
    let console = ConsoleHost::start(&app, "run")?;
    let _server = Server::start(&app, readiness.clone(), scoring.as_ref().map(Scoring::predict), console)?;
    let _sql = SqlServer::start(&app)?;
    let progress = Arc::new(Progress::new());
    let began_us = app.clock.now_us();
    let shown = app.show("run", Goal::Endless, &progress);
    let mut running = app.open(true)?.split(&app)?;
    readiness.set("lake", Ok(()));
    recover(&app, &mut running)?;
    running.stages.warm_up()?;
    readiness.set("recovery", Ok(()));
    let positions = running.positions()?;
    let mut source = KafkaSource::open(app.settings.consumer(), Arc::new(std::sync::Mutex::new(positions.clone())))?;
    if args.until_end {
        source.until_end(BROKER_PATIENCE)?;
    }
    let handle = source.handle();
    let watch = Watch::start(&app, handle.clone(), readiness, Arc::clone(&progress));
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
        reach: Reach::Gold,
        maintenance: app.maintenance(),
        on_durable: Box::new(move |positions| handle.commit_telemetry(positions)),
    };
    let tables = stream.run(feed)?;
    drop(watch);
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    summary::print(&app, &summary::ledger("run", &tables, &progress, elapsed_s), true)?;
    Ok(Exit::Done)
}

/// Completes what an earlier process left half done.
pub fn recover(app: &App, running: &mut Running) -> anyhow::Result<u64> {
    let patience = Duration::from_secs(app.settings.epoch.store_patience_s);
    let mut maintenance = app.maintenance();
    let done = refine_pending(&mut running.tables, &mut running.stages, patience, &app.metrics, |record, tables| {
        tracing::info!(epoch = record.epoch, "epoch completed");
        maintenance.after_epoch(tables);
        !app.stop.load(Ordering::Relaxed)
    })?;
    maintenance.finish(&mut running.tables);
    Ok(done)
}

/// The HTTP endpoints, until it is dropped.
pub struct Server {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    handle: Handle,
    pub address: SocketAddr,
    is_encrypted: bool,
    /// Its threads end after the last request.
    _console: Option<ConsoleHost>,
}

impl Server {
    pub fn start(
        app: &App,
        readiness: Readiness,
        predict: Option<Predict>,
        console: Option<ConsoleHost>,
    ) -> anyhow::Result<Self> {
        let settings = app.settings.serve.clone();
        let tls = Tls::load(&settings).map_err(usage)?;
        let is_encrypted = tls.is_some();
        let tcp = app.handle.block_on(TcpListener::bind(&settings.address));
        let tcp =
            tcp.map_err(|e| usage(format!("serve.address {}: {e}; give another one with --http", settings.address)))?;
        let address = tcp.local_addr()?;
        let in_runtime = app.handle.enter();
        let socket = socket(&settings)?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let page = console.as_ref().map(|host| host.console.clone());
        let (metrics, traces) = (Arc::clone(&app.metrics), app.traces.clone());
        let state = ServeState { metrics, readiness, settings, predict, console: page, traces };
        let serving = serve(Listeners { tcp, tls, socket }, state, async move {
            let _ = stopped.await;
        });
        drop(in_runtime);
        let serving =
            serving.context("the threads of HTTP cannot be started: allow the process more threads and files")?;
        let task = app.handle.spawn(serving);
        tracing::info!(%address, is_encrypted, "serving HTTP");
        Ok(Self {
            stop: Some(stop),
            task: Some(task),
            handle: app.handle.clone(),
            address,
            is_encrypted,
            _console: console,
        })
    }

    /// Where it listens, for people.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_encrypted { "https" } else { "http" }, self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // Requests under way are answered; the drain timeout bounds it.
        if let Some(task) = self.task.take() {
            let _ = self.handle.block_on(task);
        }
    }
}

/// The socket of the settings, in a runtime.
fn socket(settings: &ServeSettings) -> anyhow::Result<Option<Socket>> {
    let path = &settings.socket;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let bound = Socket::bind(path);
    let socket = bound.map_err(|e| usage(format!("serve.socket (or --socket) {}: {e}", path.display())))?;
    tracing::info!(path = %path.display(), "serving HTTP over a socket");
    Ok(Some(socket))
}

/// Looks after the lag and the readiness of Kafka, until it is dropped.
pub struct Watch {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    pub fn start(app: &App, kafka: KafkaHandle, readiness: Readiness, progress: Arc<Progress>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (metrics, finished) = (Arc::clone(&app.metrics), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !finished.load(Ordering::Relaxed) {
                let status = kafka.status();
                metrics.set_source_connected(status.connected);
                readiness.set(
                    "kafka",
                    match (status.connected, status.last_error) {
                        (true, _) => Ok(()),
                        (false, error) => Err(error.unwrap_or_else(|| "not connected yet".to_owned())),
                    },
                );
                let lag = kafka.lag();
                for (partition, messages) in &lag {
                    metrics.set_lag(partition, *messages);
                }
                if !lag.is_empty() {
                    progress.lag.store(lag.iter().map(|(_, messages)| messages).sum(), Ordering::Relaxed);
                }
                nap(Duration::from_millis(500));
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
