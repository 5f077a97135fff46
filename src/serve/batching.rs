//! Requests that come at the same time are scored together: much of the work is the same for one row and for many.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::asking::{Asking, Came};
use crate::scoring::{Part, Role, Scores, Served};

/// Rows that are scored together without leaving the executor: about 300 µs.
const TOGETHER_MAX: usize = 64;

/// Whoever comes first has a task score what waits; who comes meanwhile is scored together by its next round.
pub(super) struct Batching {
    asking: Arc<Asking>,
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
    /// The version that is to answer, where one was named.
    pin: Option<Arc<Served>>,
    answer: oneshot::Sender<Answer>,
}

/// The scores of a round and the place of its item; or why there are none, in words.
pub(super) type Answer = Result<(Arc<Scores>, usize), String>;

/// By place.
type Answers = Vec<Option<oneshot::Sender<Answer>>>;

impl Batching {
    pub(super) fn new(asking: Arc<Asking>) -> Self {
        Self { asking, waiting: Mutex::default() }
    }

    /// Scores one JSON object.
    pub(super) async fn score(self: &Arc<Self>, payload: Bytes, pin: Option<Arc<Served>>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let leads = {
            let mut waiting = self.waiting();
            waiting.jobs.push(Job { payload, pin, answer });
            !std::mem::replace(&mut waiting.led, true)
        };
        if leads {
            // Not here: a request may be given up, and the others still want their answers. And not yet: on a runtime of one
            // thread what is ready goes on first, and asks too; a round costs little more for many than for one.
            tokio::spawn(Arc::clone(self).lead());
        }
        answered.await.unwrap_or_else(|_| Err("the scorer ended without an answer; the log says more".to_owned()))
    }

    /// Rounds until nobody waits.
    async fn lead(self: Arc<Self>) {
        loop {
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
            if self.asking.scorer.features.waits() {
                // Whoever else has this thread to go on need not wait too.
                let batching = Arc::clone(&self);
                let _ = tokio::task::spawn_blocking(move || batching.round_or_not(jobs)).await;
            } else {
                self.round_or_not(jobs);
            }
        }
    }

    /// A panic must not leave the others waiting.
    fn round_or_not(&self, jobs: Vec<Job>) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.round(jobs))).is_err() {
            tracing::error!("the scorer panicked");
        }
    }

    fn round(&self, jobs: Vec<Job>) {
        let is_pinned = jobs.iter().any(|job| job.pin.is_some());
        let pins: Vec<_> = if is_pinned { jobs.iter().map(|job| job.pin.clone()).collect() } else { Vec::new() };
        match self.asking.scorer.prepare_json(jobs.iter().map(|job| &*job.payload), &pins) {
            Ok(parts) => {
                let mut answers: Answers = jobs.into_iter().map(|job| Some(job.answer)).collect();
                for part in parts {
                    let own = own(&mut answers, part.places());
                    if part.role() == Role::Champion {
                        answer(&self.asking, part, own);
                    } else {
                        // However slow another version is, those who did not ask for it do not wait for it.
                        let asking = Arc::clone(&self.asking);
                        tokio::task::spawn_blocking(move || answer(&asking, part, own));
                    }
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

/// Those of some places, by place.
fn own(answers: &mut Answers, places: &[usize]) -> Answers {
    if places.len() == answers.len() {
        return std::mem::take(answers);
    }
    let mut own: Answers = answers.iter().map(|_| None).collect();
    for place in places {
        if let (Some(own), Some(answer)) = (own.get_mut(*place), answers.get_mut(*place)) {
            *own = answer.take();
        }
    }
    own
}

fn answer(asking: &Asking, part: Part, mut answers: Answers) {
    for scores in asking.ask(part, Came::OneByOne) {
        for (item, place) in scores.places.iter().enumerate() {
            if let Some(answer) = answers.get_mut(*place).and_then(Option::take) {
                // Whoever asked may have gone.
                let _ = answer.send(Ok((Arc::clone(&scores), item)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ManualClock;
    use crate::scoring::testing::{Kept, transaction};
    use crate::telemetry::Metrics;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everybody_gets_their_own_answer() {
        let (kept, scorer) = Kept::champion();
        let other = kept.served(1, 100.0, &scorer);
        let scorer = Arc::new(scorer);
        let metrics = Arc::new(Metrics::new("1", Arc::new(ManualClock::at(0))).unwrap());
        let asking = Asking { scorer: Arc::clone(&scorer), receipts: None, shadows: None, metrics };
        let batching = Arc::new(Batching::new(Arc::new(asking)));
        let asked = (0..500).map(|number| {
            let (batching, scorer) = (Arc::clone(&batching), Arc::clone(&scorer));
            let pin = (number % 5 == 0).then(|| Arc::clone(&other));
            tokio::spawn(async move {
                let payload = transaction(&number.to_string(), number, f64::from(number) * 7.0 + 1.0).to_string();
                let (scores, item) = batching.score(payload.into(), pin.clone()).await.unwrap();
                let crate::scoring::Item::Scored { chunk, row } = scores.items[item] else { panic!("refused") };
                let told = scorer.prediction(&scores, chunk, row).unwrap();
                assert_eq!(told.transaction_id, number.to_string());
                let version = pin.unwrap_or_else(|| scorer.models.chosen().champion.unwrap()).version.clone();
                assert_eq!(scores.model.as_ref().unwrap().version, version);
                scores.features(chunk, row).unwrap()[0]
            })
        });
        for (number, task) in asked.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number as f32 * 7.0 + 1.0);
        }
    }
}
