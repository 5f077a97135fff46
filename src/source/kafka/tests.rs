use super::*;
use crate::source::EmbeddedBroker;
use crate::source::tests::{Seen, TOPIC, in_time, produce, settings, shared};

#[test]
fn a_message_of_before_the_repair_of_the_forwarding_goes_before_its_successor() {
    for assignment in ["cooperative-sticky", "range"] {
        let broker = EmbeddedBroker::start(&[(TOPIC, 1)]).unwrap();
        let settings = KafkaSettings { assignment: assignment.to_owned(), ..settings(&broker) };
        let mut source =
            KafkaSource::open(settings.clone(), shared(Positions::from([(Partition::new(TOPIC, 0), 0)]))).unwrap();
        assert!(in_time(|| {
            assert!(matches!(source.poll(Duration::from_millis(20)).unwrap(), Polled::Idle));
            source.handle().status().assigned == 1
        }));
        let arrived = |source: &KafkaSource, end: i64| source.handle().lag().iter().any(|(_, lag)| *lag == end);
        DataQueue::detach(source.consumer.client().native_client(), TOPIC, 0);
        produce(&settings, 1, 0..1);
        assert!(in_time(|| arrived(&source, 1)));
        source.attach();
        produce(&settings, 1, 1..2);
        assert!(in_time(|| arrived(&source, 2)));
        let mut seen = Seen::default();
        in_time(|| {
            let mut batch = Handover::new(source.context().positions.clone(), (0, 0));
            source.drain(Duration::from_millis(20), &mut batch);
            seen.take(&batch.builder.finish());
            seen.0.len() == 2
        });
        seen.assert_each_once(0..2);
    }
}

#[test]
fn nothing_is_skipped_where_a_rebalance_pauses_a_partition_that_was_read_to_its_end() {
    let broker = EmbeddedBroker::start(&[(TOPIC, 1)]).unwrap();
    let settings = settings(&broker);
    produce(&settings, 1, 0..5);
    let mut source = KafkaSource::open(settings.clone(), shared(Positions::new())).unwrap();
    let mut seen = Seen::default();
    let mut read = |source: &mut KafkaSource, end: usize| {
        in_time(|| {
            if let Polled::Batch(batch) = source.poll(Duration::from_millis(20)).unwrap() {
                seen.take(&batch);
            }
            seen.0.len() == end
        });
    };
    read(&mut source, 5);
    // The word that the partition ended may come behind the last message.
    assert!(matches!(source.poll(Duration::from_millis(500)).unwrap(), Polled::Idle));
    let assigned = source.consumer.assignment().unwrap();
    source.consumer.pause(&assigned).unwrap();
    produce(&settings, 1, 5..10);
    source.consumer.resume(&assigned).unwrap();
    read(&mut source, 10);
    seen.assert_each_once(0..10);
}

#[test]
fn partitions_of_a_topic_that_nobody_asked_for_are_refused() {
    let broker = EmbeddedBroker::start(&[(TOPIC, 1), ("other", 1)]).unwrap();
    let settings = KafkaSettings { instance_id: "m".to_owned(), ..settings(&broker) };
    let mut source = KafkaSource::open(settings, shared(Positions::new())).unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition("other", 0);
    let assigned = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    rdkafka::consumer::ConsumerContext::rebalance(source.context(), &source.consumer, assigned, &mut list);
    let error = source.poll(Duration::from_millis(20)).unwrap_err().to_string();
    assert!(error.starts_with("kafka.instance_id:") && error.contains("`m` the partitions of other"), "{error}");
    assert!(source.consumer.assignment().unwrap().elements_for_topic("other").is_empty());
}
