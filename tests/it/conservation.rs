//! Nothing is lost, nothing is doubled, and the cut into epochs shows in no table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assay::pipeline::{Reach, refine_pending};

use crate::fault::{FaultStore, Weather};
use crate::kit::{Cut, Lab, NOON_US, Ticking, Tx, dice, dirty, generated, messages, sql_in};

const DAY_US: i64 = 86_400_000_000;

#[test]
fn a_dirty_stream_ends_as_the_generator_counted() {
    for seed in [1, 2] {
        let (stream, counts) = generated(dirty(seed, 900));
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::at(folder.path().to_str().unwrap());
        lab.run(&stream, &Cut::every(130)).unwrap();
        let records = lab.records();
        let sum = |count: fn(&assay::domain::EpochRecord) -> u64| records.iter().map(count).sum::<u64>();
        assert_eq!(records.len(), 7);
        assert!(records.iter().all(|record| record.imbalance().is_none()));
        assert_eq!(sum(|r| r.messages), counts.messages, "messages, seed {seed}");
        assert_eq!(sum(|r| r.dead_letters), counts.malformed.values().sum::<u64>(), "dead letters, seed {seed}");
        assert_eq!(sum(|r| r.silver_rows), counts.valid, "silver, seed {seed}");
        assert_eq!(sum(|r| r.duplicates), counts.duplicates, "duplicates, seed {seed}");
        assert_eq!(sum(|r| r.quarantined), counts.bad_rows.values().sum::<u64>(), "quarantine, seed {seed}");
        assert_eq!(sum(|r| r.warned_rows), counts.unknown_payment, "warnings, seed {seed}");
        assert!(sum(|r| r.restated_rows) > 0, "late events restate something, seed {seed}");
        let contents = lab.contents();
        assert_eq!(contents.rows("silver.transactions") as u64, counts.valid);
        assert_eq!(contents.rows("gold.fraud_scores") as u64, counts.valid);
        contents.assert_complete(&stream);
        lab.assert_verified();
    }
}

#[test]
fn any_cut_gives_the_same_tables() {
    let (stream, _) = generated(dirty(11, 700));
    let lab = Lab::at("fault://cut-whole/lake");
    FaultStore::named("cut-whole");
    lab.run(&stream, &Cut::every(10_000)).unwrap();
    lab.assert_verified();
    let whole = lab.contents();
    for seed in [1, 2, 4, 5] {
        let mut next = dice(seed);
        let sizes: Vec<usize> = (0..40).map(|_| 1 + next(if seed % 2 == 0 { 40 } else { 300 })).collect();
        let messages_max = 1 + next(150) as u64;
        let name = format!("cut-{seed}");
        FaultStore::named(&name);
        let mut lab = Lab::at(format!("fault://{name}/lake"));
        if seed > 3 {
            lab = lab.forgetful();
        }
        let cut = Cut { sizes, messages_max };
        lab.run(&stream, &cut).unwrap();
        let contents = lab.contents();
        contents.assert_equals(&whole, &format!("seed {seed}, {cut:?}"));
        contents.assert_complete(&stream);
        if seed == 4 {
            lab.assert_verified();
        }
    }
}

#[test]
fn ingest_and_refine_make_what_run_makes() {
    let (stream, _) = generated(dirty(21, 600));
    let cut = Cut::every(90);
    FaultStore::named("whole");
    let whole = Lab::at("fault://whole/lake");
    whole.run(&stream, &cut).unwrap();
    FaultStore::named("apart");
    let apart = Lab::at("fault://apart/lake").forgetful();
    // In turns: some epochs wait while others come.
    apart.ingest(&stream[..300], &cut).unwrap();
    assert_eq!(apart.contents().rows("silver.transactions"), 0);
    assert_eq!(apart.refine(2).unwrap(), 2);
    apart.ingest(&stream, &cut).unwrap();
    assert_eq!(apart.refine(u64::MAX).unwrap(), 6, "300 are four epochs, of which two are done; the rest is four more");
    assert_eq!(apart.refine(u64::MAX).unwrap(), 0);
    let contents = apart.contents();
    contents.assert_equals(&whole.contents(), "ingest and refine");
    contents.assert_complete(&stream);
    apart.assert_verified();
}

/// While refining lags behind, SQL and verification see bronze as of the last complete epoch.
#[test]
fn a_lake_that_is_refined_in_part_is_whole_as_of_its_last_epoch() {
    let (stream, _) = generated(dirty(22, 400));
    FaultStore::named("lagging");
    let lab = Lab::at("fault://lagging/lake");
    lab.ingest(&stream, &Cut::every(100)).unwrap();
    assert_eq!(lab.refine(2).unwrap(), 2);
    assert_eq!(lab.sql("SELECT max(epoch) FROM bronze.transactions"), ["2"]);
    lab.assert_verified();
    assert_eq!(lab.refine(u64::MAX).unwrap(), 2);
    lab.assert_verified();
}

