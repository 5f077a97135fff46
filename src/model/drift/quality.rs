use std::collections::BTreeMap;

use super::{DAY_US, Span};
use crate::model::{Metrics, ModelError};

/// Decisions beside the labels that came since, by day. It holds nine bytes of each row.
#[derive(Debug, Clone, Default)]
pub struct LiveQuality {
    days: BTreeMap<i64, (Vec<f64>, Vec<bool>)>,
}

/// How good the decisions of a day were.
#[derive(Debug, Clone, PartialEq)]
pub struct DayQuality {
    pub day: Span,
    /// Absent when no row of the day has a label.
    pub metrics: Option<Metrics>,
}

impl DayQuality {
    /// Precision, recall and F1; each absent where it divides by nothing: a day without frauds has no recall.
    #[must_use]
    pub fn rates(&self) -> [Option<f64>; 3] {
        let Some(of) = &self.metrics else { return [None; 3] };
        let found = of.confusion;
        let (called, frauds) = (found.true_positives + found.false_positives, of.positives);
        let known = |count: u64, value: f64| (count > 0).then_some(value);
        [known(called, of.precision), known(frauds, of.recall), known(called + frauds, of.f1)]
    }
}

impl LiveQuality {
    /// A row whose label is known.
    pub fn add(&mut self, at_us: i64, probability: f64, label: bool) {
        let (probabilities, labels) = self.days.entry(at_us.div_euclid(DAY_US)).or_default();
        probabilities.push(probability);
        labels.push(label);
    }

    /// Each day of `span`, at the threshold of the model.
    ///
    /// # Errors
    /// When a probability is none.
    pub fn measure(&self, span: Span, threshold: f64) -> Result<Vec<DayQuality>, ModelError> {
        let days = span.from_us.div_euclid(DAY_US)..span.to_us.div_euclid(DAY_US);
        let quality = |day: i64| {
            let rows = self.days.get(&day);
            let metrics = rows.map(|(probabilities, labels)| Metrics::of(probabilities, labels, threshold)).transpose();
            Ok(DayQuality { day: Span { from_us: day * DAY_US, to_us: (day + 1) * DAY_US }, metrics: metrics? })
        };
        days.map(quality).collect()
    }
}
