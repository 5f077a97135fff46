use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use serde_json::{Value, json};

use super::testing::{Kept, NOON_US, plan_with, transaction};
use super::*;
use crate::domain::TableName;
use crate::model::registry::CHAMPION;

fn predictions(scorer: &Scorer, sent: &[Value]) -> Vec<Result<Prediction<'static>, Refusal>> {
    let texts: Vec<Vec<u8>> = sent.iter().map(|value| value.to_string().into_bytes()).collect();
    let scores = scorer.score_json(texts.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(scores.items.len(), sent.len());
    let told = |item: &Item| match item {
        Item::Scored { chunk, row } => Ok(scorer.prediction(&scores, *chunk, *row).unwrap().into_owned()),
        Item::Refused(refusal) => Err(refusal.clone()),
    };
    scores.items.iter().map(told).collect()
}

#[test]
fn the_champion_decides_and_the_rules_say_why() {
    let (_kept, scorer) = Kept::champion();
    let told = predictions(&scorer, &[transaction("small", 1, 10.0), transaction("large", 2, 2_990.0)]);
    let (small, large) = (told[0].clone().unwrap(), told[1].clone().unwrap());
    assert_eq!((small.transaction_id.as_ref(), small.is_fraud, small.decided_by), ("small", false, DecidedBy::Model));
    assert!(large.is_fraud && large.fraud_probability > small.fraud_probability, "{large:?}");
    assert_eq!((large.degraded, large.rules.unwrap().score), (None, 0));
    let mut crypto = transaction("crypto", 3, 6_000.0);
    crypto["payment_method"] = json!("crypto");
    crypto["location"] = json!("Lagos, Nigeria");
    let rules = predictions(&scorer, &[crypto])[0].clone().unwrap().rules.unwrap();
    assert_eq!((rules.score, rules.class.as_ref()), (65, "HIGH"));
    assert_eq!(rules.reasons.iter().collect::<Vec<_>>(), ["amount above 5,000", "paid in crypto", "high-risk country"]);
}

#[test]
fn the_answer_is_that_of_the_model_on_the_features_by_name() {
    use crate::model::Classifier;
    let (kept, scorer) = Kept::champion();
    let version = kept.registry.versions(&kept.name).unwrap()[0].clone();
    let model = kept.registry.load(&kept.name, &version).unwrap().model.unwrap();
    for amount in [0.01, 17.335, 2_500.0, 999_999.0] {
        let told = predictions(&scorer, &[transaction("t", 1, amount)])[0].clone().unwrap();
        // Money is rounded to cents, half to even, before anything is computed.
        let cents = (amount * 100.0_f64).round_ties_even() / 100.0;
        assert_eq!(told.fraud_probability, Some(model.probability(&[cents as f32, 1.0, 1.0])), "{amount}");
    }
}

#[test]
fn a_bad_item_costs_no_neighbour_and_names_its_field() {
    let (_kept, scorer) = Kept::champion();
    let mut without_id = transaction("x", 1, 5.0);
    without_id.as_object_mut().unwrap().remove("user_id");
    let mut wrong = transaction("x", 1, 5.0);
    wrong["amount"] = json!("five");
    let mut future = transaction("x", 1, -1.0);
    future["timestamp"] = json!("2026-11-20T12:06:00Z");
    let told = predictions(
        &scorer,
        &[transaction("a", 1, 5.0), without_id, wrong, json!([]), future, transaction("b", 2, 5.0)],
    );
    assert_eq!(
        (told[0].as_ref().unwrap().transaction_id.as_ref(), told[5].as_ref().unwrap().transaction_id.as_ref()),
        ("a", "b")
    );
    let refused = |at: usize| told[at].clone().unwrap_err();
    assert_eq!((refused(1).fields, refused(1).code.as_str()), (vec!["user_id".to_owned()], "missing_field"));
    assert_eq!((refused(2).fields, refused(2).code.as_str()), (vec!["amount".to_owned()], "wrong_type"));
    assert_eq!((refused(3).fields, refused(3).code.as_str()), (vec![], "invalid_json"));
    assert_eq!(refused(4).broken, ["amount_positive", "event_at_not_in_future"]);
    assert_eq!(refused(4).fields, ["amount", "timestamp"]);
}

#[test]
fn batches_and_single_rows_say_the_same() {
    let (_kept, scorer) = Kept::champion();
    let sent: Vec<Value> =
        (0..CHUNK_ROWS + 37).map(|row| transaction(&row.to_string(), 5, (row % 3_000) as f64 - 2.0)).collect();
    let together = predictions(&scorer, &sent);
    for row in [0, 1, 2, 3, 777, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 36] {
        assert_eq!(together[row], predictions(&scorer, &sent[row..=row])[0], "{row}");
    }
    assert!(together[0].is_err() && together[3].is_ok());
}

