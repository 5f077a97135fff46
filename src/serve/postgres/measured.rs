use std::sync::Arc;

use tokio::time::Instant;

use super::failure::{Failure, state};
use crate::telemetry::Metrics;

/// One statement, as the metrics count it: once, however it ends.
pub(super) struct Measured {
    metrics: Arc<Metrics>,
    began: Instant,
    outcome: &'static str,
    rows: u64,
}

impl Measured {
    pub fn begin(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), began: Instant::now(), outcome: "abandoned", rows: 0 }
    }

    pub fn row(&mut self) {
        self.rows += 1;
    }

    pub fn done(&mut self) {
        self.outcome = "ok";
    }

    pub fn failed(&mut self, failure: &Failure) {
        self.outcome = if failure.code() == state::CANCELED { "cancelled" } else { "error" };
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.sql_statement(self.outcome, self.rows, self.began.elapsed());
    }
}
