//! A registry in a folder: versions are renamed into their place, and a lock of the operating system keeps changes apart.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::store::{Change, Draft, Store};
use super::{MANIFEST_FILE, RegistryError, Version};

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates nothing before something is written.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn write_staged(
        &self,
        staged: &Path,
        home: &Path,
        versions: &mut dyn Iterator<Item = Version>,
        draft: Draft<'_>,
    ) -> Result<Option<Version>, RegistryError> {
        fs::create_dir(staged).map_err(|cause| failed("created", staged, &cause))?;
        for (name, bytes) in draft.files {
            write_durably(&staged.join(name), bytes)?;
        }
        for version in versions {
            let target = home.join(version.as_str());
            write_durably(&staged.join(MANIFEST_FILE), &(draft.manifest)(&version)?)?;
            sync_folder(staged)?;
            // Renaming onto a folder that has files fails: two runs never share a version.
            match fs::rename(staged, &target) {
                Ok(()) => {
                    sync_folder(home)?;
                    return Ok(Some(version));
                }
                Err(cause) if matches!(cause.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {}
                Err(cause) => return Err(failed("moved into place", &target, &cause)),
            }
        }
        Ok(None)
    }
}

impl Store for Folder {
    fn place(&self, name: &str) -> String {
        if name.is_empty() { self.path.display().to_string() } else { self.path.join(name).display().to_string() }
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn models(&self) -> Result<Vec<String>, RegistryError> {
        folders(&self.path)
    }

    fn versions(&self, model: &str) -> Result<Vec<String>, RegistryError> {
        folders(&self.path.join(model))
    }

    fn read(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, RegistryError> {
        names.iter().map(|name| self.look(name)).collect()
    }

    fn look(&self, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed("read", &path, &cause)),
        }
    }

    /// Writes it beside its place and moves it there as one.
    fn record(
        &self,
        versions: &mut dyn Iterator<Item = Version>,
        draft: Draft<'_>,
    ) -> Result<Option<Version>, RegistryError> {
        let home = self.path.join(draft.model);
        fs::create_dir_all(&home).map_err(|cause| failed("created", &home, &cause))?;
        let staged = home.join(format!(".{}", uuid::Uuid::new_v4()));
        let written = self.write_staged(&staged, &home, versions, draft);
        if !matches!(written, Ok(Some(_))) {
            // What is left behind is hidden and harmless: the error that matters is the first one.
            let _ = fs::remove_dir_all(&staged);
        }
        written
    }

    fn change(&self, name: &str, change: Change<'_>) -> Result<(), RegistryError> {
        let path = self.path.join(name);
        let home = path.parent().unwrap_or(&self.path);
        let lock_path = home.join(".lock");
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(|cause| failed("opened", &lock_path, &cause))?;
        lock.lock().map_err(|cause| failed("locked", &lock_path, &cause))?;
        let Some(bytes) = change(self.look(name)?.as_deref())? else { return Ok(()) };
        let staged = home.join(format!(".{}", uuid::Uuid::new_v4()));
        write_durably(&staged, &bytes)?;
        fs::rename(&staged, &path).map_err(|cause| failed("replaced", &path, &cause))?;
        sync_folder(home)
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
