use serde::{Deserialize, Serialize};

/// The bounds of the caches that refining holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefineSettings {
    /// Ids are loaded from the lake and forgotten by spans of event time of this length. At 5,000 events a second ten
    /// minutes are 30 MB.
    pub dedup_span_seconds: u32,
    /// Ids in memory, in bytes: at 5,000 events a second, those of an hour and a half. Spans in which no row falls for ten
    /// minutes of event time are forgotten anyway. A single span may exceed it.
    pub dedup_bytes_max: usize,
    /// Event times held for each running count, in bytes. A single span may exceed it.
    pub trailing_bytes_max: usize,
}

impl Default for RefineSettings {
    fn default() -> Self {
        Self { dedup_span_seconds: 600, dedup_bytes_max: 256 << 20, trailing_bytes_max: 256 << 20 }
    }
}
