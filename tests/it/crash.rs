//! The process may die, and the store may fail, at any put.

use assay::lake::LakeError;
use assay::pipeline::{PipelineError, Reach};

use crate::fault::{FaultStore, Weather};
use crate::kit::{Cut, Lab, Msg, dice, dirty, generated};

/// An hour and a half in two epochs, with late events of every kind.
fn stream(seed: u64) -> Vec<Msg> {
    generated(assay::generate::GenerateSettings { rate: 0.04, late: 0.4, ..dirty(seed, 200) }).0
}

const EPOCH: usize = 100;

fn lab(name: &str) -> (std::sync::Arc<FaultStore>, Lab) {
    (FaultStore::named(name), Lab::at(format!("fault://{name}/lake")))
}

fn dies_at_each_put(lands: bool, first: u64, step: usize) {
    let stream = stream(5);
    let cut = Cut::every(EPOCH);
    let kind = format!("{}-{first}", if lands { "landed" } else { "lost" });
    let (store, whole) = lab(&format!("{kind}-whole"));
    whole.run(&stream, &cut).unwrap();
    let (wanted, puts) = (whole.contents(), store.puts());
    assert!(!wanted.restatements.is_empty() && puts > 50, "{puts} puts");
    for put in (first..puts).step_by(step) {
        let (store, lab) = lab(&format!("{kind}-{put}"));
        store.set(Weather::Death { puts: put, lands });
        let died = lab.run(&stream, &cut);
        store.set(Weather::Fine);
        // Once the last epoch is published, only files are left that follow the log of restatements.
        let published = died.is_ok() && lab.records().len() == stream.len().div_ceil(EPOCH);
        assert!(died.is_err() || published, "put {put} of {puts} failed, and nobody noticed");
        if died.is_ok() && !lands {
            let tables = lab.ready().unwrap().tables;
            assert!(
                tables.windows.iter().any(|table| !tables.waiting(table.name()).is_empty()),
                "put {put} is forgotten"
            );
        }
        // An epoch was published, and part of the next one may stand in the tables.
        if put % 30 == first && !lab.records().is_empty() {
            lab.assert_verified();
        }
        lab.run(&stream, &cut).unwrap_or_else(|error| panic!("after a death at put {put} (landed: {lands}): {error}"));
        let what = format!("after a death at put {put} of {puts} (landed: {lands})");
        let contents = lab.contents();
        contents.assert_equals(&wanted, &what);
        assert_eq!(contents.restatements, wanted.restatements, "{what}: ops.restatements");
        contents.assert_complete(&stream);
        if put % 30 == first {
            lab.assert_verified();
        }
    }
}

#[test]
fn a_process_that_dies_before_any_put_leaves_nothing_amiss() {
    dies_at_each_put(false, 0, 3);
}

#[test]
fn a_process_that_dies_after_any_put_leaves_nothing_amiss() {
    dies_at_each_put(true, 1, 3);
}

/// The cut differs from life to life, so that what one life stored for its epoch belongs to two of the next.
#[test]
fn a_process_that_dies_again_and_again_gets_there() {
    let stream = stream(6);
    let (_, whole) = lab("again-whole");
    whole.run(&stream, &Cut::every(EPOCH)).unwrap();
    let wanted = whole.contents();
    for seed in 1..=4 {
        let (store, lab) = lab(&format!("again-{seed}"));
        let mut next = dice(seed);
        let mut lives = 0;
        loop {
            let lands = next(2) == 0;
            store.set(Weather::Death { puts: 3 + next(45) as u64, lands });
            lives += 1;
            assert!(lives < 200, "no progress with seed {seed}");
            let cut = Cut { sizes: vec![5 + next(30)], messages_max: 1 + next(60) as u64 };
            if lab.run(&stream, &cut).is_ok() && store.failed() == 0 {
                break;
            }
        }
        store.set(Weather::Fine);
        let contents = lab.contents();
        contents.assert_equals(&wanted, &format!("after {lives} lives of seed {seed}"));
        contents.assert_complete(&stream);
        if seed % 4 == 0 {
            lab.assert_verified();
        }
    }
}

/// Dead letters go ahead of bronze. Those of a lost epoch name its number, which the smaller epoch of the next life takes.
#[test]
fn dead_letters_of_a_lost_epoch_are_not_stored_again_by_a_later_one() {
    let stream = stream(10);
    let (store, lab) = lab("orphans");
    lab.run(&[], &Cut::every(EPOCH)).unwrap();
    for puts in 12..40 {
        store.set(Weather::Death { puts, lands: false });
        lab.run(&stream, &Cut::every(EPOCH)).expect_err("a death");
        store.set(Weather::Fine);
        let ready = lab.ready().unwrap();
        assert_eq!(ready.tables.bronze.epoch(), 0, "the dead letters come before bronze");
        if ready.tables.dead_letters.epoch() == 1 {
            break;
        }
    }
    let lost = lab.lines("bronze.dead_letters", &[]).len();
    lab.ingest(&stream[..10], &Cut::every(10)).unwrap();
    assert!(lost > 0 && lab.lines("bronze.dead_letters", &[]).len() == lost);
    lab.run(&stream, &Cut::every(EPOCH)).unwrap();
    lab.contents().assert_complete(&stream);
    lab.assert_verified();
}

