//! What people see on a terminal: live progress, tables of results, and the closing summary.

mod ledger;
mod look;
#[macro_use]
mod out;
mod progress;
mod steps;
mod table;
#[cfg(test)]
mod tests;

pub use ledger::{Flow, Ledger, Risk, TableLine};
pub use look::{Look, Paint, instant, seconds, thousands};
pub use out::print;
pub use progress::{Goal, Mode, Screen, Snapshot};
pub use steps::Steps;
pub use table::render_table;
