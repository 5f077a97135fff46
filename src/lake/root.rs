use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_for};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use url::Url;

use super::error::LakeError;
use crate::domain::TableName;
use crate::store::{is_store_option, meant};

/// The newest layout of a lake that this version reads and writes.
const FORMAT: u32 = 1;
const MARKER: &str = "_assay/lake.json";

/// Where the lake is, and how long its past is kept.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LakeSettings {
    /// A folder, or s3://bucket/prefix.
    pub location: String,
    /// Options of the object store, for example aws_endpoint; AWS_* variables are read as well.
    pub options: BTreeMap<String, String>,
    /// How long versions stay readable with AS OF EPOCH, in seconds.
    pub history_s: u64,
}

impl Default for LakeSettings {
    fn default() -> Self {
        Self { location: "lake".into(), options: BTreeMap::new(), history_s: 3600 }
    }
}

impl LakeSettings {
    /// An option that no store takes, and what was probably meant.
    #[must_use]
    pub fn unknown_option(&self) -> Option<(&str, String)> {
        // Bad values of known options are refused when the store is opened.
        let ours = StorageConfig::parse_options(self.options.clone()).ok()?;
        let unknown =
            self.options.keys().find(|key| ours.unknown_properties.contains_key(*key) && !is_store_option(key))?;
        Some((unknown, meant(unknown)))
    }
}

/// What `_assay/lake.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    pipeline: String,
    /// Keys the hashes of identifiers, so that nobody can craft two ids with one hash.
    key: [u64; 2],
}

/// An opened lake: the root under which every table lies.
#[derive(Debug, Clone)]
pub struct Lake {
    url: Url,
    options: BTreeMap<String, String>,
    pipeline: String,
    hash_key: [u64; 2],
    history_s: u64,
}

impl Lake {
    /// Opens the lake, or founds it when there is none and `create` is set.
    ///
    /// # Errors
    /// When the location cannot be used, or holds a lake of another pipeline or of a newer format; nothing is touched.
    pub async fn open(settings: &LakeSettings, pipeline: &str, create: bool) -> Result<Self, LakeError> {
        let location = &settings.location;
        let url = lake_url(location, create)?;
        #[cfg(feature = "s3")]
        s3::register();
        let error = |cause: &dyn std::fmt::Display| LakeError::Location {
            location: location.clone(),
            cause: cause.to_string(),
        };
        let config = StorageConfig::parse_options(settings.options.clone()).map_err(|e| error(&e))?;
        let store = logstore_for(&url, config).map_err(|e| error(&e))?.object_store(None);
        let marker = match read_marker(store.as_ref()).await.map_err(|e| error(&e))? {
            Some(marker) => marker,
            None if create => {
                if let Some(holds) = holds(store.as_ref()).await.map_err(|e| error(&e))? {
                    return Err(LakeError::Occupied { location: location.clone(), holds });
                }
                found(store.as_ref(), pipeline).await.map_err(|e| error(&e))?
            }
            None => {
                let hint =
                    "run `assay run`, `assay ingest`, `assay load` or `assay demo` first, or correct --lake".into();
                return Err(LakeError::NoLake { location: location.clone(), hint });
            }
        };
        if marker.format > FORMAT {
            return Err(LakeError::NewerFormat { location: location.clone(), found: marker.format, known: FORMAT });
        }
        if marker.pipeline != pipeline {
            let (found, wanted) = (marker.pipeline, pipeline.to_owned());
            return Err(LakeError::ForeignPipeline { location: location.clone(), found, wanted });
        }
        Ok(Self {
            url,
            options: settings.options.clone(),
            pipeline: pipeline.into(),
            hash_key: marker.key,
            history_s: settings.history_s,
        })
    }

    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The location as a person would write it.
    #[must_use]
    pub fn location(&self) -> String {
        match self.url.to_file_path() {
            Ok(path) => path.display().to_string().trim_end_matches('/').to_owned(),
            Err(()) => self.url.to_string(),
        }
    }

    /// The name of the pipeline: the application id of its Delta transactions.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The key of this lake's identifier hashes.
    #[must_use]
    pub fn hash_key(&self) -> [u64; 2] {
        self.hash_key
    }

