//! The stages of one pipeline, compiled from its SQL files: silver, then the tables that follow from it row by row, then
//! the windows. Batches are handed on in memory.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;

use super::ahead::EncodeAhead;
use super::aside::Handover;
use super::error::PipelineError;
use super::plan::Plan;
use super::rebuild::Target;
use super::scored::{RowScorer, ScoredTable};
use super::watermark::Watermark;
use super::windowing::{Past, WindowStage, Written};
use super::work::{Derived, EpochWork, Layout};
use crate::domain::{Clock, schema};
use crate::lake::{DataFile, FileHistory};
use crate::refine::window::{WindowEngine, WindowSettings, WindowTable};
use crate::refine::{RefineError, RefineSettings, Refiner, SqlFileError, TableDef, functions};
use crate::telemetry::Metrics;

/// Memory bounds of the stages.
#[derive(Debug, Clone)]
pub struct StageSettings {
    pub refine: RefineSettings,
    pub windows: WindowSettings,
    pub lateness_us: i64,
    /// Rows that a rebuild or a verification takes at a time: large files, bounded memory.
    pub chunk_rows: usize,
    /// Rows of a table at which those of an epoch are encoded before its end. Fewer stay as they are: an epoch that is
    /// caught up is encoded at its end, a table on each core.
    pub ahead_rows: usize,
}

impl Default for StageSettings {
    fn default() -> Self {
        Self {
            refine: RefineSettings::default(),
            windows: WindowSettings::default(),
            lateness_us: 0,
            chunk_rows: 64 * 1024,
            ahead_rows: 16 * 1024,
        }
    }
}

/// The stages with what they remember: a cache of the lake.
pub struct Stages {
    silver: Refiner,
    rows: Vec<Refiner>,
    /// What a model says of a row, in the table whose header names one.
    scored: Option<ScoredTable>,
    scorer: Option<Box<dyn RowScorer>>,
    windows: Windows,
    past: Past,
    event_time: String,
    watermark: Watermark,
    chunk_rows: usize,
    ahead_rows: usize,
    clock: Arc<dyn Clock>,
}

/// Where rows of silver become windows.
enum Windows {
    /// A rebuild does not want them.
    Nowhere,
    Here(Box<WindowStage>),
    /// In a thread of their own.
    Aside(Handover),
}

/// The stages before the lake is opened: compiled SQL, no memory yet.
pub struct Compiled {
    silver: Refiner,
    rows: Vec<Refiner>,
    scored: Option<ScoredTable>,
    windows: WindowEngine,
    plan: Plan,
    settings: StageSettings,
}

impl Compiled {
    /// Compiles every SQL file.
    ///
    /// # Errors
    /// With file and line, when one cannot be run incrementally.
    pub fn new(plan: &Plan, settings: &StageSettings, hash_key: [u64; 2]) -> Result<Self, PipelineError> {
        let mut key = [0; 16];
        for (half, word) in key.chunks_exact_mut(8).zip(hash_key) {
            half.copy_from_slice(&word.to_le_bytes());
        }
        let references = &plan.catalog.references;
        let silver = Refiner::new(&plan.silver, &plan.bronze_schema, references, &settings.refine, key)?;
        if silver.schema().column_with_name(schema::EPOCH).is_none() {
            let names = schema::provenance();
            let names: Vec<&str> = names.iter().map(|field| field.name().as_str()).collect();
            let problem = format!(
                "{} must select `{}`, by which its rows are counted; {} lead a row back to its message",
                plan.silver.table,
                schema::EPOCH,
                names.join(", ")
            );
            return Err(SqlFileError::new(&plan.silver.file, plan.silver.sql_line, problem).into());
        }
        let rows = plan
            .rows
            .iter()
            .map(|def| Refiner::new(def, silver.schema(), references, &settings.refine, key))
            .collect::<Result<Vec<_>, _>>()?;
        let scored = ScoredTable::find(&plan.rows, &rows)?;
        let context = SessionContext::new();
        functions::register(&context, references);
        let windows = plan
            .windows
            .iter()
            .map(|def| WindowTable::compile(def, silver.schema(), &context))
            .collect::<Result<Vec<_>, _>>()?;
        let windows = WindowEngine::new(windows, settings.windows.clone())?;
        Ok(Self { silver, rows, scored, windows, plan: plan.clone(), settings: settings.clone() })
    }

