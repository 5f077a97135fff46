use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};

use crate::domain::TableName;

/// What is known of the past when a transaction comes by request.
///
/// Rows are told apart from each other: what stands beside a row in a batch is not its past. Nothing here may wait for
/// a disk: what is not in memory is not known. A source that asks over a network has a bound of its own, of milliseconds.
pub trait FeatureSource: Send + Sync {
    /// The columns that a table's header adds to rows of silver: its trailing counts, then its features, in the order of
    /// the header.
    ///
    /// # Errors
    /// Why none can be told.
    fn added(&self, table: &TableName, silver: &RecordBatch) -> Result<Added, String>;

    /// All that is known of rows, fetched at once; it is asked in the place of this source then. `None` of a source that
    /// holds everything in memory.
    fn fetch(&self, _silver: &RecordBatch) -> Option<Box<dyn FeatureSource>> {
        None
    }

    /// Whether to ask it may take long now: another process is asked, or rows of an epoch are being taken in.
    fn waits(&self) -> bool {
        false
    }

    /// Which state of the lake it knows.
    fn standing(&self) -> Standing;
}

/// What a header adds to rows.
#[derive(Debug, Clone)]
pub struct Added {
    pub columns: Vec<ArrayRef>,
    /// For each row whether it could not be told; empty when it could for all.
    pub unknown: Vec<bool>,
}

impl Added {
    /// Of counts alone: a row that has none is not known.
    #[must_use]
    pub fn counts(columns: Vec<ArrayRef>) -> Self {
        let mut unknown = Vec::new();
        for column in columns.iter().filter(|column| column.null_count() > 0) {
            unknown.resize(column.len(), false);
            unknown.iter_mut().enumerate().for_each(|(row, unknown)| *unknown |= column.is_null(row));
        }
        Self { columns, unknown }
    }
}

/// A complete epoch of the lake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// 0 before the first.
    pub epoch: i64,
    /// Microseconds since 1970; `None` before the first.
    pub published_at_us: Option<i64>,
}

/// A past in which nothing happened: each transaction is the first of its user.
#[derive(Debug, Clone)]
pub struct NoPast {
    /// How many counts each table has.
    pub counts: usize,
}

impl FeatureSource for NoPast {
    fn added(&self, _: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        let first: ArrayRef = Arc::new(Int64Array::from_value(1, silver.num_rows()));
        Ok(Added::counts(vec![first; self.counts]))
    }

    fn standing(&self) -> Standing {
        Standing::default()
    }
}

/// For several users of one source.
pub type SharedFeatures = Arc<dyn FeatureSource>;
