//! Whether the rows of now are like those that a model learned from.
//!
//! A model keeps a [`Baseline`]: a histogram of each column that it reads over the rows that it learned from, and one of
//! its scores on the rows after these. A [`Watch`] counts other rows into the same bins, by hour, day and week, and
//! [`measure`](Watch::measure)s how far they are off. A [`LiveQuality`] compares decisions with the labels that came since.

mod baseline;
mod bins;
mod divergence;
mod quality;
mod settings;
mod watch;

pub use baseline::{BASELINE_FORMAT, Baseline, ColumnBaseline};
pub use bins::{Bins, Histogram};
pub use divergence::{jensen_shannon, psi, psi_by_chance};
pub use quality::{DayQuality, LiveQuality};
pub use settings::DriftSettings;
pub use watch::{Grain, Measured, SCORE, Span, Status, Watch};

pub(crate) const HOUR_US: i64 = 3_600_000_000;
pub(crate) const DAY_US: i64 = 24 * HOUR_US;
