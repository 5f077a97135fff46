use super::*;

/// By hand at 0.5: TP .9 .8 .6, FP .7, FN .4 .2, TN .3 .1.
const SCORES: [f64; 8] = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1];
const LABELS: [bool; 8] = [true, true, false, true, true, false, true, false];

#[test]
fn a_decision_is_counted_as_by_hand() {
    let metrics = Metrics::of(&SCORES, &LABELS, 0.5).unwrap();
    let counted = Confusion { true_positives: 3, false_positives: 1, false_negatives: 2, true_negatives: 2 };
    assert_eq!((metrics.confusion, metrics.rows, metrics.positives), (counted, 8, 5));
    assert_eq!((metrics.precision, metrics.recall), (0.75, 0.6));
    assert!((metrics.f1 - 2.0 * 0.75 * 0.6 / 1.35).abs() < 1e-15);
    assert!((metrics.brier - (0.01 + 0.04 + 0.49 + 0.16 + 0.36 + 0.09 + 0.64 + 0.01) / 8.0).abs() < 1e-15);
    let loss = -(0.9_f64.ln()
        + 0.8_f64.ln()
        + 0.3_f64.ln()
        + 0.6_f64.ln()
        + 0.4_f64.ln()
        + 0.7_f64.ln()
        + 0.2_f64.ln()
        + 0.9_f64.ln())
        / 8.0;
    assert!((metrics.log_loss - loss).abs() < 1e-15);
    // The threshold itself is positive.
    assert_eq!(Confusion::at(0.9, &SCORES, &LABELS).true_positives, 1);
}

#[test]
fn a_decision_without_positives_is_worth_nothing() {
    let none = Metrics::of(&[0.1, 0.2], &[false, false], 0.5).unwrap();
    assert_eq!((none.precision, none.recall, none.f1), (0.0, 0.0, 0.0));
    assert_eq!((none.average_precision, none.roc_auc), (None, None));
}

#[test]
fn a_certain_error_costs_much_but_not_infinity() {
    let metrics = Metrics::of(&[0.0, 1.0], &[true, true], 0.5).unwrap();
    assert!((metrics.log_loss - f64::EPSILON.ln().abs() / 2.0).abs() < 1e-12);
}

#[test]
fn what_is_no_probability_is_refused() {
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(Metrics::of(&[0.5, wrong], &[true, false], 0.5), Err(ModelError::Score { row: 1, .. })));
    }
    assert!(Metrics::of(&[], &[], 0.5).is_err());
}

#[test]
fn top_cards_are_counted_per_day_and_ties_share_the_last_place() {
    // Day 1: card 7 scores .9 (a fraud of its own scores less), card 8 .8, card 9 .1 (fraud). Day 2: card 7 alone.
    let scores = [0.9, 0.2, 0.8, 0.1, 0.3];
    let labels = [false, true, false, true, false];
    let (cards, days) = ([7, 7, 8, 9, 7], [1, 1, 1, 1, 2]);
    let at = |top| top_card_precision(&scores, &labels, &cards, &days, top).unwrap();
    assert_eq!((at(1), at(2), at(3)), (0.5, 0.25, 1.0 / 3.0));
    let tied = top_card_precision(&[0.5; 4], &[true, false, false, false], &[1, 2, 3, 4], &[1; 4], 2);
    assert_eq!(tied, Some(0.25));
    assert_eq!(top_card_precision(&scores, &labels, &cards, &days, 0), None);
    assert_eq!(top_card_precision(&[], &[], &[], &[], 5), None);
}

#[test]
fn spread_is_that_of_a_sample() {
    let spread = Spread::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
    assert_eq!((spread.mean, spread.min, spread.max), (3.0, 1.0, 6.0));
    assert!((spread.deviation - (14.0_f64 / 3.0).sqrt()).abs() < 1e-15);
    assert_eq!(Spread::of(&[2.0]).unwrap().deviation, 0.0);
    assert_eq!(Spread::of(&[]), None);
}

/// The same rows as `scikit_learn.json` was computed from: scores on a grid (so that they tie), 3% positives.
fn drawn(rows: u32) -> (Vec<f64>, Vec<bool>) {
    let mut state = 12_345_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    (0..rows)
        .map(|_| {
            let label = draw() < 0.03;
            let score = if label { 1.0 - draw() * draw() } else { draw() * draw() };
            ((score * 500.0).floor() / 500.0, label)
        })
        .unzip()
}

#[test]
fn metrics_equal_those_of_scikit_learn() {
    let golden: BTreeMap<String, f64> = serde_json::from_str(include_str!("scikit_learn.json")).unwrap();
    let (scores, labels) = drawn(20_000);
    let metrics = Metrics::of(&scores, &labels, 0.7).unwrap();
    let ours = [
        ("precision", metrics.precision),
        ("recall", metrics.recall),
        ("f1", metrics.f1),
        ("average_precision", metrics.average_precision.unwrap()),
        ("roc_auc", metrics.roc_auc.unwrap()),
        ("brier", metrics.brier),
        ("log_loss", metrics.log_loss),
    ];
    assert_eq!(golden.len(), ours.len() + 1);
    assert_eq!(golden["positives"], metrics.positives as f64);
    for (name, value) in ours {
        assert!((golden[name] - value).abs() < 1e-12, "{name}: {value} where scikit-learn has {}", golden[name]);
    }
}
