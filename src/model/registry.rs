//! Where models are kept: `<name>/<version>/` in a folder or on an object store, never overwritten, and verified whole
//! whenever one is loaded.

mod aliases;
mod error;
mod folder;
mod manifest;
mod names;
#[cfg(any(test, feature = "s3"))]
mod objects;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use aliases::{Aliases, CHALLENGER, CHAMPION, Promotion};
pub use error::RegistryError;
pub use manifest::{DataSource, FORMAT, FileSum, ImportSource, LakeColumn, LakeSource, Manifest, Recorded};
pub use names::{ModelName, Reference, Version, Which};

use folder::Folder;
use store::{Draft, Store};

use super::drift::Baseline;
use super::{TrainReport, TrainedModel};

/// The model itself.
pub const MODEL_FILE: &str = "model.json";
/// What later rows are compared with; models of older versions of assay have none.
pub const BASELINE_FILE: &str = "baseline.json";
/// What the run that made a version found.
pub const REPORT_FILE: &str = "report.json";
/// What a version is, with a checksum of each of its files and of itself.
pub const MANIFEST_FILE: &str = "manifest.json";
const ALIASES_FILE: &str = "aliases.json";
/// Versions are times to the second; runs that end in the same one take the next free.
const SECONDS_TRIED: i64 = 60;
/// How often, and for how long, a request to an object store that failed is repeated, where it may be.
#[cfg(feature = "s3")]
const RETRIES: usize = 4;
#[cfg(feature = "s3")]
const RETRIED_FOR: std::time::Duration = std::time::Duration::from_secs(10);
const MISSING: &str = "it is missing";

/// A place of models. Every call may block, on an object store for as long as that takes to answer.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
}

/// A version as it is stored, verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub manifest: Manifest,
    /// Absent when the samples of the run were refused.
    pub model: Option<TrainedModel>,
    /// Absent without a model, and in versions that an older assay trained.
    pub baseline: Option<Baseline>,
}

