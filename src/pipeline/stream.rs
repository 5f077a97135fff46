//! The loop: read and decode, refine, take into windows, write. Four threads with bounded queues between them, so that
//! epoch n+1 is read and refined while epoch n is written.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};

use super::ahead::EncodeAhead;
use super::aside::{TASKS_AHEAD, WindowThread};
use super::assemble::{Arrived, arrived, dead_letter_rows, seal};
use super::error::PipelineError;
use super::maintenance::Maintenance;
use super::progress::Progress;
use super::settings::EpochSettings;
use super::stages::Stages;
use super::tables::Tables;
use super::traced::EpochTracer;
use super::windowing::Written;
use super::work::EpochWork;
use crate::contract::{Decoder, RegistryError};
use crate::domain::{Clock, EpochRecord, MessageBatch, OffsetRange, Positions, Ranges, Stint, TableName};
use crate::refine::window::TableChanges;
use crate::source::{Polled, Source};
use crate::telemetry::Metrics;

/// Micro-batches decoded ahead. Each holds at most the source's messages_max.
const DECODED_AHEAD: usize = 4;
/// Epochs that wait for the writer while one is being written.
const EPOCHS_AHEAD: usize = 1;
/// How long the reader waits for messages before it looks at the stop flag.
const POLL: Duration = Duration::from_millis(20);

/// Where micro-batches come from, decoded.
pub trait Feed: Send {
    /// The next micro-batch, `None` at the end of a bounded source. An empty one says that nothing came for a while.
    ///
    /// # Errors
    /// When the source cannot go on.
    fn next(&mut self, wait: Duration) -> Result<Option<Option<Arrived>>, PipelineError>;
}

/// Messages of a source through a decoder.
pub struct MessageFeed<S> {
    source: S,
    decoder: Decoder,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// A batch that waits for the schema registry.
    waiting: Option<(MessageBatch, Stint)>,
    registry_pause: Duration,
    /// Of the last micro-batch: together with topic, partition and offset it says in which order rows arrived.
    ingested_at_us: i64,
}

impl<S: Source> MessageFeed<S> {
    #[must_use]
    pub fn new(source: S, decoder: Decoder, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            source,
            decoder,
            clock,
            metrics,
            waiting: None,
            registry_pause: Duration::from_millis(200),
            ingested_at_us: 0,
        }
    }
}

impl<S: Source> Feed for MessageFeed<S> {
    fn next(&mut self, wait: Duration) -> Result<Option<Option<Arrived>>, PipelineError> {
        let (batch, fetch) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let began_us = self.clock.now_us();
                match self.source.poll(wait)? {
                    Polled::Batch(batch) => (batch.in_order(), Stint::new(began_us, self.clock.now_us())),
                    Polled::Idle => return Ok(Some(None)),
                    Polled::End => return Ok(None),
                }
            }
        };
        let began_us = self.clock.now_us();
        match self.decoder.decode(&batch) {
            Ok(decoded) => {
                self.registry_pause = Duration::from_millis(200);
                let now_us = self.clock.now_us();
                self.ingested_at_us = now_us.max(self.ingested_at_us + 1);
                let arrived = arrived(&batch, decoded, self.ingested_at_us, Stint::new(began_us, now_us));
                Ok(Some(Some(Arrived { fetch: Some(fetch), ..arrived })))
            }
            Err(error @ RegistryError::Unavailable { .. }) => {
                tracing::warn!(%error, "the stream pauses until the schema registry answers");
                self.metrics.set_source_connected(false);
                self.waiting = Some((batch, fetch));
                pause_for(self.registry_pause);
                self.registry_pause = (self.registry_pause * 2).min(Duration::from_secs(10));
                Ok(Some(None))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the reader has nothing else to do until the registry answers")]
fn pause_for(pause: Duration) {
    std::thread::sleep(pause);
}

/// What a stream is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From the source to gold.
    Gold,
    /// Bronze and dead letters only: `assay ingest`.
    Bronze,
}

/// What the stream needs beside its feed.
pub struct Stream<'a> {
    pub stages: Stages,
    pub tables: Tables,
    pub next: Positions,
    pub settings: EpochSettings,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
    pub stop: &'a AtomicBool,
    pub reach: Reach,
    pub maintenance: Maintenance,
    /// Told after each durable epoch; offsets of a consumer group are telemetry only.
    pub on_durable: Box<dyn FnMut(&Positions) + Send + 'a>,
}

