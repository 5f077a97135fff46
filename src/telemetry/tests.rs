use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::domain::{
    EpochKind, EpochRecord, Layer, ManualClock, Partition, Ranges, Reason, Stage, StageTime, TableName, TableVersion,
};

fn metrics(now_us: i64) -> Metrics {
    Metrics::new("1.2.3", Arc::new(ManualClock::at(now_us))).unwrap()
}

fn record() -> EpochRecord {
    let table =
        |layer, name: &str, rows_added| TableVersion { table: TableName::new(layer, name), version: 1, rows_added };
    EpochRecord {
        epoch: 7,
        kind: EpochKind::Stream,
        started_at_us: 0,
        published_at_us: 0,
        watermark_us: Some(10_000_000),
        ranges: Ranges::new(),
        messages: 10,
        bronze_rows: 9,
        dead_letters: 1,
        silver_rows: 6,
        duplicates: 2,
        quarantined: 1,
        late_rows: 3,
        restated_rows: 4,
        warned_rows: 0,
        tables: vec![table(Layer::Bronze, "transactions", 9), table(Layer::Silver, "transactions", 6)],
        stages: vec![StageTime { stage: "decode", micros: 2_000 }],
    }
}

#[test]
fn every_metric_stands_in_the_table_of_the_docs_and_nothing_else() {
    let documented: BTreeSet<&str> =
        include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next()).collect();
    let metrics = metrics(0);
    let registered: BTreeSet<&str> = metrics.catalog().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(documented, registered);
}

