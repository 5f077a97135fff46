//! Gradient boosting of trees on the logistic loss, second order, over bins.

mod gradients;
mod grow;
mod params;

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, ArrayView1, ArrayView2, Data, Ix2, s};
use serde::{Deserialize, Serialize};

use super::random::Random;
use super::tree::{BinSettings, Bins, Cuts, Trees, check_training};
use super::{Classifier, Contributions, ModelError, Samples, Scale};
use gradients::{Gradients, auc};
use grow::Grower;
pub use params::{BoostParams, BoostSettings, BoostValidParams};

/// A fitted booster: the log-odds of a row are the sum of one leaf per tree, on top of a start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boost {
    start: f32,
    trees: Trees,
    /// The AUC of the held-out part after each round; empty when nothing was held out.
    validation_auc: Vec<f64>,
}

impl Boost {
    /// The number of trees kept.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.trees.len()
    }

    /// The log-odds before the first tree.
    #[must_use]
    pub fn start(&self) -> f64 {
        f64::from(self.start)
    }

    pub(super) const fn of(start: f32, trees: Trees) -> Self {
        Self { start, trees, validation_auc: Vec::new() }
    }

    pub(super) const fn flat(&self) -> &Trees {
        &self.trees
    }

    /// The AUC of the held-out part after each round that was tried, also of those not kept.
    #[must_use]
    pub fn validation_auc(&self) -> &[f64] {
        &self.validation_auc
    }

    /// ln(p / (1 - p)) of one row.
    #[must_use]
    pub fn log_odds(&self, row: &[f32]) -> f64 {
        f64::from(self.start) + self.trees.sum(row)
    }

    fn shifted(&self, Contributions { base, features }: Contributions) -> Contributions {
        Contributions { base: base + f64::from(self.start), features }
    }
}

impl Classifier for Boost {
    fn width(&self) -> usize {
        self.trees.width()
    }

    fn probability(&self, row: &[f32]) -> f64 {
        logistic(self.log_odds(row))
    }

    fn probabilities(&self, records: ArrayView2<'_, f32>) -> Array1<f64> {
        self.trees.sums(records).into_iter().map(|sum| logistic(f64::from(self.start) + sum)).collect()
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        self.shifted(self.trees.contributions(row))
    }

    fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        self.trees.contributions_of(rows).into_iter().map(|told| self.shifted(told)).collect()
    }

    fn scale(&self) -> Scale {
        Scale::LogOdds
    }
}

impl<D: Data<Elem = f32>> PredictInplace<ArrayBase<D, Ix2>, Array1<bool>> for Boost {
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, labels: &mut Array1<bool>) {
        labels.assign(&self.probabilities(records.view()).mapv(|probability| probability >= 0.5));
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<bool> {
        Array1::from_elem(records.nrows(), false)
    }
}

impl<D: Data<Elem = f32>, T: AsSingleTargets<Elem = bool>> Fit<ArrayBase<D, Ix2>, T, ModelError> for BoostValidParams {
    type Object = Boost;

    /// Holds out the last rows, as many as the parameters say, to stop early: give rows in the order of time. Where a
    /// class comes in bursts, it is a little more or less of them, so that both parts have a tenth of each class.
    ///
    /// # Errors
    /// When there are no rows, the labels of either part are all the same, or a value is not finite.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Boost, ModelError> {
        let (records, labels) = (dataset.records().view(), dataset.as_single_targets());
        let held_out = (records.nrows() as f64 * self.settings().validation_share).round() as usize;
        if held_out == 0 {
            return self.fit_parts(Part { records, labels }, None);
        }
        let cut = both_classes(labels, records.nrows().saturating_sub(held_out));
        let train = Part { records: records.slice(s![..cut, ..]), labels: labels.slice(s![..cut]) };
        let held_out = Part { records: records.slice(s![cut.., ..]), labels: labels.slice(s![cut..]) };
        self.fit_parts(train, Some(held_out))
    }
}

/// Rows to learn from, or to validate on.
#[derive(Clone, Copy)]
struct Part<'a> {
    records: ArrayView2<'a, f32>,
    labels: ArrayView1<'a, bool>,
}

