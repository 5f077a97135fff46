use linfa::ParamGuard;
use linfa::traits::Predict;
use ndarray::arr2;

use super::*;
use crate::model::Samples;
use crate::model::random::Random;

/// Log-odds 2 x - y - 3 of two standard-ish features: positives are the minority.
fn samples(rows: usize, flip: bool) -> Samples {
    let mut random = Random::new(7, u64::from(flip));
    let mut draw = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    let (mut x, mut y, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    let mut chance = Random::new(8, 0);
    for _ in 0..rows {
        let (one, other) = (draw(), draw());
        let positive = chance.unit() < sigmoid(2.0 * one - other - 3.0);
        x.push(one as f32);
        y.push(other as f32 * 100.0 + 50.0);
        labels.push(positive != flip);
    }
    let columns = vec![("x".to_owned(), x), ("y".to_owned(), y), ("constant".to_owned(), vec![5.0; rows])];
    Samples::from_columns(columns, labels, (0..rows as i64).collect()).unwrap()
}

fn settings() -> LogisticSettings {
    LogisticSettings { scaling: Scaling::Standard, l2: 0.0, ..LogisticSettings::default() }
}

fn fit(samples: &Samples) -> Logistic {
    LogisticParams::from(settings()).fit(&samples.dataset()).unwrap()
}

#[test]
fn the_weights_that_made_the_labels_are_found() {
    // One below and one above the size from which a sample gives the start.
    for rows in [40_000, 60_000] {
        let model = fit(&samples(rows, false));
        assert!((model.weights()[0] - 2.0).abs() < 0.1, "{model:?}");
        assert!((model.weights()[1] + 1.0).abs() < 0.1, "{model:?}");
        assert_eq!(model.weights()[2], 0.0);
        assert!((model.intercept() + 3.0).abs() < 0.1, "{model:?}");
    }
}

#[test]
fn positive_means_true_whether_it_is_rare_or_frequent() {
    let (rare, frequent) = (samples(20_000, false), samples(20_000, true));
    assert!(rare.positives() < 10_000 && frequent.positives() > 10_000);
    for samples in [rare, frequent] {
        let model = fit(&samples);
        let mean = model.probabilities(samples.records()).sum() / 20_000.0;
        assert!((mean - samples.positives() as f64 / 20_000.0).abs() < 1e-3, "{mean}");
        let agreed = model.predict(&samples.records()).iter().zip(samples.labels()).filter(|(p, l)| p == l).count();
        assert!(agreed > 17_000, "{agreed}");
    }
}

#[test]
fn one_row_and_many_agree_and_contributions_add_up() {
    let samples = samples(2_000, false);
    let model = fit(&samples);
    let many = model.probabilities(samples.records());
    for (row, &probability) in samples.records().rows().into_iter().zip(&many) {
        let row = row.to_vec();
        assert_eq!(model.probability(&row).to_bits(), probability.to_bits());
        assert!((model.contributions(&row).total() - model.log_odds(&row)).abs() < 1e-12);
    }
    let stored: Logistic = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!(stored.probabilities(samples.records()), many);
}

#[test]
fn a_long_tail_is_drawn_in_by_the_logarithm() {
    let rows = arr2(&[[0.0_f32], [9.0], [-9.0], [1e9]]);
    let (scaler, rows) = Scaler::fit(rows.view(), Scaling::SignedLog).unwrap();
    let scaled = [0.0, 9.0, -9.0, 1e9].map(|x| scaler.scale(0, x));
    assert!(scaled.iter().all(|x| x.abs() < 2.0), "{scaled:?}");
    assert!((scaled[1] + scaled[2] - 2.0 * scaled[0]).abs() < 1e-12);
    assert_eq!(rows.column(0).to_vec(), scaled);
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let samples = samples(100, false);
    let one_class = samples.clone().with_labels(Array1::from_elem(100, true)).unwrap();
    let params = LogisticParams::from(settings());
    assert_eq!(params.fit(&one_class.dataset()).unwrap_err(), ModelError::OneClass { rows: 100, label: true });
    assert!(matches!(params.fit(&samples.select(&[]).unwrap().dataset()), Err(ModelError::Empty { .. })));
    for wrong in [
        LogisticSettings { l2: -1.0, ..settings() },
        LogisticSettings { l2: f64::NAN, ..settings() },
        LogisticSettings { tolerance: 0.0, ..settings() },
        LogisticSettings { steps_max: 0, ..settings() },
    ] {
        assert!(matches!(LogisticParams::from(wrong).check(), Err(ModelError::Parameter { .. })));
    }
    let short =
        r#"{"scaler":{"scaling":"standard","centres":[0.0],"factors":[1.0]},"intercept":0.0,"weights":[1.0,2.0]}"#;
    assert!(serde_json::from_str::<Logistic>(short).is_err());
}
