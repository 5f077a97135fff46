//! Kafka topics, read from exactly the positions that the lake holds.

mod handle;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, Headers};
use tracing::{debug, warn};

use super::connection::{Asking, Connection};
use super::context::{Context, lock};
use super::native::{DataQueue, Fetched, Item};
use super::{KafkaSettings, OnDataLoss, Polled, Source, SourceError};
use crate::domain::{Header, MessageBatchBuilder, Partition, Positions};

pub use handle::{KafkaHandle, KafkaStatus};

/// The next offset to read of each partition: from the lake at first, then moved on as messages are handed over.
pub type SharedPositions = Arc<Mutex<Positions>>;

/// How long a batch may wait for more messages once it has one, and how often an idle source looks after its group.
const LINGER: Duration = Duration::from_millis(20);
/// Busy polls between two repairs of the partitions' forwarding.
const REATTACH_POLLS: u32 = 64;
/// While a topic is not there, a person hears of it so often.
const REMIND_EVERY: Duration = Duration::from_secs(30);
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(5);

/// A member of a consumer group. Offsets in the group are telemetry; the positions are the truth.
pub struct KafkaSource {
    // The queue goes first: it must be destroyed before its client.
    queue: Arc<DataQueue>,
    consumer: Arc<BaseConsumer<Context>>,
    settings: KafkaSettings,
    /// Bounded mode: the end offsets when it was asked for.
    ends: Option<Positions>,
    /// Partitions that librdkafka stopped because their offset is out of range.
    stopped: Vec<Partition>,
    /// An error that came after messages which must be handed over first.
    failure: Option<SourceError>,
    losses: Arc<Mutex<Vec<DataLoss>>>,
    polls: u32,
    /// Messages and bytes of the last batch: what to reserve for the next.
    expected: (usize, usize),
    /// When it was last told that a topic is not there.
    missing: Option<Instant>,
}

/// Offsets that were gone before they were read, skipped because `on_data_loss = "continue"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataLoss {
    pub partition: Partition,
    /// The first offset that is gone.
    pub from: i64,
    /// The offset where reading went on.
    pub to: i64,
}

impl KafkaSource {
    /// Joins the group and subscribes; partitions start at `positions`, unknown ones where the settings say.
    ///
    /// # Errors
    /// [`SourceError::Setting`] when the settings or their properties cannot work. An unreachable broker is no error.
    pub fn open(settings: KafkaSettings, positions: SharedPositions) -> Result<Self, SourceError> {
        settings.check()?;
        let config = settings.consumer_config();
        let context = Context::new(&settings, positions);
        let consumer: BaseConsumer<Context> = config.create_with_context(context).map_err(setting_error)?;
        let queue = DataQueue::new(consumer.client().native_client())
            .map(Arc::new)
            .ok_or_else(|| SourceError::Fatal { cause: "no queue could be made".to_owned() })?;
        let _ = consumer.context().queue.set(Arc::downgrade(&queue));
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(setting_error)?;
        Ok(Self {
            queue,
            consumer: Arc::new(consumer),
            settings,
            ends: None,
            stopped: Vec::new(),
            failure: None,
            losses: Arc::default(),
            polls: 0,
            expected: (0, 0),
            missing: None,
        })
    }

    /// From now on [`Source::poll`] answers [`Polled::End`] once every partition of the topics has reached the offset at
    /// which it ends now.
    ///
    /// # Errors
    /// [`SourceError::UnknownTopic`], or [`SourceError::Unavailable`] when the brokers do not answer in `timeout`.
    pub fn until_end(&mut self, timeout: Duration) -> Result<(), SourceError> {
        self.ends = Some(fetch_end_offsets(&self.consumer, &self.settings, timeout)?);
        Ok(())
    }

    /// Takes the bound of [`until_end`](Self::until_end) away again.
    pub fn follow(&mut self) {
        self.ends = None;
    }

    /// What other threads may ask.
    #[must_use]
    pub fn handle(&self) -> KafkaHandle {
        KafkaHandle { consumer: Arc::downgrade(&self.consumer), losses: self.losses.clone() }
    }

