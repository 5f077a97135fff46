use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use assay::contract::Contract;
use assay::generate::{Counts, GenerateSettings, Generated, Generator, OutputFormat, write_file};
use assay::source::{Outgoing, Producer, end_offsets};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::app::{App, KafkaArgs, nap, usage};
use crate::exit::Exit;
use crate::register::{Registered, register};
use crate::ui::thousands;

/// Make a realistic, seeded stream of transactions with fraud and dirt, to Kafka or to a file.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// How many messages
    #[arg(long, default_value_t = 100_000)]
    pub events: u64,
    /// The same seed gives the same messages
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Messages a second to send; 0 sends as fast as the broker takes them
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Stamp events and messages with the time of sending instead of simulated time
    #[arg(long)]
    pub live: bool,
    /// Partitions of the topic [default: asked of the broker]
    #[arg(long)]
    pub partitions: Option<u32>,
    /// Write a file instead: its ending says csv, jsonl or parquet, unless --format does
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The format of the file
    #[arg(long, value_enum)]
    pub format: Option<FileKind>,
    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FileKind {
    Csv,
    Jsonl,
    Parquet,
}

/// What the stream looks like.
#[derive(Debug, Clone, Default, Args)]
pub struct Shape {
    /// Events a second of simulated time
    #[arg(long, value_name = "N")]
    pub event_rate: Option<f64>,
    /// When simulated time begins, ISO 8601
    #[arg(long, value_name = "TIME")]
    pub start_at: Option<String>,
    #[arg(long)]
    pub users: Option<u32>,
    #[arg(long)]
    pub merchants: Option<u32>,
    /// Share of messages that are sent again, 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub duplicates: Option<f64>,
    /// Share of events 2 to 30 minutes behind
    #[arg(long, value_name = "SHARE")]
    pub late: Option<f64>,
    /// Share of events some seconds behind
    #[arg(long, value_name = "SHARE")]
    pub out_of_order: Option<f64>,
    /// Share of messages that cannot be decoded
    #[arg(long, value_name = "SHARE")]
    pub malformed: Option<f64>,
    /// Share of rows that break an expectation
    #[arg(long, value_name = "SHARE")]
    pub bad_rows: Option<f64>,
    /// Share of messages in version 2 of the contract
    #[arg(long, value_name = "SHARE")]
    pub v2: Option<f64>,
    /// Share of JSON messages
    #[arg(long, value_name = "SHARE")]
    pub json_share: Option<f64>,
}

impl Shape {
    pub fn apply(&self, settings: &mut GenerateSettings) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        set(&mut settings.rate, &self.event_rate);
        set(&mut settings.start_at, &self.start_at);
        set(&mut settings.users, &self.users);
        set(&mut settings.merchants, &self.merchants);
        set(&mut settings.duplicates, &self.duplicates);
        set(&mut settings.late, &self.late);
        set(&mut settings.out_of_order, &self.out_of_order);
        set(&mut settings.malformed, &self.malformed);
        set(&mut settings.bad_rows, &self.bad_rows);
        set(&mut settings.v2, &self.v2);
        set(&mut settings.json, &self.json_share);
    }
}

pub fn run(args: GenerateArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    app.settings.check()?;
    app.stop_on_signals();
    let mut settings = GenerateSettings { seed: args.seed, events: Some(args.events), ..GenerateSettings::default() };
    args.shape.apply(&mut settings);
    if args.live {
        settings.start_at = chrono::DateTime::from_timestamp_micros(app.clock.now_us())
            .map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
            .unwrap_or_default();
        if args.rate > 0 {
            settings.rate = args.rate as f64;
        }
    }
    settings.check().map_err(usage)?;
    let began_us = app.clock.now_us();
    let counts = match &args.output {
        Some(path) => {
            let format = match args.format {
                Some(FileKind::Csv) => OutputFormat::Csv,
                Some(FileKind::Jsonl) => OutputFormat::JsonLines,
                Some(FileKind::Parquet) => OutputFormat::Parquet,
                None => format_of(path)?,
            };
            check_folder(path)?;
            write_file(path, format, &settings)?
        }
        None => to_kafka(&args, settings, &app)?,
    };
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    if app.json {
        say!("{}", json!({"job": "generate", "elapsed_s": elapsed_s, "counts": counts}))?;
    } else {
        say!(
            "{} messages in {elapsed_s:.1} s: {} valid, {} duplicates, {} malformed, {} bad rows",
            thousands(counts.messages),
            thousands(counts.valid),
            thousands(counts.duplicates),
            thousands(counts.malformed.values().sum()),
            thousands(counts.bad_rows.values().sum())
        )?;
    }
    Ok(Exit::Done)
}

/// A folder is not made: a name that is mistyped would go unseen.
fn check_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(usage(format!("--output {}: there is no folder {}", path.display(), folder.display())));
    }
    if path.is_dir() {
        return Err(usage(format!("--output {} is a folder; name a file in it", path.display())));
    }
    Ok(())
}

fn format_of(path: &Path) -> anyhow::Result<OutputFormat> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Ok(OutputFormat::Csv),
        Some("jsonl" | "ndjson") => Ok(OutputFormat::JsonLines),
        Some("parquet") => Ok(OutputFormat::Parquet),
        _ => Err(usage(format!("{} has no ending that tells a format; give --format", path.display()))),
    }
}

fn to_kafka(args: &GenerateArgs, mut settings: GenerateSettings, app: &App) -> anyhow::Result<Counts> {
    let kafka = &app.settings.kafka;
    let topic = kafka.topics.first().cloned().unwrap_or_default();
    if app.settings.registry.url.is_some() {
        // Whatever the folder of contracts holds, this is what the generator writes.
        let contract = Contract::embedded().map_err(usage)?;
        for Registered { version, id, .. } in register(app, &contract, &topic)? {
            let id = u32::try_from(id.unwrap_or_default())?;
            match version {
                1 => settings.v1_schema_id = id,
                2 => settings.v2_schema_id = id,
                _ => {}
            }
        }
    }
    let partitions = match args.partitions {
        Some(partitions) => partitions,
        None => u32::try_from(end_offsets(kafka, Duration::from_secs(30))?.len())?,
    };
    let mut generator = Generator::new(settings, partitions).map_err(usage)?;
    let mut producer = Producer::open(kafka)?;
    let mut message = Generated::default();
    let began_us = app.clock.now_us();
    let mut sent = 0_u64;
    while !app.stop.load(Ordering::Relaxed) && generator.next_into(&mut message) {
        if args.rate > 0 && sent.is_multiple_of(64) {
            let due_us = began_us + i64::try_from(sent * 1_000_000 / args.rate).unwrap_or(i64::MAX);
            while app.clock.now_us() < due_us {
                producer.serve(Duration::ZERO)?;
                nap(Duration::from_micros(500));
            }
        }
        let timestamp_ms = if args.live { app.clock.now_us() / 1000 } else { message.timestamp_ms };
        producer.send(&Outgoing {
            topic: &topic,
            partition: Some(message.partition),
            key: Some(&message.key),
            payload: message.payload(),
            timestamp_ms: Some(timestamp_ms),
            headers: &message.headers(),
        })?;
        sent += 1;
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(generator.counts())
}
