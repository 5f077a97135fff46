use serde::{Deserialize, Serialize};

/// The `[console]` section of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleSettings {
    /// Whether there is a page at all.
    pub enabled: bool,
    /// A question that takes longer is stopped.
    pub statement_timeout_ms: u64,
    /// One that waits longer for its turn is told to come back.
    pub wait_timeout_ms: u64,
    /// What all questions together may hold in memory; sorts and joins beyond it go to temporary files.
    pub memory_bytes_max: usize,
    /// An answer has so many rows at most; the page says when there are more.
    pub rows_max: usize,
    /// And so many bytes of JSON, about.
    pub answer_bytes_max: usize,
    /// Questions that compute at a time; others wait.
    pub statements_max: usize,
    /// Threads that compute; 0 takes half of the cores.
    pub threads: usize,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            statement_timeout_ms: 8_000,
            wait_timeout_ms: 1_500,
            memory_bytes_max: 256 << 20,
            rows_max: 1_000,
            answer_bytes_max: 8 << 20,
            statements_max: 2,
            threads: 0,
        }
    }
}

impl ConsoleSettings {
    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let own = [
            ("statement_timeout_ms", self.statement_timeout_ms == 0, "must be at least 1"),
            ("wait_timeout_ms", self.wait_timeout_ms == 0, "must be at least 1"),
            ("memory_bytes_max", self.memory_bytes_max < 16 << 20, "must be at least 16777216"),
            ("rows_max", self.rows_max == 0, "must be at least 1"),
            ("answer_bytes_max", self.answer_bytes_max < 64 << 10, "must be at least 65536"),
            ("statements_max", self.statements_max == 0, "must be at least 1"),
        ];
        own.into_iter().find(|(_, is_bad, _)| *is_bad).map(|(key, _, cause)| (key, cause))
    }
}
