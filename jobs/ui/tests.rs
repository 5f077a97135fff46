use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use console::measure_text_width;

use super::progress::{Progress, live_lines, plain_line};
use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn payments() -> RecordBatch {
    let amount = Decimal128Array::from(vec![Some(123_456), None, Some(-5)]).with_precision_and_scale(18, 2).unwrap();
    batch(vec![
        ("merchant", Arc::new(StringArray::from(vec![Some("Café Ünï"), Some("東京"), None]))),
        ("amount", Arc::new(amount)),
        ("rate", Arc::new(Float64Array::from(vec![0.5, 12.25, f64::NAN]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000, 2]).with_timezone("UTC"))),
        ("fraud", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ])
}

#[test]
fn a_table_is_aligned() {
    let batch = payments();
    let text = render_table(&batch.schema(), &[batch], Look::PLAIN).unwrap();
    let expected = "
 merchant │  amount │  rate │ at                          │ fraud
──────────┼─────────┼───────┼─────────────────────────────┼───────
 Café Ünï │ 1234.56 │   0.5 │ 1970-01-01T00:00:00Z        │ true
 東京     │    NULL │ 12.25 │ 1970-01-01T00:00:01.500Z    │ false
 NULL     │   -0.05 │   NaN │ 1970-01-01T00:00:00.000002Z │ true
";
    assert_eq!(format!("\n{text}"), expected);
}

#[test]
fn a_table_without_rows_has_a_head_and_one_without_columns_is_nothing() {
    let batch = payments().slice(0, 0);
    let text = render_table(&batch.schema(), &[batch], Look::PLAIN).unwrap();
    assert_eq!(text.lines().next(), Some(" merchant │ amount │ rate │ at │ fraud"));
    assert_eq!(text.lines().count(), 2);
    assert_eq!(render_table(&Schema::empty(), &[], Look::PLAIN).unwrap(), "");
}

#[test]
fn long_text_is_cut_before_numbers_are() {
    let long = "x".repeat(200);
    let batch = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![123_456_789_012_345_i64]))),
        ("text", Arc::new(StringArray::from(vec![long]))),
    ]);
    let look = Look { width: Some(40), colors: false };
    let text = render_table(&batch.schema(), &[batch], look).unwrap();
    let expected = format!(" 123456789012345 │ {}…", "x".repeat(19));
    assert_eq!(text.lines().nth(2), Some(expected.as_str()));
}

#[test]
fn no_line_is_wider_than_the_terminal_however_many_columns() {
    for columns in [1, 3, 7, 27, 100] {
        let arrays: Vec<(String, ArrayRef)> = (0..columns)
            .map(|n| {
                let text: ArrayRef = Arc::new(StringArray::from(vec!["some words of text here"; 2]));
                let number: ArrayRef = Arc::new(Int64Array::from(vec![n, 1_000_000]));
                (format!("column_number_{n}"), if n % 3 == 0 { number } else { text })
            })
            .collect();
        let batch = RecordBatch::try_from_iter(arrays).unwrap();
        for width in [60, 80, 133, 400] {
            for colors in [false, true] {
                let text =
                    render_table(&batch.schema(), std::slice::from_ref(&batch), Look { width: Some(width), colors });
                for line in text.unwrap().lines() {
                    assert!(measure_text_width(line) <= width, "{columns} columns in {width}: `{line}`");
                }
            }
        }
    }
}

#[test]
fn columns_that_do_not_fit_are_counted() {
    let columns: Vec<(String, ArrayRef)> =
        (0..27).map(|n| (format!("col{n:02}"), Arc::new(StringArray::from(vec!["0123456789"])) as ArrayRef)).collect();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let text = render_table(&batch.schema(), &[batch], Look { width: Some(80), colors: false }).unwrap();
    let head: Vec<&str> = text.lines().next().unwrap().split('│').map(str::trim).collect();
    let shown = head.iter().filter(|name| name.starts_with("col")).count();
    assert_eq!((head.first(), head.last()), (Some(&"col00"), Some(&"col26")));
    assert!(head.contains(&"…"), "{head:?}");
    let note = format!("… {} of 27 columns do not fit", 27 - shown);
    assert!(text.lines().last().unwrap().starts_with(&note), "{text}");
}

#[test]
fn data_cannot_steer_the_terminal() {
    let evil = "a\x1b[2Jb\nc\td\u{202e}e\0";
    let batch = batch(vec![("text", Arc::new(StringArray::from(vec![evil])))]);
    let text = render_table(&batch.schema(), &[batch], Look::PLAIN).unwrap();
    assert_eq!(text.lines().nth(2), Some(" a\\u{1b}[2Jb\\nc\\td\\u{202e}e\\u{0}"));
}

#[test]
fn colours_are_used_only_where_they_may() {
    let batch = payments();
    let colored =
        render_table(&batch.schema(), std::slice::from_ref(&batch), Look { width: None, colors: true }).unwrap();
    let plain = render_table(&batch.schema(), &[batch], Look::PLAIN).unwrap();
    assert!(colored.contains("\x1b[1m") && !plain.contains('\x1b'));
    assert_eq!(console::strip_ansi_codes(&colored).replace(' ', ""), plain.replace(' ', ""));
}

#[test]
fn numbers_and_times_for_people() {
    assert_eq!([0, 12, 999, 1000, 1_234_567].map(thousands), ["0", "12", "999", "1,000", "1,234,567"]);
    assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    let times = [0.042, 12.34, 245.0, 3845.9].map(|s| seconds(Duration::from_secs_f64(s)));
    assert_eq!(times, ["0.04 s", "12.3 s", "4:05", "1:04:05"]);
    assert_eq!(instant(1_769_903_999_000_000), "2026-01-31 23:59:59Z");
    assert_eq!(instant(i64::MAX), format!("{} µs", i64::MAX));
}