    /// The tables that the stages fill.
    #[must_use]
    pub fn layout(&self, evolved: Vec<String>) -> Layout {
        let derived = |def: &TableDef, schema: &SchemaRef| Derived {
            name: def.table.clone(),
            schema: Arc::clone(schema),
            partition_by: def.partition_by.clone(),
            key: def.key.clone(),
            about: def.about.clone(),
        };
        Layout {
            bronze: self.plan.bronze.clone(),
            bronze_schema: Arc::clone(&self.plan.bronze_schema),
            evolved,
            silver: derived(&self.plan.silver, self.silver.schema()),
            quarantine: self.plan.silver.quarantine.clone(),
            rows: self
                .plan
                .rows
                .iter()
                .zip(&self.rows)
                .enumerate()
                .map(|(index, (def, refiner))| {
                    let scored = self.scored.as_ref().filter(|scored| scored.index == index);
                    derived(def, scored.map_or(refiner.schema(), |scored| &scored.schema))
                })
                .collect(),
            windows: self
                .plan
                .windows
                .iter()
                .zip(self.windows.tables())
                .map(|(def, table)| derived(def, table.schema()))
                .collect(),
        }
    }

    /// Gives the stages their past.
    #[must_use]
    pub fn with_history(self, history: FileHistory, watermark_us: Option<i64>, clock: Arc<dyn Clock>) -> Stages {
        let keys = self.plan.silver.key.iter();
        let columns = keys.chain(self.plan.rows.iter().flat_map(TableDef::remembered)).cloned();
        let columns = columns.chain([self.plan.event_time().to_owned()]).collect();
        Stages {
            silver: self.silver,
            rows: self.rows,
            scored: self.scored,
            scorer: None,
            windows: Windows::Here(Box::new(WindowStage::new(self.windows, history.clone(), Arc::clone(&clock)))),
            past: Past::new(history, columns),
            event_time: self.plan.event_time().to_owned(),
            watermark: Watermark::new(self.settings.lateness_us, watermark_us),
            chunk_rows: self.settings.chunk_rows,
            ahead_rows: self.settings.ahead_rows,
            clock,
        }
    }
}

impl Stages {
    /// No more rows are expected before it, the epoch under way included.
    #[must_use]
    pub fn watermark(&self) -> Option<i64> {
        self.watermark.now()
    }

    /// Who is asked about rows as they come, where a table's header names a model. Without one the table says nothing of it.
    pub fn ask(&mut self, scorer: Box<dyn RowScorer>) {
        self.scorer = Some(scorer);
    }

    /// Loads the windows that were open when the lake was left, and what features know. Blocking.
    ///
    /// # Errors
    /// When silver cannot be read.
    pub fn warm_up(&mut self) -> Result<(), PipelineError> {
        if let Some(watermark_us) = self.watermark() {
            for refiner in &mut self.rows {
                refiner.warm_up(watermark_us, &self.past.history).map_err(RefineError::from)?;
            }
        }
        let watermark_us = self.watermark();
        self.windows_here().map_or(Ok(()), |windows| windows.warm_up(watermark_us))
    }

    fn windows_here(&mut self) -> Option<&mut WindowStage> {
        match &mut self.windows {
            Windows::Here(windows) => Some(windows),
            Windows::Nowhere | Windows::Aside(_) => None,
        }
    }

    /// From now on rows and epochs are handed over to the windows, which are given away, and [`end`](Self::end) them.
    pub(super) fn put_windows_aside(&mut self, handover: Handover) -> Option<Box<WindowStage>> {
        match std::mem::replace(&mut self.windows, Windows::Aside(handover)) {
            Windows::Here(windows) => Some(windows),
            Windows::Nowhere | Windows::Aside(_) => None,
        }
    }

