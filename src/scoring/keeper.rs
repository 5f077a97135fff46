//! Keeps receipts beside the requests: a queue that is bounded, and a thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Handle;

use super::receipts::{receipts, receipts_table};
use super::{Scorer, Scores};
use crate::lake::{Lake, LakeError, LakeSettings, append_records};
use crate::telemetry::Metrics;

/// What waits may hold so much memory; what comes beyond it is shed and counted.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Rows that the store does not take may hold so much.
const UNSTORED_BYTES_MAX: usize = 128 << 20;
/// Rounds are made into rows after so long at most.
const GATHER: Duration = Duration::from_millis(100);
const GATHER_ROWS: usize = 8192;

/// Takes scores and never waits. The thread ends, with all that it took stored if that can be, when [`Keeper`] is dropped.
#[derive(Debug, Clone)]
pub struct Receipts {
    queue: Sender<Arc<Scores>>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Receipts {
    /// Has the receipts of these scores kept, or counts them as shed when too many wait already.
    pub fn offer(&self, scores: &Arc<Scores>) {
        let (rows, bytes) = (scores.rows(), scores.bytes());
        if rows == 0 {
            return;
        }
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > QUEUE_BYTES_MAX || self.queue.send(Arc::clone(scores)).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.receipts("shed", rows as u64);
        }
    }
}

/// Where receipts go, and how often.
#[derive(Debug, Clone)]
pub struct ReceiptPlace {
    pub lake: LakeSettings,
    pub pipeline: String,
    pub every: Duration,
}

/// The thread that writes receipts.
#[derive(Debug)]
pub struct Keeper {
    receipts: Receipts,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        place: ReceiptPlace,
        scorer: &Arc<Scorer>,
        metrics: Arc<Metrics>,
        handle: Handle,
    ) -> std::io::Result<Self> {
        let (queue, taken) = unbounded();
        let bytes = Arc::new(AtomicUsize::new(0));
        let receipts = Receipts { queue, bytes: Arc::clone(&bytes), metrics: Arc::clone(&metrics) };
        let done = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            place,
            scorer: Arc::clone(scorer),
            taken,
            bytes,
            metrics,
            handle,
            done: Arc::clone(&done),
            lake: None,
            unstored: Vec::new(),
            has_failed: false,
        };
        let thread = std::thread::Builder::new().name("assay-receipts".to_owned()).spawn(move || writer.run())?;
        Ok(Self { receipts, done, thread: Some(thread) })
    }

    /// Where to offer scores.
    #[must_use]
    pub fn receipts(&self) -> Receipts {
        self.receipts.clone()
    }
}

impl Drop for Keeper {
    /// Waits until what was taken is stored, or was tried to be.
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    place: ReceiptPlace,
    scorer: Arc<Scorer>,
    taken: Receiver<Arc<Scores>>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    handle: Handle,
    done: Arc<AtomicBool>,
    /// Opened by the first rows that go there.
    lake: Option<Lake>,
    /// Rows that are not in the lake yet.
    unstored: Vec<RecordBatch>,
    has_failed: bool,
}

impl Writer {
    fn run(mut self) {
        let mut stored_us = self.now_us();
        loop {
            let is_done = self.done.load(Ordering::Relaxed);
            let gathered = self.gather();
            self.make_rows(&gathered);
            if is_done && gathered.is_empty() {
                break;
            }
            if self.now_us().saturating_sub(stored_us) >= micros(self.place.every) {
                self.store();
                stored_us = self.now_us();
            }
        }
        self.store();
        let lost: usize = self.unstored.iter().map(RecordBatch::num_rows).sum();
        if lost > 0 {
            tracing::error!(receipts = lost, "the process ends before they could be stored");
            self.metrics.receipts("lost", lost as u64);
        }
    }

    /// What comes within a while: rows are made of many rounds together.
    fn gather(&self) -> Vec<Arc<Scores>> {
        let (mut gathered, mut rows) = (Vec::new(), 0);
        let until_us = self.now_us() + micros(GATHER);
        while rows < GATHER_ROWS {
            let left = u64::try_from(until_us - self.now_us()).unwrap_or(0);
            let Ok(scores) = self.taken.recv_timeout(Duration::from_micros(left)) else { break };
            rows += scores.rows();
            gathered.push(scores);
        }
        gathered
    }

    fn make_rows(&mut self, gathered: &[Arc<Scores>]) {
        if gathered.is_empty() {
            return;
        }
        let rows: usize = gathered.iter().map(|scores| scores.rows()).sum();
        match receipts(&self.scorer, gathered) {
            Ok(made) => self.unstored.push(made),
            Err(error) => {
                tracing::error!(%error, receipts = rows, "they could not be written down");
                self.metrics.receipts("lost", rows as u64);
            }
        }
        self.bytes.fetch_sub(gathered.iter().map(|scores| scores.bytes()).sum(), Ordering::Relaxed);
        while self.unstored.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() > UNSTORED_BYTES_MAX {
            let oldest = self.unstored.remove(0);
            tracing::error!(
                receipts = oldest.num_rows(),
                "they are dropped: the lake takes none, and memory is bounded"
            );
            self.metrics.receipts("lost", oldest.num_rows() as u64);
        }
    }

    /// What the store does not take now is tried again.
    fn store(&mut self) {
        let rows: usize = self.unstored.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return;
        }
        match self.append() {
            Ok(()) => {
                self.unstored.clear();
                self.has_failed = false;
                self.metrics.receipts("kept", rows as u64);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(%error, receipts = rows, "they could not be stored; this is tried again");
                }
            }
        }
    }

    fn append(&mut self) -> Result<(), LakeError> {
        let now_ms = self.now_us() / 1000;
        let lake = match &self.lake {
            Some(lake) => lake,
            None => {
                let found = self.handle.block_on(Lake::open(&self.place.lake, &self.place.pipeline, false))?;
                self.lake.insert(found)
            }
        };
        self.handle.block_on(append_records(lake, &receipts_table(), &self.unstored, now_ms))?;
        Ok(())
    }

    fn now_us(&self) -> i64 {
        self.scorer.clock.now_us()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
