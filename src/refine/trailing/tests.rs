use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::domain::schema::timestamp;
use crate::refine::testing::{MINUTE_US, MemoryHistory};

fn schema(key: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", key, true), Field::new("at", timestamp(), true)]))
}

type Row = (Option<i32>, Option<i64>);

fn batch(rows: &[Row], as_text: bool) -> RecordBatch {
    let times = rows.iter().map(|(_, at)| *at).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let keys: ArrayRef = if as_text {
        Arc::new(rows.iter().map(|(key, _)| key.map(|key| format!("user-{key}"))).collect::<StringArray>())
    } else {
        Arc::new(rows.iter().map(|(key, _)| *key).collect::<Int32Array>())
    };
    RecordBatch::try_new(schema(keys.data_type().clone()), vec![keys, Arc::new(times)]).unwrap()
}

fn counter(window_us: i64, as_text: bool, bytes_max: usize) -> TrailingCount {
    let settings = RefineSettings { trailing_bytes_max: bytes_max, ..RefineSettings::default() };
    let definition = Trailing { column: "n".into(), key: "key".into(), window_us };
    let key = if as_text { DataType::Utf8 } else { DataType::Int32 };
    TrailingCount::new(&definition, &schema(key), "at", &settings, [3; 16]).unwrap()
}

fn counts(counter: &mut TrailingCount, batch: &RecordBatch, history: &MemoryHistory) -> Vec<Option<i64>> {
    let counts = counter.count(batch, history).unwrap();
    counter.record(batch).unwrap();
    history.push(batch);
    counts.iter().collect()
}

/// Straight from the definition.
fn brute_force(rows: &[Row], window_us: i64) -> Vec<Option<i64>> {
    let count = |row: usize| {
        let (key, at) = (rows[row].0?, rows[row].1?);
        let within = |other: &&Row| other.0 == Some(key) && other.1.is_some_and(|t| at - window_us < t && t <= at);
        Some(rows[..=row].iter().filter(within).count() as i64)
    };
    (0..rows.len()).map(count).collect()
}

#[test]
fn the_window_is_open_at_its_start_and_closed_at_its_end() {
    let rows = [0, 29, 30, 30, 59, 60, 29].map(|minute| (Some(1), Some(minute * MINUTE_US)));
    let (mut counter, history) = (counter(30 * MINUTE_US, false, usize::MAX), MemoryHistory::new("at"));
    let expected = [1, 2, 2, 3, 3, 2, 3].map(Some);
    assert_eq!(counts(&mut counter, &batch(&rows, false), &history), expected);
    assert_eq!(brute_force(&rows, 30 * MINUTE_US), expected);
}

#[test]
fn counting_alone_remembers_nothing() {
    let (mut counter, history) = (counter(MINUTE_US, false, usize::MAX), MemoryHistory::new("at"));
    let one = batch(&[(Some(1), Some(0))], false);
    for _ in 0..3 {
        assert_eq!(counter.count(&one, &history).unwrap().values(), &[1]);
    }
    history.push(&one);
    counter.record(&one).unwrap();
    assert_eq!(counter.count(&one, &history).unwrap().values(), &[2]);
}

#[test]
fn a_past_that_cannot_be_read_leaves_no_trace() {
    let (mut counter, history) = (counter(MINUTE_US, false, usize::MAX), MemoryHistory::new("at"));
    history.push(&batch(&[(Some(1), Some(0))], false));
    history.fail_after.store(0, Ordering::Relaxed);
    let next = batch(&[(Some(1), Some(1))], false);
    assert!(counter.count(&next, &history).is_err());
    history.fail_after.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(counter.count(&next, &history).unwrap().values(), &[2]);
}

#[test]
fn memory_keeps_to_its_bound() {
    let (mut counter, history) = (counter(30 * MINUTE_US, false, 20_000), MemoryHistory::new("at"));
    for hour in 0..20 {
        let rows = (0..200).map(|key| (Some(key), Some(hour * 60 * MINUTE_US + i64::from(key)))).collect::<Vec<_>>();
        counts(&mut counter, &batch(&rows, false), &history);
        assert!(counter.bytes() <= 20_000, "{}", counter.bytes());
    }
}

#[test]
fn a_span_that_rows_have_left_takes_4_bytes_an_event_and_9_or_13_a_key() {
    let (keys, events) = (5_000_i64, 45_000_i64);
    for (as_text, key_bytes) in [(false, 9), (true, 13)] {
        let (mut early, history) = (counter(30 * MINUTE_US, as_text, usize::MAX), MemoryHistory::new("at"));
        let at = |event: i64| event * 30 * MINUTE_US / events;
        let rows = (0..events).map(|event| (Some((event * 7_919 % keys) as i32), Some(at(event)))).collect::<Vec<_>>();
        for rows in rows.chunks(5_000) {
            counts(&mut early, &batch(rows, as_text), &history);
        }
        // That of its predecessor is known to be empty.
        let newest = early.bytes();
        assert!(newest < 10 * events as usize, "{newest}");
        let next = batch(&[(Some(0), Some(30 * MINUTE_US))], as_text);
        counts(&mut early, &next, &history);
        let expected = (4 * events + key_bytes * keys) as usize;
        assert!((expected..expected + 2_000).contains(&early.bytes()), "{} {expected}", early.bytes());
        // The same when it is loaded.
        let mut late = counter(30 * MINUTE_US, as_text, usize::MAX);
        late.count(&next, &history).unwrap();
        assert!((expected..expected + 2_000).contains(&late.bytes()), "{} {expected}", late.bytes());
    }
}

#[test]
fn a_clock_that_runs_ahead_keeps_no_span_from_being_frozen() {
    let (mut counter, history) = (counter(30 * MINUTE_US, false, usize::MAX), MemoryHistory::new("at"));
    let ahead = [(Some(-1), Some(45 * MINUTE_US)), (Some(-1), Some(1_000 * MINUTE_US))];
    let rows = (0..5_000).map(|key| (Some(key), Some(i64::from(key)))).chain(ahead).collect::<Vec<_>>();
    counts(&mut counter, &batch(&rows, false), &history);
    let later = (0..10).map(|key| (Some(key), Some(31 * MINUTE_US))).collect::<Vec<_>>();
    counts(&mut counter, &batch(&later, false), &history);
    assert!(counter.bytes() < 14 * 5_000, "{}", counter.bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// However a stream is cut, whatever is forgotten, in whatever order rows arrive.
    #[test]
    fn counts_equal_the_definition(
        // A heavy key among others, instants that crowd, negative ones too.
        rows in prop::collection::vec((prop::option::weighted(0.97, prop::sample::select(vec![0, 0, 0, 1, 2, -1])), prop::option::weighted(0.97, -100_i64..400)), 1..300),
        cuts in prop::collection::vec(1_usize..40, 1..20),
        window in prop::sample::select(vec![1_i64, 7, 30, 61, 150]),
        bytes_max in prop::sample::select(vec![0_usize, 2_000, 1 << 20]),
        as_text in any::<bool>(),
    ) {
        let window_us = window * MINUTE_US;
        let rows = rows.into_iter().map(|(key, at)| (key, at.map(|at| at * MINUTE_US / 2))).collect::<Vec<_>>();
        let (mut counter, history) = (counter(window_us, as_text, bytes_max), MemoryHistory::new("at"));
        let mut found = Vec::new();
        let mut cuts = cuts.iter().cycle();
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            found.extend(counts(&mut counter, &batch(now, as_text), &history));
            rest = later;
        }
        prop_assert_eq!(found, brute_force(&rows, window_us));
    }
}
