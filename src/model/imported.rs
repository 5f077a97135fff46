//! A model from elsewhere becomes a version: measured on rows of ours, and judged by the same gate as our own.

use super::calibration::{Calibrated, Calibration};
use super::drift::{BASELINE_FORMAT, Baseline, Histogram};
use super::folds::newest;
use super::onnx::Imported;
use super::registry::Recorded;
use super::table::Prepared;
use super::trainer::gate_refusals;
use super::{Classifier, Metrics, ModelError, Ranking, Threshold, TrainSettings, TrainedModel};

/// What the rows say of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub model: TrainedModel,
    pub recorded: Recorded,
    /// Why the gate refuses it.
    pub refusals: Vec<String>,
    pub baseline: Baseline,
    /// Rows that the threshold was chosen on, and the newest, which were tested.
    pub rows: (usize, usize),
}

/// Takes the model as it is; `threshold`, where none is given, is chosen on all rows but the newest `test_share`, as in
/// training. Whether it has learned from these very rows nobody knows: then it looks better than it is.
///
/// # Errors
/// When there are too few rows, or the model does not fit them.
pub fn measure(
    imported: &Imported,
    prepared: Prepared,
    settings: &TrainSettings,
    threshold: Option<f64>,
) -> Result<Measured, ModelError> {
    let samples = &prepared.samples;
    if imported.model.width() != samples.width() {
        return Err(ModelError::FeatureCount { expected: imported.model.width(), found: samples.width() });
    }
    let split = newest(samples.times_us(), 0, settings.test_share)?;
    let probabilities = imported.model.probabilities(samples.records());
    let of = |rows: &[usize]| -> (Vec<f64>, Vec<bool>) {
        rows.iter().map(|&row| (probabilities[row], samples.labels()[row])).unzip()
    };
    let (before, labels) = of(&split.train);
    let threshold = match threshold {
        Some(threshold) => threshold,
        None => {
            Threshold::choose(&Ranking::new(&before, &labels)?, &settings.gate)
                .ok_or(ModelError::Empty { what: "rows to choose a threshold on" })?
                .score
        }
    };
    let out_of_fold = Metrics::of(&before, &labels, threshold)?;
    let (newest, labels) = of(&split.test);
    let test = Metrics::of(&newest, &labels, threshold)?;
    let times = || samples.times_us().iter().copied();
    let baseline = Baseline {
        format: BASELINE_FORMAT,
        from_us: times().min().unwrap_or_default(),
        to_us: times().max().unwrap_or_default(),
        columns: prepared.baseline,
        score: Histogram::of_numbers(&newest),
    };
    let model = TrainedModel {
        features: imported.encoding.features(),
        threshold,
        calibrated: Calibrated { model: imported.model.clone(), calibration: Calibration::Identity },
    };
    Ok(Measured {
        recorded: Recorded {
            family: imported.model.name(),
            threshold,
            calibration: Calibration::Identity,
            out_of_fold: out_of_fold.clone(),
            test,
        },
        refusals: gate_refusals(&settings.gate, &out_of_fold).iter().map(ToString::to_string).collect(),
        baseline,
        rows: (split.train.len(), split.test.len()),
        model,
    })
}
