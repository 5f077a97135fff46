use crate::contract::{ContractError, RegistryError};
use crate::domain::Reaction;
use crate::lake::LakeError;
use crate::refine::window::WindowError;
use crate::refine::{RefineError, SqlFileError};
use crate::source::SourceError;

/// Why a pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Contract(#[from] ContractError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    SqlFile(#[from] SqlFileError),
    #[error(transparent)]
    Refine(#[from] RefineError),
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("the columns of a batch do not fit their table: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("{0}")]
    Query(#[from] datafusion::error::DataFusionError),
    #[error("the tables do not form a pipeline: {0}")]
    Layout(String),
    #[error("{0}")]
    State(String),
    #[error("the {0} thread stopped without a word: this is a defect of assay")]
    Thread(&'static str),
}

impl PipelineError {
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Contract(_) | Self::SqlFile(_) | Self::Layout(_) => Reaction::Correct,
            Self::Window(error) if error.is_definition() => Reaction::Correct,
            Self::Refine(RefineError::Refused { .. }) => Reaction::Refused,
            Self::Source(error) if error.is_setting() => Reaction::Correct,
            Self::Lake(error) => error.reaction(),
            Self::Registry(error) => error.reaction(),
            _ => Reaction::Retry,
        }
    }
}
