use super::*;

#[test]
fn few_rows_are_drawn_as_they_are() {
    let curves = Curves::of(&[0.95, 0.45, 0.41, 0.05], &[true, false, true, false]).unwrap();
    assert_eq!(curves.precision_recall, [[0.5, 1.0], [0.5, 0.5], [1.0, 2.0 / 3.0], [1.0, 0.5]]);
    assert_eq!(curves.roc, [[0.0, 0.0], [0.0, 0.5], [0.5, 0.5], [0.5, 1.0], [1.0, 1.0]]);
    let middle = curves.calibration[1];
    assert_eq!((curves.calibration.len(), middle.rows, middle.observed), (3, 2, 0.5));
    assert!((middle.predicted - 0.43).abs() < 1e-12);
    assert_eq!((curves.histogram.positives[38], curves.histogram.negatives[2]), (1, 1));
}

#[test]
fn many_rows_are_thinned_and_none_is_lost_from_the_counts() {
    let rows = 50_000_u32;
    let scores: Vec<f64> = (0..rows).map(|row| f64::from(row) / f64::from(rows - 1)).collect();
    let labels: Vec<bool> = (0..rows).map(|row| row.wrapping_mul(2_654_435_761) % 1_000 < row / 500).collect();
    let curves = Curves::of(&scores, &labels).unwrap();
    assert!(curves.precision_recall.len() <= 2 * POINTS_MAX + 2 && curves.roc.len() <= 2 * POINTS_MAX + 2);
    assert_eq!((curves.roc.first(), curves.roc.last()), (Some(&[0.0, 0.0]), Some(&[1.0, 1.0])));
    assert!(curves.roc.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
    assert_eq!(curves.calibration.iter().map(|bin| bin.rows).sum::<u64>(), u64::from(rows));
    let counted: u64 = curves.histogram.positives.iter().chain(&curves.histogram.negatives).sum();
    assert_eq!(counted, u64::from(rows));
}
