use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::OnlineError;
use crate::contract::Secret;

/// The `[online]` section of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineSettings {
    /// `redis://host:port/database` or `rediss://…`, without a password; empty to serve from memory.
    pub redis: String,
    /// Its one line is the password.
    pub password_file: PathBuf,
    /// From the variable only.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// Certificates, PEM, that vouch for the server; those of the system where it is empty.
    pub ca_file: PathBuf,
    /// The keys begin with it.
    pub prefix: String,
    /// A request waits no longer for Redis.
    pub timeout_ms: u64,
    /// States that are written at a time.
    pub batch: usize,
}

impl Default for OnlineSettings {
    fn default() -> Self {
        Self {
            redis: String::new(),
            password_file: PathBuf::new(),
            password: None,
            ca_file: PathBuf::new(),
            prefix: "assay".into(),
            timeout_ms: 20,
            batch: 100,
        }
    }
}

/// Redis answers nobody while it writes a batch: 10 µs a state.
const BATCH_MAX: usize = 1000;

impl OnlineSettings {
    /// Whether requests are answered from Redis.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.redis.is_empty()
    }

    /// The key that cannot work, and what it accepts. An address that is not given is no fault.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.timeout_ms == 0 {
            return Some(("timeout_ms", "must be at least 1".to_owned()));
        }
        if !(1..=BATCH_MAX).contains(&self.batch) {
            return Some(("batch", format!("must be from 1 to {BATCH_MAX}")));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.prefix.is_empty() || !self.prefix.chars().all(is_plain) {
            return Some(("prefix", "must be a name of letters, digits, `-`, `_` and `.`".to_owned()));
        }
        match self.address() {
            Err(OnlineError::Setting { key, cause }) if self.is_on() => Some((key, cause)),
            _ => None,
        }
    }

    /// The address, as far as it may be shown.
    ///
    /// # Errors
    /// When it cannot be used, or holds a password.
    pub(super) fn address(&self) -> Result<Url, OnlineError> {
        let no = |cause: String| OnlineError::Setting { key: "redis", cause };
        if !self.is_on() {
            return Err(no("is empty; give --redis redis://host:6379, or set it in [online]".to_owned()));
        }
        let url = Url::parse(&self.redis).map_err(|cause| no(format!("is no address ({cause})")))?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err(no("must begin with redis:// or rediss://".to_owned()));
        }
        if url.password().is_some() {
            return Err(no(
                "holds a password; take it out, and give ASSAY_ONLINE_PASSWORD or online.password_file instead"
                    .to_owned(),
            ));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(no("names no host: redis://host:6379".to_owned()));
        }
        // What comes behind would be ignored without a word.
        if url.query().is_some() || url.fragment().is_some() {
            return Err(no("takes nothing behind the database: redis://host:6379/0".to_owned()));
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err(no(format!("names the database `{database}`, which is no number: redis://host:6379/0")));
        }
        Ok(url)
    }

    pub(super) fn password(&self) -> Result<Option<String>, OnlineError> {
        let password = Secret::given_or_in(self.password.as_ref(), &self.password_file);
        let password = password.map_err(|cause| OnlineError::Setting { key: "password_file", cause })?;
        Ok(password.map(|Secret(password)| password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut OnlineSettings)) -> String {
        let mut settings = OnlineSettings { redis: "redis://cache:6379/2".into(), ..OnlineSettings::default() };
        change(&mut settings);
        settings.problem().map(|(key, cause)| format!("{key} {cause}")).unwrap_or_default()
    }

    #[test]
    fn what_cannot_work_is_told_by_its_key() {
        assert_eq!(problem(|_| ()), "");
        assert_eq!(problem(|settings| settings.redis = String::new()), "");
        assert_eq!(problem(|settings| settings.redis = "rediss://ana@cache".into()), "");
        let told = problem(|settings| settings.redis = "redis://:hush@cache".into());
        assert!(told.contains("ASSAY_ONLINE_PASSWORD") && !told.contains("hush"), "{told}");
        for (address, part) in [
            ("http://cache", "redis://"),
            ("cache:6379", "redis://"),
            ("redis://", "host"),
            ("redis://cache/users", "no number"),
            ("redis://cache/0?timeout=3", "nothing behind"),
        ] {
            assert!(problem(|settings| settings.redis = address.into()).contains(part), "{address}");
        }
        assert!(problem(|settings| settings.timeout_ms = 0).starts_with("timeout_ms"));
        assert!(problem(|settings| settings.batch = 0).starts_with("batch"));
        assert!(problem(|settings| settings.prefix = "a b".into()).starts_with("prefix"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings = OnlineSettings { password: Some(Secret("hidden".into())), ..OnlineSettings::default() };
        assert!(!format!("{settings:?}").contains("hidden"));
        assert_eq!(settings.password().unwrap().as_deref(), Some("hidden"));
    }
}
