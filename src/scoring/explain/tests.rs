use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::registry::CHAMPION;
use crate::scoring::testing::{Kept, NOON_US, receipts, transaction};
use crate::scoring::{NoPast, receipts_table};

/// A past that nobody knows.
struct Unknown;

impl FeatureSource for Unknown {
    fn added(&self, _: &TableName, _: &RecordBatch) -> Result<Added, String> {
        Err("the lake is away".to_owned())
    }

    fn standing(&self) -> Standing {
        Standing { epoch: 12, published_at_us: Some(NOON_US) }
    }
}

fn receipts_of(scorer: &Scorer, sent: &[Value]) -> Vec<Receipt> {
    let sent: Vec<Vec<u8>> = sent.iter().map(|sent| sent.to_string().into_bytes()).collect();
    // In rounds of different sizes.
    let rounds = sent.chunks(3).chain(sent.chunks(7));
    let scores: Vec<Arc<Scores>> =
        rounds.map(|round| Arc::new(scorer.score_json(round.iter().map(Vec::as_slice)).unwrap())).collect();
    let rows = receipts(scorer, &scores);
    assert_eq!(rows.schema(), receipts_table().schema);
    Receipt::read(&rows)
}

fn again(receipt: &Receipt, scorer: &Scorer, kept: &Kept) -> Result<Explained, String> {
    explain(receipt, &scorer.pipeline, &kept.registry, &scorer.settings, 3)
}

fn differing(explained: &Explained) -> Vec<String> {
    explained.checks.iter().filter(|check| check.differs.is_some()).map(|check| check.what.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_decision_comes_out_the_same_to_the_bit(
        sent in prop::collection::vec((0.01_f64..20_000.0, "[a-z\"\\\\\n\u{1f600} é]{1,12}", any::<i32>(), any::<bool>()), 1..20),
    ) {
        let (kept, scorer) = Kept::champion();
        let transactions: Vec<Value> = sent.iter().enumerate().map(|(number, (amount, merchant, user, has_merchant))| {
            let mut sent = transaction(&format!("t-{number}"), *user, *amount);
            sent["merchant"] = merchant.clone().into();
            if *has_merchant {
                sent["merchant_id"] = "m-1".into();
            }
            sent
        }).collect();
        let all = receipts_of(&scorer, &transactions);
        prop_assert_eq!(all.len(), 2 * sent.len());
        let ids: std::collections::BTreeSet<&str> = all.iter().map(|receipt| receipt.prediction_id.as_str()).collect();
        prop_assert_eq!(ids.len(), all.len());
        for receipt in &all {
            let explained = again(receipt, &scorer, &kept).unwrap();
            prop_assert!(differing(&explained).is_empty(), "{:?}", explained.checks);
            prop_assert_eq!(explained.prediction.fraud_probability.map(f64::to_bits), receipt.fraud_probability.map(f64::to_bits));
            prop_assert_eq!(check_past(receipt, &scorer.pipeline, &NoPast { counts: 1 }).unwrap().len(), 1);
        }
    }
}

#[test]
fn what_was_changed_in_a_receipt_is_told() {
    let (kept, scorer) = Kept::champion();
    let receipt = receipts_of(&scorer, &[transaction("t-1", 7, 3_000.5)]).remove(0);
    let changed = |change: &dyn Fn(&mut Receipt)| {
        let mut other = receipt.clone();
        change(&mut other);
        differing(&again(&other, &scorer, &kept).unwrap())
    };
    assert!(changed(&|_| {}).is_empty());
    let bits = |probability: f64| f64::from_bits(probability.to_bits() + 1);
    assert_eq!(changed(&|r| r.fraud_probability = r.fraud_probability.map(bits)), ["the probability"]);
    assert_eq!(changed(&|r| r.is_fraud = !r.is_fraud), ["the decision"]);
    assert_eq!(changed(&|r| r.threshold += 0.01), ["the decision"]);
    assert_eq!(changed(&|r| r.rules = None), ["the rules"]);
    assert_eq!(changed(&|r| r.sql_blake3 = "0".into()), ["the SQL files"]);
    assert_eq!(changed(&|r| r.model.as_mut().unwrap().blake3 = "0".into()), ["the file of the model"]);
    let amount = |r: &mut Receipt| r.sent = r.sent.replace("3000.5", "3000.75");
    assert!(changed(&amount).contains(&"the features".to_owned()));
    let count = |r: &mut Receipt| r.known = r.known.replace(":1}", ":2}");
    assert!(changed(&count).contains(&"the features".to_owned()));
    let mut moved = receipt.clone();
    count(&mut moved);
    let past = check_past(&moved, &scorer.pipeline, &NoPast { counts: 1 }).unwrap();
    assert!(past[0].differs.as_ref().unwrap().contains("was 2, and the lake says 1"), "{past:?}");
}

#[test]
fn a_version_that_is_gone_is_told() {
    let (kept, scorer) = Kept::champion();
    let mut receipt = receipts_of(&scorer, &[transaction("t-1", 7, 3_000.5)]).remove(0);
    receipt.model.as_mut().unwrap().version = Version::at(0).to_string();
    assert!(again(&receipt, &scorer, &kept).unwrap_err().contains("1970"));
    receipt.sent = "{\"amount\": \"much\"}".into();
    assert!(again(&receipt, &scorer, &kept).unwrap_err().contains("contract"));
}

#[test]
fn what_the_rules_decided_alone_comes_out_the_same() {
    let kept = Kept::empty();
    let scorer = kept.scorer(Arc::new(NoPast { counts: 1 }));
    let receipt = receipts_of(&scorer, &[transaction("t-1", 7, 9_000.0)]).remove(0);
    assert!(receipt.model.is_none() && receipt.decided_by == "rules" && receipt.degraded.is_some());
    assert!(differing(&again(&receipt, &scorer, &kept).unwrap()).is_empty());
    // A model that lacks what it reads.
    let version = kept.record(NOON_US, 2_400.0);
    kept.registry.promote(&kept.name, &version, CHAMPION, NOON_US).unwrap();
    let scorer = kept.scorer(Arc::new(Unknown));
    let receipt = receipts_of(&scorer, &[transaction("t-1", 7, 9_000.0)]).remove(0);
    assert_eq!(receipt.degraded.as_deref(), Some("the lake is away"));
    assert_eq!((receipt.features_epoch, receipt.fraud_probability), (12, None));
    let explained = again(&receipt, &scorer, &kept).unwrap();
    assert!(differing(&explained).is_empty(), "{:?}", explained.checks);
    assert!(check_past(&receipt, &scorer.pipeline, &NoPast { counts: 1 }).unwrap().is_empty(), "nothing was known");
}