#[test]
fn the_columns_of_version_2_come_with_its_first_row() {
    FaultStore::named("evolving");
    let lab = Lab::at("fault://evolving/lake");
    let tx = |n: usize, at: &str| Tx::new(&format!("t{n}"), at);
    let v2 = |n: usize, at: &str, id: Option<&str>| Tx { merchant_id: Some(id.map(str::to_owned)), ..tx(n, at) };
    let bad = |tx: Tx| Tx { amount: -1.0, ..tx };
    let stream = messages(
        [
            tx(1, "2026-01-06T10:00:00Z"),
            bad(tx(2, "2026-01-06T10:00:01Z")),
            // The second epoch: of version 2, with a row for quarantine.
            v2(3, "2026-01-06T10:00:02Z", Some("m-3")),
            bad(v2(4, "2026-01-06T10:00:03Z", Some("m-4"))),
            v2(5, "2026-01-06T10:00:04Z", None),
            tx(6, "2026-01-06T10:00:05Z"),
        ]
        .map(|tx| tx.payload()),
    );
    let columns = "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'merchant_id' ORDER BY 1, 2";
    lab.run(&stream[..2], &Cut::every(2)).unwrap();
    assert!(lab.sql(columns).is_empty());
    lab.run(&stream, &Cut::every(2)).unwrap();
    assert_eq!(lab.sql(columns), ["bronze | transactions", "silver | quarantine", "silver | transactions"]);
    let by_id = |table: &str| lab.sql(&format!("SELECT transaction_id, merchant_id FROM {table} ORDER BY 1"));
    assert_eq!(by_id("silver.transactions"), ["t1 | NULL", "t3 | m-3", "t5 | NULL", "t6 | NULL"]);
    assert_eq!(by_id("silver.quarantine"), ["t2 | NULL", "t4 | m-4"]);
    assert_eq!(by_id("bronze.transactions").len(), 6);
    lab.assert_verified();
}

#[test]
fn rows_of_version_2_that_come_within_an_epoch_begin_another() {
    FaultStore::named("evolving-within");
    let mut lab = Lab::at("fault://evolving-within/lake");
    lab.stages.ahead_rows = 1;
    let tx = |n: usize| Tx::new(&format!("t{n}"), &format!("2026-01-06T10:00:0{n}Z"));
    let v2 = |n: usize| Tx { merchant_id: Some(Some(format!("m-{n}"))), ..tx(n) };
    let stream = messages([tx(1), tx(2), v2(3), tx(4), tx(5), v2(6)].map(|tx| tx.payload()));
    lab.run(&stream, &Cut { sizes: vec![2], messages_max: 100 }).unwrap();
    assert_eq!(lab.records().iter().map(|record| record.messages).collect::<Vec<_>>(), [2, 4]);
    let rows = lab.sql("SELECT transaction_id, merchant_id FROM silver.transactions ORDER BY 1");
    assert_eq!(rows, ["t1 | NULL", "t2 | NULL", "t3 | m-3", "t4 | NULL", "t5 | NULL", "t6 | m-6"]);
    lab.assert_verified();
}

#[test]
fn a_late_event_restates_closed_windows_and_keeps_what_stood_there() {
    FaultStore::named("late");
    let lab = Lab::at("fault://late/lake");
    let stream = messages(
        [
            Tx::new("a", "2026-01-06T10:01:00Z"),
            Tx::new("b", "2026-01-06T11:00:00Z"),
            // Behind the watermark of 10:58, in the window of `a`, and in one that has no rows yet.
            Tx { amount: 100.0, ..Tx::new("c", "2026-01-06T10:02:00Z") },
            Tx::new("d", "2026-01-06T10:25:00Z"),
        ]
        .map(|tx| tx.payload()),
    );
    lab.run(&stream[..2], &Cut::every(2)).unwrap();
    let window = "SELECT CAST(window_start AS VARCHAR), transactions, revenue FROM gold.segment_activity ORDER BY 1";
    assert_eq!(lab.sql(window), ["2026-01-06T10:00:00Z | 1 | 12.50", "2026-01-06T11:00:00Z | 1 | 12.50"]);
    lab.run(&stream, &Cut::every(2)).unwrap();
    assert_eq!(
        lab.sql(window),
        ["2026-01-06T10:00:00Z | 2 | 112.50", "2026-01-06T10:20:00Z | 1 | 12.50", "2026-01-06T11:00:00Z | 1 | 12.50"]
    );
    let records = lab.records();
    assert_eq!(records.iter().map(|record| record.late_rows).collect::<Vec<_>>(), [0, 2]);
    let kept = lab.sql(
        "SELECT before, after FROM ops.restatements WHERE \"table\" = 'gold.segment_activity' ORDER BY window_start",
    );
    assert_eq!(kept.len(), 2);
    let (before, after) = kept[0].split_once(" | ").unwrap();
    assert!(before.contains("\"transactions\":1") && after.contains("\"transactions\":2"), "{}", kept[0]);
    assert!(kept[1].starts_with("NULL | ") && kept[1].contains("\"transactions\":1"), "{}", kept[1]);
    assert_eq!(records[1].restated_rows, lab.lines("ops.restatements", &[]).len() as u64);
    lab.assert_verified();
}

