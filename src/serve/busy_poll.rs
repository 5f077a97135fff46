//! Who has just answered looks for the next request for a while before it sleeps: to wake a core that sleeps takes as long as
//! to score a transaction, and what it had in its caches may be gone.

use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Keeps the thread of a runtime awake.
#[derive(Debug)]
pub(super) struct BusyPoll {
    time: Duration,
    answered: Notify,
}

impl BusyPoll {
    /// So long after each answer; not at all where that is no time.
    pub fn new(time: Duration) -> Self {
        Self { time, answered: Notify::new() }
    }

    /// Somebody was answered.
    pub fn answered(&self) {
        if !self.time.is_zero() {
            self.answered.notify_one();
        }
    }

    /// Spell after spell, for ever.
    pub async fn keep(&self) {
        loop {
            self.spell().await;
        }
    }

    /// From an answer until no other has come for the time.
    async fn spell(&self) {
        self.answered.notified().await;
        let mut until = Instant::now() + self.time;
        while Instant::now() < until {
            // Whoever else needs the core has it first.
            std::thread::yield_now();
            // The runtime looks at its sockets, and goes on with what came.
            tokio::task::yield_now().await;
            if self.answered.notified().now_or_never().is_some() {
                until = Instant::now() + self.time;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_spell_lasts_from_the_last_answer_on_and_others_work_meanwhile() {
        let poll = BusyPoll::new(TIME);
        let began = Instant::now();
        poll.answered();
        let mut worked = 0_u32;
        let work = async {
            while began.elapsed() < TIME / 2 {
                tokio::task::yield_now().await;
                worked += 1;
            }
            poll.answered();
        };
        tokio::join!(poll.spell(), work);
        assert!(began.elapsed() >= TIME * 3 / 2);
        assert!(worked > 0);
    }

    #[tokio::test]
    async fn without_a_time_nobody_is_woken() {
        let poll = BusyPoll::new(Duration::ZERO);
        poll.answered();
        assert!(poll.spell().now_or_never().is_none());
    }
}
