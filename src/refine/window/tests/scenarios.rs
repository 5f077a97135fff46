//! Epochs worked out by hand.

use arrow::array::{Decimal128Array, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

use super::super::{WindowEngine, WindowError, WindowSettings};
use super::gold::lines;
use super::property::{Stream, compile};
use super::sources::{Event, MINUTE, MemoryHistory, START, batch, def, gold_defs, source_schema};

const COUNTS: &str = "SELECT window_start, window_end, merchant, count(*) AS n, count(DISTINCT user_id) AS users
FROM silver.transactions GROUP BY window_start, window_end, merchant";

fn at(second: i64, user: i32, merchant: u8) -> Event {
    Event { second, user, merchant, cents: 100, traits: 1 }
}

fn minute(minute: i64) -> Option<i64> {
    Some(START + minute * MINUTE)
}

/// The rows without their window's date: `HH:MM merchant n users`.
fn short(rows: &RecordBatch) -> Vec<String> {
    let cells = |line: &String| {
        let cells = line.trim_matches(['‹', '›']).split("›‹").map(str::to_owned).collect::<Vec<_>>();
        let (_, time) = cells[0].split_once('T').unwrap();
        format!("{} {} {} {}", &time[..5], cells[2].trim_start_matches("merchant "), cells[3], cells[4])
    };
    lines(rows).iter().map(cells).collect()
}

#[test]
fn windows_open_close_and_are_restated() {
    let mut engine = WindowEngine::new(compile(&[def("counts", COUNTS, 10, 10)]), WindowSettings::default()).unwrap();
    let history = MemoryHistory::default();
    let feed = |engine: &mut WindowEngine, watermark, events: &[Event]| {
        engine.update(&batch(events), &history, watermark).unwrap();
        history.push(batch(events));
    };

    feed(&mut engine, None, &[at(0, 1, 2), at(30, 1, 2), at(60, 2, 2), at(599, 1, 1), at(600, 1, 1)]);
    let changes = engine.finish(minute(5)).unwrap().remove(0);
    assert_eq!(short(&changes.open.unwrap()), ["00:00 1 1 1", "00:00 2 3 2", "00:10 1 1 1"]);
    assert_eq!(changes.closed.num_rows(), 0);
    assert!(changes.restated.is_none());

    // Nothing new, nothing closed.
    let changes = engine.finish(minute(6)).unwrap().remove(0);
    assert!(changes.open.is_none() && changes.closed.num_rows() == 0 && changes.restated.is_none());

    // A row for a window that is open before and closed after the epoch is in `closed`, not restated.
    feed(&mut engine, minute(6), &[at(120, 3, 1)]);
    let changes = engine.finish(minute(10)).unwrap().remove(0);
    assert_eq!(short(&changes.closed), ["00:00 1 2 2", "00:00 2 3 2"]);
    assert_eq!(short(&changes.open.unwrap()), ["00:10 1 1 1"]);
    assert!(changes.restated.is_none());

    // Two late rows in one epoch: one `before`, as it stood at the end of the last epoch.
    feed(&mut engine, minute(10), &[at(121, 3, 1), at(122, 9, 7)]);
    feed(&mut engine, minute(10), &[at(123, 4, 1)]);
    let changes = engine.finish(minute(10)).unwrap().remove(0);
    let restated = changes.restated.unwrap();
    assert!(changes.open.is_none());
    assert_eq!(short(&restated.before), ["00:00 1 2 2"]);
    assert_eq!(short(&restated.after), ["00:00 1 4 3", "00:00 7 1 1"]);
    assert_eq!(restated.late_rows, 3);

    // The window of an hour before was never seen: there is only an `after`.
    feed(&mut engine, minute(10), &[at(-3600, 1, 1)]);
    let restated = engine.finish(minute(10)).unwrap().remove(0).restated.unwrap();
    assert_eq!(short(&restated.before), Vec::<String>::new());
    assert_eq!(short(&restated.after), ["23:00 1 1 1"]);
}

#[test]
fn sliding_windows_share_their_panes() {
    let mut engine = WindowEngine::new(compile(&[def("counts", COUNTS, 15, 5)]), WindowSettings::default()).unwrap();
    let history = MemoryHistory::default();
    // User 1 in the panes of 00:00 and 00:05, user 2 in that of 00:10; the first one comes last.
    engine.update(&batch(&[at(310, 1, 1), at(620, 2, 1)]), &history, None).unwrap();
    history.push(batch(&[at(310, 1, 1), at(620, 2, 1)]));
    engine.update(&batch(&[at(10, 1, 1)]), &history, None).unwrap();
    history.push(batch(&[at(10, 1, 1)]));
    let changes = engine.finish(minute(10)).unwrap().remove(0);
    assert_eq!(short(&changes.closed), ["23:50 1 1 1", "23:55 1 2 1"]);
    assert_eq!(short(&changes.open.unwrap()), ["00:00 1 3 2", "00:05 1 2 2", "00:10 1 1 1"]);
    // Late, in two closed windows and one open one.
    engine.update(&batch(&[at(20, 2, 1)]), &history, minute(10)).unwrap();
    let changes = engine.finish(minute(10)).unwrap().remove(0);
    let restated = changes.restated.unwrap();
    assert_eq!(short(&restated.before), ["23:50 1 1 1", "23:55 1 2 1"]);
    assert_eq!(short(&restated.after), ["23:50 1 2 2", "23:55 1 3 2"]);
    assert_eq!(restated.late_rows, 1);
    assert_eq!(short(&changes.open.unwrap()), ["00:00 1 4 2", "00:05 1 2 2", "00:10 1 1 1"]);
}

/// One span is read for all tables, and only what they need.
#[test]
fn late_rows_read_the_past_once_for_all_tables() {
    let mut stream = Stream::new(gold_defs(), 0, false);
    stream.update(&batch(&[at(0, 1, 1), at(7_200, 1, 1)]));
    stream.finish();
    stream.update(&batch(&[at(7_260, 1, 1)]));
    stream.finish();
    assert_eq!(stream.history.scans.lock().unwrap().len(), 0, "rows on time read nothing");
    stream.update(&batch(&[at(60, 2, 1), at(61, 2, 1)]));
    let scans = stream.history.scans.lock().unwrap().clone();
    assert!(
        scans.iter().all(|(from, until)| *from >= START - 10 * MINUTE && *until <= START + 60 * MINUTE),
        "{scans:?}"
    );
    assert!(scans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no span is read twice: {scans:?}");
    stream.finish();
    stream.check();
}

/// Late rows of many hours in one batch: each hour is read once, and none stays in memory.
#[test]
fn a_batch_of_scattered_late_rows_leaves_nothing_in_memory() {
    let hours = |user: i32| batch(&(0..30).map(|hour| at(hour * 7_200, user, 1)).collect::<Vec<_>>());
    let mut stream = Stream::new(gold_defs(), 0, false);
    stream.update(&hours(1));
    stream.finish();
    let panes = |stream: &Stream| stream.engine.panes().collect::<Vec<_>>();
    let open = panes(&stream);
    stream.update(&hours(2));
    assert_eq!(panes(&stream), open, "only open windows stay");
    let scans = stream.history.scans.lock().unwrap().clone();
    assert!(scans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no span is read twice: {scans:?}");
    stream.update(&hours(3));
    stream.finish();
    assert_eq!(panes(&stream), open);
    stream.check();
}

#[test]
fn a_closed_window_stays_as_long_as_late_rows_come() {
    let mut stream = Stream::new(vec![def("counts", COUNTS, 10, 10)], usize::MAX, false);
    let mut epoch = |minute: i64, late: bool| {
        let mut events = vec![at(minute * 60, 1, 1)];
        events.extend(late.then(|| at(5, 2, 1)));
        stream.update(&batch(&events));
        stream.finish();
        stream.engine.panes().any(|(_, pane)| pane == START / (10 * MINUTE))
    };
    assert!(epoch(0, false));
    for minute in (5..60).step_by(5) {
        assert!(epoch(minute, true), "minute {minute}");
    }
    assert!(epoch(60, false));
    assert!(!epoch(65, false), "the watermark of the last late row is more than ten minutes ago");
    assert_eq!(stream.history.scans.lock().unwrap().len(), 0, "nothing was read again");
    stream.check();
}

#[test]
fn codes_of_windows_that_are_gone_are_freed() {
    let mut stream = Stream::new(vec![def("counts", COUNTS, 10, 10)], 0, false);
    let mut peak = 0;
    for round in 0..12 {
        let events = (0..30_000).map(|user| at(round * 1_200, round as i32 * 30_000 + user, 1)).collect::<Vec<_>>();
        stream.update(&batch(&events));
        stream.finish();
        if round <= 5 {
            peak = peak.max(stream.engine.bytes());
        }
    }
    assert!(stream.engine.bytes() <= peak * 3 / 2, "{} bytes after {peak}", stream.engine.bytes());
    stream.check();
}

#[test]
fn sums_leave_64_bits_without_loss() {
    let huge = 999_999_999_999_999_999;
    let mut stream = Stream::new(gold_defs(), usize::MAX, false);
    for second in 0..4 {
        let events = (0..6).map(|user| Event { cents: huge, ..at(second, user, 1) }).collect::<Vec<_>>();
        stream.update(&batch(&events));
    }
    stream.finish();
    stream.check();
}

#[test]
fn rows_that_belong_to_no_window_are_an_error() {
    let mut engine = WindowEngine::new(compile(&gold_defs()), WindowSettings::default()).unwrap();
    let history = MemoryHistory::default();
    let rows = batch(&[at(0, 1, 1)]);
    let at_time = rows.schema().index_of("event_at").unwrap();
    let replace = |times: TimestampMicrosecondArray| {
        let mut columns = rows.columns().to_vec();
        columns[at_time] = Arc::new(times.with_timezone("UTC"));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let error = engine.update(&replace(vec![i64::MAX - 1].into()), &history, None).unwrap_err();
    assert!(matches!(error, WindowError::EventTimeRange { .. }), "{error}");
    // The years 1 and 9999 are within.
    for year in [-62_135_596_800_000_000_i64, 253_402_300_799_999_999] {
        engine.update(&replace(vec![year].into()), &history, None).unwrap();
    }
    let column = source_schema().index_of("amount").unwrap();
    let others = (0..rows.num_columns()).filter(|at| *at != column).collect::<Vec<_>>();
    let error = engine.update(&rows.project(&others).unwrap(), &history, None).unwrap_err();
    assert!(error.to_string().contains("`amount`"), "{error}");
    // A decimal with more digits than its type allows cannot come from silver.
    let mut columns = rows.columns().to_vec();
    let beyond = Decimal128Array::from(vec![i128::MAX]).with_precision_and_scale(18, 2);
    if let Ok(beyond) = beyond {
        columns[column] = Arc::new(beyond);
        let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
        let error = engine.update(&rows, &history, None).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{error}");
    }
}
