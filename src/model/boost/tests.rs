use linfa::ParamGuard;
use linfa::traits::Predict;
use ndarray::Axis;

use super::*;
use crate::model::tree::testing::{check_classifier, check_refusals, ranking, rows, with_threads};

fn fit(settings: BoostSettings, samples: &Samples) -> Boost {
    BoostParams::from(settings).fit(&samples.dataset()).unwrap()
}

/// One tree, one split, whole steps.
fn stump() -> BoostSettings {
    BoostSettings {
        rounds_max: 1,
        learning_rate: 1.0,
        depth_max: 1,
        child_weight_min: 0.0,
        validation_share: 0.0,
        ..BoostSettings::default()
    }
}

#[test]
fn a_stump_is_what_newton_says() {
    let x = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let labels = vec![false, false, true, false, false, true, true, true];
    let samples = Samples::from_columns(vec![("x".to_owned(), x)], labels, vec![0; 8]).unwrap();
    let model = fit(stump(), &samples);
    // Half are positive: p = 1/2, so the hessian of each row is 1/4. Left of 5.5 stand 1 positive and 4 negatives.
    let left = -(4.0 * 0.5 - 0.5) / (5.0 * 0.25 + 1.0);
    let right = (3.0 * 0.5) / (3.0 * 0.25 + 1.0);
    for (x, expected) in [(5.4, left), (5.6, right), (-9.0, left), (99.0, right)] {
        assert!((model.log_odds(&[x]) - expected).abs() < 1e-6, "{x}: {} {expected}", model.log_odds(&[x]));
    }
    let heavy = BoostSettings { child_weight_min: 1.01, ..stump() };
    assert_eq!(fit(heavy, &samples).log_odds(&[9.0]), 0.0, "no side may weigh more than half of 2");
    let dear = BoostSettings { gain_min: 10.0, ..stump() };
    assert_eq!(fit(dear, &samples).log_odds(&[9.0]), 0.0);
}

/// The first split, against every split of every feature tried plainly.
#[test]
fn the_best_of_all_splits_is_found() {
    for seed in 0..5 {
        let samples = rows(300, 4, seed);
        let share = samples.positives() as f64 / 300.0;
        let score = |rows: &[usize]| {
            let g: f64 = rows.iter().map(|&row| share - f64::from(u8::from(samples.labels()[row]))).sum();
            g * g / (rows.len() as f64 * share * (1.0 - share) + 1.0)
        };
        let mut best = (0.0, 0, 0.0);
        for feature in 0..4 {
            let column = samples.records().column(feature).to_vec();
            for &value in &column {
                let (left, right): (Vec<usize>, Vec<usize>) = (0..300).partition(|&row| column[row] <= value);
                let found = score(&left) + score(&right);
                if !right.is_empty() && found > best.0 {
                    best = (found, feature, value);
                }
            }
        }
        let model = fit(BoostSettings { bins_max: 1000, ..stump() }, &samples);
        let (_, feature, value) = best;
        let mut row = [0.5; 4];
        row[feature] = value;
        let at = model.log_odds(&row);
        row[feature] = value + 0.2;
        assert_ne!(at, model.log_odds(&row), "feature {feature} is split after {value}");
        for other in (0..4).filter(|&other| other != feature) {
            let mut moved = row;
            moved[other] = 0.0;
            assert_eq!(model.log_odds(&row), model.log_odds(&moved));
        }
    }
}

#[test]
fn what_two_features_say_together_is_learned() {
    let (train, test) = (rows(8000, 6, 1), rows(4000, 6, 2));
    let model = fit(BoostSettings { rounds_max: 60, ..BoostSettings::default() }, &train);
    assert!(ranking(&model, &test) > 0.87, "{}", ranking(&model, &test));
    let mean = model.probabilities(test.records()).mean().unwrap();
    assert!((mean - test.positives() as f64 / 4000.0).abs() < 0.02, "{mean}");
    check_classifier(&model, &test);
}

#[test]
fn threads_leave_no_trace() {
    // Enough values that histograms are spread over threads.
    let samples = rows(20_000, 12, 3);
    let sampled =
        BoostSettings { rounds_max: 8, row_share: 0.7, feature_share: 0.6, bins_max: 500, ..BoostSettings::default() };
    let whole = BoostSettings { rounds_max: 8, ..BoostSettings::default() };
    for settings in [sampled, whole] {
        let [one, three] = [1, 3].map(|threads| with_threads(threads, || fit(settings.clone(), &samples)));
        assert_eq!(one, three);
        assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&three).unwrap());
    }
}

#[test]
fn the_seed_draws_rows_and_features() {
    let samples = rows(2000, 6, 4);
    let drawn = |seed, row_share, feature_share| {
        let settings = BoostSettings { rounds_max: 5, seed, row_share, feature_share, ..BoostSettings::default() };
        fit(settings, &samples)
    };
    for (row_share, feature_share) in [(0.5, 1.0), (1.0, 0.5)] {
        assert_eq!(drawn(1, row_share, feature_share), drawn(1, row_share, feature_share));
        assert_ne!(drawn(1, row_share, feature_share), drawn(2, row_share, feature_share));
    }
    assert_eq!(drawn(1, 1.0, 1.0), drawn(2, 1.0, 1.0));
}

