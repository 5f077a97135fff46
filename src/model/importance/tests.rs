use super::*;
use crate::model::{Contributions, Scale};

/// Reads the first feature only.
struct First;

impl Classifier for First {
    fn width(&self) -> usize {
        2
    }

    fn probability(&self, row: &[f32]) -> f64 {
        f64::from(row[0])
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        Contributions { base: 0.0, features: vec![f64::from(row[0]), 0.0] }
    }

    fn scale(&self) -> Scale {
        Scale::Probability
    }
}

fn samples(rows: usize) -> Samples {
    let labels: Vec<bool> = (0..rows).map(|row| row % 10 == 0).collect();
    let first = labels.iter().map(|&label| if label { 0.9 } else { 0.1 }).collect();
    let second = (0..rows).map(|row| row as f32).collect();
    Samples::from_columns(vec![("idle".to_owned(), second), ("used".to_owned(), first)], labels, vec![0; rows]).unwrap()
}

#[test]
fn only_what_the_model_reads_is_important() {
    let all = samples(1_000);
    let swapped = Samples::from_columns(
        vec![
            ("used".to_owned(), all.records().column(1).to_vec()),
            ("idle".to_owned(), all.records().column(0).to_vec()),
        ],
        all.labels().to_vec(),
        vec![0; 1_000],
    )
    .unwrap();
    let settings = ImportanceSettings::default();
    let found = permutation_importance(&First, &swapped, &settings, 1).unwrap();
    assert_eq!((found[0].feature.as_str(), found[1].feature.as_str()), ("used", "idle"));
    // Shuffled, a tenth of the frauds stays on top: precision 1 falls to about 0.1 · 0.1 + 0.9 · 0.1.
    assert!((found[0].loss.mean - 0.9).abs() < 0.05, "{found:?}");
    assert_eq!(found[1].loss, Spread::default());
    assert_eq!(found, permutation_importance(&First, &swapped, &settings, 1).unwrap());
    let few = ImportanceSettings { rows_max: 100, ..settings };
    assert_eq!(permutation_importance(&First, &swapped, &few, 1).unwrap()[0].feature, "used");
    let none = ImportanceSettings { repeats: 0, ..settings };
    assert_eq!(permutation_importance(&First, &swapped, &none, 1).unwrap(), []);
    let other = Samples::from_columns(vec![("a".to_owned(), vec![1.0])], vec![true], vec![0]).unwrap();
    assert!(permutation_importance(&First, &other, &settings, 1).is_err());
}
