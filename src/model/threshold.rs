//! From which probability on a row is called fraud, and whether that is good enough.

use serde::{Deserialize, Serialize};

use super::{Confusion, Ranking};

/// What a model must reach to be served, on predictions of rows that it did not learn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Of what is called fraud, the share that is.
    pub precision_min: f64,
    /// Of the frauds, the share that is found.
    pub recall_min: f64,
    pub f1_min: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { precision_min: 0.80, recall_min: 0.70, f1_min: 0.75 }
    }
}

impl Gate {
    #[must_use]
    pub fn passes(&self, confusion: &Confusion) -> bool {
        self.keeps_both(confusion) && confusion.f1() >= self.f1_min
    }

    fn keeps_both(&self, confusion: &Confusion) -> bool {
        confusion.precision() >= self.precision_min && confusion.recall() >= self.recall_min
    }
}

/// A threshold and what it gives on the rows that it was chosen on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// At this score or above a row is called fraud.
    pub score: f64,
    pub confusion: Confusion,
    pub passes: bool,
}

impl Threshold {
    /// The best F1 among the thresholds that keep the gate's precision and recall, or among all where none does. Of
    /// equal ones the highest. It lies halfway to the next lower score, so that rounding moves no row across.
    ///
    /// None for a ranking of no rows.
    #[must_use]
    pub fn choose(ranking: &Ranking, gate: &Gate) -> Option<Self> {
        let steps = ranking.steps();
        let mut best: Option<(usize, Confusion, (bool, f64))> = None;
        for (place, step) in steps.iter().enumerate() {
            let confusion = ranking.confusion(step);
            let worth = (gate.keeps_both(&confusion), confusion.f1());
            if best.as_ref().is_none_or(|(_, _, so_far)| worth > *so_far) {
                best = Some((place, confusion, worth));
            }
        }
        let (place, confusion, _) = best?;
        let score = steps.get(place + 1).map_or(steps[place].score, |below| between(below.score, steps[place].score));
        Some(Self { score, confusion, passes: gate.passes(&confusion) })
    }
}

/// Above `low`, at most `high`.
fn between(low: f64, high: f64) -> f64 {
    let middle = low + (high - low) / 2.0;
    if middle > low { middle } else { high }
}

#[cfg(test)]
mod tests;
