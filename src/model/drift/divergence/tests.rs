use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[test]
fn hand_counted_values() {
    // (0.25 - 0.5) ln(0.25 / 0.5) + (0.75 - 0.5) ln(0.75 / 0.5)
    let index = 0.25 * 2.0_f64.ln() + 0.25 * 1.5_f64.ln();
    assert!((psi(&[50, 50], &[25, 75]).unwrap() - index).abs() < 1e-12);
    // Half a row where a bin is empty: 0.005 and 0.5 of a hundred rows.
    let index = (0.5 - 0.005) * 100.0_f64.ln() + (0.5 - 1.0) * 0.5_f64.ln();
    assert!((psi(&[0, 100], &[50, 50]).unwrap() - index).abs() < 1e-12);
    // Shares 1/2, 1/2 and 1, 0; the middle is 3/4, 1/4.
    let bits = 0.5 * (0.5 * (2.0_f64 / 3.0).log2() + 0.5 * 2.0_f64.log2()) + 0.5 * (4.0_f64 / 3.0).log2();
    assert!((jensen_shannon(&[1, 1], &[7, 0]).unwrap() - bits).abs() < 1e-12);
    assert_eq!(jensen_shannon(&[3, 0], &[0, 9]), Some(1.0));
    assert_eq!(psi_by_chance(&[500, 400, 100, 0], &[50, 40, 10, 0]), Some(2.0 * (0.001 + 0.01)));
    for nothing in [psi(&[0, 0], &[1, 1]), psi(&[1, 1], &[0, 0]), jensen_shannon(&[0], &[1]), psi_by_chance(&[1], &[0])]
    {
        assert_eq!(nothing, None);
    }
}

#[derive(Deserialize)]
struct Case {
    before: Vec<u64>,
    now: Vec<u64>,
    psi: f64,
    jensen_shannon: f64,
}

/// `scipy.py` makes the file.
#[test]
fn values_equal_those_of_scipy() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("scipy.json")).unwrap();
    assert_eq!(cases.len(), 60);
    for (number, case) in cases.iter().enumerate() {
        let (index, bits) = (psi(&case.before, &case.now).unwrap(), jensen_shannon(&case.before, &case.now).unwrap());
        assert!((index - case.psi).abs() < 1e-9 * (1.0 + case.psi), "case {number}: {index}, not {}", case.psi);
        assert!((bits - case.jensen_shannon).abs() < 1e-9, "case {number}: {bits}, not {}", case.jensen_shannon);
    }
}

/// Two histograms over the same bins, with rows on both sides.
fn pair() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let counts = prop::collection::vec((0_u64..2_000, 0_u64..2_000), 1..25);
    counts.prop_filter("rows on both sides", |of| of.iter().any(|one| one.0 > 0) && of.iter().any(|one| one.1 > 0))
}

proptest! {
    #[test]
    fn equal_shares_are_no_drift(of in pair(), times in 1_u64..50) {
        let before: Vec<u64> = of.iter().map(|of| of.0).collect();
        let more: Vec<u64> = before.iter().map(|count| count * times).collect();
        prop_assert!(psi(&before, &more).unwrap().abs() < 1e-12);
        prop_assert!(jensen_shannon(&before, &more).unwrap() < 1e-12);
        prop_assert_eq!(psi(&before, &before), Some(0.0));
        prop_assert_eq!(jensen_shannon(&before, &before), Some(0.0));
    }

    #[test]
    fn both_are_symmetric_bounded_and_blind_to_the_order_of_bins(mut of in pair(), turn in 0_usize..25) {
        let split = |of: &[(u64, u64)]| of.iter().copied().unzip::<u64, u64, Vec<_>, Vec<_>>();
        let (before, now) = split(&of);
        let (index, bits) = (psi(&before, &now).unwrap(), jensen_shannon(&before, &now).unwrap());
        prop_assert!(index >= 0.0 && index.is_finite());
        prop_assert!((0.0..=1.0).contains(&bits));
        prop_assert!((index - psi(&now, &before).unwrap()).abs() < 1e-9);
        prop_assert!((bits - jensen_shannon(&now, &before).unwrap()).abs() < 1e-9);
        let turn = turn % of.len();
        of.rotate_left(turn);
        let (before, now) = split(&of);
        prop_assert!((index - psi(&before, &now).unwrap()).abs() < 1e-9);
        prop_assert!((bits - jensen_shannon(&before, &now).unwrap()).abs() < 1e-9);
    }
}
