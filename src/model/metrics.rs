//! How good predictions are. All of it is counted here, by definitions that scikit-learn shares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ModelError, Ranking};

/// The four counts of a decision; positive means fraud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    pub true_positives: u64,
    pub false_positives: u64,
    pub false_negatives: u64,
    pub true_negatives: u64,
}

impl Confusion {
    /// Positive is what scores `threshold` or more.
    #[must_use]
    pub fn at(threshold: f64, scores: &[f64], labels: &[bool]) -> Self {
        let mut counts = Self::default();
        for (&score, &label) in scores.iter().zip(labels) {
            let count = match (score >= threshold, label) {
                (true, true) => &mut counts.true_positives,
                (true, false) => &mut counts.false_positives,
                (false, true) => &mut counts.false_negatives,
                (false, false) => &mut counts.true_negatives,
            };
            *count += 1;
        }
        counts
    }

    /// Of what was called positive, the share that is; 0 when nothing was.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Of the positives, the share that was found; 0 when there are none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// The harmonic mean of precision and recall; 0 when both are.
    #[must_use]
    pub fn f1(&self) -> f64 {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }

    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }
}

/// The quality of probabilities at a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rows: u64,
    pub positives: u64,
    /// A row is called positive at this probability or above.
    pub threshold: f64,
    pub confusion: Confusion,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// The area under the precision-recall curve; absent without positives.
    pub average_precision: Option<f64>,
    /// Absent when one class is.
    pub roc_auc: Option<f64>,
    /// The mean squared error of the probability.
    pub brier: f64,
    pub log_loss: f64,
    /// Of the cards that score highest each day, the share with fraud on that day; absent without card keys.
    pub top_cards: Option<f64>,
}

impl Metrics {
    /// # Errors
    /// When the lengths differ, there are no rows, or a number is no probability.
    pub fn of(probabilities: &[f64], labels: &[bool], threshold: f64) -> Result<Self, ModelError> {
        let ranking = Ranking::new(probabilities, labels)?;
        if let Some((row, &value)) = probabilities.iter().enumerate().find(|(_, p)| !(0.0..=1.0).contains(*p)) {
            return Err(ModelError::Score { row, value });
        }
        let confusion = Confusion::at(threshold, probabilities, labels);
        Ok(Self {
            rows: confusion.rows(),
            positives: ranking.positives(),
            threshold,
            confusion,
            precision: confusion.precision(),
            recall: confusion.recall(),
            f1: confusion.f1(),
            average_precision: ranking.average_precision(),
            roc_auc: ranking.roc_auc(),
            brier: brier(probabilities, labels),
            log_loss: log_loss(probabilities, labels),
            top_cards: None,
        })
    }

    #[must_use]
    pub fn with_top_cards(self, top_cards: Option<f64>) -> Self {
        Self { top_cards, ..self }
    }
}

/// The mean squared difference of probability and outcome; 0 for no rows.
#[must_use]
pub fn brier(probabilities: &[f64], labels: &[bool]) -> f64 {
    mean(probabilities.iter().zip(labels).map(|(&p, &label)| {
        let miss = if label { 1.0 - p } else { p };
        miss * miss
    }))
}

/// The mean of -ln(probability of the outcome), probabilities kept 2.2e-16 away from 0 and 1; 0 for no rows.
#[must_use]
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> f64 {
    mean(probabilities.iter().zip(labels).map(|(&p, &label)| {
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        -(if label { p } else { 1.0 - p }).ln()
    }))
}

/// Of the `top` cards that score highest each day, the share with fraud on that day, averaged over the days.
///
/// A card's score is the highest of its rows on that day. Cards that tie for the last places count with the share of
/// them that fits, so the order of rows does not matter. A day with fewer cards counts those it has. None when there
/// are no rows or `top` is 0.
#[must_use]
pub fn top_card_precision(scores: &[f64], labels: &[bool], cards: &[u64], days: &[i64], top: usize) -> Option<f64> {
    let mut by_card: BTreeMap<(i64, u64), (f64, bool)> = BTreeMap::new();
    for (((&score, &label), &card), &day) in scores.iter().zip(labels).zip(cards).zip(days) {
        let (highest, fraud) = by_card.entry((day, card)).or_insert((score, label));
        *highest = highest.max(score);
        *fraud |= label;
    }
    if by_card.is_empty() || top == 0 {
        return None;
    }
    let mut by_day: BTreeMap<i64, Vec<(f64, bool)>> = BTreeMap::new();
    for ((day, _), card) in by_card {
        by_day.entry(day).or_default().push(card);
    }
    Some(mean(by_day.into_values().map(|cards| top_share(cards, top))))
}

#[allow(clippy::cast_precision_loss, reason = "counts of cards are far below 2^53")]
fn top_share(mut cards: Vec<(f64, bool)>, top: usize) -> f64 {
    cards.sort_unstable_by(|(one, _), (other, _)| other.total_cmp(one));
    let top = top.min(cards.len());
    let (mut taken, mut frauds) = (0, 0.0);
    #[allow(clippy::float_cmp, reason = "only the same number is a tie")]
    for tied in cards.chunk_by(|(one, _), (other, _)| one == other) {
        let fits = tied.len().min(top - taken);
        frauds += tied.iter().filter(|(_, fraud)| *fraud).count() as f64 * fits as f64 / tied.len() as f64;
        taken += fits;
        if taken == top {
            break;
        }
    }
    frauds / top as f64
}

/// How a metric varies over folds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub mean: f64,
    /// The sample standard deviation (n - 1); 0 for fewer than two folds.
    pub deviation: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// None for no values.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a handful of folds")]
    pub fn of(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        let average = mean(values.iter().copied());
        let squares: f64 = values.iter().map(|value| (value - average) * (value - average)).sum();
        Some(Self {
            mean: average,
            deviation: if values.len() < 2 { 0.0 } else { (squares / (values.len() - 1) as f64).sqrt() },
            min: values.iter().copied().fold(first, f64::min),
            max: values.iter().copied().fold(first, f64::max),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[allow(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests;
