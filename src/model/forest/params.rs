use linfa::ParamGuard;
use serde::{Deserialize, Serialize};

use crate::model::ModelError;

/// How to grow a forest; the default is a good start for rare positives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForestSettings {
    pub trees: usize,
    /// Steps from the root of a tree to its leaves, at most.
    pub depth_max: usize,
    /// The least number of drawn rows in a leaf.
    pub leaf_rows_min: usize,
    /// Features drawn at each split; none means the square root of their number.
    pub features_per_split: Option<usize>,
    /// Bins per feature, 2 to 65,536.
    pub bins_max: usize,
    /// The share of the bins that is laid by the positives alone, 0 to 1.
    pub positive_bin_share: f64,
    pub seed: u64,
}

impl Default for ForestSettings {
    fn default() -> Self {
        Self {
            trees: 100,
            depth_max: 64,
            leaf_rows_min: 5,
            features_per_split: None,
            bins_max: 4096,
            positive_bin_share: 0.5,
            seed: 0,
        }
    }
}

impl ForestSettings {
    fn validate(&self) -> Result<(), ModelError> {
        let per_split = self.features_per_split.unwrap_or(1);
        let checks: [(&str, bool, f64, &str); 6] = [
            ("trees", (1..=10_000).contains(&self.trees), self.trees as f64, "from 1 to 10000"),
            ("depth_max", (1..=1024).contains(&self.depth_max), self.depth_max as f64, "from 1 to 1024"),
            ("leaf_rows_min", self.leaf_rows_min >= 1, self.leaf_rows_min as f64, "at least 1"),
            ("features_per_split", per_split >= 1, per_split as f64, "at least 1"),
            ("bins_max", (2..=65_536).contains(&self.bins_max), self.bins_max as f64, "from 2 to 65536"),
            (
                "positive_bin_share",
                (0.0..=1.0).contains(&self.positive_bin_share),
                self.positive_bin_share,
                "from 0 to 1",
            ),
        ];
        match checks.into_iter().find(|(_, holds, ..)| !holds) {
            Some((parameter, _, value, must_be)) => {
                Err(ModelError::Parameter { family: "forest", parameter, value: value.to_string(), must_be })
            }
            None => Ok(()),
        }
    }
}

/// Settings not yet checked, as linfa wants them: [`linfa::traits::Fit`] checks first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForestParams(ForestValidParams);

/// Settings that were found to make sense.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForestValidParams(ForestSettings);

impl From<ForestSettings> for ForestParams {
    fn from(settings: ForestSettings) -> Self {
        Self(ForestValidParams(settings))
    }
}

impl ForestValidParams {
    #[must_use]
    pub const fn settings(&self) -> &ForestSettings {
        &self.0
    }
}

impl ParamGuard for ForestParams {
    type Checked = ForestValidParams;
    type Error = ModelError;

    fn check_ref(&self) -> Result<&ForestValidParams, ModelError> {
        self.0.settings().validate()?;
        Ok(&self.0)
    }

    fn check(self) -> Result<ForestValidParams, ModelError> {
        self.check_ref()?;
        Ok(self.0)
    }
}
