use std::collections::BTreeMap;

use serde::Serialize;

use super::divergence::psi_parts;
use super::{Baseline, DAY_US, DriftSettings, HOUR_US, Histogram, jensen_shannon, psi, psi_by_chance};
use crate::model::table::Table;

/// In the place of a column: the probability that the model gives.
pub const SCORE: &str = "(score)";

/// Instants from `from_us` up to `to_us`, the latter excluded; microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    pub from_us: i64,
    pub to_us: i64,
}

impl Span {
    #[must_use]
    pub const fn contains(&self, at_us: i64) -> bool {
        self.from_us <= at_us && at_us < self.to_us
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.from_us >= self.to_us
    }
}

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// Any seven days in a row: each weekday once.
    Week,
    Day,
    Hour,
}

impl Grain {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Week => "week",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    const fn micros(self) -> i64 {
        match self {
            Self::Week => 7 * DAY_US,
            Self::Day => DAY_US,
            Self::Hour => HOUR_US,
        }
    }
}

/// What is to be thought of a window of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Stable,
    /// At the lower threshold, or above it.
    Watch,
    /// At the upper threshold, or above it.
    Act,
    /// Too few rows to tell.
    FewRows,
    /// The feature follows from the time of the row alone, or is the score of a model that reads such a one: only weeks are
    /// like each other.
    Calendar,
}

impl Status {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Watch => "watch",
            Self::Act => "act",
            Self::FewRows => "few_rows",
            Self::Calendar => "calendar",
        }
    }
}

/// A feature, or the score, in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    pub grain: Grain,
    pub window: Span,
    /// The column, or [`SCORE`].
    pub feature: String,
    pub rows: u64,
    /// The share of rows without a value.
    pub missing: f64,
    /// Absent without rows.
    pub psi: Option<f64>,
    /// In bits, 0 to 1.
    pub jensen_shannon: Option<f64>,
    /// The index to expect where nothing changed.
    pub psi_by_chance: Option<f64>,
    /// The bin that adds most to the index: what it holds, and its share before and now.
    pub largest_change: Option<String>,
    pub status: Status,
    /// Rows in each bin.
    pub counts: Vec<u64>,
}

/// Counts rows by the hour of their event time, in memory that depends on hours and columns alone.
#[derive(Debug, Clone)]
pub struct Watch<'a> {
    baseline: &'a Baseline,
    hours: BTreeMap<i64, Tally>,
}

/// One vector of counts for each column, and one for the score.
#[derive(Debug, Clone, Default)]
struct Tally {
    rows: u64,
    features: Vec<Vec<u64>>,
}

impl Tally {
    fn new(baseline: &Baseline) -> Self {
        Self { rows: 0, features: histograms(baseline).map(|(_, of)| vec![0; of.counts.len()]).collect() }
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        for (all, more) in self.features.iter_mut().zip(&other.features) {
            all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        }
    }
}

/// The columns, then the score.
fn histograms(baseline: &Baseline) -> impl Iterator<Item = (&str, &Histogram)> {
    let columns = baseline.columns.iter().map(|of| (of.column.as_str(), &of.histogram));
    columns.chain([(SCORE, &baseline.score)])
}

impl<'a> Watch<'a> {
    #[must_use]
    pub fn new(baseline: &'a Baseline) -> Self {
        Self { baseline, hours: BTreeMap::new() }
    }

    /// Counts the rows of a table within `span`, each with its event time and what the model says of it.
    ///
    /// # Errors
    /// In words, when a column is not there or of another kind.
    pub fn count(&mut self, table: &Table, times_us: &[i64], probabilities: &[f64], span: Span) -> Result<(), String> {
        let hour = |row: usize| times_us.get(row).filter(|at| span.contains(**at)).map(|at| at.div_euclid(HOUR_US));
        let hours: Vec<Option<i64>> = (0..table.rows()).map(hour).collect();
        let baseline = self.baseline;
        for hour in hours.iter().flatten() {
            self.hours.entry(*hour).or_insert_with(|| Tally::new(baseline)).rows += 1;
        }
        for (place, (name, of)) in histograms(baseline).enumerate() {
            let mut add = |row: usize, bin: usize| {
                let tally = hours.get(row).copied().flatten().and_then(|hour| self.hours.get_mut(&hour));
                if let Some(count) = tally.and_then(|tally| tally.features.get_mut(place)?.get_mut(bin)) {
                    *count += 1;
                }
            };
            if name == SCORE {
                probabilities.iter().enumerate().for_each(|(row, value)| add(row, of.bins.of_number(*value)));
                continue;
            }
            let column = table.columns.iter().find(|column| column.name == name);
            let column = column.ok_or_else(|| format!("the column `{name}` is not there"))?;
            of.bins.tally(&column.cells, add).map_err(|problem| format!("the column `{name}`: {problem}"))?;
        }
        Ok(())
    }