impl<'a> From<&'a Samples> for Part<'a> {
    fn from(samples: &'a Samples) -> Self {
        Self { records: samples.records(), labels: samples.labels() }
    }
}

impl BoostValidParams {
    /// With rows of the caller's choice to stop early on, in place of the last ones.
    ///
    /// # Errors
    /// When a part has no rows or but one class, or the two have other features.
    pub fn fit_validated(&self, train: &Samples, held_out: &Samples) -> Result<Boost, ModelError> {
        if train.width() != held_out.width() {
            return Err(ModelError::FeatureCount { expected: train.width(), found: held_out.width() });
        }
        self.fit_parts(train.into(), Some(held_out.into()))
    }

    fn fit_parts(&self, train: Part<'_>, held_out: Option<Part<'_>>) -> Result<Boost, ModelError> {
        let settings = self.settings();
        check_training(train.records, train.labels)?;
        if let Some(part) = held_out {
            check_training(part.records, part.labels)?;
        }
        let binning = BinSettings { bins_max: settings.bins_max, positive_share: settings.positive_bin_share };
        let cuts = Cuts::new(train.records, train.labels, binning);
        let bins = cuts.apply(train.records);
        let mut held_out = held_out.map(|part| HeldOut::new(part, &cuts));

        let positives = train.labels.iter().filter(|&&label| label).count() as f64;
        let start = (positives / (train.labels.len() as f64 - positives)).ln() as f32;
        let labels = train.labels.to_vec();
        let mut log_odds = vec![start; labels.len()];
        let mut trees = Trees::new(bins.width());
        let mut gradients = Gradients::new(labels.len());
        let mut grower = Grower::new(&bins, &cuts, settings);
        let mut best = Best::default();
        let mut validation_auc = Vec::new();
        for round in 0..settings.rounds_max {
            let mut random = Random::new(settings.seed, round as u64);
            gradients.compute(&log_odds, &labels);
            let tree = grower.grow(&gradients, &mut random, &mut log_odds)?;
            if let Some(part) = &mut held_out {
                for (row, sum) in part.log_odds.iter_mut().enumerate() {
                    *sum += tree.value(tree.leaf(&part.bins, row));
                }
                validation_auc.push(auc(&part.log_odds, &part.labels));
            }
            let (nodes, values) = tree.finish();
            trees.push(nodes, values);
            if let Some(&auc) = validation_auc.last()
                && best.is_stale(round, auc, settings.patience)
            {
                break;
            }
        }
        if held_out.is_some() {
            trees.truncate(best.round + 1);
        }
        Ok(Boost { start, trees, validation_auc })
    }
}

/// The cut nearest to `cut` with a tenth of each class, or one row, on either side; `cut` itself where there is none.
fn both_classes(labels: ArrayView1<'_, bool>, cut: usize) -> usize {
    let bounds = [true, false].map(|class| {
        let of_class = labels.iter().enumerate().filter(|(_, label)| **label == class).map(|(row, _)| row);
        let rows: Vec<usize> = of_class.collect();
        let tenth = rows.len().div_ceil(10);
        let first = tenth.checked_sub(1).and_then(|last| rows.get(last)).map(|row| row + 1);
        first.zip(rows.get(rows.len() - tenth).copied())
    });
    let [Some(of_positives), Some(of_negatives)] = bounds else { return cut };
    let (from, to) = (of_positives.0.max(of_negatives.0), of_positives.1.min(of_negatives.1));
    if from <= to { cut.clamp(from, to) } else { cut }
}

struct HeldOut {
    bins: Bins,
    labels: Vec<bool>,
    log_odds: Vec<f32>,
}

impl HeldOut {
    fn new(part: Part<'_>, cuts: &Cuts) -> Self {
        Self { bins: cuts.apply(part.records), labels: part.labels.to_vec(), log_odds: vec![0.0; part.labels.len()] }
    }
}

#[derive(Default)]
struct Best {
    round: usize,
    auc: f64,
}

impl Best {
    fn is_stale(&mut self, round: usize, auc: f64, patience: usize) -> bool {
        if auc > self.auc {
            *self = Self { round, auc };
        }
        round - self.round >= patience
    }
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests;
