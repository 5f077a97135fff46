use serde::{Deserialize, Serialize};

use super::{Ranges, TableName};

/// What an epoch is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochKind {
    /// Messages of the stream or lines of a file.
    #[default]
    Stream,
    /// A recomputation from bronze; reads no message.
    Rebuild,
}

impl EpochKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Rebuild => "rebuild",
        }
    }
}

/// The Delta version of a table once an epoch is complete, and the rows that the epoch added to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableVersion {
    pub table: TableName,
    pub version: i64,
    pub rows_added: i64,
}

/// How long one stage of an epoch took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTime {
    pub stage: &'static str,
    pub micros: i64,
}

/// A row of `ops.epochs`: an epoch is complete once its row is there.
///
/// Conservation: `messages = bronze_rows + dead_letters` and `bronze_rows = silver_rows + duplicates + quarantined`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpochRecord {
    pub epoch: i64,
    pub kind: EpochKind,
    pub started_at_us: i64,
    pub published_at_us: i64,
    /// Up to where in event time no more rows were expected; `None` until the first valid row.
    pub watermark_us: Option<i64>,
    pub ranges: Ranges,
    pub messages: u64,
    pub bronze_rows: u64,
    pub dead_letters: u64,
    pub silver_rows: u64,
    pub duplicates: u64,
    pub quarantined: u64,
    pub late_rows: u64,
    pub restated_rows: u64,
    pub warned_rows: u64,
    pub tables: Vec<TableVersion>,
    pub stages: Vec<StageTime>,
}

impl EpochRecord {
    /// The first law that does not hold, in words; `None` when all do.
    #[must_use]
    pub fn imbalance(&self) -> Option<String> {
        let Self { messages, bronze_rows, dead_letters, silver_rows, duplicates, quarantined, .. } = self;
        if *messages != bronze_rows + dead_letters {
            return Some(format!(
                "{messages} messages read, but {bronze_rows} bronze rows + {dead_letters} dead letters"
            ));
        }
        let refined = silver_rows + duplicates + quarantined;
        (self.kind == EpochKind::Stream && *bronze_rows != refined).then(|| {
            format!(
                "{bronze_rows} bronze rows, but {silver_rows} silver rows + {duplicates} duplicates + {quarantined} quarantined"
            )
        })
    }
}

/// The stages whose time an epoch records.
pub const STAGES: [&str; 9] = ["fetch", "decode", "bronze", "silver", "windows", "scores", "encode", "commit", "other"];
