//! Recomputing silver and gold from bronze, beside the tables that stand: they stay in force until all is written.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rayon::prelude::*;

use super::ahead::EncodeAhead;
use super::arrival::{Arrivals, chunks};
use super::error::PipelineError;
use super::progress::Progress;
use super::stages::Stages;
use super::tables::{OPEN_PREFIX, Tables, is_open};
use super::traced::{Committed, Writing, of_ledger};
use super::work::EpochWork;
use crate::domain::{Clock, EpochKind, EpochRecord, Stint, TableName, TableVersion, schema};
use crate::lake::{Commit, DataFile, Encoded, Encoder, FileReader, LakeError, Revision, successor};
use crate::refine::window::Phase;
use crate::telemetry::Metrics;

/// Batches read ahead.
const BATCHES_AHEAD: usize = 2;

/// Restated rows of a table before those that others have replaced are dropped for the first time.
const RESTATED_MIN: usize = if cfg!(test) { 8 } else { 1 << 15 };

/// What to recompute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Silver and quarantine.
    Silver,
    /// The window tables, from silver.
    Gold,
    /// The tables that follow from silver row by row.
    Scores,
    /// Everything, from bronze.
    All,
}

impl Target {
    const fn reads_bronze(self) -> bool {
        matches!(self, Self::Silver | Self::All)
    }
}

type Stores = Vec<(TableName, Arc<dyn object_store::ObjectStore>)>;

/// New files of one table, written but not committed.
struct Draft {
    table: TableName,
    encoder: Encoder,
    reader: FileReader,
    key: Vec<String>,
    files: Vec<DataFile>,
    rows: i64,
    /// What late rows made of rows that are in `files`, oldest first; put in their place at the end, in one go.
    restated: Vec<RecordBatch>,
    /// Rows in `restated` at which those that later ones replace are dropped.
    restated_at: usize,
}

/// Recomputes tables and puts the new ones in force as an epoch of their own. Blocking.
///
/// `stages` must be fresh: without a past.
///
/// # Errors
/// As the stages and the tables; the old tables are in force then.
pub fn rebuild(
    tables: &mut Tables,
    mut stages: Stages,
    target: Target,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    progress: &Progress,
) -> Result<EpochRecord, PipelineError> {
    let started_at_us = clock.now_us();
    let (complete, arrived) = (tables.ledger.last_epoch(), tables.bronze.epoch());
    if arrived > complete {
        // They would come after this epoch in the ledger and before it in bronze, and never be found again.
        return Err(PipelineError::State(format!(
            "epochs {} to {arrived} are in bronze and not refined yet; run `assay refine` first",
            complete + 1
        )));
    }
    let last = tables.ledger.get(tables.ledger.last_epoch())?;
    let epoch = complete + 1;
    let drafts = Drafts::new(tables, target, clock);
    let ahead = drafts.encode_ahead(stages.ahead_rows());
    let source = if target.reads_bronze() { Arrivals::of_bronze(tables) } else { Arrivals::of_silver(tables) };
    let epochs = chunks(tables, stages.chunk_rows())?;
    stages.only(target);
    let (mut drafts, watermark_us) = std::thread::scope(|scope| {
        let (batches_tx, batches_rx) = bounded(BATCHES_AHEAD);
        // One chunk is written while the next is refined, and no more than that is in memory.
        let (work_tx, work_rx) = bounded(0);
        let (written_tx, written_rx) = unbounded();
        let source = &source;
        let reading = scope.spawn(move || read(source, &epochs, &batches_tx));
        let writing = scope.spawn(move || write(drafts, &work_rx, &written_tx));
        let line = Line { source, target, metrics, progress, work: work_tx, ahead, written: written_rx };
        let refined = line.refine(&batches_rx, &mut stages);
        let watermark_us = stages.watermark();
        // The last chunk is still to be written, and what late rows changed: nobody remembers the past for that.
        drop((batches_rx, line, stages));
        let read = reading.join().unwrap_or(Err(PipelineError::Thread("reader")));
        // The writer's error explains why nobody took the next chunk, so it comes first.
        let drafts = writing.join().unwrap_or(Err(PipelineError::Thread("writer")))?;
        refined?;
        read?;
        Ok::<_, PipelineError>((drafts, watermark_us))
    })?;
    let mut writing = Writing::default();
    writing.stages.took("recompute", started_at_us, clock.now_us());
    let _in_log = tables.tracer().log_span(epoch).entered();
    drafts.publish(tables, epoch, &mut writing)?;
    let record = EpochRecord {
        epoch,
        kind: EpochKind::Rebuild,
        started_at_us,
        published_at_us: clock.now_us(),
        watermark_us: watermark_us.or(last.and_then(|record| record.watermark_us)),
        tables: tables
            .all()
            .filter(|table| table.name() != tables.ledger.table().name())
            .map(|table| TableVersion {
                table: table.name().clone(),
                version: i64::try_from(table.version()).unwrap_or(i64::MAX),
                rows_added: writing.commits.iter().find(|done| done.table == *table.name()).map_or(0, |done| done.rows),
            })
            .collect(),
        ..EpochRecord::default()
    };
    let handle = tables.handle().clone();
    let published = handle.block_on(tables.ledger.publish(&record, record.published_at_us / 1000))?;
    writing.commits.push(of_ledger(Stint::new(record.published_at_us, clock.now_us()), published.version()));
    tables.tracer().rebuilt(&record, &writing);
    Ok(record)
}

