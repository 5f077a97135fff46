//! The windows of a stream in a thread of their own: rows are scored while the windows of the epoch before are finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::ahead::EncodeAhead;
use super::error::PipelineError;
use super::traced::EpochTracer;
use super::windowing::{WindowStage, Written};
use super::work::EpochWork;
use crate::telemetry::Metrics;

/// What waits for the windows, beside the rows that are held back.
pub(super) const TASKS_AHEAD: usize = 2;

/// Rows that are held back while the windows are busy. With more, who scores waits too.
const ROWS_HELD: usize = 16 * 1024;

/// What the windows are asked to do.
enum Task {
    /// Rows of one epoch, which began at this watermark.
    Rows {
        epoch: i64,
        rows: Vec<RecordBatch>,
        before_us: Option<i64>,
    },
    End {
        work: Box<EpochWork>,
        ahead: Arc<EncodeAhead>,
    },
}

/// Hands rows and epochs over to the windows.
pub(super) struct Handover {
    tasks: Sender<Task>,
    /// Rows of the epoch under way that nobody has taken yet.
    held: Vec<RecordBatch>,
    epochs: Arc<AtomicUsize>,
}

/// The windows of a stream, which hand each epoch on when it is complete.
pub(super) struct WindowThread {
    pub stage: Option<Box<WindowStage>>,
    pub written: Receiver<Written>,
    pub complete: Sender<EpochWork>,
    pub metrics: Arc<Metrics>,
    tracer: EpochTracer,
    tasks: Receiver<Task>,
    epochs: Arc<AtomicUsize>,
}

impl WindowThread {
    pub fn new(
        written: Receiver<Written>,
        complete: Sender<EpochWork>,
        metrics: Arc<Metrics>,
        tracer: EpochTracer,
    ) -> (Handover, Self) {
        let (sender, tasks) = bounded(TASKS_AHEAD);
        let epochs = Arc::new(AtomicUsize::new(0));
        let handover = Handover { tasks: sender, held: Vec::new(), epochs: Arc::clone(&epochs) };
        (handover, Self { stage: None, written, complete, metrics, tracer, tasks, epochs })
    }

    /// Runs until nobody hands over any more, or nobody wants the epochs.
    pub fn run(mut self) -> Result<(), PipelineError> {
        for task in &self.tasks {
            if let Some(stage) = &mut self.stage {
                self.written.try_iter().for_each(|written| stage.learn(&written));
            }
            match (task, &mut self.stage) {
                (Task::Rows { epoch, rows, before_us }, Some(stage)) => {
                    rows.iter().try_for_each(|rows| stage.update(epoch, rows, before_us))?;
                }
                (Task::Rows { .. }, None) => {}
                (Task::End { mut work, ahead }, stage) => {
                    if let Some(stage) = stage.as_mut().filter(|_| !work.bronze_only) {
                        let _in_log = self.tracer.log_span(work.epoch).entered();
                        stage.finish(&mut work, &ahead, true).inspect_err(|error| self.tracer.failed(&work, error))?;
                        stage.caches().for_each(|(cache, bytes)| self.metrics.set_cache(&cache, bytes));
                        self.metrics.set_panes_reloaded(stage.panes_reloaded());
                    }
                    let wanted = self.complete.send(*work);
                    self.epochs.fetch_sub(1, Ordering::AcqRel);
                    if wanted.is_err() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Handover {
    /// Tasks that wait.
    pub fn depth(&self) -> usize {
        self.tasks.len()
    }

    /// Whether the thread has ended, which it does only for an error while there is somebody to hand over.
    pub fn is_gone(&self) -> bool {
        Arc::strong_count(&self.epochs) == 1
    }

    /// Whether no epoch is being finished.
    pub fn is_idle(&self) -> bool {
        self.epochs.load(Ordering::Acquire) == 0
    }

    /// Rows of an epoch; waits only when many are held back already.
    pub fn take(&mut self, epoch: i64, silver: &RecordBatch, before_us: Option<i64>) -> Result<(), PipelineError> {
        self.held.push(silver.clone());
        let held: usize = self.held.iter().map(RecordBatch::num_rows).sum();
        let task = Task::Rows { epoch, rows: std::mem::take(&mut self.held), before_us };
        if held >= ROWS_HELD {
            return self.tasks.send(task).map_err(|_| gone());
        }
        match self.tasks.try_send(task) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Task::Rows { rows, .. })) => {
                self.held = rows;
                Ok(())
            }
            Err(_) => Err(gone()),
        }
    }

    /// The end of an epoch that began at the watermark `before_us`.
    pub fn end(
        &mut self,
        work: EpochWork,
        ahead: &Arc<EncodeAhead>,
        before_us: Option<i64>,
    ) -> Result<(), PipelineError> {
        if !self.held.is_empty() {
            let task = Task::Rows { epoch: work.past, rows: std::mem::take(&mut self.held), before_us };
            self.tasks.send(task).map_err(|_| gone())?;
        }
        self.epochs.fetch_add(1, Ordering::AcqRel);
        self.tasks.send(Task::End { work: Box::new(work), ahead: Arc::clone(ahead) }).map_err(|_| gone())
    }
}

/// The thread's own error says why.
fn gone() -> PipelineError {
    PipelineError::Thread("windows")
}
