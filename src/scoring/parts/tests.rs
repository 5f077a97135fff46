use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use serde_json::Value;

use super::*;
use crate::domain::TableName;
use crate::model::registry::{CHALLENGER, CHAMPION, Version};
use crate::scoring::testing::{Kept, NOON_US, plan, receipts, transaction};
use crate::scoring::{
    Added, DecidedBy, FeatureSource, NoPast, Outcome, Prediction, Receipt, ScoringSettings, Standing, explain, position,
};

fn shared(share: f64) -> ScoringSettings {
    ScoringSettings { challenger_share: share, challenger_transactions_min: 1, ..ScoringSettings::default() }
}

fn texts(sent: &[Value]) -> Vec<Vec<u8>> {
    sent.iter().map(|value| value.to_string().into_bytes()).collect()
}

/// By place: what was said, as what, by which version.
type Told = BTreeMap<usize, (Prediction<'static>, Role, Option<Version>)>;

fn told(scorer: &Scorer, sent: &[Value], pins: &[Option<Arc<Served>>]) -> (Told, u64) {
    let texts = texts(sent);
    let parts = scorer.prepare_json(texts.iter().map(Vec::as_slice), pins).unwrap();
    let (mut told, mut failed, mut places) = (Told::new(), 0, Vec::new());
    for part in parts {
        places.extend_from_slice(part.places());
        let asked = scorer.ask(part);
        failed += asked.failed;
        for scores in &asked.scores {
            for (item, place) in scores.items.iter().zip(&scores.places) {
                let Item::Scored { chunk, row } = item else { continue };
                let version = scores.model.as_ref().map(|model| model.version.clone());
                let said = scorer.prediction(scores, *chunk, *row).unwrap();
                let said = (said.into_owned(), scores.role, version);
                assert!(told.insert(*place, said).is_none(), "{place} is answered twice");
            }
        }
    }
    places.sort_unstable();
    assert_eq!(places, (0..sent.len()).collect::<Vec<_>>(), "everything is somewhere, once");
    (told, failed)
}

fn version_of(kept: &Kept, alias: &str) -> Version {
    kept.registry.aliases(&kept.name).unwrap().get(alias).unwrap().clone()
}

#[test]
fn users_are_split_as_their_hash_says_whatever_they_come_with() {
    let (kept, scorer) = Kept::challenged(shared(0.3));
    let challenger = version_of(&kept, CHALLENGER);
    let sent: Vec<Value> = (0..5_000).map(|row| transaction(&row.to_string(), row % 700, 1_500.0)).collect();
    let (together, failed) = told(&scorer, &sent, &[]);
    assert_eq!((together.len(), failed), (sent.len(), 0));
    for (row, (prediction, role, version)) in &together {
        let is_drawn = position(&challenger, &(row % 700).to_string()) < 0.3;
        assert_eq!((*role == Role::Challenger, version.as_ref() == Some(&challenger)), (is_drawn, is_drawn), "{row}");
        // Fraud begins at 1,000 for the challenger and at 2,400 for the champion.
        assert_eq!((prediction.transaction_id.as_ref(), prediction.is_fraud), (&*row.to_string(), is_drawn));
    }
    for row in [0_usize, 1, 17, 699, 700, 4_999] {
        assert_eq!(told(&scorer, &sent[row..=row], &[]).0[&0], together[&row], "{row}");
    }
}

#[test]
fn a_version_says_the_same_alone_and_in_company() {
    let (kept, scorer) = Kept::challenged(shared(0.5));
    let sent: Vec<Value> = (0..300)
        .map(|row| match row % 11 {
            7 => serde_json::json!({"amount": row}),
            8 => transaction("negative", row, -1.0),
            _ => transaction(&row.to_string(), row, f64::from(row) * 9.7 + 0.01),
        })
        .collect();
    let other = kept.served(2, 300.0, &scorer);
    let pins: Vec<_> = (0..sent.len()).map(|row| (row % 3 == 0).then(|| Arc::clone(&other))).collect();
    let (mixed, failed) = told(&scorer, &sent, &pins);
    assert_eq!(failed, 0);
    let roles: std::collections::BTreeSet<Role> = mixed.values().map(|(_, role, _)| *role).collect();
    assert_eq!(roles.into_iter().collect::<Vec<_>>(), [Role::Champion, Role::Challenger, Role::Pinned]);
    let versions =
        [Some(version_of(&kept, CHAMPION)), Some(version_of(&kept, CHALLENGER)), Some(other.version.clone())];
    for version in versions {
        // Each is champion once, and answers all.
        kept.registry.promote(&kept.name, version.as_ref().unwrap(), CHAMPION, NOON_US).unwrap();
        let alone = kept.scorer(Arc::new(NoPast { counts: 1 }));
        let (alone, _) = told(&alone, &sent, &[]);
        for (place, (prediction, ..)) in mixed.iter().filter(|(_, (_, _, by))| *by == version) {
            assert_eq!(*prediction, alone[place].0, "{place}");
        }
    }
    for (place, (_, role, _)) in &mixed {
        assert_eq!(*role == Role::Pinned, place % 3 == 0, "{place}");
    }
}

/// Knows the past of users with odd numbers only.
struct Odd;

impl FeatureSource for Odd {
    fn added(&self, _: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        use arrow::array::{AsArray, Int64Array};
        let users = silver.column_by_name("user_id").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
        let counts: Int64Array = users.iter().map(|user| user.filter(|user| user % 2 == 1).map(|_| 1)).collect();
        Ok(Added::counts(vec![Arc::new(counts)]))
    }

    fn standing(&self) -> Standing {
        Standing::default()
    }
}

#[test]
fn what_a_challenger_cannot_answer_the_champion_answers() {
    let kept = Kept::empty();
    let silver = |column| (column, "silver.transactions", column);
    // The champion reads silver alone; the challenger wants to know of the past.
    let champion = kept.record_with(NOON_US, 2_400.0, &[silver("amount"), silver("hour"), silver("payment_method")]);
    let challenger = kept.record(NOON_US + 1_000_000, 1_000.0);
    kept.registry.promote(&kept.name, &champion, CHAMPION, NOON_US).unwrap();
    kept.registry.promote(&kept.name, &challenger, CHALLENGER, NOON_US).unwrap();
    let scorer = kept.scorer_with(&plan(), Arc::new(Odd), shared(1.0));
    let sent: Vec<Value> = (0..40).map(|row| transaction(&row.to_string(), row, 1_500.0)).collect();
    let (answers, failed) = told(&scorer, &sent, &[]);
    assert_eq!((answers.len(), failed), (40, 20));
    for (row, (prediction, role, version)) in &answers {
        let expected = if row % 2 == 1 { (Role::Challenger, &challenger) } else { (Role::Champion, &champion) };
        assert_eq!((*role, version.as_ref().unwrap()), expected, "{row}");
        assert_eq!((prediction.decided_by, prediction.is_fraud), (DecidedBy::Model, row % 2 == 1), "{row}");
    }
    // None at all: the same, and no fewer answers.
    let (answers, failed) = told(&scorer, &sent[..1], &[]);
    assert_eq!((answers[&0].1, failed), (Role::Champion, 1));
    // The other way round both know nothing: that is no fault of the challenger.
    kept.registry.promote(&kept.name, &challenger, CHAMPION, NOON_US).unwrap();
    let other = kept.record(NOON_US + 2_000_000, 900.0);
    kept.registry.promote(&kept.name, &other, CHALLENGER, NOON_US).unwrap();
    scorer.models.follow(&scorer.pipeline);
    let (answers, failed) = told(&scorer, &sent[..1], &[]);
    assert_eq!((answers[&0].0.decided_by, failed), (DecidedBy::Rules, 0));
    // A version that was named answers for itself alone.
    let pinned = kept.served(3, 500.0, &scorer);
    let (answers, failed) = told(&scorer, &sent[..2], &[Some(Arc::clone(&pinned)), Some(pinned)]);
    let decided: Vec<_> = answers.values().map(|(told, role, _)| (told.decided_by, *role)).collect();
    assert_eq!(decided, [(DecidedBy::Rules, Role::Pinned), (DecidedBy::Model, Role::Pinned)]);
    assert_eq!(failed, 1);
}

#[test]
fn a_challenger_that_breaks_down_costs_nobody_an_answer() {
    let (kept, scorer) = Kept::challenged(shared(1.0));
    let version = version_of(&kept, CHALLENGER);
    let sent: Vec<Value> = (0..9).map(|row| transaction(&row.to_string(), row, 1_500.0)).collect();
    let texts = texts(&sent);
    let challenger = Served::load(&kept.registry, &kept.name, &version, &scorer.pipeline).unwrap();
    let mut parts = scorer.prepare_json(texts.iter().map(Vec::as_slice), &[]).unwrap();
    let mut part = parts.pop().unwrap();
    assert!(parts.is_empty() && part.role() == Role::Challenger);
    part.scores.model = Some(Arc::new(challenger.broken()));
    let asked = scorer.ask(part);
    assert_eq!((asked.failed, asked.scores.len()), (9, 1));
    let scores = &asked.scores[0];
    assert_eq!((scores.role, scores.places.len()), (Role::Champion, 9));
    for item in &scores.items {
        let Item::Scored { chunk, row } = item else { panic!("refused") };
        let told = scorer.prediction(scores, *chunk, *row).unwrap();
        assert_eq!((told.decided_by, told.is_fraud, told.degraded), (DecidedBy::Model, false, None));
    }
}

#[test]
fn a_challenger_that_was_taken_out_answers_nobody_until_its_alias_moves() {
    let (kept, scorer) = Kept::challenged(shared(1.0));
    let sent: Vec<Value> = (0..9).map(|row| transaction(&row.to_string(), row, 1_500.0)).collect();
    let role = |scorer: &Scorer| told(scorer, &sent, &[]).0[&3].1;
    assert_eq!(role(&scorer), Role::Challenger);
    let trial = scorer.models.chosen().challenger.unwrap().trial;
    assert!(trial.record(NOON_US, Outcome { transactions: 10, failed: 1, slow: 0 }).is_some());
    assert_eq!(role(&scorer), Role::Champion);
    scorer.models.follow(&scorer.pipeline);
    assert_eq!(role(&scorer), Role::Champion, "it stays out");
    let other = kept.record(NOON_US + 2_000_000, 900.0);
    kept.registry.promote(&kept.name, &other, CHALLENGER, NOON_US).unwrap();
    scorer.models.follow(&scorer.pipeline);
    assert_eq!(role(&scorer), Role::Challenger);
    // A challenger that does not verify is none; nor is the champion itself.
    let first = kept.record(NOON_US + 3_000_000, 900.0);
    kept.registry.promote(&kept.name, &first, CHALLENGER, NOON_US).unwrap();
    std::fs::write(kept.path(&first).join("model.json"), b"{}").unwrap();
    scorer.models.follow(&scorer.pipeline);
    assert_eq!(role(&scorer), Role::Champion);
    let chosen = scorer.models.chosen();
    assert!(chosen.problem.is_none() && chosen.challenger_problem.unwrap().contains("not what was written"));
    kept.registry.promote(&kept.name, &version_of(&kept, CHAMPION), CHALLENGER, NOON_US).unwrap();
    scorer.models.follow(&scorer.pipeline);
    let chosen = scorer.models.chosen();
    assert!(chosen.challenger.is_none() && chosen.challenger_problem.is_none());
    assert_eq!(role(&scorer), Role::Champion);
}

#[test]
fn nobody_follows_a_challenger_that_nobody_wants() {
    let (_kept, scorer) = Kept::challenged(ScoringSettings::default());
    assert!(scorer.models.chosen().challenger.is_none());
    let sent = [transaction("t", 1, 1_500.0)];
    assert_eq!(told(&scorer, &sent, &[]).0[&0].1, Role::Champion);
}

#[test]
fn receipts_of_every_role_come_out_the_same_to_the_bit() {
    let (kept, scorer) = Kept::challenged(ScoringSettings { shadow: true, ..shared(0.5) });
    let sent: Vec<Value> = (0..60).map(|row| transaction(&row.to_string(), row, f64::from(row) * 77.7 + 1.0)).collect();
    let other = kept.served(2, 300.0, &scorer);
    let pins: Vec<_> = (0..sent.len()).map(|row| (row % 4 == 0).then(|| Arc::clone(&other))).collect();
    let sent = texts(&sent);
    let parts = scorer.prepare_json(sent.iter().map(Vec::as_slice), &pins).unwrap();
    let mut all: Vec<Arc<Scores>> = parts.into_iter().flat_map(|part| scorer.ask(part).scores).map(Arc::new).collect();
    let challenger = scorer.models.chosen().challenger.unwrap().served;
    let champion = all.iter().find(|scores| scores.role == Role::Champion).unwrap();
    let (shadow, failed) = scorer.shadow(champion, &challenger);
    assert_eq!(failed, 0);
    all.push(Arc::new(shadow.unwrap()));
    let kept_receipts = Receipt::read(&receipts(&scorer, &all));
    let ids: BTreeMap<&str, &Receipt> =
        kept_receipts.iter().map(|receipt| (receipt.prediction_id.as_str(), receipt)).collect();
    assert_eq!(ids.len(), kept_receipts.len());
    let mut seen = BTreeMap::<&str, usize>::new();
    for receipt in &kept_receipts {
        *seen.entry(receipt.role.as_str()).or_default() += 1;
        let explained = explain(receipt, &scorer.pipeline, &kept.registry, &scorer.settings, 3).unwrap();
        let differing: Vec<_> = explained.checks.iter().filter(|check| check.differs.is_some()).collect();
        assert!(differing.is_empty(), "{differing:?}");
        let version = match receipt.role.as_str() {
            "champion" => version_of(&kept, CHAMPION),
            "pinned" => other.version.clone(),
            _ => version_of(&kept, CHALLENGER),
        };
        assert_eq!(receipt.model.as_ref().unwrap().version, version.to_string());
        let of = receipt.shadow_of.as_ref().map(|id| ids[id.as_str()]);
        assert_eq!(of.is_some(), receipt.role == "shadow");
        if let Some(of) = of {
            assert_eq!(
                (of.role.as_str(), &of.transaction_id, &of.sent),
                ("champion", &receipt.transaction_id, &receipt.sent)
            );
            assert_eq!((&of.known, of.predicted_at_us), (&receipt.known, receipt.predicted_at_us));
        }
    }
    assert_eq!((seen.len(), seen["pinned"], seen["champion"]), (4, 15, seen["shadow"]));
    assert_eq!(seen["champion"] + seen["challenger"], 45);
}