/// Sends the rows of complete epochs in the order in which they arrived, cut at the borders of epochs.
fn read(source: &Arrivals, epochs: &[Range<i64>], out: &Sender<RecordBatch>) -> Result<(), PipelineError> {
    let mut wanted = true;
    for chunk in epochs.iter() {
        source.visit(chunk, |batch| {
            wanted = by_epoch(&batch).into_iter().all(|part| out.send(part).is_ok());
            wanted
        })?;
        if !wanted {
            break;
        }
    }
    Ok(())
}

fn epochs(batch: &RecordBatch) -> Option<&arrow::array::Int64Array> {
    batch.column_by_name(schema::EPOCH)?.as_primitive_opt::<Int64Type>()
}

fn epoch_of(batch: &RecordBatch) -> Option<i64> {
    epochs(batch).filter(|epochs| !epochs.is_empty()).map(|epochs| epochs.value(0))
}

fn by_epoch(batch: &RecordBatch) -> Vec<RecordBatch> {
    let Some(epochs) = epochs(batch) else { return Vec::new() };
    let mut parts = Vec::new();
    let mut start = 0;
    for row in 1..=epochs.len() {
        if row == epochs.len() || epochs.value(row) != epochs.value(start) {
            parts.push(batch.slice(start, row - start));
            start = row;
        }
    }
    parts
}

/// From rows read to chunks refined.
struct Line<'a> {
    source: &'a Arrivals,
    target: Target,
    metrics: &'a Metrics,
    progress: &'a Progress,
    /// Chunks, and whether it is the last.
    work: Sender<(EpochWork, bool)>,
    ahead: EncodeAhead,
    /// Silver's files, with the chunk up to which they have the rows.
    written: Receiver<(i64, Vec<DataFile>)>,
}

impl Line<'_> {
    /// A chunk of what follows from silver is some whole epochs, so that silver's files say what is of its past.
    fn refine(&self, batches: &Receiver<RecordBatch>, stages: &mut Stages) -> Result<(), PipelineError> {
        let mut work = EpochWork::default();
        let (mut rows, mut chunk) = (0, 0);
        for batch in batches {
            let epoch = epoch_of(&batch).unwrap_or(work.epoch);
            if rows >= stages.chunk_rows() && (self.target.reads_bronze() || epoch != work.epoch) {
                self.flush(stages, &mut work, false)?;
                chunk += 1;
                // To the windows a chunk is one epoch: what the watermark passes meanwhile is closed by the next flush only.
                stages.begin();
                rows = 0;
            }
            rows += batch.num_rows();
            (work.epoch, work.past) = (epoch, chunk);
            Progress::add(&self.progress.bronze_rows, batch.num_rows() as u64);
            if self.target.reads_bronze() {
                stages.refine(&batch, &mut work, self.metrics)?;
            } else {
                stages.derive(&batch, &mut work)?;
            }
            self.ahead.take(&mut work);
            self.progress.epoch.store(epoch, std::sync::atomic::Ordering::Relaxed);
        }
        self.flush(stages, &mut work, true)
    }

    fn flush(&self, stages: &mut Stages, work: &mut EpochWork, last: bool) -> Result<(), PipelineError> {
        if last {
            stages.finish(work, &self.ahead)?;
        } else {
            stages.finish_closed(work, &self.ahead)?;
        }
        for (cache, bytes) in stages.caches() {
            self.metrics.set_cache(&cache, bytes);
            tracing::debug!(cache, bytes, epoch = work.epoch, "a stage's memory");
        }
        tracing::debug!(
            panes_reloaded = stages.panes_reloaded(),
            epoch = work.epoch,
            "windows read again for late rows"
        );
        let done = std::mem::take(work);
        if !self.target.reads_bronze() {
            stages.reached(done.epoch, self.source.files().to_vec());
        }
        for (chunk, files) in self.written.try_iter() {
            stages.written(chunk, files);
        }
        self.work.send((done, last)).map_err(|_| PipelineError::Thread("writer"))
    }
}

