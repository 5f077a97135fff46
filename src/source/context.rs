//! What librdkafka calls back: rebalances, errors, statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde::Deserialize;
use tracing::{info, warn};

use super::native::DataQueue;
use super::{SharedPositions, Start};
use crate::domain::Partition;

/// Starts each assigned partition at its position, inside the rebalance: no seek could race with the first fetch.
pub(super) struct Context {
    pub positions: SharedPositions,
    pub start: Start,
    pub connected: AtomicBool,
    pub last_error: Mutex<Option<String>>,
    pub assigned: Mutex<BTreeSet<Partition>>,
    /// Weak, because the queue must be destroyed before the client that owns this context.
    pub queue: OnceLock<Weak<DataQueue>>,
}

impl Context {
    pub(super) fn new(positions: SharedPositions, start: Start) -> Self {
        Self {
            positions,
            start,
            connected: AtomicBool::new(false),
            last_error: Mutex::new(None),
            assigned: Mutex::default(),
            queue: OnceLock::new(),
        }
    }

    pub(super) fn is_up(&self) {
        if !self.connected.swap(true, Ordering::Relaxed) {
            *lock(&self.last_error) = None;
        }
    }

    pub(super) fn failed(&self, error: &KafkaError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AllBrokersDown)) {
            self.connected.store(false, Ordering::Relaxed);
        }
        *lock(&self.last_error) = Some(if reason.is_empty() { error.to_string() } else { reason.to_owned() });
    }

    /// Gives the partitions their offsets and takes them on.
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
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
            self.failed(&error, "");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            warn!(%error, "offsets could not be told to the consumer group; the tables have them all the same");
        }
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, reason, "Kafka client");
        self.failed(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        #[derive(Deserialize)]
        struct Statistics {
            brokers: BTreeMap<String, Broker>,
        }
        #[derive(Deserialize)]
        struct Broker {
            nodeid: i32,
            state: String,
        }
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP") {
            self.is_up();
        }
    }
}

/// A lock whose holder panicked still holds consistent data: each critical section is one map operation.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(Arc::from(element.topic()), element.partition())).collect()
}
