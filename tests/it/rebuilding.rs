//! Recomputed tables equal those that grew epoch by epoch, and take their place whole or not at all.

use assay::pipeline::Target;

use crate::fault::{FaultStore, Weather};
use crate::kit::{Cut, Lab, dirty, generated};

const TARGETS: [Target; 4] = [Target::All, Target::Silver, Target::Gold, Target::Scores];

fn lab(name: &str) -> (std::sync::Arc<FaultStore>, Lab) {
    (FaultStore::named(name), Lab::at(format!("fault://{name}/lake")))
}

#[test]
fn a_rebuild_reproduces_the_tables_row_for_row() {
    // Events arrive out of order around midnight, so that the days of silver do not follow each other.
    let (stream, _) = generated(assay::generate::GenerateSettings { users: 6, rate: 0.5, ..dirty(41, 700) });
    let (_, lab) = lab("rebuild");
    lab.run(&stream, &Cut::every(70)).unwrap();
    let wanted = lab.contents();
    lab.assert_verified();
    for target in TARGETS {
        lab.rebuild(target).unwrap_or_else(|error| panic!("{target:?}: {error}"));
        lab.contents().assert_equals(&wanted, &format!("rebuilt {target:?}"));
    }
    lab.assert_verified();
    assert_eq!(lab.records().len(), 10 + TARGETS.len());
}

/// Chunks far smaller than the lake: windows close in one and are restated in the next, files hold rows of several.
#[test]
fn a_rebuild_in_many_chunks_gives_the_same_rows() {
    let (stream, _) = generated(dirty(45, 400));
    let (_, mut lab) = lab("chunks");
    lab.compaction.fan_in = 3;
    lab.run(&stream, &Cut::every(30)).unwrap();
    let wanted = lab.contents();
    for (chunk_rows, targets) in [(1, &TARGETS[..1]), (90, &TARGETS[..])] {
        lab.stages.chunk_rows = chunk_rows;
        for target in targets {
            lab.rebuild(*target).unwrap_or_else(|error| panic!("{target:?} by {chunk_rows}: {error}"));
            lab.contents().assert_equals(&wanted, &format!("rebuilt {target:?} by {chunk_rows}"));
        }
        lab = lab.forgetful();
    }
    // Each part of a verification is a plan of its own.
    lab.stages.chunk_rows = 4096;
    lab.assert_verified();
}

/// A rebuild is an epoch that bronze has no rows of; the next epoch of the stream comes after it.
#[test]
fn the_stream_goes_on_after_a_rebuild() {
    let (stream, _) = generated(dirty(42, 400));
    let (_, whole) = lab("went-on-whole");
    whole.run(&stream, &Cut::every(100)).unwrap();
    let wanted = whole.contents();
    for target in TARGETS {
        let (_, lab) = lab(&format!("went-on-{target:?}").to_lowercase());
        lab.run(&stream[..200], &Cut::every(100)).unwrap();
        lab.rebuild(target).unwrap();
        lab.run(&stream, &Cut::every(100)).unwrap();
        lab.contents().assert_equals(&wanted, &format!("a stream with a rebuild of {target:?} in it"));
        assert_eq!(lab.records().len(), 5);
        if target == Target::All {
            lab.assert_verified();
        }
    }
}

/// Epochs that wait in bronze would fall behind the rebuild's own epoch and never be refined.
#[test]
fn a_rebuild_loses_no_epoch_that_waits_to_be_refined() {
    let (stream, _) = generated(dirty(43, 400));
    let (_, whole) = lab("waits-whole");
    whole.run(&stream, &Cut::every(100)).unwrap();
    let (_, lab) = lab("waits");
    lab.ingest(&stream, &Cut::every(100)).unwrap();
    lab.refine(2).unwrap();
    let refused = lab.rebuild(Target::All).expect_err("two epochs wait");
    assert!(refused.to_string().contains("assay refine"), "{refused}");
    lab.refine(u64::MAX).unwrap();
    lab.rebuild(Target::All).unwrap();
    lab.contents().assert_equals(&whole.contents(), "refined, then rebuilt");
    lab.assert_verified();
}

#[test]
fn a_rebuild_that_dies_at_any_put_leaves_the_old_tables_in_force() {
    let (stream, _) = generated(dirty(44, 200));
    let (store, lab) = lab("rebuild-dies");
    lab.run(&stream, &Cut::every(100)).unwrap();
    let wanted = lab.contents();
    let query = "SELECT epoch, count(*), sum(amount) FROM silver.transactions GROUP BY epoch ORDER BY epoch";
    let rows = lab.sql(query);
    let gold = "SELECT * FROM gold.merchant_activity ORDER BY window_start, merchant";
    let windows = lab.sql(gold);
    let (mut deaths, mut put) = (0, 0);
    loop {
        store.set(Weather::Death { puts: put, lands: put % 2 == 1 });
        if lab.rebuild(Target::All).is_ok() {
            break;
        }
        store.set(Weather::Fine);
        deaths += 1;
        // Readers see the last complete epoch before anybody has cleaned up.
        assert_eq!(lab.sql(query), rows, "a reader after a death at put {put}");
        assert_eq!(lab.sql(gold), windows, "a reader of gold after a death at put {put}");
        let mut ready = lab.ready().unwrap_or_else(|error| panic!("after a death at put {put}: {error}"));
        // The tables stand as the ledger names them; restatements that followed it are put into the files again.
        lab.maintenance().finish(&mut ready.tables);
        drop(ready);
        lab.contents().assert_equals(&wanted, &format!("after a death at put {put}"));
        if put % 12 == 0 {
            lab.assert_verified();
        }
        put += 3;
    }
    assert!(deaths > 6, "{deaths} deaths");
    store.set(Weather::Fine);
    lab.contents().assert_equals(&wanted, "rebuilt in the end");
    lab.assert_verified();
}
