//! Requests that come at the same time are scored together: an expression costs as much for one row as for a hundred.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::scoring::{Receipts, Scorer, Scores};

/// Rows that are scored together without leaving the executor: about 200 µs.
const TOGETHER_MAX: usize = 64;

/// Whoever comes first scores what waits; who comes meanwhile is scored together by the next round.
pub(super) struct Batching {
    scorer: Arc<Scorer>,
    receipts: Option<Receipts>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    /// Whether somebody is scoring.
    led: bool,
}

struct Job {
    payload: Bytes,
    answer: oneshot::Sender<Answer>,
}

/// The scores of a round and the place in it; or why there are none, in words.
pub(super) type Answer = Result<(Arc<Scores>, usize), String>;

impl Batching {
    pub(super) fn new(scorer: Arc<Scorer>, receipts: Option<Receipts>) -> Self {
        Self { scorer, receipts, waiting: Mutex::default() }
    }

    /// Scores one JSON object.
    pub(super) async fn score(self: &Arc<Self>, payload: Bytes) -> Answer {
        let (answer, answered) = oneshot::channel();
        let leads = {
            let mut waiting = self.waiting();
            waiting.jobs.push(Job { payload, answer });
            !std::mem::replace(&mut waiting.led, true)
        };
        if leads {
            self.lead();
        }
        answered.await.unwrap_or_else(|_| Err("the scorer ended without an answer; the log says more".to_owned()))
    }

    /// One round here; what came meanwhile goes to a task of its own, so that nobody works for others for ever.
    fn lead(self: &Arc<Self>) {
        let jobs = {
            let mut waiting = self.waiting();
            if waiting.jobs.is_empty() {
                waiting.led = false;
                return;
            }
            let rest = waiting.jobs.len().min(TOGETHER_MAX);
            let later = waiting.jobs.split_off(rest);
            std::mem::replace(&mut waiting.jobs, later)
        };
        // A panic must not leave the others waiting.
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.round(jobs))).is_err() {
            tracing::error!("the scorer panicked");
        }
        let mut waiting = self.waiting();
        if waiting.jobs.is_empty() {
            waiting.led = false;
            return;
        }
        drop(waiting);
        let next = Arc::clone(self);
        tokio::spawn(async move { next.lead() });
    }

    fn round(&self, jobs: Vec<Job>) {
        match self.scorer.score_json(jobs.iter().map(|job| &*job.payload)) {
            Ok(scores) => {
                let scores = Arc::new(scores);
                if let Some(receipts) = &self.receipts {
                    receipts.offer(&scores);
                }
                for (place, job) in jobs.into_iter().enumerate() {
                    // Whoever asked may have gone.
                    let _ = job.answer.send(Ok((Arc::clone(&scores), place)));
                }
            }
            Err(_) if jobs.len() > 1 => jobs.into_iter().for_each(|job| self.round(vec![job])),
            Err(error) => {
                for job in jobs {
                    let _ = job.answer.send(Err(error.to_string()));
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::testing::{Kept, transaction};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everybody_gets_their_own_answer() {
        let (_kept, scorer) = Kept::champion();
        let scorer = Arc::new(scorer);
        let batching = Arc::new(Batching::new(Arc::clone(&scorer), None));
        let asked = (0..500).map(|number| {
            let (batching, scorer) = (Arc::clone(&batching), Arc::clone(&scorer));
            tokio::spawn(async move {
                let payload = transaction(&number.to_string(), number, f64::from(number) * 7.0 + 1.0).to_string();
                let (scores, place) = batching.score(payload.into()).await.unwrap();
                let crate::scoring::Item::Scored { chunk, row } = scores.items[place] else { panic!("refused") };
                let told = scorer.prediction(&scores, chunk, row).unwrap();
                assert_eq!(told.transaction_id, number.to_string());
                scores.features(chunk, row).unwrap()[0]
            })
        });
        for (number, task) in asked.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number as f32 * 7.0 + 1.0);
        }
    }
}
