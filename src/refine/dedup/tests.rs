use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{BooleanArray, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::*;
use crate::domain::schema::timestamp;
use crate::refine::testing::{MINUTE_US, MemoryHistory};

fn schema() -> SchemaRef {
    let fields = vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("part", DataType::Int32, true),
        Field::new("at", timestamp(), true),
    ];
    Arc::new(Schema::new(fields))
}

type Row = (u16, Option<i32>, Option<i64>);

fn batch(rows: &[Row]) -> RecordBatch {
    let ids = rows.iter().map(|(id, ..)| Some(format!("t-{id}"))).collect::<StringArray>();
    let parts = rows.iter().map(|(_, part, _)| *part).collect::<Int32Array>();
    let times = rows.iter().map(|(.., minute)| minute.map(|minute| minute * MINUTE_US));
    let times = times.collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(parts), Arc::new(times)]).unwrap()
}

fn dedup(key: &[&str], bytes_max: usize) -> Dedup {
    let settings = RefineSettings { dedup_bytes_max: bytes_max, ..RefineSettings::default() };
    let key = key.iter().map(ToString::to_string).collect::<Vec<_>>();
    Dedup::new(&schema(), &key, "at", &settings, [3; 16]).unwrap()
}

/// Which rows are kept, feeding the history as the pipeline does.
fn kept(dedup: &mut Dedup, rows: &[Row], history: &MemoryHistory) -> Vec<bool> {
    let batch = batch(rows);
    let kept = dedup.keep(&batch, history).unwrap();
    let kept = kept.map_or_else(|| vec![true; rows.len()], |kept| kept.iter().collect());
    history.push(&filter_record_batch(&batch, &BooleanArray::from(kept.clone())).unwrap());
    kept
}

#[test]
fn an_id_is_found_after_it_was_forgotten() {
    let (mut dedup, history) = (dedup(&["id"], usize::MAX), MemoryHistory::new("at"));
    assert_eq!(kept(&mut dedup, &[(1, None, Some(5)), (2, None, Some(500))], &history), [true, true]);
    dedup.forget();
    assert_eq!(dedup.bytes(), 0);
    assert_eq!(
        kept(&mut dedup, &[(2, None, Some(500)), (1, None, Some(5)), (3, None, Some(5))], &history),
        [false, false, true]
    );
}

#[test]
fn memory_keeps_to_its_bound_and_a_span_in_use_stays() {
    let (mut dedup, history) = (dedup(&["id"], 10_000), MemoryHistory::new("at"));
    for hour in 0..50 {
        let rows = (0..100).map(|id| (id, None, Some(hour * 60))).collect::<Vec<_>>();
        assert!(kept(&mut dedup, &rows, &history).iter().all(|kept| *kept));
        assert!(dedup.bytes() <= 10_000, "{}", dedup.bytes());
    }
    let scans = history.scans.load(Ordering::Relaxed);
    assert_eq!(kept(&mut dedup, &[(7, None, Some(49 * 60))], &history), [false]);
    assert_eq!(history.scans.load(Ordering::Relaxed), scans, "the newest span is in memory");
    assert_eq!(kept(&mut dedup, &[(7, None, Some(0))], &history), [false]);
    assert_eq!(history.scans.load(Ordering::Relaxed), scans + 1);
}

#[test]
fn an_empty_past_is_not_read() {
    let (mut dedup, history) = (dedup(&["id"], usize::MAX), MemoryHistory::new("at"));
    kept(&mut dedup, &[(1, None, Some(5))], &history);
    assert_eq!(history.scans.load(Ordering::Relaxed), 0);
}

#[test]
fn a_span_is_packed_when_a_later_one_begins_and_late_rows_still_find_it() {
    let (mut dedup, history) = (dedup(&["id", "part"], usize::MAX), MemoryHistory::new("at"));
    // 180,000 ids in each of two spans.
    let rows = |minute: i64, part: i32| (0..60_000).map(|id| (id, Some(part), Some(minute))).collect::<Vec<_>>();
    let mut feed = |minute: i64, part: i32, new: bool| {
        assert!(kept(&mut dedup, &rows(minute, part), &history).iter().all(|kept| *kept == new));
        dedup.bytes()
    };
    for part in 0..3 {
        feed(5, part, true);
    }
    let growing = feed(5, 0, false);
    let with_next = feed(15, 0, true);
    let next_alone = 60_000 * 40;
    assert!(with_next < 180_000 * 10 + next_alone && growing > 180_000 * 10, "{growing} and {with_next} bytes");
    for part in 0..3 {
        feed(5, part, false);
    }
    for part in 1..3 {
        feed(15, part, true);
    }
    for part in 3..5 {
        feed(5, part, true);
    }
    for part in 0..5 {
        feed(5, part, false);
    }
    for part in 0..3 {
        feed(15, part, false);
    }
    assert_eq!(history.scans.load(Ordering::Relaxed), 0);
}

proptest! {
    /// However a stream is cut, whatever is forgotten: the first row of each key and instant is kept, and only that.
    #[test]
    fn exactly_the_first_of_each_key_is_kept(
        rows in prop::collection::vec((0_u16..30, prop::option::of(0..2), prop::option::weighted(0.95, 0_i64..4)), 1..200),
        cuts in prop::collection::vec(1_usize..20, 1..40),
        bytes_max in prop::sample::select(vec![0_usize, 600, 1 << 20]),
    ) {
        // Instants an hour apart lie in spans of their own, so that key and instant together are the identity.
        let rows = rows.into_iter().map(|(id, part, hour)| (id, part, hour.map(|hour| hour * 60))).collect::<Vec<_>>();
        let (mut dedup, history) = (dedup(&["id", "part"], bytes_max), MemoryHistory::new("at"));
        let mut seen = HashSet::new();
        let expected = rows.iter().map(|row| row.2.is_none() || seen.insert(*row)).collect::<Vec<_>>();
        let mut found = Vec::new();
        let mut cuts = cuts.iter().cycle();
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            found.extend(kept(&mut dedup, now, &history));
            rest = later;
        }
        prop_assert_eq!(found, expected);
    }
}
