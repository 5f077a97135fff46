//! A small search among settings of each family, on the oldest rows only, so that the folds judge what they did not choose.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::random::Random;
use super::trainer::{Progress, Stage};
use super::{Classifier, Family, FamilyName, Fold, ModelError, Ranking, Samples};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// Settings tried per family; 1 takes the default unsearched, 0 means all that are known.
    pub candidates_max: usize,
    /// Rows to learn from and to measure on, each at most, drawn by chance from more.
    pub rows_max: usize,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self { candidates_max: 0, rows_max: 60_000 }
    }
}

/// Settings that were tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub settings: Family,
    /// On rows after those that it learned from.
    pub average_precision: f64,
}

/// The best settings of a family, and all that were tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub family: Family,
    /// In the order tried; empty when nothing was searched.
    pub trials: Vec<Trial>,
}

/// One result per name. Learns and measures on the first fold alone.
///
/// # Errors
/// The first error of a fit.
pub fn search(
    names: &[FamilyName],
    samples: &Samples,
    first: &Fold,
    settings: &SearchSettings,
    seed: u64,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Found>, ModelError> {
    let candidates: Vec<Vec<Family>> = names
        .iter()
        .map(|&name| {
            let mut candidates = Family::candidates(name, seed);
            candidates.truncate(if settings.candidates_max == 0 { usize::MAX } else { settings.candidates_max });
            candidates
        })
        .collect();
    let tried: Vec<&Family> = candidates.iter().filter(|some| some.len() > 1).flatten().collect();
    let mut precisions = Vec::new();
    if !tried.is_empty() {
        let train = samples.select(&drawn(samples, &first.train, settings.rows_max, seed))?;
        let test = samples.select(&drawn(samples, &first.test, settings.rows_max, seed))?;
        precisions = measured(&tried, &train, &test, progress)?;
    }
    let mut precisions = precisions.into_iter();
    candidates
        .iter()
        .map(|candidates| {
            let trials: Vec<Trial> = if candidates.len() > 1 {
                candidates
                    .iter()
                    .cloned()
                    .zip(&mut precisions)
                    .map(|(settings, average_precision)| Trial { settings, average_precision })
                    .collect()
            } else {
                Vec::new()
            };
            // The first of equals: defaults stay where nothing speaks against them.
            let best =
                trials.iter().rev().max_by(|one, other| one.average_precision.total_cmp(&other.average_precision));
            let family = best.map(|trial| &trial.settings).or(candidates.first());
            Ok(Found { family: family.cloned().ok_or(ModelError::Empty { what: "settings" })?, trials })
        })
        .collect()
}

fn measured(
    tried: &[&Family],
    train: &Samples,
    test: &Samples,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<f64>, ModelError> {
    let labels = test.labels().to_vec();
    let done = std::sync::atomic::AtomicUsize::new(0);
    tried
        .par_iter()
        .with_max_len(1)
        .map(|family| {
            let scores = family.fit(train)?.probabilities(test.records()).to_vec();
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            progress(Progress { stage: Stage::Search, family: Some(family.name()), done, of: tried.len() });
            Ok(Ranking::new(&scores, &labels)?.average_precision().unwrap_or_default())
        })
        .collect()
}

/// At most so many of the rows, in the order of time, with the classes in proportion.
fn drawn(samples: &Samples, rows: &[usize], rows_max: usize, seed: u64) -> Vec<usize> {
    if rows.len() <= rows_max {
        return rows.to_vec();
    }
    let labels = samples.labels();
    let mut keep = vec![false; rows.len()];
    for class in [true, false] {
        let mut places: Vec<usize> = (0..rows.len()).filter(|&place| labels[rows[place]] == class).collect();
        let share = places.len() * rows_max / rows.len();
        Random::new(seed, u64::from(class)).shuffle(&mut places);
        places.iter().take(share.max(1)).for_each(|&place| keep[place] = true);
    }
    rows.iter().zip(keep).filter(|(_, keep)| *keep).map(|(&row, _)| row).collect()
}

#[cfg(test)]
mod tests;
