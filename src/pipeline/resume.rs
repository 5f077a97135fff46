//! What a start takes up from the last life, beside epochs that bronze has and the ledger has not.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::tables::Tables;
use crate::domain::{Partition, Positions, TableName, schema};
use crate::lake::{LakeError, RangeFilter, Table, restatements};

impl Tables {
    /// Takes up what the last life left: a rebuild that was never published is taken back, and restatements that are not
    /// in the files yet wait again. Blocking.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn resume(&mut self) -> Result<(), LakeError> {
        self.undo_interrupted_rebuild()?;
        self.load_waiting()
    }

    fn load_waiting(&mut self) -> Result<(), LakeError> {
        let owed: BTreeMap<String, &Table> = self
            .windows
            .iter()
            .filter(|table| table.restated() < self.restatements.epoch())
            .map(|table| (table.name().to_string(), table))
            .collect();
        let Some(from) = owed.values().map(|table| table.restated()).min() else { return Ok(()) };
        let reader = self.reader(&self.restatements);
        let columns = [restatements::EPOCH, restatements::TABLE, restatements::AFTER];
        let range = RangeFilter { column: restatements::EPOCH.into(), from: from + 1, to: i64::MAX };
        let mut lines: BTreeMap<(&TableName, i64), Vec<String>> = BTreeMap::new();
        for file in self.restatements.files().filter(|file| file.may_contain(&range.column, range.from, range.to)) {
            for batch in reader.read(file, &columns, Some(range.clone()))? {
                let epochs = batch.column(0).as_primitive::<Int64Type>();
                let (tables, after) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
                for row in 0..batch.num_rows() {
                    let Some(table) = owed.get(tables.value(row)) else { continue };
                    if epochs.value(row) > table.restated() {
                        lines.entry((table.name(), epochs.value(row))).or_default().push(after.value(row).to_owned());
                    }
                }
            }
        }
        let mut waiting: BTreeMap<TableName, Vec<(i64, RecordBatch)>> = BTreeMap::new();
        for ((name, epoch), lines) in lines {
            let Some(table) = owed.get(&name.to_string()) else { continue };
            let rows = restatements::parse(lines.iter().map(String::as_str), &table.spec().schema)
                .map_err(|e| LakeError::read(self.restatements.name(), format!("epoch {epoch}, {name}: {e}")))?;
            waiting.entry(name.clone()).or_default().extend(rows.into_iter().map(|rows| (epoch, rows)));
        }
        self.waiting = waiting;
        Ok(())
    }

    fn undo_interrupted_rebuild(&mut self) -> Result<(), LakeError> {
        let last = self.ledger.last_epoch();
        let known = last.max(self.bronze.epoch());
        let Some(record) = self.ledger.get(last)? else { return Ok(()) };
        let (handle, now_ms) = (self.handle().clone(), self.clock.now_us() / 1000);
        // Dead letters go ahead of bronze, and a rebuild never touches them.
        let apart = [self.ledger.table().name().clone(), self.dead_letters.name().clone()];
        for table in self.all_mut().filter(|table| table.epoch() > known && !apart.contains(table.name())) {
            let version = record.tables.iter().find(|entry| entry.table == *table.name()).map(|entry| entry.version);
            let Some(version) = version.and_then(|version| u64::try_from(version).ok()) else { continue };
            tracing::warn!(table = %table.name(), version, "an interrupted rebuild is taken back");
            let _ = handle.block_on(table.restore(version, last, now_ms))?;
        }
        Ok(())
    }

    /// The places of dead letters that will be read again: they were stored, and the bronze rows of their epoch were
    /// not. `next` is where reading goes on. Blocking.
    ///
    /// The epoch that a letter names does not tell: the next life may cut its epochs smaller, and end between them.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn orphaned_dead_letters(&self, next: &Positions) -> Result<HashSet<(String, i32, i64)>, LakeError> {
        let mut found = HashSet::new();
        let reader = self.reader(&self.dead_letters);
        let columns = [schema::SOURCE_TOPIC, schema::SOURCE_PARTITION, schema::SOURCE_OFFSET];
        for file in self.dead_letters.files() {
            for batch in reader.read(file, &columns, None)? {
                let topics = batch.column(0).as_any().downcast_ref::<arrow::array::StringArray>();
                let (Some(topics), Some((partitions, offsets))) = (topics, super::assemble::offsets_of(&batch)) else {
                    continue;
                };
                let mut at: Option<(Partition, i64)> = None;
                for row in 0..batch.num_rows() {
                    let (topic, partition, offset) = (topics.value(row), partitions.value(row), offsets.value(row));
                    if !at.as_ref().is_some_and(|(known, _)| *known.topic == *topic && known.partition == partition) {
                        let place = Partition::new(topic, partition);
                        let reached = next.get(&place).copied().unwrap_or(i64::MIN);
                        at = Some((place, reached));
                    }
                    if at.as_ref().is_some_and(|(_, reached)| offset >= *reached) {
                        found.insert((topic.to_owned(), partition, offset));
                    }
                }
            }
        }
        Ok(found)
    }
}
