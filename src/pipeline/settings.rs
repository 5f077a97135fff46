use serde::{Deserialize, Serialize};

/// How the stream is cut into epochs, and how patient the pipeline is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpochSettings {
    /// An epoch is written after this many milliseconds, when the pipeline keeps up.
    pub interval_ms: u64,
    /// When it is behind, epochs grow to this many messages: larger ones cost less each.
    pub messages_max: u64,
    /// An epoch holds no more than this many bytes of payloads.
    pub bytes_max: u64,
    /// How far event times may lie behind the newest one before a row counts as late, in seconds.
    pub lateness_s: u64,
    /// How long a store that refuses writes is tried again, in seconds.
    pub store_patience_s: u64,
}

impl Default for EpochSettings {
    fn default() -> Self {
        Self { interval_ms: 1000, messages_max: 250_000, bytes_max: 128 << 20, lateness_s: 120, store_patience_s: 300 }
    }
}

impl EpochSettings {
    /// The tolerance of the watermark in microseconds.
    #[must_use]
    pub fn lateness_us(&self) -> i64 {
        i64::try_from(self.lateness_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
    }
}
