//! Learning from labelled rows: families of models, their evaluation, and the choice among them.
//!
//! Everything here is pure: the same samples, settings and seeds give the same bits, whatever the number of threads.

pub mod calibration;
mod data;
mod error;
pub mod folds;
mod metrics;
mod ranking;
mod threshold;

pub use calibration::{Calibrated, Calibration, CalibrationMethod, CalibrationTrial};
pub use data::{Classifier, Contributions, Samples, Scale};
pub use error::ModelError;
pub use folds::{Fold, TimeFolds};
pub use metrics::{Confusion, Metrics, Spread, brier, log_loss, top_card_precision};
pub use ranking::{Ranking, Step};
pub use threshold::{Gate, Threshold};
