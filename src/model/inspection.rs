//! What is looked for in samples before anything is learned from them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Ranking, Samples};

/// When samples are refused.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InspectionSettings {
    /// The least number of rows of each class.
    pub labels_min: usize,
    /// A feature that alone ranks frauds better than this (area under its ROC curve, in either direction) is
    /// suspected to be made from the label.
    pub feature_auc_max: f64,
    /// Whether suspicion refuses the samples, or is reported only.
    pub refuse_suspicious: bool,
}

impl Default for InspectionSettings {
    fn default() -> Self {
        Self { labels_min: 100, feature_auc_max: 0.99, refuse_suspicious: true }
    }
}

/// A feature that tells the label too well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    pub feature: String,
    /// The area under its ROC curve; below 0.5 when small values are the frauds.
    pub auc: f64,
}

/// Why a model is not good enough to be served.
#[derive(Debug, Clone, PartialEq, Error, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    #[error("{found} labels are {label} where at least {min} are needed: wait for more, or take a longer span")]
    TooFewLabels { label: bool, found: usize, min: usize },
    #[error("feature `{feature}` never varies: drop it, or find out why it is not filled")]
    Constant { feature: String },
    #[error("feature `{feature}` alone ranks frauds with an AUC of {auc:.4}: it may be made from the label")]
    Suspicious { feature: String, auc: f64 },
    /// `fold` counts from 0.
    #[error("fold {fold} has rows of one class only to {role}: take a longer span or fewer folds")]
    OneClassFold { fold: usize, role: FoldRole },
    /// Met within a fit, where the newest rows are set apart.
    #[error("all {rows} labels of a part to learn from are {label}: take a longer span or fewer folds")]
    OneClassPart { rows: usize, label: bool },
    #[error("the {metric} out of fold is {found:.4}, below the gate's {min}")]
    Gate { metric: GateMetric, found: f64, min: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldRole {
    LearnFrom,
    TestOn,
}

impl std::fmt::Display for FoldRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LearnFrom => "learn from",
            Self::TestOn => "test on",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateMetric {
    Precision,
    Recall,
    F1,
}

impl std::fmt::Display for GateMetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "F1",
        })
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inspection {
    pub refusals: Vec<Refusal>,
    pub suspicions: Vec<Suspicion>,
}

/// Looks at all features and labels; values that are not finite were refused by [`Samples::new`].
#[must_use]
pub fn inspect(samples: &Samples, settings: &InspectionSettings) -> Inspection {
    let positives = samples.positives();
    let counts = [(true, positives), (false, samples.rows() - positives)];
    let too_few = counts
        .into_iter()
        .filter(|(_, found)| *found < settings.labels_min.max(1))
        .map(|(label, found)| Refusal::TooFewLabels { label, found, min: settings.labels_min.max(1) });
    let mut found = Inspection { refusals: too_few.collect(), suspicions: Vec::new() };
    let (labels, records) = (samples.labels(), samples.records());
    let areas: Vec<Option<f64>> = (0..samples.width())
        .into_par_iter()
        .map(|feature| {
            let column = records.column(feature);
            #[allow(clippy::float_cmp, reason = "constant means the same number")]
            let varies = column.iter().any(|&value| value != column[0]);
            varies.then(|| Ranking::of_feature(column.iter(), labels.iter()).roc_auc().unwrap_or(0.5))
        })
        .collect();
    for (feature, area) in samples.features().iter().zip(areas) {
        match area {
            None => found.refusals.push(Refusal::Constant { feature: feature.clone() }),
            Some(auc) if auc.max(1.0 - auc) > settings.feature_auc_max => {
                found.suspicions.push(Suspicion { feature: feature.clone(), auc });
            }
            Some(_) => {}
        }
    }
    if settings.refuse_suspicious {
        let suspects = found.suspicions.iter();
        let refusals = suspects.map(|of| Refusal::Suspicious { feature: of.feature.clone(), auc: of.auc });
        found.refusals.extend(refusals.collect::<Vec<_>>());
    }
    found
}

#[cfg(test)]
mod tests;