#[test]
fn the_record_of_an_epoch_is_counted_once() {
    let metrics = metrics(12_500_000);
    metrics.epoch_published(&record());
    let text = metrics.render().unwrap();
    for line in [
        "assay_epoch 7",
        "assay_rows_total{table=\"bronze.transactions\"} 9",
        "assay_rows_total{table=\"silver.transactions\"} 6",
        "assay_duplicates_total 2",
        "assay_late_rows_total 3",
        "assay_watermark_lag_seconds 2.5",
        "assay_epoch_seconds_count{stage=\"decode\"} 1",
        "assay_epoch_seconds_sum{stage=\"decode\"} 0.002",
        "assay_epoch_seconds_bucket{stage=\"decode\",le=\"0.001\"} 0",
        "assay_epoch_seconds_bucket{stage=\"decode\",le=\"0.0025\"} 1",
        "assay_build_info{version=\"1.2.3\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn a_role_shows_the_one_version_that_has_it() {
    let metrics = metrics(0);
    let shown = || {
        let text = metrics.render().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("assay_role_version_info"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let roles = metrics.roles();
    roles.set_version("champion", Some(["fraud", "v1"]));
    roles.set_version("challenger", Some(["fraud", "v2"]));
    roles.set_version("champion", Some(["fraud", "v2"]));
    roles.set_version("challenger", None);
    roles.set_version("challenger", None);
    let line = "assay_role_version_info{model=\"fraud\",role=\"champion\",version=\"v2\"} 1";
    assert_eq!(shown(), [line]);
    roles.set_challenger_share(0.25);
    roles.challenger_returned("errors");
    let text = metrics.render().unwrap();
    for line in ["assay_challenger_share 0", "assay_challenger_returns_total{cause=\"errors\"} 1"] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn labels_hold_what_was_said() {
    let metrics = metrics(0);
    let gold = TableName::new(Layer::Gold, "user_activity");
    metrics.messages_read("tx", 5, 600);
    metrics.messages_read("tx", 1, 1);
    metrics.rejected(Stage::Frame, Reason::WrongMagic, 2);
    metrics.quarantined("positive_amount", 3);
    metrics.warned("known_method", 4);
    metrics.restated(&gold, 5);
    metrics.committed(&gold, Duration::from_millis(40));
    metrics.commit_failed(&gold);
    metrics.set_queue("decode", 3, 8);
    metrics.set_cache("windows", 4096);
    metrics.set_source_connected(true);
    metrics.fresh([0.2, 0.9, 4000.0]);
    let text = metrics.render().unwrap();
    for line in [
        "assay_messages_total{topic=\"tx\"} 6",
        "assay_message_bytes_total{topic=\"tx\"} 601",
        "assay_rejected_total{reason=\"wrong_magic\",stage=\"frame\"} 2",
        "assay_quarantined_total{expectation=\"positive_amount\"} 3",
        "assay_warned_total{expectation=\"known_method\"} 4",
        "assay_restated_rows_total{table=\"gold.user_activity\"} 5",
        "assay_commit_seconds_count{table=\"gold.user_activity\"} 1",
        "assay_commit_failures_total{table=\"gold.user_activity\"} 1",
        "assay_queue_depth{queue=\"decode\"} 3",
        "assay_queue_capacity{queue=\"decode\"} 8",
        "assay_cache_bytes{cache=\"windows\"} 4096",
        "assay_source_connected 1",
        "assay_freshness_seconds_bucket{le=\"1\"} 2",
        "assay_freshness_seconds_count 3",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn a_partition_that_moved_away_tells_no_lag() {
    let metrics = metrics(0);
    let partition = Partition::new("tx", 3);
    metrics.forget_partition(&partition);
    metrics.set_lag(&partition, 12);
    assert!(metrics.render().unwrap().contains("assay_consumer_lag{partition=\"3\",topic=\"tx\"} 12"));
    metrics.forget_partition(&partition);
    assert!(!metrics.render().unwrap().contains("assay_consumer_lag{"));
}

#[test]
fn the_lag_of_no_watermark_is_not_zero() {
    let metrics = metrics(5);
    assert!(metrics.render().unwrap().contains("assay_watermark_lag_seconds NaN"));
    metrics.resumed_at(4, Some(-1_000_000));
    let text = metrics.render().unwrap();
    assert!(text.contains("assay_watermark_lag_seconds 1.000005") && text.contains("assay_epoch 4"), "{text}");
}

#[test]
fn two_pipelines_do_not_share_their_counters() {
    let (one, two) = (metrics(0), metrics(0));
    one.messages_read("tx", 1, 1);
    assert!(!two.render().unwrap().contains("assay_messages_total{"));
}

#[test]
fn resident_memory_is_read_in_kibibytes() {
    assert_eq!(memory::parse("Name:\tassay\nVmRSS:\t    2048 kB\nThreads:\t2\n"), Some(2_097_152));
    assert_eq!(memory::parse("Name:\tassay\n"), None);
    assert_eq!(memory::parse("VmRSS:\tmany kB\n"), None);
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

fn logged(format: LogFormat, filter: &str) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = subscriber(format, filter, move || writer.clone(), false).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let epoch = tracing::info_span!("epoch", epoch = 42);
        let _epoch = epoch.enter();
        let stage = tracing::info_span!("stage", stage = "silver");
        let _stage = stage.enter();
        tracing::info!(rows = 3_u64, ratio = 0.5, table = %"silver.transactions", "committed \"one\"");
        tracing::debug!("unseen");
    });
    String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn json_lines_have_the_epoch_at_the_top_level() {
    let text = logged(LogFormat::Json, "info");
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["epoch"], 42);
    assert_eq!(line["stage"], "silver");
    assert_eq!(line["rows"], 3);
    assert_eq!(line["ratio"], 0.5);
    assert_eq!(line["table"], "silver.transactions");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "committed \"one\"");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn text_lines_name_the_epoch() {
    let text = logged(LogFormat::Text, "info");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("epoch{epoch=42}:stage{stage=\"silver\"}"), "{text}");
    assert!(text.contains("committed \"one\"") && text.contains("rows=3"), "{text}");
}

#[test]
fn a_filter_hides_what_it_should_and_a_bad_one_is_refused() {
    assert_eq!(logged(LogFormat::Json, "error"), "");
    let error = subscriber(LogFormat::Text, "info,assay=loud", std::io::sink, false).err().unwrap();
    assert!(error.to_string().starts_with("`info,assay=loud` is not a log filter"), "{error}");
}

/// Which of four lines a filter lets through: ours and a library's, at info and at warn.
fn passes(filter: &str) -> [bool; 4] {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = subscriber(LogFormat::Text, filter, move || writer.clone(), false).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "assay::pipeline", "line 0");
        tracing::warn!(target: "assay::pipeline", "line 1");
        tracing::info!(target: "delta_kernel::snapshot", "line 2");
        tracing::warn!(target: "delta_kernel::snapshot", "line 3");
    });
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    [0, 1, 2, 3].map(|line| text.contains(&format!("line {line}")))
}

#[test]
fn a_level_without_a_target_is_for_our_own_lines() {
    assert_eq!(passes("info"), [true, true, false, true]);
    assert_eq!(passes("INFO"), [true, true, false, true]);
    assert_eq!(passes("warn"), [false, true, false, true]);
    assert_eq!(passes("error"), [false; 4]);
    assert_eq!(passes("off"), [false; 4]);
    assert_eq!(passes("assay=info"), [true, true, false, false]);
}

#[test]
fn a_directive_that_names_a_library_is_kept() {
    assert_eq!(passes("info,delta_kernel=info"), [true, true, true, true]);
    assert_eq!(passes("info,delta_kernel=off"), [true, true, false, false]);
    assert_eq!(passes("assay=warn,info"), [false, true, false, true]);
}
