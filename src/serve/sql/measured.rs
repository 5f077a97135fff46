use std::sync::Arc;

use tokio::time::Instant;

use super::failure::{Failure, state};
use crate::telemetry::Metrics;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Protocol {
    Postgres,
    Flight,
}

impl Protocol {
    /// As metrics label it, and as its section of the settings is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Flight => "flight",
        }
    }
}

/// One statement, as the metrics count it: once, however it ends.
pub(in crate::serve) struct Measured {
    metrics: Arc<Metrics>,
    protocol: Protocol,
    began: Instant,
    outcome: &'static str,
    rows: u64,
}

impl Measured {
    pub fn begin(metrics: &Arc<Metrics>, protocol: Protocol) -> Self {
        Self { metrics: Arc::clone(metrics), protocol, began: Instant::now(), outcome: "abandoned", rows: 0 }
    }

    pub fn rows(&mut self, rows: u64) {
        self.rows += rows;
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
        self.metrics.sql_statement(self.protocol.as_str(), self.outcome, self.rows, self.began.elapsed());
    }
}
