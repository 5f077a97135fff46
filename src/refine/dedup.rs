use arrow::array::{Array, AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};

use self::ids::{BLOCK, Ids};
use super::RefineSettings;
use super::buckets::{Bucket, Buckets};
use super::key_hash::{KeyHash, KeyId};
use crate::domain::{History, HistoryError};

/// The ids that were ever seen, as far as they are needed: by spans of event time, loaded from the [`History`] when a
/// row falls into them, and forgotten when memory runs out.
///
/// A duplicate is a row whose key was seen **with an event time in the same span**. A repeated message carries the
/// event time of the first, so it is always found, however late. A producer that gives one id to two instants in
/// different spans is not found here: an exact answer would need every id of all time at every row. `assay verify`
/// reports such ids.
///
/// An id takes about 9 bytes in the spans before the newest, and about 10 in the newest at its end.
#[derive(Debug)]
pub struct Dedup {
    hash: KeyHash,
    event_time: String,
    buckets: Buckets<Ids>,
    /// The ids of the last span that was full: so many are expected in the next.
    usual: usize,
    /// Kept between calls for their memory.
    ids: Vec<KeyId>,
    order: Vec<(i64, u32)>,
}

impl Dedup {
    /// For batches with these columns, whose identity is `key` and whose instant is `event_time`.
    ///
    /// `hash_key` belongs to the lake: it decides nothing that can be seen in a table.
    ///
    /// # Errors
    /// In words, when a column of the key is missing or of a type that cannot be compared.
    pub fn new(
        schema: &SchemaRef,
        key: &[String],
        event_time: &str,
        settings: &RefineSettings,
        hash_key: [u8; 16],
    ) -> Result<Self, String> {
        let find = |name: &String| {
            let field = schema.field_with_name(name).map_err(|_| format!("the column `{name}` does not exist"))?;
            Ok((name.clone(), field.data_type().clone()))
        };
        let columns = key.iter().map(find).collect::<Result<_, String>>()?;
        let span_us = i64::from(settings.dedup_span_seconds) * 1_000_000;
        Ok(Self {
            hash: KeyHash::new(hash_key, columns)?,
            event_time: event_time.to_owned(),
            buckets: Buckets::new(span_us, settings.dedup_bytes_max),
            usual: 0,
            ids: Vec::new(),
            order: Vec::new(),
        })
    }

    /// Which rows are seen for the first time, and takes them in; `None` when all are. Among rows of the batch with one
    /// key, the first is kept.
    ///
    /// `history` must hold the rows kept from all earlier batches and none of this one. Rows without an event time are
    /// kept, and not remembered.
    ///
    /// # Errors
    /// When the past cannot be read. Nothing of the batch is then remembered.
    pub fn keep(&mut self, batch: &RecordBatch, history: &dyn History) -> Result<Option<BooleanBuffer>, HistoryError> {
        let rows = batch.num_rows();
        let columns = self.hash.columns(batch).map_err(|cause| unreadable(&self.event_time, cause))?;
        let times =
            batch.column_by_name(&self.event_time).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| unreadable(&self.event_time, "the event time is missing".to_owned()))?;
        self.ids.clear();
        self.hash.ids(&columns, rows, &mut self.ids);
        self.order.clear();
        let present = (0..rows).filter(|row| times.is_valid(*row));
        #[allow(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 rows")]
        self.order.extend(present.map(|row| (self.buckets.number(times.value(row)), row as u32)));
        // Nearly sorted as a rule, and stable by the row.
        self.order.sort_unstable();
        let mut duplicates = Vec::new();
        let order = std::mem::take(&mut self.order);
        let result = self.keep_groups(&order, history, &mut duplicates);
        self.order = order;
        if result.is_err() {
            // Ids of this batch may be in them already.
            self.order.iter().for_each(|(bucket, _)| self.buckets.remove(*bucket));
        }
        result?;
        Ok((!duplicates.is_empty()).then(|| all_but(&duplicates, rows)))
    }

    /// Forgets everything; it is loaded again when needed. To be called when rows that were kept did not get into the
    /// history.
    pub fn forget(&mut self) {
        self.usual = self.buckets.iter().map(Ids::len).max().unwrap_or(self.usual);
        self.buckets.clear();
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// Span after span, so that each is loaded once however the batch is mixed.
    fn keep_groups(
        &mut self,
        order: &[(i64, u32)],
        history: &dyn History,
        duplicates: &mut Vec<usize>,
    ) -> Result<(), HistoryError> {
        for group in order.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((number, _)) = group.first() else { continue };
            if !self.buckets.contains(*number) {
                self.begin(*number, history)?;
            }
            let Some(bucket) = self.buckets.get_mut(*number) else { continue };
            for rows in group.chunks(BLOCK) {
                let mut ids = [KeyId::default(); BLOCK];
                for (id, (_, row)) in ids.iter_mut().zip(rows) {
                    *id = self.ids.get(*row as usize).copied().unwrap_or_default();
                }
                bucket.insert(&ids[..rows.len()], |at| duplicates.push(rows[at].1 as usize));
            }
            self.buckets.grown(*number);
        }
        Ok(())
    }

    /// Takes a span into memory. Those before it are full, as a rule, and so is one that is loaded beside later ones.
    fn begin(&mut self, number: i64, history: &dyn History) -> Result<(), HistoryError> {
        self.buckets.change_before(number, |earlier| {
            if earlier.pack() {
                self.usual = earlier.len();
            }
        });
        let mut ids = self.load(number, history)?;
        if self.buckets.newest().is_some_and(|newest| newest > number) {
            ids.pack();
        }
        self.buckets.insert(number, ids);
        Ok(())
    }

    fn load(&self, number: i64, history: &dyn History) -> Result<Ids, HistoryError> {
        let (from_us, to_us) = self.buckets.span(number);
        let mut loaded = Ids::expecting(self.usual);
        if !history.may_contain(from_us, to_us) {
            return Ok(loaded);
        }
        let mut ids = Vec::new();
        for batch in history.scan(from_us, to_us, &self.hash.names())? {
            let columns = self.hash.columns(&batch).map_err(|cause| unreadable(&self.event_time, cause))?;
            ids.clear();
            self.hash.ids(&columns, batch.num_rows(), &mut ids);
            loaded.insert(&ids, |_| {});
        }
        Ok(loaded)
    }
}

fn unreadable(column: &str, cause: String) -> HistoryError {
    HistoryError { table: format!("the rows to deduplicate by {column}"), cause }
}

fn all_but(rows: &[usize], len: usize) -> BooleanBuffer {
    let mut kept = BooleanBufferBuilder::new(len);
    kept.append_n(len, true);
    rows.iter().for_each(|row| kept.set_bit(*row, false));
    kept.finish()
}

impl Bucket for Ids {
    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

mod ids;
#[cfg(test)]
mod tests;
