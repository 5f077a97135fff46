use rdkafka::ClientConfig;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaType;

use super::SourceError;
use super::native::MockCluster;

/// A Kafka broker inside this process: librdkafka's mock cluster, listening on the loopback interface.
///
/// It speaks the real protocol, consumer groups included, but forgets everything with the process and silently drops what is
/// older than about 5 MB or 100,000 produce requests of a partition. Producers must follow the consumer: see [`Pace`](super::Pace).
pub struct EmbeddedBroker {
    client: Client<DefaultClientContext>,
    bootstrap_servers: String,
}

impl EmbeddedBroker {
    /// Starts a broker with the given topics, each with its number of partitions (at least 1).
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when the loopback interface cannot be listened on, or a topic has a bad name.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, SourceError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1").set_log_level(RDKafkaLogLevel::Error);
        let native = config.create_native_config().map_err(|error| unavailable("be started", &error))?;
        let client = Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext)
            .map_err(|error| unavailable("be started", &error))?;
        let bootstrap_servers = {
            let cluster = cluster(&client)?;
            cluster.set_rebalance_delay(0);
            for (topic, partitions) in topics {
                cluster.create_topic(topic, *partitions).map_err(|code| unavailable("create a topic", &code))?;
            }
            cluster.bootstrap_servers()
        };
        Ok(Self { client, bootstrap_servers })
    }

    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Cuts all connections and refuses new ones.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when the broker thread is gone.
    pub fn go_down(&self) -> Result<(), SourceError> {
        cluster(&self.client)?.set_up(false).map_err(|code| unavailable("go down", &code))
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when the broker thread is gone.
    pub fn come_up(&self) -> Result<(), SourceError> {
        cluster(&self.client)?.set_up(true).map_err(|code| unavailable("come up", &code))
    }
}

fn cluster(client: &Client<DefaultClientContext>) -> Result<MockCluster<'_>, SourceError> {
    MockCluster::of(client).ok_or_else(|| unavailable("be started", &RDKafkaErrorCode::Fail))
}

fn unavailable(action: &'static str, cause: &dyn std::fmt::Display) -> SourceError {
    SourceError::Unavailable { brokers: "the embedded broker".to_owned(), action, cause: cause.to_string() }
}
