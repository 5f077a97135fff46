//! Window tables: plain SQL aggregates over windows of event time, kept incrementally and exactly.
//!
//! [`WindowTable::compile`] lets DataFusion plan the SQL and takes the plan apart: what stands below the aggregate is
//! evaluated once a batch for all tables ([`evaluate`]), what stands above it once a result row ([`output`]).
//! A table's state is cut into panes, one for each slide; a window is the sum of its panes. Strings and numbers in keys
//! and in `count(DISTINCT …)` are small codes ([`intern`]) shared by all tables; distinct pairs are stored once, in the
//! pane where they occur, in four to eight bytes ([`pairs`], [`packed`]).
//!
//! All state is a cache of the source's history: panes that are not in memory are loaded from it.

mod accumulate;
mod aggregates;
mod changes;
mod compile;
mod engine;
mod error;
mod evaluate;
mod frozen;
mod groups;
mod growth;
mod intern;
mod numbers;
mod output;
mod packed;
mod pairs;
mod pane;
mod plan;
mod refuse;
mod state;
mod tags;
#[cfg(test)]
mod tests;
mod texts;
mod totals;

pub use changes::{Phase, Restated, TableChanges, TakePart};
pub use engine::{WindowEngine, WindowSettings, late_rows};
pub use error::{Place, WindowError};
pub use plan::WindowTable;
