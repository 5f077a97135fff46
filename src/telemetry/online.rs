//! How the Redis of features is fed and asked.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntGauge};

use super::metrics::{Maker, MetricsError};

/// From a look-up on the same machine to the longest that a request may wait.
const ASK_BUCKETS: &[f64] =
    &[0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0];

/// The instruments of the features in Redis.
pub struct OnlineMetrics {
    asked: HistogramVec,
    fed_epoch: IntGauge,
    states: IntCounter,
    removed: IntCounter,
}

impl OnlineMetrics {
    #[rustfmt::skip]
    pub(super) fn make(make: &mut Maker) -> Result<Self, MetricsError> {
        Ok(Self {
            asked: make.histograms_of("assay_online_ask_seconds", "Seconds that Redis took to tell what it knows of transactions that came together, by outcome: answered, empty, failed, late.", &["outcome"], ASK_BUCKETS)?,
            fed_epoch: make.gauge("assay_online_fed_epoch", "The epoch of the lake up to which this process has fed Redis.")?,
            states: make.counter("assay_online_states_written_total", "States of entities that this process wrote to Redis.")?,
            removed: make.counter("assay_online_states_removed_total", "States of which nothing mattered any more that this process removed from Redis.")?,
        })
    }

    /// Redis was asked about transactions that came together.
    pub fn asked(&self, outcome: &str, time: Duration) {
        self.asked.with_label_values(&[outcome]).observe(time.as_secs_f64());
    }

    /// Redis was fed up to an epoch.
    pub fn fed(&self, epoch: i64, states: u64) {
        self.fed_epoch.set(epoch);
        self.states.inc_by(states);
    }

    /// States were removed.
    pub fn removed(&self, states: u64) {
        self.removed.inc_by(states);
    }
}
