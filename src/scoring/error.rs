use crate::refine::{RefineError, SqlFileError};

/// Why transactions cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum ScoringError {
    #[error(transparent)]
    Sql(#[from] SqlFileError),
    #[error(transparent)]
    Refine(#[from] RefineError),
    #[error("transactions do not fit the contract: {0}")]
    Contract(String),
}