    fn context(&self) -> &Context {
        self.consumer.context()
    }

    /// Serves rebalances, errors and statistics, and takes messages that came before their partition was attached.
    fn serve(&mut self, batch: &mut Handover) {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            batch.settle();
            match event {
                Ok(message) => batch.push(Fetched {
                    topic: message.topic(),
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp_ms: message.timestamp().to_millis(),
                    key: message.key(),
                    payload: message.payload(),
                    headers: message.headers().map(copy_headers).unwrap_or_default(),
                }),
                Err(KafkaError::PartitionEOF(_)) => self.context().is_up(),
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                    self.failure = Some(SourceError::Fatal { cause: error.to_string() });
                }
                Err(error) => self.note(&error),
            }
        }
        batch.settle();
    }

    fn note(&mut self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            // Told without its partition: any one may be meant.
            Some(RDKafkaErrorCode::AutoOffsetReset) => {
                let assigned = lock(&self.context().assigned).clone();
                self.stopped.extend(assigned);
            }
            Some(code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed)) => {
                self.failure = Some(SourceError::Setting {
                    key: "properties".to_owned(),
                    cause: format!("the brokers refuse this client: {code}"),
                });
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                self.context().failed(error);
                if self.missing.is_none() {
                    self.tell_missing();
                }
            }
            _ => self.context().failed(error),
        }
    }

    /// Says now and then that a topic is not there; the client says it once.
    fn remind(&mut self) {
        let Some(told) = self.missing else { return };
        if !lock(&self.context().assigned).is_empty() {
            self.missing = None;
        } else if told.elapsed() >= REMIND_EVERY {
            self.tell_missing();
        }
    }

    fn tell_missing(&mut self) {
        #[allow(clippy::disallowed_methods, reason = "when a person was told, not data")]
        let now = Instant::now();
        self.missing = Some(now);
        warn!(
            brokers = self.settings.brokers,
            topics = self.settings.topics.join(", "),
            "Kafka does not have the topic: create it there, or correct --topic (kafka.topics); it is waited for"
        );
    }

    /// Takes a chunk of the queue. What waits in the client's own queue is older and goes before it: a partition gets
    /// there between its assignment and the repair of its forwarding, and a message behind its successor counts as read.
    fn drain(&mut self, wait: Duration, batch: &mut Handover) -> usize {
        let entries = self.queue.take(self.consumer.client().native_client(), wait);
        self.serve(batch);
        let (mut ended, mut failed) = (Vec::new(), Vec::new());
        for entry in &entries {
            match entry.item() {
                Item::Message(message) => batch.push(message),
                Item::Error { topic, partition, offset, code: RDKafkaErrorCode::PartitionEOF, .. } => {
                    ended.push((Partition::new(topic, partition), offset));
                }
                Item::Error { topic, partition, code, text, .. } => {
                    failed.push((Partition::new(topic, partition), code, text));
                }
            }
        }
        let count = entries.len();
        if count > failed.len() {
            self.context().is_up();
        }
        batch.settle();
        for (partition, offset) in ended {
            batch.advance(partition, offset);
        }
        for (partition, code, text) in failed {
            match code {
                RDKafkaErrorCode::AutoOffsetReset => self.stopped.push(partition),
                RDKafkaErrorCode::Fatal => self.failure = Some(SourceError::Fatal { cause: text }),
                _ => {
                    let error = KafkaError::MessageConsumption(code);
                    warn!(%partition, %error, text, "Kafka fetch");
                    self.note(&error);
                }
            }
        }
        count
    }

    /// Restarts partitions whose offset was out of range, or says why not.
    fn restart_stopped(&mut self) -> Result<(), SourceError> {
        while let Some(partition) = self.stopped.last().cloned() {
            if !lock(&self.context().assigned).contains(&partition) {
                self.stopped.pop();
                continue;
            }
            let marks = self.consumer.fetch_watermarks(&partition.topic, partition.partition, WATERMARK_TIMEOUT);
            let (earliest, latest) = match marks {
                Ok(marks) => marks,
                // Asked again at the next poll; the broker may be on its way back.
                Err(error) => {
                    self.context().failed(&error);
                    return Ok(());
                }
            };
            let position = lock(&self.context().positions).get(&partition).copied();
            if let Some(position) = position {
                if position > latest {
                    return Err(SourceError::BeyondEnd { partition, position, latest });
                }
                if position < earliest {
                    self.skip_lost(&partition, position, earliest)?;
                }
            }
            if let Err(error) = self.context().restart(&self.consumer, &partition) {
                return Err(SourceError::Fatal { cause: error.to_string() });
            }
            self.stopped.retain(|other| *other != partition);
        }
        Ok(())
    }

    fn skip_lost(&self, partition: &Partition, position: i64, earliest: i64) -> Result<(), SourceError> {
        if self.settings.on_data_loss == OnDataLoss::Fail {
            return Err(SourceError::DataLoss { partition: partition.clone(), position, earliest });
        }
        warn!(%partition, position, earliest, skipped = earliest - position, "data loss: offsets are gone from Kafka");
        lock(&self.context().positions).insert(partition.clone(), earliest);
        lock(&self.losses).push(DataLoss { partition: partition.clone(), from: position, to: earliest });
        Ok(())
    }

    /// Whether bounded mode has read everything that it promised.
    fn at_end(&self) -> bool {
        let Some(ends) = &self.ends else { return false };
        // Of all partitions, not only the assigned ones: after a crash the group may still count a dead member in, and
        // its partitions come here once its session is over.
        let positions = lock(&self.context().positions);
        ends.iter()
            .all(|(partition, end)| *end == 0 || positions.get(partition).is_some_and(|position| position >= end))
    }

    fn keep_attached(&mut self) {
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(REATTACH_POLLS) {
            self.attach();
        }
    }

    fn attach(&self) {
        let assigned = lock(&self.context().assigned).clone();
        self.context().attach(&self.consumer, &assigned);
    }

    /// A group whose members read different topics takes the assignment of a static member for that of its successor.
    fn foreign(&self, topic: &str) -> SourceError {
        let KafkaSettings { group_id, instance_id, topics, .. } = &self.settings;
        let cause = format!(
            "the group `{group_id}` gives `{instance_id}` the partitions of {topic}, and it reads {}: another process was \
             that member; give it another group or instance id, or wait until its session has ended",
            topics.join(", ")
        );
        SourceError::Setting { key: "instance_id".to_owned(), cause }
    }

    fn is_full(&self, batch: &Handover) -> bool {
        batch.builder.len() >= self.settings.batch_messages || batch.builder.bytes() >= self.settings.batch_bytes
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError> {
        #[allow(clippy::disallowed_methods, reason = "a deadline for the network, not data")]
        let started = Instant::now();
        let mut batch = Handover::new(self.context().positions.clone(), self.expected);
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if let Some(topic) = lock(&self.context().foreign).take() {
                return Err(self.foreign(&topic));
            }
            if let Err(error) = self.restart_stopped() {
                self.failure = Some(error);
            }
            self.keep_attached();
            let patient = batch.is_empty() && self.failure.is_none();
            let mut wait = if patient { LINGER.min(timeout.saturating_sub(started.elapsed())) } else { Duration::ZERO };
            while self.drain(wait, &mut batch) == DataQueue::chunk() && !self.is_full(&batch) {
                wait = Duration::ZERO;
            }
            if !batch.is_empty() {
                self.expected = (batch.builder.len(), batch.builder.bytes());
                return Ok(Polled::Batch(batch.builder.finish()));
            }
            if self.failure.is_none() && self.stopped.is_empty() && self.at_end() {
                return Ok(Polled::End);
            }
            if self.failure.is_none() && started.elapsed() >= timeout {
                self.remind();
                return Ok(Polled::Idle);
            }
        }
    }
}

