//! A registry on an object store: conditional puts decide who comes first.
//!
//! A version is claimed by a put that only one can win, its files are put, and its manifest last: without one there is no
//! version. A file that changes is replaced only as long as it is the one that was read.

mod calls;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::{Error, ObjectStore, UpdateVersion};

use super::store::{Change, Draft, Store};
use super::{MANIFEST_FILE, RegistryError, Version};
use calls::{Calls, Found};

/// Says who writes a version; it stays.
const CLAIM_FILE: &str = ".claim";
/// What is put to see whether the store keeps conditions. No model has this name.
const PROBE: &str = "_assay/conditions";
/// How often a change that others came before is tried anew; with the pauses that is some ten seconds.
const TRIES: u32 = 24;
/// How often a put is made of which nobody heard.
const PUTS: u32 = 4;
/// A look that takes longer has failed: whoever looks goes on with what it has.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Objects {
    location: String,
    calls: Calls,
    /// Whether the store was seen to keep conditions.
    is_conditional: AtomicBool,
    /// What was looked at last, by name, with its tag.
    seen: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
}

impl Objects {
    /// `store` may repeat what fails, `once` must not: of a conditional put that was repeated nobody knows who won.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(location: &str, store: Arc<dyn ObjectStore>, once: Arc<dyn ObjectStore>) -> Result<Self, RegistryError> {
        let location = location.trim_end_matches('/').to_owned();
        let calls = Calls::new(store, once)
            .map_err(|cause| RegistryError::Location { location: location.clone(), cause: cause.to_string() })?;
        Ok(Self { location, calls, is_conditional: AtomicBool::new(false), seen: Mutex::default() })
    }

    fn get(&self, name: &str) -> Result<Option<Found>, RegistryError> {
        self.calls.get(name).map_err(|error| self.failed("read", name, &error))
    }

    /// Refuses a store that takes a put whatever its condition says: two promotions would undo each other there.
    fn check_conditions(&self) -> Result<(), RegistryError> {
        if self.is_conditional.load(Ordering::Relaxed) {
            return Ok(());
        }
        let careless = |what: &'static str| RegistryError::Careless { location: self.location.clone(), what };
        let failed = |error: Error| match error {
            Error::NotImplemented { .. } | Error::NotSupported { .. } => {
                careless("conditional puts are turned off (aws_conditional_put)")
            }
            error => self.failed("written", PROBE, &error),
        };
        if self.calls.create(PROBE, b"assay".to_vec()).map_err(failed)?
            && self.calls.create(PROBE, b"assay".to_vec()).map_err(failed)?
        {
            return Err(careless("it replaces an object although If-None-Match forbids it"));
        }
        let other = UpdateVersion { e_tag: Some("\"00000000000000000000000000000000\"".to_owned()), version: None };
        if self.calls.replace(PROBE, b"assay".to_vec(), other).map_err(failed)? {
            return Err(careless("it replaces an object although If-Match forbids it"));
        }
        self.is_conditional.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Puts what only one may put. Of a put that failed nothing is known: what stands there tells, and where nothing does, the
    /// same bytes may be put again.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, RegistryError> {
        let mut tried = 0;
        loop {
            let error = match self.calls.create(name, bytes.to_vec()) {
                Ok(won) if won || tried == 0 => return Ok(won),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            tried += 1;
            match (self.calls.get(name), error) {
                (Ok(Some(found)), _) => return Ok(found.bytes == bytes),
                (_, Some(_)) if tried < PUTS => self.calls.pause(tried),
                (_, Some(error)) | (Err(error), None) => return Err(self.failed("written", name, &error)),
                (Ok(None), None) => return Err(RegistryError::Unknown { path: self.place(name) }),
            }
        }
    }

    fn failed(&self, action: &'static str, name: &str, error: &Error) -> RegistryError {
        let mut cause = error.to_string();
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => cause.push_str(
                "; the key needs to read, list and write there (AWS_ACCESS_KEY_ID and its like, or model.options)",
            ),
            Error::NotFound { .. } => cause.push_str("; create the bucket, or correct model.folder"),
            _ => {}
        }
        RegistryError::Io { path: self.place(name), action, cause }
    }
}

