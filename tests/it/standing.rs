//! Lakes that stand already: who may write to them, and what maintenance does to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use assay::domain::SystemClock;
use assay::generate::GenerateSettings;
use assay::lake::{CompactionSettings, Expiry, Lake, LakeError, Lease, tidy};

use crate::fault::FaultStore;
use crate::kit::{Cut, Lab, NOON_US, dirty, generated, sql_in, wait_for};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path.display().to_string(), bytes);
            }
        }
    }
    found
}

#[test]
fn a_folder_has_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let lake = lab.open_lake().unwrap();
    let lease = Lease::acquire(&lake).unwrap();
    let second = Lease::acquire(&lake);
    let Err(LakeError::Leased { holder, .. }) = &second else { panic!("{second:?}") };
    assert_eq!(*holder, format!("process {}", std::process::id()));
    drop(lease);
    drop(Lease::acquire(&lake).unwrap());
}

#[test]
fn a_lake_of_others_is_left_untouched() {
    let (stream, _) = generated(dirty(51, 60));
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&stream, &Cut::every(60)).unwrap();
    let before = files(folder.path());
    let foreign = wait_for(Lake::open(&lab.lake, "another", true));
    assert!(matches!(&foreign, Err(LakeError::ForeignPipeline { found, .. }) if found == "it"), "{foreign:?}");
    assert_eq!(files(folder.path()), before);

    let marker = folder.path().join("_assay/lake.json");
    let text = std::fs::read_to_string(&marker).unwrap();
    std::fs::write(&marker, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let before = files(folder.path());
    let newer = wait_for(Lake::open(&lab.lake, "it", true));
    assert!(matches!(newer, Err(LakeError::NewerFormat { found: 2, known: 1, .. })), "{newer:?}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn a_place_without_a_lake_is_not_made_one_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let none = wait_for(Lake::open(&lab.lake, "it", false));
    assert!(matches!(none, Err(LakeError::NoLake { .. })), "{none:?}");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn what_stands_in_a_folder_is_not_mixed_with_a_lake() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    std::fs::create_dir(folder.path().join("lost+found")).unwrap();
    std::fs::write(folder.path().join(".hidden"), "").unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/main.rs"), "").unwrap();
    let before = files(folder.path());
    let occupied = wait_for(Lake::open(&lab.lake, "it", true));
    assert!(matches!(&occupied, Err(LakeError::Occupied { holds, .. }) if holds == "src"), "{occupied:?}");
    assert_eq!(files(folder.path()), before);
    std::fs::remove_dir_all(folder.path().join("src")).unwrap();
    wait_for(Lake::open(&lab.lake, "it", true)).unwrap();
}

#[test]
fn silver_that_tells_no_epoch_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let silver = include_str!("../../sql/silver/transactions.sql");
    let line = silver.lines().position(|line| line.trim() == "epoch,").unwrap();
    let without: Vec<&str> = silver.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, text)| text).collect();
    std::fs::create_dir(folder.path().join("silver")).unwrap();
    std::fs::write(folder.path().join("silver/transactions.sql"), without.join("\n")).unwrap();
    let bronze = assay::domain::TableName::new(assay::domain::Layer::Bronze, "transactions");
    let catalog = assay::refine::Catalog::load(Some(folder.path()), std::slice::from_ref(&bronze)).unwrap();
    let schema = assay::pipeline::bronze_schema(&assay::contract::Contract::embedded().unwrap());
    let plan = assay::pipeline::Plan::new(catalog, bronze, schema).unwrap();
    let refused = assay::pipeline::Compiled::new(&plan, &assay::pipeline::StageSettings::default(), [0, 0]);
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("transactions.sql:") && error.contains("must select `epoch`"), "{error}");
}

const AS_OF: [&str; 4] = [
    "SELECT transaction_id, amount, epoch FROM silver.transactions ORDER BY 1, 2, 3",
    "SELECT source_partition, source_offset, epoch FROM bronze.transactions ORDER BY 1, 2",
    "SELECT * FROM gold.merchant_activity ORDER BY window_start, merchant",
    "SELECT transaction_id, score, reasons FROM gold.fraud_scores ORDER BY 1",
];

fn as_of_epochs(lab: &Lab, epochs: &[i64]) -> Vec<Vec<String>> {
    let mut seen = Vec::new();
    for epoch in epochs.iter().copied() {
        let session = lab.session(Some(epoch));
        seen.extend(AS_OF.map(|query| sql_in(&session, query)));
    }
    seen
}