fn write(
    mut drafts: Drafts,
    work: &Receiver<(EpochWork, bool)>,
    written: &Sender<(i64, Vec<DataFile>)>,
) -> Result<Drafts, PipelineError> {
    for (work, last) in work {
        let chunk = work.past;
        if let Some(files) = drafts.write(work, last)? {
            // Nobody asks any more once the last chunk is refined.
            let _ = written.send((chunk, files));
        }
    }
    Ok(drafts)
}

/// The tables under construction.
struct Drafts {
    silver: Option<Draft>,
    quarantine: Option<Draft>,
    rows: Vec<Draft>,
    windows: Vec<Draft>,
    handle: tokio::runtime::Handle,
    stores: Stores,
    clock: Arc<dyn Clock>,
    parts: u64,
}

impl Drafts {
    fn new(tables: &Tables, target: Target, clock: &Arc<dyn Clock>) -> Self {
        let draft = |table: &crate::lake::Table| Draft {
            table: table.name().clone(),
            encoder: table.encoder(),
            reader: tables.reader(table),
            key: tables.key(table.name()).to_vec(),
            files: Vec::new(),
            rows: 0,
            restated: Vec::new(),
            restated_at: RESTATED_MIN,
        };
        let all = target == Target::All;
        Self {
            silver: target.reads_bronze().then(|| draft(&tables.silver)),
            quarantine: tables.quarantine.as_ref().filter(|_| target.reads_bronze()).map(draft),
            rows: if all || target == Target::Scores { tables.rows.iter().map(draft).collect() } else { Vec::new() },
            windows: if all || target == Target::Gold {
                tables.windows.iter().map(draft).collect()
            } else {
                Vec::new()
            },
            handle: tables.handle().clone(),
            stores: tables.all().map(|table| (table.name().clone(), Arc::clone(table.store()))).collect(),
            clock: Arc::clone(clock),
            parts: 0,
        }
    }

    fn encode_ahead(&self, from_rows: usize) -> EncodeAhead {
        let encoder = |draft: &Draft| draft.encoder.clone();
        EncodeAhead {
            bronze: None,
            silver: self.silver.as_ref().map(encoder),
            rows: self.rows.iter().map(encoder).collect(),
            windows: self.windows.iter().map(encoder).collect(),
            from_rows,
        }
    }