    fn days(&self, first: i64, count: i64) -> Tally {
        let mut whole = Tally::new(self.baseline);
        self.hours.range(first * 24..(first + count) * 24).for_each(|(_, hour)| whole.add(hour));
        whole
    }

    /// Each feature in each week and day of `span`, also in those without rows, and in each of its hours that has rows.
    /// Features named in `calendar`, and the score if there are any, are judged by weeks alone.
    #[must_use]
    pub fn measure(&self, span: Span, settings: &DriftSettings, calendar: &[String]) -> Vec<Measured> {
        let mut windows: Vec<(Grain, i64, Tally)> = Vec::new();
        for day in span.from_us.div_euclid(DAY_US)..span.to_us.div_euclid(DAY_US) {
            windows.push((Grain::Day, day * DAY_US, self.days(day, 1)));
            if (day - 6) * DAY_US >= span.from_us {
                windows.push((Grain::Week, (day - 6) * DAY_US, self.days(day - 6, 7)));
            }
        }
        let hours = self.hours.range(span.from_us.div_euclid(HOUR_US)..span.to_us.div_euclid(HOUR_US));
        windows.extend(hours.map(|(hour, tally)| (Grain::Hour, hour * HOUR_US, tally.clone())));
        let in_window = |(grain, from_us, tally): &(Grain, i64, Tally)| -> Vec<Measured> {
            let window = Span { from_us: *from_us, to_us: from_us + grain.micros() };
            let features = histograms(self.baseline).zip(&tally.features);
            features
                .map(|((name, of), counts)| {
                    let follows = calendar.iter().any(|known| known == name) || name == SCORE && !calendar.is_empty();
                    let calendar = follows && *grain != Grain::Week;
                    measured(*grain, window, name, of, counts, settings, calendar)
                })
                .collect()
        };
        windows.iter().flat_map(in_window).collect()
    }
}

fn measured(
    grain: Grain,
    window: Span,
    name: &str,
    of: &Histogram,
    counts: &[u64],
    settings: &DriftSettings,
    calendar: bool,
) -> Measured {
    let rows: u64 = counts.iter().sum();
    let psi = psi(&of.counts, counts);
    let status = match psi {
        _ if calendar => Status::Calendar,
        Some(psi) if rows >= settings.rows_min => {
            if psi >= settings.psi_act {
                Status::Act
            } else if psi >= settings.psi_watch {
                Status::Watch
            } else {
                Status::Stable
            }
        }
        _ => Status::FewRows,
    };
    Measured {
        grain,
        window,
        feature: name.to_owned(),
        rows,
        missing: counts.last().map_or(0.0, |missing| *missing as f64 / rows.max(1) as f64),
        psi,
        jensen_shannon: jensen_shannon(&of.counts, counts),
        psi_by_chance: psi_by_chance(&of.counts, counts),
        largest_change: largest_change(of, counts),
        status,
        counts: counts.to_vec(),
    }
}

fn largest_change(of: &Histogram, counts: &[u64]) -> Option<String> {
    let parts = psi_parts(&of.counts, counts)?;
    let (bin, _) =
        parts.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1)).filter(|(_, of)| **of > 0.0)?;
    let share =
        |counts: &[u64]| 100.0 * *counts.get(bin).unwrap_or(&0) as f64 / counts.iter().sum::<u64>().max(1) as f64;
    Some(format!("{}: {:.1}% before, {:.1}% now", of.bins.label(bin), share(&of.counts), share(counts)))
}

#[cfg(test)]
mod tests;
