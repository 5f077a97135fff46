//! Against the embedded broker: a real client, a real protocol, all in this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::context::lock;
use super::*;
use crate::domain::{Header, Partition, Positions};
use crate::generate::{GenerateSettings, Generated, Generator};

pub(super) const TOPIC: &str = "t";
/// How long a test waits for what must come: enough for a machine that is busy with others.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn settings(broker: &EmbeddedBroker) -> KafkaSettings {
    KafkaSettings {
        brokers: broker.bootstrap_servers().to_owned(),
        topics: vec![TOPIC.to_owned()],
        group_id: "g".to_owned(),
        // The embedded broker lets a group settle for this long, less a second.
        session_timeout_ms: 1_300,
        ..KafkaSettings::default()
    }
}

/// Whether `done` came true before the patience ended.
#[allow(clippy::disallowed_methods, reason = "how long a test waits")]
pub(super) fn in_time(done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    std::iter::repeat_with(done).take_while(|_| start.elapsed() < PATIENCE).any(|done| done)
}

/// Sends the numbers of `range` to partition `number % partitions`, as text.
pub(super) fn produce(settings: &KafkaSettings, partitions: u64, range: std::ops::Range<u64>) {
    produce_with(&mut Producer::open(settings).unwrap(), partitions, range);
}

