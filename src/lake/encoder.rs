//! Rows become files, in memory or straight into the store.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::columns::conform;
use super::data_file::{DataFile, Encoded, Encoding, FileWriter, Partition, file_path};
use super::error::LakeError;
use super::intake::Intake;
use super::partitioned::{PartitionedWriter, kept_columns};
use super::reader::FileReader;
use crate::domain::TableName;

/// Encodes rows for one table.
#[derive(Debug, Clone)]
pub struct Encoder {
    pub(super) table: TableName,
    pub(super) schema: SchemaRef,
    pub(super) partition_by: Vec<String>,
    pub(super) encoding: Encoding,
}

impl Encoder {
    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// Encodes rows as files of the table; columns that the table does not have yet are left out. Pure CPU.
    ///
    /// # Errors
    /// When the rows do not fit the table.
    pub fn encode(&self, batches: &[RecordBatch], name: &str, now_ms: i64) -> Result<Vec<Encoded>, LakeError> {
        let mut files = self.files();
        self.write(batches, &mut files)?;
        files.finish(name, now_ms).map_err(|cause| self.misfit(cause))
    }

    /// Ends the files of an intake, if there is one, with the `last` rows; without one they are all there is.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn finish(
        &self,
        intake: Option<Intake>,
        last: Vec<RecordBatch>,
        name: &str,
        now_ms: i64,
    ) -> Result<Vec<Encoded>, LakeError> {
        match intake {
            Some(intake) => intake.finish(last, name, now_ms),
            None => self.encode(&last, name, now_ms),
        }
    }

    /// Takes rows of the table from now on, and encodes them while more come.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake::new(self.clone())
    }

    pub(super) fn files(&self) -> PartitionedWriter {
        PartitionedWriter::new(&self.partition_by, &self.encoding)
    }

    pub(super) fn write(&self, batches: &[RecordBatch], files: &mut PartitionedWriter) -> Result<(), LakeError> {
        let conformed = batches.iter().map(|batch| conform(batch, &self.schema)).collect::<Result<Vec<_>, _>>();
        conformed.and_then(|batches| files.write(&batches)).map_err(|cause| self.misfit(cause))
    }

    /// Encodes rows of one partition into one file of the store, with a batch and a row group of them in memory at a time;
    /// `None` when there are none. The file is invisible until it is committed. Blocking.
    ///
    /// # Errors
    /// When the rows do not fit the table, or cannot be had, or the store refuses them.
    pub(super) fn store_partition(
        &self,
        batches: impl Iterator<Item = Result<RecordBatch, LakeError>>,
        partition: &Partition,
        name: &str,
        files: &FileReader,
        now_ms: i64,
    ) -> Result<Option<DataFile>, LakeError> {
        let kept = kept_columns(&self.schema, &self.partition_by);
        let mut file: Option<(FileWriter, Upload<'_>)> = None;
        for batch in batches {
            let batch = conform(&batch?, &self.schema)
                .and_then(|batch| batch.project(&kept).map_err(|e| e.to_string()))
                .map_err(|cause| self.misfit(cause))?;
            let (writer, upload) = match &mut file {
                Some(file) => file,
                None => {
                    let sample = std::slice::from_ref(&batch);
                    let writer = FileWriter::new(&batch.schema(), sample, &self.encoding);
                    let writer = writer.map_err(|cause| self.misfit(cause))?;
                    let upload = files.upload(&file_path(partition, name));
                    file.insert((writer, upload))
                }
            };
            writer.write(&batch).map_err(|cause| self.misfit(cause))?;
            upload.write(writer.take())?;
        }
        let Some((writer, mut upload)) = file else { return Ok(None) };
        let finished = writer.finish(partition.clone(), name, now_ms);
        let Encoded { file, bytes } = finished.map_err(|cause| self.misfit(cause))?;
        upload.write(bytes)?;
        upload.finish()?;
        Ok(Some(file))
    }

    pub(super) fn misfit(&self, cause: String) -> LakeError {
        LakeError::Schema { table: self.table.clone(), cause }
    }
}

/// A file on its way into the store, part by part: it appears when it is whole.
pub(super) struct Upload<'a> {
    table: &'a TableName,
    handle: &'a Handle,
    path: Path,
    writer: BufWriter,
    ended: bool,
}

impl<'a> Upload<'a> {
    pub fn new(table: &'a TableName, store: &Arc<dyn ObjectStore>, path: &str, handle: &'a Handle) -> Self {
        let path = Path::from(path);
        let writer = BufWriter::new(Arc::clone(store), path.clone()).with_max_concurrency(2);
        Self { table, handle, path, writer, ended: false }
    }

    fn write(&mut self, bytes: Bytes) -> Result<(), LakeError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.handle.block_on(self.writer.put(bytes)).map_err(|e| self.failed(e))
    }

    fn finish(mut self) -> Result<(), LakeError> {
        self.ended = true;
        self.handle.block_on(self.writer.shutdown()).map_err(|e| self.failed(e))
    }

    fn failed(&self, cause: impl std::fmt::Display) -> LakeError {
        LakeError::store(self.table, format!("writing {}", self.path), cause)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // A store that does not answer now either keeps the parts until its own rules remove them.
            let _ = self.handle.block_on(self.writer.abort());
        }
    }
}

/// Stores one encoded file; it is invisible until it is committed.
///
/// # Errors
/// When the store refuses it; the call may be repeated.
pub async fn store_file(store: &dyn ObjectStore, table: &TableName, encoded: &Encoded) -> Result<(), LakeError> {
    let path = Path::from(encoded.file.path.as_str());
    let stored = store.put(&path, encoded.bytes.clone().into()).await;
    stored.map(|_| ()).map_err(|e| LakeError::store(table, format!("writing {path}"), e))
}
