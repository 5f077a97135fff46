//! Keeps receipts beside the requests: a queue that is bounded, a thread that makes rows, and one that stores them. A store
//! that is slow holds up rows, which are small, and not what they are made from.

mod storer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Handle;

use self::storer::Storer;
use super::receipts::ReceiptRows;
use super::{Scorer, Scores};
use crate::lake::LakeSettings;
use crate::telemetry::Metrics;

/// What waits may hold so much memory; what comes beyond it is shed and counted.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// With so many rows that the store has not taken yet, no more are made.
const UNSTORED_BYTES_MAX: usize = 128 << 20;
/// So many rows of single requests are made at a time: about 300 µs. Who looks for requests leaves the core to whoever needs
/// it, and would have it back with the next tick of the system only, 4 ms later.
const PIECE_ROWS: usize = 32;
/// After a piece the thread sleeps so long; it is not woken for each round.
const GATHER: Duration = Duration::from_millis(2);
/// When nothing came it sleeps so long.
const IDLE: Duration = Duration::from_millis(50);
/// With so much waiting it does not sleep.
const GATHER_BYTES: usize = 8 << 20;
/// Pieces are handed over together: the first rows of a file say how its columns are best encoded.
const HANDED_ROWS: usize = 512;

/// That the lake does not keep up is told so often at most.
const TOLD_EVERY_US: i64 = 60_000_000;

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
        } else if waiting <= GATHER_BYTES && waiting + bytes > GATHER_BYTES {
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
            table: None,
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
            made: ReceiptRows::default(),
            rows,
            unstored,
            told_us: None,
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
    /// What was made and is not handed over.
    made: ReceiptRows,
    rows: Sender<RecordBatch>,
    /// What was sent to `rows` and is not stored.
    unstored: Arc<AtomicUsize>,
    /// When it was told that this was as much as may be.
    told_us: Option<i64>,
}

impl Maker {
    fn run(mut self) {
        let mut pause = IDLE;
        loop {
            let is_done = self.done.load(Ordering::Relaxed);
            if self.is_held_up() && !is_done {
                std::thread::park_timeout(GATHER);
                continue;
            }
            if is_done || self.bytes.load(Ordering::Relaxed) > GATHER_BYTES {
                std::thread::yield_now();
            } else {
                std::thread::park_timeout(pause);
            }
            if let Some(rounds) = self.rounds() {
                self.make(rounds);
                if self.made.len() >= HANDED_ROWS {
                    self.hand_over();
                }
                pause = GATHER;
                continue;
            }
            self.hand_over();
            if is_done {
                break;
            }
            pause = IDLE;
        }
    }

    /// Whether the store has as many rows to take as may be.
    fn is_held_up(&mut self) -> bool {
        if self.unstored.load(Ordering::Relaxed) < UNSTORED_BYTES_MAX {
            return false;
        }
        let now_us = self.scorer.clock.now_us();
        if self.told_us.is_none_or(|told_us| now_us - told_us >= TOLD_EVERY_US) {
            tracing::warn!(
                "the lake does not keep up with receipts: they wait, and the newest are shed once too many do"
            );
            self.told_us = Some(now_us);
        }
        true
    }

    /// Those of a piece. `None` when nothing waits.
    fn rounds(&self) -> Option<Vec<Arc<Scores>>> {
        let (mut rounds, mut rows) = (Vec::new(), 0);
        while rows < PIECE_ROWS
            && let Ok(scores) = self.taken.try_recv()
        {
            rows += scores.rows();
            rounds.push(scores);
        }
        (!rounds.is_empty()).then_some(rounds)
    }

    /// Makes the rows of a piece.
    fn make(&mut self, rounds: Vec<Arc<Scores>>) {
        let made = self.made.extend(&self.scorer, &rounds);
        self.bytes.fetch_sub(rounds.iter().map(|scores| scores.bytes()).sum(), Ordering::Relaxed);
        if let Err(error) = made {
            self.not_written(&error, rounds.iter().map(|scores| scores.rows() as u64).sum());
        }
    }

    fn not_written(&self, error: &ArrowError, count: u64) {
        tracing::error!(%error, receipts = count, "they could not be written down");
        self.metrics.receipts("lost", count);
    }

    /// Hands over what was made, where something was.
    fn hand_over(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let count = self.made.len() as u64;
        let made = match self.made.finish(&self.scorer.pipeline) {
            Ok(made) => made,
            Err(error) => return self.not_written(&error, count),
        };
        let bytes = made.get_array_memory_size();
        self.unstored.fetch_add(bytes, Ordering::Relaxed);
        if self.rows.send(made).is_err() {
            self.unstored.fetch_sub(bytes, Ordering::Relaxed);
            tracing::error!(receipts = count, "nobody is there to store them: its thread has ended");
            self.metrics.receipts("lost", count);
        }
    }
}

fn rows(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
