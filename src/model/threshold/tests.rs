use proptest::prelude::*;

use super::*;

fn choose(scores: &[f64], labels: &[u8], gate: Gate) -> Threshold {
    let labels: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
    Threshold::choose(&Ranking::new(scores, &labels).unwrap(), &gate).unwrap()
}

#[test]
fn the_best_f1_within_the_gate_comes_before_the_best_f1() {
    // From the top: P 1/1 R 1/4 F .40; 2/2 .50 .67; 2/3; 3/4 .75 F .75; 3/5; 4/6 R 1 F .80 (the best, P .67).
    let scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];
    let labels = [1, 1, 0, 1, 0, 1, 0];
    let strict = Gate { precision_min: 0.75, recall_min: 0.70, f1_min: 0.75 };
    let chosen = choose(&scores, &labels, strict);
    assert!((chosen.score - 0.55).abs() < 1e-12 && chosen.passes);
    assert_eq!((chosen.confusion.precision(), chosen.confusion.recall()), (0.75, 0.75));
    let out_of_reach = choose(&scores, &labels, Gate { precision_min: 0.9, ..strict });
    assert!((out_of_reach.score - 0.35).abs() < 1e-12 && !out_of_reach.passes);
    assert!(!choose(&scores, &labels, Gate { f1_min: 0.76, ..strict }).passes);
}

#[test]
fn nothing_to_find_never_passes() {
    assert!(!choose(&[0.1, 0.9], &[0, 0], Gate::default()).passes);
    assert!(choose(&[0.1, 0.9], &[0, 1], Gate::default()).passes);
    assert_eq!(choose(&[0.5, 0.5], &[0, 1], Gate::default()).score, 0.5);
}

proptest! {
    #[test]
    fn the_threshold_gives_what_it_says_and_none_is_better(
        rows in prop::collection::vec((0_u8..20, any::<bool>()), 1..60),
        precision_min in 0.0..1.0,
        recall_min in 0.0..1.0,
    ) {
        let scores: Vec<f64> = rows.iter().map(|&(score, _)| f64::from(score) / 19.0).collect();
        let labels: Vec<bool> = rows.iter().map(|&(_, label)| label).collect();
        let gate = Gate { precision_min, recall_min, f1_min: 0.0 };
        let chosen = Threshold::choose(&Ranking::new(&scores, &labels).unwrap(), &gate).unwrap();
        prop_assert_eq!(Confusion::at(chosen.score, &scores, &labels), chosen.confusion);
        for score in &scores {
            let other = Confusion::at(*score, &scores, &labels);
            let better = (gate.keeps_both(&other), other.f1()) > (gate.keeps_both(&chosen.confusion), chosen.confusion.f1());
            prop_assert!(!better);
        }
    }
}
