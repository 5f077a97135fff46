//! The past of a lake, held to write states of it.

use std::sync::Arc;

use ahash::AHashSet;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampMicrosecondType;
use tokio::runtime::Handle;

use super::OnlineError;
use super::layout::{Layout, Place};
use crate::domain::{EpochKind, TableName, schema};
use crate::features::Features;
use crate::lake::{
    Encoding, EpochLedger, FileHistory, FileReader, Lake, LakeError, RangeFilter, Table, TableSpec, require_tables,
};

/// States of all entities, brought up to each new epoch.
pub(super) struct Memory {
    pub(super) layout: Arc<Layout>,
    handle: Handle,
    silver: TableSpec,
    /// Of silver: what states are made of.
    columns: Vec<String>,
    hash_key: [u8; 16],
    horizon_us: i64,
    tables: Vec<Features>,
    history: Option<FileHistory>,
    /// 0 while nothing is held.
    epoch: i64,
    newest_us: i64,
}

/// What there is to write, for Redis to hold the newest epoch.
pub(super) struct News {
    pub(super) epoch: i64,
    pub(super) published_at_us: i64,
    /// Older instants cannot be asked about.
    pub(super) floor_us: i64,
    /// From here on, nothing of the states as they are now matters.
    pub(super) until_us: i64,
    /// `None` when everything is to be written anew.
    pub(super) changed: Option<Vec<Place>>,
}

const NO_TIME: i64 = i64::MIN;

impl Memory {
    /// # Errors
    /// When a declaration does not fit.
    pub(super) fn new(
        layout: Arc<Layout>,
        name: TableName,
        later: Vec<String>,
        partition_by: Vec<String>,
        (hash_key, horizon_us): ([u8; 16], i64),
        handle: Handle,
    ) -> Result<Self, OnlineError> {
        let tables = layout.memories(hash_key)?;
        let mut columns = vec![layout.event_time.clone()];
        for column in tables.iter().flat_map(Features::reads) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let later = later.into_iter().filter(|column| layout.silver.field_with_name(column).is_ok()).collect();
        let schema = Arc::clone(&layout.silver);
        let silver =
            TableSpec { name, schema, later, partition_by, about: String::new(), encoding: Encoding::default() };
        let (history, epoch, newest_us) = (None, 0, NO_TIME);
        Ok(Self { layout, handle, silver, columns, hash_key, horizon_us, tables, history, epoch, newest_us })
    }

    /// Takes in what is new in the lake, and says what has changed after the epoch `from`; 0 for everything. `None` when
    /// that is the newest. Blocking: call it from a thread outside of the runtime.
    ///
    /// # Errors
    /// When the lake cannot be read; everything is read again by the next call.
    pub(super) fn follow(&mut self, lake: &Lake, from: i64, now_ms: i64) -> Result<Option<News>, OnlineError> {
        let ledger = self.handle.block_on(async {
            require_tables(lake, &[EpochLedger::table_name(), self.silver.name.clone()]).await?;
            EpochLedger::open(lake, now_ms).await
        })?;
        let last = ledger.last_epoch();
        if last == 0 {
            return Err(OnlineError::NoEpoch);
        }
        if last < from {
            return Err(OnlineError::Ahead { held: from, newest: last });
        }
        if last == from && self.epoch == last {
            return Ok(None);
        }
        let known = [from, self.epoch].into_iter().filter(|epoch| *epoch > 0).min();
        let records = ledger.scan(known.map_or(last, |known| known + 1), last + 1)?;
        let is_rebuilt =
            |after: i64| records.iter().any(|record| record.epoch > after && record.kind == EpochKind::Rebuild);
        let table = self.handle.block_on(Table::open(lake, self.silver.clone(), now_ms))?;
        let reader = FileReader::new(&table, self.handle.clone());
        let held = self.epoch;
        let is_anew = held == 0 || is_rebuilt(held);
        // What goes wrong half-way leaves nothing that is trusted.
        self.epoch = 0;
        let mut new = Vec::new();
        if is_anew {
            self.load(&table, FileReader::new(&table, self.handle.clone()), last)?;
        } else {
            new = self.rows(&table, &reader, held, last)?;
            self.take_in(&table, &new, last)?;
        }
        self.epoch = last;
        if last == from {
            return Ok(None);
        }
        let changed = if from == 0 || is_rebuilt(from) {
            None
        } else {
            if is_anew || from != held {
                new = self.rows(&table, &reader, from, last)?;
            }
            Some(self.places(&new)?)
        };
        let published_at_us = match records.last() {
            Some(record) => record.published_at_us,
            None => ledger.get(last)?.map_or(0, |record| record.published_at_us),
        };
        let reach_us = self.tables.iter().map(Features::reach_us).max().unwrap_or(0);
        let (floor_us, until_us) = (self.floor_us(), self.newest_us.saturating_add(reach_us));
        Ok(Some(News { epoch: last, published_at_us, floor_us, until_us, changed }))
    }

