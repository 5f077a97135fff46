use ndarray::{Array1, Array2, ShapeBuilder};
use proptest::prelude::*;

use super::*;

fn one_column(values: &[f32]) -> Array2<f32> {
    Array2::from_shape_vec((values.len(), 1).f(), values.to_vec()).unwrap()
}

fn cuts_of(values: &[f32], positives: &[bool], bins_max: usize, positive_share: f64) -> Cuts {
    let labels = Array1::from_vec(positives.to_vec());
    Cuts::new(one_column(values).view(), labels.view(), BinSettings { bins_max, positive_share })
}

#[test]
fn few_values_get_a_bin_each() {
    let values = [3.0, 1.0, 1.0, -0.0, 7.0, 0.0];
    let cuts = cuts_of(&values, &[false; 6], 256, 0.5);
    assert_eq!(cuts.0, [[0.5, 2.0, 5.0]]);
    let bins = cuts.apply(one_column(&values).view());
    let found: Vec<usize> = (0..6).map(|row| bins.column(0).at(row)).collect();
    assert_eq!(found, [2, 1, 1, 0, 3, 0]);
}

#[test]
fn a_value_that_fills_a_bin_stands_alone() {
    let mut values = vec![0.0; 900];
    values.extend((1..=100).map(|value| value as f32));
    let cuts = cuts_of(&values, &vec![false; 1000], 11, 0.0);
    assert_eq!(cuts.bins(0), 11);
    assert_eq!(cuts.threshold(0, 0), 0.5);
    // The hundred others share the ten bins that are left.
    assert_eq!(cuts.0[0], [0.5, 10.5, 20.5, 30.5, 40.5, 50.5, 60.5, 70.5, 80.5, 90.5]);
}

#[test]
fn positives_draw_the_cuts_to_where_they_are() {
    let values: Vec<f32> = (0..10_000).map(|value| value as f32).collect();
    let positives: Vec<bool> = (0..10_000).map(|row| row >= 9_900).collect();
    let in_tail = |share| cuts_of(&values, &positives, 64, share).0[0].iter().filter(|&&cut| cut >= 9_900.0).count();
    assert!(in_tail(0.0) <= 1);
    assert!((31..=34).contains(&in_tail(0.5)), "{}", in_tail(0.5));
}

#[test]
fn a_middle_is_never_the_upper_value() {
    for a in [1.0_f32, -1.0, 1e-45, f32::MAX.next_down(), -f32::MAX, 0.0] {
        let b = a.next_up();
        assert!(a <= middle(a, b) && middle(a, b) < b);
    }
    assert_eq!(middle(-f32::MAX, f32::MAX), 0.0);
}

proptest! {
    #[test]
    fn keys_are_ordered_as_values(mut values in prop::collection::vec(-1e30_f32..1e30, 0..300)) {
        let keys = sorted_keys(Array1::from_vec(values.clone()).view());
        values.sort_unstable_by(f32::total_cmp);
        prop_assert_eq!(keys.into_iter().map(value).collect::<Vec<_>>(), values);
    }

    /// The split that was learned on bins is the split that is asked of values, also of values never seen.
    #[test]
    fn bins_and_thresholds_agree(
        rows in prop::collection::vec((-50.0_f32..50.0, any::<bool>()), 2..400),
        unseen in prop::collection::vec(-60.0_f32..60.0, 1..50),
        bins_max in 2_usize..300,
        positive_share in 0.0..1.0,
    ) {
        let (mut values, labels): (Vec<f32>, Vec<bool>) = rows.into_iter().unzip();
        // Ties and cuts that fall on whole numbers.
        values.iter_mut().step_by(3).for_each(|value| *value = value.round());
        let cuts = cuts_of(&values, &labels, bins_max, positive_share);
        prop_assert!(cuts.bins(0) <= bins_max);
        prop_assert!(cuts.0[0].is_sorted_by(|a, b| a < b));
        let all: Vec<f32> = values.into_iter().chain(unseen).collect();
        let bins = cuts.apply(one_column(&all).view());
        prop_assert_eq!(matches!(bins.column(0), Column::Narrow(_)), cuts.bins(0) <= 256);
        for (row, value) in all.iter().enumerate() {
            for cut in 0..cuts.bins(0) - 1 {
                prop_assert_eq!(bins.column(0).at(row) <= cut, *value <= cuts.threshold(0, cut));
            }
        }
    }
}