impl Registry {
    /// In a folder. Creates nothing before something is recorded.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { store: Arc::new(Folder::new(folder.into())) }
    }

    /// In a folder, or on an object store: `s3://bucket/prefix`, with options that lie over the variables `AWS_*`. Nothing is
    /// asked of the store yet.
    ///
    /// # Errors
    /// When there is no such store, or an option cannot be used.
    pub fn open(location: &str, options: &BTreeMap<String, String>) -> Result<Self, RegistryError> {
        let error = |cause: String| RegistryError::Location { location: location.to_owned(), cause };
        if !location.contains("://") {
            return Ok(Self::new(location));
        }
        let url = url::Url::parse(location).map_err(|cause| error(cause.to_string()))?;
        if let Ok(folder) = url.to_file_path()
            && url.scheme() == "file"
        {
            return Ok(Self::new(folder));
        }
        Self::on_store(location, &url, options)
    }

    #[cfg(feature = "s3")]
    fn on_store(location: &str, url: &url::Url, options: &BTreeMap<String, String>) -> Result<Self, RegistryError> {
        use object_store::RetryConfig;
        use object_store::prefix::PrefixStore;

        use crate::store;

        let error = |cause: String| RegistryError::Location { location: location.to_owned(), cause };
        if !store::SCHEMES.contains(&url.scheme()) {
            return Err(error(format!("there is no store for {}://", url.scheme())));
        }
        let open = |max_retries: usize| {
            let retry = RetryConfig { max_retries, retry_timeout: RETRIED_FOR, ..RetryConfig::default() };
            let (store, prefix) = store::open(url, options, retry).map_err(|cause| error(cause.to_string()))?;
            Ok(Arc::new(PrefixStore::new(store, prefix)))
        };
        Ok(Self { store: Arc::new(objects::Objects::new(location, open(RETRIES)?, open(0)?)?) })
    }

    #[cfg(not(feature = "s3"))]
    fn on_store(location: &str, _: &url::Url, _: &BTreeMap<String, String>) -> Result<Self, RegistryError> {
        let cause = "this assay is built without object stores".to_owned();
        Err(RegistryError::Location { location: location.to_owned(), cause })
    }

    /// Whether it may take its time to answer.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    /// Where it is, as a person would write it.
    #[must_use]
    pub fn location(&self) -> String {
        self.store.place("")
    }

    /// Where a version is: what its files' names are added to.
    #[must_use]
    pub fn location_of(&self, name: &ModelName, version: &Version) -> String {
        self.store.place(&format!("{name}/{version}"))
    }

    /// Writes a version as one, so that nobody ever sees a part of it.
    ///
    /// `files` are its files by name; the manifest gets their checksums, and the version `version` or the next second
    /// that is free.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(
        &self,
        version: &Version,
        manifest: Manifest,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Manifest, RegistryError> {
        let mut manifest = manifest;
        manifest.files = files.iter().map(|(name, bytes)| (name.clone(), FileSum::of(bytes))).collect();
        let model = manifest.name.to_string();
        let mut versions = (0..SECONDS_TRIED).map(|later_s| version.later(later_s));
        let mut sealed = |version: &Version| {
            manifest.version = version.clone();
            Ok(manifest.to_json()?.into_bytes())
        };
        let taken = self.store.record(&mut versions, Draft { model: &model, files, manifest: &mut sealed })?;
        manifest.version = taken.ok_or(RegistryError::NoFreeVersion { name: model, version: version.to_string() })?;
        Ok(manifest)
    }

    /// The names of all models, sorted.
    ///
    /// # Errors
    /// When they cannot be listed. A folder that does not exist has no models.
    pub fn names(&self) -> Result<Vec<ModelName>, RegistryError> {
        let mut names: Vec<ModelName> =
            self.store.models()?.iter().filter_map(|name| ModelName::parse(name).ok()).collect();
        names.sort();
        Ok(names)
    }

    /// The versions of a model, the newest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn versions(&self, name: &ModelName) -> Result<Vec<Version>, RegistryError> {
        let mut versions: Vec<Version> =
            self.store.versions(name.as_str())?.iter().filter_map(|version| Version::parse(version).ok()).collect();
        versions.sort_by(|one, other| other.cmp(one));
        Ok(versions)
    }

    /// # Errors
    /// When the file cannot be read or is not what was written.
    pub fn aliases(&self, name: &ModelName) -> Result<Aliases, RegistryError> {
        let file = aliases_file(name);
        let bytes = self.store.look(&file)?;
        self.parsed_aliases(&file, bytes.as_deref())
    }

    fn parsed_aliases(&self, file: &str, bytes: Option<&[u8]>) -> Result<Aliases, RegistryError> {
        let Some(bytes) = bytes else { return Ok(Aliases::default()) };
        Aliases::from_json(bytes).map_err(|reason| self.damaged(file, &reason))
    }

    /// The version that an alias stands for, or the one named.
    ///
    /// # Errors
    /// When there is no such model, alias or version; the message names those that there are.
    pub fn resolve(&self, reference: &Reference) -> Result<Version, RegistryError> {
        let name = &reference.name;
        let versions = self.versions(name)?;
        if versions.is_empty() {
            let models: Vec<String> = self.names()?.iter().map(ToString::to_string).collect();
            let folder = self.location();
            return Err(RegistryError::UnknownModel { name: name.to_string(), folder, models: listed(&models) });
        }
        match &reference.which {
            Which::Version(version) if versions.contains(version) => Ok(version.clone()),
            Which::Version(version) => Err(RegistryError::UnknownVersion {
                name: name.to_string(),
                version: version.to_string(),
                versions: listed(&versions.iter().take(5).map(ToString::to_string).collect::<Vec<_>>()),
            }),
            Which::Alias(alias) => {
                let aliases = self.aliases(name)?;
                aliases.get(alias).cloned().ok_or_else(|| RegistryError::UnknownAlias {
                    name: name.to_string(),
                    alias: alias.clone(),
                    aliases: listed(&aliases.iter().map(|(alias, _)| alias.to_owned()).collect::<Vec<_>>()),
                })
            }
        }
    }

    /// What a version says of itself: its manifest agrees with its own checksum, name and place. The other files are
    /// not looked at; [`Registry::load`] does.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn manifest(&self, name: &ModelName, version: &Version) -> Result<Manifest, RegistryError> {
        let file = file_of(name, version, MANIFEST_FILE);
        let bytes = self.read(&file)?;
        let manifest = Manifest::from_json(&bytes).map_err(|reason| self.damaged(&file, &reason))?;
        if manifest.name != *name || manifest.version != *version {
            let found = format!("it is of {}@{}: the folder was moved or copied", manifest.name, manifest.version);
            return Err(self.damaged(&file, &found));
        }
        Ok(manifest)
    }

    /// Reads a version and verifies all of it: each file against its checksum, the model against the manifest.
    ///
    /// # Errors
    /// When a file is missing or not what was written, or parts do not belong together.
    pub fn load(&self, name: &ModelName, version: &Version) -> Result<Stored, RegistryError> {
        let manifest = self.manifest(name, version)?;
        let (mut model, mut baseline) = (None, None);
        let files: Vec<String> = manifest.files.keys().map(|file| file_of(name, version, file)).collect();
        let read = self.store.read(&files)?;
        for ((path, bytes), (file, sum)) in files.iter().zip(read).zip(&manifest.files) {
            let bytes = bytes.ok_or_else(|| self.damaged(path, MISSING))?;
            sum.verify(&bytes).map_err(|reason| self.damaged(path, &reason))?;
            if file == MODEL_FILE {
                let read: TrainedModel =
                    serde_json::from_slice(&bytes).map_err(|cause| self.damaged(path, &cause.to_string()))?;
                manifest.check(&read).map_err(|reason| self.damaged(path, &reason))?;
                model = Some(read);
            } else if file == BASELINE_FILE {
                let read = Baseline::read(&bytes, &manifest.encoding);
                baseline = Some(read.map_err(|reason| self.damaged(path, &reason))?);
            }
        }
        if model.is_none() && manifest.recorded.is_some() {
            return Err(self.damaged(&file_of(name, version, MODEL_FILE), "the manifest does not list it"));
        }
        Ok(Stored { manifest, model, baseline })
    }

    /// What the run that made a version found, verified; `None` where it was not learned here.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn report(&self, name: &ModelName, version: &Version) -> Result<Option<TrainReport>, RegistryError> {
        let manifest = self.manifest(name, version)?;
        let Some(sum) = manifest.files.get(REPORT_FILE) else { return Ok(None) };
        let file = file_of(name, version, REPORT_FILE);
        let bytes = self.read(&file)?;
        sum.verify(&bytes).map_err(|reason| self.damaged(&file, &reason))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|cause| self.damaged(&file, &cause.to_string()))
    }

    /// What is part of a version.
    fn read(&self, file: &str) -> Result<Vec<u8>, RegistryError> {
        let found = self.store.read(std::slice::from_ref(&file.to_owned()))?;
        found.into_iter().next().flatten().ok_or_else(|| self.damaged(file, MISSING))
    }

    fn damaged(&self, file: &str, reason: &str) -> RegistryError {
        RegistryError::Damaged { path: self.store.place(file), reason: reason.to_owned() }
    }

    /// Points an alias to a version, which is verified first. Returns what the alias stood for before.
    ///
    /// # Errors
    /// When the version does not load, has no model, or was refused by the gate and the alias is the champion.
    pub fn promote(
        &self,
        name: &ModelName,
        version: &Version,
        alias: &str,
        now_us: i64,
    ) -> Result<Option<Version>, RegistryError> {
        names::check_alias(alias)?;
        self.promotable(name, version, alias)?;
        self.change(name, |aliases| Ok(aliases.promote(alias, version, now_us)))
    }

    /// Promotes to champion when `beats` says so of the champion's manifest (`None` where there is none), decided of those
    /// aliases that are replaced, so that two runs at once do not both win. It is asked anew where others came before.
    ///
    /// # Errors
    /// As [`Registry::promote`].
    pub fn promote_if(
        &self,
        name: &ModelName,
        version: &Version,
        now_us: i64,
        mut beats: impl FnMut(Option<&Manifest>) -> bool,
    ) -> Result<bool, RegistryError> {
        self.promotable(name, version, CHAMPION)?;
        self.change(name, |aliases| {
            let champion = match aliases.get(CHAMPION) {
                Some(champion) => Some(self.manifest(name, champion)?),
                None => None,
            };
            let wins = beats(champion.as_ref());
            if wins {
                aliases.promote(CHAMPION, version, now_us);
            }
            Ok(wins)
        })
    }

    /// Makes the previous champion the champion again: it is verified first. Returns the old one and the new one.
    ///
    /// # Errors
    /// When there was none before, or it no longer loads.
    pub fn rollback(&self, name: &ModelName, now_us: i64) -> Result<(Version, Version), RegistryError> {
        self.resolve(&Reference { name: name.clone(), which: Which::Alias(CHAMPION.to_owned()) })?;
        self.change(name, |aliases| {
            let previous = aliases.previous().cloned();
            let (Some(old), Some(new)) = (aliases.get(CHAMPION).cloned(), previous) else {
                return Err(RegistryError::NothingBefore { name: name.to_string() });
            };
            self.promotable(name, &new, CHAMPION)?;
            aliases.rollback(now_us);
            Ok((old, new))
        })
    }

    fn promotable(&self, name: &ModelName, version: &Version, alias: &str) -> Result<(), RegistryError> {
        let stored = self.load(name, version)?;
        let refused = |reasons: String| RegistryError::NotPassed {
            name: name.to_string(),
            version: version.to_string(),
            reasons,
        };
        if stored.model.is_none() || (alias == CHAMPION && !stored.manifest.passed) {
            return Err(refused(stored.manifest.refusals.join("; ")));
        }
        Ok(())
    }

    /// Replaces the aliases as one by what `with` makes of them, while nobody else does.
    fn change<T>(
        &self,
        name: &ModelName,
        mut with: impl FnMut(&mut Aliases) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let file = aliases_file(name);
        let mut result = None;
        self.store.change(&file, &mut |bytes| {
            let before = self.parsed_aliases(&file, bytes)?;
            let mut aliases = before.clone();
            result = Some(with(&mut aliases)?);
            if aliases == before { Ok(None) } else { Ok(Some(aliases.to_json()?.into_bytes())) }
        })?;
        result.ok_or_else(|| self.damaged(&file, "it was not read"))
    }
}

fn aliases_file(name: &ModelName) -> String {
    format!("{name}/{ALIASES_FILE}")
}

fn file_of(name: &ModelName, version: &Version, file: &str) -> String {
    format!("{name}/{version}/{file}")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
