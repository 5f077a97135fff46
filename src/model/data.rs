//! What models learn from, and what every fitted model can do.

use std::collections::HashSet;

use linfa::{Dataset, DatasetView};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Ix1, ShapeBuilder};

use super::ModelError;

/// Labelled rows: finite numbers in column-major order, one label and one time per row.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    features: Vec<String>,
    records: Array2<f32>,
    labels: Array1<bool>,
    times_us: Vec<i64>,
}

impl Samples {
    /// `records` is rows × features, in any layout (column-major is taken as it is, another one is copied); `times_us`
    /// is the event time of each row in microseconds since 1970, UTC.
    ///
    /// # Errors
    /// When the lengths differ, a value is not finite, or two features share a name. No rows at all are allowed.
    pub fn new(
        features: Vec<String>,
        records: Array2<f32>,
        labels: Array1<bool>,
        times_us: Vec<i64>,
    ) -> Result<Self, ModelError> {
        let length = |what, expected, found| {
            if expected == found { Ok(()) } else { Err(ModelError::Length { what, expected, found }) }
        };
        length("the list of feature names", records.ncols(), features.len())?;
        length("the column of labels", records.nrows(), labels.len())?;
        length("the column of times", records.nrows(), times_us.len())?;
        if features.is_empty() {
            return Err(ModelError::Empty { what: "features" });
        }
        let mut seen = HashSet::with_capacity(features.len());
        if let Some(name) = features.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(ModelError::DuplicateFeature { name: name.clone() });
        }
        for (feature, column) in features.iter().zip(records.columns()) {
            if let Some((row, &value)) = column.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(ModelError::NotFinite { feature: feature.clone(), row, value });
            }
        }
        Ok(Self { features, records: column_major(records), labels, times_us })
    }

    /// From one vector per feature.
    ///
    /// # Errors
    /// As [`Samples::new`], and when a column has another length than the labels.
    pub fn from_columns(
        columns: Vec<(String, Vec<f32>)>,
        labels: Vec<bool>,
        times_us: Vec<i64>,
    ) -> Result<Self, ModelError> {
        let (rows, width) = (labels.len(), columns.len());
        let mut names = Vec::with_capacity(width);
        let mut values = Vec::with_capacity(rows * width);
        for (name, column) in columns {
            if column.len() != rows {
                return Err(ModelError::Length { what: "a column", expected: rows, found: column.len() });
            }
            names.push(name);
            values.extend(column);
        }
        let records = Array2::from_shape_vec((rows, width).f(), values)
            .map_err(|error| ModelError::Linfa { reason: error.to_string() })?;
        Self::new(names, records, Array1::from_vec(labels), times_us)
    }

    /// The rows named, in the order named; a row may stand more than once.
    ///
    /// # Errors
    /// When a row is out of range.
    pub fn select(&self, rows: &[usize]) -> Result<Self, ModelError> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.rows()) {
            return Err(ModelError::RowOutOfRange { row, rows: self.rows() });
        }
        let mut records = Array2::zeros((rows.len(), self.width()).f());
        for (mut to, from) in records.columns_mut().into_iter().zip(self.records.columns()) {
            for (to, &row) in to.iter_mut().zip(rows) {
                *to = from[row];
            }
        }
        Ok(Self {
            features: self.features.clone(),
            records,
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            times_us: rows.iter().map(|&row| self.times_us[row]).collect(),
        })
    }

    /// The same values with other labels, for instance shuffled ones.
    ///
    /// # Errors
    /// When there is not one label per row.
    pub fn with_labels(self, labels: Array1<bool>) -> Result<Self, ModelError> {
        if labels.len() != self.rows() {
            return Err(ModelError::Length {
                what: "the column of labels",
                expected: self.rows(),
                found: labels.len(),
            });
        }
        Ok(Self { labels, ..self })
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.records.nrows()
    }

    /// The number of features.
    #[must_use]
    pub fn width(&self) -> usize {
        self.records.ncols()
    }

    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// Rows × features; each column is contiguous.
    #[must_use]
    pub fn records(&self) -> ArrayView2<'_, f32> {
        self.records.view()
    }

    #[must_use]
    pub fn labels(&self) -> ArrayView1<'_, bool> {
        self.labels.view()
    }

    /// Microseconds since 1970, UTC.
    #[must_use]
    pub fn times_us(&self) -> &[i64] {
        &self.times_us
    }

    #[must_use]
    pub fn positives(&self) -> usize {
        self.labels.iter().filter(|&&label| label).count()
    }

    /// For linfa, without a copy.
    #[must_use]
    pub fn dataset(&self) -> DatasetView<'_, f32, bool, Ix1> {
        DatasetView::new(self.records.view(), self.labels.view()).with_feature_names(self.features.clone())
    }
}

/// Without a copy; the times are left behind.
impl From<Samples> for Dataset<f32, bool, Ix1> {
    fn from(samples: Samples) -> Self {
        Dataset::new(samples.records, samples.labels).with_feature_names(samples.features)
    }
}

/// A fitted model that tells how likely a row is positive.
///
/// # Panics
/// Every method that takes rows may panic when they have another width than the model: check [`Classifier::width`] once,
/// where rows of unknown origin come in.
pub trait Classifier: Send + Sync {
    /// The number of features of a row.
    fn width(&self) -> usize;

    /// The probability of one row of [`Classifier::width`] values: without an allocation, and bit-identical with
    /// [`Classifier::probabilities`].
    fn probability(&self, row: &[f32]) -> f64;

    /// The probability of each row, in any layout.
    fn probabilities(&self, records: ArrayView2<'_, f32>) -> Array1<f64> {
        let mut row = vec![0.0; records.ncols()];
        records
            .axis_iter(Axis(0))
            .map(|values| {
                row.iter_mut().zip(values).for_each(|(to, &from)| *to = from);
                self.probability(&row)
            })
            .collect()
    }

    /// What each feature adds for one row, on the scale of [`Classifier::scale`].
    fn contributions(&self, row: &[f32]) -> Contributions;

    /// As [`Classifier::contributions`] for row after row, to the same bits.
    fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        rows.chunks_exact(self.width().max(1)).map(|row| self.contributions(row)).collect()
    }

    /// The scale in which contributions add up.
    fn scale(&self) -> Scale;
}

/// What contributions are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// base + Σ features = ln(p / (1 - p))
    LogOdds,
    /// base + Σ features = p
    Probability,
}

/// Why a row got its probability: `base + Σ features` is the output of the model on its [`Scale`], but for rounding.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Contributions {
    /// What the model says of a row of which nothing is known.
    pub base: f64,
    /// One per feature, in the order of the model's features.
    pub features: Vec<f64>,
}

impl Contributions {
    #[must_use]
    pub fn total(&self) -> f64 {
        self.base + self.features.iter().sum::<f64>()
    }
}

fn column_major(records: Array2<f32>) -> Array2<f32> {
    if records.t().is_standard_layout() {
        return records;
    }
    let mut columns = Array2::zeros(records.raw_dim().f());
    columns.assign(&records);
    columns
}

#[cfg(test)]
mod tests;
