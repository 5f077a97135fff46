use proptest::prelude::*;

use super::*;

fn isotonic(scores: &[f64], labels: &[u8]) -> Isotonic {
    let labels: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
    Isotonic::fit(scores, &labels)
}

#[test]
fn violators_are_pooled() {
    // Shares by score: .1 → 0, .3 → 1/2, .5 → 1/4 (a violator: together 2/6), .9 → 1.
    let scores = [0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9];
    let map = isotonic(&scores, &[0, 0, 1, 0, 0, 1, 0, 0, 1, 1]);
    let near = |score: f64, expected: f64| assert!((map.apply(score) - expected).abs() < 1e-12, "{score}");
    let centre = (2.0 * 0.3 + 4.0 * 0.5) / 6.0;
    near(centre, 2.0 / 6.0);
    // Half a row of the class that was not seen, but no more than half of the next: 1/6 against 0.5 / 2.
    near(0.1, 1.0 / 6.0);
    near(0.9, 0.75);
    near(f64::midpoint(0.1, centre), f64::midpoint(1.0 / 6.0, 2.0 / 6.0));
    near(0.0, 1.0 / 12.0);
    near(1.0, 0.875);
}

#[test]
fn platt_finds_the_line_that_distorted_the_scores() {
    // True log-odds are 0.5 x - 2, where x are the log-odds of the score; the labels follow them by quota.
    let mut scores = Vec::new();
    let mut labels = Vec::new();
    for step in 0..40 {
        let x = f64::from(step) / 4.0 - 3.0;
        let truth = 1.0 / (1.0 + (2.0 - 0.5 * x).exp());
        for row in 0..5_000 {
            scores.push(1.0 / (1.0 + (-x).exp()));
            labels.push((f64::from(row) + 0.5) / 5_000.0 < truth);
        }
    }
    let platt = Platt::fit(&scores, &labels).unwrap();
    for x in [-2.0_f64, 0.0, 4.0] {
        let truth = 1.0 / (1.0 + (2.0 - 0.5 * x).exp());
        assert!((platt.apply(1.0 / (1.0 + (-x).exp())) - truth).abs() < 1e-3, "{x}");
    }
}

#[test]
fn what_teaches_nothing_changes_nothing() {
    let fit = |scores: &[f64], labels: &[bool]| CalibrationMethod::Platt.fit(scores, labels).unwrap();
    assert_eq!(fit(&[0.1, 0.9], &[true, false]), Calibration::Identity);
    assert_eq!(fit(&[0.1, 0.9], &[true, true]), Calibration::Identity);
    assert!(CalibrationMethod::Isotonic.fit(&[], &[]).is_err());
    assert!(CalibrationMethod::Isotonic.fit(&[0.5], &[]).is_err());
}

#[test]
fn the_method_with_the_lowest_loss_on_other_folds_is_chosen() {
    // Ten times too bold in odds; true share of positives at score s: odds / 10.
    let mut scores = Vec::new();
    let mut labels = Vec::new();
    let mut folds = Vec::new();
    for row in 0..6_000 {
        let score = (f64::from(row / 60) + 0.5) / 100.0;
        let odds = score / (1.0 - score) / 10.0;
        scores.push(score);
        labels.push((f64::from(row % 60) + 0.5) / 60.0 < odds / (1.0 + odds));
        folds.push((row % 3) as usize);
    }
    let chosen = choose(&scores, &labels, &folds).unwrap();
    assert_eq!((chosen.method, chosen.trials.len()), (CalibrationMethod::Platt, 3));
    assert!((chosen.calibration.apply(0.5) - 1.0 / 11.0).abs() < 0.01);
    assert!(chosen.trials[1].log_loss < chosen.trials[0].log_loss);
    let alone = choose(&scores, &labels, &vec![0; 6_000]).unwrap();
    assert_eq!((alone.calibration, alone.probabilities), (Calibration::Identity, scores));
}

#[test]
fn a_stored_calibration_gives_the_same_bits_and_a_falling_one_is_refused() {
    let scores: Vec<f64> = (0..100).map(|row| f64::from(row) / 99.0).collect();
    let labels: Vec<bool> = (0..100).map(|row| row % 7 == 0 || row > 80).collect();
    for method in CalibrationMethod::ALL {
        let calibration = method.fit(&scores, &labels).unwrap();
        let stored: Calibration = serde_json::from_str(&serde_json::to_string(&calibration).unwrap()).unwrap();
        assert_eq!(stored.apply_all(&scores), calibration.apply_all(&scores));
    }
    let falling = r#"{"method":"isotonic","scores":[0.0,1.0],"probabilities":[0.5,0.4]}"#;
    assert!(serde_json::from_str::<Calibration>(falling).is_err());
}

proptest! {
    #[test]
    fn order_is_kept_and_probabilities_stay_within_bounds(
        rows in prop::collection::vec((0.0..=1.0_f64, any::<bool>()), 1..80),
        probes in prop::collection::vec(0.0..=1.0_f64, 2..20),
    ) {
        let (scores, labels): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        for method in CalibrationMethod::ALL {
            let calibration = method.fit(&scores, &labels).unwrap();
            let mut probes = probes.clone();
            probes.sort_by(f64::total_cmp);
            let mapped = calibration.apply_all(&probes);
            prop_assert!(mapped.iter().all(|p| (0.0..=1.0).contains(p)), "{calibration:?}");
            for (before, after) in probes.windows(2).zip(mapped.windows(2)) {
                prop_assert!(after[0] <= after[1], "{method:?}");
                prop_assert!(before[1] - before[0] < 1e-6 || after[0] < after[1] || method == CalibrationMethod::Platt);
            }
        }
    }
}
