//! What is learned from a lake, and what is known of it when a transaction comes by request.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use assay::contract::Contract;
use assay::domain::{Layer, TableName};
use assay::model::table::Cells;
use assay::pipeline::{Plan, bronze_schema};
use assay::refine::{Catalog, RefineSettings, TrainingDef};
use assay::scoring::{
    FeatureSource, Followed, FollowedLake, LakeFollower, ScoringPipeline, ScoringSettings, TrainingSet,
    TrainingSetError, lineage,
};

use crate::kit::{Cut, Lab, Tx, dirty, generated, messages, wait_for};

fn plan() -> Plan {
    let bronze = TableName::new(Layer::Bronze, "transactions");
    let catalog = Catalog::load(None, std::slice::from_ref(&bronze)).unwrap();
    Plan::new(catalog, bronze, bronze_schema(&Contract::embedded().unwrap())).unwrap()
}

fn read(lab: &Lab, epoch: Option<i64>, def: &TrainingDef, delay_hours: i64) -> Result<TrainingSet, TrainingSetError> {
    let plan = plan();
    let session = lab.session(epoch);
    let lineage = lineage(&plan).unwrap();
    let delay_us = delay_hours * 3_600_000_000;
    wait_for(TrainingSet::read(&session, def, &plan.catalog.references, &lineage, ("here", "it"), delay_us))
}

fn fraud() -> TrainingDef {
    plan().catalog.training.into_iter().find(|set| set.name == "fraud").unwrap()
}

fn with_sql(sql: &str) -> TrainingDef {
    TrainingDef { sql: sql.to_owned(), segments: Vec::new(), card: None, ..fraud() }
}

/// One transaction an hour from noon on, each an epoch.
fn hourly(count: usize) -> Vec<crate::kit::Msg> {
    messages((0..count).map(|hour| {
        let at = format!("2026-01-05T{hour:02}:10:00Z");
        Tx { user: hour as i32 % 2, ..Tx::new(&format!("t{hour}"), &at) }.payload()
    }))
}

#[test]
fn a_training_set_is_the_lake_as_of_its_epoch_without_what_is_too_young() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&hourly(12), &Cut::every(1)).unwrap();
    let set = read(&lab, None, &fraud(), 3).unwrap();
    assert_eq!((set.table.rows(), set.source.unlabelled, set.source.epoch), (9, 3, 12));
    let early = read(&lab, Some(5), &fraud(), 3).unwrap();
    assert_eq!((early.table.rows(), early.source.unlabelled, early.source.epoch), (2, 3, 5));
    // What is learned does not depend on what came later.
    for (one, other) in early.table.columns.iter().zip(&set.table.columns) {
        assert_eq!(one.name, other.name);
        for row in 0..early.table.rows() {
            assert_eq!(one.cells.text(row), other.cells.text(row), "{}", one.name);
        }
    }
    let Cells::Times(times) = &set.table.column("event_at", "").unwrap().cells else { panic!("no times") };
    assert!(times.is_sorted());
    assert!(set.table.column("transaction_id", "").is_err(), "the key is no feature");
    let error = read(&lab, None, &fraud(), 24).unwrap_err();
    assert!(matches!(error, TrainingSetError::NoLabels { rows: 12, span_hours: 11, .. }), "{error}");
}

#[test]
fn features_are_columns_that_know_nothing_of_the_label() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&hourly(3), &Cut::every(3)).unwrap();
    let set = read(&lab, None, &fraud(), 0).unwrap();
    let known: Vec<String> = set.source.columns.iter().map(|known| format!("{}.{}", known.table, known.of)).collect();
    assert!(known.contains(&"silver.transactions.amount".to_owned()), "{known:?}");
    assert!(known.contains(&"gold.fraud_scores.user_transactions_30m".to_owned()), "{known:?}");
    let base = "SELECT t.transaction_id, t.is_fraud, t.event_at";
    let from = "FROM silver.transactions t JOIN gold.fraud_scores f ON f.transaction_id = t.transaction_id";
    for (column, refused) in [
        ("f.known_fraud_points", true),
        ("f.score AS points", true),
        ("f.class", true),
        ("t.is_fraud AS again", true),
        ("f.velocity_points", false),
        ("t.merchant AS shop", false),
    ] {
        let read = read(&lab, None, &with_sql(&format!("{base}, {column} {from}")), 0);
        assert_eq!(matches!(read, Err(TrainingSetError::FromLabel { .. })), refused, "{column}: {read:?}");
    }
    let said = read(&lab, None, &with_sql(&format!("{base}, f.fraud_probability {from}")), 0);
    assert!(matches!(said, Err(TrainingSetError::FromModel { .. })), "{said:?}");
    let computed = read(&lab, None, &with_sql(&format!("{base}, t.amount * 2 AS twice {from}")), 0);
    assert!(matches!(computed, Err(TrainingSetError::Computed { .. })), "{computed:?}");
    let twice = read(
        &lab,
        None,
        &with_sql(&format!("{base}, t.amount FROM silver.transactions t CROSS JOIN (VALUES (1), (2)) v")),
        0,
    );
    assert!(matches!(twice, Err(TrainingSetError::Repeated { rows: 3, .. })), "{twice:?}");
}

