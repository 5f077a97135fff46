//! Rows for the tests of the families.

use linfa::traits::Fit;

use crate::model::random::Random;
use crate::model::{Classifier, ModelError, Samples};

/// One row in five is positive; being so depends on two features together, on the tail of a third, and on luck.
pub fn rows(count: usize, width: usize, seed: u64) -> Samples {
    let mut random = Random::new(seed, 0);
    let mut columns = vec![Vec::with_capacity(count); width];
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        columns.iter_mut().for_each(|column| column.push(random.unit() as f32));
        let last = |back: usize| columns[back].last().copied().unwrap_or(0.0);
        let is_mixed = (last(0) > 0.5) != (last(1) > 0.5);
        let chance = if last(2) > 0.95 || (is_mixed && last(2) > 0.6) { 0.85 } else { 0.03 };
        labels.push(random.unit() < chance);
    }
    let named = columns.into_iter().enumerate().map(|(index, column)| (format!("f{index}"), column));
    Samples::from_columns(named.collect(), labels, (0..count as i64).collect()).unwrap()
}

pub fn with_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

/// What holds for every model of every family.
pub fn check_classifier(model: &impl Classifier, samples: &Samples) {
    let all = model.probabilities(samples.records());
    assert_eq!(model.width(), samples.width());
    for (row, &probability) in samples.records().rows().into_iter().zip(&all) {
        let row = row.to_vec();
        assert_eq!(model.probability(&row).to_bits(), probability.to_bits());
        assert!((0.0..=1.0).contains(&probability));
        let total = model.contributions(&row).total();
        let output = match model.scale() {
            crate::model::Scale::LogOdds => (probability / (1.0 - probability)).ln(),
            crate::model::Scale::Probability => probability,
        };
        assert!((total - output).abs() < 1e-5, "{total} {output}");
    }
}

/// The share of pairs of a positive and a negative that stand in the right order.
pub fn ranking(model: &impl Classifier, samples: &Samples) -> f64 {
    let probabilities = model.probabilities(samples.records());
    let side = |wanted: bool| {
        let both = probabilities.iter().zip(samples.labels());
        both.filter(move |(_, label)| **label == wanted).map(|(&p, _)| p).collect::<Vec<f64>>()
    };
    let (positives, negatives) = (side(true), side(false));
    let right = |p: &f64| {
        negatives
            .iter()
            .map(|n| {
                if n < p {
                    1.0
                } else if n == p {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    positives.iter().map(right).sum::<f64>() / (positives.len() * negatives.len()) as f64
}

/// What no family of trees learns from.
pub fn check_refusals<P>(params: &P)
where
    P: for<'a> Fit<ndarray::ArrayView2<'a, f32>, ndarray::ArrayView1<'a, bool>, ModelError>,
{
    let samples = rows(100, 3, 1);
    let refusal = |samples: &Samples| params.fit(&samples.dataset()).err();
    for label in [false, true] {
        let same = samples.clone().with_labels(ndarray::Array1::from_elem(100, label)).unwrap();
        assert!(matches!(refusal(&same), Some(ModelError::OneClass { label: found, .. }) if found == label));
    }
    assert_eq!(refusal(&samples.select(&[]).unwrap()), Some(ModelError::Empty { what: "rows" }));
    let mut records = samples.records().to_owned();
    records[[17, 2]] = f32::NAN;
    let dataset = linfa::DatasetBase::new(records.view(), samples.labels());
    assert!(matches!(params.fit(&dataset).err(), Some(ModelError::NotFinite { row: 17, .. })));
}
