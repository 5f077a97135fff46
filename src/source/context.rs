//! What librdkafka calls back: rebalances, errors, statistics.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tracing::{info, warn};

use super::connection::{self, Connection};
use super::native::DataQueue;
use super::{KafkaSettings, SharedPositions, Start};
use crate::domain::Partition;

/// Starts each assigned partition at its position, inside the rebalance: no seek could race with the first fetch.
pub(super) struct Context {
    pub positions: SharedPositions,
    pub start: Start,
    pub connection: Connection,
    topics: Vec<String>,
    /// A topic that the group gave and nobody asked for.
    pub foreign: Mutex<Option<String>>,
    pub assigned: Mutex<BTreeSet<Partition>>,
    /// Weak, because the queue must be destroyed before the client that owns this context.
    pub queue: OnceLock<Weak<DataQueue>>,
}

impl Context {
    pub(super) fn new(settings: &KafkaSettings, positions: SharedPositions) -> Self {
        Self {
            positions,
            start: settings.start,
            connection: Connection::new(&settings.brokers),
            topics: settings.topics.clone(),
            foreign: Mutex::default(),
            assigned: Mutex::default(),
            queue: OnceLock::new(),
        }
    }

    pub(super) fn is_up(&self) {
        self.connection.answered();
    }

    pub(super) fn failed(&self, error: &KafkaError) {
        self.connection.met(error);
    }

    /// Gives the partitions their offsets and takes them on.
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        let is_asked = |topic: &str| self.topics.iter().any(|asked| asked == topic || asked.starts_with('^'));
        if let Some(element) = list.elements().iter().find(|element| !is_asked(element.topic())) {
            *lock(&self.foreign) = Some(element.topic().to_owned());
            return Ok(());
        }
        for mut element in list.elements() {
            let partition = Partition::new(element.topic(), element.partition());
            let position = lock(&self.positions).get(&partition).copied();
            let offset = position.map_or_else(|| self.start_offset(), Offset::Offset);
            element.set_offset(offset)?;
            info!(%partition, ?offset, "partition assigned");
        }
        self.attach(consumer, &partitions_of(list));
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            _ => {
                consumer.assign(list)?;
                lock(&self.assigned).clear();
            }
        }
        lock(&self.assigned).extend(partitions_of(list));
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        for partition in partitions_of(list) {
            info!(%partition, "partition revoked");
            lock(&self.assigned).remove(&partition);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => {
                lock(&self.assigned).clear();
                consumer.unassign()
            }
        }
    }

    /// Restarts one partition at its position, after librdkafka gave it up.
    pub(super) fn restart(&self, consumer: &BaseConsumer<Self>, partition: &Partition) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                list.add_partition(&partition.topic, partition.partition);
                consumer.incremental_unassign(&list)?;
            }
            _ => {
                for known in lock(&self.assigned).iter() {
                    list.add_partition(&known.topic, known.partition);
                }
            }
        }
        self.assign(consumer, &mut list)
    }

    pub(super) fn attach<'a>(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: impl IntoIterator<Item = &'a Partition>,
    ) {
        let Some(queue) = self.queue.get().and_then(Weak::upgrade) else { return };
        for partition in partitions {
            queue.attach(consumer.client().native_client(), &partition.topic, partition.partition);
        }
    }

    const fn start_offset(&self) -> Offset {
        match self.start {
            Start::Earliest => Offset::Beginning,
            Start::Latest => Offset::End,
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let done = self.assign(consumer, list);
                self.is_up();
                done
            }
            _ => self.revoke(consumer, list),
        };
        if let Err(error) = done {
            warn!(%error, "a rebalance could not be carried out");
            self.failed(&error);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            warn!(%error, "offsets could not be told to the consumer group; the tables have them all the same");
        }
    }
}

impl ClientContext for Context {
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

/// A lock whose holder panicked still holds consistent data: each critical section is one map operation.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(Arc::from(element.topic()), element.partition())).collect()
}
