//! Keeps receipts beside the requests: a queue that is bounded, a thread that makes rows, and one that stores them. A store
//! that is slow holds up rows, which are small, and not what they are made from.

mod storer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Handle;

use self::storer::Storer;
use super::receipts::receipts;
use super::{Scorer, Scores};
use crate::lake::LakeSettings;
use crate::telemetry::Metrics;

/// What waits may hold so much memory; what comes beyond it is shed and counted.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Rows that the store has not taken yet may hold so much; what comes beyond it is lost and counted.
const UNSTORED_BYTES_MAX: usize = 128 << 20;
/// Rounds are made into rows after so long, or when so much waits; the thread is not woken for each.
const GATHER: Duration = Duration::from_millis(50);
const GATHER_BYTES: usize = 8 << 20;
const GATHER_ROWS: usize = 8192;

/// Takes scores and never waits.
#[derive(Debug, Clone)]
pub struct Receipts {
    queue: Sender<Arc<Scores>>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    maker: Thread,
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
        } else if waiting + bytes > GATHER_BYTES {
            self.maker.unpark();
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

/// The threads that write receipts. They end when it is dropped, with all that they took stored if that can be.
#[derive(Debug)]
pub struct Keeper {
    receipts: Receipts,
    done: Arc<AtomicBool>,
    /// In the order in which they end.
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        place: ReceiptPlace,
        scorer: &Arc<Scorer>,
        metrics: Arc<Metrics>,
        handle: Handle,
    ) -> std::io::Result<Self> {
        let (queue, taken) = unbounded();
        let bytes = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let (rows, made) = unbounded();
        let unstored = Arc::new(AtomicUsize::new(0));
        let storer = Storer {
            place,
            clock: Arc::clone(&scorer.clock),
            made,
            bytes: Arc::clone(&unstored),
            metrics: Arc::clone(&metrics),
            handle,
            lake: None,
            unstored: Vec::new(),
            has_failed: false,
        };
        let storer = std::thread::Builder::new().name("assay-store".to_owned()).spawn(move || storer.run())?;
        let maker = Maker {
            scorer: Arc::clone(scorer),
            taken,
            bytes: Arc::clone(&bytes),
            metrics: Arc::clone(&metrics),
            done: Arc::clone(&done),
            rows,
            unstored,
            is_full: false,
        };
        let maker = std::thread::Builder::new().name("assay-receipts".to_owned()).spawn(move || maker.run())?;
        let receipts = Receipts { queue, bytes, metrics, maker: maker.thread().clone() };
        Ok(Self { receipts, done, threads: vec![maker, storer] })
    }

    /// Where to offer scores.
    #[must_use]
    pub fn receipts(&self) -> Receipts {
        self.receipts.clone()
    }
}

impl Drop for Keeper {
    /// Waits for that.
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.receipts.maker.unpark();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Makes rows of scores.
struct Maker {
    scorer: Arc<Scorer>,
    taken: Receiver<Arc<Scores>>,
    /// What waits in `taken`.
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    done: Arc<AtomicBool>,
    rows: Sender<RecordBatch>,
    /// What was sent to `rows` and is not stored.
    unstored: Arc<AtomicUsize>,
    /// Whether the last rows found no place there.
    is_full: bool,
}

impl Maker {
    fn run(mut self) {
        loop {
            let is_done = self.done.load(Ordering::Relaxed);
            if !is_done {
                std::thread::park_timeout(GATHER);
            }
            // What comes meanwhile is gathered first, unless it is much, or the last.
            while let Some(gathered) = self.gather() {
                self.make_rows(&gathered);
                if !is_done && self.bytes.load(Ordering::Relaxed) < GATHER_BYTES {
                    break;
                }
            }
            if is_done {
                break;
            }
        }
    }

    /// Rows are made of many rounds together. `None` when nothing waits.
    fn gather(&self) -> Option<Vec<Arc<Scores>>> {
        let (mut gathered, mut rows) = (Vec::new(), 0);
        while rows < GATHER_ROWS
            && let Ok(scores) = self.taken.try_recv()
        {
            rows += scores.rows();
            gathered.push(scores);
        }
        (!gathered.is_empty()).then_some(gathered)
    }

    fn make_rows(&mut self, gathered: &[Arc<Scores>]) {
        let count: usize = gathered.iter().map(|scores| scores.rows()).sum();
        match receipts(&self.scorer, gathered) {
            Ok(made) => self.hand_over(made),
            Err(error) => {
                tracing::error!(%error, receipts = count, "they could not be written down");
                self.metrics.receipts("lost", count as u64);
            }
        }
        self.bytes.fetch_sub(gathered.iter().map(|scores| scores.bytes()).sum(), Ordering::Relaxed);
    }

    fn hand_over(&mut self, made: RecordBatch) {
        let (count, bytes) = (made.num_rows(), made.get_array_memory_size());
        let waiting = self.unstored.fetch_add(bytes, Ordering::Relaxed);
        let is_handed_over = waiting + bytes <= UNSTORED_BYTES_MAX && self.rows.send(made).is_ok();
        let was_full = std::mem::replace(&mut self.is_full, !is_handed_over);
        if is_handed_over {
            return;
        }
        self.unstored.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.receipts("lost", count as u64);
        if !was_full {
            tracing::error!(
                receipts = count,
                "they are dropped, as others will be until the lake keeps up: memory is bounded"
            );
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
