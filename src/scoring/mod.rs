//! From transactions to decisions: the set that a model learns from, and the scorer that serves what was learned.
//!
//! A transaction that comes by request goes the way of one that comes by Kafka: the contract, the SQL of silver with its
//! expectations, the rules. The same code computes both, so that a model is asked about the values that it learned.
//!
//! | part | does |
//! |---|---|
//! | [`TrainingSet`] | reads the rows of a `training/` file from the lake, as of an epoch |
//! | [`ScoringPipeline`] | contract, silver and rules, compiled for requests |
//! | [`FeatureSource`] | what is known of the past; [`LakeFollower`] keeps the trailing counts and features of a lake |
//! | [`Models`] | the champion of the registry, followed; [`Served`] is one, ready to be asked |
//! | [`Scorer`] | rows in, decisions out |

mod error;
mod features;
mod follower;
mod models;
mod pipeline;
mod scorer;
mod served;
mod settings;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod training_set;

pub use error::ScoringError;
pub use features::{Added, FeatureSource, NoPast, SharedFeatures, Standing};
pub use follower::{Followed, FollowedLake, LakeFollower};
pub use models::{Chosen, Models};
pub use pipeline::{CHUNK_ROWS, ScoringPipeline};
pub use scorer::{DecidedBy, Item, Prediction, Refusal, RuleScore, Scorer, Scores};
pub use served::Served;
pub use settings::ScoringSettings;
pub use training_set::{TrainingSet, TrainingSetError, lineage};
