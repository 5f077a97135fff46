//! A limit on how long something takes, at little cost for what is quick.

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::time::{Instant, Sleep};

/// Limits one thing after another. To set a timer and take it back costs more than one that fires now and then for nothing:
/// it stays set from one thing to the next, and is moved when it fires.
#[derive(Debug, Default)]
pub(super) struct Timer(Mutex<Option<Pin<Box<Sleep>>>>);

impl Timer {
    /// `None` when it was not done by the deadline, which is never before that of an earlier thing.
    pub async fn until<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let timer = held.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            while timer.as_mut().poll(context).is_ready() {
                if deadline <= Instant::now() {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_has_the_whole_time() {
        const LIMIT: Duration = Duration::from_millis(300);
        let timer = Timer::default();
        let mut every = tokio::time::interval(Duration::from_millis(10));
        let began = Instant::now();
        // The timer was set for the first of these, and fires among them.
        while began.elapsed() < LIMIT * 2 {
            assert!(timer.until(Instant::now() + LIMIT, every.tick()).await.is_some());
        }
        let began = Instant::now();
        assert_eq!(timer.until(began + LIMIT, std::future::pending::<()>()).await, None);
        assert!(began.elapsed() >= LIMIT);
    }
}
