use std::sync::Mutex;

use super::*;
use crate::domain::ManualClock;
use crate::model::registry::CHAMPION;
use crate::scoring::testing::{Kept, NOON_US, contract, plan, transaction};
use crate::scoring::{Item, NoPast, Scorer};

type Sent = Arc<Mutex<Vec<(Vec<u8>, serde_json::Value)>>>;

/// Keeps what is sent.
struct Post(Sent);

impl Publish for Post {
    fn publish(&mut self, key: Option<&[u8]>, message: &[u8]) -> Result<(), PipelineError> {
        let message = serde_json::from_slice(message).unwrap();
        self.0.lock().unwrap().push((key.unwrap_or_default().to_vec(), message));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), PipelineError> {
        Ok(())
    }
}

fn streaming(kept: &Kept) -> (StreamScorer, Sent) {
    let pipeline = Arc::new(ScoringPipeline::compile(&plan(), &contract()).unwrap());
    let models = Models::new(kept.registry.clone(), kept.name.clone());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOON_US));
    let metrics = Arc::new(Metrics::new("test", Arc::clone(&clock)).unwrap());
    let scorer = StreamScorer::new(pipeline, models, ScoringSettings::default(), metrics, clock);
    let sent = Sent::default();
    (scorer.publishing(Box::new(Post(Arc::clone(&sent)))), sent)
}

fn payloads() -> Vec<Vec<u8>> {
    let amounts = [5.0, 900.0, 2_399.0, 2_401.0, 2_900.0, 7_000.0];
    let one = |(n, amount): (usize, &f64)| transaction(&format!("t{n}"), 1, *amount).to_string().into_bytes();
    amounts.iter().enumerate().map(one).collect()
}

/// Rows as the stream has them, when each user comes for the first time.
fn rows(scorer: &Scorer) -> (RecordBatch, Vec<RecordBatch>) {
    let payloads = payloads();
    let decoded = scorer.pipeline.decode(payloads.iter().map(Vec::as_slice));
    let silver = scorer.pipeline.refine(&decoded.rows, NOON_US).unwrap().rows;
    let following = scorer.pipeline.follow(&silver, scorer.features.as_ref()).unwrap();
    (silver, following.into_iter().map(|table| table.rows).collect())
}

fn probabilities(columns: &[ArrayRef]) -> Vec<Option<f64>> {
    columns[0].as_primitive::<arrow::datatypes::Float64Type>().iter().collect()
}

fn versions(columns: &[ArrayRef]) -> Vec<Option<String>> {
    columns[2].as_string::<i32>().iter().map(|version| version.map(str::to_owned)).collect()
}

#[test]
fn the_stream_is_told_what_a_request_is_told() {
    let (kept, asked) = Kept::champion();
    let (mut stream, sent) = streaming(&kept);
    let (silver, following) = rows(&asked);
    stream.begin();
    let columns = stream.score(&silver, &following).unwrap();
    stream.settle().unwrap();
    let payloads = payloads();
    let answers = asked.score_json(payloads.iter().map(Vec::as_slice)).unwrap();
    let (sent, mut frauds) = (sent.lock().unwrap(), 0);
    assert_eq!(sent.len(), payloads.len());
    for (row, item) in answers.items.iter().enumerate() {
        let Item::Scored { chunk, row: place } = item else { panic!("{item:?}") };
        let told = asked.prediction(&answers, *chunk, *place).unwrap();
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        assert_eq!(bits(probabilities(&columns)[row]), bits(told.fraud_probability));
        assert_eq!(columns[1].as_boolean().value(row), told.is_fraud);
        let (key, message) = &sent[row];
        assert_eq!(String::from_utf8_lossy(key), told.transaction_id);
        assert_eq!(message["transaction_id"], *told.transaction_id);
        assert_eq!(message["fraud_probability"].as_f64(), told.fraud_probability);
        assert_eq!(message["decision"], crate::scoring::decision(told.is_fraud));
        assert_eq!(message["decided_by"], "model");
        assert_eq!(message["threshold"].as_f64(), Some(told.threshold));
        let rules = told.rules.unwrap();
        assert_eq!(message["rules"]["score"], rules.score);
        assert_eq!(message["rules"]["reasons"], serde_json::json!(rules.reasons));
        assert_eq!(message["source"]["topic"], "request");
        assert_eq!(message["scored_at_ms"], NOON_US / 1000);
        frauds += usize::from(told.is_fraud);
    }
    assert!((1..payloads.len()).contains(&frauds), "{frauds}");
}

#[test]
fn without_a_champion_nothing_is_said_and_the_rules_decide() {
    let kept = Kept::empty();
    let (mut stream, sent) = streaming(&kept);
    let (silver, following) = rows(&kept.scorer(Arc::new(NoPast { counts: 1 })));
    stream.begin();
    let columns = stream.score(&silver, &following).unwrap();
    for (column, field) in columns.iter().zip(schema::model_columns()) {
        assert_eq!((column.null_count(), column.data_type()), (silver.num_rows(), field.data_type()));
    }
    for (_, message) in sent.lock().unwrap().iter() {
        assert_eq!((&message["decided_by"], &message["model"]), (&"rules".into(), &serde_json::Value::Null));
        let is_fraud = message["rules"]["score"].as_i64() >= Some(i64::from(ScoringSettings::default().rule_threshold));
        assert_eq!(message["decision"], crate::scoring::decision(is_fraud));
    }
}

#[test]
fn one_version_answers_an_epoch_and_can_be_asked_again() {
    let (kept, asked) = Kept::champion();
    let (mut stream, _) = streaming(&kept);
    let (silver, following) = rows(&asked);
    stream.begin();
    let first = stream.score(&silver, &following).unwrap();
    let other = kept.record(NOON_US + 1_000_000, 500.0);
    kept.registry.promote(&kept.name, &other, CHAMPION, NOON_US).unwrap();
    assert_eq!(versions(&stream.score(&silver, &following).unwrap()), versions(&first));
    stream.begin();
    let second = stream.score(&silver, &following).unwrap();
    assert_eq!(versions(&second), vec![Some(other.to_string()); silver.num_rows()]);
    assert_ne!(probabilities(&first), probabilities(&second));

    let (fixed, _) = streaming(&kept);
    let mut fixed = fixed.with_one_champion().unwrap();
    let first = kept.registry.versions(&kept.name).unwrap().into_iter().find(|version| *version != other).unwrap();
    kept.registry.promote(&kept.name, &first, CHAMPION, NOON_US).unwrap();
    fixed.begin();
    assert_eq!(fixed.score(&silver, &following).unwrap(), second);

    // Silver of requests is of epoch 0.
    let said = BTreeMap::from([(0, other.to_string())]);
    let mut again = RecallScorer::new(&asked.pipeline, &kept.registry, &kept.name, &said).unwrap();
    assert_eq!(again.score(&silver, &following).unwrap(), second);
    let mut silent = RecallScorer::new(&asked.pipeline, &kept.registry, &kept.name, &BTreeMap::new()).unwrap();
    assert_eq!(silent.score(&silver, &following).unwrap()[0].null_count(), silver.num_rows());
    let gone = BTreeMap::from([(0, "20200101T000000Z".to_owned())]);
    RecallScorer::new(&asked.pipeline, &kept.registry, &kept.name, &gone).unwrap_err();
}
