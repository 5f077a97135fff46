//! Logistic regression on scaled features: linfa-logistic finds the start on a sample, Newton's method ends on all rows.
//!
//! Alone, linfa's search by L-BFGS takes three to four times the CPU of scikit-learn's.

mod newton;
mod params;
mod scaler;

use linfa::traits::{Fit, PredictInplace};
use linfa::{Dataset, DatasetBase, dataset::AsSingleTargets};
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2, ArrayBase, ArrayView1, ArrayView2, Axis, Data, Ix2};
use serde::{Deserialize, Serialize};

use newton::Newton;
pub use params::{LogisticParams, LogisticSettings, LogisticValidParams};
pub use scaler::{Scaler, Scaling};

use super::{Classifier, Contributions, ModelError, Scale};

/// A fitted line in the space of scaled features; its value is the log-odds of a positive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Logistic {
    scaler: Scaler,
    intercept: f64,
    weights: Vec<f64>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    scaler: Scaler,
    intercept: f64,
    weights: Vec<f64>,
}

impl Logistic {
    /// The log-odds at the centre of all features.
    #[must_use]
    pub const fn intercept(&self) -> f64 {
        self.intercept
    }

    /// What one unit of each scaled feature adds to the log-odds.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    #[must_use]
    pub const fn scaler(&self) -> &Scaler {
        &self.scaler
    }

    /// A line from elsewhere.
    ///
    /// # Errors
    /// When there is not one finite weight per feature of the scaler.
    pub(super) fn of(scaler: Scaler, intercept: f64, weights: Vec<f64>) -> Result<Self, ModelError> {
        Self::try_from(Stored { scaler, intercept, weights })
    }

    /// ln(p / (1 - p)) of one row.
    #[must_use]
    pub fn log_odds(&self, row: &[f32]) -> f64 {
        self.terms(row).fold(self.intercept, |sum, term| sum + term)
    }

    fn terms(&self, row: &[f32]) -> impl Iterator<Item = f64> {
        row.iter().zip(&self.weights).enumerate().map(|(feature, (&x, weight))| weight * self.scaler.scale(feature, x))
    }
}

impl Classifier for Logistic {
    fn width(&self) -> usize {
        self.weights.len()
    }

    fn probability(&self, row: &[f32]) -> f64 {
        sigmoid(self.log_odds(row))
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        Contributions { base: self.intercept, features: self.terms(row).collect() }
    }

    fn scale(&self) -> Scale {
        Scale::LogOdds
    }
}

impl<D: Data<Elem = f32>> PredictInplace<ArrayBase<D, Ix2>, Array1<bool>> for Logistic {
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, labels: &mut Array1<bool>) {
        labels.assign(&self.probabilities(records.view()).mapv(|probability| probability >= 0.5));
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<bool> {
        Array1::from_elem(records.nrows(), false)
    }
}

impl<D: Data<Elem = f32>, T: AsSingleTargets<Elem = bool>> Fit<ArrayBase<D, Ix2>, T, ModelError>
    for LogisticValidParams
{
    type Object = Logistic;

    /// # Errors
    /// When there are no rows or features, the labels are all the same, a value is not finite, or the search for the
    /// minimum fails.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Logistic, ModelError> {
        let (records, labels) = (dataset.records().view(), dataset.as_single_targets());
        let positives = labels.iter().filter(|&&label| label).count();
        check(records, labels, positives)?;
        let (scaler, scaled) = Scaler::fit(records, self.settings().scaling)?;
        let labels = labels.to_vec();
        let start = self.start(scaled.view(), &labels, positives)?;
        let newton = Newton { rows: scaled.view(), labels: &labels, l2: self.settings().l2 };
        let mut weights = newton.finish(start, self.settings().tolerance).to_vec();
        let intercept = weights.pop().unwrap_or_default();
        Ok(Logistic { scaler, intercept, weights })
    }
}

