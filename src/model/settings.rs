//! Settings of training and of the registry, as they stand in `assay.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{FamilyName, Gate, InspectionSettings, TimeFolds, TrainSettings};

/// Where models are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// A folder, relative to where assay is started, as the lake is; or s3://bucket/prefix.
    pub folder: String,
    /// Options of the object store, over those of the lake.
    pub options: BTreeMap<String, String>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { folder: "models".into(), options: BTreeMap::new() }
    }
}

/// How `assay train` trains.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainJobSettings {
    /// The gate, on the folds in time.
    pub precision_min: f64,
    pub recall_min: f64,
    pub f1_min: f64,
    pub families: Vec<FamilyName>,
    /// Folds in the order of time.
    pub folds: usize,
    /// Folds drawn by chance, reported beside; 0 leaves them out.
    pub stratified_folds: usize,
    /// The newest rows, tested once.
    pub test_share: f64,
    /// How long a label takes to arrive.
    pub label_delay_hours: u32,
    /// Rows of each class, at least.
    pub labels_min: usize,
    /// A feature that alone ranks frauds better is suspected to be made from the label.
    pub feature_auc_max: f64,
    /// Whether suspicion refuses the run.
    pub refuse_suspicious: bool,
    /// Cards that can be looked into each day.
    pub top_cards: usize,
    pub seed: u64,
    /// The address of an MLflow server that is told of each run; empty for none, or for that of `MLFLOW_TRACKING_URI`.
    pub mlflow_uri: String,
    /// The experiment there; empty for that of `MLFLOW_EXPERIMENT_NAME`, or `assay`.
    pub mlflow_experiment: String,
}

impl Default for TrainJobSettings {
    fn default() -> Self {
        let base = TrainSettings::default();
        Self {
            precision_min: base.gate.precision_min,
            recall_min: base.gate.recall_min,
            f1_min: base.gate.f1_min,
            families: base.families,
            folds: base.folds.folds,
            stratified_folds: base.stratified_folds,
            test_share: base.test_share,
            label_delay_hours: base.label_delay_hours,
            labels_min: base.inspection.labels_min,
            feature_auc_max: base.inspection.feature_auc_max,
            refuse_suspicious: base.inspection.refuse_suspicious,
            top_cards: base.top_cards,
            seed: base.seed,
            mlflow_uri: String::new(),
            mlflow_experiment: String::new(),
        }
    }
}

impl TrainJobSettings {
    #[must_use]
    pub fn train_settings(&self) -> TrainSettings {
        let base = TrainSettings::default();
        TrainSettings {
            families: self.families.clone(),
            test_share: self.test_share,
            label_delay_hours: self.label_delay_hours,
            folds: TimeFolds { folds: self.folds, ..base.folds },
            stratified_folds: self.stratified_folds,
            gate: Gate { precision_min: self.precision_min, recall_min: self.recall_min, f1_min: self.f1_min },
            inspection: InspectionSettings {
                labels_min: self.labels_min,
                feature_auc_max: self.feature_auc_max,
                refuse_suspicious: self.refuse_suspicious,
            },
            top_cards: self.top_cards,
            seed: self.seed,
            ..base
        }
    }

    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            ("precision_min", share(self.precision_min), "must be within 0 and 1"),
            ("recall_min", share(self.recall_min), "must be within 0 and 1"),
            ("f1_min", share(self.f1_min), "must be within 0 and 1"),
            ("families", !self.families.is_empty(), "is empty; give logistic, forest or boost"),
            ("folds", self.folds > 0, "must be at least 1"),
            ("stratified_folds", self.stratified_folds != 1, "must be 0, or at least 2"),
            ("test_share", self.test_share > 0.0 && self.test_share < 1.0, "must be above 0 and below 1"),
            ("feature_auc_max", (0.5..=1.0).contains(&self.feature_auc_max), "must be within 0.5 and 1"),
        ];
        checks.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, cause)| (key, cause))
    }
}
