//! What jobs find out about models, as rows of the tables `ml.*`.

mod columns;
mod trained;
mod watched;

use arrow::array::RecordBatch;

pub use trained::{models, runs};
pub use watched::{WatchedOf, drift, performance};

/// Rows of a table of records, with what the table is.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// In the layer `ml`.
    pub table: &'static str,
    pub about: &'static str,
    /// Tells rows apart.
    pub key: &'static [&'static str],
    pub rows: RecordBatch,
}
