//! Rows of one table that are encoded while an epoch lasts: as Parquet they take a tenth of the memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;

use super::data_file::Encoded;
use super::encoder::Encoder;
use super::error::LakeError;
use super::partitioned::PartitionedWriter;
use crate::domain::TableName;

#[cfg(test)]
mod tests;

/// With so many rows waiting, who brings more encodes them.
const WAITING_ROWS_MAX: usize = 64 * 1024;

/// Takes rows in their order; the pool of threads encodes them.
#[derive(Debug)]
pub struct Intake {
    shared: Arc<Shared>,
    rows: u64,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Vec<RecordBatch>>,
    /// Locked by the thread that encodes.
    encoding: Mutex<Encoding>,
    table: TableName,
}

#[derive(Debug)]
struct Encoding {
    encoder: Encoder,
    files: PartitionedWriter,
    failed: Option<LakeError>,
}

impl Intake {
    pub(super) fn new(encoder: Encoder) -> Self {
        let (table, files) = (encoder.table.clone(), encoder.files());
        let encoding = Mutex::new(Encoding { encoder, files, failed: None });
        Self { shared: Arc::new(Shared { waiting: Mutex::default(), encoding, table }), rows: 0 }
    }

    /// Takes rows. Waits when the encoder is behind.
    pub fn push(&mut self, batches: Vec<RecordBatch>) {
        self.rows += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        if self.shared.add(batches) > WAITING_ROWS_MAX {
            self.shared.encode();
            return;
        }
        let shared = Arc::clone(&self.shared);
        rayon::spawn(move || {
            // A panic poisons the lock, and whoever ends the files hears of it.
            let _ = catch_unwind(AssertUnwindSafe(|| shared.encode_if_free()));
        });
    }

    /// Rows taken.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Encodes what is left and these last rows, and ends the files.
    ///
    /// # Errors
    /// When a row did not fit the table.
    pub fn finish(self, last: Vec<RecordBatch>, name: &str, now_ms: i64) -> Result<Vec<Encoded>, LakeError> {
        let stopped = || LakeError::Schema {
            table: self.shared.table.clone(),
            cause: "the encoder stopped without a word".to_owned(),
        };
        self.shared.add(last);
        self.shared.encode();
        let mut encoding = self.shared.encoding.lock().map_err(|_| stopped())?;
        let Encoding { encoder, files, failed } = &mut *encoding;
        if let Some(error) = failed.take() {
            return Err(error);
        }
        let files = std::mem::replace(files, encoder.files());
        files.finish(name, now_ms).map_err(|cause| encoder.misfit(cause))
    }
}

impl Shared {
    /// Rows that wait now.
    fn add(&self, batches: Vec<RecordBatch>) -> usize {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(batches);
        waiting.iter().map(RecordBatch::num_rows).sum()
    }

    /// Encodes all that waits, in order.
    fn encode(&self) {
        if let Ok(encoding) = self.encoding.lock() {
            self.encode_with(encoding);
        }
    }

    /// As [`Self::encode`], unless another thread does so: it is not worth a thread of the pool to wait for it.
    fn encode_if_free(&self) {
        if let Ok(encoding) = self.encoding.try_lock() {
            self.encode_with(encoding);
        }
    }

    fn encode_with(&self, mut encoding: MutexGuard<'_, Encoding>) {
        let Encoding { encoder, files, failed } = &mut *encoding;
        loop {
            let batches = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if batches.is_empty() || failed.is_some() {
                return;
            }
            *failed = encoder.write(&batches, files).err();
        }
    }
}
