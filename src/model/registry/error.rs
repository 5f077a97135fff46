use thiserror::Error;

/// Why a model cannot be kept, found or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    #[error("`{path}` could not be {action}: {cause}")]
    Io { path: String, action: &'static str, cause: String },

    #[error("the place of models `{location}` cannot be used: {cause}. Give a folder or s3://bucket/prefix")]
    Location { location: String, cause: String },

    #[error(
        "models cannot be kept in {location}: {what}, so two promotions at once could undo each other. Give a store that keeps If-None-Match and If-Match, or a folder"
    )]
    Careless { location: String, what: &'static str },

    #[error("`{path}` was changed by others {tries} times in a row while it was to be changed; try again")]
    Contended { path: String, tries: u32 },

    #[error(
        "whether `{path}` was changed is not known: the store failed, and others changed it since; see `assay models`"
    )]
    Unknown { path: String },

    #[error("`{path}` is not what was written: {reason}; take another version or train again")]
    Damaged { path: String, reason: String },

    #[error("`{text}` is no {what}: it must be {must_be}")]
    Name { what: &'static str, text: String, must_be: &'static str },

    #[error("there is no model `{name}` in {folder} (models: {models})")]
    UnknownModel { name: String, folder: String, models: String },

    #[error("the model `{name}` has no version {version} (the newest: {versions})")]
    UnknownVersion { name: String, version: String, versions: String },

    #[error("the model `{name}` has no alias `{alias}` (aliases: {aliases}); `assay promote` gives one")]
    UnknownAlias { name: String, alias: String, aliases: String },

    #[error("{name}@{version} may not be promoted: {reasons}")]
    NotPassed { name: String, version: String, reasons: String },

    #[error("the model `{name}` had no champion before this one: there is nothing to roll back to")]
    NothingBefore { name: String },

    #[error("the model `{name}` has a version for every second of the minute after {version}; try again")]
    NoFreeVersion { name: String, version: String },

    #[error("{what} cannot be written as JSON: {cause}")]
    Json { what: &'static str, cause: String },
}

impl RegistryError {
    /// What the caller can do: try again, correct the call, or take another model.
    #[must_use]
    pub const fn reaction(&self) -> crate::domain::Reaction {
        use crate::domain::Reaction;
        match self {
            Self::Io { .. }
            | Self::Contended { .. }
            | Self::Unknown { .. }
            | Self::NoFreeVersion { .. }
            | Self::Json { .. } => Reaction::Retry,
            Self::Damaged { .. } | Self::NotPassed { .. } => Reaction::Refused,
            Self::Location { .. }
            | Self::Careless { .. }
            | Self::Name { .. }
            | Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownAlias { .. }
            | Self::NothingBefore { .. } => Reaction::Correct,
        }
    }
}