fn follower(lab: &Lab, settings: &ScoringSettings) -> LakeFollower {
    let followed = FollowedLake {
        place: &lab.lake,
        pipeline: "it",
        plan: &plan(),
        evolved: &Contract::embedded().unwrap().evolved_columns(),
        hash_key: [5; 16],
    };
    let handle = crate::kit::RUNTIME.handle().clone();
    LakeFollower::new(followed, &RefineSettings::default(), settings, handle, Arc::clone(&lab.clock)).unwrap()
}

#[test]
fn what_a_request_is_told_of_the_past_is_what_the_stream_knew() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let mut settings = dirty(77, 45);
    // Few users and some minutes between events, so that counts grow and spans end.
    (settings.users, settings.rate) = (3, 0.02);
    let (stream, _) = generated(settings);
    let everything = ScoringSettings { horizon_s: 7_200, ..ScoringSettings::default() };
    let follower = follower(&lab, &everything);
    assert!(follower.follow().is_err(), "there is no lake yet");
    let scores = TableName::new(Layer::Gold, "fraud_scores");
    let features = plan().rows.into_iter().find(|def| !def.features.is_empty()).unwrap();
    let known: Vec<String> = features.features.iter().map(|feature| format!("k.{}", feature.column)).collect();
    let known = known.join(", ");
    let mut compared = 0;
    for sent in 1..=stream.len() {
        lab.run(&stream[..sent], &Cut::every(1)).unwrap();
        // What the stream said of the newest rows, which the follower does not know yet.
        let session = lab.session(None);
        let held = follower.standing().epoch;
        if held > 0 {
            let silver = wait_for(async {
                let sql = format!(
                    "SELECT t.*, f.user_transactions_30m AS told, {known} FROM silver.transactions t \
                     JOIN gold.fraud_scores f ON f.transaction_id = t.transaction_id \
                     JOIN {} k ON k.transaction_id = t.transaction_id WHERE t.epoch > {held}",
                    features.table
                );
                session.context.sql(&sql).await.unwrap().collect().await.unwrap()
            });
            for batch in silver.iter().filter(|batch| batch.num_rows() == 1) {
                let told = batch.column_by_name("told").unwrap().as_primitive::<Int64Type>().value(0);
                let asked = follower.added(&scores, batch).unwrap().columns;
                assert_eq!(asked[0].as_primitive::<Int64Type>().value(0), told, "message {sent}");
                let asked = follower.added(&features.table, batch).unwrap().columns;
                assert_eq!(asked.len(), features.features.len());
                for (feature, asked) in features.features.iter().zip(&asked) {
                    assert_eq!(
                        batch.column_by_name(&feature.column),
                        Some(asked),
                        "{}, message {sent}",
                        feature.column
                    );
                }
                compared += 1;
            }
        }
        assert_ne!(follower.follow().unwrap(), Followed::Empty);
    }
    assert!(compared > 25, "{compared}");
}

#[test]
fn what_is_older_than_the_horizon_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&hourly(9), &Cut::every(2)).unwrap();
    let follower = follower(&lab, &ScoringSettings { horizon_s: 7_200, ..ScoringSettings::default() });
    assert_eq!(follower.follow().unwrap(), Followed::To(5));
    assert_eq!(follower.follow().unwrap(), Followed::Unchanged);
    let contract = Contract::embedded().unwrap();
    let pipeline = ScoringPipeline::compile(&plan(), &contract).unwrap();
    let ask = |at: &str| {
        let text = format!(
            r#"{{"transaction_id":"x","user_id":0,"amount":5,"merchant":"m","timestamp":"{at}","payment_method":"paypal",
                "location":"a, b","device_id":"d"}}"#
        );
        let decoded = pipeline.decode([text.as_bytes()].into_iter());
        let silver = pipeline.refine(&decoded.rows, lab.clock.now_us()).unwrap().rows;
        let counts = follower.added(&TableName::new(Layer::Gold, "fraud_scores"), &silver).unwrap();
        counts.columns[0].as_primitive::<Int64Type>().iter().next().unwrap()
    };
    // The user's last one was at 08:10.
    assert_eq!(ask("2026-01-05T08:20:00Z"), Some(2));
    assert_eq!(ask("2026-01-05T08:45:00Z"), Some(1));
    assert_eq!(ask("2026-01-05T06:20:00Z"), Some(2));
    assert_eq!(ask("2026-01-05T05:59:00Z"), None);
}
