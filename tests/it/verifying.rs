//! What `assay verify` finds, and that looking creates nothing.

use assay::domain::{Layer, Partition, Positions, TableName};
use assay::lake::{Commit, EpochLedger, LakeError, missing_tables, require_tables};
use assay::pipeline::{Subject, Tables, Verification, lost_versions, verify};
use serde_json::json;

use crate::kit::{Cut, Lab, NOON_US, PLAN, TOPIC, dirty, generated, wait_for};

/// Findings as `check epoch table`.
fn found(findings: &[assay::pipeline::Finding]) -> Vec<String> {
    let line = |finding: &assay::pipeline::Finding| {
        let epoch = finding.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        format!("{} {epoch} {}", finding.check, finding.table.as_deref().unwrap_or("-"))
    };
    findings.iter().map(line).collect()
}

#[test]
fn what_bronze_has_beyond_the_ledger_is_not_reached() {
    let (stream, _) = generated(dirty(61, 90));
    let mut ends = Positions::new();
    for message in &stream {
        let end = ends.entry(Partition::new(TOPIC, message.partition)).or_insert(0);
        *end = (*end).max(message.offset + 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.ingest(&stream, &Cut::every(30)).unwrap();
    lab.refine(1).unwrap();
    assert!(found(&lab.verify().findings).is_empty());
    let behind = lab.verify_up_to(Some(&ends)).findings;
    assert!(!behind.is_empty() && behind.iter().all(|finding| finding.check == "end_offsets"), "{behind:#?}");
    assert!(behind[0].detail.contains("`assay refine` publishes them"), "{behind:#?}");
    lab.refine(u64::MAX).unwrap();
    assert!(found(&lab.verify_up_to(Some(&ends)).findings).is_empty());
}

#[test]
fn a_table_that_runs_ahead_of_the_ledger_breaks_no_law_and_is_named_with_its_epoch() {
    let (stream, _) = generated(dirty(62, 60));
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&stream, &Cut::every(30)).unwrap();
    lab.assert_verified();
    {
        let lake = lab.open_lake().unwrap();
        let mut tables = lab.tables(&lake).unwrap();
        let epoch = tables.ledger.last_epoch() + 1;
        let table = &mut tables.windows[0];
        let commit = Commit { epoch: Some(epoch), info: json!({"epoch": epoch}), ..Commit::default() };
        let outcome = wait_for(table.commit(&commit, NOON_US / 1000)).unwrap();
        assert_eq!(outcome.version(), table.version());
    }
    let lake = lab.open_lake().unwrap();
    let tables = lab.tables(&lake).unwrap();
    let ahead = format!("{} (epoch {})", tables.windows[0].name(), tables.ledger.last_epoch() + 1);
    let report = lab.verify();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert!(report.notes.len() == 1 && report.notes[0].contains(&ahead), "{:#?}", report.notes);
}

/// Tables and a ledger that were not read at one moment, as beside a writer on an object store.
fn judged(lab: &Lab, mut tables: Tables, ledger: EpochLedger) -> Verification {
    let lake = lab.open_lake().unwrap();
    let session = lab.session(Some(ledger.last_epoch()));
    tables.ledger = ledger;
    let subject = Subject { plan: &PLAN, settings: &lab.stages, hash_key: lake.hash_key(), ends: None, recall: None };
    verify(&tables, &session.context, &subject, |_| {}).unwrap()
}

#[test]
fn what_a_writer_adds_beyond_the_epoch_that_is_judged_is_no_finding() {
    let (stream, _) = generated(dirty(64, 240));
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&stream[..120], &Cut::every(30)).unwrap();
    let lake = lab.open_lake().unwrap();
    let ledger = || wait_for(EpochLedger::open(&lake, NOON_US / 1000)).unwrap();
    let (early, early_tables) = (ledger(), lab.tables(&lake).unwrap());
    let epoch = early.last_epoch();
    lab.run(&stream, &Cut::every(30)).unwrap();
    let report = judged(&lab, lab.tables(&lake).unwrap(), early);
    assert!(report.findings.is_empty() && report.epochs == epoch, "{report:#?}");
    assert!(report.notes.iter().any(|note| note.contains("went ahead")), "{:?}", report.notes);
    // The other way round, the ledger speaks of what was not looked at.
    assert!(!judged(&lab, early_tables, ledger()).findings.is_empty());
}

#[test]
fn a_table_that_lost_its_last_commit_is_named_before_anything_is_read() {
    let (stream, _) = generated(dirty(63, 60));
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&stream, &Cut::every(30)).unwrap();
    let (name, version, last) = {
        let lake = lab.open_lake().unwrap();
        let tables = lab.tables(&lake).unwrap();
        let table = &tables.windows[0];
        (table.name().clone(), table.version(), tables.ledger.last_epoch())
    };
    let log = folder.path().join(name.layer.as_str()).join(&name.name).join("_delta_log");
    std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    let lake = lab.open_lake().unwrap();
    let lost = lost_versions(&lab.tables(&lake).unwrap()).unwrap();
    assert_eq!(found(&lost), [format!("versions {last} {name}")]);
    assert!(lost[0].detail.contains(&format!("ends at version {}", version - 1)), "{lost:#?}");
}

/// One row of a table of windows is away, and a value of another is wrong: parts of any size find the same.
#[test]
fn windows_are_computed_again_in_parts_with_the_same_answer() {
    let (stream, _) = generated(dirty(64, 400));
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&stream, &Cut::every(50)).unwrap();
    let (mut proven, mut told) = (Vec::new(), Vec::new());
    for chunk_rows in [lab.stages.chunk_rows, 800] {
        lab.stages.chunk_rows = chunk_rows;
        let report = lab.verify();
        assert_eq!(report.findings, [], "{chunk_rows}");
        proven.push(report.proven);
        let session = lab.session(None);
        let wrong = "SELECT * EXCEPT (place) REPLACE (CASE WHEN place = 2 THEN spending + 1 ELSE spending END AS spending) \
            FROM (SELECT *, row_number() OVER (ORDER BY window_start, user_id) AS place FROM gold.user_activity) WHERE place > 1";
        let view = wait_for(session.context.sql(wrong)).unwrap().into_view();
        let gold = session.context.catalog("assay").unwrap().schema("gold").unwrap();
        gold.deregister_table("user_activity").unwrap();
        gold.register_table("user_activity".into(), view).unwrap();
        let findings = lab.verify_in(&session, None, None).findings;
        assert_eq!(found(&findings), ["recomputation - gold.user_activity"; 2], "{chunk_rows}");
        told.push(findings.iter().map(|finding| finding.detail.lines().next().unwrap().to_owned()).collect::<Vec<_>>());
    }
    assert!(told[0][0].starts_with("2 rows that") && told[0][1].starts_with("1 rows are not"), "{told:#?}");
    assert!(proven.iter().all(|each| *each == proven[0]) && told.iter().all(|each| *each == told[0]), "{told:#?}");
}

#[test]
fn a_read_creates_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let lake = lab.open_lake().unwrap();
    let names = [TableName::new(Layer::Ops, "epochs"), TableName::new(Layer::Gold, "new")];
    assert_eq!(wait_for(missing_tables(&lake, &names)).unwrap(), names);
    let refused = wait_for(require_tables(&lake, &names));
    assert!(
        matches!(&refused, Err(LakeError::Missing { tables, .. }) if tables == "ops.epochs, gold.new"),
        "{refused:?}"
    );
    let standing: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(standing, ["_assay"]);
}
