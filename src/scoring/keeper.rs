//! Keeps receipts beside the requests: a queue that is bounded, a thread that makes rows, and one that stores them. A store
//! that is slow holds up rows, which are small, and not what they are made from.

mod storer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
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

/// The threads that write receipts.
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
        let receipts = Receipts { queue, bytes: Arc::clone(&bytes), metrics: Arc::clone(&metrics) };
        let done = Arc::new(AtomicBool::new(false));
        let (rows, made) = unbounded();
        let unstored = Arc::new(AtomicUsize::new(0));
        let storer =
            Storer::new(place, Arc::clone(&scorer.clock), made, Arc::clone(&unstored), Arc::clone(&metrics), handle);
        let storer = std::thread::Builder::new().name("assay-store".to_owned()).spawn(move || storer.run())?;
        let scorer = Arc::clone(scorer);
        let maker = Maker { scorer, taken, bytes, metrics, done: Arc::clone(&done), rows, unstored, is_full: false };
        let thread = std::thread::Builder::new().name("assay-receipts".to_owned()).spawn(move || maker.run())?;
        Ok(Self { receipts, done, threads: vec![thread, storer] })
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
            let gathered = self.gather();
            if is_done && gathered.is_empty() {
                break;
            }
            self.make_rows(&gathered);
        }
    }

    /// What comes within a while: rows are made of many rounds together.
    fn gather(&self) -> Vec<Arc<Scores>> {
        let (mut gathered, mut rows) = (Vec::new(), 0);
        let until_us = self.scorer.clock.now_us() + micros(GATHER);
        while rows < GATHER_ROWS {
            let left = u64::try_from(until_us - self.scorer.clock.now_us()).unwrap_or(0);
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
                "they are dropped, as all to come until the lake keeps up: memory is bounded"
            );
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
