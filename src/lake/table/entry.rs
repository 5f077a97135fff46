//! The entries of a table's log: what a commit writes, and what is read back of one.

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake_core::kernel::{Action, CommitInfo, Remove, StructType, Transaction, Version};
use deltalake_core::logstore::get_actions;
use serde_json::{Value, json};

use super::{Table, restated_app};
use crate::lake::commit::Commit;
use crate::lake::data_file::{DataFile, ranges_of};
use crate::lake::error::LakeError;

impl Table {
    pub(super) fn schema_string(&self, schema: &SchemaRef) -> Result<String, LakeError> {
        let error = |cause: String| LakeError::Schema { table: self.spec.name.clone(), cause };
        let kernel: StructType = schema.as_ref().try_into_kernel().map_err(|e| error(format!("{e}")))?;
        serde_json::to_string(&kernel).map_err(|e| error(e.to_string()))
    }

    pub(super) fn entry(
        &self,
        commit: &Commit,
        now_ms: i64,
        operation_id: uuid::Uuid,
    ) -> Result<bytes::Bytes, LakeError> {
        let mut actions = vec![Action::CommitInfo(CommitInfo {
            timestamp: Some(now_ms),
            operation: Some(commit.operation().into()),
            operation_parameters: Some(std::collections::HashMap::new()),
            read_version: Some(self.version),
            is_blind_append: Some(commit.removes.is_empty()),
            engine_info: Some(engine()),
            info: [
                ("assay".to_owned(), commit.info.clone()),
                ("operationId".to_owned(), json!(operation_id.to_string())),
                ("writer".to_owned(), json!(self.writer.to_string())),
            ]
            .into_iter()
            .collect(),
            ..CommitInfo::default()
        })];
        if let Some(epoch) = commit.epoch {
            actions.push(Action::Txn(Transaction::new(&self.app_id, epoch)));
        }
        if let Some(epoch) = commit.restated {
            actions.push(Action::Txn(Transaction::new(restated_app(&self.app_id), epoch)));
        }
        let data_change = commit.epoch.is_some() || commit.restated.is_some();
        for path in &commit.removes {
            let known = self.files.get(path);
            actions.push(Action::Remove(Remove {
                path: path.clone(),
                data_change,
                deletion_timestamp: Some(now_ms),
                extended_file_metadata: Some(true),
                partition_values: known.map(|file| file.partition.clone().into_iter().collect()),
                size: known.map(|file| file.size),
                ..Remove::default()
            }));
        }
        actions.extend(commit.adds.iter().map(|file| Action::Add(file.add(data_change))));
        let mut lines: Vec<String> = Vec::with_capacity(actions.len() + 1);
        for action in &actions {
            let line = serde_json::to_string(action)
                .map_err(|e| LakeError::store(&self.spec.name, "describing a commit", e))?;
            lines.push(line);
        }
        if let Some(schema) = &self.pending_schema {
            let mut metadata = self.metadata.clone();
            if let Some(fields) = metadata.as_object_mut() {
                fields.insert("schemaString".into(), self.schema_string(schema)?.into());
            }
            lines.push(json!({"metaData": metadata}).to_string());
        }
        Ok(lines.join("\n").into())
    }

    pub(super) async fn read_entry(&self, version: Version) -> Result<Option<bytes::Bytes>, LakeError> {
        match self.log_store.read_commit_entry(version).await {
            Ok(found) => Ok(found),
            Err(error) => {
                Err(LakeError::store(&self.spec.name, format!("reading version {version} of its log"), error))
            }
        }
    }

    /// Takes in a version that stands where ours was to be: true when it is ours, from an attempt whose answer was lost;
    /// false when somebody else wrote it, and what we are about to commit does not depend on what it changed.
    pub(super) fn absorb(&mut self, version: Version, entry: &[u8], commit: &Commit) -> Result<bool, LakeError> {
        let fenced = |detail: &str| LakeError::Fenced { table: self.spec.name.clone(), version, detail: detail.into() };
        let actions = get_actions(version, &bytes::Bytes::copy_from_slice(entry))
            .map_err(|e| LakeError::read(&self.spec.name, e))?;
        let writer = json!(self.writer.to_string());
        let by_us = actions
            .iter()
            .any(|action| matches!(action, Action::CommitInfo(info) if info.info.get("writer") == Some(&writer)));
        let restated_app = restated_app(&self.app_id);
        let same_epoch = actions.iter().any(|action| match action {
            Action::Txn(txn) if txn.app_id == self.app_id => Some(txn.version) == commit.epoch,
            Action::Txn(txn) if txn.app_id == restated_app => {
                commit.epoch.is_none() && Some(txn.version) == commit.restated
            }
            _ => false,
        });
        let ours = by_us && same_epoch;
        let mut foreign = Commit {
            epoch: commit.epoch.filter(|_| ours),
            restated: commit.restated.filter(|_| ours),
            ..Commit::default()
        };
        for action in actions {
            match action {
                Action::Txn(txn) if txn.app_id == self.app_id && !ours => {
                    return Err(fenced(&format!(" with epoch {}", txn.version)));
                }
                Action::Metadata(_) | Action::Protocol(_) if !ours => {
                    return Err(fenced(" that changes the table's definition"));
                }
                Action::Add(add) if add.data_change && !ours => return Err(fenced(" that adds rows")),
                Action::Remove(remove) if remove.data_change && !ours => return Err(fenced(" that removes rows")),
                Action::Remove(remove) if !ours && commit.removes.contains(&remove.path) => {
                    return Err(fenced(" that rewrites the files that this epoch replaces"));
                }
                Action::Remove(remove) => foreign.removes.push(remove.path),
                Action::Add(add) => {
                    let stats = add.stats.unwrap_or_default();
                    let (rows, ranges) = ranges_of(&stats, &self.schema);
                    foreign.adds.push(DataFile {
                        path: add.path,
                        size: add.size,
                        rows,
                        partition: add.partition_values.into_iter().collect(),
                        ranges,
                        stats,
                        modified_ms: add.modification_time,
                    });
                }
                _ => {}
            }
        }
        self.apply(version, &foreign);
        Ok(ours)
    }

    pub(super) fn apply(&mut self, version: Version, commit: &Commit) {
        self.version = version;
        for path in &commit.removes {
            self.files.remove(path);
        }
        for file in &commit.adds {
            self.files.insert(file.path.clone(), file.clone());
        }
        if let Some(epoch) = commit.restated {
            self.restated = epoch;
        }
        if let Some(epoch) = commit.epoch {
            self.epoch = epoch;
            if let Some(schema) = self.pending_schema.take() {
                if let (Ok(text), Some(fields)) = (self.schema_string(&schema), self.metadata.as_object_mut()) {
                    fields.insert("schemaString".into(), text.into());
                }
                self.schema = schema;
            }
        }
    }
}

pub(super) fn engine() -> String {
    format!("assay/{}", env!("CARGO_PKG_VERSION"))
}

pub(super) fn info_of(entry: &[u8]) -> Option<Value> {
    entry.split(|byte| *byte == b'\n').find_map(|line| {
        let line: Value = serde_json::from_slice(line).ok()?;
        line.get("commitInfo")?.get("assay").cloned()
    })
}
