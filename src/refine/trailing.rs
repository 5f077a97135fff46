use std::collections::BTreeMap;

use ahash::AHashMap;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};

use super::buckets::Buckets;
use super::key_hash::in_type;
use super::times::Times;
use super::{RefineSettings, Trailing};
use crate::domain::{History, HistoryError};
use crate::features::Keys;

mod frozen;
mod recent;
mod span;

use span::{Asked, Span};

/// A running count per key: for each row, the rows of the source with the same key and an event time in
/// `(t - window, t]` that had arrived by then, itself included.
///
/// Event times are held by key in spans of event time, loaded from the [`History`] when a row needs them, and forgotten
/// when memory runs out. Late rows are counted like any other; counts given out earlier stay as they were.
///
/// An event takes 4 bytes and a key 9 in a span, 13 if it is a 64-bit number or a text. In the span that most rows fall
/// into, up to a million events, or a fifth of them, take about 50 bytes each while they are of different keys.
///
/// Whole numbers are told apart for certain. Texts are held as a keyed 64-bit hash: among a million keys two meet with a
/// chance of 3 in 100 million.
#[derive(Debug)]
pub struct TrailingCount {
    column: String,
    key: String,
    key_type: DataType,
    event_time: String,
    window_us: i64,
    keys: Keys,
    buckets: Buckets<Span>,
    /// The span into which most rows of the last batch fell.
    busiest: i64,
    /// Kept between calls for their memory.
    asked: Vec<Asked>,
    batch: AHashMap<u64, Times<i64>>,
}

/// Offsets within a span are 32 bits of microseconds: 71 minutes.
const SPAN_US_MAX: i64 = 3_600_000_000;
/// Spans that are too short would be looked up in vain.
const SPAN_US_MIN: i64 = 60_000_000;

impl TrailingCount {
    /// For batches with these columns.
    ///
    /// # Errors
    /// In words, when the key or the event time is missing or has a type that cannot be used.
    pub fn new(
        definition: &Trailing,
        schema: &SchemaRef,
        event_time: &str,
        settings: &RefineSettings,
        hash_key: [u8; 16],
    ) -> Result<Self, String> {
        let find = |name: &str| schema.field_with_name(name).map_err(|_| format!("the column `{name}` does not exist"));
        let key_type = find(&definition.key)?.data_type().clone();
        if !Keys::can_be(&key_type) {
            return Err(format!("the column `{}` is a {key_type}; count by a text or a whole number", definition.key));
        }
        if *find(event_time)?.data_type() != crate::domain::schema::timestamp() {
            return Err(format!("the column `{event_time}` is not a timestamp"));
        }
        if schema.column_with_name(&definition.column).is_some() {
            return Err(format!("the source has a column `{}` already", definition.column));
        }
        let span_us = definition.window_us.clamp(SPAN_US_MIN, SPAN_US_MAX);
        Ok(Self {
            column: definition.column.clone(),
            key: definition.key.clone(),
            key_type,
            event_time: event_time.to_owned(),
            window_us: definition.window_us,
            keys: Keys::new(hash_key),
            buckets: Buckets::new(span_us, settings.trailing_bytes_max),
            busiest: 0,
            asked: Vec::new(),
            batch: AHashMap::new(),
        })
    }

    /// The column that [`Self::count`] gives: NULL where a row has no key or no event time.
    #[must_use]
    pub fn field(&self, source: &Schema) -> Field {
        let nullable = |name: &str| source.field_with_name(name).map_or(true, Field::is_nullable);
        Field::new(&self.column, DataType::Int64, nullable(&self.key) || nullable(&self.event_time))
    }

    /// The counts of a batch, in its order. Nothing is remembered of it until [`Self::record`] is called with it.
    ///
    /// `history` must hold the rows of all earlier batches and none of this one.
    ///
    /// # Errors
    /// When the past cannot be read.
    pub fn count(&mut self, batch: &RecordBatch, history: &dyn History) -> Result<Int64Array, HistoryError> {
        let rows = self.rows(batch)?;
        let mut counts = vec![0_i64; rows.keys.len()];
        self.count_past(&rows, history, &mut counts)?;
        self.count_batch(&rows, &mut counts);
        Ok(Int64Array::new(counts.into(), rows.nulls))
    }

    /// The counts of rows that know nothing of each other: what had arrived before this batch, and the row itself.
    ///
    /// # Errors
    /// When the past cannot be read.
    pub fn count_apart(&mut self, batch: &RecordBatch, history: &dyn History) -> Result<Int64Array, HistoryError> {
        let rows = self.rows(batch)?;
        let mut counts = vec![1_i64; rows.keys.len()];
        self.count_past(&rows, history, &mut counts)?;
        Ok(Int64Array::new(counts.into(), rows.nulls))
    }

    /// Takes the rows of a batch into memory, once they are sure to get into the history.
    ///
    /// # Errors
    /// When the batch is not of the source.
    pub fn record(&mut self, batch: &RecordBatch) -> Result<(), HistoryError> {
        let rows = self.rows(batch)?;
        let mut busiest = (0, self.busiest);
        for (number, group) in rows.groups(&self.buckets) {
            busiest = busiest.max((group.len(), number));
            let (from_us, _) = self.buckets.span(number);
            // What is not in memory will be loaded whole when it is needed.
            let Some(bucket) = self.buckets.get_mut(number) else { continue };
            let events = group.iter().map(|row| rows.get(*row)).map(|(key, at_us)| (key, offset(at_us, from_us)));
            bucket.extend(&events.collect::<Vec<_>>());
            self.buckets.grown(number);
        }
        let left = std::mem::replace(&mut self.busiest, busiest.1);
        if left != self.busiest
            && let Some(bucket) = self.buckets.get_mut(left)
        {
            bucket.pack();
            self.buckets.grown(left);
        }
        Ok(())
    }

