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
