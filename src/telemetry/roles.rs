//! How the versions of a model compare: by role, so that versions that come and go leave no series behind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::metrics::{Maker, MetricsError};

/// Probabilities: fine at both ends, where decisions are made.
const PROBABILITY_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// A version is asked in microseconds, and a batch in milliseconds.
const ASK_BUCKETS: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.5, 1.0,
];

/// The instruments of the roles that versions answer in.
pub struct RoleMetrics {
    predictions: IntCounterVec,
    failures: IntCounterVec,
    seconds: HistogramVec,
    probability: HistogramVec,
    versions: IntGaugeVec,
    /// What the gauge of versions shows.
    shown: Mutex<BTreeMap<&'static str, [String; 2]>>,
    share: Gauge,
    returns: IntCounterVec,
    shed: IntCounter,
    registry_failures: IntCounter,
}

impl RoleMetrics {
    #[rustfmt::skip]
    pub(super) fn make(make: &mut Maker) -> Result<Self, MetricsError> {
        let returns = make.counters("assay_challenger_returns_total", "Challengers that were taken out, by cause: errors or latency.", &["cause"])?;
        // Shown before the first: an alert asks for it.
        for cause in ["errors", "latency"] {
            returns.with_label_values(&[cause]);
        }
        Ok(Self {
            predictions: make.counters("assay_role_predictions_total", "Transactions scored as champion, challenger, pinned or shadow, by decision.", &["role", "decision"])?,
            failures: make.counters("assay_role_failures_total", "Transactions that the version of a role could say nothing of: of a challenger, the champion answered; of champion and pinned, the rules.", &["role"])?,
            seconds: make.histograms_of("assay_role_ask_seconds", "Seconds that asking the version of a role took, of transactions that came together.", &["role"], ASK_BUCKETS)?,
            probability: make.histograms_of("assay_role_probability", "Probabilities that the version of a role gave.", &["role"], PROBABILITY_BUCKETS)?,
            versions: make.gauges("assay_role_version_info", "Always 1; the labels tell which version has a role.", &["role", "model", "version"])?,
            shown: Mutex::default(),
            share: make.float_gauge("assay_challenger_share", "The share of users whom a challenger answers now; 0 when there is none, or it was taken out.")?,
            returns,
            shed: make.counter("assay_shadow_shed_total", "Transactions that the challenger was not asked about in the shadow, because too many waited.")?,
            registry_failures: make.counter("assay_model_registry_failures_total", "Looks at the registry of models that failed; the versions that are loaded went on answering.")?,
        })
    }

    /// A version was asked about transactions that came together.
    pub fn asked(&self, role: &str, time: Duration) {
        self.seconds.with_label_values(&[role]).observe(time.as_secs_f64());
    }

    /// A version could say nothing of transactions.
    pub fn failed(&self, role: &str, transactions: u64) {
        if transactions > 0 {
            self.failures.with_label_values(&[role]).inc_by(transactions);
        }
    }

    /// Transactions were decided so.
    pub fn scored(&self, role: &str, decision: &str, transactions: u64) {
        self.predictions.with_label_values(&[role, decision]).inc_by(transactions);
    }

    /// A version gave these probabilities.
    pub fn probabilities(&self, role: &str, of: &[f64]) {
        match of {
            [] => {}
            [one] => self.probability.with_label_values(&[role]).observe(*one),
            of => {
                let local = self.probability.with_label_values(&[role]).local();
                of.iter().for_each(|value| local.observe(*value));
                local.flush();
            }
        }
    }

    /// The version that has a role now, with its model; `None` when none has it.
    pub fn set_version(&self, role: &'static str, of: Option<[&str; 2]>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.get(role);
        if before.map(|[model, version]| [model.as_str(), version]) == of {
            return;
        }
        if let Some([model, version]) = before {
            // It fails when it is not there, and then there is nothing to take back.
            let _ = self.versions.remove_label_values(&[role, model, version]);
        }
        match of {
            Some([model, version]) => {
                self.versions.with_label_values(&[role, model, version]).set(1);
                shown.insert(role, [model.to_owned(), version.to_owned()]);
            }
            None => _ = shown.remove(role),
        }
    }

    /// The share of users whom a challenger answers now.
    pub fn set_challenger_share(&self, share: f64) {
        self.share.set(share);
    }

    /// A challenger was taken out.
    pub fn challenger_returned(&self, cause: &str) {
        self.returns.with_label_values(&[cause]).inc();
        self.share.set(0.0);
    }

    /// The registry could not be read.
    pub fn registry_failed(&self) {
        self.registry_failures.inc();
    }

    /// Transactions were not asked about in the shadow.
    pub fn shadow_shed(&self, transactions: u64) {
        self.shed.inc_by(transactions);
    }
}
