use std::sync::Arc;

use super::{OffsetRange, Partition, Ranges};

/// A header of a Kafka message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: Option<Vec<u8>>,
}

/// One message of a [`MessageBatch`], borrowed from its buffer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub topic: &'a Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// The broker's or the producer's timestamp, in milliseconds since 1970; files have none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// `None` is a null payload (a tombstone).
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [Header],
}

#[derive(Debug, Clone)]
struct Entry {
    topic: u32,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<(usize, usize)>,
    payload: Option<(usize, usize)>,
    headers: Vec<Header>,
}

/// A bounded micro-batch of messages in the order in which they were read; all bytes lie in one buffer.
#[derive(Debug, Clone, Default)]
pub struct MessageBatch {
    topics: Vec<Arc<str>>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl MessageBatch {
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn get(&self, index: usize) -> Message<'_> {
        let entry = &self.entries[index];
        Message {
            topic: &self.topics[entry.topic as usize],
            partition: entry.partition,
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: entry.key.map(|(start, end)| &self.bytes[start..end]),
            payload: entry.payload.map(|(start, end)| &self.bytes[start..end]),
            headers: &entry.headers,
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The same messages by topic and partition, each partition's in the order in which they were read.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        let topics = &self.topics;
        let name = |entry: &Entry| topics.get(entry.topic as usize);
        self.entries.sort_by(|a, b| (name(a), a.partition).cmp(&(name(b), b.partition)));
        self
    }

    /// What this batch covers of each partition.
    #[must_use]
    pub fn ranges(&self) -> Ranges {
        let mut ranges = Ranges::new();
        let mut last: Option<(u32, i32, OffsetRange)> = None;
        let mut flush = |run: Option<(u32, i32, OffsetRange)>| {
            let Some((topic, partition, range)) = run else { return };
            let key = Partition::new(self.topics[topic as usize].clone(), partition);
            ranges
                .entry(key)
                .and_modify(|known: &mut OffsetRange| {
                    known.first = known.first.min(range.first);
                    known.next = known.next.max(range.next);
                    known.messages += range.messages;
                })
                .or_insert(range);
        };
        for entry in &self.entries {
            match &mut last {
                Some((topic, partition, range)) if *topic == entry.topic && *partition == entry.partition => {
                    range.next = range.next.max(entry.offset + 1);
                    range.messages += 1;
                }
                other => {
                    let range = OffsetRange { first: entry.offset, next: entry.offset + 1, messages: 1 };
                    flush(other.replace((entry.topic, entry.partition, range)));
                }
            }
        }
        flush(last);
        ranges
    }
}

/// Collects messages into a [`MessageBatch`].
#[derive(Debug, Default)]
pub struct MessageBatchBuilder {
    batch: MessageBatch,
}

impl MessageBatchBuilder {
    #[must_use]
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        let batch = MessageBatch {
            topics: Vec::new(),
            entries: Vec::with_capacity(messages),
            bytes: Vec::with_capacity(bytes),
        };
        Self { batch }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Copies one message to the end of the batch.
    #[allow(clippy::too_many_arguments, reason = "the fields of a Kafka message")]
    pub fn push(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Vec<Header>,
    ) {
        let topic = self.topic_index(topic);
        let key = key.map(|key| self.copy(key));
        let payload = payload.map(|payload| self.copy(payload));
        self.batch.entries.push(Entry { topic, partition, offset, timestamp_ms, key, payload, headers });
    }

    #[must_use]
    pub fn finish(self) -> MessageBatch {
        self.batch
    }

    fn copy(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(bytes);
        (start, self.batch.bytes.len())
    }

    fn topic_index(&mut self, topic: &str) -> u32 {
        let topics = &mut self.batch.topics;
        let index = topics.iter().rposition(|known| &**known == topic).unwrap_or_else(|| {
            topics.push(topic.into());
            topics.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_messages_and_span_gaps() {
        let mut builder = MessageBatchBuilder::default();
        for (partition, offset) in [(0, 5), (0, 9), (1, 0), (0, 10)] {
            builder.push("t", partition, offset, None, None, Some(b"x"), Vec::new());
        }
        let ranges = builder.finish().ranges();
        assert_eq!(ranges[&Partition::new("t", 0)], OffsetRange { first: 5, next: 11, messages: 3 });
        assert_eq!(ranges[&Partition::new("t", 1)], OffsetRange { first: 0, next: 1, messages: 1 });
    }
}
