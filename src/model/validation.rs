//! Predictions of rows by models that did not learn from them.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::trainer::{Progress, Stage};
use super::{Classifier, Family, Fold, Model, ModelError, Samples};

/// What the models of all folds say of their tests, one fold after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfFold {
    /// Row numbers of the samples.
    pub rows: Vec<usize>,
    /// The fold of each row, from 0.
    pub folds: Vec<usize>,
    /// What the model of that fold says of the row, not calibrated.
    pub scores: Vec<f64>,
    /// One model per fold.
    pub models: Vec<Model>,
}

/// One result per family. Folds and families are fitted side by side; the result does not depend on how.
///
/// # Errors
/// The first error of a fit.
pub fn out_of_fold(
    families: &[Family],
    samples: &Samples,
    folds: &[Fold],
    progress: &(dyn Fn(Progress) + Sync),
    stage: Stage,
) -> Result<Vec<OutOfFold>, ModelError> {
    // The folds that learn from most rows come first, so that no thread is left alone with one at the end.
    let tasks: Vec<(usize, usize)> =
        (0..folds.len()).rev().flat_map(|fold| (0..families.len()).map(move |family| (fold, family))).collect();
    let done = AtomicUsize::new(0);
    let of = tasks.len();
    let fitted = tasks
        .par_iter()
        .with_max_len(1)
        .map(|&(fold, family)| {
            let model = families[family].fit(&samples.select(&folds[fold].train)?)?;
            let scores = model.probabilities(samples.select(&folds[fold].test)?.records()).to_vec();
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(Progress { stage, family: Some(families[family].name()), done, of });
            Ok((model, scores))
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let mut results: Vec<OutOfFold> = families
        .iter()
        .map(|_| OutOfFold { rows: Vec::new(), folds: Vec::new(), scores: Vec::new(), models: Vec::new() })
        .collect();
    for ((fold, family), (model, scores)) in tasks.into_iter().zip(fitted).rev() {
        let result = &mut results[family];
        result.rows.extend(&folds[fold].test);
        result.folds.extend(std::iter::repeat_n(fold, scores.len()));
        result.scores.extend(scores);
        result.models.push(model);
    }
    Ok(results)
}
