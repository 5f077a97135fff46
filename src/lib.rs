//! assay turns a Kafka topic of transactions into a lakehouse that can be trusted.
//!
//! The rooms of the house, and who may use whom, are on the map in `ARCHITECTURE.md`.

pub mod contract;
pub mod domain;
pub mod features;
pub mod generate;
pub mod lake;
pub mod model;
pub mod online;
pub mod pipeline;
pub mod query;
pub mod refine;
pub mod scoring;
pub mod serve;
pub mod settings;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tracking;
pub mod warehouse;
