//! From scores to probabilities that mean what they say, by maps that keep the order of rows.

mod isotonic;
mod platt;

use serde::{Deserialize, Serialize};

pub use isotonic::Isotonic;
pub(super) use platt::EDGE as PLATT_EDGE;
pub use platt::Platt;

use super::metrics::{brier, log_loss};
use super::{Classifier, Contributions, ModelError, Scale};

/// A strictly increasing map of probabilities (but for rounding): it changes no ranking, and so no precision or recall
/// that can be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Calibration {
    /// What the model says is taken as it is.
    Identity,
    Platt(Platt),
    Isotonic(Isotonic),
}

/// How a calibration is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    Identity,
    Platt,
    Isotonic,
}

impl CalibrationMethod {
    pub const ALL: [Self; 3] = [Self::Identity, Self::Platt, Self::Isotonic];

    /// # Errors
    /// When the lengths differ or there are no rows.
    pub fn fit(self, scores: &[f64], labels: &[bool]) -> Result<Calibration, ModelError> {
        if scores.len() != labels.len() {
            return Err(ModelError::Length { what: "the labels", expected: scores.len(), found: labels.len() });
        }
        if scores.is_empty() {
            return Err(ModelError::Empty { what: "rows" });
        }
        Ok(match self {
            Self::Identity => Calibration::Identity,
            Self::Platt => Platt::fit(scores, labels).map_or(Calibration::Identity, Calibration::Platt),
            Self::Isotonic => Calibration::Isotonic(Isotonic::fit(scores, labels)),
        })
    }
}

impl Calibration {
    #[must_use]
    pub fn apply(&self, score: f64) -> f64 {
        match self {
            Self::Identity => score,
            Self::Platt(platt) => platt.apply(score),
            Self::Isotonic(isotonic) => isotonic.apply(score),
        }
    }

    #[must_use]
    pub fn apply_all(&self, scores: &[f64]) -> Vec<f64> {
        scores.iter().map(|&score| self.apply(score)).collect()
    }
}

/// One way of calibrating, measured on folds that it was not fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationTrial {
    pub method: CalibrationMethod,
    pub brier: f64,
    pub log_loss: f64,
}

/// The calibration with the lowest log loss, and how each did.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenCalibration {
    pub method: CalibrationMethod,
    /// Fitted on all rows.
    pub calibration: Calibration,
    /// The scores of each fold, calibrated by the chosen method on the other folds: what to measure on.
    pub probabilities: Vec<f64>,
    pub trials: Vec<CalibrationTrial>,
}

/// Chooses by predictions of rows that the models did not learn from; `folds` names the fold of each. With one fold
/// alone nothing can be held out, and the scores stay as they are.
///
/// # Errors
/// When the lengths differ or there are no rows.
pub fn choose(scores: &[f64], labels: &[bool], folds: &[usize]) -> Result<ChosenCalibration, ModelError> {
    if folds.len() != scores.len() {
        return Err(ModelError::Length { what: "the folds", expected: scores.len(), found: folds.len() });
    }
    let count = folds.iter().max().map_or(0, |last| last + 1);
    let methods = if count < 2 { &CalibrationMethod::ALL[..1] } else { &CalibrationMethod::ALL[..] };
    let mut trials = Vec::new();
    let mut best: Option<(f64, CalibrationMethod, Vec<f64>)> = None;
    for &method in methods {
        let probabilities = across_folds(method, scores, labels, folds, count)?;
        let trial = CalibrationTrial {
            method,
            brier: brier(&probabilities, labels),
            log_loss: log_loss(&probabilities, labels),
        };
        trials.push(trial);
        if best.as_ref().is_none_or(|(loss, ..)| trial.log_loss < *loss) {
            best = Some((trial.log_loss, method, probabilities));
        }
    }
    let (_, method, probabilities) = best.ok_or(ModelError::Empty { what: "ways of calibrating" })?;
    Ok(ChosenCalibration { method, calibration: method.fit(scores, labels)?, probabilities, trials })
}

fn across_folds(
    method: CalibrationMethod,
    scores: &[f64],
    labels: &[bool],
    folds: &[usize],
    count: usize,
) -> Result<Vec<f64>, ModelError> {
    let mut probabilities = scores.to_vec();
    if method == CalibrationMethod::Identity {
        return Ok(probabilities);
    }
    for fold in 0..count {
        let (known_scores, known_labels): (Vec<f64>, Vec<bool>) = folds
            .iter()
            .zip(scores.iter().zip(labels))
            .filter(|(other, _)| **other != fold)
            .map(|(_, (&score, &label))| (score, label))
            .unzip();
        if known_scores.is_empty() {
            continue;
        }
        let calibration = method.fit(&known_scores, &known_labels)?;
        for (probability, _) in probabilities.iter_mut().zip(folds).filter(|(_, of)| **of == fold) {
            *probability = calibration.apply(*probability);
        }
    }
    Ok(probabilities)
}

/// A model whose probabilities are calibrated. Contributions are those of the model beneath.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibrated<M> {
    pub model: M,
    pub calibration: Calibration,
}

impl<M: Classifier> Classifier for Calibrated<M> {
    fn width(&self) -> usize {
        self.model.width()
    }

    fn probability(&self, row: &[f32]) -> f64 {
        self.calibration.apply(self.model.probability(row))
    }

    fn probabilities(&self, records: ndarray::ArrayView2<'_, f32>) -> ndarray::Array1<f64> {
        self.model.probabilities(records).mapv_into(|score| self.calibration.apply(score))
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        self.model.contributions(row)
    }

    fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        self.model.contributions_of(rows)
    }

    fn scale(&self) -> Scale {
        self.model.scale()
    }
}

#[cfg(test)]
mod tests;
