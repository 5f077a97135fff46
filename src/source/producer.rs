use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::connection::{self, Connection};
use super::context::lock;
use super::kafka::setting_error;
use super::{KafkaSettings, SharedPositions, SourceError};
use crate::domain::{Header, Partition};

/// What waits in the client at most; a full queue holds the caller back.
const QUEUE_KIB: u32 = 64 << 10;
const QUEUE_MESSAGES: u32 = 200_000;
/// As librdkafka has it: brokers take a little more by default.
const MESSAGE_BYTES_MAX: u32 = 1_000_000;
/// Messages between two looks at delivery reports.
const POLL_EVERY: u64 = 1_000;

/// Between two looks whether everything is acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_millis(1);

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// `None` lets the key decide.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    pub timestamp_ms: Option<i64>,
    pub headers: &'a [Header],
}

/// An idempotent producer with a bounded queue: messages of a partition arrive in order and once.
pub struct Producer {
    producer: BaseProducer<Deliveries>,
    sent: u64,
}

impl Producer {
    /// # Errors
    /// [`SourceError::Setting`] when the brokers or a property cannot work. An unreachable broker is no error.
    pub fn open(settings: &KafkaSettings) -> Result<Self, SourceError> {
        Self::open_for(settings, MESSAGE_BYTES_MAX)
    }

    /// For messages of up to so many bytes; what a topic takes, its brokers say.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_for(settings: &KafkaSettings, message_bytes_max: u32) -> Result<Self, SourceError> {
        let mut config = settings.client_config();
        let mut default = |key: &str, value: &str| {
            if !settings.properties.contains_key(key) {
                config.set(key, value);
            }
        };
        default("enable.idempotence", "true");
        default("compression.type", "lz4");
        default("linger.ms", "5");
        default("batch.size", "262144");
        default("batch.num.messages", "10000");
        default("queue.buffering.max.kbytes", &QUEUE_KIB.to_string());
        default("queue.buffering.max.messages", &QUEUE_MESSAGES.to_string());
        default("message.max.bytes", &message_bytes_max.to_string());
        default("delivery.report.only.error", "true");
        default("statistics.interval.ms", "5000");
        let deliveries = Deliveries {
            failed: AtomicU64::new(0),
            first: Mutex::default(),
            connection: Connection::new(&settings.brokers),
        };
        let producer = config.create_with_context(deliveries).map_err(setting_error)?;
        Ok(Self { producer, sent: 0 })
    }

    /// Connects to the brokers of a topic beforehand, so that its first message need not wait for it. Gives up after
    /// `wait`: who is away is connected to later.
    pub fn connect(&self, topic: &str, wait: Duration) {
        if let Err(error) = self.producer.client().fetch_metadata(Some(topic), wait) {
            tracing::info!(topic, cause = %error, "the brokers of the topic are not known yet");
        }
    }

    /// Queues a message; waits while the queue is full.
    ///
    /// # Errors
    /// When the message cannot be sent at all (too large, an unknown partition), or earlier ones were not delivered.
    pub fn send(&mut self, message: &Outgoing<'_>) -> Result<(), SourceError> {
        self.sent += 1;
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.serve(Duration::ZERO)?;
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(message.topic);
        record.partition = message.partition;
        record.key = message.key;
        record.payload = message.payload;
        record.timestamp = message.timestamp_ms;
        record.headers = native_headers(message.headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.serve(Duration::from_millis(5))?;
                }
                Err((error, _)) => return Err(SourceError::Undelivered { failed: 1, cause: error.to_string() }),
            }
        }
    }

    /// Waits until `pace` lets another message into `partition`, then sends. Returns false when `stop` said so first.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_paced(
        &mut self,
        message: &Outgoing<'_>,
        partition: i32,
        pace: &mut Pace,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, SourceError> {
        while !pace.has_room(partition) {
            if stop() {
                return Ok(false);
            }
            self.serve(Duration::from_millis(1))?;
        }
        self.send(message)?;
        pace.sent(partition);
        Ok(true)
    }

    /// Serves delivery reports for up to `wait`.
    ///
    /// # Errors
    /// [`SourceError::Undelivered`] when messages were refused.
    pub fn serve(&self, wait: Duration) -> Result<(), SourceError> {
        self.producer.poll(wait);
        self.producer.context().result()
    }

    /// Waits for up to `wait` until everything is acknowledged; gives whether it is.
    ///
    /// # Errors
    /// [`SourceError::Undelivered`] when messages were refused.
    pub fn settled(&self, wait: Duration) -> Result<bool, SourceError> {
        let flushed = self.acknowledged(wait);
        self.producer.context().result()?;
        Ok(flushed.is_ok())
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// [`SourceError::Undelivered`] when messages were refused or are still waiting after `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), SourceError> {
        let flushed = self.acknowledged(timeout);
        self.producer.context().result()?;
        flushed.map_err(|error| SourceError::Undelivered {
            failed: u64::try_from(self.producer.in_flight_count()).unwrap_or(0),
            cause: error.to_string(),
        })
    }

    /// As rust-rdkafka's `flush`, which looks every 100 ms where only failures are reported; its `poll` of a millisecond does
    /// not wait at all.
    #[expect(clippy::disallowed_methods, reason = "nothing tells of a delivery, and it has a deadline")]
    fn acknowledged(&self, wait: Duration) -> KafkaResult<()> {
        let until = Instant::now().checked_add(wait);
        loop {
            match self.producer.flush(Duration::ZERO) {
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut))
                    if until.is_none_or(|until| Instant::now() < until) =>
                {
                    std::thread::sleep(ACKNOWLEDGED);
                    self.producer.poll(Duration::ZERO);
                }
                done => return done,
            }
        }
    }
}

