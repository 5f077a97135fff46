//! Learning from labelled rows: families of models, their evaluation, and the choice among them.
//!
//! Learning is pure: the same samples, settings and seeds give the same bits, whatever the number of threads. The two edges
//! of the room are [`table`], which reads files, and [`registry`], which keeps models on disk.

mod boost;
pub mod calibration;
pub mod card;
mod curves;
mod data;
pub mod drift;
mod error;
mod family;
pub mod folds;
mod forest;
mod importance;
pub mod imported;
mod inspection;
mod logistic;
mod metrics;
pub mod onnx;
mod random;
mod ranking;
pub mod records;
pub mod registry;
mod report;
mod search;
mod settings;
pub mod table;
mod threshold;
mod trainer;
mod tree;
mod validation;

pub use boost::{Boost, BoostParams, BoostSettings, BoostValidParams};
pub use calibration::{Calibrated, Calibration, CalibrationMethod, CalibrationTrial};
pub use curves::{CalibrationBin, Curves, ScoreHistogram};
pub use data::{Classifier, Contributions, Samples, Scale};
pub use error::ModelError;
pub use family::{Family, FamilyName, Model};
pub use folds::{Fold, TimeFolds};
pub use forest::{Forest, ForestParams, ForestSettings, ForestValidParams};
pub use importance::{Importance, ImportanceSettings, permutation_importance};
pub use inspection::{FoldRole, GateMetric, Inspection, InspectionSettings, Refusal, Suspicion, inspect};
pub use logistic::{Logistic, LogisticParams, LogisticSettings, LogisticValidParams, Scaling};
pub use metrics::{Confusion, Metrics, Spread, brier, log_loss, top_card_precision};
pub use onnx::OnnxError;
pub use ranking::{Ranking, Step};
pub use report::{
    ChampionReport, DataSummary, FamilyReport, FoldReport, MetricSpread, SegmentReport, Span, TrainReport, Validation,
    Verdict,
};
pub use search::{SearchSettings, Trial};
pub use settings::{ModelSettings, TrainJobSettings};
pub use threshold::{Gate, Threshold};
pub use trainer::{Progress, Segmentation, Stage, TrainData, TrainSettings, Trained, TrainedModel, train};
