//! A table is one SQL file. This room reads the files and runs them incrementally: batches in, batches and counts out.
//!
//! Pure and synchronous; what lies in the past is asked of a [`History`](crate::domain::History).
//!
//! [`Catalog`] reads the files, [`Refiner`] runs a `rows` table batch by batch, and [`run_batch`] runs a `window` table
//! over the whole of its source, as an independent check of the incremental engine.

mod batch_sql;
mod buckets;
mod catalog;
mod checks;
mod dedup;
mod definition;
mod duration;
mod error;
mod event_time;
mod expression;
pub mod functions;
mod key_hash;
mod lineage;
mod money;
mod planning;
mod references;
mod rows;
mod screening;
mod settings;
mod silver;
mod sql_error;
mod sql_file;
#[cfg(test)]
mod testing;
mod times;
mod trailing;
mod training;
pub mod window;

pub use batch_sql::{run_batch, run_over, window_view};
pub use catalog::{Catalog, SqlText};
pub use dedup::Dedup;
pub use definition::{Expectation, Mode, OnFail, TableDef, Trailing, WindowSpec};
pub use error::{RefineError, SqlFileError};
pub use lineage::{Lineage, Origin, origin};
pub use references::References;
pub use rows::RowsTable;
pub use screening::{Screened, Screening};
pub use settings::RefineSettings;
pub use silver::{EVALUATES, EVENT_TIME_PRESENT, Refined, Refiner};
pub use sql_error::{Told, in_words, shorten, split_position};
pub use sql_file::parse;
pub(crate) use sql_file::{Parsed, Split, check_query, is_plain, split};
pub use trailing::TrailingCount;
pub use training::TrainingDef;
