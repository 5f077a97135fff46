//! A source as seen by other threads.

use std::sync::{Arc, Mutex, Weak};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use super::DataLoss;
use crate::domain::{Partition, Positions};
use crate::source::context::{Context, lock};
use crate::source::native::cached_high_watermark;

/// Once the source is gone, it answers nothing and does nothing.
#[derive(Clone)]
pub struct KafkaHandle {
    pub(super) consumer: Weak<BaseConsumer<Context>>,
    pub(super) losses: Arc<Mutex<Vec<DataLoss>>>,
}

impl KafkaHandle {
    /// Tells the group how far the tables are, so that its tools show a lag. Failures are logged, nothing hangs on it.
    pub fn commit_telemetry(&self, positions: &Positions) {
        let Some(consumer) = self.consumer.upgrade() else { return };
        let mut list = TopicPartitionList::new();
        for partition in lock(&consumer.context().assigned).iter() {
            let Some(position) = positions.get(partition) else { continue };
            if let Err(error) =
                list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*position))
            {
                warn!(%partition, %error, "an offset cannot be told to the consumer group");
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, CommitMode::Async)
        {
            warn!(%error, "offsets could not be told to the consumer group; the tables have them all the same");
        }
    }

    /// Messages that are in Kafka and not handed over yet, by assigned partition; asks no broker.
    ///
    /// An upper bound where offsets have gaps. Partitions that were not fetched from yet are left out.
    #[must_use]
    pub fn lag(&self) -> Vec<(Partition, i64)> {
        let Some(consumer) = self.consumer.upgrade() else { return Vec::new() };
        let context = consumer.context();
        let assigned = lock(&context.assigned).clone();
        let positions = lock(&context.positions);
        let client = consumer.client().native_client();
        assigned
            .into_iter()
            .filter_map(|partition| {
                let high = cached_high_watermark(client, &partition.topic, partition.partition)?;
                let lag = (high - positions.get(&partition)?).max(0);
                Some((partition, lag))
            })
            .collect()
    }

    #[must_use]
    pub fn status(&self) -> KafkaStatus {
        let Some(consumer) = self.consumer.upgrade() else {
            return KafkaStatus { connected: false, assigned: 0, last_error: Some("the source is closed".to_owned()) };
        };
        let context = consumer.context();
        KafkaStatus {
            connected: context.connection.is_up(),
            assigned: lock(&context.assigned).len(),
            last_error: context.connection.last_error(),
        }
    }

    /// What was skipped so far because it was gone from Kafka.
    #[must_use]
    pub fn data_losses(&self) -> Vec<DataLoss> {
        lock(&self.losses).clone()
    }
}

/// Whether the brokers are reachable, for readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaStatus {
    pub connected: bool,
    /// Partitions that this member reads.
    pub assigned: usize,
    pub last_error: Option<String>,
}
