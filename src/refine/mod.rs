//! A table is one SQL file. This room reads the files and runs them incrementally: batches in, batches and counts out.
//!
//! Pure and synchronous; what lies in the past is asked of a [`History`](crate::domain::History).

mod definition;
pub mod window;

pub use definition::{Expectation, Mode, OnFail, TableDef, Trailing, WindowSpec};