/// The batch being filled, and how far each of its partitions is read.
struct Handover {
    builder: MessageBatchBuilder,
    expected: (usize, usize),
    positions: SharedPositions,
    run: Option<Run>,
}

/// Messages of one partition in a row: its position is written back once for all of them.
struct Run {
    partition: Partition,
    next: i64,
}

impl Handover {
    fn new(positions: SharedPositions, expected: (usize, usize)) -> Self {
        Self { builder: MessageBatchBuilder::default(), expected, positions, run: None }
    }

    fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    fn push(&mut self, message: Fetched<'_>) {
        if self.builder.is_empty() {
            self.builder = MessageBatchBuilder::with_capacity(self.expected.0, self.expected.1);
        }
        let same = |run: &Run| run.partition.partition == message.partition && *run.partition.topic == *message.topic;
        let mut run = match self.run.take() {
            Some(run) if same(&run) => run,
            other => {
                self.run = other;
                self.settle();
                let partition = Partition::new(message.topic, message.partition);
                let next = lock(&self.positions).get(&partition).copied().unwrap_or(0);
                Run { partition, next }
            }
        };
        if message.offset < run.next {
            debug!(partition = %run.partition, offset = message.offset, "a message that was handed over already");
        } else {
            run.next = message.offset + 1;
            let Fetched { topic, partition, offset, timestamp_ms, key, payload, headers } = message;
            self.builder.push(topic, partition, offset, timestamp_ms, key, payload, headers);
        }
        self.run = Some(run);
    }

