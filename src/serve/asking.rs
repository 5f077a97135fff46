//! Asks the versions, and tells everybody who wants to know: metrics, the trial of a challenger, receipts, the shadow.

use std::sync::Arc;

use tokio::time::Instant;

use crate::scoring::{Asked, Outcome, Part, Receipts, Role, Scorer, Scores, Shadows, Trial, Verdict};
use crate::telemetry::Metrics;
use crate::telemetry::traces::Stopwatch;

pub(super) struct Asking {
    pub scorer: Arc<Scorer>,
    pub receipts: Option<Receipts>,
    pub shadows: Option<Shadows>,
    pub metrics: Arc<Metrics>,
}

/// How transactions came: the time that a batch takes says nothing of how fast a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    OneByOne,
    InBatch,
}

impl Asking {
    /// Asks the version of a part. Answers of a challenger may be in two: what it could not say, the champion says.
    pub(super) fn ask(&self, part: Part, came: Came) -> Vec<Arc<Scores>> {
        let (role, transactions) = (part.role(), part.rows() as u64);
        let began = Instant::now();
        let asking_us = self.scorer.traces.now_us();
        let Asked { mut scores, failed, trial } = self.scorer.ask(part);
        let took = began.elapsed();
        if came == Came::OneByOne && self.scorer.settings.contributions_max > 0 {
            scores.iter_mut().for_each(Scores::contribute);
        }
        if self.scorer.traces.is_on() {
            let asked_us = self.scorer.traces.now_us();
            scores
                .iter()
                .filter_map(|scores| scores.watch.as_ref())
                .for_each(|watch| watch.took("model", asking_us, asked_us));
        }
        let scores: Vec<Arc<Scores>> = scores.into_iter().map(Arc::new).collect();
        if transactions > 0 {
            let roles = self.metrics.roles();
            roles.asked(role.as_str(), took);
            roles.failed(role.as_str(), failed);
            if let Some(trial) = trial {
                let is_slow = came == Came::OneByOne && took.as_micros() > u128::from(trial.bounds().latency_us);
                let slow = if is_slow { transactions } else { 0 };
                self.judge(&trial, Outcome { transactions, failed, slow });
            }
        }
        for scores in &scores {
            if let Some(receipts) = &self.receipts {
                Stopwatch::time(scores.watch.as_deref(), "receipt", || receipts.offer(scores));
            }
            if let Some(shadows) = &self.shadows {
                // In the place of a challenger the champion says what the challenger could not: not asked twice.
                if role == Role::Champion {
                    shadows.offer(scores);
                }
            }
        }
        scores
    }

    fn judge(&self, trial: &Trial, outcome: Outcome) {
        let Some(Verdict { cause, seen }) = trial.record(self.scorer.clock.now_us(), outcome) else { return };
        let bounds = trial.bounds();
        tracing::warn!(
            model = %self.scorer.models.name(),
            cause = cause.as_str(),
            transactions = seen.transactions,
            failed = seen.failed,
            slow = seen.slow,
            slow_above_us = bounds.latency_us,
            within_s = bounds.window_us / 1_000_000,
            "the challenger is taken out: the champion answers for all, until the alias `challenger` moves or the process starts anew"
        );
        self.metrics.roles().challenger_returned(cause.as_str());
    }
}