fn produce_with(producer: &mut Producer, partitions: u64, range: std::ops::Range<u64>) {
    for number in range {
        let text = number.to_string();
        let header = Header { name: "n".to_owned(), value: Some(text.clone().into_bytes()) };
        producer
            .send(&Outgoing {
                topic: TOPIC,
                partition: Some(i32::try_from(number % partitions).unwrap()),
                key: Some(b"key"),
                payload: (number != 7).then_some(text.as_bytes()),
                timestamp_ms: Some(1_700_000_000_000 + i64::try_from(number).unwrap()),
                headers: if number % 10 == 0 { std::slice::from_ref(&header) } else { &[] },
            })
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// What was read: the timestamp of a message, less its base, is its number.
#[derive(Default)]
pub(super) struct Seen(pub(super) BTreeMap<u64, usize>);

impl Seen {
    pub(super) fn take(&mut self, batch: &crate::domain::MessageBatch) {
        for message in batch.iter() {
            let number = u64::try_from(message.timestamp_ms.unwrap() - 1_700_000_000_000).unwrap();
            let text = number.to_string();
            assert_eq!(message.key, Some(b"key".as_slice()));
            assert_eq!(message.payload, (number != 7).then_some(text.as_bytes()));
            if number.is_multiple_of(10) {
                assert_eq!(message.headers, [Header { name: "n".to_owned(), value: Some(text.into_bytes()) }]);
            } else {
                assert!(message.headers.is_empty());
            }
            *self.0.entry(number).or_default() += 1;
        }
    }

    #[track_caller]
    pub(super) fn assert_each_once(&self, range: std::ops::Range<u64>) {
        let lost: Vec<u64> = range.clone().filter(|number| !self.0.contains_key(number)).collect();
        let foreign: Vec<&u64> = self.0.keys().filter(|number| !range.contains(number)).collect();
        let doubled: Vec<&u64> = self.0.iter().filter(|(_, times)| **times > 1).map(|(number, _)| number).collect();
        assert!(lost.is_empty() && foreign.is_empty(), "lost: {lost:?}, foreign: {foreign:?}");
        assert!(doubled.is_empty(), "doubled: {doubled:?}");
    }
}

pub(super) fn read_to_end(source: &mut KafkaSource) -> Result<Seen, SourceError> {
    let mut seen = Seen::default();
    let mut failure = None;
    let ended = in_time(|| match source.poll(Duration::from_millis(20)) {
        Ok(Polled::Batch(batch)) => {
            seen.take(&batch);
            false
        }
        Ok(Polled::Idle) => false,
        Ok(Polled::End) => true,
        Err(error) => {
            failure = Some(error);
            true
        }
    });
    assert!(ended, "no end after {} messages; {:?}", seen.0.len(), source.handle().status());
    failure.map_or(Ok(seen), Err)
}

pub(super) fn shared(positions: Positions) -> SharedPositions {
    Arc::new(Mutex::new(positions))
}

#[test]
fn reads_all_partitions_and_ends_though_one_is_empty() {
    let broker = EmbeddedBroker::start(&[(TOPIC, 4)]).unwrap();
    let settings = settings(&broker);
    produce(&settings, 3, 0..5_000);
    let positions = shared(Positions::new());
    let mut source = KafkaSource::open(settings.clone(), positions.clone()).unwrap();
    source.until_end(PATIENCE).unwrap();
    read_to_end(&mut source).unwrap().assert_each_once(0..5_000);

    let ends = end_offsets(&settings, PATIENCE).unwrap();
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [1_667, 1_667, 1_666, 0]);
    let read: Positions = lock(&positions).clone().into_iter().filter(|(_, position)| *position > 0).collect();
    assert_eq!(read, ends.into_iter().filter(|(_, end)| *end > 0).collect());
    let handle = source.handle();
    assert!(handle.lag().iter().all(|(_, lag)| *lag == 0), "{:?}", handle.lag());
    assert!(handle.status().connected);
    assert_eq!(handle.status().assigned, 4);
    drop(source);
    assert!(!handle.status().connected);
}

#[test]
fn goes_on_at_the_positions_whatever_the_group_committed() {
    for assignment in ["cooperative-sticky", "range"] {
        let broker = EmbeddedBroker::start(&[(TOPIC, 2)]).unwrap();
        let settings = KafkaSettings { assignment: assignment.to_owned(), ..settings(&broker) };
        produce(&settings, 2, 0..1_000);
        let positions = shared(Positions::new());
        let mut first = KafkaSource::open(settings.clone(), positions.clone()).unwrap();
        first.until_end(PATIENCE).unwrap();
        read_to_end(&mut first).unwrap().assert_each_once(0..1_000);
        first.handle().commit_telemetry(&positions.lock().unwrap());
        drop(first);

        produce(&settings, 2, 1_000..1_500);
        // Partition 0 is as the lake has it; partition 1 is further back than what the group knows.
        lock(&positions).insert(Partition::new(TOPIC, 1), 490);
        let mut second = KafkaSource::open(settings, positions).unwrap();
        second.until_end(PATIENCE).unwrap();
        let seen = read_to_end(&mut second).unwrap();
        let expected: Vec<u64> = (980..1_000).filter(|number| number % 2 == 1).chain(1_000..1_500).collect();
        assert_eq!(seen.0.into_iter().collect::<Vec<_>>(), expected.into_iter().map(|n| (n, 1)).collect::<Vec<_>>());
    }
}

#[test]
fn latest_reads_only_what_comes_later() {
    let broker = EmbeddedBroker::start(&[(TOPIC, 1)]).unwrap();
    let settings = KafkaSettings { start: Start::Latest, ..settings(&broker) };
    produce(&settings, 1, 0..100);
    let positions = shared(Positions::new());
    let mut source = KafkaSource::open(settings.clone(), positions.clone()).unwrap();
    source.until_end(PATIENCE).unwrap();
    assert!(read_to_end(&mut source).unwrap().0.is_empty());
    assert_eq!(lock(&positions)[&Partition::new(TOPIC, 0)], 100);
    produce(&settings, 1, 100..150);
    source.until_end(PATIENCE).unwrap();
    read_to_end(&mut source).unwrap().assert_each_once(100..150);
}

#[test]
fn a_second_member_takes_over_partitions_without_loss_or_doubles() {
    for assignment in ["cooperative-sticky", "range"] {
        let broker = EmbeddedBroker::start(&[(TOPIC, 4)]).unwrap();
        let settings = KafkaSettings { assignment: assignment.to_owned(), batch_messages: 50, ..settings(&broker) };
        // One lake: both members know the same positions.
        let positions = shared(Positions::new());
        let mut seen = Seen::default();
        let mut producer = Producer::open(&settings).unwrap();
        let mut first = KafkaSource::open(settings.clone(), positions.clone()).unwrap();
        let mut second: Option<KafkaSource> = None;
        let mut produced = 0;
        in_time(|| {
            if produced < 8_000 {
                produce_with(&mut producer, 4, produced..produced + 400);
                produced += 400;
            }
            if produced == 2_000 {
                second = Some(KafkaSource::open(settings.clone(), positions.clone()).unwrap());
            }
            for source in [Some(&mut first), second.as_mut()].into_iter().flatten() {
                if let Polled::Batch(batch) = source.poll(Duration::from_millis(5)).unwrap() {
                    seen.take(&batch);
                }
            }
            let assigned = |source: &KafkaSource| source.handle().status().assigned;
            seen.0.len() == 8_000
                && assigned(&first) == 2
                && second.as_ref().is_some_and(|second| assigned(second) == 2)
        });
        seen.assert_each_once(0..8_000);
        assert_eq!(first.handle().status().assigned, 2, "{assignment}");
        // The survivor inherits the rest.
        drop(first);
        produce_with(&mut producer, 4, 8_000..8_400);
        let mut second = second.unwrap();
        in_time(|| {
            if let Polled::Batch(batch) = second.poll(Duration::from_millis(5)).unwrap() {
                seen.take(&batch);
            }
            seen.0.len() == 8_400
        });
        seen.assert_each_once(0..8_400);
    }
}

#[test]
fn offsets_that_kafka_dropped_are_refused_or_skipped_and_reported() {
    for assignment in ["cooperative-sticky", "range"] {
        let broker = EmbeddedBroker::start(&[(TOPIC, 1)]).unwrap();
        let settings = KafkaSettings { assignment: assignment.to_owned(), ..settings(&broker) };
        let partition = Partition::new(TOPIC, 0);
        // Twelve batches that do not compress: the broker keeps the last 5 MB of them.
        let mut producer = Producer::open(&settings).unwrap();
        let mut state = 1_u64;
        for number in 0..12 {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .take(900_000)
            .collect();
            let (topic, timestamp_ms) = (TOPIC, Some(number));
            let message =
                Outgoing { topic, partition: Some(0), key: None, payload: Some(&noise), timestamp_ms, headers: &[] };
            producer.send(&message).unwrap();
            producer.flush(PATIENCE).unwrap();
        }
        let positions = shared(Positions::from([(partition.clone(), 1)]));
        let mut source = KafkaSource::open(settings.clone(), positions.clone()).unwrap();
        source.until_end(PATIENCE).unwrap();
        let mut outcome = Ok(Polled::Idle);
        in_time(|| {
            outcome = source.poll(Duration::from_millis(20));
            outcome.is_err()
        });
        let Err(SourceError::DataLoss { partition: lost, position: 1, earliest }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(lost, partition);
        assert!((2..12).contains(&earliest), "{earliest}");
        drop(source);

        let settings = KafkaSettings { on_data_loss: OnDataLoss::Continue, ..settings };
        let mut source = KafkaSource::open(settings.clone(), positions).unwrap();
        source.until_end(PATIENCE).unwrap();
        let mut offsets = Vec::new();
        in_time(|| {
            let polled = source.poll(Duration::from_millis(20)).unwrap();
            if let Polled::Batch(batch) = &polled {
                offsets.extend(batch.iter().map(|message| message.offset));
            }
            matches!(polled, Polled::End)
        });
        assert_eq!(offsets, (earliest..12).collect::<Vec<_>>());
        let losses = source.handle().data_losses();
        assert_eq!(losses, [DataLoss { partition: partition.clone(), from: 1, to: earliest }]);
        drop(source);

        let mut source = KafkaSource::open(settings, shared(Positions::from([(partition, 500)]))).unwrap();
        let mut error = None;
        in_time(|| {
            error = source.poll(Duration::from_millis(20)).err();
            error.is_some()
        });
        assert!(matches!(error, Some(SourceError::BeyondEnd { position: 500, latest: 12, .. })), "{error:?}");
    }
}

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let broker = EmbeddedBroker::start(&[(TOPIC, 1)]).unwrap();
    let settings = settings(&broker);
    produce(&settings, 1, 0..100);
    let mut source = KafkaSource::open(settings.clone(), shared(Positions::new())).unwrap();
    source.until_end(PATIENCE).unwrap();
    let mut seen = read_to_end(&mut source).unwrap();
    source.follow();
    broker.go_down().unwrap();
    let handle = source.handle();
    // The cause comes with the next attempt to connect, after the word that nobody is there.
    let went_down = in_time(|| {
        assert!(matches!(source.poll(Duration::from_millis(10)).unwrap(), Polled::Idle));
        let status = handle.status();
        !status.connected && status.last_error.is_some()
    });
    assert!(went_down, "{:?}", handle.status());
    broker.come_up().unwrap();
    produce(&settings, 1, 100..200);
    in_time(|| {
        if let Polled::Batch(batch) = source.poll(Duration::from_millis(10)).unwrap() {
            seen.take(&batch);
        }
        seen.0.len() == 200
    });
    seen.assert_each_once(0..200);
    assert!(handle.status().connected);
}

#[test]
fn a_paced_stream_loses_nothing_though_the_broker_keeps_little() {
    let broker = EmbeddedBroker::start(&[(TOPIC, 1)]).unwrap();
    let mut settings = settings(&broker);
    // Some 9 MB, where the broker keeps 5.
    settings.properties.insert("compression.type".to_owned(), "none".to_owned());
    let events = GenerateSettings { events: Some(60_000), users: 1_000, ..GenerateSettings::default() };
    let mut generator = Generator::new(events, 1).unwrap();
    let positions = shared(Positions::new());
    let mut source = KafkaSource::open(settings.clone(), positions.clone()).unwrap();
    let done = AtomicBool::new(false);
    let (mut messages, mut nulls, mut bytes) = (0, 0, 0);
    let sent_bytes = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut producer = Producer::open(&settings).unwrap();
            let mut pace = Pace::new(TOPIC, positions.clone(), 10_000);
            let (mut message, mut sent_bytes) = (Generated::default(), 0);
            while generator.next_into(&mut message) {
                let outgoing = Outgoing {
                    topic: TOPIC,
                    partition: Some(message.partition),
                    key: Some(&message.key),
                    payload: message.payload(),
                    timestamp_ms: Some(message.timestamp_ms),
                    headers: &message.headers(),
                };
                sent_bytes += message.key.len() + message.payload().map_or(0, <[u8]>::len);
                let stop = || done.load(Ordering::Relaxed);
                assert!(producer.send_paced(&outgoing, message.partition, &mut pace, &stop).unwrap());
            }
            producer.flush(PATIENCE).unwrap();
            sent_bytes
        });
        in_time(|| {
            if let Polled::Batch(batch) = source.poll(Duration::from_millis(20)).unwrap() {
                messages += batch.len();
                bytes += batch.bytes();
                nulls += batch.iter().filter(|message| message.payload.is_none()).count() as u64;
            }
            messages >= 60_000
        });
        done.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert_eq!((messages, bytes), (60_000, sent_bytes));
    assert!(bytes > 7 << 20, "{bytes}");
    assert_eq!(nulls, generator.counts().malformed["null_payload"]);
}