    /// Rows that a rebuild takes at a time.
    #[must_use]
    pub fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }

    /// Rows of a table at which those of an epoch are encoded before its end.
    #[must_use]
    pub fn ahead_rows(&self) -> usize {
        self.ahead_rows
    }

    /// A new epoch begins.
    pub fn begin(&mut self) {
        self.watermark.begin();
        if let Some(scorer) = &mut self.scorer {
            scorer.begin();
        }
    }

    /// Takes bronze rows through every stage; what comes of them is added to `work`.
    ///
    /// # Errors
    /// When an expectation that the user set to fail is broken, or the past cannot be read.
    pub fn refine(
        &mut self,
        bronze: &RecordBatch,
        work: &mut EpochWork,
        metrics: &Metrics,
    ) -> Result<(), PipelineError> {
        let began = self.clock.now_us();
        let refined = self.silver.refine(bronze, &self.past.history)?;
        work.duplicates += refined.duplicates;
        for (expectation, rows) in &refined.warned {
            metrics.warned(expectation, *rows);
            work.warned_rows += rows;
        }
        for (expectation, rows) in &refined.broken {
            metrics.quarantined(expectation, *rows);
        }
        if refined.quarantined.num_rows() > 0 {
            work.quarantine.push(refined.quarantined);
        }
        let silver = refined.silver;
        let refined_at = self.clock.now_us();
        work.rows.resize_with(self.rows.len(), Vec::new);
        if silver.num_rows() > 0 {
            self.note_times(&silver, work)?;
            self.follow(&silver, work)?;
        }
        let scored_at = self.clock.now_us();
        if silver.num_rows() > 0 {
            self.remember(work.past, &silver)?;
            work.silver.push(silver);
        }
        work.stages.took("silver", began, refined_at);
        work.stages.took("scores", refined_at, scored_at);
        Ok(())
    }

    /// Leaves out what a rebuild does not want.
    pub fn only(&mut self, target: Target) {
        if matches!(target, Target::Silver | Target::Gold) {
            self.rows.clear();
        }
        if matches!(target, Target::Silver | Target::Scores) {
            self.windows = Windows::Nowhere;
        }
    }

    /// Takes rows that are silver already through the stages after it.
    ///
    /// # Errors
    /// As [`refine`](Self::refine).
    pub fn derive(&mut self, silver: &RecordBatch, work: &mut EpochWork) -> Result<(), PipelineError> {
        work.rows.resize_with(self.rows.len(), Vec::new);
        self.note_times(silver, work)?;
        self.follow(silver, work)?;
        self.remember(work.past, silver)
    }

    /// The tables that follow from rows of silver, and what the model says of the rows.
    fn follow(&mut self, silver: &RecordBatch, work: &mut EpochWork) -> Result<(), PipelineError> {
        let mut following = Vec::with_capacity(self.rows.len());
        for refiner in &mut self.rows {
            following.push(refiner.refine(silver, &self.past.history)?.silver);
        }
        if let Some(scored) = &self.scored {
            scored.fill(self.scorer.as_deref_mut(), silver, &mut following)?;
        }
        for (out, rows) in work.rows.iter_mut().zip(following) {
            out.push(rows);
        }
        Ok(())
    }

    /// The epoch is complete: finishes the groups that changed, and waits until what was sent of it has arrived.
    ///
    /// # Errors
    /// When a result does not fit its type, or what was sent was refused.
    pub fn finish(&mut self, work: &mut EpochWork, ahead: &EncodeAhead) -> Result<(), PipelineError> {
        self.settle(work)?;
        self.windows_here().map_or(Ok(()), |windows| windows.finish(work, ahead, true))
    }

    /// As [`finish`](Self::finish), for a part of a rebuild: rows of windows that stay open are left out.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_closed(&mut self, work: &mut EpochWork, ahead: &EncodeAhead) -> Result<(), PipelineError> {
        self.settle(work)?;
        self.windows_here().map_or(Ok(()), |windows| windows.finish(work, ahead, false))
    }

    /// The epoch is complete, but for its windows, which are finished where they were put.
    pub(super) fn end(&mut self, mut work: EpochWork, ahead: &Arc<EncodeAhead>) -> Result<(), PipelineError> {
        if !work.bronze_only {
            self.settle(&mut work)?;
        }
        match &mut self.windows {
            Windows::Aside(handover) => handover.end(work, ahead, self.watermark.before()),
            Windows::Nowhere | Windows::Here(_) => Ok(()),
        }
    }

    /// Whether no epoch is waiting for its windows.
    pub(super) fn windows_are_idle(&self) -> bool {
        !matches!(&self.windows, Windows::Aside(handover) if !handover.is_idle())
    }

    /// Whether windows that were put aside have failed.
    pub(super) fn windows_are_gone(&self) -> bool {
        matches!(&self.windows, Windows::Aside(handover) if handover.is_gone())
    }

    /// What waits for windows that were put aside.
    pub(super) fn windows_depth(&self) -> usize {
        match &self.windows {
            Windows::Aside(handover) => handover.depth(),
            Windows::Nowhere | Windows::Here(_) => 0,
        }
    }

    fn settle(&mut self, work: &mut EpochWork) -> Result<(), PipelineError> {
        work.rows.resize_with(self.rows.len(), Vec::new);
        work.watermark_us = self.watermark();
        self.scorer.as_mut().map_or(Ok(()), |scorer| scorer.settle())
    }

    /// Memory of what each stage remembers of the past, in bytes, estimated: silver, and each table after it.
    pub fn caches(&self) -> impl Iterator<Item = (String, usize)> {
        let silver = std::iter::once((self.silver.table().to_string(), self.silver.bytes()));
        let rows = self.rows.iter().map(|refiner| (refiner.table().to_string(), refiner.bytes()));
        let windows = match &self.windows {
            Windows::Here(windows) => Some(windows.caches()),
            Windows::Nowhere | Windows::Aside(_) => None,
        };
        silver.chain(rows).chain(windows.into_iter().flatten())
    }

    /// As [`WindowEngine::panes_reloaded`], of windows that were not put aside.
    #[must_use]
    pub fn panes_reloaded(&self) -> u64 {
        match &self.windows {
            Windows::Here(windows) => windows.panes_reloaded(),
            Windows::Nowhere | Windows::Aside(_) => 0,
        }
    }

    /// The rows of epochs up to `epoch` are in these files now.
    pub fn written(&mut self, epoch: i64, silver_files: Vec<DataFile>) {
        self.learn(&Written::new(epoch, silver_files));
    }

    pub(super) fn learn(&mut self, written: &Written) {
        self.past.history.written(written.epoch, written.silver_files.iter().cloned());
        if let Some(windows) = self.windows_here() {
            windows.learn(written);
        }
    }

    /// Hands rows on to the windows; then they are of the past.
    fn remember(&mut self, epoch: i64, silver: &RecordBatch) -> Result<(), PipelineError> {
        match &mut self.windows {
            Windows::Nowhere => {}
            Windows::Here(windows) => windows.update(epoch, silver, self.watermark.before())?,
            Windows::Aside(handover) => handover.take(epoch, silver, self.watermark.before())?,
        }
        self.past.remember(epoch, silver)
    }

    /// The rows of epochs up to `epoch` are in these files, which hold later rows too.
    pub fn reached(&mut self, epoch: i64, silver_files: Vec<DataFile>) {
        let reached = Written::new(epoch, silver_files);
        if let Some(windows) = self.windows_here() {
            windows.reached(&reached);
        }
        self.past.history.reached(epoch, reached.silver_files);
    }

    fn note_times(&mut self, silver: &RecordBatch, work: &mut EpochWork) -> Result<(), PipelineError> {
        let column = silver
            .column_by_name(&self.event_time)
            .ok_or_else(|| PipelineError::Layout(format!("silver has no column `{}`", self.event_time)))?;
        let times = column.as_primitive::<TimestampMicrosecondType>();
        work.late_rows += self.watermark.note(silver, times);
        Ok(())
    }
}
