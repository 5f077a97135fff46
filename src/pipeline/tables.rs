//! The tables of a pipeline, and the order in which an epoch reaches them.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rayon::prelude::*;
use serde_json::json;
use tokio::runtime::Handle;

use super::bronze_epoch::bronze_info;
use super::traced::{Committed, EpochTracer, Writing, of_ledger};
use super::work::{Derived, EpochWork, Layout};
use crate::domain::{Clock, EpochKind, EpochRecord, Layer, Stint, TableName, TableVersion, Timeline, schema};
use crate::lake::{
    Commit, DataFile, Encoded, Encoding, EpochLedger, FileReader, Intake, Lake, LakeError, Table, TableSpec,
    restatements,
};
use crate::refine::window::{Phase, TableChanges};
use crate::telemetry::Metrics;
use crate::telemetry::traces::{EpochTraces, Traces};

/// Files of windows that are still open carry this prefix: each epoch replaces them.
pub const OPEN_PREFIX: &str = "open-";

/// All tables in the hands of the one writer.
pub struct Tables {
    pub bronze: Table,
    pub dead_letters: Table,
    pub silver: Table,
    pub quarantine: Option<Table>,
    pub rows: Vec<Table>,
    pub windows: Vec<Table>,
    pub restatements: Table,
    pub ledger: EpochLedger,
    /// Rows of closed windows, by table, that are noted in [`Self::restatements`] and wait to be put into the files.
    pub(super) waiting: BTreeMap<TableName, Vec<(i64, RecordBatch)>>,
    keys: BTreeMap<TableName, Vec<String>>,
    handle: Handle,
    pub(super) clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    tracer: EpochTracer,
}

/// One table's part of an epoch.
struct Step {
    table: TableName,
    files: Vec<Encoded>,
    commit: Commit,
    rows_added: i64,
    done: Option<u64>,
}

impl Tables {
    /// Opens every table, creating those that are missing.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub async fn open(
        lake: &Lake,
        layout: &Layout,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LakeError> {
        let now = clock.now_us() / 1000;
        let spec = |name: &TableName, schema: &SchemaRef, partition_by: &[String], about: &str| TableSpec {
            name: name.clone(),
            schema: Arc::clone(schema),
            later: layout.evolved.iter().filter(|column| schema.field_with_name(column).is_ok()).cloned().collect(),
            partition_by: partition_by.to_vec(),
            about: about.to_owned(),
            encoding: Encoding::default(),
        };
        let derived = |table: &Derived| spec(&table.name, &table.schema, &table.partition_by, &table.about);
        let by_day = [schema::PROCESSING_DATE.to_owned()];
        let dead_letters = TableName::new(Layer::Bronze, "dead_letters");
        let bronze_about = "Messages as sent, with where each came from.";
        let dead_about = "Messages that cannot become a row: raw bytes, where they came from, and why.";
        let bronze = Table::open(lake, spec(&layout.bronze, &layout.bronze_schema, &by_day, bronze_about), now).await?;
        let dead = Table::open(lake, spec(&dead_letters, &schema::dead_letters(), &by_day, dead_about), now).await?;
        let silver = Table::open(lake, derived(&layout.silver), now).await?;
        let quarantine = match &layout.quarantine {
            Some(name) => {
                let quarantined = schema::quarantine(&layout.bronze_schema);
                let about = "Bronze rows that break an expectation, with the name of each.";
                Some(Table::open(lake, spec(name, &quarantined, &by_day, about), now).await?)
            }
            None => None,
        };
        let mut rows = Vec::new();
        for table in &layout.rows {
            rows.push(Table::open(lake, derived(table), now).await?);
        }
        let mut windows = Vec::new();
        for table in &layout.windows {
            windows.push(Table::open(lake, derived(table), now).await?);
        }
        let restated = restatements::table_name();
        let about = "Rows of closed windows that late events changed: what stood there before, and after.";
        let restatements = Table::open(lake, spec(&restated, &restatements::schema(), &[], about), now).await?;
        let ledger = EpochLedger::open(lake, now).await?;
        let keys = layout.windows.iter().map(|table| (table.name.clone(), table.key.clone())).collect();
        Ok(Self {
            bronze,
            dead_letters: dead,
            silver,
            quarantine,
            rows,
            windows,
            restatements,
            ledger,
            waiting: BTreeMap::new(),
            keys,
            handle: Handle::current(),
            tracer: EpochTracer::off(EpochTraces::of_lake(lake.hash_key()), Arc::clone(&clock)),
            clock,
            metrics,
        })
    }

    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Each epoch has a trace from now on.
    pub fn trace(&mut self, traces: Traces) {
        self.tracer.tell(traces);
    }

