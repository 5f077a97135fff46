//! What a training run tells of itself: enough to judge it, to compare it with others, and to draw its model card.

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, CalibrationTrial};
use super::search::Trial;
use super::trainer::TrainSettings;
use super::{Curves, Family, FamilyName, Importance, Metrics, ModelError, Refusal, Spread, Suspicion};

/// The record of a run. It holds no time of its own: the same input gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    pub settings: TrainSettings,
    pub data: DataSummary,
    pub suspicions: Vec<Suspicion>,
    /// In the order given; empty when the samples were refused.
    pub families: Vec<FamilyReport>,
    pub champion: Option<ChampionReport>,
    pub verdict: Verdict,
}

/// What was learned from and tested on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    pub features: Vec<String>,
    /// Before the gap: for folds, thresholds and the last fit.
    pub development: Span,
    /// The newest rows: tested once, at the end.
    pub test: Span,
}

/// Some rows and the times they span, in microseconds since 1970, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub rows: usize,
    pub positives: usize,
    pub from_us: i64,
    pub to_us: i64,
}

impl Span {
    pub(super) fn of(rows: &[usize], labels: &[bool], times_us: &[i64]) -> Self {
        let times = rows.iter().map(|&row| times_us[row]);
        Self {
            rows: rows.len(),
            positives: rows.iter().filter(|&&row| labels[row]).count(),
            from_us: times.clone().min().unwrap_or_default(),
            to_us: times.max().unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyReport {
    /// The settings that the search found.
    pub settings: Family,
    /// What the search tried; empty when it did not search.
    pub trials: Vec<Trial>,
    pub calibration_trials: Vec<CalibrationTrial>,
    /// Whether the gate is passed by folds in time.
    pub passes: bool,
    /// By folds in the order of time: what decides.
    pub in_time: Validation,
    /// By folds drawn by chance, when asked for: flattering, for comparison only.
    pub stratified: Option<Validation>,
}

impl FamilyReport {
    #[must_use]
    pub const fn name(&self) -> FamilyName {
        self.settings.name()
    }
}

/// The quality on rows that were not learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// All folds together, at the threshold chosen on them.
    pub pooled: Metrics,
    pub spread: MetricSpread,
    pub folds: Vec<FoldReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldReport {
    pub train: Span,
    pub test: Span,
    /// At the threshold of all folds together.
    pub metrics: Metrics,
}

/// How each metric varies over the folds. What is undefined in a fold is left out of its spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricSpread {
    pub precision: Spread,
    pub recall: Spread,
    pub f1: Spread,
    pub average_precision: Spread,
    pub roc_auc: Spread,
    pub brier: Spread,
    pub log_loss: Spread,
}

impl MetricSpread {
    pub(super) fn of(folds: &[FoldReport]) -> Self {
        let spread = |value: fn(&Metrics) -> Option<f64>| {
            let values: Vec<f64> = folds.iter().filter_map(|fold| value(&fold.metrics)).collect();
            Spread::of(&values).unwrap_or_default()
        };
        Self {
            precision: spread(|of| Some(of.precision)),
            recall: spread(|of| Some(of.recall)),
            f1: spread(|of| Some(of.f1)),
            average_precision: spread(|of| of.average_precision),
            roc_auc: spread(|of| of.roc_auc),
            brier: spread(|of| Some(of.brier)),
            log_loss: spread(|of| Some(of.log_loss)),
        }
    }
}

/// The best family, fitted on all development rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChampionReport {
    pub family: FamilyName,
    /// The settings of the last fit.
    pub settings: Family,
    pub calibration: Calibration,
    /// A calibrated probability: a row is called fraud at it or above.
    pub threshold: f64,
    /// On the newest rows, never used to choose anything.
    pub test: Metrics,
    pub out_of_fold_curves: Curves,
    pub test_curves: Curves,
    /// Measured on the last fold in time, the most important first.
    pub importances: Vec<Importance>,
    pub segments: Vec<SegmentReport>,
}

/// The quality on the rows of one country, payment method or the like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    pub dimension: String,
    pub value: String,
    /// Absent when no row of the folds is of this segment.
    pub out_of_fold: Option<Metrics>,
    /// Absent when no row of the test is of this segment.
    pub test: Option<Metrics>,
}

/// Whether the model may be served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Refused { reasons: Vec<Refusal> },
}

impl Verdict {
    #[must_use]
    pub const fn passed(&self) -> bool {
        matches!(self, Self::Passed)
    }

    pub(super) fn of(reasons: Vec<Refusal>) -> Self {
        if reasons.is_empty() { Self::Passed } else { Self::Refused { reasons } }
    }
}

impl TrainReport {
    /// The report of the family that won.
    #[must_use]
    pub fn best(&self) -> Option<&FamilyReport> {
        let champion = self.champion.as_ref()?;
        self.families.iter().find(|family| family.name() == champion.family)
    }

    /// Indented JSON.
    ///
    /// # Errors
    /// When a number cannot be written.
    pub fn to_json(&self) -> Result<String, ModelError> {
        serde_json::to_string_pretty(self).map_err(|error| ModelError::Artifact { reason: error.to_string() })
    }
}
