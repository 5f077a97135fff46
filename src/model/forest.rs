//! A random forest with probabilities in its leaves.

mod grow;
mod params;

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, ArrayView1, ArrayView2, Data, Ix2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::random::Random;
use super::tree::{BinSettings, Cuts, Trees, check_training};
use super::{Classifier, Contributions, ModelError, Scale};
use grow::{Buffers, Grower};
pub use params::{ForestParams, ForestSettings, ForestValidParams};

/// A fitted forest: the probability of a row is the mean over the trees of the share of positives in its leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forest {
    trees: Trees,
}

impl Forest {
    /// The number of nodes of all trees.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.trees.nodes()
    }

    #[must_use]
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    pub(super) const fn of(trees: Trees) -> Self {
        Self { trees }
    }

    pub(super) const fn flat(&self) -> &Trees {
        &self.trees
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.trees.len() as f64
    }

    fn means(&self, Contributions { base, features }: Contributions) -> Contributions {
        Contributions { base: self.mean(base), features: features.into_iter().map(|sum| self.mean(sum)).collect() }
    }
}

impl Classifier for Forest {
    fn width(&self) -> usize {
        self.trees.width()
    }

    fn probability(&self, row: &[f32]) -> f64 {
        self.mean(self.trees.sum(row))
    }

    fn probabilities(&self, records: ArrayView2<'_, f32>) -> Array1<f64> {
        self.trees.sums(records).into_iter().map(|sum| self.mean(sum)).collect()
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        self.means(self.trees.contributions(row))
    }

    fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        self.trees.contributions_of(rows).into_iter().map(|told| self.means(told)).collect()
    }

    fn scale(&self) -> Scale {
        Scale::Probability
    }
}

impl<D: Data<Elem = f32>> PredictInplace<ArrayBase<D, Ix2>, Array1<bool>> for Forest {
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, labels: &mut Array1<bool>) {
        labels.assign(&self.probabilities(records.view()).mapv(|probability| probability >= 0.5));
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<bool> {
        Array1::from_elem(records.nrows(), false)
    }
}

impl<D: Data<Elem = f32>, T: AsSingleTargets<Elem = bool>> Fit<ArrayBase<D, Ix2>, T, ModelError> for ForestValidParams {
    type Object = Forest;

    /// # Errors
    /// When there are no rows, the labels are all the same, or a value is not finite.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Forest, ModelError> {
        self.fit_views(dataset.records().view(), dataset.as_single_targets())
    }
}

impl ForestValidParams {
    fn fit_views(&self, records: ArrayView2<'_, f32>, labels: ArrayView1<'_, bool>) -> Result<Forest, ModelError> {
        let settings = self.settings();
        check_training(records, labels)?;
        let binning = BinSettings { bins_max: settings.bins_max, positive_share: settings.positive_bin_share };
        let cuts = Cuts::new(records, labels, binning);
        let bins = cuts.apply(records);
        let labels = labels.to_vec();
        let grower = Grower::new(&bins, &cuts, &labels, settings);
        let grown: Result<Vec<_>, ModelError> = (0..settings.trees)
            .into_par_iter()
            .with_max_len(1)
            .map_init(Buffers::default, |buffers, tree| {
                let tree = grower.grow(buffers, Random::new(settings.seed, tree as u64))?;
                Ok(tree.finish())
            })
            .collect();
        let mut trees = Trees::new(bins.width());
        for (nodes, values) in grown? {
            trees.push(nodes, values);
        }
        Ok(Forest { trees })
    }
}

#[cfg(test)]
mod tests;