/// Holds a producer back so that a broker which keeps little loses nothing: at most so many messages of a partition are
/// ahead of its reader.
#[derive(Debug)]
pub struct Pace {
    topic: String,
    positions: SharedPositions,
    in_flight_max: i64,
    /// By partition: the next offset, and up to which offset there is room by the last look at the reader.
    partitions: Vec<(i64, i64)>,
}

impl Pace {
    /// For a topic that was empty at first; `positions` are those of its reader.
    #[must_use]
    pub fn new(topic: impl Into<String>, positions: SharedPositions, in_flight_max: u32) -> Self {
        Self { topic: topic.into(), positions, in_flight_max: in_flight_max.into(), partitions: Vec::new() }
    }

    /// Whether the reader has come far enough for another message.
    pub fn has_room(&mut self, partition: i32) -> bool {
        let (in_flight_max, Ok(index)) = (self.in_flight_max, usize::try_from(partition)) else { return false };
        if self.partitions.len() <= index {
            self.partitions.resize(index + 1, (0, 0));
        }
        let Some((next, limit)) = self.partitions.get_mut(index) else { return false };
        if *next >= *limit {
            let key = Partition::new(self.topic.as_str(), partition);
            *limit = lock(&self.positions).get(&key).copied().unwrap_or(0) + in_flight_max;
        }
        *next < *limit
    }

    /// Counts a message that was sent.
    pub fn sent(&mut self, partition: i32) {
        if let Some((next, _)) = usize::try_from(partition).ok().and_then(|index| self.partitions.get_mut(index)) {
            *next += 1;
        }
    }
}

struct Deliveries {
    failed: AtomicU64,
    first: Mutex<Option<String>>,
    connection: Connection,
}

impl Deliveries {
    fn result(&self) -> Result<(), SourceError> {
        let failed = self.failed.load(Ordering::Relaxed);
        if failed == 0 {
            return Ok(());
        }
        let cause = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        Err(SourceError::Undelivered { failed, cause })
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connection::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.connection.failed(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.connection.statistics(statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            lock(&self.first).get_or_insert_with(|| error.to_string());
        }
    }
}

fn native_headers(headers: &[Header]) -> Option<OwnedHeaders> {
    (!headers.is_empty()).then(|| {
        headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |list, header| {
            list.insert(rdkafka::message::Header { key: &header.name, value: header.value.as_ref() })
        })
    })
}