/// The length of the mean gradient at which the start is near enough.
const START_GRADIENT: f64 = 1e-4;
/// linfa finds its minimum on at most this many rows, spread evenly.
const SAMPLE_ROWS: usize = 40_000;

impl LogisticValidParams {
    /// The weights and, last, the intercept.
    fn start(&self, scaled: ArrayView2<'_, f64>, labels: &[bool], positives: usize) -> Result<Array1<f64>, ModelError> {
        let mut start = Array1::zeros(scaled.ncols() + 1);
        start[scaled.ncols()] = (positives as f64 / (labels.len() - positives) as f64).ln();
        let every = labels.len().div_ceil(SAMPLE_ROWS);
        let sample_labels: Array1<bool> = labels.iter().copied().step_by(every).collect();
        if sample_labels.iter().all(|&label| label == sample_labels[0]) {
            return Ok(start);
        }
        let sample = scaled.slice_axis(Axis(0), ndarray::Slice::new(0, None, every as isize)).to_owned();
        self.minimise(sample, sample_labels, start)
    }

    /// linfa calls the more frequent class positive, whatever it stands for: the signs are turned where needed.
    fn minimise(
        &self,
        scaled: Array2<f64>,
        labels: Array1<bool>,
        start: Array1<f64>,
    ) -> Result<Array1<f64>, ModelError> {
        let rows = labels.len();
        let frauds = labels.iter().filter(|&&label| label).count();
        let sign = if 2 * frauds < rows { -1.0 } else { 1.0 };
        let settings = self.settings();
        let fitted = LogisticRegression::default()
            .alpha(settings.l2)
            .max_iterations(settings.steps_max)
            .gradient_tolerance(START_GRADIENT * rows as f64)
            .initial_params(start * sign)
            .fit(&Dataset::new(scaled, labels))
            .map_err(|error| ModelError::Linfa { reason: error.to_string() })?;
        let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
        let line: Array1<f64> = fitted.params().iter().chain([&fitted.intercept()]).map(|term| sign * term).collect();
        if line.iter().all(|term| term.is_finite()) {
            Ok(line)
        } else {
            Err(ModelError::Linfa { reason: "the search for the minimum left the finite numbers".to_owned() })
        }
    }
}

fn check(records: ArrayView2<'_, f32>, labels: ArrayView1<'_, bool>, positives: usize) -> Result<(), ModelError> {
    if labels.is_empty() || records.ncols() == 0 {
        return Err(ModelError::Empty { what: if labels.is_empty() { "rows" } else { "features" } });
    }
    if records.nrows() != labels.len() {
        return Err(ModelError::Length { what: "the labels", expected: records.nrows(), found: labels.len() });
    }
    if positives == 0 || positives == labels.len() {
        return Err(ModelError::OneClass { rows: labels.len(), label: positives > 0 });
    }
    for (feature, column) in records.columns().into_iter().enumerate() {
        if let Some((row, &value)) = column.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(ModelError::NotFinite { feature: feature.to_string(), row, value });
        }
    }
    Ok(())
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl TryFrom<Stored> for Logistic {
    type Error = ModelError;

    fn try_from(stored: Stored) -> Result<Self, ModelError> {
        let refuse = |reason: &str| Err(ModelError::Artifact { reason: reason.to_owned() });
        if stored.weights.is_empty() || stored.weights.len() != stored.scaler.width() {
            return refuse("a logistic regression needs one weight and one scale per feature");
        }
        if !stored.intercept.is_finite() || stored.weights.iter().any(|weight| !weight.is_finite()) {
            return refuse("the weights of a logistic regression must be finite");
        }
        Ok(Self { scaler: stored.scaler, intercept: stored.intercept, weights: stored.weights })
    }
}

impl From<Logistic> for Stored {
    fn from(model: Logistic) -> Self {
        Self { scaler: model.scaler, intercept: model.intercept, weights: model.weights }
    }
}

#[cfg(test)]
mod tests;
