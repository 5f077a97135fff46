//! What items count as, in metrics.

use std::collections::BTreeMap;

use crate::scoring::{FRAUD, Item, LEGITIMATE, Role, Scores};
use crate::telemetry::Metrics;

/// What an item counts as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Counted {
    Scored { fraud: bool, probability: Option<f64>, degraded: bool },
    Refused,
}

/// Items of one version by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By who decided, the rules or the model, and whether it is fraud.
    scored: [[u64; 2]; 2],
    probabilities: Vec<f64>,
    degraded: u64,
    refused: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn add(&mut self, counted: Counted, item: &Item) {
        match (counted, item) {
            (Counted::Scored { fraud, probability, degraded }, _) => {
                self.scored[usize::from(probability.is_some())][usize::from(fraud)] += 1;
                self.probabilities.extend(probability);
                self.degraded += u64::from(degraded);
            }
            (Counted::Refused, Item::Refused(refusal)) => *self.refused.entry(refusal.code.clone()).or_default() += 1,
            (Counted::Refused, Item::Scored { .. }) => {}
        }
    }

    pub(super) fn tell(&self, metrics: &Metrics, scores: &Scores) {
        // Requests may name any of many versions: they are one series.
        let model = match scores.role {
            Role::Pinned => Role::Pinned.as_str(),
            _ => scores.model.as_ref().map_or("rules", |model| model.version.as_str()),
        };
        let (roles, role) = (metrics.roles(), scores.role.as_str());
        for (version, of) in ["rules", model].into_iter().zip(self.scored) {
            for (decision, count) in [LEGITIMATE, FRAUD].into_iter().zip(of).filter(|(_, count)| *count > 0) {
                metrics.predicted(version, decision, count);
                roles.scored(role, decision, count);
            }
        }
        roles.probabilities(role, &self.probabilities);
        metrics.predictions_degraded(self.degraded);
        self.refused.iter().for_each(|(reason, count)| metrics.prediction_refused(reason, *count));
    }
}
