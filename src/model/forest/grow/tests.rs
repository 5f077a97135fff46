use proptest::prelude::*;

use super::*;

/// Every cut tried plainly.
fn plainly(bins: &[(u32, u32)], leaf_rows_min: u64) -> Option<f64> {
    let part = |bins: &[(u32, u32)]| {
        let positives: u64 = bins.iter().map(|bin| u64::from(bin.0)).sum();
        let rows: u64 = bins.iter().map(|bin| u64::from(bin.0 + bin.1)).sum();
        (rows, (positives as f64).powi(2) / rows as f64)
    };
    (1..bins.len())
        .map(|cut| (part(&bins[..cut]), part(&bins[cut..])))
        .filter(|(left, right)| left.0.min(right.0) >= leaf_rows_min)
        .map(|(left, right)| left.1 + right.1)
        .reduce(f64::max)
}

proptest! {
    /// Cuts are left out where none can be the best: the best must be found all the same.
    #[test]
    fn the_best_of_all_cuts_is_found(
        bins in prop::collection::vec((0_u32..3, 0_u32..5), 1..40),
        leaf_rows_min in 1_u64..12,
    ) {
        let bins: Vec<(u32, u32)> = bins.into_iter().filter(|bin| bin.0 + bin.1 > 0).collect();
        let sum = |&(positives, negatives): &(u32, u32)| {
            Sum(u64::from(positives) << 32 | u64::from(positives + negatives))
        };
        let all = bins.iter().fold(Sum::default(), |all, bin| all.plus(sum(bin)));
        let mut search = Search::new(0, all, leaf_rows_min);
        bins.iter().enumerate().for_each(|(bin, counts)| search.visit(bin, sum(counts)));
        match (search.best, plainly(&bins, leaf_rows_min)) {
            (Some(found), Some(expected)) => prop_assert!((found.score - expected).abs() <= 1e-9 * expected),
            (found, expected) => prop_assert_eq!(found.is_some(), expected.is_some()),
        }
    }
}

#[test]
fn a_drawn_row_counts_as_often_as_it_was_drawn() {
    let sum = Item::new(0, 3, true).sum().plus(Item::new(1, 65_535, false).sum());
    assert_eq!((sum.rows(), sum.positives()), (65_538, 3));
}
