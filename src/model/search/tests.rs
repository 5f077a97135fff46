use super::*;
use crate::model::random::Random;

fn samples(rows: usize) -> Samples {
    let mut random = Random::new(4, 0);
    let amounts: Vec<f32> = (0..rows).map(|_| (random.unit() * 9.0).exp() as f32).collect();
    let labels = amounts.iter().map(|&amount| amount > 3_000.0 && random.unit() < 0.8).collect();
    Samples::from_columns(vec![("amount".to_owned(), amounts)], labels, (0..rows as i64).collect()).unwrap()
}

fn first(rows: usize) -> Fold {
    Fold { train: (0..rows / 2).collect(), test: (rows / 2..rows).collect() }
}

#[test]
fn the_best_settings_are_those_with_the_best_precision_of_all_tried() {
    let samples = samples(2_000);
    let found =
        search(&[FamilyName::Logistic], &samples, &first(2_000), &SearchSettings::default(), 1, &|_| {}).unwrap();
    let Found { family, trials } = &found[0];
    assert_eq!(
        trials.iter().map(|trial| &trial.settings).cloned().collect::<Vec<_>>(),
        Family::candidates(FamilyName::Logistic, 1)
    );
    let best = trials.iter().map(|trial| trial.average_precision).fold(0.0, f64::max);
    let chosen = trials.iter().find(|trial| trial.average_precision == best).unwrap();
    assert_eq!(family, &chosen.settings);
}

#[test]
fn one_candidate_is_taken_untried() {
    let settings = SearchSettings { candidates_max: 1, ..SearchSettings::default() };
    let names = [FamilyName::Boost, FamilyName::Logistic];
    let found = search(&names, &samples(200), &first(200), &settings, 5, &|_| panic!("fitted")).unwrap();
    for (found, name) in found.iter().zip(names) {
        assert_eq!((&found.family, found.trials.len()), (&Family::candidates(name, 5)[0], 0));
    }
}

#[test]
fn rows_are_drawn_in_order_with_the_classes_in_proportion() {
    let samples = samples(10_000);
    let rows: Vec<usize> = (2_000..10_000).collect();
    let drawn = drawn(&samples, &rows, 1_000, 7);
    assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn[0] >= 2_000);
    let positives = |rows: &[usize]| rows.iter().filter(|&&row| samples.labels()[row]).count();
    assert!(drawn.len() >= 998 && drawn.len() <= 1_000, "{}", drawn.len());
    assert_eq!(positives(&drawn), positives(&rows) / 8);
    assert_eq!(super::drawn(&samples, &rows, 8_000, 7), rows);
}
