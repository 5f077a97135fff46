use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use tokio_postgres::config::{Host, SslMode as ClientMode};
use url::Url;

use super::error::WarehouseError;
use crate::contract::Secret;

/// How long a server may take in nothing while rows are sent to it.
const BUSY_S: u64 = 300;
const KEEPALIVE_INTERVAL_S: u64 = 10;
const KEEPALIVE_RETRIES: u32 = 3;

/// Where the warehouse is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarehouseSettings {
    /// `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// Its one line is the password.
    pub password_file: PathBuf,
    /// From the variable only.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// The schema that holds the tables.
    pub schema: String,
    pub sslmode: SslMode,
    /// Certificates, PEM, that vouch for the server; those of the system where it is empty.
    pub ca_file: PathBuf,
    pub connect_timeout_s: u64,
    /// A connection that is silent for so long is asked whether it is alive; 0 leaves that to the system.
    pub keepalive_s: u64,
    /// Rows of silver that one transaction takes, at least one epoch.
    pub transaction_rows: u64,
}

impl Default for WarehouseSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: PathBuf::new(),
            password: None,
            schema: "warehouse".into(),
            sslmode: SslMode::Prefer,
            ca_file: PathBuf::new(),
            connect_timeout_s: 10,
            keepalive_s: 30,
            transaction_rows: 1_000_000,
        }
    }
}

/// As the `sslmode` of PostgreSQL's own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    Disable,
    /// Encrypted if the server can; nobody vouches for it.
    #[default]
    Prefer,
    /// Encrypted; nobody vouches for the server.
    Require,
    /// Encrypted, and the server is the one that the address names.
    VerifyFull,
}

impl SslMode {
    const ALL: [(&str, Self); 4] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-full", Self::VerifyFull),
    ];
}

/// How to reach the server.
#[derive(Debug, Clone)]
pub struct Target {
    pub client: tokio_postgres::Config,
    pub mode: SslMode,
    /// For people and logs: `host:port/database`.
    pub shown: String,
}

impl WarehouseSettings {
    /// The key that cannot work, and what it accepts. An address that is not given is no fault here.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let name = &self.schema;
        if !crate::refine::is_plain(name) || name.len() > 63 || name.starts_with("pg_") {
            return Some(("schema", format!("`{name}` must be a name of a-z, 0-9 and _, and not begin with pg_")));
        }
        if self.transaction_rows == 0 {
            return Some(("transaction_rows", "must be at least 1".to_owned()));
        }
        if self.connect_timeout_s == 0 {
            return Some(("connect_timeout_s", "must be at least 1".to_owned()));
        }
        match self.target() {
            Err(WarehouseError::Setting { key, cause }) if !self.url.is_empty() && key == "url" => Some((key, cause)),
            _ => None,
        }
    }

    /// The address taken apart, with the password from its file or variable.
    ///
    /// # Errors
    /// When the address cannot be used or holds a password, or the file of the password cannot be read.
    pub fn target(&self) -> Result<Target, WarehouseError> {
        let no = |cause: String| WarehouseError::Setting { key: "url", cause };
        if self.url.is_empty() {
            return Err(no("is empty; give --url postgres://user@host:5432/database, or set it in [warehouse]".into()));
        }
        let mut url = Url::parse(&self.url).map_err(|cause| no(format!("is no address ({cause})")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(no("must begin with postgres://".to_owned()));
        }
        let has_password = url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password");
        if has_password {
            return Err(no(
                "holds a password; take it out, and give ASSAY_WAREHOUSE_PASSWORD or warehouse.password_file instead"
                    .to_owned(),
            ));
        }
        let mut mode = self.sslmode;
        let mut rest = Vec::new();
        for (key, value) in url.query_pairs() {
            if key == "sslmode" {
                let found = SslMode::ALL.into_iter().find(|(name, _)| *name == value);
                let (_, found) = found.ok_or_else(|| {
                    no(format!("has sslmode={value}, which is not one of: disable, prefer, require, verify-full"))
                })?;
                mode = found;
            } else {
                rest.push((key.into_owned(), value.into_owned()));
            }
        }
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        let mut client = tokio_postgres::Config::from_str(url.as_str()).map_err(|cause| no(format!("{cause}")))?;
        if client.get_user().is_none() {
            return Err(no("names no user: postgres://user@host:5432/database".to_owned()));
        }
        if client.get_hosts().is_empty() {
            return Err(no("names no host: postgres://user@host:5432/database".to_owned()));
        }
        if client.get_dbname().is_none() {
            return Err(no("names no database: postgres://user@host:5432/database".to_owned()));
        }
        if let Some(password) = self.password()? {
            client.password(password);
        }
        let seconds = std::time::Duration::from_secs;
        client.connect_timeout(seconds(self.connect_timeout_s));
        if self.keepalive_s > 0 {
            // A server that is gone is noticed after three more, rather than after the two hours of most systems.
            client.keepalives(true).keepalives_idle(seconds(self.keepalive_s));
            client.keepalives_interval(seconds(KEEPALIVE_INTERVAL_S)).keepalives_retries(KEEPALIVE_RETRIES);
            let most = self.keepalive_s.saturating_add(KEEPALIVE_INTERVAL_S * u64::from(KEEPALIVE_RETRIES));
            // While rows are under way it may be busy for as long as that.
            client.tcp_user_timeout(seconds(most.max(BUSY_S)));
        }
        client.ssl_mode(match mode {
            SslMode::Disable => ClientMode::Disable,
            SslMode::Prefer => ClientMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => ClientMode::Require,
        });
        let shown = shown(&client);
        Ok(Target { client, mode, shown })
    }

    fn password(&self) -> Result<Option<String>, WarehouseError> {
        let password = Secret::given_or_in(self.password.as_ref(), &self.password_file);
        let password = password.map_err(|cause| WarehouseError::Setting { key: "password_file", cause })?;
        Ok(password.map(|Secret(password)| password))
    }
}

