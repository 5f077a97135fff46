//! Learning from labelled rows: families of models, their evaluation, and the choice among them.
//!
//! Everything here is pure: the same samples, settings and seeds give the same bits, whatever the number of threads.

mod data;
mod error;

pub use data::{Classifier, Contributions, Samples, Scale};
pub use error::ModelError;
