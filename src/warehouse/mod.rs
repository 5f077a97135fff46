//! The warehouse: tables of PostgreSQL that follow the lake epoch by epoch, each epoch exactly once.
//!
//! The only room that knows tokio-postgres. A transaction takes some whole epochs: it copies their rows, checks them, and
//! moves `assay_state` with them, so that whatever dies leaves the warehouse as the lake was at one complete epoch.

mod checks;
mod connect;
mod copy;
mod ddl;
mod definitions;
mod encode;
mod error;
mod file;
mod kind;
mod load;
mod plan;
mod security;
mod settings;
mod setup;
mod source;
mod state;

pub use checks::{Outcome, Severity};
pub use definitions::Definitions;
pub use error::WarehouseError;
pub use load::{Job, Options, Report, TableReport, load};
pub use settings::{SslMode, WarehouseSettings};
