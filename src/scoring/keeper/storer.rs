//! Stores the rows of receipts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::runtime::Handle;

use super::{ReceiptPlace, micros, rows};
use crate::domain::Clock;
use crate::lake::{Encoding, Lake, LakeError, RecordAppender};
use crate::scoring::receipts::receipts_table;
use crate::telemetry::Metrics;

/// With so much to store it is not waited for longer.
const STORE_BYTES: usize = 16 << 20;
/// With so much it falls behind, and gives way to nobody.
const BEHIND_BYTES: usize = 2 * STORE_BYTES;
/// A lake that took none is not asked more often.
const RETRY: Duration = Duration::from_millis(100);

/// Stores what is made.
pub(super) struct Storer {
    pub place: ReceiptPlace,
    pub clock: Arc<dyn Clock>,
    pub made: Receiver<RecordBatch>,
    /// Bytes of rows that were made and are not stored.
    pub bytes: Arc<AtomicUsize>,
    pub metrics: Arc<Metrics>,
    pub handle: Handle,
    /// Where rows go, from the first ones on.
    pub table: Option<RecordAppender>,
    /// Rows that are not in the lake yet.
    pub unstored: Vec<RecordBatch>,
    pub has_failed: bool,
}

impl Storer {
    /// Until nobody makes rows any more.
    pub fn run(mut self) {
        let mut due_us = self.due_us();
        loop {
            let left = u64::try_from(due_us - self.clock.now_us()).unwrap_or(0);
            match self.made.recv_timeout(Duration::from_micros(left)) {
                Ok(rows) => {
                    self.unstored.push(rows);
                    if self.has_failed || self.bytes.load(Ordering::Relaxed) < STORE_BYTES {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.store();
            due_us = self.due_us();
        }
        self.store();
        let lost = rows(&self.unstored);
        if lost > 0 {
            tracing::error!(receipts = lost, "the process ends before they could be stored");
            self.metrics.receipts("lost", lost);
        }
    }

    /// When it is stored next.
    fn due_us(&self) -> i64 {
        let wait = if self.has_failed { self.place.every.max(RETRY) } else { self.place.every };
        self.clock.now_us().saturating_add(micros(wait))
    }

    /// What the store does not take now is tried again.
    fn store(&mut self) {
        self.unstored.extend(self.made.try_iter());
        if self.unstored.is_empty() {
            return;
        }
        match self.append() {
            Ok(()) => {
                self.metrics.receipts("kept", rows(&self.unstored));
                let bytes = self.unstored.drain(..).map(|rows| rows.get_array_memory_size()).sum();
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.has_failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    let receipts = rows(&self.unstored);
                    tracing::warn!(%error, receipts, "they could not be stored; this is tried again");
                }
            }
        }
    }

    fn append(&mut self) -> Result<(), LakeError> {
        let now_ms = self.clock.now_us() / 1000;
        let spec = receipts_table();
        let gives_way = self.bytes.load(Ordering::Relaxed) < BEHIND_BYTES;
        let encoding = Encoding { gives_way, ..spec.encoding.clone() };
        let table = match &mut self.table {
            Some(table) => table,
            None => {
                let lake = self.handle.block_on(Lake::open(&self.place.lake, &self.place.pipeline, false))?;
                self.table.insert(RecordAppender::new(lake, spec))
            }
        };
        self.handle.block_on(table.append(&self.unstored, &encoding, now_ms))?;
        Ok(())
    }
}
