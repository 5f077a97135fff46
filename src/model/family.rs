//! The families of models that compete, behind one type each for settings and for what was fitted.

use std::fmt;

use linfa::traits::Fit;
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{
    Boost, BoostParams, BoostSettings, Classifier, Contributions, Forest, ForestParams, ForestSettings, Logistic,
    LogisticParams, LogisticSettings, ModelError, Samples, Scale, Scaling,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FamilyName {
    Logistic,
    Forest,
    Boost,
}

impl FamilyName {
    pub const ALL: [Self; 3] = [Self::Logistic, Self::Forest, Self::Boost];
}

impl fmt::Display for FamilyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Logistic => "logistic regression",
            Self::Forest => "random forest",
            Self::Boost => "gradient boosting",
        })
    }
}

/// A family with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Family {
    Logistic(LogisticSettings),
    Forest(ForestSettings),
    Boost(BoostSettings),
}

/// A fitted model of any family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    Logistic(Logistic),
    Forest(Forest),
    Boost(Boost),
}

impl Family {
    #[must_use]
    pub const fn name(&self) -> FamilyName {
        match self {
            Self::Logistic(_) => FamilyName::Logistic,
            Self::Forest(_) => FamilyName::Forest,
            Self::Boost(_) => FamilyName::Boost,
        }
    }

    /// What is worth trying on any data, the first being the default.
    #[must_use]
    pub fn candidates(name: FamilyName, seed: u64) -> Vec<Self> {
        match name {
            FamilyName::Logistic => {
                let default = LogisticSettings::default();
                let standard = LogisticSettings { scaling: Scaling::Standard, ..default.clone() };
                let stiff = LogisticSettings { l2: 10.0, ..default.clone() };
                [default, standard, stiff].map(Self::Logistic).into()
            }
            FamilyName::Forest => {
                let default = ForestSettings { seed, ..ForestSettings::default() };
                let finer = ForestSettings { leaf_rows_min: 2, ..default.clone() };
                let coarser = ForestSettings { leaf_rows_min: 15, ..default.clone() };
                [default, finer, coarser].map(Self::Forest).into()
            }
            FamilyName::Boost => {
                let default = BoostSettings { seed, ..BoostSettings::default() };
                let shallow = BoostSettings { depth_max: 4, ..default.clone() };
                let sampled =
                    BoostSettings { child_weight_min: 5.0, row_share: 0.8, feature_share: 0.8, ..default.clone() };
                [default, shallow, sampled].map(Self::Boost).into()
            }
        }
    }

    /// Rows must be in the order of time: boosting stops early on the last ones.
    ///
    /// # Errors
    /// When the settings are out of range, or nothing can be learned from the samples.
    pub fn fit(&self, samples: &Samples) -> Result<Model, ModelError> {
        let data = samples.dataset();
        Ok(match self {
            Self::Logistic(settings) => Model::Logistic(LogisticParams::from(settings.clone()).fit(&data)?),
            Self::Forest(settings) => Model::Forest(ForestParams::from(settings.clone()).fit(&data)?),
            Self::Boost(settings) => Model::Boost(BoostParams::from(settings.clone()).fit(&data)?),
        })
    }

    /// For the last fit, on all rows: boosting takes the rounds at which it stopped in the folds (their mean), so that
    /// the newest rows are learned from and not spent on stopping.
    #[must_use]
    pub fn for_all_rows(&self, of_folds: &[Model]) -> Self {
        let rounds: Vec<usize> = of_folds
            .iter()
            .filter_map(|model| if let Model::Boost(boost) = model { Some(boost.rounds()) } else { None })
            .collect();
        match self {
            Self::Boost(settings) if !rounds.is_empty() && settings.validation_share > 0.0 => {
                let rounds_max = (rounds.iter().sum::<usize>() / rounds.len()).max(1);
                Self::Boost(BoostSettings { rounds_max, validation_share: 0.0, ..settings.clone() })
            }
            family => family.clone(),
        }
    }
}

impl Model {
    #[must_use]
    pub const fn name(&self) -> FamilyName {
        match self {
            Self::Logistic(_) => FamilyName::Logistic,
            Self::Forest(_) => FamilyName::Forest,
            Self::Boost(_) => FamilyName::Boost,
        }
    }

    fn as_classifier(&self) -> &dyn Classifier {
        match self {
            Self::Logistic(model) => model,
            Self::Forest(model) => model,
            Self::Boost(model) => model,
        }
    }
}

impl Classifier for Model {
    fn width(&self) -> usize {
        self.as_classifier().width()
    }

    fn probability(&self, row: &[f32]) -> f64 {
        self.as_classifier().probability(row)
    }

    fn probabilities(&self, records: ArrayView2<'_, f32>) -> Array1<f64> {
        self.as_classifier().probabilities(records)
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        self.as_classifier().contributions(row)
    }

    fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        self.as_classifier().contributions_of(rows)
    }

    fn scale(&self) -> Scale {
        self.as_classifier().scale()
    }
}
