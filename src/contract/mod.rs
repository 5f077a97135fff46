//! What a message has to look like, and how it becomes a row: contracts, the schema registry, and decoding to Arrow.
//!
//! A [`Contract`] is a folder's Avro schemas of one name, one file per version. A [`Decoder`] turns a batch of messages
//! into one Arrow batch of the latest version's columns plus a list of the messages refused, each with its reason.
//! Everything here is pure and synchronous but for the [`Registry`].

mod avro;
mod columns;
mod decoder;
mod definition;
mod error;
mod field;
mod json;
mod json_scan;
mod lookup;
mod registry;
mod resolve;
mod schema;

pub use decoder::{Decoded, Decoder, Format, Rejected};
pub use definition::Contract;
pub use error::{ContractError, Problem};
pub use lookup::{LocalSchemas, Lookup, SchemaLookup};
pub use registry::{Registry, RegistryError, RegistrySettings, Secret};

#[cfg(test)]
mod tests;
