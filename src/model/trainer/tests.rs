use std::sync::Mutex;

use ndarray::Array1;

use super::*;
use crate::model::{BoostSettings, Family, ForestSettings, random::Random};

const ROWS: usize = 8_000;
const HOUR_US: i64 = 3_600_000_000;

/// 80 days; fraud follows two features and their product, with a little noise; `noise` tells nothing.
fn samples() -> Samples {
    let mut random = Random::new(3, 0);
    let (mut amount, mut count, mut noise, mut labels) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let (one, two) = (random.unit(), random.unit());
        let fraud = if one > 0.8 && two > 0.6 { random.unit() < 0.93 } else { random.unit() < 0.004 };
        amount.push((one * 8.0).exp() as f32);
        count.push((two * 20.0).floor() as f32);
        noise.push(random.unit() as f32);
        labels.push(fraud);
    }
    let columns = vec![("amount".to_owned(), amount), ("count".to_owned(), count), ("noise".to_owned(), noise)];
    let times = (0..ROWS as i64).map(|row| row * 80 * 24 * HOUR_US / ROWS as i64).collect();
    Samples::from_columns(columns, labels, times).unwrap()
}

fn settings() -> TrainSettings {
    let search = SearchSettings { candidates_max: 2, ..SearchSettings::default() };
    TrainSettings {
        families: vec![FamilyName::Logistic, FamilyName::Boost],
        top_cards: 5,
        seed: 11,
        search,
        ..TrainSettings::default()
    }
}

fn run(settings: &TrainSettings, samples: &Samples) -> Trained {
    train(settings, &TrainData { samples, cards: None, segments: &[] }, &|_| {}).unwrap()
}

#[test]
fn the_best_family_wins_passes_the_gate_and_is_tested_once() {
    let samples = samples();
    let cards: Vec<u64> = (0..ROWS as u64).map(|row| row % 700).collect();
    let countries = Segmentation {
        dimension: "country".to_owned(),
        values: vec!["DE".to_owned(), "FR".to_owned(), "never".to_owned()],
        codes: (0..ROWS as u32).map(|row| u32::from(row % 3 == 0)).collect(),
    };
    let settings = TrainSettings { families: FamilyName::ALL.to_vec(), stratified_folds: 3, ..settings() };
    let stages = Mutex::new(Vec::new());
    let trained = train(
        &settings,
        &TrainData { samples: &samples, cards: Some(&cards), segments: std::slice::from_ref(&countries) },
        &|progress: Progress| stages.lock().unwrap().push(progress.stage),
    )
    .unwrap();
    let report = &trained.report;
    assert_eq!(report.verdict, Verdict::Passed);
    let champion = report.champion.as_ref().unwrap();
    assert_ne!(champion.family, FamilyName::Logistic);
    for family in &report.families {
        let pooled = &family.in_time.pooled;
        assert!(pooled.f1 <= report.best().unwrap().in_time.pooled.f1);
        assert_eq!(family.in_time.folds.iter().map(|fold| fold.metrics.rows).sum::<u64>(), pooled.rows);
        let counted: u64 = family.in_time.folds.iter().map(|fold| fold.metrics.confusion.true_positives).sum();
        assert_eq!(counted, pooled.confusion.true_positives);
        assert_eq!(family.stratified.as_ref().unwrap().pooled.rows, report.data.development.rows as u64);
        assert!(family.trials.len() > 1 && family.calibration_trials.len() == 3);
    }
    // 7 days of label delay lie between development and test.
    assert!(report.data.test.from_us - report.data.development.to_us >= 7 * 24 * HOUR_US);
    assert_eq!((champion.test.rows, report.data.test.rows), (1_200, 1_200));
    assert!(champion.test.f1 > 0.75 && champion.test.top_cards.is_some(), "{:?}", champion.test);
    assert_eq!(champion.importances.last().map(|of| of.feature.as_str()), Some("noise"));
    let values: Vec<&str> = champion.segments.iter().map(|segment| segment.value.as_str()).collect();
    assert_eq!(values, ["DE", "FR"]);
    let by_segment: u64 = champion.segments.iter().filter_map(|of| of.test.as_ref()).map(|of| of.rows).sum();
    assert_eq!(by_segment, champion.test.rows);
    assert!(stages.lock().unwrap().contains(&Stage::StratifiedFolds));
}

#[test]
fn the_report_and_the_model_are_the_same_bytes_on_any_number_of_threads() {
    let samples = samples();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&TrainSettings { families: FamilyName::ALL.to_vec(), ..settings() }, &samples))
    };
    let (one, four) = (on(1), on(4));
    assert_eq!(one.report.to_json().unwrap(), four.report.to_json().unwrap());
    assert_eq!(serde_json::to_string(&one.model).unwrap(), serde_json::to_string(&four.model).unwrap());
    let report: TrainReport = serde_json::from_str(&one.report.to_json().unwrap()).unwrap();
    assert_eq!(report, one.report);
    let model: TrainedModel = serde_json::from_str(&serde_json::to_string(&one.model).unwrap()).unwrap();
    assert_eq!(model.probabilities(samples.records()), one.model.unwrap().probabilities(samples.records()));
}