#[test]
fn the_label_need_not_be_sent_and_is_no_feature() {
    let (_kept, scorer) = Kept::champion();
    let mut flagged = transaction("t", 1, 5.0);
    flagged["is_fraud"] = json!(true);
    let told = predictions(&scorer, &[transaction("t", 1, 5.0), flagged]);
    let (plain, flagged) = (told[0].clone().unwrap(), told[1].clone().unwrap());
    assert_eq!(plain.fraud_probability, flagged.fraud_probability);
    // The flag is a rule, though: whoever sends it has confirmed the fraud.
    assert_eq!(flagged.rules.unwrap().score - plain.rules.unwrap().score, 50);
}

/// Knows users with odd numbers only, or nobody.
struct Patchy(bool);

impl FeatureSource for Patchy {
    fn added(&self, _: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        use arrow::array::AsArray;
        let users = silver.column_by_name("user_id").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
        if !self.0 {
            return Err("the store is away".to_owned());
        }
        let counts: Int64Array = users.iter().map(|user| user.filter(|user| user % 2 == 1).map(|_| 9)).collect();
        Ok(Added::counts(vec![Arc::new(counts)]))
    }

    fn standing(&self) -> Standing {
        Standing::default()
    }
}

#[test]
fn without_features_the_rules_answer_and_say_so() {
    let (kept, _) = Kept::champion();
    let scorer = kept.scorer(Arc::new(Patchy(true)));
    let told = predictions(&scorer, &[transaction("known", 1, 2_990.0), transaction("unknown", 2, 2_990.0)]);
    let (known, unknown) = (told[0].clone().unwrap(), told[1].clone().unwrap());
    assert_eq!((known.decided_by, known.degraded), (DecidedBy::Model, None));
    assert_eq!(known.rules.unwrap().reasons.as_str(), "more than 5 transactions in 30 minutes");
    assert_eq!((unknown.decided_by, unknown.is_fraud, unknown.fraud_probability), (DecidedBy::Rules, false, None));
    assert!(unknown.degraded.is_some());
    let scorer = kept.scorer(Arc::new(Patchy(false)));
    let told = predictions(&scorer, &[transaction("t", 1, 2_990.0)])[0].clone().unwrap();
    assert_eq!((told.decided_by, told.degraded.as_deref()), (DecidedBy::Rules, Some("the store is away")));
}

#[test]
fn a_source_that_does_not_keep_all_that_a_table_counts_is_told_of() {
    let (kept, _) = Kept::champion();
    let scorer = kept.scorer(Arc::new(NoPast { counts: 0 }));
    let told = predictions(&scorer, &[transaction("t", 1, 2_990.0)])[0].clone().unwrap();
    let degraded = "not all that gold.fraud_scores counts is kept for requests";
    assert_eq!((told.decided_by, told.degraded.as_deref()), (DecidedBy::Rules, Some(degraded)));
}

#[test]
fn a_model_that_does_not_read_what_is_missing_answers_all_the_same() {
    let kept = Kept::empty();
    let silver = |column| (column, "silver.transactions", column);
    let version = kept.record_with(NOON_US, 2_400.0, &[silver("amount"), silver("hour"), silver("payment_method")]);
    kept.registry.promote(&kept.name, &version, CHAMPION, NOON_US).unwrap();
    let scorer = kept.scorer(Arc::new(Patchy(false)));
    let told = predictions(&scorer, &[transaction("t", 1, 2_990.0)])[0].clone().unwrap();
    assert_eq!((told.decided_by, told.is_fraud), (DecidedBy::Model, true));
    // The rules count users, and could not.
    assert_eq!(told.degraded.as_deref(), Some("the store is away"));
}

#[test]
fn without_a_champion_the_rules_answer() {
    let kept = Kept::empty();
    let scorer = kept.scorer(Arc::new(NoPast { counts: 1 }));
    let mut flagged = transaction("t", 1, 5.0);
    flagged["is_fraud"] = json!(true);
    let told = predictions(&scorer, &[transaction("t", 1, 5.0), flagged]);
    let decided = |at: usize| (told[at].as_ref().unwrap().is_fraud, told[at].as_ref().unwrap().decided_by);
    assert_eq!((decided(0), decided(1)), ((false, DecidedBy::Rules), (true, DecidedBy::Rules)));
    let degraded = told[0].as_ref().unwrap().degraded.clone().unwrap();
    assert!(degraded.contains("no champion"), "{degraded}");
}

#[test]
fn an_alias_is_followed_and_a_damaged_version_is_not() {
    let (kept, scorer) = Kept::champion();
    let first = scorer.models.chosen().champion.unwrap().version.clone();
    let second = kept.record(NOON_US + 5_000_000, 100.0);
    let before = predictions(&scorer, &[transaction("t", 1, 800.0)])[0].clone().unwrap();
    kept.registry.promote(&kept.name, &second, CHAMPION, NOON_US).unwrap();
    assert!(scorer.models.follow(&scorer.pipeline));
    assert!(!scorer.models.follow(&scorer.pipeline), "nothing moved");
    let after = predictions(&scorer, &[transaction("t", 1, 800.0)])[0].clone().unwrap();
    assert_eq!((before.is_fraud, after.is_fraud), (false, true));
    // The former champion is damaged: it is not returned to, and the present one goes on.
    let path = kept.path(&first).join("model.json");
    let aliases = kept.path(&first).with_file_name("aliases.json");
    let text = std::fs::read_to_string(&aliases).unwrap();
    kept.registry.rollback(&kept.name, NOON_US).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(!scorer.models.follow(&scorer.pipeline));
    let chosen = scorer.models.chosen();
    assert_eq!(chosen.champion.unwrap().version, second);
    assert!(chosen.problem.unwrap().contains("not what was written"));
    assert_eq!(predictions(&scorer, &[transaction("t", 1, 800.0)])[0].clone().unwrap().degraded, None);
    std::fs::write(&aliases, text).unwrap();
    scorer.models.follow(&scorer.pipeline);
    assert_eq!(scorer.models.chosen().problem, None);
}

