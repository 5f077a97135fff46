//! The watermark: up to where in event time no more rows are expected.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;

use crate::domain::schema;

/// The newest event time of each partition that brings rows in an epoch, the least of them, minus the tolerance; it
/// never goes back.
///
/// The least, because partitions are not read in step: while a backlog is drained, one may be minutes of event time
/// ahead of another, and its rows would make all rows of the others late. A partition that brings nothing is not waited
/// for. This is the rule of Flink's watermark per partition (<https://nightlies.apache.org/flink/flink-docs-stable/docs/dev/datastream/event-time/generating_watermarks/>),
/// with an epoch for the idle timeout.
#[derive(Debug)]
pub struct Watermark {
    lateness_us: i64,
    before: Option<i64>,
    /// Newest event time by topic and partition, of the epoch under way.
    newest: HashMap<(String, i32), i64>,
}

impl Watermark {
    #[must_use]
    pub fn new(lateness_us: i64, before: Option<i64>) -> Self {
        Self { lateness_us, before, newest: HashMap::new() }
    }

    /// Where it stood when the epoch began: rows behind it are late.
    #[must_use]
    pub fn before(&self) -> Option<i64> {
        self.before
    }

    /// Where it stands with the rows of the epoch so far.
    #[must_use]
    pub fn now(&self) -> Option<i64> {
        self.newest.values().min().map(|at| at.saturating_sub(self.lateness_us)).max(self.before)
    }

    /// A new epoch begins.
    pub fn begin(&mut self) {
        self.before = self.now();
        self.newest.clear();
    }

    /// Takes in the event times of rows; gives the number of late ones among them.
    pub fn note(&mut self, rows: &RecordBatch, times: &TimestampMicrosecondArray) -> u64 {
        for (topic, partition, start, end) in runs(rows) {
            let newest = (start..end).filter(|row| times.is_valid(*row)).map(|row| times.value(row)).max();
            if let Some(newest) = newest {
                let known = self.newest.entry((topic.to_owned(), partition)).or_insert(newest);
                *known = newest.max(*known);
            }
        }
        let Some(before) = self.before else { return 0 };
        (0..times.len()).filter(|row| times.is_valid(*row) && times.value(*row) < before).count() as u64
    }
}

/// Rows of one topic and partition in a row: a micro-batch is sorted by them.
fn runs(rows: &RecordBatch) -> Vec<(&str, i32, usize, usize)> {
    let topics: Option<&StringArray> = rows.column_by_name(schema::SOURCE_TOPIC).and_then(|c| c.as_string_opt::<i32>());
    let partitions: Option<&Int32Array> =
        rows.column_by_name(schema::SOURCE_PARTITION).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let (Some(topics), Some(partitions)) = (topics, partitions) else { return vec![("", 0, 0, rows.num_rows())] };
    let mut runs: Vec<(&str, i32, usize, usize)> = Vec::new();
    for row in 0..rows.num_rows() {
        let (topic, partition) = (topics.value(row), partitions.value(row));
        match runs.last_mut() {
            Some((last, number, _, end)) if *number == partition && *last == topic => *end = row + 1,
            _ => runs.push((topic, partition, row, row + 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn note(watermark: &mut Watermark, rows: &[(i32, i64)]) -> u64 {
        let fields = vec![
            Field::new(schema::SOURCE_TOPIC, DataType::Utf8, false),
            Field::new(schema::SOURCE_PARTITION, DataType::Int32, false),
        ];
        let topics = StringArray::from(vec!["t"; rows.len()]);
        let partitions = Int32Array::from_iter_values(rows.iter().map(|row| row.0));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(topics), Arc::new(partitions)]);
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1)).with_timezone("UTC");
        watermark.note(&batch.unwrap(), &times)
    }

    #[test]
    fn the_slowest_partition_that_brings_rows_holds_it_back() {
        let mut watermark = Watermark::new(10, None);
        assert_eq!(note(&mut watermark, &[(0, 100), (0, 900), (1, 300)]), 0);
        assert_eq!(watermark.now(), Some(290));
        assert_eq!(watermark.before(), None);
        watermark.begin();
        assert_eq!(note(&mut watermark, &[(0, 200), (0, 950)]), 1, "partition 1 brought nothing and is not waited for");
        assert_eq!(watermark.now(), Some(940));
    }

    #[test]
    fn it_never_goes_back() {
        let mut watermark = Watermark::new(10, Some(500));
        assert_eq!(note(&mut watermark, &[(0, 100), (1, 505)]), 1);
        assert_eq!(watermark.now(), Some(500));
        watermark.begin();
        assert_eq!(watermark.now(), Some(500));
    }
}