impl Stream<'_> {
    /// Runs until the feed ends or `stop` is set; then the last epoch is finished.
    ///
    /// # Errors
    /// When the source, the SQL, or the lake cannot go on. What was not published is completed at the next start.
    pub fn run(self, feed: impl Feed) -> Result<Tables, PipelineError> {
        let Self {
            mut stages,
            mut tables,
            next,
            settings,
            clock,
            metrics,
            progress,
            stop,
            reach,
            mut maintenance,
            mut on_durable,
        } = self;
        let orphans = tables.orphaned_dead_letters(&next)?;
        let bronze_schema = Arc::clone(&tables.bronze.spec().schema);
        // A rebuild is an epoch too, and brings nothing to bronze.
        let last_epoch = tables.bronze.epoch().max(tables.ledger.last_epoch());
        let (arrived_tx, arrived_rx) = bounded::<Arrived>(DECODED_AHEAD);
        let (work_tx, work_rx) = bounded::<EpochWork>(EPOCHS_AHEAD);
        let (written_tx, written_rx) = unbounded::<Written>();
        let (told_windows_tx, told_windows_rx) = unbounded::<Written>();
        let tracer = tables.tracer().clone();
        let (handover, mut windows) =
            WindowThread::new(told_windows_rx, work_tx.clone(), Arc::clone(&metrics), tracer.clone());
        windows.stage = stages.put_windows_aside(handover);
        let patience = Duration::from_secs(settings.store_patience_s);
        let ahead_rows = stages.ahead_rows();
        let refiner = EpochLoop {
            stages,
            bronze_schema,
            orphans,
            next,
            epoch: last_epoch,
            settings,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            tracer: tracer.clone(),
            progress: Arc::clone(&progress),
            reach,
            ahead: Arc::new(EncodeAhead::new(&tables, ahead_rows)),
            evolved: EncodeAhead::evolved(&tables, ahead_rows).map(Arc::new),
            work: None,
            messages: 0,
            bytes: 0,
        };
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || read(feed, &arrived_tx, stop));
            let writer = scope.spawn(move || {
                for work in work_rx {
                    let _in_log = tracer.log_span(work.epoch).entered();
                    let next = work.next.clone();
                    let samples = work.source_at_us.clone();
                    let gold_rows = work.changes.iter().map(|changes| changed_rows(&work, changes)).sum::<u64>();
                    let restated: Vec<(TableName, u64)> = work.changes.iter().filter_map(restated_rows).collect();
                    let record = tables.write(work, patience)?;
                    for changes in &restated {
                        metrics.restated(&changes.0, changes.1);
                    }
                    report(&metrics, &progress, &record, &samples, gold_rows);
                    maintenance.after_epoch(&mut tables);
                    on_durable(&next);
                    // Nobody listens any more once the feed has ended; the epochs that are cut are written all the same.
                    let written = Written::new(record.epoch, tables.silver.files().cloned());
                    let _ = (told_windows_tx.send(written.clone()), written_tx.send(written));
                }
                maintenance.finish(&mut tables);
                Ok::<Tables, PipelineError>(tables)
            });
            let windowing = scope.spawn(move || windows.run());
            let refined = refiner.run(&arrived_rx, work_tx, &written_rx);
            drop(arrived_rx);
            drop(written_rx);
            let windowed = windowing.join().unwrap_or(Err(PipelineError::Thread("windows")));
            let written = writer.join().unwrap_or(Err(PipelineError::Thread("writer")));
            let read = reader.join().unwrap_or(Err(PipelineError::Thread("reader")));
            // The error of who comes later explains why the queue before it closed, so it is told first.
            let tables = written?;
            windowed?;
            refined?;
            read?;
            Ok(tables)
        })
    }
}

fn changed_rows(work: &EpochWork, changes: &TableChanges) -> u64 {
    let restated = changes.restated.as_ref().map_or(0, |restated| restated.after.num_rows());
    work.intakes.rows(&changes.table) + (changes.closed.num_rows() + restated) as u64
}

