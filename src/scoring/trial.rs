//! Whether a challenger may go on answering.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Of the time that is looked back on.
const SLOTS: i64 = 60;

/// When a challenger is taken out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialBounds {
    /// How far back is looked.
    pub window_us: i64,
    /// Nothing is judged by fewer transactions.
    pub transactions_min: u64,
    /// The share of them that may fail, or may be slow.
    pub share_max: f64,
    /// A version that takes longer to be asked is slow.
    pub latency_us: u64,
}

/// How a challenger did on transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    pub transactions: u64,
    /// It could not say anything of them, and the champion could.
    pub failed: u64,
    pub slow: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

/// Why a challenger was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub cause: Cause,
    /// Of the time looked back on.
    pub seen: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Errors,
    Latency,
}

impl Cause {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
        }
    }
}

/// The trial of one challenger. It begins when its alias is pointed to the version, or the process starts, and a
/// challenger that was taken out stays out until then.
#[derive(Debug)]
pub struct Trial {
    bounds: TrialBounds,
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the number of the slot, ascending.
    slots: VecDeque<(i64, Outcome)>,
    seen: Outcome,
    verdict: Option<Verdict>,
}

impl Trial {
    #[must_use]
    pub fn new(bounds: TrialBounds) -> Self {
        Self { bounds, is_on: AtomicBool::new(true), state: Mutex::default() }
    }

    /// Whether the challenger answers.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn bounds(&self) -> TrialBounds {
        self.bounds
    }

    /// Why it was taken out; `None` while it is not.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).verdict
    }

    /// Counts what came of asking the challenger. The verdict is told once, when it falls.
    pub fn record(&self, now_us: i64, outcome: Outcome) -> Option<Verdict> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.verdict.is_some() {
            return None;
        }
        state.add(now_us.div_euclid((self.bounds.window_us / SLOTS).max(1)), outcome);
        let Outcome { transactions, failed, slow } = state.seen;
        if transactions < self.bounds.transactions_min {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^53")]
        let beyond = |count: u64| count as f64 > self.bounds.share_max * transactions as f64;
        let cause = if beyond(failed) {
            Cause::Errors
        } else if beyond(slow) {
            Cause::Latency
        } else {
            return None;
        };
        let verdict = Verdict { cause, seen: state.seen };
        state.verdict = Some(verdict);
        self.is_on.store(false, Ordering::Relaxed);
        Some(verdict)
    }
}

impl State {
    fn add(&mut self, slot: i64, outcome: Outcome) {
        // A clock that is set back adds to the newest slot.
        let slot = self.slots.back().map_or(slot, |(newest, _)| slot.max(*newest));
        while let Some((oldest, _)) = self.slots.front()
            && slot.saturating_sub(*oldest) >= SLOTS
            && let Some((_, past)) = self.slots.pop_front()
        {
            self.seen.transactions -= past.transactions;
            self.seen.failed -= past.failed;
            self.seen.slow -= past.slow;
        }
        match self.slots.back_mut() {
            Some((newest, sum)) if *newest == slot => *sum += outcome,
            _ => self.slots.push_back((slot, outcome)),
        }
        self.seen += outcome;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const BOUNDS: TrialBounds =
        TrialBounds { window_us: 60 * SECOND, transactions_min: 10, share_max: 0.2, latency_us: 1 };

    fn outcome(transactions: u64, failed: u64, slow: u64) -> Outcome {
        Outcome { transactions, failed, slow }
    }

    #[test]
    fn a_challenger_stays_while_it_is_within_the_bounds_or_has_not_done_enough() {
        let trial = Trial::new(BOUNDS);
        assert_eq!(trial.record(0, outcome(9, 9, 9)), None, "too few");
        assert_eq!(trial.record(61 * SECOND, outcome(10, 2, 2)), None, "just within; the first ones are forgotten");
        assert!(trial.is_on());
    }

    #[test]
    fn errors_and_slowness_each_take_it_out_once() {
        for (bad, cause) in [(outcome(4, 3, 0), Cause::Errors), (outcome(4, 0, 3), Cause::Latency)] {
            let trial = Trial::new(BOUNDS);
            assert_eq!(trial.record(0, outcome(6, 0, 0)), None);
            let verdict = trial.record(59 * SECOND, bad).expect("a verdict");
            assert_eq!((verdict.cause, verdict.seen.transactions, trial.is_on()), (cause, 10, false));
            assert_eq!(trial.record(60 * SECOND, bad), None, "it is told once");
            assert_eq!(trial.record(6_000 * SECOND, outcome(1_000, 0, 0)), None);
            assert_eq!((trial.verdict(), trial.is_on()), (Some(verdict), false), "and stands");
        }
    }

    proptest! {
        /// Against a window that is summed anew each time.
        #[test]
        fn a_verdict_falls_when_the_window_says_so(
            steps in prop::collection::vec((0_i64..9, 0_u64..6, 0_u64..3), 1..60), back in any::<bool>(),
        ) {
            let trial = Trial::new(BOUNDS);
            let (mut now_s, mut past, mut fell) = (1_000, Vec::<(i64, Outcome)>::new(), false);
            for (number, (step, good, bad)) in steps.into_iter().enumerate() {
                now_s += step;
                let told_s = if back && number % 7 == 3 { now_s - 100 } else { now_s };
                let outcome = outcome(good + bad, bad, 0);
                let told = trial.record(told_s * SECOND, outcome);
                if fell {
                    prop_assert_eq!(told, None);
                    continue;
                }
                let at = past.last().map_or(told_s, |(newest, _)| told_s.max(*newest));
                past.push((at, outcome));
                let mut sum = Outcome::default();
                past.iter().filter(|(then, _)| at - then < SLOTS).for_each(|(_, outcome)| sum += *outcome);
                let falls = sum.transactions >= 10 && sum.failed as f64 > 0.2 * sum.transactions as f64;
                prop_assert_eq!(told.map(|verdict| verdict.seen), falls.then_some(sum));
                fell = falls;
            }
        }
    }
}
