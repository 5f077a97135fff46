//! What the plots of a model card are drawn from: few points, however many rows.

use serde::{Deserialize, Serialize};

use super::{Confusion, ModelError, Ranking};

/// The shape of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Recall and precision, from the highest threshold to the lowest.
    pub precision_recall: Vec<[f64; 2]>,
    /// False and true positive rate, from (0, 0) to (1, 1).
    pub roc: Vec<[f64; 2]>,
    pub calibration: Vec<CalibrationBin>,
    pub histogram: ScoreHistogram,
}

/// Rows whose probability lies in one of ten equal ranges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    pub rows: u64,
    /// The mean probability.
    pub predicted: f64,
    /// The share of positives.
    pub observed: f64,
}

/// How many rows of each class have a probability in each of as many equal ranges of 0 to 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreHistogram {
    pub positives: Vec<u64>,
    pub negatives: Vec<u64>,
}

/// Points of one kind; a curve has at most twice as many and the last.
const POINTS_MAX: usize = 200;
const CALIBRATION_BINS: usize = 10;
const HISTOGRAM_BINS: usize = 40;

impl Curves {
    /// # Errors
    /// When the lengths differ, there are no rows, or a probability is not finite.
    pub fn of(probabilities: &[f64], labels: &[bool]) -> Result<Self, ModelError> {
        let ranking = Ranking::new(probabilities, labels)?;
        let counts: Vec<Confusion> = ranking.steps().iter().map(|step| ranking.confusion(step)).collect();
        let precision_recall = thinned(counts.iter().map(|counts| [counts.recall(), counts.precision()]));
        let rates = counts.iter().map(|counts| {
            let negatives = counts.false_positives + counts.true_negatives;
            [counts.false_positives as f64 / negatives.max(1) as f64, counts.recall()]
        });
        Ok(Self {
            precision_recall,
            roc: thinned(std::iter::once([0.0, 0.0]).chain(rates)),
            calibration: calibration(probabilities, labels),
            histogram: histogram(probabilities, labels),
        })
    }
}

/// The first and last point, and of those between each that lies a step away from the last one taken. Of the jumps of
/// precision among the highest scores only so many are taken.
fn thinned(mut points: impl Iterator<Item = [f64; 2]>) -> Vec<[f64; 2]> {
    let step = 1.0 / POINTS_MAX as f64;
    let mut taken: Vec<[f64; 2]> = points.next().into_iter().collect();
    let mut left_out = None;
    for point in points {
        let far = taken.last().is_none_or(|last| {
            (point[0] - last[0]).abs() >= step || ((point[1] - last[1]).abs() >= step && taken.len() < POINTS_MAX)
        });
        left_out = (!far).then_some(point);
        if far {
            taken.push(point);
        }
    }
    taken.extend(left_out);
    taken
}

fn bin(probability: f64, bins: usize) -> usize {
    ((probability * bins as f64) as usize).min(bins - 1)
}

fn calibration(probabilities: &[f64], labels: &[bool]) -> Vec<CalibrationBin> {
    let mut sums = [(0_u64, 0.0, 0_u64); CALIBRATION_BINS];
    for (&probability, &label) in probabilities.iter().zip(labels) {
        let (rows, sum, positives) = &mut sums[bin(probability, CALIBRATION_BINS)];
        *rows += 1;
        *sum += probability;
        *positives += u64::from(label);
    }
    sums.into_iter()
        .filter(|(rows, ..)| *rows > 0)
        .map(|(rows, sum, positives)| CalibrationBin {
            rows,
            predicted: sum / rows as f64,
            observed: positives as f64 / rows as f64,
        })
        .collect()
}

fn histogram(probabilities: &[f64], labels: &[bool]) -> ScoreHistogram {
    let mut histogram = ScoreHistogram { positives: vec![0; HISTOGRAM_BINS], negatives: vec![0; HISTOGRAM_BINS] };
    for (&probability, &label) in probabilities.iter().zip(labels) {
        let counts = if label { &mut histogram.positives } else { &mut histogram.negatives };
        counts[bin(probability, HISTOGRAM_BINS)] += 1;
    }
    histogram
}

#[cfg(test)]
mod tests;