impl Store for Objects {
    fn place(&self, name: &str) -> String {
        if name.is_empty() { self.location.clone() } else { format!("{}/{name}", self.location) }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn models(&self) -> Result<Vec<String>, RegistryError> {
        self.calls.folders().map_err(|error| self.failed("listed", "", &error))
    }

    /// Those that have a manifest: others are being written, or never were to the end.
    fn versions(&self, model: &str) -> Result<Vec<String>, RegistryError> {
        let found = self.calls.list(model).map_err(|error| self.failed("listed", model, &error))?;
        Ok(found.into_iter().filter(|(_, file)| file == MANIFEST_FILE).map(|(version, _)| version).collect())
    }

    fn read(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, RegistryError> {
        let all = self.calls.get_all(names);
        names
            .iter()
            .zip(all)
            .map(|(name, found)| {
                found.map(|found| found.map(|found| found.bytes)).map_err(|error| self.failed("read", name, &error))
            })
            .collect()
    }

    /// Asks whether it is another one than at the last look.
    fn look(&self, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = seen().get(name).map(|(tag, _)| tag.clone());
        match self.calls.look(name, tag, LOOK) {
            Ok(found) => {
                let mut seen = seen();
                match found.as_ref().and_then(|found| Some((found.version.e_tag.clone()?, found.bytes.clone()))) {
                    Some(now) => seen.insert(name.to_owned(), now),
                    None => seen.remove(name),
                };
                Ok(found.map(|found| found.bytes))
            }
            Err(Error::NotModified { .. }) => match seen().get(name) {
                Some((_, bytes)) => Ok(Some(bytes.clone())),
                // Somebody else looked meanwhile, and it is gone by now.
                None => Ok(None),
            },
            Err(error) => Err(self.failed("read", name, &error)),
        }
    }

    fn record(
        &self,
        versions: &mut dyn Iterator<Item = Version>,
        draft: Draft<'_>,
    ) -> Result<Option<Version>, RegistryError> {
        self.check_conditions()?;
        let claim = uuid::Uuid::new_v4().to_string();
        for version in versions {
            let file = |name: &str| format!("{}/{version}/{name}", draft.model);
            let manifest = file(MANIFEST_FILE);
            // One that was copied here has no claim.
            if !self.create(&file(CLAIM_FILE), claim.as_bytes())? || self.get(&manifest)?.is_some() {
                continue;
            }
            let files = draft.files.iter().map(|(name, bytes)| (file(name), bytes.clone())).collect();
            self.calls.put_all(files).map_err(|(name, error)| self.failed("written", &name, &error))?;
            let bytes = (draft.manifest)(&version)?;
            if self.create(&manifest, &bytes)? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn change(&self, name: &str, change: Change<'_>) -> Result<(), RegistryError> {
        let mut checked = false;
        for tried in 0..TRIES {
            let found = self.get(name)?;
            let bytes = found.as_ref().map(|found| found.bytes.as_slice());
            let Some(wanted) = change(bytes)? else { return Ok(()) };
            if !std::mem::replace(&mut checked, true) {
                self.check_conditions()?;
            }
            match self.put_over(found, name, &wanted)? {
                true => return Ok(()),
                false => self.calls.pause(tried),
            }
        }
        Err(RegistryError::Contended { path: self.place(name), tries: TRIES })
    }
}

impl Objects {
    /// Puts it in the place of what was found; whether nobody came before. Of a put that failed, what stands there tells
    /// whether it landed; as long as it is what was found, the same bytes may be put again: only one of both can win.
    fn put_over(&self, found: Option<Found>, name: &str, wanted: &[u8]) -> Result<bool, RegistryError> {
        let put = || match found.as_ref() {
            Some(found) => self.calls.replace(name, wanted.to_vec(), found.version.clone()),
            None => self.calls.create(name, wanted.to_vec()),
        };
        let before = found.as_ref().map(|found| &found.bytes);
        let mut tried = 0;
        // Whether one may have landed of which nobody heard.
        let mut unheard = false;
        loop {
            let error = match put() {
                Ok(false) if !unheard => return Ok(false),
                Ok(false) => None,
                Ok(true) => return Ok(true),
                Err(error) => Some(error),
            };
            unheard = true;
            let now = self.get(name)?.map(|found| found.bytes);
            if now.as_deref() == Some(wanted) {
                return Ok(true);
            }
            tried += 1;
            match error {
                Some(_) if now.as_ref() == before && tried < PUTS => self.calls.pause(tried),
                Some(error) if now.as_ref() == before => return Err(self.failed("replaced", name, &error)),
                _ => return Err(RegistryError::Unknown { path: self.place(name) }),
            }
        }
    }
}

#[cfg(test)]
mod tests;
