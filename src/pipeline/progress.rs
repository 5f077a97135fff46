use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::domain::EpochRecord;

/// Counters that the pipeline moves and a terminal or a test reads.
#[derive(Debug, Default)]
pub struct Progress {
    pub messages: AtomicU64,
    pub bronze_rows: AtomicU64,
    pub dead_letters: AtomicU64,
    pub silver_rows: AtomicU64,
    pub duplicates: AtomicU64,
    pub quarantined: AtomicU64,
    pub gold_rows: AtomicU64,
    pub score_rows: AtomicU64,
    /// The last complete epoch.
    pub epoch: AtomicI64,
    /// Microseconds; `i64::MIN` before the first event.
    pub watermark_us: AtomicI64,
    /// Messages in Kafka that are not read yet; -1 when unknown.
    pub lag: AtomicI64,
}

impl Progress {
    #[must_use]
    pub fn new() -> Self {
        Self { watermark_us: AtomicI64::new(i64::MIN), lag: AtomicI64::new(-1), ..Self::default() }
    }

    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Counts an epoch that was completed outside of the stream.
    pub fn note(&self, record: &EpochRecord) {
        Self::add(&self.messages, record.messages);
        Self::add(&self.bronze_rows, record.bronze_rows);
        Self::add(&self.dead_letters, record.dead_letters);
        self.note_refined(record);
    }

    /// Counts what an epoch brought after bronze.
    pub(super) fn note_refined(&self, record: &EpochRecord) {
        Self::add(&self.silver_rows, record.silver_rows);
        Self::add(&self.score_rows, record.silver_rows);
        Self::add(&self.duplicates, record.duplicates);
        Self::add(&self.quarantined, record.quarantined);
        self.epoch.store(record.epoch, Ordering::Relaxed);
        if let Some(watermark) = record.watermark_us {
            self.watermark_us.store(watermark, Ordering::Relaxed);
        }
    }

    /// The watermark, once there is one.
    #[must_use]
    pub fn watermark(&self) -> Option<i64> {
        Some(self.watermark_us.load(Ordering::Relaxed)).filter(|at| *at != i64::MIN)
    }
}