fn restated_rows(changes: &TableChanges) -> Option<(TableName, u64)> {
    let restated = changes.restated.as_ref()?;
    Some((changes.table.clone(), restated.after.num_rows() as u64))
}

fn read(mut feed: impl Feed, arrived: &Sender<Arrived>, stop: &AtomicBool) -> Result<(), PipelineError> {
    while !stop.load(Ordering::Relaxed) {
        match feed.next(POLL)? {
            Some(Some(batch)) => {
                if arrived.send(batch).is_err() {
                    break;
                }
            }
            Some(None) => {}
            None => break,
        }
    }
    Ok(())
}

fn report(metrics: &Metrics, progress: &Progress, record: &EpochRecord, samples: &[i64], gold_rows: u64) {
    metrics.epoch_published(record);
    metrics.fresh(samples.iter().map(|at| (record.published_at_us - at).max(0) as f64 / 1e6));
    Progress::add(&progress.bronze_rows, record.bronze_rows);
    Progress::add(&progress.dead_letters, record.dead_letters);
    Progress::add(&progress.gold_rows, gold_rows);
    progress.note_refined(record);
    tracing::info!(
        epoch = record.epoch,
        messages = record.messages,
        silver_rows = record.silver_rows,
        dead_letters = record.dead_letters,
        duplicates = record.duplicates,
        quarantined = record.quarantined,
        late_rows = record.late_rows,
        millis = (record.published_at_us - record.started_at_us) / 1000,
        "epoch published"
    );
}

/// The middle of the pipeline: collects micro-batches into an epoch and refines each as it comes.
struct EpochLoop {
    stages: Stages,
    bronze_schema: arrow::datatypes::SchemaRef,
    orphans: HashSet<(String, i32, i64)>,
    next: Positions,
    epoch: i64,
    settings: EpochSettings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    tracer: EpochTracer,
    progress: Arc<Progress>,
    reach: Reach,
    ahead: Arc<EncodeAhead>,
    /// In place of `ahead` from the first epoch with rows of a later version of the contract.
    evolved: Option<Arc<EncodeAhead>>,
    work: Option<EpochWork>,
    messages: u64,
    bytes: u64,
}

