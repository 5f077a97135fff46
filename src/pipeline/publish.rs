//! Predictions of a stream, sent to a topic.

use std::time::Duration;

use super::error::PipelineError;
use crate::source::{KafkaSettings, Outgoing, Producer, SourceError};

/// Where messages go that are made from rows as they come.
pub trait Publish: Send {
    /// Takes a message; waits while too many are under way.
    ///
    /// # Errors
    /// When messages were refused.
    fn publish(&mut self, key: Option<&[u8]>, message: &[u8]) -> Result<(), PipelineError>;

    /// Waits until all messages are acknowledged, however long the brokers are away.
    ///
    /// # Errors
    /// As [`Publish::publish`].
    fn settle(&mut self) -> Result<(), PipelineError>;
}

/// A topic of Kafka. A message that was taken is sent until it is acknowledged or refused.
pub struct TopicPublisher {
    producer: Producer,
    topic: String,
}

/// A start waits no longer for brokers that are away.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(500);

impl TopicPublisher {
    /// # Errors
    /// As [`Producer::open`].
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<Self, SourceError> {
        let mut settings = settings.clone();
        // Brokers that are away are waited for, as they are for reading.
        settings.properties.entry("message.timeout.ms".to_owned()).or_insert_with(|| "0".to_owned());
        let producer = Producer::open(&settings)?;
        producer.connect(topic, CONNECT);
        Ok(Self { producer, topic: topic.to_owned() })
    }

    fn told(&self, error: &SourceError) -> PipelineError {
        PipelineError::State(format!(
            "predictions could not be sent to the topic {}: {error}; the epoch is not written, and the next start sends \
             them again (scoring.topic, or --predictions)",
            self.topic
        ))
    }
}

impl Publish for TopicPublisher {
    fn publish(&mut self, key: Option<&[u8]>, message: &[u8]) -> Result<(), PipelineError> {
        let message = Outgoing {
            topic: &self.topic,
            partition: None,
            key,
            payload: Some(message),
            timestamp_ms: None,
            headers: &[],
        };
        self.producer.send(&message).map_err(|error| self.told(&error))
    }

    fn settle(&mut self) -> Result<(), PipelineError> {
        while !self.producer.settled(LOOK).map_err(|error| self.told(&error))? {}
        Ok(())
    }
}