    /// Writes one chunk; gives the files of silver, when silver is rebuilt.
    fn write(&mut self, work: EpochWork, last: bool) -> Result<Option<Vec<DataFile>>, PipelineError> {
        self.parts += 1;
        let name = format!("e{:012}-r{:06}-{}", work.epoch, self.parts, uuid::Uuid::new_v4().simple());
        let now_ms = self.clock.now_us() / 1000;
        let mut intakes = work.intakes;
        let mut jobs: Vec<(&mut Draft, Vec<RecordBatch>, Option<RecordBatch>)> = Vec::new();
        jobs.extend(self.silver.as_mut().map(|draft| (draft, work.silver, None)));
        jobs.extend(self.quarantine.as_mut().map(|draft| (draft, work.quarantine, None)));
        jobs.extend(self.rows.iter_mut().zip(work.rows).map(|(draft, rows)| (draft, rows, None)));
        // Changes come in the order of the window tables.
        for (draft, changes) in self.windows.iter_mut().zip(work.changes) {
            if let Some(restated) = changes.restated {
                draft.note_restated(restated.after)?;
            }
            jobs.push((draft, vec![changes.closed], changes.open.filter(|_| last)));
        }
        let stores = &self.stores;
        let handle = &self.handle;
        let mut intake = |draft: &Draft, phase| intakes.remove(&draft.table, phase);
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|(draft, rows, open)| {
                let rows = (intake(draft, Phase::Closed), rows);
                let open = open.map(|open| (intake(draft, Phase::Open), vec![open]));
                (draft, rows, open)
            })
            .collect();
        jobs.into_par_iter().try_for_each(|(draft, (intake, rows), open)| {
            let mut encoded = draft.encoder.finish(intake, rows, &name, now_ms)?;
            if let Some((intake, rows)) = open {
                encoded.extend(draft.encoder.finish(intake, rows, &format!("{OPEN_PREFIX}{name}"), now_ms)?);
            }
            draft.keep(encoded, stores, handle)
        })?;
        if last {
            for draft in &mut self.windows {
                draft.restate(&name, now_ms, stores, handle)?;
            }
        }
        Ok(self.silver.as_ref().map(|draft| draft.files.clone()))
    }

    /// Replaces each table by its draft, in one commit each.
    fn publish(&mut self, tables: &mut Tables, epoch: i64, writing: &mut Writing) -> Result<(), PipelineError> {
        let drafts = self.silver.iter_mut().chain(&mut self.quarantine).chain(&mut self.rows).chain(&mut self.windows);
        let handle = self.handle.clone();
        let clock = Arc::clone(&self.clock);
        let now_ms = clock.now_us() / 1000;
        for draft in drafts {
            let Some(table) = tables.all_mut().find(|table| *table.name() == draft.table) else { continue };
            let commit = Commit {
                epoch: Some(epoch),
                restated: (!draft.key.is_empty()).then_some(epoch),
                adds: std::mem::take(&mut draft.files),
                removes: table.files().map(|file| file.path.clone()).collect(),
                info: serde_json::json!({"epoch": epoch, "kind": "rebuild"}),
            };
            let began_us = clock.now_us();
            let outcome = handle.block_on(table.commit(&commit, now_ms))?;
            let (stint, version) = (Stint::new(began_us, clock.now_us()), outcome.version());
            tables.settled(&draft.table, epoch);
            writing.commits.push(Committed { table: draft.table.clone(), stint, version, rows: draft.rows });
        }
        Ok(())
    }
}

impl Draft {
    /// Keeps what late rows make of rows until the end; of rows with one key only the last, once they are many.
    fn note_restated(&mut self, rows: RecordBatch) -> Result<(), LakeError> {
        self.restated.push(rows);
        if self.restated.iter().map(RecordBatch::num_rows).sum::<usize>() > self.restated_at {
            let revision = Revision::new(&self.restated, &self.key).map_err(|e| LakeError::read(&self.table, e))?;
            self.restated = revision.map(|revision| revision.rows().clone()).into_iter().collect();
            self.restated_at = (2 * self.restated.iter().map(RecordBatch::num_rows).sum::<usize>()).max(RESTATED_MIN);
        }
        Ok(())
    }

    /// Puts what late rows made of rows in their place, one file after the other.
    fn restate(
        &mut self,
        name: &str,
        now_ms: i64,
        stores: &Stores,
        handle: &tokio::runtime::Handle,
    ) -> Result<(), LakeError> {
        let restated = std::mem::take(&mut self.restated);
        let Some(revision) = Revision::new(&restated, &self.key).map_err(|e| LakeError::read(&self.table, e))? else {
            return Ok(());
        };
        drop(restated);
        let (reader, encoder) = (self.reader.clone(), self.encoder.clone());
        let (open, closed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files).into_iter().partition(is_open);
        self.files = open;
        let mut replaced = HashSet::new();
        let new = revision.apply(&reader, closed.iter(), |file, rows| {
            replaced.insert(file.path.clone());
            self.rows -= file.rows;
            self.keep(encoder.encode(&rows, &successor(file, "r"), now_ms)?, stores, handle)
        })?;
        self.files.extend(closed.into_iter().filter(|file| !replaced.contains(&file.path)));
        self.keep(encoder.encode(&[new], &format!("{name}-new"), now_ms)?, stores, handle)
    }

    fn keep(
        &mut self,
        encoded: Vec<Encoded>,
        stores: &Stores,
        handle: &tokio::runtime::Handle,
    ) -> Result<(), LakeError> {
        let Some((_, store)) = stores.iter().find(|(table, _)| *table == self.table) else { return Ok(()) };
        for file in encoded {
            handle.block_on(crate::lake::store_file(store.as_ref(), &self.table, &file))?;
            self.rows += file.file.rows;
            self.files.push(file.file);
        }
        Ok(())
    }
}
