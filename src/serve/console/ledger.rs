//! The ledger as it grows: the newest epochs and the sum of all, without opening any other table.
//!
//! A page that asks every few seconds would have all tables opened for each epoch; the ledger alone says most of what it shows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::super::Problem;
use super::asking::{internal, of_lake};
use crate::domain::{Clock, EpochKind, EpochRecord};
use crate::lake::{EpochLedger, Lake, LakeError, LakeSettings, require_tables};

/// Epochs of a page.
pub(super) const PAGE: usize = 100;
/// Between two looks at the log.
const FRESH_US: i64 = 500_000;

pub(super) struct Ledger {
    place: LakeSettings,
    pipeline: String,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    lake: Option<Lake>,
    looked_us: Option<i64>,
    /// The newest first.
    newest: VecDeque<EpochRecord>,
    totals: Totals,
}

/// All that was ever read, and what became of it. A rebuild reads bronze again, and no message.
#[derive(Debug, Clone, Default)]
struct Totals {
    epochs: u64,
    last_epoch: i64,
    messages: u64,
    bronze_rows: u64,
    dead_letters: u64,
    silver_rows: u64,
    duplicates: u64,
    quarantined: u64,
    late_rows: u64,
    warned_rows: u64,
    unbalanced_epochs: u64,
}

/// The ledger as of its newest epoch.
pub(super) struct Read {
    pub epoch: i64,
    pub published_at_us: Option<i64>,
    pub totals: Value,
    /// The newest first.
    pub epochs: Vec<Value>,
}

impl Ledger {
    pub fn new(place: LakeSettings, pipeline: &str, clock: Arc<dyn Clock>) -> Self {
        Self { place, pipeline: pipeline.to_owned(), clock, held: Mutex::default() }
    }

    /// The newest epochs, `most` of them, and the sum of all.
    pub async fn read(self: &Arc<Self>, most: usize) -> Result<Read, Problem> {
        let ledger = Arc::clone(self);
        // Who stops waiting does not stop it: the next one finds a long ledger summed up.
        let refreshed = tokio::spawn(async move { ledger.refresh(&mut *ledger.held.lock().await).await });
        refreshed.await.map_err(|error| internal(&error.to_string()))??;
        let held = self.held.lock().await;
        let newest = held.newest.front();
        Ok(Read {
            epoch: held.totals.last_epoch,
            published_at_us: newest.map(|record| record.published_at_us),
            totals: held.totals.to_value(),
            epochs: held.newest.iter().take(most).map(told).collect(),
        })
    }

    /// The page of epochs below `before`.
    pub async fn before(&self, before: i64) -> Result<Vec<Value>, Problem> {
        let now_ms = self.clock.now_us() / 1000;
        let mut held = self.held.lock().await;
        let lake = self.lake(&mut held).await.map_err(|error| of_lake(&error))?;
        let ledger = EpochLedger::open(lake, now_ms).await.map_err(|error| of_lake(&error))?;
        drop(held);
        let from = before.saturating_sub(i64::try_from(PAGE).unwrap_or(i64::MAX)).max(0);
        let mut records = scan(ledger, from, before).await?;
        records.reverse();
        Ok(records.iter().map(told).collect())
    }

    async fn refresh(&self, held: &mut Held) -> Result<(), Problem> {
        let now_us = self.clock.now_us();
        if held.looked_us.is_some_and(|looked_us| (0..FRESH_US).contains(&(now_us - looked_us))) {
            return Ok(());
        }
        let lake = self.lake(held).await.map_err(|error| of_lake(&error))?;
        let ledger = EpochLedger::open(lake, now_us / 1000).await.map_err(|error| of_lake(&error))?;
        if ledger.last_epoch() < held.totals.last_epoch {
            // Another lake stands in the place.
            (held.newest, held.totals) = (VecDeque::new(), Totals::default());
        }
        if ledger.last_epoch() > held.totals.last_epoch {
            let from = held.totals.last_epoch + 1;
            // What was summed is kept once all of it is: a file that cannot be read leaves nothing half counted.
            let (totals, newest) = (held.totals.clone(), held.newest.iter().cloned());
            let mut followed = Followed { totals, newest: newest.map(|record| (record.epoch, record)).collect() };
            let followed = in_thread(move || {
                ledger.fold(from, i64::MAX, |record| followed.take(record))?;
                Ok(followed)
            });
            let Followed { totals, newest } = followed.await?;
            (held.totals, held.newest) = (totals, newest.into_values().rev().collect());
        }
        held.looked_us = Some(now_us);
        Ok(())
    }

