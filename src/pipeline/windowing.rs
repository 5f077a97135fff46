//! The window tables of a pipeline, with the past that they ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::ahead::EncodeAhead;
use super::error::PipelineError;
use super::work::EpochWork;
use crate::domain::{Clock, Stint, TableName};
use crate::lake::{DataFile, FileHistory};
use crate::refine::window::WindowEngine;

/// An epoch that is written, and the files that silver consists of since.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub epoch: i64,
    pub silver_files: Vec<Arc<DataFile>>,
}

impl Written {
    pub fn new(epoch: i64, silver_files: impl IntoIterator<Item = DataFile>) -> Self {
        Self { epoch, silver_files: silver_files.into_iter().map(Arc::new).collect() }
    }
}

/// What came before, of the columns that are asked for.
pub(super) struct Past {
    pub history: FileHistory,
    columns: BTreeSet<String>,
}

impl Past {
    pub fn new(history: FileHistory, columns: BTreeSet<String>) -> Self {
        Self { history, columns }
    }

    /// The rows of an epoch count as the past from now on.
    pub fn remember(&mut self, epoch: i64, silver: &RecordBatch) -> Result<(), PipelineError> {
        let schema = silver.schema();
        let columns = schema.fields().iter().enumerate().filter(|(_, field)| self.columns.contains(field.name()));
        let columns: Vec<usize> = columns.map(|(index, _)| index).collect();
        self.history.push(epoch, silver.project(&columns)?);
        Ok(())
    }
}

/// Takes rows of silver into the windows, and finishes the windows that changed when an epoch ends.
pub(super) struct WindowStage {
    engine: WindowEngine,
    past: Past,
    clock: Arc<dyn Clock>,
    /// Since the last epoch ended.
    busy: Option<Stint>,
}

impl WindowStage {
    pub fn new(engine: WindowEngine, history: FileHistory, clock: Arc<dyn Clock>) -> Self {
        let columns = engine.source_columns().into_iter().collect();
        Self { engine, past: Past::new(history, columns), clock, busy: None }
    }

    /// As [`WindowEngine::warm_up`].
    pub fn warm_up(&mut self, watermark_us: Option<i64>) -> Result<(), PipelineError> {
        Ok(self.engine.warm_up(&self.past.history, watermark_us)?)
    }

    /// Takes in rows of an epoch that began at the watermark `before_us`.
    pub fn update(&mut self, epoch: i64, silver: &RecordBatch, before_us: Option<i64>) -> Result<(), PipelineError> {
        let began = self.clock.now_us();
        self.engine.update(silver, &self.past.history, before_us)?;
        self.past.remember(epoch, silver)?;
        let stint = Stint::new(began, self.clock.now_us());
        self.busy.get_or_insert(Stint { busy_us: 0, times: 0, ..stint }).join(stint);
        Ok(())
    }

    /// Ends the epoch of `work` at its watermark. Rows of open windows are left out unless they are wanted.
    pub fn finish(&mut self, work: &mut EpochWork, ahead: &EncodeAhead, with_open: bool) -> Result<(), PipelineError> {
        let began = self.clock.now_us();
        let (mut taken, intakes) = (Ok(()), &mut work.intakes);
        let mut take = |table: &TableName, phase, rows| {
            if taken.is_ok() {
                taken = ahead.take_part(intakes, table, phase, rows);
            }
        };
        work.changes = self.engine.finish_in_parts(work.watermark_us, with_open, ahead.part_rows(), &mut take)?;
        taken?;
        if let Some(updated) = self.busy.take() {
            work.stages.join("windows", updated);
        }
        work.stages.took("windows", began, self.clock.now_us());
        Ok(())
    }

    /// As [`FileHistory::written`].
    pub fn learn(&mut self, written: &Written) {
        self.past.history.written(written.epoch, written.silver_files.iter().cloned());
    }

    /// As [`FileHistory::reached`].
    pub fn reached(&mut self, reached: &Written) {
        self.past.history.reached(reached.epoch, reached.silver_files.iter().cloned());
    }

    /// As [`WindowEngine::bytes_by_table`].
    pub fn caches(&self) -> impl Iterator<Item = (String, usize)> {
        self.engine.bytes_by_table()
    }

    /// As [`WindowEngine::panes_reloaded`].
    pub fn panes_reloaded(&self) -> u64 {
        self.engine.panes_reloaded()
    }
}
