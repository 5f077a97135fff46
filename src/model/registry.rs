//! Where models are kept: `<folder>/<name>/<version>/`, never overwritten, and verified whole whenever one is loaded.

mod aliases;
mod error;
mod manifest;
mod names;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

pub use aliases::{Aliases, CHALLENGER, CHAMPION, Promotion};
pub use error::RegistryError;
pub use manifest::{DataSource, FORMAT, FileSum, ImportSource, LakeColumn, LakeSource, Manifest, Recorded};
pub use names::{ModelName, Reference, Version, Which};

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

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Registry {
    folder: PathBuf,
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
    /// Creates nothing before something is recorded.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[must_use]
    pub fn path(&self, name: &ModelName, version: &Version) -> PathBuf {
        self.folder.join(name.as_str()).join(version.as_str())
    }

    /// Writes a version beside its place and moves it there as one, so that nobody ever sees a part of it.
    ///
    /// `files` are its files by name; the manifest gets their checksums, and the version `version` or the next second
    /// that is free.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn record(
        &self,
        version: &Version,
        manifest: Manifest,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Manifest, RegistryError> {
        let home = self.folder.join(manifest.name.as_str());
        fs::create_dir_all(&home).map_err(|cause| failed("created", &home, &cause))?;
        let mut manifest = manifest;
        manifest.files = files.iter().map(|(name, bytes)| (name.clone(), FileSum::of(bytes))).collect();
        let staged = home.join(format!(".{version}.{}", uuid::Uuid::new_v4()));
        let written = self.write_staged(&staged, &home, version, manifest, files);
        if written.is_err() {
            // What is left behind is hidden and harmless: the error that matters is the first one.
            let _ = fs::remove_dir_all(&staged);
        }
        written
    }

    fn write_staged(
        &self,
        staged: &Path,
        home: &Path,
        version: &Version,
        mut manifest: Manifest,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Manifest, RegistryError> {
        fs::create_dir(staged).map_err(|cause| failed("created", staged, &cause))?;
        for (name, bytes) in files {
            write_durably(&staged.join(name), bytes)?;
        }
        for later_s in 0..SECONDS_TRIED {
            manifest.version = version.later(later_s);
            let target = home.join(manifest.version.as_str());
            write_durably(&staged.join(MANIFEST_FILE), manifest.to_json()?.as_bytes())?;
            sync_folder(staged)?;
            // Renaming onto a folder that has files fails: two runs never share a version.
            match fs::rename(staged, &target) {
                Ok(()) => {
                    sync_folder(home)?;
                    return Ok(manifest);
                }
                Err(cause) if matches!(cause.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
                Err(cause) => return Err(failed("moved into place", &target, &cause)),
            }
        }
        Err(RegistryError::NoFreeVersion { name: manifest.name.to_string(), version: version.to_string() })
    }

    /// The names of all models, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read. One that does not exist has no models.
    pub fn names(&self) -> Result<Vec<ModelName>, RegistryError> {
        let mut names: Vec<ModelName> =
            folders(&self.folder)?.iter().filter_map(|name| ModelName::parse(name).ok()).collect();
        names.sort();
        Ok(names)
    }

    /// The versions of a model, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn versions(&self, name: &ModelName) -> Result<Vec<Version>, RegistryError> {
        let mut versions: Vec<Version> = folders(&self.folder.join(name.as_str()))?
            .iter()
            .filter_map(|version| Version::parse(version).ok())
            .collect();
        versions.sort_by(|one, other| other.cmp(one));
        Ok(versions)
    }

    /// # Errors
    /// When the file cannot be read or is not what was written.
    pub fn aliases(&self, name: &ModelName) -> Result<Aliases, RegistryError> {
        let path = self.folder.join(name.as_str()).join(ALIASES_FILE);
        match fs::read(&path) {
            Ok(bytes) => Aliases::from_json(&bytes)
                .map_err(|reason| RegistryError::Damaged { path: path.display().to_string(), reason }),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Aliases::default()),
            Err(cause) => Err(failed("read", &path, &cause)),
        }
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
            let folder = self.folder.display().to_string();
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
        let path = self.path(name, version).join(MANIFEST_FILE);
        let bytes = fs::read(&path).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => damaged(&path, "it is missing"),
            _ => failed("read", &path, &cause),
        })?;
        let manifest = Manifest::from_json(&bytes).map_err(|reason| damaged(&path, &reason))?;
        if manifest.name != *name || manifest.version != *version {
            let found = format!("it is of {}@{}: the folder was moved or copied", manifest.name, manifest.version);
            return Err(damaged(&path, &found));
        }
        Ok(manifest)
    }

    /// Reads a version and verifies all of it: each file against its checksum, the model against the manifest.
    ///
    /// # Errors
    /// When a file is missing or not what was written, or parts do not belong together.
    pub fn load(&self, name: &ModelName, version: &Version) -> Result<Stored, RegistryError> {
        let manifest = self.manifest(name, version)?;
        let folder = self.path(name, version);
        let (mut model, mut baseline) = (None, None);
        for (file, sum) in &manifest.files {
            let path = folder.join(file);
            let bytes = fs::read(&path).map_err(|cause| match cause.kind() {
                ErrorKind::NotFound => damaged(&path, "it is missing"),
                _ => failed("read", &path, &cause),
            })?;
            sum.verify(&bytes).map_err(|reason| damaged(&path, &reason))?;
            if file == MODEL_FILE {
                let read: TrainedModel =
                    serde_json::from_slice(&bytes).map_err(|cause| damaged(&path, &cause.to_string()))?;
                manifest.check(&read).map_err(|reason| damaged(&path, &reason))?;
                model = Some(read);
            } else if file == BASELINE_FILE {
                let read = Baseline::read(&bytes, &manifest.encoding);
                baseline = Some(read.map_err(|reason| damaged(&path, &reason))?);
            }
        }
        if model.is_none() && manifest.recorded.is_some() {
            return Err(damaged(&folder.join(MODEL_FILE), "the manifest does not list it"));
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
        let path = self.path(name, version).join(REPORT_FILE);
        let bytes = fs::read(&path).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => damaged(&path, "it is missing"),
            _ => failed("read", &path, &cause),
        })?;
        sum.verify(&bytes).map_err(|reason| damaged(&path, &reason))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|cause| damaged(&path, &cause.to_string()))
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

    /// Promotes to champion when `beats` says so of the champion's manifest (`None` where there is none), decided and
    /// done under one lock, so that two runs at once do not both win.
    ///
    /// # Errors
    /// As [`Registry::promote`].
    pub fn promote_if(
        &self,
        name: &ModelName,
        version: &Version,
        now_us: i64,
        beats: impl FnOnce(Option<&Manifest>) -> bool,
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

    /// Changes the aliases under a lock, and replaces their file as one.
    fn change<T>(
        &self,
        name: &ModelName,
        with: impl FnOnce(&mut Aliases) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let home = self.folder.join(name.as_str());
        let lock_path = home.join(".lock");
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(|cause| failed("opened", &lock_path, &cause))?;
        lock.lock().map_err(|cause| failed("locked", &lock_path, &cause))?;
        let mut aliases = self.aliases(name)?;
        let before = aliases.clone();
        let result = with(&mut aliases)?;
        if aliases != before {
            let path = home.join(ALIASES_FILE);
            let staged = home.join(format!(".{ALIASES_FILE}.{}", uuid::Uuid::new_v4()));
            write_durably(&staged, aliases.to_json()?.as_bytes())?;
            fs::rename(&staged, &path).map_err(|cause| failed("replaced", &path, &cause))?;
            sync_folder(&home)?;
        }
        Ok(result)
    }
}

fn folders(path: &Path) -> Result<Vec<String>, RegistryError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(failed("read", path, &cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| failed("read", path, &cause))?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|cause| failed("written", path, &cause))
}

/// A rename is durable once its folder is.
fn sync_folder(path: &Path) -> Result<(), RegistryError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|cause| failed("synced", path, &cause))
}

fn failed(action: &'static str, path: &Path, cause: &std::io::Error) -> RegistryError {
    RegistryError::Io { path: path.display().to_string(), action, cause: cause.to_string() }
}

fn damaged(path: &Path, reason: &str) -> RegistryError {
    RegistryError::Damaged { path: path.display().to_string(), reason: reason.to_owned() }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