#[test]
fn boosting_stops_and_goes_back_to_the_best_round() {
    let (train, held_out) = (rows(600, 4, 5), rows(600, 4, 6));
    let settings = BoostSettings { patience: 7, learning_rate: 0.5, ..BoostSettings::default() };
    let model = BoostParams::from(settings.clone()).check().unwrap().fit_validated(&train, &held_out).unwrap();
    let areas = model.validation_auc();
    let best = areas.iter().copied().fold(0.0, f64::max);
    assert_eq!(model.rounds(), areas.iter().position(|&area| area == best).unwrap() + 1);
    assert_eq!(areas.len(), model.rounds() + 7);
    assert!((ranking(&model, &held_out) - best).abs() < 1e-4);
    // The same rounds without anything held out are the same trees.
    let settings = BoostSettings { rounds_max: model.rounds(), validation_share: 0.0, ..settings };
    let plain = fit(settings, &train);
    assert!(plain.validation_auc().is_empty());
    assert_eq!(plain.trees, model.trees);
}

#[test]
fn the_last_rows_are_held_out() {
    let samples = rows(1000, 4, 7);
    let settings = BoostSettings { rounds_max: 20, validation_share: 0.25, ..BoostSettings::default() };
    let part = |range: std::ops::Range<usize>| samples.select(&range.collect::<Vec<_>>()).unwrap();
    let params = BoostParams::from(settings.clone()).check().unwrap();
    assert_eq!(fit(settings, &samples), params.fit_validated(&part(0..750), &part(750..1000)).unwrap());
}

#[test]
fn a_model_comes_back_from_json_to_the_bit() {
    let samples = rows(1000, 5, 8);
    let model = fit(BoostSettings { rounds_max: 20, ..BoostSettings::default() }, &samples);
    let back: Boost = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    let bits = |model: &Boost| model.probabilities(samples.records()).mapv(f64::to_bits);
    assert_eq!(bits(&back), bits(&model));
    assert_eq!((back.start.to_bits(), &back.trees), (model.start.to_bits(), &model.trees));
}

#[test]
fn what_is_held_out_has_both_classes_though_one_comes_in_bursts() {
    let cut = |positives: std::ops::Range<usize>, nominal: usize| {
        let labels: ndarray::Array1<bool> = (0..100).map(|row| positives.contains(&row)).collect();
        super::both_classes(labels.view(), nominal)
    };
    // All in one part or in the other: a tenth of 20 is 2.
    assert_eq!(cut(40..60, 85), 58);
    assert_eq!(cut(70..90, 65), 72);
    assert_eq!(cut(70..90, 80), 80);
    // No cut leaves both classes on either side.
    assert_eq!(cut(80..100, 85), 85);
    assert_eq!(cut(0..1, 85), 85);
    let samples = rows(200, 3, 1);
    let labels = (0..200).map(|row| (60..100).contains(&row)).collect();
    let burst = samples.with_labels(labels).unwrap();
    assert!(BoostParams::from(BoostSettings::default()).fit(&burst.dataset()).is_ok());
}

#[test]
fn labels_are_predicted_as_linfa_does() {
    let samples = rows(1000, 5, 9);
    let model = fit(BoostSettings { rounds_max: 20, ..BoostSettings::default() }, &samples);
    let labels = model.predict(&samples.dataset().records().to_owned());
    let expected = samples.records().map_axis(Axis(1), |row| model.probability(&row.to_vec()) >= 0.5);
    assert_eq!(labels, expected);
}

#[test]
fn what_cannot_be_learned_is_refused() {
    check_refusals(&BoostParams::from(BoostSettings::default()));
    // A held-out part of one class says nothing of when to stop.
    let samples = rows(100, 3, 1);
    let labels = (0..100).map(|row| row < 50).collect();
    let sorted = samples.with_labels(labels).unwrap();
    let refused = BoostParams::from(BoostSettings::default()).fit(&sorted.dataset());
    assert!(matches!(refused, Err(ModelError::OneClass { rows: 15, label: false })));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let default = BoostSettings::default;
    let wrong = [
        ("rounds_max", BoostSettings { rounds_max: 0, ..default() }),
        ("learning_rate", BoostSettings { learning_rate: 0.0, ..default() }),
        ("learning_rate", BoostSettings { learning_rate: f64::NAN, ..default() }),
        ("depth_max", BoostSettings { depth_max: 0, ..default() }),
        ("l2", BoostSettings { l2: -1.0, ..default() }),
        ("gain_min", BoostSettings { gain_min: f64::INFINITY, ..default() }),
        ("child_weight_min", BoostSettings { child_weight_min: -0.1, ..default() }),
        ("row_share", BoostSettings { row_share: 1.1, ..default() }),
        ("feature_share", BoostSettings { feature_share: 0.0, ..default() }),
        ("bins_max", BoostSettings { bins_max: 1, ..default() }),
        ("positive_bin_share", BoostSettings { positive_bin_share: 1.5, ..default() }),
        ("validation_share", BoostSettings { validation_share: 1.0, ..default() }),
        ("patience", BoostSettings { patience: 0, ..default() }),
    ];
    for (name, settings) in wrong {
        let refused = BoostParams::from(settings).check();
        assert!(matches!(refused, Err(ModelError::Parameter { parameter, .. }) if parameter == name), "{name}");
    }
    assert!(BoostParams::from(default()).check().is_ok());
}
