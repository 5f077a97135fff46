//! Names that become folders: checked once, then trusted.

use std::fmt;

use chrono::{NaiveDateTime, TimeDelta};
use serde::{Deserialize, Serialize};

use super::RegistryError;

/// What a model is called: it is a folder's name too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

/// When a run began, in UTC: `20261121T104500Z`. Versions sort by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub name: ModelName,
    pub which: Which,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Alias(String),
    Version(Version),
}

const VERSION_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const NAME_MUST_BE: &str = "1 to 64 of a-z, 0-9, _ and -, and begin with a letter or a digit";

impl ModelName {
    /// # Errors
    /// When it is not 1 to 64 of `a-z`, `0-9`, `_` and `-`, or begins with `_` or `-`.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        if is_word(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(RegistryError::Name { what: "name of a model", text: text.to_owned(), must_be: NAME_MUST_BE })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Version {
    /// The version of a run that began then; years beyond 9999 have none, and are taken as 1970.
    #[must_use]
    pub fn at(now_us: i64) -> Self {
        let at = chrono::DateTime::from_timestamp_micros(now_us).unwrap_or_default();
        Self(at.format(VERSION_FORMAT).to_string())
    }

    /// # Errors
    /// When it is no time as `20261121T104500Z`.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        if text.len() == 16 && NaiveDateTime::parse_from_str(text, VERSION_FORMAT).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(RegistryError::Name { what: "version", text: text.to_owned(), must_be: "a time as 20261121T104500Z" })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn micros(&self) -> i64 {
        NaiveDateTime::parse_from_str(&self.0, VERSION_FORMAT).unwrap_or_default().and_utc().timestamp_micros()
    }

    pub(super) fn later(&self, seconds: i64) -> Self {
        Self::at(self.micros().saturating_add(TimeDelta::seconds(seconds).num_microseconds().unwrap_or(0)))
    }
}

impl Reference {
    /// `NAME`, `NAME@VERSION` or `NAME@ALIAS`; the name alone means `alias`.
    ///
    /// # Errors
    /// When a part cannot be what it should.
    pub fn parse(text: &str, alias: &str) -> Result<Self, RegistryError> {
        let Some((name, which)) = text.split_once('@') else {
            return Ok(Self { name: ModelName::parse(text)?, which: Which::Alias(alias.to_owned()) });
        };
        let which = Which::parse(which)?;
        Ok(Self { name: ModelName::parse(name)?, which })
    }
}

impl Which {
    /// A version, or else an alias.
    ///
    /// # Errors
    /// When it can be neither.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        match Version::parse(text) {
            Ok(version) => Ok(Self::Version(version)),
            Err(_) => {
                check_alias(text)?;
                Ok(Self::Alias(text.to_owned()))
            }
        }
    }
}

pub(super) fn check_alias(alias: &str) -> Result<(), RegistryError> {
    if is_word(alias) {
        return Ok(());
    }
    Err(RegistryError::Name { what: "version or alias", text: alias.to_owned(), must_be: NAME_MUST_BE })
}

fn is_word(text: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=64).contains(&text.len()) && text.chars().all(ok) && !text.starts_with(['_', '-'])
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ModelName {
    type Error = RegistryError;

    fn try_from(text: String) -> Result<Self, RegistryError> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for Version {
    type Error = RegistryError;

    fn try_from(text: String) -> Result<Self, RegistryError> {
        Self::parse(&text)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}
