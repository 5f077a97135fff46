use std::sync::Arc;

use super::{Generated, Generator};
use crate::domain::{MessageBatch, MessageBatchBuilder};

/// Messages of a [`Generator`] as a reader of the topic would hand them over: in micro-batches, with offsets.
pub struct Batches {
    generator: Generator,
    topic: Arc<str>,
    /// The next offset of each partition.
    offsets: Vec<i64>,
    message: Generated,
}

impl Batches {
    #[must_use]
    pub fn new(generator: Generator, topic: &str) -> Self {
        Self { generator, topic: topic.into(), offsets: Vec::new(), message: Generated::default() }
    }

    /// At most `messages` more; `None` when all have been handed over.
    pub fn next(&mut self, messages: usize) -> Option<MessageBatch> {
        let mut batch = MessageBatchBuilder::with_capacity(messages, messages * 160);
        while batch.len() < messages && self.generator.next_into(&mut self.message) {
            let offset = self.next_offset(self.message.partition);
            let message = &self.message;
            let at = Some(message.timestamp_ms);
            batch.push(
                &self.topic,
                message.partition,
                offset,
                at,
                Some(&message.key),
                message.payload(),
                message.headers(),
            );
        }
        (!batch.is_empty()).then(|| batch.finish())
    }

    fn next_offset(&mut self, partition: i32) -> i64 {
        let index = usize::try_from(partition).unwrap_or(0);
        if self.offsets.len() <= index {
            self.offsets.resize(index + 1, 0);
        }
        self.offsets.get_mut(index).map_or(0, |next| {
            *next += 1;
            *next - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Partition;
    use crate::generate::GenerateSettings;

    #[test]
    fn batches_hand_over_every_message_once_and_in_order() {
        let settings = GenerateSettings { events: Some(1_000), ..GenerateSettings::default() };
        let generator = || Generator::new(settings.clone(), 3).expect("settings that work");
        let mut batches = Batches::new(generator(), "t");
        let (mut payloads, mut next) = (Vec::new(), [0_i64; 3]);
        while let Some(batch) = batches.next(300) {
            assert!(batch.len() <= 300);
            for message in batch.iter() {
                let expected = &mut next[usize::try_from(message.partition).expect("a partition")];
                assert_eq!(message.offset, *expected);
                *expected += 1;
                payloads.push(message.payload.map(<[u8]>::to_vec));
            }
            assert!(batch.ranges().contains_key(&Partition::new("t", 0)));
        }
        let sent: Vec<_> = generator().map(|message| message.payload().map(<[u8]>::to_vec)).collect();
        assert_eq!(payloads, sent);
    }
}
