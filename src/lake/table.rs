use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake_core::kernel::Version;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use deltalake_core::{DeltaTable, DeltaTableError};
use object_store::ObjectStore;
use serde_json::{Value, json};

use super::columns::{standing_schema, without};
use super::commit::{Commit, Outcome};
use super::data_file::{DataFile, Encoded, Encoding, ranges_of};
use super::encoder::{Encoder, store_file};
use super::error::LakeError;
use super::root::Lake;
use crate::domain::TableName;

mod entry;

use entry::{engine, info_of};

/// What a table is made of, before it is created.
#[derive(Debug, Clone)]
pub struct TableSpec {
    pub name: TableName,
    /// Every column that rows may have.
    pub schema: SchemaRef,
    /// Columns of `schema` that the table gains only when [`Table::gain`] is called.
    pub later: Vec<String>,
    pub partition_by: Vec<String>,
    pub about: String,
    pub encoding: Encoding,
}

/// A Delta table in the hands of its one writer: the live files are known, so that a commit reads nothing.
pub struct Table {
    spec: TableSpec,
    log_store: LogStoreRef,
    store: Arc<dyn ObjectStore>,
    app_id: String,
    /// Stands in each commit of this process, so that it knows its own when an answer was lost.
    writer: uuid::Uuid,
    metadata: Value,
    /// The columns that the table has now: a subset of the spec's.
    schema: SchemaRef,
    /// Schema of a commit to come.
    pending_schema: Option<SchemaRef>,
    version: Version,
    epoch: i64,
    restated: i64,
    files: BTreeMap<String, DataFile>,
}

impl Table {
    /// Opens a table, creating it when it is missing.
    ///
    /// # Errors
    /// When the store does not answer, or the table that stands there has other columns.
    pub async fn open(lake: &Lake, spec: TableSpec, now_ms: i64) -> Result<Self, LakeError> {
        Self::open_as(lake, spec, lake.pipeline(), now_ms).await
    }

    /// As [`Self::open`], with transactions of another application than the pipeline's: its epochs are numbers of that
    /// application.
    pub(super) async fn open_as(lake: &Lake, spec: TableSpec, app_id: &str, now_ms: i64) -> Result<Self, LakeError> {
        let log_store = lake.log_store(&spec.name)?;
        let store = log_store.object_store(None);
        let mut table = Self {
            schema: without(&spec.schema, &spec.later),
            app_id: app_id.to_owned(),
            writer: uuid::Uuid::new_v4(),
            metadata: Value::Null,
            pending_schema: None,
            version: 0,
            epoch: 0,
            restated: 0,
            files: BTreeMap::new(),
            log_store,
            store,
            spec,
        };
        match table.load().await? {
            Some(delta) => table.adopt(&delta).await?,
            None => table.create(now_ms).await?,
        }
        Ok(table)
    }

