use crate::domain::Partition;

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("kafka.{key}: {cause}")]
    Setting { key: String, cause: String },

    #[error("Kafka at {brokers} could not {action}: {cause}; check that the brokers are up and reachable")]
    Unavailable { brokers: String, action: &'static str, cause: String },

    #[error("topic `{topic}` does not exist on {brokers}; create it, or correct kafka.topics")]
    UnknownTopic { topic: String, brokers: String },

    #[error(
        "data loss in {partition}: offset {position} is next, but the earliest that Kafka still holds is {earliest}, so \
         {} offsets are gone; set kafka.on_data_loss = \"continue\" to go on at the earliest",
        earliest - position
    )]
    DataLoss { partition: Partition, position: i64, earliest: i64 },

    #[error(
        "{partition} ends at offset {latest}, but offset {position} is next: the topic was truncated or created anew; \
         give the new topic a lake of its own, or restore the old one"
    )]
    BeyondEnd { partition: Partition, position: i64, latest: i64 },

    #[error("the Kafka client failed for good and must be started again: {cause}")]
    Fatal { cause: String },

    #[error("{failed} messages were not delivered to Kafka; the first failed with: {cause}")]
    Undelivered { failed: u64, cause: String },

    #[error("`{url}` could not be {action}: {cause}")]
    File { url: String, action: &'static str, cause: String },

    #[error("`{url}` has no format that can be told from its name; use .csv, .csv.gz, .jsonl, .ndjson or .parquet")]
    UnknownFormat { url: String },

    #[error("`{url}` has no column `{column}`, which the contract requires; its columns are: {found}")]
    MissingColumn { url: String, column: String, found: String },

    #[error("`{url}` has the column `{column}` twice for the field `{field}`; keep one of them")]
    AmbiguousColumn { url: String, field: String, column: String },

    #[error(
        "field `{field}` of the contract has the type {kind}, which files cannot be read into; load it through Kafka"
    )]
    UnsupportedField { field: String, kind: String },

    #[error("`{url}`, line {line}: the record is larger than {max_bytes} bytes; a quote may be left open")]
    RecordTooLarge { url: String, line: u64, max_bytes: usize },
}

impl SourceError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Fatal { .. } | Self::Undelivered { .. })
    }

    /// Whether the settings, the topic or the file must be corrected first.
    #[must_use]
    pub const fn is_setting(&self) -> bool {
        matches!(
            self,
            Self::Setting { .. }
                | Self::UnknownTopic { .. }
                | Self::UnknownFormat { .. }
                | Self::MissingColumn { .. }
                | Self::AmbiguousColumn { .. }
                | Self::UnsupportedField { .. }
        )
    }
}
