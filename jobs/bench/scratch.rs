//! What the benches share: a lake that goes away, generated messages, and a feed that is watched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay::domain::Ranges;
use assay::generate::{Batches, GenerateSettings, Generator};
use assay::pipeline::{Arrived, Feed, PipelineError};
use assay::source::{Polled, Source, SourceError};
use clap::Args;

use super::machine::Cpu;
use crate::app::{App, usage};
use crate::generate::Shape;

pub const TOPIC: &str = "bench.transactions";
pub const PARTITIONS: u32 = 4;

/// Where the lake of a bench lies, and whether it stays.
#[derive(Debug, Clone, Args)]
pub struct ScratchArgs {
    /// The folder in which the lake of the bench is made [default: the system's temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub scratch: Option<PathBuf>,
    /// Keep that lake
    #[arg(long)]
    pub keep: bool,
}

/// A lake that is deleted when this is dropped.
pub struct Scratch {
    folder: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes a folder for a new lake, and points the settings to it.
    pub fn make(args: &ScratchArgs, app: &mut App) -> anyhow::Result<Self> {
        let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let folder = parent.join(format!("assay-bench-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).map_err(|e| usage(format!("{}: {e}", folder.display())))?;
        app.settings.lake.location = folder.join("lake").display().to_string();
        app.settings.model.folder = folder.join("models").display().to_string();
        Ok(Self { folder, keep: args.keep })
    }

    pub fn lake(&self) -> PathBuf {
        self.folder.join("lake")
    }

    pub fn size_mib(&self) -> u64 {
        size(&self.folder) >> 20
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("the lake of the bench stays in {}", self.lake().display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the lake of a bench stays");
        }
    }
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The stream of the benches: an hour of a shop with a million users at 5,000 a second, unless the flags say otherwise.
pub fn generator(events: u64, seed: u64, event_rate: f64, shape: &Shape) -> anyhow::Result<Generator> {
    let mut settings = GenerateSettings {
        seed,
        events: Some(events),
        rate: event_rate,
        users: 1_000_000,
        merchants: 2_000,
        ..GenerateSettings::default()
    };
    shape.apply(&mut settings);
    Generator::new(settings, PARTITIONS).map_err(usage)
}

/// Generated messages as a source, without a broker.
pub struct GeneratedSource {
    pub batches: Batches,
    pub batch_messages: usize,
}

impl Source for GeneratedSource {
    fn poll(&mut self, _timeout: Duration) -> Result<Polled, SourceError> {
        Ok(self.batches.next(self.batch_messages).map_or(Polled::End, Polled::Batch))
    }
}

/// What a watched feed has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub messages: u64,
    /// When the first batch came, and the CPU time until then.
    pub first: Option<(i64, Duration)>,
    /// The ranges of each batch with a sample of the moments at which the source got its messages.
    pub samples: Vec<(Ranges, Vec<i64>)>,
}

/// A feed that ends after a number of messages, and notes what comes through.
pub struct Watched<F> {
    feed: F,
    messages_max: u64,
    clock: Arc<dyn assay::domain::Clock>,
    with_samples: bool,
    seen: Arc<Mutex<Seen>>,
}

impl<F: Feed> Watched<F> {
    pub fn new(feed: F, messages_max: Option<u64>, with_samples: bool, app: &App) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Arc::default();
        let messages_max = messages_max.unwrap_or(u64::MAX);
        let watched = Self { feed, messages_max, clock: Arc::clone(&app.clock), with_samples, seen: Arc::clone(&seen) };
        (watched, seen)
    }
}

impl<F: Feed> Feed for Watched<F> {
    fn next(&mut self, wait: Duration) -> Result<Option<Option<Arrived>>, PipelineError> {
        if lock(&self.seen).messages >= self.messages_max {
            return Ok(None);
        }
        let before = Cpu::Process.time();
        let next = self.feed.next(wait)?;
        if let Some(Some(batch)) = &next {
            let mut seen = lock(&self.seen);
            seen.messages += batch.messages;
            seen.first.get_or_insert_with(|| (self.clock.now_us(), before));
            if self.with_samples {
                seen.samples.push((batch.ranges.clone(), batch.source_at_us.clone()));
            }
        }
        Ok(next)
    }
}

pub fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This program once more, with other arguments: what it does then costs this process nothing.
pub fn another<'a>(arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    Ok(Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// The JSON that another run of this program prints.
pub fn report_of(child: Child) -> anyhow::Result<serde_json::Value> {
    let output = child.wait_with_output()?;
    if !output.status.success() {
        anyhow::bail!("a part of the bench failed ({})", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