#[test]
fn a_store_that_is_away_for_a_while_is_waited_for() {
    let stream = stream(7);
    let cut = Cut::every(EPOCH);
    let (_, whole) = lab("storm-whole");
    whole.run(&stream, &cut).unwrap();
    let wanted = whole.contents();
    let mut next = dice(7);
    for (lands, seed) in [(false, 1), (false, 2), (true, 3), (true, 4), (true, 5)] {
        let (store, mut lab) = lab(&format!("storm-{seed}"));
        lab.run(&[], &cut).unwrap();
        lab.epoch.store_patience_s = 3600;
        let weather = Weather::Storm { puts: next(50) as u64, operations: 1 + next(4) as u64, lands };
        store.set(weather);
        lab.run(&stream, &cut).unwrap_or_else(|error| panic!("{weather:?}: {error}"));
        assert!(store.failed() > 0, "{weather:?} failed nothing");
        let contents = lab.contents();
        contents.assert_equals(&wanted, &format!("{weather:?}"));
        contents.assert_complete(&stream);
        if seed % 4 == 0 {
            lab.assert_verified();
        }
    }
}

#[test]
fn each_failure_of_the_store_is_counted_for_its_table() {
    let stream = stream(7);
    let cut = Cut::every(EPOCH);
    let mut tables = std::collections::BTreeSet::new();
    for put in 0.. {
        let (store, mut lab) = lab(&format!("counted-{put}"));
        lab.run(&[], &cut).unwrap();
        lab.epoch.store_patience_s = 3600;
        let ready = lab.ready().unwrap();
        let metrics = std::sync::Arc::clone(&ready.metrics);
        store.set(Weather::Storm { puts: put, operations: 1, lands: false });
        lab.stream_in(ready, &stream[..EPOCH], &cut, Reach::Gold, || {}).unwrap();
        if store.failed() == 0 {
            break;
        }
        let told = metrics.render().unwrap();
        let counted: Vec<&str> = told.lines().filter(|line| line.starts_with("assay_commit_failures_total{")).collect();
        assert!(matches!(counted.as_slice(), [one] if one.ends_with("} 1")), "put {put}: {counted:?}");
        tables.extend(counted.into_iter().map(str::to_owned));
    }
    assert!(tables.iter().any(|line| line.contains("ops.epochs")) && tables.len() > 8, "{tables:?}");
}

/// A commit whose acknowledgement was lost, and which could not be read back either, is our own and no other writer's.
#[test]
fn a_commit_without_an_answer_does_not_fence_off_its_own_writer() {
    let stream = stream(8);
    let cut = Cut::every(EPOCH);
    let (_, whole) = lab("answer-whole");
    whole.run(&stream, &cut).unwrap();
    let wanted = whole.contents();
    // Put by put through the first epoch: files and commits of all tables, the ledger's included.
    for put in (6..26).step_by(2) {
        let (store, mut lab) = lab(&format!("answer-{put}"));
        lab.run(&[], &cut).unwrap();
        lab.epoch.store_patience_s = 3600;
        store.set(Weather::Storm { puts: put, operations: 2, lands: true });
        lab.run(&stream, &cut).unwrap_or_else(|error| panic!("put {put} landed without an answer: {error}"));
        assert!(store.failed() > 0, "put {put} failed nothing");
        let contents = lab.contents();
        contents.assert_equals(&wanted, &format!("put {put} landed without an answer"));
        contents.assert_complete(&stream);
    }
}

#[test]
fn a_second_writer_is_fenced_off_at_its_first_commit() {
    let stream = stream(9);
    let cut = Cut::every(EPOCH);
    let (_, lab) = lab("two");
    let first = lab.ready().unwrap();
    let second = lab.ready().expect("a store without locks gives no lease away");
    let reach = assay::pipeline::Reach::Gold;
    lab.stream_in(first, &stream[..100], &cut, reach, || {}).unwrap();
    let fenced = lab.stream_in(second, &stream, &cut, reach, || {});
    assert!(matches!(fenced, Err(PipelineError::Lake(LakeError::Fenced { .. }))), "{fenced:?}");
    lab.run(&stream, &cut).unwrap();
    lab.contents().assert_complete(&stream);
    lab.assert_verified();
}