/// The files of closed windows follow late events after a while only; readers do not wait for them, nor does a process
/// that ends meanwhile forget them.
#[test]
fn a_restatement_is_seen_before_the_files_have_it() {
    let window = "SELECT CAST(window_start AS VARCHAR), transactions, revenue FROM gold.segment_activity ORDER BY 1";
    let (stream, _) = generated(dirty(47, 400));
    FaultStore::named("waiting");
    let lab = Lab::at("fault://waiting/lake");
    lab.ingest(&stream, &Cut::every(40)).unwrap();
    let mut ready = lab.ready().unwrap();
    refine_pending(&mut ready.tables, &mut ready.stages, Duration::ZERO, &ready.metrics, |_, _| true).unwrap();
    let waiting: usize = ready.tables.windows.iter().map(|table| ready.tables.waiting(table.name()).len()).sum();
    assert!(waiting > 0, "late events restate something");
    let epochs = ready.tables.ledger.last_epoch();
    drop(ready);
    let (before, past) = (lab.sql(window), sql_in(&lab.session(Some(epochs / 2)), window));
    lab.assert_verified();
    // The next life finds them in the log, and puts them into the files.
    let mut ready = lab.ready().unwrap();
    let again: usize = ready.tables.windows.iter().map(|table| ready.tables.waiting(table.name()).len()).sum();
    assert_eq!(again, waiting);
    lab.maintenance().finish(&mut ready.tables);
    for table in &ready.tables.windows {
        assert!(ready.tables.waiting(table.name()).is_empty() && table.restated() > 0, "{}", table.name());
    }
    drop(ready);
    assert_eq!(lab.sql(window), before);
    assert_eq!(sql_in(&lab.session(Some(epochs / 2)), window), past);
    assert!(lab.ready().unwrap().tables.windows.iter().all(|table| table.epoch() == epochs));
    lab.assert_verified();
}

/// Rows of one epoch may lie in two folders of bronze; the epoch is refined whole after a crash all the same.
#[test]
fn an_epoch_across_midnight_is_recovered_whole() {
    let (stream, counts) = generated(dirty(31, 240));
    let store = FaultStore::named("midnight");
    let clock = Ticking::at(NOON_US + DAY_US / 2 - 1_000_000);
    let lab = Lab::at("fault://midnight/lake").with_clock(Arc::clone(&clock) as _);
    lab.ingest(&[], &Cut::every(1)).unwrap();
    // Three micro-batches are an epoch; midnight comes before the second.
    let polls = AtomicUsize::new(0);
    let hands = Arc::clone(&clock);
    let cut = Cut { sizes: vec![40], messages_max: 120 };
    let at_midnight = move || {
        if polls.fetch_add(1, Ordering::Relaxed) == 1 {
            hands.set(NOON_US + DAY_US / 2 + 1_000_000);
        }
    };
    lab.stream(&stream, &cut, Reach::Bronze, at_midnight).unwrap();
    let dates =
        "SELECT CAST(processing_date AS VARCHAR), count(DISTINCT epoch) FROM bronze.transactions GROUP BY 1 ORDER BY 1";
    // The process dies after silver's commit of the first epoch.
    store.set(Weather::Death { puts: 4, lands: false });
    assert!(lab.refine(u64::MAX).is_err());
    store.set(Weather::Fine);
    // And the clock goes back by a day.
    clock.set(NOON_US - DAY_US / 4);
    assert_eq!(lab.refine(u64::MAX).unwrap(), 2);
    assert_eq!(lab.sql(dates), ["2026-01-06 | 1", "2026-01-07 | 2"]);
    let contents = lab.contents();
    assert_eq!(contents.rows("silver.transactions") as u64, counts.valid);
    contents.assert_complete(&stream);
    lab.assert_verified();
}
