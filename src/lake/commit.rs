use deltalake_core::kernel::Version;
use serde_json::Value;

use super::data_file::DataFile;

/// One atomic change of a table.
#[derive(Debug, Default)]
pub struct Commit {
    /// The epoch that the commit completes for this table: its Delta transaction. Maintenance has none.
    pub epoch: Option<i64>,
    /// The epoch up to which restatements stand in the table's files from now on.
    pub restated: Option<i64>,
    pub adds: Vec<DataFile>,
    pub removes: Vec<String>,
    /// Kept in the commit's own metadata under `assay`.
    pub info: Value,
}

impl Commit {
    /// What the log calls it.
    pub(super) const fn operation(&self) -> &'static str {
        match (self.epoch, self.restated) {
            (Some(_), _) => "WRITE",
            (None, Some(_)) => "MERGE",
            (None, None) => "OPTIMIZE",
        }
    }
}

/// How a commit ended. `Err` beside it is for what could not be decided or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    Committed {
        version: Version,
    },
    /// The table already has the epoch.
    AlreadyApplied {
        version: Version,
    },
}

impl Outcome {
    #[must_use]
    pub const fn version(self) -> Version {
        match self {
            Self::Committed { version } | Self::AlreadyApplied { version } => version,
        }
    }
}