    #[must_use]
    pub fn tracer(&self) -> &EpochTracer {
        &self.tracer
    }

    /// A reader of the files of one table.
    #[must_use]
    pub fn reader(&self, table: &Table) -> FileReader {
        FileReader::new(table, self.handle.clone())
    }

    pub fn all(&self) -> impl Iterator<Item = &Table> {
        [&self.bronze, &self.dead_letters, &self.silver]
            .into_iter()
            .chain(&self.quarantine)
            .chain(&self.rows)
            .chain(&self.windows)
            .chain([&self.restatements, self.ledger.table()])
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        [&mut self.bronze, &mut self.dead_letters, &mut self.silver]
            .into_iter()
            .chain(&mut self.quarantine)
            .chain(&mut self.rows)
            .chain(&mut self.windows)
            .chain([&mut self.restatements, self.ledger.table_mut()])
    }

    /// What waits to be put into the files of a window table: epochs and rows, oldest first.
    #[must_use]
    pub fn waiting(&self, table: &TableName) -> &[(i64, RecordBatch)] {
        self.waiting.get(table).map(Vec::as_slice).unwrap_or_default()
    }

    /// The rows up to this epoch are in the files.
    pub fn settled(&mut self, table: &TableName, through: i64) {
        if let Some(waiting) = self.waiting.get_mut(table) {
            waiting.retain(|(epoch, _)| *epoch > through);
        }
    }

    /// The columns that tell the rows of a window table apart.
    #[must_use]
    pub fn key(&self, table: &TableName) -> &[String] {
        self.keys.get(table).map(Vec::as_slice).unwrap_or_default()
    }

    fn table_mut(&mut self, name: &TableName) -> Option<&mut Table> {
        self.all_mut().find(|table| table.name() == name)
    }

    /// Writes an epoch: dead letters, bronze, silver and quarantine, gold, the ledger, in this order. Blocking.
    ///
    /// Whatever fails is tried again, `patience` in all; an epoch that was half written is completed at the next start.
    ///
    /// # Errors
    /// When another writer was here, or the store did not answer for that long.
    pub fn write(&mut self, work: EpochWork, patience: Duration) -> Result<EpochRecord, LakeError> {
        let outline = self.tracer.outline(&work);
        let mut writing = Writing::default();
        let written = self.write_all(work, patience, &mut writing);
        match (outline, &written) {
            (Some(outline), Ok(record)) => self.tracer.written(outline, &writing, record),
            (Some(outline), Err(error)) => self.tracer.not_written(outline, &writing, error),
            (None, _) => {}
        }
        written
    }

    fn write_all(
        &mut self,
        mut work: EpochWork,
        patience: Duration,
        writing: &mut Writing,
    ) -> Result<EpochRecord, LakeError> {
        let began_us = self.clock.now_us();
        if work.evolved {
            self.gain();
        }
        let counts = self.counts(&work);
        let mut steps = self.plan(&mut work)?;
        let encoded_us = self.clock.now_us();
        writing.stages.took("encode", began_us, encoded_us);
        let deadline_us = encoded_us.saturating_add(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX));
        let mut pause = Duration::from_millis(100);
        let record = loop {
            match self.commit(&work, &counts, &mut steps, writing, encoded_us) {
                Ok(record) => break record,
                Err(error) if error.is_retryable() && self.clock.now_us() < deadline_us => {
                    writing.retries.push((self.clock.now_us(), error.to_string()));
                    tracing::warn!(epoch = work.epoch, %error, retry_in_ms = pause.as_millis() as u64, "the epoch waits for its store");
                    pause_for(pause);
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                Err(error) => return Err(error),
            }
        };
        for changes in work.changes {
            let Some(restated) = changes.restated.filter(|restated| restated.after.num_rows() > 0) else { continue };
            self.waiting.entry(changes.table).or_default().push((work.epoch, restated.after));
        }
        Ok(record)
    }

    /// Gives the tables the columns of later versions of the contract, with their next commit.
    pub(super) fn gain(&mut self) {
        self.all_mut().for_each(Table::gain);
    }

    fn counts(&self, work: &EpochWork) -> Counts {
        let count = |batches: &[RecordBatch]| batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        Counts {
            silver: count(&work.silver) + work.intakes.rows(self.silver.name()),
            quarantined: count(&work.quarantine),
        }
    }

