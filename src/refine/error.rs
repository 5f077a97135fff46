use datafusion::error::DataFusionError;

use super::{TableDef, Told};
use crate::domain::HistoryError;

/// A SQL file (or a reference list beside it) that cannot be used. The pipeline does not start with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}{}: {problem}", at(*line), at(*column))]
pub struct SqlFileError {
    pub file: String,
    /// From 1; 0 for the file or folder as a whole.
    pub line: usize,
    /// From 1; 0 where only the line is known.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl SqlFileError {
    pub(crate) fn new(file: &str, line: usize, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, column: 0, problem: problem.into() }
    }

    /// An error in the header that belongs to no line of its own.
    pub(super) fn in_header(def: &TableDef, problem: impl Into<String>) -> Self {
        Self::new(&def.file, 1, problem)
    }

    /// An error of the SQL parser or planner, whose lines count from `sql_line`.
    pub(crate) fn in_sql(file: &str, sql_line: usize, error: &DataFusionError) -> Self {
        let told = Told::new(error);
        let mut placed = Self::new(file, sql_line + told.line.unwrap_or(1) - 1, told.problem);
        placed.column = told.column.unwrap_or(0);
        placed
    }
}

fn at(number: usize) -> String {
    if number == 0 { String::new() } else { format!(":{number}") }
}

/// A batch could not be refined. Nothing of it has been taken into the caches.
#[derive(Debug, thiserror::Error)]
pub enum RefineError {
    /// The batch is not one of the source for which the table was compiled: an error of the caller.
    #[error("{table}: the batch does not have the columns of the table's source: {detail}")]
    Schema { table: String, detail: String },
    /// The SQL fails on some rows, and the table has no quarantine to send them to.
    #[error(
        "{table}: the SQL fails on {rows} rows, the first at {place}: {cause}; correct {file}, or name a quarantine table in it"
    )]
    Evaluate { table: String, file: String, rows: u64, place: String, cause: String },
    /// An expectation with `on_fail = "fail"` is broken.
    #[error(
        "{table}: {rows} rows break the expectation `{expectation}`, the first at {place}; it is set to fail, so nothing of this epoch is stored: correct the data, or set its on_fail to quarantine in {file}"
    )]
    Refused { table: String, file: String, expectation: String, rows: u64, place: String },
    #[error(transparent)]
    History(#[from] HistoryError),
}