#[test]
fn compaction_changes_files_and_no_row_of_any_epoch() {
    let (stream, _) = generated(dirty(52, 500));
    FaultStore::named("merged");
    let mut lab = Lab::at("fault://merged/lake");
    lab.run(&stream[..400], &Cut::every(50)).unwrap();
    let (contents, seen) = (lab.contents(), as_of_epochs(&lab, &[1, 4, 8]));
    assert!(seen[0] != seen[4] && !seen[0].is_empty());
    lab.compaction = CompactionSettings { fan_in: 2, ..CompactionSettings::default() };
    let mut ready = lab.ready().unwrap();
    let count = |tables: &assay::pipeline::Tables| tables.all().map(|table| table.files().count()).sum::<usize>();
    let before = count(&ready.tables);
    lab.maintenance().settle_all(&mut ready.tables);
    let after = count(&ready.tables);
    assert!(after * 3 < before * 2, "{before} files became {after}");
    drop(ready);
    lab.contents().assert_equals(&contents, "merged");
    assert_eq!(as_of_epochs(&lab, &[1, 4, 8]), seen);
    lab.assert_verified();
    // The stream goes on, with merges under way beside it.
    lab.run(&stream, &Cut::every(20)).unwrap();
    FaultStore::named("unmerged");
    let plain = Lab::at("fault://unmerged/lake");
    plain.run(&stream, &Cut::every(500)).unwrap();
    lab.contents().assert_equals(&plain.contents(), "merged while it ran");
    assert_eq!(as_of_epochs(&lab, &[1, 4, 8]), seen);
    lab.assert_verified();
}

#[test]
fn merged_files_stay_below_their_size() {
    let (stream, _) = generated(dirty(54, 600));
    FaultStore::named("sized");
    let mut lab = Lab::at("fault://sized/lake");
    lab.compaction = CompactionSettings { fan_in: 100, ..CompactionSettings::default() };
    lab.run(&stream, &Cut::every(50)).unwrap();
    let contents = lab.contents();
    let largest = |tables: &assay::pipeline::Tables| tables.bronze.files().map(|file| file.size).max().unwrap();
    let before = largest(&lab.ready().unwrap().tables);
    // Room for three files of an epoch, where a hundred would be merged.
    lab.compaction.file_bytes_max = 3 * before;
    let mut ready = lab.ready().unwrap();
    let files = ready.tables.bronze.files().count();
    lab.maintenance().settle_all(&mut ready.tables);
    let (merged, largest) = (ready.tables.bronze.files().count(), largest(&ready.tables));
    assert!(merged < files, "{files} files became {merged}");
    assert!(largest > before && largest <= 3 * before, "{before} bytes became {largest}");
    drop(ready);
    lab.contents().assert_equals(&contents, "merged");
    lab.assert_verified();
}

#[test]
fn a_table_loads_from_its_checkpoint_and_old_files_can_go() {
    // Without late events each table stands at the version that the ledger names.
    let (stream, _) = generated(GenerateSettings { late: 0.0, ..dirty(53, 300) });
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&stream[..200], &Cut::every(25)).unwrap();
    let contents = lab.contents();
    let ready = lab.ready().unwrap();
    for table in ready.tables.all() {
        let expiry = Expiry { history_s: 0, keep: table.version() };
        wait_for(tidy(&table.log(), table.name(), table.version(), Some(expiry))).unwrap();
        let log = folder.path().join(table.name().to_string().replace('.', "/")).join("_delta_log");
        assert!(log.join("_last_checkpoint").is_file(), "{}", table.name());
        // Without the older entries only the checkpoint knows the rows.
        for version in 0..table.version() {
            assert!(!log.join(format!("{version:020}.json")).exists(), "{}, version {version}", table.name());
        }
    }
    drop(ready);
    lab.contents().assert_equals(&contents, "loaded from checkpoints");
    lab.assert_verified();
    lab.compaction = CompactionSettings { fan_in: 2, checkpoint_versions: 2, ..CompactionSettings::default() };
    lab.run(&stream, &Cut::every(25)).unwrap();
    lab.contents().assert_complete(&stream);
    lab.assert_verified();
    let gone = wait_for(assay::lake::open_session(&lab.open_lake().unwrap(), Some(1), NOON_US / 1000, None));
    assert!(gone.is_err(), "epoch 1 is older than the history that is kept");
}

/// Makes all files of a folder two hours older.
fn age(folder: &Path) {
    for path in files(folder).keys() {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - std::time::Duration::from_secs(7200)).unwrap();
    }
}

#[test]
fn old_log_entries_go_but_for_those_of_epochs_that_are_not_complete() {
    let (stream, _) = generated(dirty(55, 600));
    let folder = tempfile::tempdir().unwrap();
    // What is removed is removed now: its file stays for an hour.
    let mut lab = Lab::at(folder.path().to_str().unwrap()).with_clock(Arc::new(SystemClock));
    lab.compaction = CompactionSettings { fan_in: 2, checkpoint_versions: 2, ..CompactionSettings::default() };
    let first_entry = || {
        let log = folder.path().join("bronze/transactions/_delta_log");
        (0..).find(|version| log.join(format!("{version:020}.json")).exists()).unwrap()
    };
    lab.run(&stream[..200], &Cut::every(10)).unwrap();
    age(folder.path());
    let complete = lab.ready().unwrap().tables.bronze.version();
    lab.ingest(&stream[..400], &Cut::every(10)).unwrap();
    age(folder.path());
    // Epochs that only bronze has are old as well now, and say how they are to be completed.
    lab.ingest(&stream, &Cut::every(10)).unwrap();
    let first = first_entry();
    assert!(0 < first && first <= complete, "the log begins at {first}, {complete} is complete");
    assert!(lab.refine(u64::MAX).unwrap() > 20);
    lab.contents().assert_complete(&stream);
    lab.assert_verified();
    lab.run(&stream, &Cut::every(10)).unwrap();
    lab.session(None);
}
