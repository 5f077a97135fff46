use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::{Layer, TableName};

/// The `[postgres]` section of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// Where to listen, `host:port`; port 0 takes a free one, empty does not listen.
    pub address: String,
    /// A file of users, one a line: `name:SCRAM-SHA-256$…`, or `name:password`.
    pub password_file: PathBuf,
    /// The server's certificate and its key, PEM; without them connections are not encrypted.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// What users may read, by name. Without any, every user reads everything.
    pub roles: BTreeMap<String, Role>,
    /// More connections are refused with 53300.
    pub connections_max: usize,
    /// Queries that compute at a time; others wait.
    pub statements_max: usize,
    /// Threads that compute for queries; 0 takes half of the cores.
    pub threads: usize,
    /// A statement that takes longer is cancelled with 57014; 0 never.
    pub statement_timeout_ms: u64,
    /// What all queries together may hold in memory; sorts and joins beyond it go to temporary files, or fail with 53200.
    pub memory_bytes_max: usize,
    /// A query that gives more rows fails with 54000; 0 never.
    pub rows_max: u64,
    /// How long a shutdown waits for the statements under way.
    pub drain_timeout_ms: u64,
    /// The verifier of the user `assay`, whose password came by a variable.
    #[serde(skip)]
    pub password: Option<String>,
}

/// What a user may read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Role {
    /// Tables as `layer.name`, `layer.*`, or `*`.
    pub tables: Vec<String>,
    /// By table, a condition that a row must meet to be seen.
    pub rows: BTreeMap<String, String>,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            address: String::new(),
            password_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            roles: BTreeMap::new(),
            connections_max: 64,
            statements_max: 4,
            threads: 0,
            statement_timeout_ms: 60_000,
            memory_bytes_max: 512 << 20,
            rows_max: 10_000_000,
            drain_timeout_ms: 5_000,
            password: None,
        }
    }
}

impl PostgresSettings {
    /// The key that cannot work, and what it accepts.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String)> {
        let own = [
            ("connections_max", self.connections_max == 0, "must be at least 1"),
            ("statements_max", self.statements_max == 0, "must be at least 1"),
            ("memory_bytes_max", self.memory_bytes_max < 16 << 20, "must be at least 16777216"),
            (
                "key_file",
                self.certificate_file.as_os_str().is_empty() != self.key_file.as_os_str().is_empty(),
                "and postgres.certificate_file go together: give both or none",
            ),
        ];
        if let Some((key, _, cause)) = own.into_iter().find(|(_, is_bad, _)| *is_bad) {
            return Some((key.to_owned(), cause.to_owned()));
        }
        for (name, role) in &self.roles {
            if let Some(bad) = role.tables.iter().find(|pattern| Grant::parse(pattern).is_none()) {
                let cause =
                    format!("names `{bad}`: give layer.name, layer.* or *, of bronze, silver, gold, ml and ops");
                return Some((format!("roles.{name}.tables"), cause));
            }
            if let Some(bad) = role.rows.keys().find(|table| table.parse::<TableName>().is_err()) {
                return Some((format!("roles.{name}.rows"), format!("names `{bad}`: give layer.name")));
            }
        }
        None
    }
}

impl Role {
    /// Whether a table is among those granted.
    #[must_use]
    pub fn may_read(&self, table: &TableName) -> bool {
        self.tables.iter().filter_map(|pattern| Grant::parse(pattern)).any(|grant| grant.covers(table))
    }
}

enum Grant {
    All,
    Layer(Layer),
    Table(TableName),
}

impl Grant {
    fn parse(pattern: &str) -> Option<Self> {
        match pattern.split_once('.') {
            None if pattern == "*" => Some(Self::All),
            Some((layer, "*")) => Layer::ALL.into_iter().find(|known| known.as_str() == layer).map(Self::Layer),
            Some(_) => pattern.parse().ok().map(Self::Table),
            None => None,
        }
    }

    fn covers(&self, table: &TableName) -> bool {
        match self {
            Self::All => true,
            Self::Layer(layer) => *layer == table.layer,
            Self::Table(name) => name == table,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_name_a_table_a_layer_or_everything() {
        let role =
            |tables: &[&str]| Role { tables: tables.iter().map(|t| (*t).to_owned()).collect(), ..Role::default() };
        let scores: TableName = "gold.fraud_scores".parse().unwrap();
        assert!(role(&["*"]).may_read(&scores));
        assert!(role(&["gold.*"]).may_read(&scores));
        assert!(role(&["ops.epochs", "gold.fraud_scores"]).may_read(&scores));
        assert!(!role(&["silver.*", "gold.platform_hourly"]).may_read(&scores));
        assert!(!role(&[]).may_read(&scores));
    }

    #[test]
    fn a_grant_that_names_nothing_is_refused() {
        for bad in ["gold", "lead.*", ""] {
            let role = Role { tables: vec![bad.to_owned()], ..Role::default() };
            let settings = PostgresSettings { roles: [("a".to_owned(), role)].into(), ..PostgresSettings::default() };
            let (key, _) = settings.problem().unwrap();
            assert_eq!(key, "roles.a.tables", "{bad}");
        }
    }
}
