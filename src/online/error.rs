use crate::domain::{HistoryError, Reaction};
use crate::lake::LakeError;
use crate::refine::SqlFileError;

/// Why Redis does not hold what the lake says.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    #[error("online.{key} {cause}")]
    Setting { key: &'static str, cause: String },

    #[error(transparent)]
    Sql(#[from] SqlFileError),

    #[error(transparent)]
    Lake(#[from] LakeError),

    #[error("the past of the lake cannot be held: {0}")]
    History(#[from] HistoryError),

    #[error("Redis at {place} cannot be reached: {cause}")]
    Connect { place: String, cause: String },

    #[error("Redis: {action} failed: {cause}")]
    Redis { action: &'static str, cause: String },

    #[error(
        "the Redis at {place} may drop keys when its memory is full (maxmemory-policy {policy}), and who has no key would \
         count as a stranger: set maxmemory-policy to noeviction"
    )]
    Evicts { place: String, policy: String },

    #[error(
        "{holder} feeds this Redis; wait for it, or end it: what is left of one that was killed expires in {expires_s} s"
    )]
    Busy { holder: String, expires_s: i64 },

    #[error(
        "another feeder took this one's place; nothing of it is lost, and this one begins with what that one wrote"
    )]
    Fenced,

    #[error(
        "Redis holds epoch {held}, and the newest of the lake is {newest}: the lake was taken back. `assay online rebuild` \
         makes Redis what the lake is now"
    )]
    Ahead { held: i64, newest: i64 },

    #[error("the lake has no complete epoch yet, so there is nothing to feed")]
    NoEpoch,

    #[error("no table of the SQL files counts or has features, so there is nothing to feed: set features.enabled")]
    NoFeatures,
}

impl OnlineError {
    /// What to do about it.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Lake(error) => error.reaction(),
            Self::History(_)
            | Self::Connect { .. }
            | Self::Redis { .. }
            | Self::Busy { .. }
            | Self::Fenced
            | Self::NoEpoch => Reaction::Retry,
            Self::Setting { .. } | Self::Sql(_) | Self::Evicts { .. } | Self::Ahead { .. } | Self::NoFeatures => {
                Reaction::Correct
            }
        }
    }
}
