use serde::{Deserialize, Serialize};

use super::{Bins, Histogram};
use crate::model::TrainReport;
use crate::model::table::{Encoding, FeatureKind};

/// How a baseline is laid out; another number is not read.
pub const BASELINE_FORMAT: u32 = 1;

/// What a model is compared with later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    pub format: u32,
    /// The instants of the oldest and the newest row that was learned from, in microseconds since 1970.
    pub from_us: i64,
    pub to_us: i64,
    /// Of the rows that were learned from, in the order of the model's columns.
    pub columns: Vec<ColumnBaseline>,
    /// What the model said of the rows that came after those: of rows that it learned from it is surer than of any other.
    pub score: Histogram,
}

/// The histogram of a column, as it is before it becomes features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnBaseline {
    pub column: String,
    pub histogram: Histogram,
}

impl Baseline {
    /// Of a run: the columns that were learned from, and the probabilities of later rows.
    #[must_use]
    pub fn of(report: &TrainReport, columns: Vec<ColumnBaseline>, unseen: &[f64]) -> Self {
        let learned_from = report.data.development;
        let (from_us, to_us) = (learned_from.from_us, learned_from.to_us);
        Self { format: BASELINE_FORMAT, from_us, to_us, columns, score: Histogram::of_numbers(unseen) }
    }

    /// # Errors
    /// When a number cannot be written.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// # Errors
    /// In words, when it is not what was written, or not of a model that reads these columns.
    pub fn read(bytes: &[u8], encoding: &Encoding) -> Result<Self, String> {
        /// Looked at before the rest, which another format may hold differently.
        #[derive(Deserialize)]
        struct Outline {
            format: u32,
        }
        let outline: Outline = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        if outline.format != BASELINE_FORMAT {
            return Err(format!("it has format {}, and this assay reads format {BASELINE_FORMAT}", outline.format));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        let histograms = read.columns.iter().map(|of| &of.histogram).chain([&read.score]);
        if let Some(problem) = histograms.filter_map(Histogram::problem).next() {
            return Err(problem.to_owned());
        }
        let fits = read.columns.len() == encoding.columns.len()
            && read.columns.iter().zip(&encoding.columns).all(|(of, feature)| {
                let kind = matches!(
                    (&of.histogram.bins, &feature.kind),
                    (Bins::Number { .. }, FeatureKind::Number { .. } | FeatureKind::NumberTwice)
                        | (Bins::Boolean, FeatureKind::Boolean)
                        | (Bins::Category { .. }, FeatureKind::Category { .. })
                );
                of.column == feature.column && kind
            });
        if fits { Ok(read) } else { Err("its columns are not those of the model".to_owned()) }
    }
}