    #[must_use]
    pub fn name(&self) -> &TableName {
        &self.spec.name
    }

    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The last epoch that this table has, 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The epoch up to which restatements stand in the files.
    #[must_use]
    pub fn restated(&self) -> i64 {
        self.restated
    }

    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    #[must_use]
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.values()
    }

    #[must_use]
    pub fn file(&self, path: &str) -> Option<&DataFile> {
        self.files.get(path)
    }

    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    #[must_use]
    pub fn rows(&self) -> i64 {
        self.files.values().map(|file| file.rows).sum()
    }

    /// Whether the table still lacks columns that its spec holds back.
    #[must_use]
    pub fn lacks_columns(&self) -> bool {
        self.writing_schema().fields().len() < self.spec.schema.fields().len()
    }

    /// Gives the table the columns that its spec holds back, with the next commit.
    pub fn gain(&mut self) {
        if self.lacks_columns() {
            self.pending_schema = Some(Arc::clone(&self.spec.schema));
        }
    }

    /// The columns of the files to come.
    #[must_use]
    pub fn writing_schema(&self) -> SchemaRef {
        Arc::clone(self.pending_schema.as_ref().unwrap_or(&self.schema))
    }

    /// What encodes rows for this table, on any thread.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        Encoder {
            table: self.spec.name.clone(),
            schema: self.writing_schema(),
            partition_by: self.spec.partition_by.clone(),
            encoding: self.spec.encoding.clone(),
        }
    }

    /// As [`Self::encoder`], for when the table has [gained](Self::gain) its columns.
    #[must_use]
    pub fn evolved_encoder(&self) -> Encoder {
        Encoder { schema: Arc::clone(&self.spec.schema), ..self.encoder() }
    }

    /// The table's log, for maintenance beside the writer.
    #[must_use]
    pub fn log(&self) -> LogStoreRef {
        Arc::clone(&self.log_store)
    }

    /// Stores encoded files; they are invisible until they are committed.
    ///
    /// # Errors
    /// When the store refuses them, for example because the disk is full; the call may be repeated.
    pub async fn store_files(&self, files: &[Encoded]) -> Result<(), LakeError> {
        for encoded in files {
            store_file(self.store.as_ref(), &self.spec.name, encoded).await?;
        }
        Ok(())
    }

    /// Commits one change as the next version, by one conditional put.
    ///
    /// # Errors
    /// [`LakeError::Fenced`] when another writer of this pipeline was here, or one whose change touches ours;
    /// [`LakeError::Store`] when the store does not answer: nothing is visible, and the call may be repeated.
    pub async fn commit(&mut self, commit: &Commit, now_ms: i64) -> Result<Outcome, LakeError> {
        if commit.epoch.is_some_and(|epoch| epoch <= self.epoch) {
            return Ok(Outcome::AlreadyApplied { version: self.version });
        }
        self.commit_again(commit, now_ms).await
    }

    /// Commits even when the table has the epoch: for rows that are known to be new all the same.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_again(&mut self, commit: &Commit, now_ms: i64) -> Result<Outcome, LakeError> {
        let operation_id = uuid::Uuid::new_v4();
        loop {
            let version = self.version + 1;
            let entry = self.entry(commit, now_ms, operation_id)?;
            let put = CommitOrBytes::LogBytes(entry.clone());
            match self.log_store.write_commit_entry(version, put, operation_id).await {
                Ok(()) => {}
                Err(TransactionError::VersionAlreadyExists(_)) => {
                    let found = self.read_entry(version).await?;
                    // A store may repeat a conditional put that had landed: the entry is then our own.
                    if found.as_ref() != Some(&entry) {
                        if self.absorb(version, found.as_deref().unwrap_or_default(), commit)? {
                            return Ok(Outcome::Committed { version });
                        }
                        continue;
                    }
                }
                Err(error) => {
                    if self.read_entry(version).await.ok().flatten().as_ref() != Some(&entry) {
                        return Err(LakeError::store(&self.spec.name, format!("committing version {version}"), error));
                    }
                }
            }
            self.apply(version, commit);
            return Ok(Outcome::Committed { version });
        }
    }

    /// Whether its log ends with the version that this table knows. It does not where somebody else wrote, or removed it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_newest(&self) -> Result<bool, LakeError> {
        Ok(self.read_entry(self.version).await?.is_some() && self.read_entry(self.version + 1).await?.is_none())
    }

    /// Puts the rows of an earlier version in force again, as the state of `epoch`.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), or when that version is no longer kept.
    pub async fn restore(&mut self, version: Version, epoch: i64, now_ms: i64) -> Result<Outcome, LakeError> {
        let delta = Self::load_at(&self.log_store, &self.spec.name, version).await?;
        let before = self.files_of(&delta)?;
        let commit = Commit {
            epoch: Some(epoch),
            restated: Some(self.restated_in(&delta).await?),
            adds: before.values().filter(|file| !self.files.contains_key(&file.path)).cloned().collect(),
            removes: self.files.keys().filter(|path| !before.contains_key(*path)).cloned().collect(),
            info: json!({"epoch": epoch, "kind": "restore", "version": version}),
        };
        self.commit_again(&commit, now_ms).await
    }

    /// The `assay` metadata of the commit that brought the newest epoch, if its log entry still exists.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn newest_info(&self) -> Result<Option<Value>, LakeError> {
        for version in (0..=self.version).rev() {
            let Some(bytes) = self.read_entry(version).await? else { return Ok(None) };
            if let Some(info) = info_of(&bytes).filter(|info| info.get("epoch").is_some_and(Value::is_i64)) {
                return Ok(Some(info));
            }
        }
        Ok(None)
    }

    /// The version and the `assay` metadata of every epoch after `epoch`, oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn infos_after(&self, epoch: i64) -> Result<Vec<(Version, Value)>, LakeError> {
        let mut infos = Vec::new();
        for version in (0..=self.version).rev() {
            let Some(bytes) = self.read_entry(version).await? else { break };
            let Some(info) = info_of(&bytes) else { continue };
            match info.get("epoch").and_then(Value::as_i64) {
                Some(found) if found <= epoch => break,
                Some(_) => infos.push((version, info)),
                None => {}
            }
        }
        infos.reverse();
        Ok(infos)
    }

    /// Loads the table as of a version, for readers.
    pub(super) async fn load_at(
        log_store: &LogStoreRef,
        name: &TableName,
        version: Version,
    ) -> Result<DeltaTable, LakeError> {
        let mut delta = DeltaTable::new(Arc::clone(log_store));
        delta.load_version(version).await.map_err(|e| LakeError::read(name, format!("version {version}: {e}")))?;
        Ok(delta)
    }

    pub(super) fn log_store(&self) -> &LogStoreRef {
        &self.log_store
    }

    async fn load(&self) -> Result<Option<DeltaTable>, LakeError> {
        let error = |e: DeltaTableError| LakeError::store(&self.spec.name, "opening it", e);
        if !self.log_store.is_delta_table_location().await.map_err(error)? {
            return Ok(None);
        }
        let mut delta = DeltaTable::new(Arc::clone(&self.log_store));
        delta.load().await.map_err(|e| LakeError::read(&self.spec.name, e))?;
        Ok(Some(delta))
    }

    async fn adopt(&mut self, delta: &DeltaTable) -> Result<(), LakeError> {
        let name = self.spec.name.clone();
        let state = delta.snapshot().map_err(|e| LakeError::read(&name, e))?;
        let standing = state.snapshot().arrow_schema();
        self.schema = standing_schema(&standing, &self.spec.schema)
            .map_err(|cause| LakeError::Schema { table: name.clone(), cause })?;
        self.metadata = serde_json::to_value(state.metadata()).map_err(|e| LakeError::read(&name, e))?;
        if self.grown()? {
            self.pending_schema = Some(self.with_new_columns());
        }
        self.version = state.version();
        self.files = self.files_of(delta)?;
        let epoch = state
            .transaction_version(self.log_store.as_ref(), &self.app_id)
            .await
            .map_err(|e| LakeError::read(&name, e))?;
        self.epoch = epoch.unwrap_or(0);
        self.restated = self.restated_in(delta).await?;
        Ok(())
    }

    async fn restated_in(&self, delta: &DeltaTable) -> Result<i64, LakeError> {
        restated_in(delta, &self.log_store, &self.app_id).await.map_err(|e| LakeError::read(&self.spec.name, e))
    }

    /// Whether the definition has columns that the table lacks and that it does not hold back.
    fn grown(&self) -> Result<bool, LakeError> {
        let lacking = |field: &&Arc<Field>| self.schema.field_with_name(field.name()).is_err();
        let mut new =
            self.spec.schema.fields().iter().filter(lacking).filter(|field| !self.spec.later.contains(field.name()));
        if let Some(field) = new.clone().find(|field| !field.is_nullable()) {
            let cause = format!(
                "the definition has a new column `{}` that may not be null, and rows stand there without it; make it nullable, or use a new lake",
                field.name()
            );
            return Err(LakeError::Schema { table: self.spec.name.clone(), cause });
        }
        Ok(new.next().is_some())
    }

    /// The standing columns and the new ones, without those that are held back.
    fn with_new_columns(&self) -> SchemaRef {
        let held_back = |name: &String| self.spec.later.contains(name) && self.schema.field_with_name(name).is_err();
        let kept = self.spec.schema.fields().iter().filter(|field| !held_back(field.name())).cloned();
        Arc::new(Schema::new(kept.collect::<Vec<_>>()))
    }

    fn files_of(&self, delta: &DeltaTable) -> Result<BTreeMap<String, DataFile>, LakeError> {
        let state = delta.snapshot().map_err(|e| LakeError::read(&self.spec.name, e))?;
        let files = state
            .log_data()
            .iter()
            .map(|view| {
                let stats = view.stats().unwrap_or_default();
                let (rows, ranges) = ranges_of(&stats, &self.schema);
                let file = DataFile {
                    path: view.path().into_owned(),
                    size: view.size(),
                    rows,
                    partition: view.partition_values_map().into_iter().collect(),
                    ranges,
                    stats,
                    modified_ms: view.modification_time(),
                };
                (file.path.clone(), file)
            })
            .collect();
        Ok(files)
    }

    /// Version 0 by a conditional put: of two processes that create at once, one adopts the other's table.
    async fn create(&mut self, now_ms: i64) -> Result<(), LakeError> {
        let name = self.spec.name.clone();
        self.metadata = json!({
            "id": uuid::Uuid::new_v4().to_string(),
            "name": name.to_string(),
            "description": self.spec.about,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": self.schema_string(&self.schema)?,
            "partitionColumns": self.spec.partition_by,
            "createdTime": now_ms,
            "configuration": {"delta.deletedFileRetentionDuration": "interval 1 days"},
        });
        let info = json!({"commitInfo": {"timestamp": now_ms, "operation": "CREATE TABLE", "engineInfo": engine()}});
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        let entry = [info, protocol, json!({"metaData": self.metadata})].map(|line| line.to_string()).join("\n");
        let put = CommitOrBytes::LogBytes(entry.into());
        match self.log_store.write_commit_entry(0, put, uuid::Uuid::new_v4()).await {
            Ok(()) => Ok(()),
            Err(TransactionError::VersionAlreadyExists(_)) => match self.load().await? {
                Some(delta) => self.adopt(&delta).await,
                None => Err(LakeError::store(&name, "creating it", "its log came and went")),
            },
            Err(error) => Err(LakeError::store(&name, "creating it", error)),
        }
    }
}

fn restated_app(app_id: &str) -> String {
    format!("{app_id}/restated")
}

/// The epoch up to which restatements stand in the files of a version.
pub(super) async fn restated_in(delta: &DeltaTable, log: &LogStoreRef, app_id: &str) -> Result<i64, DeltaTableError> {
    let found = delta.snapshot()?.transaction_version(log.as_ref(), restated_app(app_id)).await?;
    Ok(found.unwrap_or(0))
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.spec.name)
            .field("version", &self.version)
            .field("epoch", &self.epoch)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}
