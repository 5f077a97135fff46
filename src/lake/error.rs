use crate::domain::{Reaction, TableName};

/// What can go wrong in the lake, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("the lake location `{location}` cannot be used: {cause}. Give a folder or s3://bucket/prefix")]
    Location { location: String, cause: String },

    #[error(
        "the lake at {location} belongs to the pipeline `{found}`, not to `{wanted}`; it was left untouched. Use another --lake or set pipeline = \"{found}\""
    )]
    ForeignPipeline { location: String, found: String, wanted: String },

    #[error(
        "the lake at {location} has format {found}, and this version of assay knows formats up to {known}; it was left untouched. Use a newer assay"
    )]
    NewerFormat { location: String, found: u32, known: u32 },

    #[error("{location} holds no lake: {hint}")]
    NoLake { location: String, hint: String },

    #[error(
        "{location} is to become a lake, and holds `{holds}` and no lake; give an empty or a new folder with --lake"
    )]
    Occupied { location: String, holds: String },

    #[error(
        "the lake at {location} holds no {tables}, and reading creates nothing; run `assay run`, `assay refine` or `assay load` first"
    )]
    Missing { location: String, tables: String },

    #[error(
        "another assay process ({holder}) is writing to the lake at {location}; only one writer is allowed. Stop it first"
    )]
    Leased { location: String, holder: String },

    #[error("dead letters of the lake at {location} are being sent again by {holder}: wait for it, or end it")]
    Replayed { location: String, holder: String },

    #[error(
        "{table}: another writer committed version {version}{detail}; this process is fenced off. Stop the other writer and start again"
    )]
    Fenced { table: TableName, version: u64, detail: String },

    #[error("{table}: {action} failed: {cause}")]
    Store { table: TableName, action: String, cause: String },

    #[error("the lake: {action} failed: {cause}")]
    Root { action: String, cause: String },

    #[error("{table}: {cause}")]
    Schema { table: TableName, cause: String },

    #[error("{table}: cannot be read: {cause}")]
    Read { table: TableName, cause: String },

    #[error("{0}")]
    Epoch(String),
}

impl LakeError {
    /// Whether the same call may succeed later (a full disk, a slow or absent store).
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Root { .. })
    }

    /// What to do about it.
    #[must_use]
    pub const fn reaction(&self) -> Reaction {
        match self {
            Self::Location { .. }
            | Self::ForeignPipeline { .. }
            | Self::NewerFormat { .. }
            | Self::NoLake { .. }
            | Self::Occupied { .. }
            | Self::Missing { .. }
            | Self::Schema { .. } => Reaction::Correct,
            _ => Reaction::Retry,
        }
    }

    pub(crate) fn store(table: &TableName, action: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Store { table: table.clone(), action: action.into(), cause: cause.to_string() }
    }

    pub(crate) fn read(table: &TableName, cause: impl std::fmt::Display) -> Self {
        Self::Read { table: table.clone(), cause: cause.to_string() }
    }
}
