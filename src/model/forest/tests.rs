use linfa::ParamGuard;

use super::*;
use crate::model::Samples;
use crate::model::tree::testing::{check_classifier, check_refusals, ranking, rows, with_threads};

fn fit(settings: ForestSettings, samples: &Samples) -> Forest {
    ForestParams::from(settings).fit(&samples.dataset()).unwrap()
}

#[test]
fn what_two_features_say_together_is_learned() {
    let (train, test) = (rows(6000, 6, 1), rows(3000, 6, 2));
    let model = fit(ForestSettings { trees: 60, ..ForestSettings::default() }, &train);
    assert!(ranking(&model, &test) > 0.86, "{}", ranking(&model, &test));
    check_classifier(&model, &test);
}

#[test]
fn probabilities_are_true_on_the_whole() {
    let (train, test) = (rows(8000, 5, 3), rows(4000, 5, 4));
    let share = test.positives() as f64 / 4000.0;
    let mean = fit(ForestSettings::default(), &train).probabilities(test.records()).mean().unwrap();
    assert!((mean - share).abs() < 0.02, "{mean} {share}");
}

#[test]
fn a_whole_tree_tells_all_drawn_rows_apart() {
    let samples = rows(500, 4, 5);
    let settings = ForestSettings { leaf_rows_min: 1, bins_max: 1000, trees: 200, ..ForestSettings::default() };
    let model = fit(settings, &samples);
    for (row, &label) in samples.records().rows().into_iter().zip(samples.labels()) {
        // A row is drawn for 63 trees in 100, and those know it.
        assert_eq!(model.probability(&row.to_vec()) > 0.5, label);
    }
}

#[test]
fn leaves_are_as_large_and_trees_as_deep_as_was_said() {
    let samples = rows(2000, 4, 6);
    let nodes = |settings: ForestSettings| fit(ForestSettings { trees: 10, ..settings }, &samples).nodes();
    assert_eq!(nodes(ForestSettings { depth_max: 1, ..ForestSettings::default() }), 30);
    assert_eq!(nodes(ForestSettings { leaf_rows_min: 1001, ..ForestSettings::default() }), 10);
    assert!(nodes(ForestSettings { leaf_rows_min: 100, ..ForestSettings::default() }) <= 10 * (2 * 20 - 1));
    assert!(nodes(ForestSettings { leaf_rows_min: 1, ..ForestSettings::default() }) > 10 * 200);
}

#[test]
fn threads_leave_no_trace() {
    let samples = rows(5000, 8, 7);
    let settings = ForestSettings { trees: 12, ..ForestSettings::default() };
    let [one, three] = [1, 3].map(|threads| with_threads(threads, || fit(settings.clone(), &samples)));
    assert_eq!(one, three);
    assert_ne!(one, fit(ForestSettings { seed: 1, ..settings }, &samples));
}

#[test]
fn a_model_comes_back_from_json_to_the_bit() {
    let samples = rows(1000, 5, 8);
    let model = fit(ForestSettings { trees: 20, ..ForestSettings::default() }, &samples);
    let back: Forest = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!(back, model);
}

#[test]
fn what_cannot_be_learned_is_refused() {
    check_refusals(&ForestParams::from(ForestSettings::default()));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let default = ForestSettings::default;
    let wrong = [
        ("trees", ForestSettings { trees: 0, ..default() }),
        ("depth_max", ForestSettings { depth_max: 0, ..default() }),
        ("leaf_rows_min", ForestSettings { leaf_rows_min: 0, ..default() }),
        ("features_per_split", ForestSettings { features_per_split: Some(0), ..default() }),
        ("bins_max", ForestSettings { bins_max: 70_000, ..default() }),
        ("positive_bin_share", ForestSettings { positive_bin_share: -0.1, ..default() }),
    ];
    for (name, settings) in wrong {
        let refused = ForestParams::from(settings).check();
        assert!(matches!(refused, Err(ModelError::Parameter { parameter, .. }) if parameter == name), "{name}");
    }
    assert!(ForestParams::from(default()).check().is_ok());
}
