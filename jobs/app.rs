//! What the jobs share: settings, the clock, metrics, and the pieces of a pipeline put together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use assay::contract::{Contract, Decoder, LocalSchemas, Registry, RegistryError, SchemaLookup};
use assay::domain::{Clock, Layer, Positions, Reaction, SystemClock, TableName};
use assay::features::Enabled;
use assay::lake::{
    EpochLedger, FileHistory, Lake, LakeError, LakeSettings, Lease, missing_tables, newest_tables, require_tables,
};
use assay::model::registry::{ModelName, Registry as ModelStore, RegistryError as ModelRegistryError};
use assay::model::table::TableError;
use assay::model::{ModelError, OnnxError};
use assay::online::OnlineError;
use assay::pipeline::{
    Compiled, Maintenance, PipelineError, Plan, Progress, RowScorer as _, StageSettings, Stages, Tables,
    TopicPublisher, bronze_name, bronze_schema,
};
use assay::refine::{Catalog, TableDef};
use assay::scoring::{Models, ScoringPipeline, StreamScorer, streamed_model};
use assay::settings::{Settings, SettingsError};
use assay::source::SourceError;
use assay::telemetry::traces::{Exporter, Traces};
use assay::telemetry::{LogFormat, Metrics, init_logging_to};
use assay::warehouse::WarehouseError;
use clap::Args;
use tokio::runtime::Handle;

use crate::exit::{Refused, UsageError};
use crate::ui::{Goal, Mode, Screen, Snapshot};

/// Flags of every job.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The file of settings [default: assay.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The lake: a folder, or s3://bucket/prefix [default: lake]
    #[arg(long, global = true, value_name = "LOCATION")]
    pub lake: Option<String>,
    /// Print the summary as JSON, and no progress
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// How log lines look: text or json
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
}

/// Flags of the jobs that read Kafka; they lie over the settings.
#[derive(Debug, Clone, Default, Args)]
pub struct KafkaArgs {
    /// Brokers as host:port, several separated by commas
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// The topic; may be given several times where it is read
    #[arg(long, value_name = "TOPIC")]
    pub topic: Vec<String>,
    /// The consumer group
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// A Confluent-compatible schema registry
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
    /// The folder of contracts
    #[arg(long, value_name = "FOLDER")]
    pub contracts: Option<PathBuf>,
}

impl KafkaArgs {
    pub fn apply(&self, settings: &mut Settings) {
        if let Some(brokers) = &self.brokers {
            settings.kafka.brokers.clone_from(brokers);
        }
        if !self.topic.is_empty() {
            settings.kafka.topics.clone_from(&self.topic);
        }
        if let Some(group) = &self.group {
            settings.kafka.group_id.clone_from(group);
        }
        if self.registry.is_some() {
            settings.registry.url.clone_from(&self.registry);
        }
        if let Some(folder) = &self.contracts {
            settings.contract.folder.clone_from(folder);
        }
    }
}

/// The file of settings and the variables, checked.
pub fn load_settings(globals: &Globals) -> anyhow::Result<Settings> {
    let standard = PathBuf::from("assay.toml");
    let file = globals.config.clone().or_else(|| standard.exists().then_some(standard));
    Settings::load(file.as_deref(), std::env::vars()).map_err(usage)
}

/// A job's surroundings.
pub struct App {
    pub settings: Settings,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
    /// Sends what is left of them when the job is over.
    _exporter: Option<Exporter>,
    pub screen: Screen,
    pub json: bool,
    pub handle: Handle,
    /// Set by SIGTERM and Ctrl-C.
    pub stop: Arc<AtomicBool>,
}