    /// Names this lake and no other, wherever it lies. It says nothing of the key.
    #[must_use]
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("assay the name of a lake");
        for half in self.hash_key {
            hasher.update(&half.to_be_bytes());
        }
        hasher.finalize().to_hex().get(..16).unwrap_or_default().to_owned()
    }

    #[must_use]
    pub fn history_s(&self) -> u64 {
        self.history_s
    }

    /// The local folder, when the lake is one.
    pub(super) fn folder(&self) -> Option<std::path::PathBuf> {
        self.url.to_file_path().ok()
    }

    /// The store below the root.
    pub(super) fn store(&self) -> Result<std::sync::Arc<dyn ObjectStore>, LakeError> {
        let error = |cause: String| LakeError::Location { location: self.location(), cause };
        let config = StorageConfig::parse_options(self.options.clone()).map_err(|e| error(e.to_string()))?;
        Ok(logstore_for(&self.url, config).map_err(|e| error(e.to_string()))?.object_store(None))
    }

    pub(super) fn table_url(&self, table: &TableName) -> Result<Url, LakeError> {
        self.url
            .join(&format!("{}/{}/", table.layer.as_str(), table.name))
            .map_err(|e| LakeError::store(table, "finding its location", e))
    }

    pub(super) fn log_store(&self, table: &TableName) -> Result<LogStoreRef, LakeError> {
        let config = StorageConfig::parse_options(self.options.clone())
            .map_err(|e| LakeError::store(table, "reading the store's options", e))?;
        logstore_for(&self.table_url(table)?, config).map_err(|e| LakeError::store(table, "opening its log", e))
    }
}

fn lake_url(location: &str, create: bool) -> Result<Url, LakeError> {
    let error = |cause: String| LakeError::Location { location: location.to_owned(), cause };
    if location.contains("://") {
        let mut url = Url::parse(location).map_err(|e| error(e.to_string()))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        return Ok(url);
    }
    if location.is_empty() {
        return Err(error("it is empty".into()));
    }
    let folder = std::path::Path::new(location);
    if create {
        std::fs::create_dir_all(folder).map_err(|e| error(e.to_string()))?;
    }
    let absolute = std::path::absolute(folder).map_err(|e| error(e.to_string()))?;
    Url::from_directory_path(&absolute).map_err(|()| error("it is not a path".into()))
}

async fn read_marker(store: &dyn ObjectStore) -> Result<Option<Marker>, String> {
    match store.get(&Path::from(MARKER)).await {
        Ok(found) => {
            let bytes = found.bytes().await.map_err(|e| e.to_string())?;
            serde_json::from_slice(&bytes).map(Some).map_err(|e| format!("{MARKER} is damaged: {e}"))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Something that stands where a lake is to be founded. What file systems put there themselves is nothing.
async fn holds(store: &dyn ObjectStore) -> Result<Option<String>, String> {
    let found = store.list_with_delimiter(None).await.map_err(|e| e.to_string())?;
    let files = found.objects.into_iter().map(|object| object.location);
    let mut names =
        found.common_prefixes.into_iter().chain(files).filter_map(|path| path.filename().map(str::to_owned));
    Ok(names.find(|name| name != "lost+found" && !name.starts_with('.')))
}

async fn found(store: &dyn ObjectStore, pipeline: &str) -> Result<Marker, String> {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    let marker = Marker { format: FORMAT, pipeline: pipeline.to_owned(), key: [high, low] };
    let bytes = serde_json::to_vec_pretty(&marker).map_err(|e| e.to_string())?;
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(&Path::from(MARKER), bytes.into(), options).await {
        Ok(_) => Ok(marker),
        Err(object_store::Error::AlreadyExists { .. }) => {
            read_marker(store).await?.ok_or_else(|| format!("{MARKER} came and went"))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(feature = "s3")]
mod s3 {
    //! S3 through object_store alone: commits are conditional puts, so no lock table and no AWS SDK is needed.

    use std::sync::Arc;

    use deltalake_core::logstore::{
        LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore,
        logstore_factories, object_store_factories,
    };
    use deltalake_core::{DeltaResult, DeltaTableError};
    use object_store::path::Path;
    use url::Url;

    use crate::store;

    pub(super) fn register() {
        for scheme in store::SCHEMES {
            if let Ok(scheme) = Url::parse(&format!("{scheme}://")) {
                object_store_factories().insert(scheme.clone(), Arc::new(S3));
                logstore_factories().insert(scheme, Arc::new(S3));
            }
        }
    }

    struct S3;

    impl ObjectStoreFactory for S3 {
        fn parse_url_opts(&self, url: &Url, config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
            store::open(url, config.raw(), config.retry.clone()).map_err(|e| DeltaTableError::Generic(e.to_string()))
        }
    }

    impl LogStoreFactory for S3 {
        fn with_options(
            &self,
            prefixed_store: ObjectStoreRef,
            root_store: ObjectStoreRef,
            location: &Url,
            options: &StorageConfig,
        ) -> DeltaResult<Arc<dyn LogStore>> {
            Ok(default_logstore(prefixed_store, root_store, location, options))
        }
    }
}
