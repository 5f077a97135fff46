//! The loop that strings the stages into epochs, and the jobs that go over a whole lake.

mod ahead;
mod arrival;
mod assemble;
mod bronze_epoch;
mod error;
mod feature_check;
mod maintenance;
mod progress;
mod rebuild;
mod recover;
mod resume;
mod settings;
mod stages;
mod standing;
mod stream;
mod tables;
mod verify;
mod watermark;

pub use ahead::{EncodeAhead, Intakes};
pub use assemble::{Arrived, Provenance, arrived, dead_letter_rows, file_provenance, seal};
pub use bronze_epoch::BronzeEpoch;
pub use error::PipelineError;
pub use feature_check::verify_features;
pub use maintenance::Maintenance;
pub use progress::Progress;
pub use rebuild::{Target, rebuild};
pub use recover::{next_positions, pending_epochs, refine_pending};
pub use settings::EpochSettings;
pub use stages::{Compiled, Plan, StageSettings, Stages, bronze_name, bronze_schema};
pub use standing::lost_versions;
pub use stream::{Feed, MessageFeed, Reach, Stream};
pub use tables::{EpochWork, Layout, Tables, is_open};
pub use verify::{Finding, Subject, Verification, verify};
pub use watermark::Watermark;