impl App {
    pub fn new(globals: &Globals, handle: Handle) -> anyhow::Result<Self> {
        let mut settings = load_settings(globals)?;
        if let Some(lake) = &globals.lake {
            settings.lake.location.clone_from(lake);
        }
        if let Some(format) = &globals.log_format {
            settings.log.format = if format == "json" { LogFormat::Json } else { LogFormat::Text };
        }
        let screen = Screen::new(Mode::of_stderr(globals.json || globals.quiet));
        let colors = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        init_logging_to(settings.log.format, &settings.log.filter, screen.log_writer(), colors).map_err(usage)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), Arc::clone(&clock))?);
        let (traces, exporter) = crate::traces::start(&settings, &metrics, &clock)?;
        let stop = Arc::new(AtomicBool::new(false));
        Ok(Self { settings, clock, metrics, traces, _exporter: exporter, screen, json: globals.json, handle, stop })
    }

    pub fn contract(&self) -> anyhow::Result<Arc<Contract>> {
        let wanted = &self.settings.contract;
        let contract = if wanted.folder.as_os_str().is_empty() {
            Contract::embedded()
        } else {
            Contract::load(&wanted.folder, &wanted.name)
        };
        Ok(Arc::new(contract.map_err(usage)?))
    }

    /// What the SQL files declare, whatever lake they meet.
    pub fn plan(&self, contract: &Contract) -> anyhow::Result<Plan> {
        self.plan_having(contract, |_| true)
    }

    /// What of it this lake is to have: with `features.enabled = "auto"`, the features of its newest epoch.
    pub fn plan_of(&self, contract: &Contract, lake: &Lake) -> anyhow::Result<Plan> {
        let has = match self.settings.features.enabled {
            Enabled::Auto => newest_tables(lake, &self.handle, self.clock.now_us() / 1000)?,
            Enabled::Yes | Enabled::No => Vec::new(),
        };
        self.plan_having(contract, |table| has.contains(table))
    }

    /// What a lake that is yet to be founded gets of it.
    pub fn plan_of_new(&self, contract: &Contract) -> anyhow::Result<Plan> {
        self.plan_having(contract, |_| false)
    }

    fn plan_having(&self, contract: &Contract, has: impl Fn(&TableName) -> bool) -> anyhow::Result<Plan> {
        let catalog = self.catalog(contract)?.with_features(&self.settings.features, has);
        Ok(Plan::new(catalog, bronze_name(contract.name()), bronze_schema(contract))?)
    }

    /// The SQL files.
    pub fn catalog(&self, contract: &Contract) -> anyhow::Result<Catalog> {
        let folder = Some(self.settings.sql.folder.as_path()).filter(|folder| !folder.as_os_str().is_empty());
        Catalog::load(folder, &[bronze_name(contract.name())]).map_err(usage)
    }

    pub fn stage_settings(&self) -> StageSettings {
        StageSettings {
            refine: self.settings.refine.clone(),
            windows: self.settings.windows.clone(),
            lateness_us: self.settings.epoch.lateness_us(),
            ..StageSettings::default()
        }
    }

    pub fn decoder(&self, contract: &Arc<Contract>) -> anyhow::Result<Decoder> {
        let lookup: Box<dyn SchemaLookup + Send> = if self.settings.registry.url.is_some() {
            Box::new(Registry::new(&self.settings.registry, Arc::clone(&self.clock)).map_err(usage)?)
        } else {
            Box::new(LocalSchemas::new(Arc::clone(contract)))
        };
        Ok(Decoder::new(Arc::clone(contract), self.settings.contract.format, lookup))
    }

    pub fn open_lake(&self, create: bool) -> anyhow::Result<Lake> {
        let settings: &LakeSettings = &self.settings.lake;
        Ok(self.handle.block_on(Lake::open(settings, &self.settings.pipeline, create))?)
    }

    /// Where models are kept.
    pub fn models(&self) -> anyhow::Result<ModelStore> {
        self.models_in(&self.settings.model.folder)
    }

    /// Where models are kept, when that is there.
    pub fn models_in(&self, location: &str) -> anyhow::Result<ModelStore> {
        Ok(ModelStore::open(location, &self.settings.model_options())?)
    }

    /// Who is asked about the rows of the stream: the champion of the model that a table's header names. `None` where none
    /// does, or scoring.stream says no.
    pub fn stream_scorer(&self, contract: &Contract, plan: &Plan) -> anyhow::Result<Option<StreamScorer>> {
        let settings = &self.settings;
        let Some((_, model)) = streamed_model(plan).filter(|_| settings.scoring.stream) else { return Ok(None) };
        let models = Models::new(self.models()?, ModelName::parse(model)?);
        let pipeline = Arc::new(ScoringPipeline::compile(plan, contract).map_err(usage)?);
        let (metrics, clock) = (Arc::clone(&self.metrics), Arc::clone(&self.clock));
        Ok(Some(StreamScorer::new(pipeline, models, settings.scoring.clone(), metrics, clock)))
    }

    /// Opens a pipeline for writing: SQL compiled, lake leased, tables opened.
    pub fn open(&self, create: bool) -> anyhow::Result<Opened> {
        let contract = self.contract()?;
        let plan = self.plan(&contract)?;
        let stage_settings = self.stage_settings();
        // Everything that the user wrote is checked before the lake is touched.
        Compiled::new(&plan, &stage_settings, [0, 0])?;
        let lake = self.open_lake(create)?;
        let lease = Lease::acquire(&lake)?;
        let plan = self.plan_of(&contract, &lake)?;
        let compiled = Compiled::new(&plan, &stage_settings, lake.hash_key())?;
        let layout = compiled.layout(contract.evolved_columns());
        let tables = Tables::open(&lake, &layout, Arc::clone(&self.clock), Arc::clone(&self.metrics));
        let mut tables = self.handle.block_on(tables)?;
        tables.resume()?;
        tables.trace(self.traces.clone());
        Ok(Opened { contract, plan, lake, lease, compiled, tables })
    }

    /// Opens a pipeline for looking at it: nothing is created, completed or taken back. On a folder its writer is kept out; on an
    /// object store it may go on, and the ledger says up to which epoch the tables are looked at.
    pub fn open_to_read(&self) -> anyhow::Result<Reading> {
        let contract = self.contract()?;
        let stage_settings = self.stage_settings();
        Compiled::new(&self.plan(&contract)?, &stage_settings, [0, 0])?;
        let lake = self.open_lake(false)?;
        let lease = Lease::acquire(&lake)?;
        let mut plan = self.plan_of(&contract, &lake)?;
        let fixed = [plan.bronze.clone(), plan.silver.table.clone(), EpochLedger::table_name()];
        let beside = [TableName::new(Layer::Bronze, "dead_letters"), TableName::new(Layer::Ops, "restatements")];
        let needed: Vec<TableName> = fixed.into_iter().chain(beside).chain(plan.silver.quarantine.clone()).collect();
        self.handle.block_on(require_tables(&lake, &needed))?;
        let ledger = self.handle.block_on(EpochLedger::open(&lake, self.clock.now_us() / 1000))?;
        let derived: Vec<TableName> = plan.rows.iter().chain(&plan.windows).map(|def| def.table.clone()).collect();
        let missing = self.handle.block_on(missing_tables(&lake, &derived))?;
        let record = ledger.get(ledger.last_epoch())?;
        let is_filled = |def: &TableDef| {
            let known = record.as_ref().is_none_or(|record| record.tables.iter().any(|entry| entry.table == def.table));
            known && !missing.contains(&def.table)
        };
        let (rows, new_rows) = plan.rows.into_iter().partition(is_filled);
        let (windows, mut unfilled): (Vec<_>, Vec<_>) = plan.windows.into_iter().partition(is_filled);
        (plan.rows, plan.windows) = (rows, windows);
        unfilled.extend::<Vec<TableDef>>(new_rows);
        let layout = Compiled::new(&plan, &stage_settings, lake.hash_key())?.layout(contract.evolved_columns());
        let tables = Tables::open(&lake, &layout, Arc::clone(&self.clock), Arc::clone(&self.metrics));
        let mut tables = self.handle.block_on(tables)?;
        // Where nothing keeps the writer out, tables read after the ledger may be ahead of it, and never behind it.
        tables.ledger = ledger;
        Ok(Reading { plan, lake, _lease: lease, tables, unfilled })
    }

    pub fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.settings.maintenance, self.settings.lake.history_s, Arc::clone(&self.clock))
    }

    /// Shows progress until the guard is dropped.
    pub fn show(&self, title: &str, goal: Goal, progress: &Arc<Progress>) -> Shown {
        let mut display = self.screen.progress(title, goal);
        let done = Arc::new(AtomicBool::new(false));
        let (progress, clock, finished) = (Arc::clone(progress), Arc::clone(&self.clock), Arc::clone(&done));
        let bytes = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let began_us = clock.now_us();
            let mut recent: std::collections::VecDeque<(i64, u64)> = std::collections::VecDeque::new();
            loop {
                let snapshot = snapshot(&progress, began_us, clock.now_us(), &mut recent);
                display.read_bytes(read.load(Ordering::Relaxed));
                if finished.load(Ordering::Relaxed) {
                    display.finish(&snapshot);
                    return;
                }
                display.update(&snapshot);
                nap(Duration::from_millis(100));
            }
        });
        Shown { done, bytes, thread: Some(thread) }
    }
}

