//! Where messages come from: Kafka behind one trait of micro-batches, and files.
//!
//! [`KafkaSource`] reads topics from exactly the positions it is given, [`FileReader`] reads CSV, JSON lines and Parquet.
//! [`Producer`] and [`EmbeddedBroker`] are the other side: for the generator, the demo and the tests.

mod connection;
mod context;
mod embedded;
mod error;
pub mod file;
mod kafka;
mod native;
mod producer;
mod settings;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use embedded::EmbeddedBroker;
pub use error::SourceError;
pub use file::{FileBatch, FileFormat, FileOptions, FileReader, IdentifiedFile, ParsedRows, Progress};
pub use kafka::{DataLoss, KafkaHandle, KafkaSource, KafkaStatus, SharedPositions, end_offsets};
pub use producer::{Outgoing, Pace, Producer};
pub use settings::{KafkaSettings, OnDataLoss, Start};

use crate::domain::MessageBatch;

/// A source of messages, polled in a loop by one thread that does nothing else.
pub trait Source: Send {
    /// The next micro-batch: what arrives within `timeout`, and once something did, within some 20 ms of it.
    ///
    /// A batch is never empty, and is bounded by the source's own settings.
    ///
    /// # Errors
    /// When the source cannot go on without its operator. A broker that is away for a while is no error.
    fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError>;
}

/// What one call of [`Source::poll`] found.
#[derive(Debug)]
pub enum Polled {
    Batch(MessageBatch),
    /// Nothing arrived in time.
    Idle,
    /// A bounded source has handed over everything.
    End,
}
