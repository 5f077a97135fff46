use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::serve::sql::PostgresSettings;

/// The `[flight]` section of the settings. Users, roles, threads, memory and turns are those of `[postgres]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlightSettings {
    /// Where to listen, `host:port`; port 0 takes a free one, empty does not listen.
    pub address: String,
    /// The server's certificate and its key, PEM; without them those of `[postgres]`, and without these nothing is encrypted.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Further connections wait in the system's queue.
    pub connections_max: usize,
    /// Questions that are planned or answered at a time; more are refused.
    pub questions_max: usize,
    /// A statement that computes for longer is stopped; 0 never.
    pub statement_timeout_ms: u64,
    /// A query that gives more rows fails; 0 never.
    pub rows_max: u64,
    /// So many tickets, prepared statements and transactions are kept, of each; who has the most loses the oldest.
    pub kept_max: usize,
    /// A ticket that is not used for so long is forgotten.
    pub ticket_timeout_s: u64,
    /// So are a transaction, a prepared statement, and an answer of which nothing is read.
    pub idle_timeout_s: u64,
    /// How long who has logged in need not show the password again.
    pub login_timeout_s: u64,
    /// How long a shutdown waits for the statements under way.
    pub drain_timeout_ms: u64,
}

impl Default for FlightSettings {
    fn default() -> Self {
        Self {
            address: String::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            connections_max: 64,
            questions_max: 64,
            statement_timeout_ms: 300_000,
            rows_max: 100_000_000,
            kept_max: 256,
            ticket_timeout_s: 60,
            idle_timeout_s: 600,
            login_timeout_s: 86_400,
            drain_timeout_ms: 5_000,
        }
    }
}

impl FlightSettings {
    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let own = [
            ("connections_max", self.connections_max == 0, "must be at least 1"),
            ("questions_max", self.questions_max == 0, "must be at least 1"),
            ("kept_max", self.kept_max == 0, "must be at least 1"),
            ("ticket_timeout_s", self.ticket_timeout_s == 0, "must be at least 1"),
            ("idle_timeout_s", self.idle_timeout_s == 0, "must be at least 1"),
            ("login_timeout_s", self.login_timeout_s == 0, "must be at least 1"),
            (
                "key_file",
                self.certificate_file.as_os_str().is_empty() != self.key_file.as_os_str().is_empty(),
                "and flight.certificate_file go together: give both or none",
            ),
        ];
        own.into_iter().find(|(_, is_bad, _)| *is_bad).map(|(key, _, cause)| (key, cause))
    }

    /// Certificate and key, and the section that names them.
    pub(super) fn certificate<'a>(&'a self, other: &'a PostgresSettings) -> (&'static str, [&'a Path; 2]) {
        if self.certificate_file.as_os_str().is_empty() {
            ("postgres", [&other.certificate_file, &other.key_file])
        } else {
            ("flight", [&self.certificate_file, &self.key_file])
        }
    }
}