    /// Encodes every table's rows, on all cores, and frees them table by table: while one epoch is written, the next is
    /// collected. The threads live on: memory that a thread leaves behind when it ends is slow to come back.
    fn plan(&self, work: &mut EpochWork) -> Result<Vec<Step>, LakeError> {
        let now_ms = self.clock.now_us() / 1000;
        let mut jobs: Vec<Job<'_>> = Vec::new();
        let (dead, bronze) = (take(&mut work.dead), take(&mut work.bronze));
        if !work.bronze_done {
            if !dead.is_empty() {
                jobs.push(Job::append(&self.dead_letters, dead));
            }
            jobs.push(Job::append(&self.bronze, bronze));
        }
        let (silver, quarantined, rows) = (take(&mut work.silver), take(&mut work.quarantine), take(&mut work.rows));
        if !work.bronze_only {
            jobs.push(Job::append(&self.silver, silver));
            if let Some(quarantine) = self.quarantine.as_ref().filter(|_| !quarantined.is_empty()) {
                jobs.push(Job::append(quarantine, quarantined));
            }
            jobs.extend(self.rows.iter().zip(rows).map(|(table, rows)| Job::append(table, rows)));
        }
        jobs.retain(|job| job.table.epoch() < work.epoch || job.table.name() == self.dead_letters.name());
        let mut restated = Vec::new();
        for changes in &mut work.changes {
            let Some(table) = self.windows.iter().find(|table| *table.name() == changes.table) else { continue };
            let key = self.key(&changes.table);
            // Also for tables that have the epoch: the process may have ended before the restatements were stored.
            if let Some(changed) = &changes.restated {
                let rows =
                    restatements::rows(&changes.table, &changed.before, &changed.after, key, work.epoch, now_ms * 1000);
                restated
                    .push(rows.map_err(|e| LakeError::Schema { table: changes.table.clone(), cause: e.to_string() })?);
            }
            if table.epoch() < work.epoch {
                jobs.push(self.window_job(table, changes, work.epoch));
            }
        }
        if !restated.is_empty() && self.restatements.epoch() < work.epoch {
            jobs.push(Job::append(&self.restatements, restated));
        }
        for job in &mut jobs {
            job.intake = work.intakes.remove(job.table.name(), Phase::Closed);
            job.open_intake = work.intakes.remove(job.table.name(), Phase::Open);
        }
        let name = |prefix: &str| format!("{prefix}e{:012}-{}", work.epoch, uuid::Uuid::new_v4().simple());
        let encode = |job: Job<'_>| -> Result<Step, LakeError> {
            let rows: u64 = job.batches.iter().map(|batch| batch.num_rows() as u64).sum();
            let rows = rows + job.intake.as_ref().map_or(0, Intake::rows);
            let encoder = job.table.encoder();
            let mut files = encoder.finish(job.intake, job.batches, &name(""), now_ms)?;
            if let Some(open) = job.open {
                files.extend(encoder.finish(job.open_intake, vec![open], &name(OPEN_PREFIX), now_ms)?);
            }
            let commit = Commit {
                epoch: Some(work.epoch),
                restated: job.restated,
                adds: files.iter().map(|encoded| encoded.file.clone()).collect(),
                removes: job.removes,
                info: json!({"epoch": work.epoch}),
            };
            Ok(Step { table: job.table.name().clone(), files, commit, rows_added: rows as i64, done: None })
        };
        let mut steps = jobs.into_par_iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        if let Some(bronze) = steps.iter_mut().find(|step| step.table == *self.bronze.name()) {
            bronze.commit.info = bronze_info(work);
        }
        Ok(steps)
    }

    fn window_job<'a>(&self, table: &'a Table, changes: &mut TableChanges, epoch: i64) -> Job<'a> {
        let none = RecordBatch::new_empty(changes.closed.schema());
        let mut job = Job::append(table, vec![std::mem::replace(&mut changes.closed, none)]);
        job.open = changes.open.take();
        if job.open.is_some() {
            job.removes.extend(table.files().filter(|file| is_open(file)).map(|file| file.path.clone()));
        }
        // Nothing is owed: readers need not look for it.
        job.restated = (changes.restated.is_none() && self.waiting(table.name()).is_empty()).then_some(epoch);
        job
    }

    fn commit(
        &mut self,
        work: &EpochWork,
        counts: &Counts,
        steps: &mut [Step],
        writing: &mut Writing,
        encoded_us: i64,
    ) -> Result<EpochRecord, LakeError> {
        let handle = self.handle.clone();
        let metrics = Arc::clone(&self.metrics);
        handle.block_on(async {
            let storing_us = self.clock.now_us();
            futures::future::try_join_all(steps.iter().filter(|step| step.done.is_none()).map(|step| {
                let table = self.all().find(|table| *table.name() == step.table);
                let failed = |_: &LakeError| metrics.commit_failed(&step.table);
                async move {
                    match table {
                        Some(table) => table.store_files(&step.files).await.inspect_err(failed),
                        None => Ok(()),
                    }
                }
            }))
            .await?;
            writing.stages.took("store", storing_us, self.clock.now_us());
            for step in steps.iter_mut().filter(|step| step.done.is_none()) {
                let began_at_us = self.clock.now_us();
                let now_ms = began_at_us / 1000;
                let repeat = step.table == *self.dead_letters.name();
                let clock = Arc::clone(&self.clock);
                let Some(table) = self.table_mut(&step.table) else { continue };
                let outcome = if repeat {
                    table.commit_again(&step.commit, now_ms).await
                } else {
                    table.commit(&step.commit, now_ms).await
                };
                let stint = Stint::new(began_at_us, clock.now_us());
                let took = Duration::from_micros(u64::try_from(stint.busy_us).unwrap_or(0));
                match outcome {
                    Ok(outcome) => {
                        step.done = Some(outcome.version());
                        metrics.committed(&step.table, took);
                        let (table, rows) = (step.table.clone(), step.rows_added);
                        writing.commits.push(Committed { table, stint, version: outcome.version(), rows });
                    }
                    Err(error) => {
                        metrics.commit_failed(&step.table);
                        return Err(error);
                    }
                }
            }
            let record = self.record(work, counts, steps, &writing.stages, encoded_us);
            if !work.bronze_only {
                if let Some(imbalance) = record.imbalance() {
                    return Err(LakeError::Epoch(format!(
                        "epoch {} does not add up and was not published: {imbalance}",
                        work.epoch
                    )));
                }
                let published = self.ledger.publish(&record, record.published_at_us / 1000).await;
                let published = published.inspect_err(|_| metrics.commit_failed(&EpochLedger::table_name()))?;
                let stint = Stint::new(record.published_at_us, self.clock.now_us());
                writing.commits.push(of_ledger(stint, published.version()));
            }
            Ok(record)
        })
    }

    fn record(
        &self,
        work: &EpochWork,
        counts: &Counts,
        steps: &[Step],
        writing: &Timeline,
        encoded_us: i64,
    ) -> EpochRecord {
        let added: BTreeMap<&TableName, i64> = steps.iter().map(|step| (&step.table, step.rows_added)).collect();
        let tables = self
            .all()
            .filter(|table| table.name() != self.ledger.table().name())
            .map(|table| TableVersion {
                table: table.name().clone(),
                version: i64::try_from(work.versions.get(table.name()).copied().unwrap_or(table.version()))
                    .unwrap_or(i64::MAX),
                rows_added: added.get(table.name()).copied().unwrap_or(0),
            })
            .collect();
        let published_at_us = self.clock.now_us();
        let mut stages = work.stages.clone();
        // Storing the files and the commits of all tables together.
        stages.took("commit", encoded_us, published_at_us);
        if let Some(stint) = writing.get("encode") {
            stages.join("encode", stint);
        }
        let restated = work.changes.iter().filter_map(|changes| changes.restated.as_ref());
        EpochRecord {
            epoch: work.epoch,
            kind: work.kind.unwrap_or(EpochKind::Stream),
            started_at_us: work.started_at_us,
            published_at_us,
            watermark_us: work.watermark_us,
            ranges: work.ranges.clone(),
            messages: work.messages,
            bronze_rows: work.bronze_rows,
            dead_letters: work.dead_letters,
            silver_rows: counts.silver,
            duplicates: work.duplicates,
            quarantined: counts.quarantined,
            late_rows: work.late_rows,
            restated_rows: restated.map(|restated| restated.after.num_rows() as u64).sum(),
            warned_rows: work.warned_rows,
            tables,
            stages: stages.times().collect(),
        }
    }
}

/// Rows of an epoch that its record counts.
struct Counts {
    silver: u64,
    quarantined: u64,
}

struct Job<'a> {
    table: &'a Table,
    batches: Vec<RecordBatch>,
    /// What comes before `batches`.
    intake: Option<Intake>,
    open: Option<RecordBatch>,
    /// What comes before `open`.
    open_intake: Option<Intake>,
    removes: Vec<String>,
    restated: Option<i64>,
}

impl<'a> Job<'a> {
    fn append(table: &'a Table, batches: Vec<RecordBatch>) -> Self {
        Self { table, batches, intake: None, open: None, open_intake: None, removes: Vec::new(), restated: None }
    }
}

/// Whether a file holds windows that are still open.
#[must_use]
pub fn is_open(file: &DataFile) -> bool {
    file.path.rsplit('/').next().is_some_and(|name| name.starts_with(OPEN_PREFIX))
}

#[allow(clippy::disallowed_methods, reason = "the writer has nothing else to do until its store answers")]
fn pause_for(pause: Duration) {
    std::thread::sleep(pause);
}
