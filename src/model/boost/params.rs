use linfa::ParamGuard;
use serde::{Deserialize, Serialize};

use crate::model::ModelError;

/// How to boost; the default is a good start for rare positives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoostSettings {
    /// Trees at most.
    pub rounds_max: usize,
    /// How much of each tree is taken, above 0 and at most 1.
    pub learning_rate: f64,
    /// Steps from the root of a tree to its leaves, at most.
    pub depth_max: usize,
    /// L2 penalty on the leaves.
    pub l2: f64,
    /// The gain in loss below which a node is not split.
    pub gain_min: f64,
    /// The least Σ p(1 - p) over the rows of a leaf.
    pub child_weight_min: f64,
    /// The share of the rows that each tree sees.
    pub row_share: f64,
    /// The share of the features that each tree sees.
    pub feature_share: f64,
    /// Bins per feature, 2 to 65,536.
    pub bins_max: usize,
    /// The share of the bins that is laid by the positives alone, 0 to 1.
    pub positive_bin_share: f64,
    /// The share of the rows, the last ones, that is held out to stop early on their AUC; 0 boosts all rounds.
    pub validation_share: f64,
    /// Rounds without a better AUC after which boosting stops, back at the best round.
    pub patience: usize,
    pub seed: u64,
}

impl Default for BoostSettings {
    fn default() -> Self {
        Self {
            rounds_max: 500,
            learning_rate: 0.05,
            depth_max: 6,
            l2: 1.0,
            gain_min: 0.0,
            child_weight_min: 1.0,
            row_share: 1.0,
            feature_share: 1.0,
            bins_max: 256,
            positive_bin_share: 0.5,
            validation_share: 0.15,
            patience: 50,
            seed: 0,
        }
    }
}

/// Settings not yet checked, as linfa wants them: [`linfa::traits::Fit`] checks first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BoostParams(BoostValidParams);

/// Settings that were found to make sense.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BoostValidParams(BoostSettings);

impl From<BoostSettings> for BoostParams {
    fn from(settings: BoostSettings) -> Self {
        Self(BoostValidParams(settings))
    }
}

impl BoostValidParams {
    #[must_use]
    pub const fn settings(&self) -> &BoostSettings {
        &self.0
    }
}

impl ParamGuard for BoostParams {
    type Checked = BoostValidParams;
    type Error = ModelError;

    fn check_ref(&self) -> Result<&BoostValidParams, ModelError> {
        self.0.settings().validate()?;
        Ok(&self.0)
    }

    fn check(self) -> Result<BoostValidParams, ModelError> {
        self.check_ref()?;
        Ok(self.0)
    }
}

impl BoostSettings {
    fn validate(&self) -> Result<(), ModelError> {
        let is_share = |value: f64| value > 0.0 && value <= 1.0;
        let is_amount = |value: f64| value >= 0.0 && value.is_finite();
        let checks: [(&str, bool, f64, &str); 12] = [
            ("rounds_max", self.rounds_max >= 1, self.rounds_max as f64, "at least 1"),
            ("learning_rate", is_share(self.learning_rate), self.learning_rate, "above 0 and at most 1"),
            ("depth_max", (1..=32).contains(&self.depth_max), self.depth_max as f64, "from 1 to 32"),
            ("l2", is_amount(self.l2), self.l2, "0 or more"),
            ("gain_min", is_amount(self.gain_min), self.gain_min, "0 or more"),
            ("child_weight_min", is_amount(self.child_weight_min), self.child_weight_min, "0 or more"),
            ("row_share", is_share(self.row_share), self.row_share, "above 0 and at most 1"),
            ("feature_share", is_share(self.feature_share), self.feature_share, "above 0 and at most 1"),
            ("bins_max", (2..=65_536).contains(&self.bins_max), self.bins_max as f64, "from 2 to 65536"),
            (
                "positive_bin_share",
                (0.0..=1.0).contains(&self.positive_bin_share),
                self.positive_bin_share,
                "from 0 to 1",
            ),
            ("validation_share", (0.0..=0.9).contains(&self.validation_share), self.validation_share, "from 0 to 0.9"),
            ("patience", self.patience >= 1, self.patience as f64, "at least 1"),
        ];
        match checks.into_iter().find(|(_, holds, ..)| !holds) {
            Some((parameter, _, value, must_be)) => {
                Err(ModelError::Parameter { family: "boosting", parameter, value: value.to_string(), must_be })
            }
            None => Ok(()),
        }
    }
}
