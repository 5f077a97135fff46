//! Scores in descending order: the source of every curve and of every threshold.

use super::ModelError;
use super::metrics::Confusion;

/// What lies at or above each distinct score. Equal scores are one step, so that no order among them counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    steps: Vec<Step>,
    positives: u64,
    negatives: u64,
}

/// The rows whose score is `score` or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub score: f64,
    pub true_positives: u64,
    pub false_positives: u64,
}

impl Ranking {
    /// # Errors
    /// When the lengths differ, there are no rows, or a score is not finite.
    pub fn new(scores: &[f64], labels: &[bool]) -> Result<Self, ModelError> {
        if scores.len() != labels.len() {
            return Err(ModelError::Length { what: "the labels", expected: scores.len(), found: labels.len() });
        }
        if scores.is_empty() {
            return Err(ModelError::Empty { what: "rows" });
        }
        if let Some((row, &value)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(ModelError::Score { row, value });
        }
        let mut pairs: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
        pairs.sort_unstable_by(|(one, _), (other, _)| other.total_cmp(one));
        Ok(Self::of_descending(pairs.into_iter()))
    }

    /// The same over one feature, as if it were a score; faster than [`Ranking::new`].
    pub(super) fn of_feature<'a>(
        values: impl Iterator<Item = &'a f32>,
        labels: impl Iterator<Item = &'a bool>,
    ) -> Self {
        let mut keys: Vec<u64> =
            values.zip(labels).map(|(&value, &label)| u64::from(!code(value)) << 1 | u64::from(label)).collect();
        keys.sort_unstable();
        Self::of_descending(keys.into_iter().map(|key| (f64::from(of_code(!((key >> 1) as u32))), key & 1 == 1)))
    }

    /// Merges neighbours of equal score; -0 equals 0.
    fn of_descending(pairs: impl Iterator<Item = (f64, bool)>) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        let (mut positives, mut negatives) = (0, 0);
        for (score, label) in pairs {
            positives += u64::from(label);
            negatives += u64::from(!label);
            let step = Step { score, true_positives: positives, false_positives: negatives };
            match steps.last_mut() {
                #[allow(clippy::float_cmp, reason = "only the same number is a tie")]
                Some(last) if last.score == score => *last = Step { score: last.score, ..step },
                _ => steps.push(step),
            }
        }
        Self { steps, positives, negatives }
    }

    /// From the highest score to the lowest.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    #[must_use]
    pub const fn positives(&self) -> u64 {
        self.positives
    }

    #[must_use]
    pub const fn negatives(&self) -> u64 {
        self.negatives
    }

    /// What is counted when everything from this step upwards is called positive.
    #[must_use]
    pub const fn confusion(&self, step: &Step) -> Confusion {
        Confusion {
            true_positives: step.true_positives,
            false_positives: step.false_positives,
            false_negatives: self.positives - step.true_positives,
            true_negatives: self.negatives - step.false_positives,
        }
    }

    /// The area under the ROC curve: how often a positive stands above a negative, ties counted half. None when one
    /// class is absent.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "the sum is exact; one rounding at the end")]
    pub fn roc_auc(&self) -> Option<f64> {
        if self.positives == 0 || self.negatives == 0 {
            return None;
        }
        let (mut twice, mut above) = (0_u128, Step { score: 0.0, true_positives: 0, false_positives: 0 });
        for step in &self.steps {
            twice += u128::from(step.false_positives - above.false_positives)
                * u128::from(step.true_positives + above.true_positives);
            above = *step;
        }
        Some(twice as f64 / (2.0 * self.positives as f64 * self.negatives as f64))
    }

    /// The area under the precision-recall curve as a sum of steps, without interpolation: Σ (Rᵢ - Rᵢ₋₁) Pᵢ. None
    /// without positives.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
    pub fn average_precision(&self) -> Option<f64> {
        if self.positives == 0 {
            return None;
        }
        let (mut sum, mut above) = (0.0, 0);
        for step in &self.steps {
            let gained = (step.true_positives - above) as f64;
            sum += gained * step.true_positives as f64 / (step.true_positives + step.false_positives) as f64;
            above = step.true_positives;
        }
        Some(sum / self.positives as f64)
    }
}

/// A code of a finite number that sorts as the number does; -0 has that of 0.
fn code(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn of_code(code: u32) -> f32 {
    f32::from_bits(if code >> 31 == 1 { code & !(1 << 31) } else { !code })
}

#[cfg(test)]
mod tests;