    pub(super) fn state(&self, place: Place) -> Vec<u8> {
        let mut state = Vec::new();
        if let Some(features) = self.tables.get(place.table) {
            features.state(place.kind, place.entity, &mut state);
        }
        state
    }

    /// All entities that are known.
    pub(super) fn all(&self) -> Vec<Place> {
        let of_table = |(table, features): (usize, &Features)| {
            let kinds = features.known_keys().into_iter().enumerate();
            kinds.flat_map(move |(kind, keys)| keys.into_iter().map(move |entity| Place { table, kind, entity }))
        };
        self.tables.iter().enumerate().flat_map(of_table).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.tables.iter().map(Features::bytes).sum()
    }

    fn floor_us(&self) -> i64 {
        if self.newest_us == NO_TIME { NO_TIME } else { self.newest_us.saturating_sub(self.horizon_us) }
    }

    /// The entities that rows are of.
    fn places(&self, rows: &[RecordBatch]) -> Result<Vec<Place>, OnlineError> {
        let mut found = AHashSet::new();
        for batch in rows {
            for (table, features) in self.tables.iter().enumerate() {
                for (kind, keys) in features.keys(batch)?.into_iter().enumerate() {
                    found.extend(keys.into_iter().flatten().map(|entity| Place { table, kind, entity }));
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Begins anew with the files of the table.
    fn load(&mut self, table: &Table, reader: FileReader, epoch: i64) -> Result<(), OnlineError> {
        let mut history = FileHistory::new(reader, self.layout.event_time.clone());
        history.reached(epoch, table.files().cloned());
        self.tables = self.layout.memories(self.hash_key)?;
        let times = table.files().filter_map(|file| file.ranges.get(&self.layout.event_time));
        self.newest_us = times.map(|(_, newest)| *newest).max().unwrap_or(NO_TIME);
        if self.newest_us != NO_TIME {
            let floor_us = self.floor_us();
            for features in &mut self.tables {
                features.hold(floor_us, &history)?;
            }
        }
        self.history = Some(history);
        Ok(())
    }

    /// Adds rows of epochs after the one that is held.
    fn take_in(&mut self, table: &Table, new: &[RecordBatch], last: i64) -> Result<(), OnlineError> {
        let newest = new.iter().filter_map(|batch| newest_of(batch, &self.layout.event_time)).max();
        self.newest_us = newest.map_or(self.newest_us, |newest| newest.max(self.newest_us));
        let floor_us = self.floor_us();
        let Some(history) = &mut self.history else { return Ok(()) };
        if let (Some(first), true) = (new.first(), floor_us != NO_TIME) {
            // As one batch: the history has none of them yet.
            let all = concat_batches(&first.schema(), new).map_err(|error| LakeError::read(table.name(), error))?;
            for features in &mut self.tables {
                features.hold(floor_us, history)?;
                features.compute(&all, history)?;
            }
        }
        history.reached(last, table.files().cloned());
        Ok(())
    }

    /// The rows of epochs in `(after, last]`.
    fn rows(&self, table: &Table, reader: &FileReader, after: i64, last: i64) -> Result<Vec<RecordBatch>, OnlineError> {
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut rows = Vec::new();
        for file in table.files().filter(|file| file.may_contain(schema::EPOCH, after + 1, last + 1)) {
            let range = RangeFilter { column: schema::EPOCH.to_owned(), from: after + 1, to: last + 1 };
            rows.extend(reader.read(file, &columns, Some(range))?);
        }
        Ok(rows)
    }
}

fn newest_of(batch: &RecordBatch, event_time: &str) -> Option<i64> {
    arrow::compute::max(batch.column_by_name(event_time)?.as_primitive_opt::<TimestampMicrosecondType>()?)
}