impl EpochLoop {
    /// `work` is where epochs go once their windows are finished.
    fn run(
        mut self,
        arrived: &Receiver<Arrived>,
        work: Sender<EpochWork>,
        written: &Receiver<Written>,
    ) -> Result<(), PipelineError> {
        loop {
            self.learn(written)?;
            self.metrics.set_queue("decoded", arrived.len(), DECODED_AHEAD);
            self.metrics.set_queue("windows", self.stages.windows_depth(), TASKS_AHEAD);
            self.metrics.set_queue("epochs", work.len(), EPOCHS_AHEAD);
            match arrived.recv_timeout(self.time_left()) {
                Ok(batch) => {
                    if let Some(ahead) = self.evolved.take_if(|_| batch.evolved) {
                        // The rows before it are encoded without the columns that come now.
                        self.cut()?;
                        self.ahead = ahead;
                    }
                    self.take(batch)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.cut(),
            }
            let writer_is_free = self.stages.windows_are_idle() && work.is_empty();
            if self.is_due(arrived.is_empty(), writer_is_free) {
                // When those after it are behind, waiting here stops the poll, because every queue is bounded.
                self.cut()?;
            }
        }
    }

    /// What is written meanwhile. Who comes later and failed is noticed also while nothing comes to be handed over.
    fn learn(&mut self, written: &Receiver<Written>) -> Result<(), PipelineError> {
        loop {
            match written.try_recv() {
                Ok(done) => self.stages.learn(&done),
                Err(TryRecvError::Empty) if self.stages.windows_are_gone() => {
                    return Err(PipelineError::Thread("windows"));
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(PipelineError::Thread("writer")),
            }
        }
    }

    fn age_ms(&self) -> u64 {
        let started = self.work.as_ref().map(|work| work.started_at_us);
        started.map_or(0, |at| u64::try_from((self.clock.now_us() - at) / 1000).unwrap_or(0))
    }

    fn time_left(&self) -> Duration {
        if self.work.is_none() {
            return Duration::from_millis(self.settings.interval_ms.clamp(10, 1000));
        }
        Duration::from_millis(self.settings.interval_ms.saturating_sub(self.age_ms()).clamp(5, 1000))
    }

    /// Caught up, an epoch is due after its interval. Behind, it grows to its bounds for throughput.
    fn is_due(&self, caught_up: bool, writer_is_free: bool) -> bool {
        if self.messages >= self.settings.messages_max || self.bytes >= self.settings.bytes_max {
            return true;
        }
        let age_ms = self.age_ms();
        writer_is_free && (age_ms >= self.settings.interval_ms && caught_up || age_ms >= 3 * self.settings.interval_ms)
    }

    fn take(&mut self, batch: Arrived) -> Result<(), PipelineError> {
        let _in_log = self.tracer.log_span(self.epoch + 1).entered();
        let taken = self.refine(batch);
        if let (Err(error), Some(work)) = (&taken, &self.work) {
            self.tracer.failed(work, error);
        }
        taken
    }

    fn refine(&mut self, batch: Arrived) -> Result<(), PipelineError> {
        let now_us = self.clock.now_us();
        let reach = self.reach;
        let epoch = self.epoch + 1;
        let work = self.work.get_or_insert_with(|| {
            self.stages.begin();
            EpochWork {
                epoch,
                past: epoch,
                started_at_us: now_us,
                bronze_only: reach == Reach::Bronze,
                ..EpochWork::default()
            }
        });
        self.messages += batch.messages;
        self.bytes += batch.bytes;
        work.messages += batch.messages;
        work.dead_letters += batch.dead_letters.len() as u64;
        work.evolved |= batch.evolved;
        work.stages.join("decode", batch.decode);
        if let Some(fetch) = batch.fetch {
            work.fetch.get_or_insert(Stint { busy_us: 0, times: 0, ..fetch }).join(fetch);
        }
        merge(&mut work.ranges, &batch.ranges);
        for (partition, range) in &batch.ranges {
            self.next.insert(partition.clone(), range.next);
            // Bytes are known for the whole micro-batch: each partition gets its share by messages.
            let bytes = batch.bytes * range.messages / batch.messages.max(1);
            self.metrics.messages_read(&partition.topic, range.messages, bytes);
        }
        Progress::add(&self.progress.messages, batch.messages);
        for letter in &batch.dead_letters {
            self.metrics.rejected(letter.stage, letter.reason, 1);
        }
        let orphans = &self.orphans;
        let fresh: Vec<_> = batch
            .dead_letters
            .into_iter()
            .filter(|letter| {
                orphans.is_empty() || !orphans.contains(&(letter.topic.to_string(), letter.partition, letter.offset))
            })
            .collect();
        if !fresh.is_empty() {
            work.dead.push(dead_letter_rows(&fresh, batch.ingested_at_us, epoch)?);
        }
        if batch.contract.num_rows() > 0 {
            let rows = seal(&batch.contract, &batch.provenance, batch.ingested_at_us, epoch, &self.bronze_schema)?;
            work.bronze_rows += rows.num_rows() as u64;
            work.source_at_us.extend(batch.source_at_us);
            if reach == Reach::Gold {
                self.stages.refine(&rows, work, &self.metrics)?;
            }
            work.bronze.push(rows);
            self.ahead.take(work);
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), PipelineError> {
        let Some(mut work) = self.work.take() else { return Ok(()) };
        self.epoch = work.epoch;
        self.messages = 0;
        self.bytes = 0;
        work.next = self.next.clone();
        for (cache, bytes) in self.stages.caches() {
            self.metrics.set_cache(&cache, bytes);
        }
        let outline = self.tracer.outline(&work);
        let ended = self.stages.end(work, &self.ahead);
        if let (Err(error), Some(outline)) = (&ended, outline) {
            self.tracer.gave_up(outline, error);
        }
        ended
    }
}

fn merge(into: &mut Ranges, from: &Ranges) {
    for (partition, range) in from {
        into.entry(partition.clone())
            .and_modify(|known: &mut OffsetRange| {
                known.first = known.first.min(range.first);
                known.next = known.next.max(range.next);
                known.messages += range.messages;
            })
            .or_insert(*range);
    }
}