#[test]
fn a_registry_that_cannot_be_read_changes_nothing() {
    let (kept, scorer) = Kept::champion();
    let first = scorer.models.chosen().champion.unwrap().version.clone();
    let second = kept.record(NOON_US + 5_000_000, 100.0);
    let aliases = kept.path(&first).with_file_name("aliases.json");
    let model = kept.path(&second).join("model.json");
    // A folder in the place of a file: it can be found, and not be read.
    let take_away = |path: &std::path::Path| {
        std::fs::rename(path, path.with_extension("away")).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    let give_back = |path: &std::path::Path| {
        std::fs::remove_dir(path).unwrap();
        std::fs::rename(path.with_extension("away"), path).unwrap();
    };
    kept.registry.promote(&kept.name, &second, CHAMPION, NOON_US).unwrap();
    // Of the aliases, and of the version that they stand for: both are looked at again, and the champion answers meanwhile.
    for path in [&aliases, &model] {
        take_away(path);
        for _ in 0..2 {
            assert!(!scorer.models.follow(&scorer.pipeline));
            let chosen = scorer.models.chosen();
            assert_eq!((chosen.champion.unwrap().version.clone(), chosen.problem), (first.clone(), None));
            assert!(chosen.unreadable.unwrap().contains("could not be read"));
        }
        give_back(path);
    }
    assert!(scorer.models.follow(&scorer.pipeline));
    let chosen = scorer.models.chosen();
    assert_eq!((chosen.champion.unwrap().version.clone(), chosen.unreadable), (second, None));
    // Without a champion, that is why there is none.
    let models = Models::new(kept.registry.clone(), kept.name.clone());
    take_away(&aliases);
    models.follow(&scorer.pipeline);
    assert!(models.chosen().problem.unwrap().contains("could not be read"));
    give_back(&aliases);
    assert!(models.follow(&scorer.pipeline));
    assert_eq!(models.chosen().problem, None);
}

#[test]
fn a_model_that_reads_what_requests_do_not_have_is_not_taken() {
    let kept = Kept::empty();
    let columns = [
        ("amount", "silver.transactions", "amount"),
        ("recent", "gold.platform_hourly", "transactions"),
        ("method", "silver.transactions", "payment_method"),
    ];
    let version = kept.record_with(NOON_US, 2_400.0, &columns);
    kept.registry.promote(&kept.name, &version, CHAMPION, NOON_US).unwrap();
    let scorer = kept.scorer(Arc::new(NoPast { counts: 1 }));
    let problem = scorer.models.chosen().problem.unwrap();
    assert!(problem.contains("gold.platform_hourly.transactions, which requests do not have"), "{problem}");
}

#[test]
fn contributions_are_named_and_ranked() {
    let (_kept, scorer) = Kept::champion();
    let text = transaction("t", 1, 2_990.0).to_string();
    let scores = scorer.score_json([text.as_bytes()].into_iter()).unwrap();
    let named = scores.contributions(0, 0, 5);
    assert_eq!((named[0].0, named[0].1), ("amount", 2_990.0));
    assert!(named.windows(2).all(|pair| pair[0].2.abs() >= pair[1].2.abs()));
    assert_eq!(scores.features(0, 0).unwrap(), [2_990.0, 1.0, 1.0]);
}

#[test]
fn a_row_for_which_the_sql_fails_costs_no_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gold")).unwrap();
    let text = include_str!("../../sql/gold/fraud_scores.sql");
    let overflowing = text.replace("    total AS score,", "    CAST(amount * 10000 AS INT) AS score,");
    assert_ne!(text, overflowing);
    std::fs::write(folder.path().join("gold/fraud_scores.sql"), overflowing).unwrap();
    let (kept, _) = Kept::champion();
    let scorer = kept.scorer_of(&plan_with(Some(folder.path())), Arc::new(NoPast { counts: 1 }));
    let sent: Vec<Value> =
        (0..9).map(|row| transaction(&row.to_string(), 1, if row % 4 == 2 { 300_000.0 } else { 5.0 })).collect();
    for (row, told) in predictions(&scorer, &sent).into_iter().enumerate() {
        match told {
            Ok(told) => assert_eq!((told.transaction_id, told.rules.unwrap().score), (row.to_string().into(), 50_000)),
            Err(refusal) => assert_eq!((refusal.code.as_str(), row % 4), ("evaluates", 2)),
        }
    }
}