    /// Writes the position of the current run back.
    fn settle(&mut self) {
        if let Some(run) = self.run.take() {
            lock(&self.positions).insert(run.partition, run.next);
        }
    }

    /// Everything below `offset` has been handed over or never was a message.
    fn advance(&mut self, partition: Partition, offset: i64) {
        self.settle();
        let mut positions = lock(&self.positions);
        let position = positions.entry(partition).or_insert(offset);
        *position = offset.max(*position);
    }
}

/// The end offset of every partition of the settings' topics, by asking the brokers.
///
/// # Errors
/// [`SourceError::UnknownTopic`], or [`SourceError::Unavailable`] when the brokers do not answer in `timeout`.
pub fn end_offsets(settings: &KafkaSettings, timeout: Duration) -> Result<Positions, SourceError> {
    settings.check()?;
    let context = Asking(Connection::new(&settings.brokers));
    let consumer: BaseConsumer<Asking> =
        settings.client_config().create_with_context(context).map_err(setting_error)?;
    fetch_end_offsets(&consumer, settings, timeout)
}

fn fetch_end_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    settings: &KafkaSettings,
    timeout: Duration,
) -> Result<Positions, SourceError> {
    let unavailable = |action: &'static str, error: &KafkaError| SourceError::Unavailable {
        brokers: settings.brokers.clone(),
        action,
        cause: error.to_string(),
    };
    let mut ends = Positions::new();
    for name in &settings.topics {
        let metadata =
            consumer.fetch_metadata(Some(name), timeout).map_err(|error| unavailable("list partitions", &error))?;
        for topic in metadata.topics() {
            if topic.error().is_some() || topic.partitions().is_empty() {
                return Err(SourceError::UnknownTopic { topic: name.clone(), brokers: settings.brokers.clone() });
            }
            for partition in topic.partitions() {
                let end = end_offset(consumer, name, partition.id(), timeout)
                    .map_err(|error| unavailable("tell an end offset", &error))?;
                ends.insert(Partition::new(name.as_str(), partition.id()), end);
            }
        }
    }
    Ok(ends)
}

/// Asks until `timeout`: a partition that was just made, or whose broker just came back, has no leader for a moment.
fn end_offset<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<i64, KafkaError> {
    #[allow(clippy::disallowed_methods, reason = "a deadline for the network, not data")]
    let started = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, timeout) {
            Ok((_, end)) => return Ok(end),
            Err(error) if started.elapsed() >= timeout => return Err(error),
            Err(_) => {
                #[expect(clippy::disallowed_methods, reason = "a leader is elected in real time")]
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

fn copy_headers(headers: &BorrowedHeaders) -> Vec<Header> {
    headers
        .iter()
        .map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) })
        .collect()
}

pub(super) fn setting_error(error: KafkaError) -> SourceError {
    match error {
        KafkaError::ClientConfig(_, cause, key, _) => SourceError::Setting { key: format!("properties.{key}"), cause },
        other => SourceError::Setting { key: "properties".to_owned(), cause: other.to_string() },
    }
}