#[test]
fn shuffled_labels_do_not_pass_the_gate() {
    let samples = samples();
    let mut labels = samples.labels().to_vec();
    Random::new(5, 0).shuffle(&mut labels);
    let trained = run(&settings(), &samples.with_labels(Array1::from_vec(labels)).unwrap());
    let Verdict::Refused { reasons } = trained.report.verdict else { panic!("passed") };
    assert!(reasons.iter().any(|reason| matches!(reason, Refusal::Gate { metric: GateMetric::F1, .. })), "{reasons:?}");
    assert!(trained.model.is_some() && trained.report.champion.is_some());
}

#[test]
fn the_test_span_chooses_nothing() {
    let samples = samples();
    let settings = settings();
    let whole = run(&settings, &samples);
    let test = newest(samples.times_us(), 7 * 24 * HOUR_US, 0.15).unwrap().test;
    let mut labels = samples.labels().to_vec();
    test.iter().for_each(|&row| labels[row] = !labels[row]);
    let flipped = run(&settings, &samples.clone().with_labels(Array1::from_vec(labels)).unwrap());
    assert_eq!(whole.model, flipped.model);
    assert_eq!(whole.report.families, flipped.report.families);
    assert_ne!(whole.report.champion.unwrap().test, flipped.report.champion.unwrap().test);
}

#[test]
fn unfit_samples_are_refused_before_anything_is_learned() {
    let samples = samples();
    let labels: Vec<bool> = samples.labels().to_vec();
    let mut columns: Vec<(String, Vec<f32>)> = vec![("amount".to_owned(), samples.records().column(0).to_vec())];
    columns.push(("constant".to_owned(), vec![1.0; ROWS]));
    columns.push(("label".to_owned(), labels.iter().map(|&label| f32::from(u8::from(label))).collect()));
    let poor = Samples::from_columns(columns, labels, samples.times_us().to_vec()).unwrap();
    let trained = run(&settings(), &poor);
    let Verdict::Refused { reasons } = &trained.report.verdict else { panic!("passed") };
    assert_eq!(reasons[0], Refusal::Constant { feature: "constant".to_owned() });
    assert!(matches!(&reasons[1], Refusal::Suspicious { feature, .. } if feature == "label"), "{reasons:?}");
    assert!(trained.model.is_none() && trained.report.families.is_empty());
    let one_class = samples.with_labels(Array1::from_elem(ROWS, false)).unwrap();
    let Verdict::Refused { reasons } = run(&settings(), &one_class).report.verdict else { panic!("passed") };
    assert!(matches!(reasons[0], Refusal::TooFewLabels { label: true, found: 0, .. }), "{reasons:?}");
    assert!(reasons.contains(&Refusal::OneClassFold { fold: 4, role: FoldRole::TestOn }));
}

#[test]
fn wrong_input_is_an_error_that_names_it() {
    let samples = samples();
    let on = |settings: &TrainSettings, cards: Option<&[u64]>| {
        train(settings, &TrainData { samples: &samples, cards, segments: &[] }, &|_| {})
    };
    assert!(matches!(on(&settings(), Some(&[1])), Err(ModelError::Length { what: "the card keys", .. })));
    assert!(on(&TrainSettings { families: Vec::new(), ..settings() }, None).is_err());
    assert!(on(&TrainSettings { test_share: 1.0, ..settings() }, None).is_err());
    let long = TrainSettings { label_delay_hours: 24 * 365, ..settings() };
    assert!(matches!(on(&long, None), Err(ModelError::Fold { .. })));
}

#[test]
fn settings_are_read_strictly_and_families_by_their_names() {
    let read: TrainSettings = serde_json::from_str(r#"{"families":["boost"],"gate":{"f1_min":0.5}}"#).unwrap();
    assert_eq!((read.families, read.gate.f1_min, read.gate.recall_min), (vec![FamilyName::Boost], 0.5, 0.7));
    assert!(serde_json::from_str::<TrainSettings>(r#"{"tset_share":0.5}"#).is_err());
    let family = Family::Boost(BoostSettings { rounds_max: 7, ..BoostSettings::default() });
    let json = serde_json::to_string(&family).unwrap();
    assert!(json.starts_with(r#"{"family":"boost","rounds_max":7"#), "{json}");
    assert_eq!(serde_json::from_str::<Family>(&json).unwrap(), family);
    let forest = Family::Forest(ForestSettings::default());
    assert_eq!(serde_json::from_str::<Family>(&serde_json::to_string(&forest).unwrap()).unwrap(), forest);
}
