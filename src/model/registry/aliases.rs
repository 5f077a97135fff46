use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RegistryError, Version};

/// The alias that is served.
pub const CHAMPION: &str = "champion";
/// The alias that is tried beside it.
pub const CHALLENGER: &str = "challenger";
/// Former champions that can be returned to.
const HISTORY_MAX: usize = 100;

/// Which version each alias stands for, and who was champion before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aliases {
    aliases: BTreeMap<String, Version>,
    /// The champions, the present one last. A rollback takes the last one off.
    champions: Vec<Promotion>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    pub version: Version,
    /// Microseconds since 1970.
    pub at_us: i64,
}

impl Aliases {
    #[must_use]
    pub fn get(&self, alias: &str) -> Option<&Version> {
        self.aliases.get(alias)
    }

    /// By the name of the alias.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Version)> {
        self.aliases.iter().map(|(alias, version)| (alias.as_str(), version))
    }

    /// The aliases of a version, sorted.
    #[must_use]
    pub fn of(&self, version: &Version) -> Vec<&str> {
        self.iter().filter(|(_, of)| *of == version).map(|(alias, _)| alias).collect()
    }

    /// The champions in their order, the present one last.
    #[must_use]
    pub fn champions(&self) -> &[Promotion] {
        &self.champions
    }

    /// To whom a rollback returns.
    #[must_use]
    pub fn previous(&self) -> Option<&Version> {
        self.champions.iter().rev().nth(1).map(|promotion| &promotion.version)
    }

    pub(super) fn promote(&mut self, alias: &str, version: &Version, now_us: i64) -> Option<Version> {
        let before = self.aliases.insert(alias.to_owned(), version.clone());
        // Promoting the champion again changes nothing, else a rollback would return to itself.
        if alias == CHAMPION && before.as_ref() != Some(version) {
            self.champions.push(Promotion { version: version.clone(), at_us: now_us });
            let surplus = self.champions.len().saturating_sub(HISTORY_MAX);
            self.champions.drain(..surplus);
        }
        before
    }

    pub(super) fn rollback(&mut self, now_us: i64) {
        self.champions.pop();
        if let Some(last) = self.champions.last_mut() {
            last.at_us = now_us;
            self.aliases.insert(CHAMPION.to_owned(), last.version.clone());
        }
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        if read.get(CHAMPION) == read.champions.last().map(|promotion| &promotion.version) {
            Ok(read)
        } else {
            Err("the champion is not the last of its champions".to_owned())
        }
    }

    pub(super) fn to_json(&self) -> Result<String, RegistryError> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|cause| RegistryError::Json { what: "the list of aliases", cause: cause.to_string() })
    }
}
