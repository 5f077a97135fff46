use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One ordered sequence of messages: a partition of a Kafka topic, or a file (topic = its identity, partition 0).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl Partition {
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The next offset to read of each partition.
pub type Positions = BTreeMap<Partition, i64>;

/// The offsets that one epoch read of one partition: `[first, next)`, with gaps where Kafka has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    pub first: i64,
    pub next: i64,
    /// Messages actually read; less than `next - first` where compaction or transaction markers left gaps.
    pub messages: u64,
}

/// What one epoch read of each partition.
pub type Ranges = BTreeMap<Partition, OffsetRange>;