    /// Forgets everything; it is loaded again when needed. To be called when recorded rows did not get into the history.
    pub fn forget(&mut self) {
        self.buckets.clear();
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// What earlier batches contribute: independent of the order of rows, so it goes span after span.
    fn count_past(&mut self, rows: &Rows, history: &dyn History, counts: &mut [i64]) -> Result<(), HistoryError> {
        for (last, group) in rows.groups(&self.buckets) {
            let (from_us, _) = self.buckets.span(last);
            // An event at the very start of the span still sees those of `(start - window, start]`.
            let first = self.buckets.number(from_us.saturating_sub(self.window_us - 1));
            for number in first..=last {
                self.count_in(number, &group, rows, history, counts)?;
            }
        }
        Ok(())
    }

    fn count_in(
        &mut self,
        number: i64,
        group: &[usize],
        rows: &Rows,
        history: &dyn History,
        counts: &mut [i64],
    ) -> Result<(), HistoryError> {
        if !self.buckets.contains(number) {
            let loaded = self.load(number, history)?;
            self.buckets.insert(number, loaded);
        }
        let (from_us, to_us) = self.buckets.span(number);
        let window_us = self.window_us;
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(()) };
        if bucket.is_empty() {
            return Ok(());
        }
        self.asked.clear();
        self.asked.extend(group.iter().filter_map(|row| {
            let (key, at_us) = rows.get(*row);
            let after_us = at_us.saturating_sub(window_us);
            let until = if at_us >= to_us { u32::MAX } else { offset(at_us, from_us) };
            let after = (after_us >= from_us).then(|| offset(after_us, from_us));
            (after_us < to_us).then_some(Asked { row: *row, key, after, until })
        }));
        bucket.count(&self.asked, |asked, found| {
            if let Some(count) = counts.get_mut(asked.row) {
                *count += i64::try_from(found).unwrap_or(i64::MAX);
            }
        });
        Ok(())
    }

    /// What the rows of the batch itself contribute, in the order of their arrival.
    fn count_batch(&mut self, rows: &Rows, counts: &mut [i64]) {
        self.batch.clear();
        for (row, count) in counts.iter_mut().enumerate() {
            if rows.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let (key, at_us) = rows.get(row);
            let times = self.batch.entry(key).or_default();
            times.insert(at_us);
            let seen = times.rank(at_us) - times.rank(at_us.saturating_sub(self.window_us));
            *count += i64::try_from(seen).unwrap_or(i64::MAX);
        }
    }

    fn load(&self, number: i64, history: &dyn History) -> Result<Span, HistoryError> {
        let (from_us, to_us) = self.buckets.span(number);
        let mut loaded = Span::default();
        if !history.may_contain(from_us, to_us) {
            return Ok(loaded);
        }
        for batch in history.scan(from_us, to_us, &[&self.key, &self.event_time])? {
            let rows = self.rows(&batch)?;
            let is_null = |row: usize| rows.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            let present = (0..rows.keys.len()).filter(|row| !is_null(*row)).map(|row| rows.get(row));
            let within = present.filter(|(_, at_us)| (from_us..to_us).contains(at_us));
            loaded.extend(&within.map(|(key, at_us)| (key, offset(at_us, from_us))).collect::<Vec<_>>());
        }
        loaded.pack();
        Ok(loaded)
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows, HistoryError> {
        let unreadable = |cause: String| HistoryError { table: format!("the rows to count by {}", self.key), cause };
        let find = |name: &str, kind: &DataType| {
            let column =
                batch.column_by_name(name).ok_or_else(|| unreadable(format!("the column `{name}` is missing")))?;
            in_type(column, kind).map_err(|problem| unreadable(format!("the column `{name}` {problem}")))
        };
        let keys = find(&self.key, &self.key_type)?;
        let times = find(&self.event_time, &crate::domain::schema::timestamp())?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().cloned();
        let times = times.ok_or_else(|| unreadable("the event time is not a timestamp".to_owned()))?;
        let nulls = arrow::buffer::NullBuffer::union(keys.nulls(), times.nulls());
        Ok(Rows { keys: self.keys.of(&keys), times, nulls })
    }
}

/// Keys and times of a batch, row by row.
struct Rows {
    keys: Vec<u64>,
    times: TimestampMicrosecondArray,
    /// Rows without a key or a time.
    nulls: Option<arrow::buffer::NullBuffer>,
}

impl Rows {
    #[inline]
    fn get(&self, row: usize) -> (u64, i64) {
        (self.keys.get(row).copied().unwrap_or(0), self.times.values().get(row).copied().unwrap_or(0))
    }

    /// The rows that count, by their bucket.
    fn groups(&self, buckets: &Buckets<Span>) -> BTreeMap<i64, Vec<usize>> {
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for (row, at_us) in self.times.values().iter().enumerate() {
            if self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                groups.entry(buckets.number(*at_us)).or_default().push(row);
            }
        }
        groups
    }
}

/// Microseconds since the start of a span; callers see to it that the instant lies in it.
#[inline]
fn offset(at_us: i64, from_us: i64) -> u32 {
    u32::try_from(at_us - from_us).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