#[test]
fn settings_that_break_exactly_once_are_refused_and_secrets_stay_hidden() {
    let mut settings = KafkaSettings::default();
    settings.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
    assert!(settings.check().is_ok());
    assert!(!format!("{settings:?}").contains("hunter2"));
    settings.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
    let error = settings.check().unwrap_err();
    assert!(error.to_string().starts_with("kafka.properties.enable.auto.commit:"), "{error}");
    settings.properties = BTreeMap::from([("no.such.property".to_owned(), "1".to_owned())]);
    let error = KafkaSource::open(settings, shared(Positions::new())).err().unwrap();
    assert!(error.to_string().contains("no.such.property"), "{error}");
}

#[test]
fn the_pace_keeps_a_producer_near_its_reader() {
    let positions = shared(Positions::new());
    let mut pace = Pace::new(TOPIC, positions.clone(), 3);
    let send_all = |pace: &mut Pace| {
        let mut sent = 0;
        while pace.has_room(1) {
            pace.sent(1);
            sent += 1;
        }
        sent
    };
    assert_eq!(send_all(&mut pace), 3);
    lock(&positions).insert(Partition::new(TOPIC, 1), 2);
    assert_eq!(send_all(&mut pace), 2);
    assert_eq!(send_all(&mut pace), 0);
}
