//! Models as files of ONNX: a version of ours for other runtimes, and models of other tools for the registry.

mod error;
mod export;
mod graph;
mod import;
mod proto;

pub use error::OnnxError;
pub use export::{DECISION, PROBABILITY, export};
pub use import::{Imported, import};

#[cfg(test)]
mod tests;
