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
//! | [`Models`] | champion and challenger of the registry, followed; [`Served`] is one, ready to be asked; [`Pins`] keeps others |
//! | [`Split`], [`Trial`] | whom a challenger answers, and whether it may go on |
//! | [`watch`] | compares the rows of now with those that a model learned from |
//! | [`Scorer`] | rows in, decisions out; [`Part`]s of what came together, by version |
//! | [`StreamScorer`] | asks the champion about the rows of the stream, as they come |
//! | [`Shadow`] | has the challenger say what it would have answered |
//! | [`Keeper`] | keeps a [`Receipt`] of each decision; [`explain()`] computes it again |

mod error;
mod explain;
mod features;
mod follower;
mod following;
mod keeper;
mod models;
mod parts;
mod pins;
mod pipeline;
mod receipts;
mod recorded;
mod scorer;
mod scores;
mod served;
mod settings;
mod shadow;
mod split;
mod streamed;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod training_set;
mod trial;
mod watched;

pub use error::ScoringError;
pub use explain::{Check, Explained, Explainer, check_past, event_time, explain, newest_receipt};
pub use features::{Added, FeatureSource, NoPast, SharedFeatures, Standing};
pub use follower::{Followed, FollowedLake, LakeFollower};
pub use following::ModelFollower;
pub use keeper::{Keeper, ReceiptPlace, Receipts};
pub use models::{Challenger, Chosen, Models};
pub use parts::{Asked, Part};
pub use pins::{PinError, Pins};
pub use pipeline::{CHUNK_ROWS, ScoringPipeline, StandIns};
pub use receipts::{ModelUsed, Receipt, ReceiptRows, receipts_table};
pub use recorded::{lake_versions, record, record_versions};
pub use scorer::{FRAUD, LEGITIMATE, Scorer, decision};
pub use scores::{DecidedBy, Item, Prediction, Reasons, Refusal, Role, RuleScore, Scores};
pub use served::{NotServed, Served};
pub use settings::ScoringSettings;
pub use shadow::{Shadow, Shadows};
pub use split::{Split, position};
pub use streamed::{RecallScorer, StreamScorer, streamed_model};
pub use training_set::{TrainingSet, TrainingSetError, lineage};
pub use trial::{Cause, Outcome, Trial, TrialBounds, Verdict};
pub use watched::{Wanted, WatchError, Watched, WatchedModel, watch};
