//! The challenger in the shadow of the champion: asked beside the requests, answering nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::{Item, Receipts, Role, Scorer, Scores};
use crate::telemetry::Metrics;

/// What waits may hold so much memory; what comes beyond it is shed and counted.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// How often an idle thread looks whether it may end.
const LOOK: Duration = Duration::from_millis(50);

/// Takes what the champion answered and never waits.
#[derive(Debug, Clone)]
pub struct Shadows {
    queue: Sender<Arc<Scores>>,
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Shadows {
    /// Has the challenger asked about these too, or counts them as shed when too many wait already. Answers of others than
    /// the champion are left alone.
    pub fn offer(&self, scores: &Arc<Scores>) {
        let (rows, bytes) = (scores.rows(), scores.bytes());
        if rows == 0 || scores.role != Role::Champion {
            return;
        }
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > QUEUE_BYTES_MAX || self.queue.send(Arc::clone(scores)).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.roles().shadow_shed(rows as u64);
        }
    }
}

/// The thread that asks. It ends, and what waits is shed, when it is dropped.
#[derive(Debug)]
pub struct Shadow {
    shadows: Shadows,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shadow {
    /// What the challenger says goes to `receipts`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(scorer: &Arc<Scorer>, receipts: Option<Receipts>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (queue, taken) = unbounded();
        let bytes = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let asking = Asking {
            scorer: Arc::clone(scorer),
            receipts,
            metrics: Arc::clone(&metrics),
            taken,
            bytes: Arc::clone(&bytes),
            done: Arc::clone(&done),
        };
        let thread = std::thread::Builder::new().name("assay-shadow".to_owned()).spawn(move || asking.run())?;
        Ok(Self { shadows: Shadows { queue, bytes, metrics }, done, thread: Some(thread) })
    }

    /// Where to offer what the champion answered.
    #[must_use]
    pub fn shadows(&self) -> Shadows {
        self.shadows.clone()
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Asking {
    scorer: Arc<Scorer>,
    receipts: Option<Receipts>,
    metrics: Arc<Metrics>,
    taken: Receiver<Arc<Scores>>,
    bytes: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
}

impl Asking {
    fn run(self) {
        while !self.done.load(Ordering::Relaxed) {
            match self.taken.recv_timeout(LOOK) {
                Ok(scores) => {
                    self.ask(&scores);
                    self.bytes.fetch_sub(scores.bytes(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        let left: usize = self.taken.try_iter().map(|scores| scores.rows()).sum();
        if left > 0 {
            tracing::warn!(
                transactions = left,
                "the process ends before the challenger was asked about these in the shadow"
            );
        }
        self.metrics.roles().shadow_shed(left as u64);
    }

    fn ask(&self, of: &Scores) {
        let Some(challenger) = self.scorer.models.chosen().challenger else { return };
        let began_us = self.scorer.clock.now_us();
        let (scores, failed) = self.scorer.shadow(of, &challenger.served);
        let roles = self.metrics.roles();
        let role = Role::Shadow.as_str();
        let took_us = self.scorer.clock.now_us().saturating_sub(began_us);
        roles.asked(role, Duration::from_micros(u64::try_from(took_us).unwrap_or(0)));
        roles.failed(role, failed);
        let Some(scores) = scores else { return };
        let mut probabilities = Vec::with_capacity(scores.rows());
        for item in &scores.items {
            let Item::Scored { chunk, row } = item else { continue };
            let Ok(probability) = scores.probability(*chunk, *row) else { continue };
            probabilities.push(probability);
        }
        let threshold = challenger.served.threshold();
        let frauds = probabilities.iter().filter(|probability| **probability >= threshold).count();
        for (decision, count) in [("fraud", frauds), ("legitimate", probabilities.len() - frauds)] {
            if count > 0 {
                roles.scored(role, decision, count as u64);
            }
        }
        roles.probabilities(role, &probabilities);
        if let Some(receipts) = &self.receipts {
            receipts.offer(&Arc::new(scores));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ManualClock;
    use crate::scoring::testing::{Kept, transaction};

    #[test]
    fn what_is_too_much_is_shed_and_counted() {
        let (_kept, scorer) = Kept::champion();
        let metrics = Arc::new(Metrics::new("1", Arc::new(ManualClock::at(0))).unwrap());
        let (queue, taken) = unbounded();
        let shadows = Shadows { queue, bytes: Arc::default(), metrics: Arc::clone(&metrics) };
        let text = transaction("t", 1, 5.0).to_string();
        let scores = Arc::new(scorer.score_json([text.as_bytes()].into_iter()).unwrap());
        let fit = QUEUE_BYTES_MAX / scores.bytes();
        (0..fit + 3).for_each(|_| shadows.offer(&scores));
        assert_eq!(taken.len(), fit);
        assert!(metrics.render().unwrap().contains("assay_shadow_shed_total 3"));
    }
}
