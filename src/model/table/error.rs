use thiserror::Error;

use crate::model::ModelError;

/// Why a table cannot be learned from or scored.
#[derive(Debug, Error)]
pub enum TableError {
    #[error("`{file}` cannot be read: {cause}")]
    Unreadable { file: String, cause: String },

    #[error("`{file}` has no format that can be told from its name; use .csv, .csv.gz or .parquet")]
    UnknownFormat { file: String },

    #[error("`{file}` changed while it was read; try again when it is complete")]
    Changed { file: String },

    #[error("{files}: there are no rows")]
    NoRows { files: String },

    #[error("`{file}` has the column `{column}` twice; rename or remove one of them")]
    DuplicateColumn { file: String, column: String },

    #[error("`{file}` has no column `{column}`, which {because} has")]
    MissingColumn { file: String, column: String, because: String },

    #[error("there is no column `{column}` {role}{hint} (columns: {columns})")]
    UnknownColumn { column: String, role: &'static str, hint: String, columns: String },

    #[error("`{file}`, row {row}: {found} cells where the header has {expected}; a quote or comma may be missing")]
    Ragged { file: String, row: usize, found: usize, expected: usize },

    /// `row` counts from 1, the header not counted.
    #[error("`{file}`, row {row}, column `{column}`: {value}, but must be {must_be}")]
    Cell { file: String, row: usize, column: String, value: String, must_be: String },

    #[error(
        "`{file}`, row {row}, column `{column}`: `{value}` is no number, though most of the column is: correct the \
         cell, empty it, or leave the column out with --ignore {column}"
    )]
    Mixed { file: String, row: usize, column: String, value: String },

    #[error("`{file}`: column `{column}` has the type {found}, but must be {must_be}")]
    Type { file: String, column: String, found: String, must_be: String },

    #[error("the column `{column}` is asked for as {one} and as {other}; it can be one of them only")]
    TwoRoles { column: String, one: &'static str, other: &'static str },

    #[error("the column `{column}` has {found} different values where a segment may have {max}; take a coarser one")]
    TooManySegments { column: String, found: usize, max: usize },

    #[error("no column is left to learn from: {left_out}")]
    NoFeatures { left_out: String },

    #[error(transparent)]
    Model(#[from] ModelError),
}