/// Waits a little between two looks at counters.
#[allow(clippy::disallowed_methods, reason = "a display looks at counters in real time")]
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}

fn snapshot(
    progress: &Progress,
    began_us: i64,
    now_us: i64,
    recent: &mut std::collections::VecDeque<(i64, u64)>,
) -> Snapshot {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let messages = load(&progress.messages).max(load(&progress.bronze_rows));
    recent.push_back((now_us, messages));
    while recent.len() > 2 && recent.front().is_some_and(|(at, _)| now_us - at > 3_000_000) {
        recent.pop_front();
    }
    let rate_per_s = match (recent.front(), recent.back()) {
        (Some((from, before)), Some((to, after))) if to > from => (after - before) as f64 * 1e6 / (to - from) as f64,
        _ => 0.0,
    };
    let lag = progress.lag.load(Ordering::Relaxed);
    Snapshot {
        elapsed: Duration::from_micros(u64::try_from(now_us - began_us).unwrap_or(0)),
        messages,
        bronze_rows: load(&progress.bronze_rows),
        dead_letters: load(&progress.dead_letters),
        silver_rows: load(&progress.silver_rows),
        duplicates: load(&progress.duplicates),
        quarantined: load(&progress.quarantined),
        gold_rows: load(&progress.gold_rows),
        score_rows: load(&progress.score_rows),
        epoch: progress.epoch.load(Ordering::Relaxed),
        watermark_us: progress.watermark(),
        lag: (lag >= 0).then_some(lag),
        rate_per_s,
    }
}

