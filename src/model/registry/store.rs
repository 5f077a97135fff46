//! What a registry asks of the place where its files are. Every call may block.

use std::collections::BTreeMap;

use super::{RegistryError, Version};

/// A version that is to be written: its files by name, and what seals it.
pub(super) struct Draft<'a> {
    pub model: &'a str,
    pub files: &'a BTreeMap<String, Vec<u8>>,
    /// The manifest as it is written, which says the version.
    pub manifest: &'a mut dyn FnMut(&Version) -> Result<Vec<u8>, RegistryError>,
}

/// What takes the content of a file, `None` where there is none, and gives what is to replace it, `None` to leave it.
pub(super) type Change<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Result<Option<Vec<u8>>, RegistryError>;

/// A place of files, named from its root: `fraud/aliases.json`.
pub(super) trait Store: std::fmt::Debug + Send + Sync {
    /// Where it is, as a person would write it; with the name of a file, where that is.
    fn place(&self, name: &str) -> String;

    /// Whether it may take its time to answer.
    fn is_remote(&self) -> bool;

    /// The names of models, and maybe of more.
    fn models(&self) -> Result<Vec<String>, RegistryError>;

    /// The names of versions of a model, and maybe of more.
    fn versions(&self, model: &str) -> Result<Vec<String>, RegistryError>;

    /// The content of each file in their order; `None` for one that is not there.
    fn read(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, RegistryError>;

    /// As [`Store::read`], for one that is read again and again and seldom changes.
    fn look(&self, name: &str) -> Result<Option<Vec<u8>>, RegistryError>;

    /// Writes a version so that nobody ever sees a part of it, as the first of `versions` that nobody has; which one that
    /// was, or `None` when all are taken.
    fn record(
        &self,
        versions: &mut dyn Iterator<Item = Version>,
        draft: Draft<'_>,
    ) -> Result<Option<Version>, RegistryError>;

    /// Replaces a file as one by what `change` makes of it, while nobody else changes it. Where others come between,
    /// `change` is asked anew.
    fn change(&self, name: &str, change: Change<'_>) -> Result<(), RegistryError>;
}
