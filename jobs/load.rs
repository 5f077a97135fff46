use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::domain::{Clock, Positions, Stint};
use assay::pipeline::{Arrived, Feed, PipelineError, Progress, Reach, Stream, arrived, file_provenance};
use assay::source::file::{FileBatch, FileFormat, FileOptions, FileReader, IdentifiedFile};
use clap::{Args, ValueEnum};

use crate::app::App;
use crate::exit::Exit;
use crate::run::recover;
use crate::summary;
use crate::ui::Goal;

/// Rows of one micro-batch.
const BATCH_ROWS: usize = 16 * 1024;

/// Load CSV, JSON lines or Parquet files; a file that was loaded already changes nothing.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Files (.csv, .csv.gz, .jsonl, .ndjson, .parquet), or s3:// URLs of such
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// The format, instead of what the file's name says
    #[arg(long, value_enum)]
    pub format: Option<FileKind>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FileKind {
    Csv,
    Jsonl,
    Parquet,
}

pub fn run(args: LoadArgs, mut app: App) -> anyhow::Result<Exit> {
    // What happened long ago is no news.
    app.settings.scoring.topic.clear();
    app.stop_on_signals();
    let contract = app.contract()?;
    let options = FileOptions {
        format: args.format.map(|format| match format {
            FileKind::Csv => FileFormat::Csv,
            FileKind::Jsonl => FileFormat::JsonLines,
            FileKind::Parquet => FileFormat::Parquet,
        }),
        aliases: aliases(&contract),
        store: app.settings.lake.options.clone(),
    };
    // Files are found, and their headers read, before the lake is opened, so that a wrong one changes nothing.
    let files = args.files.iter().map(|url| IdentifiedFile::find(url, &options)).collect::<Result<VecDeque<_>, _>>()?;
    files.iter().try_for_each(|file| file.check(&contract.arrow_schema(), &options))?;
    let progress = Arc::new(Progress::new());
    let began_us = app.clock.now_us();
    let mut running = app.open(true)?.split(&app)?;
    recover(&app, &mut running)?;
    running.stages.warm_up()?;
    let next = running.positions()?;
    let bytes_total: u64 = files.iter().map(IdentifiedFile::bytes).sum();
    let shown = app.show("load", Goal::Bytes(bytes_total), &progress);
    let feed = FileFeed {
        files,
        reader: None,
        positions: next.clone(),
        decoder: Decoder::new(Arc::clone(&contract), Format::Json, Box::new(LocalSchemas::new(Arc::clone(&contract)))),
        contract,
        options,
        clock: Arc::clone(&app.clock),
        bytes_done: 0,
        bytes: Arc::clone(&shown.bytes),
    };
    let stream = Stream {
        stages: running.stages,
        tables: running.tables,
        next,
        settings: app.settings.epoch.clone(),
        clock: Arc::clone(&app.clock),
        metrics: Arc::clone(&app.metrics),
        progress: Arc::clone(&progress),
        stop: &app.stop,
        reach: Reach::Gold,
        maintenance: app.maintenance(),
        on_durable: Box::new(|_| {}),
    };
    let tables = stream.run(feed)?;
    drop(shown);
    let elapsed_s = (app.clock.now_us() - began_us) as f64 / 1e6;
    summary::print(&app, &summary::ledger("load", &tables, &progress, elapsed_s), true)?;
    Ok(Exit::Done)
}

fn aliases(contract: &Contract) -> BTreeMap<String, Vec<String>> {
    let schema = contract.arrow_schema();
    schema.fields().iter().map(|field| (field.name().clone(), contract.aliases(field.name()).to_vec())).collect()
}

/// Files one after the other, each from the line where the lake left it.
struct FileFeed {
    files: VecDeque<IdentifiedFile>,
    reader: Option<FileReader>,
    positions: Positions,
    contract: Arc<Contract>,
    options: FileOptions,
    decoder: Decoder,
    clock: Arc<dyn Clock>,
    bytes_done: u64,
    bytes: Arc<AtomicU64>,
}

impl Feed for FileFeed {
    fn next(&mut self, _wait: Duration) -> Result<Option<Option<Arrived>>, PipelineError> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(file) = self.files.pop_front() else { return Ok(None) };
                let resume_at = self.positions.get(&file.partition()).copied().unwrap_or(0);
                self.reader = Some(file.read(&self.contract.arrow_schema(), &self.options, resume_at)?);
                continue;
            };
            let began_us = self.clock.now_us();
            let batch = reader.next_batch(BATCH_ROWS)?;
            let read = reader.progress().bytes_read;
            self.bytes.store(self.bytes_done + read, Ordering::Relaxed);
            let Some(batch) = batch else {
                self.bytes_done += reader.progress().bytes_total;
                self.reader = None;
                continue;
            };
            return self.arrive(batch, began_us).map(|arrived| Some(Some(arrived)));
        }
    }
}

impl FileFeed {
    fn arrive(&mut self, batch: FileBatch, began_us: i64) -> Result<Arrived, PipelineError> {
        let rows = match batch {
            FileBatch::Messages(messages) => {
                let decoded = self.decoder.decode(&messages)?;
                let now_us = self.clock.now_us();
                return Ok(arrived(&messages, decoded, now_us, Stint::new(began_us, now_us)));
            }
            FileBatch::Rows(rows) => rows,
        };
        let now_us = self.clock.now_us();
        let topic = rows.ranges.keys().next().map(|partition| Arc::clone(&partition.topic)).unwrap_or_default();
        let evolved = self.contract.evolved_columns();
        let has_evolved = evolved
            .iter()
            .any(|name| rows.rows.column_by_name(name).is_some_and(|column| column.null_count() < column.len()));
        Ok(Arrived {
            provenance: file_provenance(&topic, &rows.lines),
            messages: (rows.lines.len() + rows.rejected.len()) as u64,
            bytes: 0,
            contract: rows.rows,
            dead_letters: rows.rejected,
            ranges: rows.ranges,
            evolved: has_evolved,
            ingested_at_us: now_us,
            source_at_us: Vec::new(),
            fetch: None,
            decode: Stint::new(began_us, now_us),
        })
    }
}