fn snapshot(elapsed_s: f64) -> Snapshot {
    Snapshot {
        elapsed: Duration::from_secs_f64(elapsed_s),
        messages: 1_000,
        bronze_rows: 990,
        dead_letters: 10,
        silver_rows: 900,
        duplicates: 60,
        quarantined: 30,
        gold_rows: 50,
        score_rows: 900,
        epoch: 7,
        watermark_us: Some(0),
        lag: Some(12_345),
        rate_per_s: 250.4,
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn plain_progress_is_a_line_every_two_seconds_and_one_at_the_end() {
    let sink = Sink::default();
    let mut progress = Progress::plain("demo", Goal::Messages(4_000), Box::new(sink.clone()));
    for tenths in 0..=45 {
        progress.update(&snapshot(f64::from(tenths) / 10.0));
    }
    progress.finish(&snapshot(4.6));
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let begins: Vec<&str> = text.lines().map(|line| line.split(" epoch").next().unwrap()).collect();
    assert_eq!(begins, ["demo 0.0s 25%", "demo 2.0s 25%", "demo 4.0s 25%", "demo 4.6s 25%"]);
}

#[test]
fn plain_progress_says_everything_by_name() {
    let expected = "run 3.0s epoch=7 rate=250/s messages=1000 bronze=990 dead_letters=10 silver=900 duplicates=60 \
                    quarantined=30 gold=50 scores=900 lag=12345 watermark=1970-01-01T00:00:00Z";
    assert_eq!(plain_line("run", None, &snapshot(3.0)), expected);
    let unknown = Snapshot::default();
    assert!(plain_line("run", None, &unknown).ends_with("lag=unknown watermark=unknown"));
}

#[test]
fn live_progress_has_a_line_for_each_layer() {
    let lines = live_lines("demo", &snapshot(3.0), Look::PLAIN);
    let expected = [
        "demo  3.00 s  250 events/s  epoch 7",
        "  lag 12,345   watermark 1970-01-01 00:00:00Z",
        "  bronze             990 rows          10 dead letters",
        "  silver             900 rows          60 duplicates            30 quarantined",
        "  gold                50 rows",
        "  scores             900 rows",
    ];
    assert_eq!(lines, expected);
    for line in live_lines("demo", &snapshot(3.0), Look { width: Some(30), colors: true }) {
        assert!(measure_text_width(&line) <= 30, "{line}");
    }
}

fn ledger() -> Ledger {
    let table = |table: &str, rows, version| TableLine { table: table.to_owned(), rows, version };
    Ledger {
        job: "assay demo".to_owned(),
        epoch: 42,
        elapsed_s: 4.0,
        flow: Flow {
            messages: 100_000,
            bronze_rows: 99_500,
            dead_letters: 500,
            silver_rows: 98_000,
            duplicates: 1_000,
            quarantined: 500,
        },
        tables: vec![table("bronze.transactions", 99_500, 42), table("gold.merchant_activity", 12_000, 43)],
        riskiest: vec![Risk {
            transaction_id: "tx-1".to_owned(),
            score: 125,
            class: "CRITICAL".to_owned(),
            amount: "9812.50".to_owned(),
            merchant: "Shop\x1b[2J".to_owned(),
            country: "Nigeria".to_owned(),
            reasons: vec!["known fraud +50".to_owned(), "amount over 5000 +30".to_owned()],
        }],
        try_next: vec!["assay sql \"SELECT 1\"".to_owned()],
    }
}

#[test]
fn the_summary_reads_well() {
    let expected = "
  assay demo  epoch 42  100,000 messages in 4.00 s  25,000 events/s

  Table                                rows    version
  ────────────────────────────────────────────────────
  bronze.transactions                99,500         42
  gold.merchant_activity             12,000         43

  Conservation
  ────────────
        100,000 messages    = 99,500 bronze rows + 500 dead letters  ✓
         99,500 bronze rows = 98,000 silver rows + 1,000 duplicates + 500 quarantined  ✓

  Riskiest transactions
  ─────────────────────
  125 CRITICAL  9812.50  Shop\\u{1b}[2J, Nigeria  tx-1
      known fraud +50 · amount over 5000 +30

  Try next
  ────────
  assay sql \"SELECT 1\"

";
    assert_eq!(ledger().render(Look::PLAIN), expected);
    assert!(ledger().flow.is_balanced());
}

#[test]
fn a_summary_that_does_not_add_up_says_so() {
    let mut ledger = ledger();
    ledger.flow.dead_letters -= 3;
    ledger.flow.duplicates += 4;
    assert!(!ledger.flow.is_balanced());
    let text = ledger.render(Look::PLAIN);
    assert!(text.contains("497 dead letters  ✗ 3 are missing"), "{text}");
    assert!(text.contains("500 quarantined  ✗ 4 too many"), "{text}");
}

#[test]
fn what_refine_is_to_take_is_not_missing() {
    let mut ledger = ledger();
    ledger.job = "ingest".to_owned();
    (ledger.flow.silver_rows, ledger.flow.duplicates, ledger.flow.quarantined) = (0, 0, 0);
    let text = ledger.render(Look::PLAIN);
    assert!(text.contains("0 quarantined  `assay refine` takes them from here"), "{text}");
    assert!(!text.contains("missing"), "{text}");
}

#[test]
fn the_summary_for_machines_has_the_same_numbers() {
    let json = serde_json::to_value(ledger()).unwrap();
    assert_eq!(json["flow"]["bronze_rows"], 99_500);
    assert_eq!(json["tables"][1]["table"], "gold.merchant_activity");
    assert_eq!(json["riskiest"][0]["reasons"][0], "known fraud +50");
}
