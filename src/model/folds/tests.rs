use proptest::prelude::*;

use super::*;

#[test]
fn each_fold_learns_from_what_was_known_when_its_test_began() {
    let times: Vec<i64> = (0..20).rev().collect();
    let folds = TimeFolds { folds: 3, first_train_share: 0.4, train_hours: 0 }.split(&times, 2).unwrap();
    let at = |rows: &[usize]| rows.iter().map(|&row| times[row]).collect::<Vec<_>>();
    let spans: Vec<_> = folds.iter().map(|fold| (at(&fold.train), at(&fold.test))).collect();
    assert_eq!(spans[0], ((0..6).collect(), (8..12).collect()));
    assert_eq!(spans[1], ((0..10).collect(), (12..16).collect()));
    assert_eq!(spans[2], ((0..14).collect(), (16..20).collect()));
}

#[test]
fn a_window_forgets_what_is_older() {
    let times: Vec<i64> = (0..20).map(|hour| hour * HOUR_US).collect();
    let folds = TimeFolds { folds: 2, first_train_share: 0.6, train_hours: 3 }.split(&times, HOUR_US).unwrap();
    assert_eq!(folds[0], Fold { train: vec![8, 9, 10], test: vec![12, 13, 14, 15] });
    assert_eq!(folds[1], Fold { train: vec![12, 13, 14], test: vec![16, 17, 18, 19] });
}

#[test]
fn what_leaves_a_fold_without_rows_is_an_error() {
    let split = |folds: TimeFolds, times: &[i64], gap| folds.split(times, gap);
    let times: Vec<i64> = (0..20).collect();
    assert!(matches!(split(TimeFolds::default(), &times, 10), Err(ModelError::Fold { fold: 0, .. })));
    assert!(matches!(split(TimeFolds::default(), &[5; 20], 0), Err(ModelError::Fold { .. })));
    assert!(matches!(split(TimeFolds::default(), &[], 0), Err(ModelError::Fold { .. })));
    assert!(split(TimeFolds { folds: 0, ..TimeFolds::default() }, &times, 0).is_err());
    assert!(split(TimeFolds { first_train_share: f64::NAN, ..TimeFolds::default() }, &times, 0).is_err());
    assert!(stratified(&times, &[true; 20], 2, 1).is_err());
    assert!(stratified(&times, &[true; 20], 1, 1).is_err());
}

#[test]
fn the_newest_rows_stay_out_with_a_gap_before_them() {
    let times: Vec<i64> = (0..100).collect();
    let fold = newest(&times, 7, 0.15).unwrap();
    assert_eq!((fold.train, fold.test), ((0..78).collect(), (85..100).collect()));
}

#[test]
fn strata_keep_the_share_of_positives_and_repeat() {
    let times: Vec<i64> = (0..1_000).collect();
    let labels: Vec<bool> = (0..1_000).map(|row| row % 97 == 0).collect();
    let folds = stratified(&times, &labels, 5, 42).unwrap();
    for fold in &folds {
        let positives = fold.test.iter().filter(|&&row| labels[row]).count();
        assert_eq!((positives == 2 || positives == 3, fold.test.len(), fold.train.len()), (true, 200, 800));
    }
    assert_eq!(folds, stratified(&times, &labels, 5, 42).unwrap());
    assert_ne!(folds, stratified(&times, &labels, 5, 43).unwrap());
}

proptest! {
    #[test]
    fn folds_in_time_never_learn_from_the_future(
        times in prop::collection::vec(0_i64..60, 10..200),
        folds in 1_usize..7,
        gap in 0_i64..8,
    ) {
        let Ok(split) = (TimeFolds { folds, ..TimeFolds::default() }).split(&times, gap) else { return Ok(()) };
        prop_assert_eq!(split.len(), folds);
        let mut tested = vec![0; times.len()];
        for fold in &split {
            let first = fold.test.iter().map(|&row| times[row]).min().unwrap();
            prop_assert!(fold.train.iter().all(|&row| times[row] < first - gap));
            prop_assert!(fold.train.windows(2).all(|pair| times[pair[0]] <= times[pair[1]]));
            fold.test.iter().for_each(|&row| tested[row] += 1);
        }
        prop_assert!(tested.iter().all(|&count| count <= 1));
    }

    #[test]
    fn strata_test_each_row_once(labels in prop::collection::vec(any::<bool>(), 4..200), folds in 2_usize..6, seed: u64) {
        let times: Vec<i64> = (0..labels.len() as i64).rev().collect();
        let Ok(split) = stratified(&times, &labels, folds, seed) else { return Ok(()) };
        let mut tested: Vec<usize> = split.iter().flat_map(|fold| fold.test.clone()).collect();
        tested.sort_unstable();
        prop_assert_eq!(tested, (0..labels.len()).collect::<Vec<_>>());
        for fold in &split {
            prop_assert_eq!(fold.train.len() + fold.test.len(), labels.len());
            prop_assert!(fold.train.iter().all(|row| !fold.test.contains(row)));
        }
    }
}
