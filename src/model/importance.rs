//! What a model loses when a feature is taken from it.

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::random::Random;
use super::{Classifier, ModelError, Ranking, Samples, Spread};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportanceSettings {
    /// Shuffles of each feature; 0 leaves importances out.
    pub repeats: usize,
    /// Rows to predict at most, drawn by chance from more.
    pub rows_max: usize,
}

impl Default for ImportanceSettings {
    fn default() -> Self {
        Self { repeats: 3, rows_max: 20_000 }
    }
}

/// How much average precision falls when a feature's values are shuffled among the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    pub feature: String,
    /// Over the repeats; about 0, or below, for a feature that is not used.
    pub loss: Spread,
}

/// One entry per feature, the most important first. Empty when there are no positives among the rows drawn.
///
/// # Errors
/// When the model reads another number of features.
pub fn permutation_importance(
    model: &impl Classifier,
    samples: &Samples,
    settings: &ImportanceSettings,
    seed: u64,
) -> Result<Vec<Importance>, ModelError> {
    if model.width() != samples.width() {
        return Err(ModelError::FeatureCount { expected: model.width(), found: samples.width() });
    }
    let drawn = drawn(samples, settings.rows_max, seed)?;
    let labels = drawn.labels().to_vec();
    let precision = |records: &Array2<f32>| -> Result<f64, ModelError> {
        let scores = model.probabilities(records.view()).to_vec();
        Ok(Ranking::new(&scores, &labels)?.average_precision().unwrap_or_default())
    };
    if settings.repeats == 0 || drawn.positives() == 0 {
        return Ok(Vec::new());
    }
    let whole = precision(&drawn.records().to_owned())?;
    let mut importances: Vec<Importance> = (0..samples.width())
        .into_par_iter()
        .map(|feature| {
            let mut records = drawn.records().to_owned();
            let losses = (0..settings.repeats).map(|repeat| {
                let mut values = drawn.records().column(feature).to_vec();
                Random::new(seed, (feature * settings.repeats + repeat) as u64 + 1).shuffle(&mut values);
                records.column_mut(feature).iter_mut().zip(values).for_each(|(to, value)| *to = value);
                Ok(whole - precision(&records)?)
            });
            let losses: Vec<f64> = losses.collect::<Result<_, ModelError>>()?;
            let feature = samples.features()[feature].clone();
            Ok(Importance { feature, loss: Spread::of(&losses).unwrap_or_default() })
        })
        .collect::<Result<_, ModelError>>()?;
    importances.sort_by(|one, other| other.loss.mean.total_cmp(&one.loss.mean));
    Ok(importances)
}

fn drawn(samples: &Samples, rows_max: usize, seed: u64) -> Result<Samples, ModelError> {
    let mut rows: Vec<usize> = (0..samples.rows()).collect();
    if rows.len() > rows_max {
        Random::new(seed, 0).shuffle(&mut rows);
        rows.truncate(rows_max);
        rows.sort_unstable();
    }
    samples.select(&rows)
}

#[cfg(test)]
mod tests;
