use proptest::prelude::*;

use super::*;

fn ranking(scores: &[f64], labels: &[u8]) -> Ranking {
    let labels: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
    Ranking::new(scores, &labels).unwrap()
}

#[test]
fn areas_equal_counts_by_hand() {
    // Pairs (positive, negative) in order: .8 beats both; .35 beats .1 but not .4: 3 of 4.
    // Precision where recall grows: 1/1 and 2/3.
    let four = ranking(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]);
    assert_eq!(four.roc_auc(), Some(0.75));
    assert!((four.average_precision().unwrap() - (0.5 + 1.0 / 3.0)).abs() < 1e-15);
}

#[test]
fn ties_count_half_and_are_one_step() {
    // .9: one of each; .5: one positive, two negatives. Pairs: ½ + 2 + 0 + 2·½ of 6. AP: ½·½ + ½·2/5.
    let tied = ranking(&[0.9, 0.5, 0.9, 0.5, 0.5], &[1, 1, 0, 0, 0]);
    assert_eq!(tied.steps().len(), 2);
    assert!((tied.roc_auc().unwrap() - 3.5 / 6.0).abs() < 1e-15);
    assert!((tied.average_precision().unwrap() - 0.45).abs() < 1e-15);
    assert_eq!(ranking(&[0.0, -0.0], &[1, 0]).roc_auc(), Some(0.5));
}

#[test]
fn a_class_that_is_absent_leaves_the_area_undefined() {
    assert_eq!((ranking(&[0.1], &[0]).roc_auc(), ranking(&[0.1], &[0]).average_precision()), (None, None));
    assert_eq!((ranking(&[0.1], &[1]).roc_auc(), ranking(&[0.1], &[1]).average_precision()), (None, Some(1.0)));
}

#[test]
fn what_cannot_be_ranked_is_refused() {
    assert!(matches!(Ranking::new(&[0.5, f64::NAN], &[true, false]), Err(ModelError::Score { row: 1, .. })));
    assert!(matches!(Ranking::new(&[0.5], &[]), Err(ModelError::Length { expected: 1, found: 0, .. })));
    assert!(matches!(Ranking::new(&[], &[]), Err(ModelError::Empty { .. })));
}

proptest! {
    #[test]
    fn the_area_is_the_share_of_pairs_in_order(rows in prop::collection::vec((-9_i8..9, any::<bool>()), 1..60)) {
        let scores: Vec<f64> = rows.iter().map(|&(score, _)| f64::from(score)).collect();
        let labels: Vec<bool> = rows.iter().map(|&(_, label)| label).collect();
        let (mut halves, mut pairs) = (0_u32, 0_u32);
        for &(one, _) in rows.iter().filter(|(_, label)| *label) {
            for &(other, _) in rows.iter().filter(|(_, label)| !*label) {
                halves += 2 * u32::from(one > other) + u32::from(one == other);
                pairs += 1;
            }
        }
        let area = Ranking::new(&scores, &labels).unwrap().roc_auc();
        prop_assert_eq!(area.is_some(), pairs > 0);
        prop_assert!((area.unwrap_or(0.0) - f64::from(halves) / f64::from(2 * pairs.max(1))).abs() < 1e-12);
        let feature: Vec<f32> = rows.iter().map(|&(score, _)| f32::from(score)).collect();
        prop_assert_eq!(Ranking::of_feature(feature.iter(), labels.iter()), Ranking::new(&scores, &labels).unwrap());
    }
}
