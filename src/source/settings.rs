use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::Deserialize;

use super::SourceError;

/// Where a partition without a position starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
}

/// What to do when Kafka no longer holds the next offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDataLoss {
    /// Refuse to go on.
    #[default]
    Fail,
    /// Go on at the earliest offset, and report what is gone.
    Continue,
}

/// How to read topics: `[kafka]` in `assay.toml`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    pub topics: Vec<String>,
    /// The consumer group. Positions come from the lake; the group shares out partitions and shows the lag.
    pub group_id: String,
    /// A process that is started anew under this name takes its partitions back at once, also after it was killed
    /// (Kafka's static membership). Empty: the group waits for the session of a killed process to end.
    pub instance_id: String,
    pub start: Start,
    pub on_data_loss: OnDataLoss,
    /// `cooperative-sticky` (partitions that stay are not interrupted) or `range`.
    pub assignment: String,
    /// A member that is silent for so long loses its partitions.
    pub session_timeout_ms: u32,
    /// A member that does not poll for so long loses its partitions; longer than the slowest epoch.
    pub max_poll_interval_ms: u32,
    /// Messages of one micro-batch.
    pub batch_messages: usize,
    /// Bytes of one micro-batch; the last 1,024 messages may go beyond.
    pub batch_bytes: usize,
    /// What the client holds ahead of us, compressed batches included.
    pub queue_kib: u32,
    /// How long the broker waits for a byte when there is nothing to fetch.
    pub fetch_wait_ms: u32,
    /// What one fetch brings of one partition.
    pub fetch_partition_bytes: u32,
    /// Passed to librdkafka as they are: `security.protocol`, `sasl.*`, `ssl.*` and the rest.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topics: vec!["ecommerce.transactions".to_owned()],
            group_id: "assay".to_owned(),
            instance_id: String::new(),
            start: Start::Earliest,
            on_data_loss: OnDataLoss::Fail,
            assignment: "cooperative-sticky".to_owned(),
            session_timeout_ms: 45_000,
            max_poll_interval_ms: 600_000,
            batch_messages: 16_384,
            batch_bytes: 8 << 20,
            queue_kib: 64 << 10,
            fetch_wait_ms: 100,
            fetch_partition_bytes: 2 << 20,
            properties: BTreeMap::new(),
        }
    }
}

/// Properties that exactly-once hangs on, or that have a setting of their own.
const OWN_PROPERTIES: [&str; 9] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "auto.offset.reset",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "partition.assignment.strategy",
];

impl KafkaSettings {
    /// # Errors
    /// [`SourceError::Setting`] for the first setting that cannot work.
    pub fn check(&self) -> Result<(), SourceError> {
        let refuse =
            |key: &str, cause: &str| Err(SourceError::Setting { key: key.to_owned(), cause: cause.to_owned() });
        if self.brokers.trim().is_empty() {
            return refuse("brokers", "is empty; give host:port, several separated by commas");
        }
        if self.topics.is_empty() || self.topics.iter().any(|topic| topic.trim().is_empty()) {
            return refuse("topics", "must name at least one topic, and no empty one");
        }
        if self.group_id.trim().is_empty() {
            return refuse("group_id", "is empty; give this pipeline's consumer group a name");
        }
        if self.batch_messages == 0 || self.batch_bytes == 0 {
            return refuse("batch_messages and kafka.batch_bytes", "must be at least 1");
        }
        if !matches!(self.assignment.as_str(), "cooperative-sticky" | "range" | "roundrobin") {
            return refuse("assignment", "must be `cooperative-sticky`, `range` or `roundrobin`");
        }
        match self.properties.keys().find(|key| OWN_PROPERTIES.contains(&key.as_str())) {
            Some(key) => refuse(&format!("properties.{key}"), "is set by assay itself; remove it here"),
            None => Ok(()),
        }
    }

    /// The client's configuration without a group: for metadata, watermarks and producers.
    pub(super) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "assay")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }

    pub(super) fn consumer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        let mut default = |key: &str, value: String| {
            if !self.properties.contains_key(key) {
                config.set(key, value);
            }
        };
        default("group.id", self.group_id.clone());
        if !self.instance_id.is_empty() {
            default("group.instance.id", self.instance_id.clone());
        }
        default("partition.assignment.strategy", self.assignment.clone());
        default("auto.offset.reset", "error".to_owned());
        default("enable.auto.commit", "false".to_owned());
        default("enable.auto.offset.store", "false".to_owned());
        default("enable.partition.eof", "true".to_owned());
        default("session.timeout.ms", self.session_timeout_ms.to_string());
        default("heartbeat.interval.ms", (self.session_timeout_ms / 10).clamp(100, 3_000).to_string());
        default("max.poll.interval.ms", self.max_poll_interval_ms.max(self.session_timeout_ms).to_string());
        default("queued.max.messages.kbytes", self.queue_kib.to_string());
        // After a full queue librdkafka would sit out a second by default, which starves a fast reader.
        default("fetch.queue.backoff.ms", "5".to_owned());
        default("fetch.error.backoff.ms", "50".to_owned());
        default("fetch.wait.max.ms", self.fetch_wait_ms.to_string());
        default("max.partition.fetch.bytes", self.fetch_partition_bytes.to_string());
        default("check.crcs", "true".to_owned());
        default("statistics.interval.ms", "5000".to_owned());
        config
    }
}

/// Values of properties may be secrets: only their names are shown.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("group_id", &self.group_id)
            .field("start", &self.start)
            .field("on_data_loss", &self.on_data_loss)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
