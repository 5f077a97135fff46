//! Which rows to learn from and which to measure on.

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::random::Random;

/// Rows by number, each list in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
}

/// Folds that learn from the past and are measured on what came after it, as in use.
///
/// The rows are cut at instants, so that rows of one instant are never on both sides. The first part only trains; the
/// rest is cut into parts with about as many rows each, and each is the test of one fold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeFolds {
    /// How many parts are tested.
    pub folds: usize,
    /// The share of the rows that is never tested: enough for a first model that resembles the last.
    pub first_train_share: f64,
    /// Learn from this span before the gap only, in hours; 0 learns from all that came before.
    pub train_hours: u32,
}

impl Default for TimeFolds {
    fn default() -> Self {
        Self { folds: 5, first_train_share: 0.4, train_hours: 0 }
    }
}

const HOUR_US: i64 = 3_600_000_000;

impl TimeFolds {
    /// `gap_us` is the time a label takes to arrive: rows younger than that, seen from the start of a test, are not
    /// learned from.
    ///
    /// # Errors
    /// When a setting is out of range, or a fold is left without rows: there are too few, too many share an instant,
    /// or they span less time than the gap needs.
    pub fn split(&self, times_us: &[i64], gap_us: i64) -> Result<Vec<Fold>, ModelError> {
        if self.folds == 0 {
            return Err(parameter("folds", self.folds.to_string(), "1 or more"));
        }
        if !(self.first_train_share > 0.0 && self.first_train_share < 1.0) {
            return Err(parameter("first_train_share", self.first_train_share.to_string(), "above 0 and below 1"));
        }
        let order = by_time(times_us);
        let cuts: Vec<usize> = (0..=self.folds)
            .map(|part| {
                let tested = part as f64 / self.folds as f64;
                let share = self.first_train_share + (1.0 - self.first_train_share) * tested;
                cut_at(&order, times_us, share)
            })
            .collect();
        cuts.windows(2)
            .enumerate()
            .map(|(fold, cut)| self.fold(&order, times_us, gap_us, fold, (cut[0], cut[1])))
            .collect()
    }

    fn fold(
        &self,
        order: &[usize],
        times_us: &[i64],
        gap_us: i64,
        fold: usize,
        (from, to): (usize, usize),
    ) -> Result<Fold, ModelError> {
        let Some(&first) = order[from..to].first() else {
            return Err(ModelError::Fold { fold, reason: "no rows to test on: give more rows or fewer folds" });
        };
        let known_us = times_us[first].saturating_sub(gap_us.max(0));
        let since_us = match self.train_hours {
            0 => i64::MIN,
            hours => known_us.saturating_sub(i64::from(hours) * HOUR_US),
        };
        let train: Vec<usize> = order[..from]
            .iter()
            .copied()
            .filter(|&row| times_us[row] < known_us && times_us[row] >= since_us)
            .collect();
        if train.is_empty() {
            return Err(ModelError::Fold {
                fold,
                reason: "no rows to learn from before the gap: give a longer span or a shorter label delay",
            });
        }
        Ok(Fold { train, test: order[from..to].to_vec() })
    }
}

/// The newest `share` of the rows to test on, and what is older than the gap before them to learn from.
///
/// # Errors
/// When the share is not between 0 and 1, or a side is left without rows.
pub fn newest(times_us: &[i64], gap_us: i64, share: f64) -> Result<Fold, ModelError> {
    if !(share > 0.0 && share < 1.0) {
        return Err(parameter("test_share", share.to_string(), "above 0 and below 1"));
    }
    let folds = TimeFolds { folds: 1, first_train_share: 1.0 - share, train_hours: 0 };
    folds.split(times_us, gap_us)?.pop().ok_or(ModelError::Empty { what: "rows" })
}

/// Folds drawn by chance, each with the same share of positives. They tell less than folds in time: what is learned
/// from the future flatters.
///
/// # Errors
/// When there are fewer than two folds, or a class has fewer rows than there are folds.
pub fn stratified(times_us: &[i64], labels: &[bool], folds: usize, seed: u64) -> Result<Vec<Fold>, ModelError> {
    if folds < 2 {
        return Err(parameter("stratified_folds", folds.to_string(), "2 or more"));
    }
    if times_us.len() != labels.len() {
        return Err(ModelError::Length { what: "the labels", expected: times_us.len(), found: labels.len() });
    }
    let order = by_time(times_us);
    let mut part = vec![0; labels.len()];
    let mut dealt = 0;
    for class in [true, false] {
        let mut rows: Vec<usize> = order.iter().copied().filter(|&row| labels[row] == class).collect();
        if rows.len() < folds {
            return Err(ModelError::Fold { fold: rows.len(), reason: "fewer rows of one class than folds" });
        }
        Random::new(seed, u64::from(class)).shuffle(&mut rows);
        for row in rows {
            part[row] = dealt % folds;
            dealt += 1;
        }
    }
    Ok((0..folds)
        .map(|fold| {
            let (test, train) = order.iter().copied().partition(|&row| part[row] == fold);
            Fold { train, test }
        })
        .collect())
}

/// The rows in the order of time; those of one instant as they were given.
#[must_use]
pub fn by_time(times_us: &[i64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..times_us.len()).collect();
    order.sort_by_key(|&row| times_us[row]);
    order
}

/// The first place at or after a share of the rows where a new instant begins.
fn cut_at(order: &[usize], times_us: &[i64], share: f64) -> usize {
    let place = (share * order.len() as f64).round() as usize;
    if place == 0 || place >= order.len() {
        return place.min(order.len());
    }
    let last_us = times_us[order[place - 1]];
    place + order[place..].partition_point(|&row| times_us[row] <= last_us)
}

fn parameter(parameter: &'static str, value: String, must_be: &'static str) -> ModelError {
    ModelError::Parameter { family: "folds", parameter, value, must_be }
}

#[cfg(test)]
mod tests;