/// A progress display that ends when it is dropped.
pub struct Shown {
    done: Arc<AtomicBool>,
    /// Bytes of files read so far.
    pub bytes: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A pipeline that is ready to write.
pub struct Opened {
    pub contract: Arc<Contract>,
    pub plan: Plan,
    pub lake: Lake,
    pub lease: Lease,
    pub compiled: Compiled,
    pub tables: Tables,
}

/// A pipeline to look at.
pub struct Reading {
    /// Without the tables that no epoch has.
    pub plan: Plan,
    pub lake: Lake,
    pub _lease: Lease,
    pub tables: Tables,
    /// Tables that the SQL files define and no epoch of the lake has.
    pub unfilled: Vec<TableDef>,
}

impl Opened {
    /// The stages with the past that the lake holds.
    pub fn split(self, app: &App) -> anyhow::Result<Running> {
        let Self { contract, plan, lake: _, lease, compiled, tables } = self;
        let last = tables.ledger.last_epoch();
        let mut history = FileHistory::new(tables.reader(&tables.silver), plan.event_time());
        // An epoch that crashed after silver is refined once more: its rows are not the past yet.
        let files =
            tables.silver.files().filter(|file| file.ranges.get("epoch").is_none_or(|(first, _)| *first <= last));
        history.written(last, files.cloned().collect::<Vec<_>>());
        let record = tables.ledger.get(last)?;
        let watermark = record.and_then(|record| record.watermark_us);
        app.metrics.resumed_at(last, watermark);
        let mut stages = compiled.with_history(history, watermark, Arc::clone(&app.clock));
        if let Some(mut scorer) = app.stream_scorer(&contract, &plan)? {
            // Loaded now, so that the first rows need not wait for it.
            scorer.begin();
            let topic = app.settings.scoring.topic.as_str();
            stages.ask(Box::new(match topic {
                "" => scorer,
                topic => scorer.publishing(Box::new(TopicPublisher::open(&app.settings.kafka, topic)?)),
            }));
        }
        Ok(Running { contract, plan, _lease: lease, stages, tables })
    }
}

/// A pipeline with its memory.
pub struct Running {
    pub contract: Arc<Contract>,
    pub plan: Plan,
    /// Held as long as anything may be written.
    _lease: Lease,
    pub stages: Stages,
    pub tables: Tables,
}

impl Running {
    pub fn positions(&self) -> anyhow::Result<Positions> {
        Ok(assay::pipeline::next_positions(&self.tables)?)
    }
}

/// Rows and version of every table, for summaries.
pub fn table_lines(tables: &Tables) -> Vec<crate::ui::TableLine> {
    let line = |table: &assay::lake::Table| crate::ui::TableLine {
        table: table.name().to_string(),
        rows: u64::try_from(table.rows()).unwrap_or(0),
        version: i64::try_from(table.version()).unwrap_or(0),
    };
    tables.all().map(line).collect()
}

/// Turns the error of a setting, a contract or a SQL file into one of usage.
pub fn usage(error: impl std::fmt::Display) -> anyhow::Error {
    UsageError(error.to_string()).into()
}

/// Says what an error of the library means for the exit code.
pub fn classify(error: anyhow::Error) -> anyhow::Error {
    let reaction = if let Some(error) = error.downcast_ref::<PipelineError>() {
        error.reaction()
    } else if error.is::<SettingsError>() {
        Reaction::Correct
    } else if let Some(lake) = error.downcast_ref::<LakeError>() {
        lake.reaction()
    } else if let Some(warehouse) = error.downcast_ref::<WarehouseError>() {
        warehouse.reaction()
    } else if let Some(online) = error.downcast_ref::<OnlineError>() {
        online.reaction()
    } else if let Some(source) = error.downcast_ref::<SourceError>() {
        if source.is_setting() { Reaction::Correct } else { Reaction::Retry }
    } else if let Some(registry) = error.downcast_ref::<RegistryError>() {
        registry.reaction()
    } else if let Some(registry) = error.downcast_ref::<ModelRegistryError>() {
        registry.reaction()
    } else if error.is::<TableError>() || error.is::<ModelError>() || error.is::<OnnxError>() {
        Reaction::Correct
    } else {
        return error;
    };
    match reaction {
        Reaction::Retry => error,
        Reaction::Correct => UsageError(format!("{error:#}")).into(),
        Reaction::Refused => Refused(format!("{error:#}")).into(),
    }
}