fn shown(client: &tokio_postgres::Config) -> String {
    let host = match client.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        _ => String::new(),
    };
    let port = client.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", client.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        let settings = WarehouseSettings { url: url.into(), ..WarehouseSettings::default() };
        settings.target().map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_holds_no_password_and_names_all_that_it_must() {
        let told = target("postgres://ana:secret@db/shop").unwrap_err();
        assert!(told.contains("ASSAY_WAREHOUSE_PASSWORD") && !told.contains("secret"), "{told}");
        assert!(target("postgres://ana@db/shop?password=secret").unwrap_err().contains("holds a password"));
        assert!(target("postgres://db/shop").unwrap_err().contains("no user"));
        assert!(target("postgres://ana@db").unwrap_err().contains("no database"));
        assert!(target("mysql://ana@db/shop").unwrap_err().contains("postgres://"));
        assert!(target("").unwrap_err().contains("--url"));
        assert_eq!(target("postgres://ana@db:5433/shop").unwrap().shown, "db:5433/shop");
    }

    #[test]
    fn the_mode_of_the_address_rules() {
        assert_eq!(target("postgres://ana@db/shop").unwrap().mode, SslMode::Prefer);
        assert_eq!(target("postgres://ana@db/shop?sslmode=verify-full").unwrap().mode, SslMode::VerifyFull);
        assert!(target("postgres://ana@db/shop?sslmode=allow").unwrap_err().contains("verify-full"));
    }

    #[test]
    fn a_silent_server_is_asked_whether_it_is_alive() {
        let with = |keepalive_s| {
            let url = "postgres://ana@db/shop".into();
            WarehouseSettings { url, keepalive_s, ..WarehouseSettings::default() }.target().unwrap().client
        };
        assert_eq!(with(30).get_keepalives_idle(), std::time::Duration::from_secs(30));
        assert_eq!(with(30).get_tcp_user_timeout(), Some(&std::time::Duration::from_secs(300)), "it may be busy");
        assert_eq!(with(1000).get_tcp_user_timeout(), Some(&std::time::Duration::from_secs(1030)));
        assert_eq!(with(0).get_tcp_user_timeout(), None);
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings = WarehouseSettings { password: Some(Secret("hidden".into())), ..WarehouseSettings::default() };
        assert!(!format!("{settings:?}").contains("hidden"));
        let target = WarehouseSettings { url: "postgres://ana@db/shop".into(), ..settings }.target().unwrap();
        assert_eq!(target.client.get_password(), Some(b"hidden".as_slice()));
        assert!(!format!("{target:?}").contains("hidden"));
    }
}