    async fn lake<'a>(&self, held: &'a mut Held) -> Result<&'a Lake, LakeError> {
        let lake = match held.lake.take() {
            Some(lake) => lake,
            None => {
                let lake = Lake::open(&self.place, &self.pipeline, false).await?;
                require_tables(&lake, &[EpochLedger::table_name()]).await?;
                lake
            }
        };
        Ok(held.lake.insert(lake))
    }
}

/// What is known of a ledger that is read part by part: a long one never stands in memory.
struct Followed {
    totals: Totals,
    /// By their numbers, [`PAGE`] of them.
    newest: BTreeMap<i64, EpochRecord>,
}

impl Followed {
    fn take(&mut self, record: EpochRecord) {
        self.totals.add(&record);
        self.newest.insert(record.epoch, record);
        if self.newest.len() > PAGE {
            self.newest.pop_first();
        }
    }
}

async fn scan(ledger: EpochLedger, from: i64, to: i64) -> Result<Vec<EpochRecord>, Problem> {
    in_thread(move || ledger.scan(from, to)).await
}

/// Files are read where a thread may block.
async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| internal(&error.to_string()))?.map_err(|error| of_lake(&error))
}

impl Totals {
    fn add(&mut self, record: &EpochRecord) {
        self.epochs += 1;
        self.last_epoch = self.last_epoch.max(record.epoch);
        self.unbalanced_epochs += u64::from(record.imbalance().is_some());
        if record.kind != EpochKind::Stream {
            return;
        }
        self.messages += record.messages;
        self.bronze_rows += record.bronze_rows;
        self.dead_letters += record.dead_letters;
        self.silver_rows += record.silver_rows;
        self.duplicates += record.duplicates;
        self.quarantined += record.quarantined;
        self.late_rows += record.late_rows;
        self.warned_rows += record.warned_rows;
    }

    fn to_value(&self) -> Value {
        json!({
            "epochs": self.epochs,
            "last_epoch": self.last_epoch,
            "messages": self.messages,
            "bronze_rows": self.bronze_rows,
            "dead_letters": self.dead_letters,
            "silver_rows": self.silver_rows,
            "duplicates": self.duplicates,
            "quarantined": self.quarantined,
            "late_rows": self.late_rows,
            "warned_rows": self.warned_rows,
            "unbalanced_epochs": self.unbalanced_epochs,
        })
    }
}

/// An epoch by the names of the columns of `ops.epochs`, and whether it adds up.
fn told(record: &EpochRecord) -> Value {
    let ranges = record.ranges.iter().map(|(partition, range)| {
        json!({
            "topic": &*partition.topic,
            "partition": partition.partition,
            "first_offset": range.first,
            "next_offset": range.next,
            "messages": range.messages,
        })
    });
    let tables = record
        .tables
        .iter()
        .map(|of| json!({"table": of.table.to_string(), "version": of.version, "rows_added": of.rows_added}));
    let stages = record.stages.iter().map(|of| json!({"stage": of.stage, "micros": of.micros}));
    json!({
        "epoch": record.epoch,
        "kind": record.kind.as_str(),
        "started_at": instant(record.started_at_us),
        "published_at": instant(record.published_at_us),
        "watermark_at": record.watermark_us.map(instant),
        "messages": record.messages,
        "bronze_rows": record.bronze_rows,
        "dead_letters": record.dead_letters,
        "silver_rows": record.silver_rows,
        "duplicates": record.duplicates,
        "quarantined": record.quarantined,
        "late_rows": record.late_rows,
        "restated_rows": record.restated_rows,
        "warned_rows": record.warned_rows,
        "is_balanced": record.imbalance().is_none(),
        "imbalance": record.imbalance(),
        "seconds": (record.published_at_us - record.started_at_us) as f64 / 1e6,
        "offsets": ranges.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
        "stages": stages.collect::<Vec<_>>(),
    })
}

pub(super) fn instant(micros: i64) -> Value {
    let at = chrono::DateTime::from_timestamp_micros(micros);
    at.map_or(Value::Null, |at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_of_any_length_and_order_leaves_its_sums_and_its_newest() {
        let mut followed = Followed { totals: Totals::default(), newest: BTreeMap::new() };
        let epochs = 10_000_i64;
        // Files of a compacted ledger may come in any order.
        for epoch in (1..=epochs).map(|epoch| epoch * 7919 % (epochs + 1)) {
            followed.take(EpochRecord { epoch, messages: 3, bronze_rows: 3, silver_rows: 3, ..EpochRecord::default() });
            assert!(followed.newest.len() <= PAGE);
        }
        assert_eq!((followed.totals.epochs, followed.totals.last_epoch), (10_000, epochs));
        assert_eq!(followed.totals.messages, 30_000);
        let expected: Vec<i64> = (epochs - PAGE as i64 + 1..=epochs).collect();
        assert_eq!(followed.newest.into_keys().collect::<Vec<_>>(), expected);
    }
}
