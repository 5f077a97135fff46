use std::collections::BTreeSet;

use prost::Message;

use super::proto::{ExportRequest, ExportResponse, PartialSuccess};
use super::receiver::Receiver;
use super::*;
use crate::domain::ManualClock;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("1", Arc::new(ManualClock::at(0))).unwrap())
}

fn settings(receiver: &Receiver) -> TraceSettings {
    TraceSettings { endpoint: receiver.url(), interval_ms: 5, timeout_ms: 2_000, ..TraceSettings::default() }
}

fn start(settings: &TraceSettings, metrics: &Arc<Metrics>) -> (Traces, Exporter) {
    let parts = TraceParts {
        metrics: Arc::clone(metrics),
        clock: Arc::new(ManualClock::at(1_000)),
        seed: [7; 16],
        resource: vec![("assay.pipeline", "it".to_owned())],
    };
    let (traces, exporter) = Traces::start(settings, parts).unwrap();
    (traces, exporter.unwrap())
}

fn span(traces: &Traces, name: &'static str) -> Span {
    Span::new(traces.new_root().unwrap(), name, 1, 2)
}

fn counted(metrics: &Metrics, outcome: &str) -> u64 {
    let text = metrics.render().unwrap();
    let line = format!("assay_trace_spans_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

fn names(receiver: &Receiver) -> Vec<String> {
    let requests = receiver.received().into_iter().map(|got| ExportRequest::decode(&*got.body).unwrap());
    let spans = requests.flat_map(|request| request.resource_spans).flat_map(|of| of.scope_spans);
    spans.flat_map(|of| of.spans).map(|span| span.name).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.trim().chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// `official.py` makes the same message with OpenTelemetry's own classes.
#[test]
fn the_messages_are_those_of_opentelemetry_byte_for_byte() {
    let mut told = Span::new(
        SpanContext {
            trace: TraceId(std::array::from_fn(|at| u8::try_from(at).unwrap())),
            span: SpanId(std::array::from_fn(|at| 16 + u8::try_from(at).unwrap())),
        },
        "POST /predict",
        1_767_604_000_000_001,
        1_767_604_000_000_025,
    )
    .child_of(SpanId(std::array::from_fn(|at| 24 + u8::try_from(at).unwrap())))
    .of_kind(Kind::Server)
    .with("text", "ü")
    .with("yes", true)
    .with("number", -7_i64)
    .with("share", 0.25)
    .failed(Some("it broke".to_owned()));
    told.is_parent_remote = true;
    told.state = "vendor=1".to_owned();
    let attributes = vec![("exception.message", "no".into())];
    told.events.push(Event { name: "retry", at_us: 1_767_604_000_000_002, attributes });
    told.events_dropped = 3;
    told.links.push(SpanContext {
        trace: TraceId(std::array::from_fn(|at| 32 + u8::try_from(at).unwrap())),
        span: SpanId(std::array::from_fn(|at| 48 + u8::try_from(at).unwrap())),
    });
    let official = unhex(include_str!("official.hex"));
    let mut message = ExportRequest::decode(&*official).unwrap();
    message.resource_spans[0].scope_spans[0].spans = vec![told.into_proto()];
    assert_eq!(message.encode_to_vec(), official);
}

#[test]
fn the_trace_of_an_epoch_follows_from_the_lake_and_its_number_alone() {
    // blake3.blake3(struct.pack("<QQq", 1, 2, 7), derive_key_context="assay 2026-11 trace of an epoch").hexdigest(24)
    let seventh = EpochTraces::of_lake([1, 2]).of_epoch(7);
    assert_eq!((seventh.trace.to_string(), seventh.span.to_string()), (TRACE_7.to_owned(), SPAN_7.to_owned()));
    let all: BTreeSet<SpanContext> = [[1, 2], [2, 1]]
        .into_iter()
        .flat_map(|key| (1..50).map(move |n| EpochTraces::of_lake(key).of_epoch(n)))
        .collect();
    assert_eq!(all.len(), 98);
}

const TRACE_7: &str = "cca85ffdb9b0de7367b7060dd3844474";
const SPAN_7: &str = "aa26ee97fc7e5db8";

#[test]
fn a_traceparent_is_read_as_w3c_has_it() {
    let of = |text: &str| Incoming::parse(text, None);
    let told = of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    assert_eq!(told.parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(told.parent.span.to_string(), "00f067aa0ba902b7");
    assert!(told.is_sampled);
    assert!(!of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap().is_sampled);
    assert!(of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03").unwrap().is_sampled);
    // A later version may say more.
    assert!(of("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    for wrong in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0é4736-00f067aa0ba902b7-01",
    ] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
    let stated = Incoming::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(" a=1 "));
    assert_eq!(stated.unwrap().state, "a=1");
}

#[test]
fn requests_are_sampled_by_their_share_and_as_their_client_says() {
    let receiver = Receiver::start();
    let told = |share: f64, incoming: Option<&Incoming>| {
        let (traces, _exporter) = start(&TraceSettings { requests_share: share, ..settings(&receiver) }, &metrics());
        (0..2_000).filter(|_| traces.of_request(incoming).is_some()).count()
    };
    assert_eq!((told(0.0, None), told(1.0, None)), (0, 2_000));
    let quarter = told(0.25, None);
    assert!((400..600).contains(&quarter), "{quarter} of 2000");
    let of =
        |flags: &str| Incoming::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"), None);
    assert_eq!(told(0.0, of("01").as_ref()), 2_000);
    assert_eq!(told(1.0, of("00").as_ref()), 0);
}

#[test]
fn spans_arrive_with_headers_and_what_the_process_is() {
    let receiver = Receiver::start();
    let metrics = metrics();
    let headers = Some("Authorization=Bearer%20abc,x-tenant=shop".to_owned());
    let (traces, exporter) = start(&TraceSettings { headers, ..settings(&receiver) }, &metrics);
    traces.send(vec![span(&traces, "one"), span(&traces, "two")]);
    traces.send(vec![span(&traces, "three")]);
    drop(exporter);
    assert_eq!(names(&receiver), ["one", "two", "three"]);
    assert_eq!(counted(&metrics, "sent"), 3);
    let first = &receiver.received()[0];
    let head = first.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    for line in ["content-type: application/x-protobuf", "authorization: bearer abc", "x-tenant: shop"] {
        assert!(head.contains(line), "no {line} in {head}");
    }
    let resource = ExportRequest::decode(&*first.body).unwrap().resource_spans[0].resource.clone().unwrap();
    let keys: Vec<&str> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "service.version", "assay.pipeline"]);
}

#[test]
fn what_a_receiver_refuses_is_lost_and_what_it_asks_for_again_is_not() {
    let receiver = Receiver::start();
    let metrics = metrics();
    let (traces, exporter) = start(&settings(&receiver), &metrics);
    receiver.say(400, b"no");
    traces.send(vec![span(&traces, "refused")]);
    receiver.wait_for(1);
    receiver.say(503, b"");
    traces.send(vec![span(&traces, "later")]);
    receiver.wait_for(2);
    receiver.say(200, b"");
    receiver.wait_for(3);
    let partial = PartialSuccess { rejected_spans: 1, error_message: "one is too old".to_owned() };
    receiver.say(200, &ExportResponse { partial_success: Some(partial) }.encode_to_vec());
    traces.send(vec![span(&traces, "taken"), span(&traces, "too old")]);
    drop(exporter);
    assert_eq!(names(&receiver), ["refused", "later", "later", "taken", "too old"]);
    assert_eq!((counted(&metrics, "sent"), counted(&metrics, "lost"), counted(&metrics, "shed")), (2, 2, 0));
}

#[test]
fn nobody_waits_for_a_receiver_that_is_gone_and_memory_is_bounded() {
    let (address, metrics) = (Receiver::start().address, metrics());
    let settings = TraceSettings {
        endpoint: format!("http://{address}"),
        interval_ms: 5,
        spans_max: 512,
        drain_timeout_ms: 10_000,
        ..TraceSettings::default()
    };
    let (traces, exporter) = start(&settings, &metrics);
    for _ in 0..5_000 {
        traces.send(vec![span(&traces, "one"), span(&traces, "two")]);
    }
    let shed = counted(&metrics, "shed");
    assert!(shed >= 10_000 - 2 * 512, "{shed} of 10000 were shed");
    drop(exporter);
    assert_eq!((counted(&metrics, "sent"), counted(&metrics, "lost") + counted(&metrics, "shed")), (0, 10_000));
    // Whoever comes later is told no, and nothing else happens.
    traces.send(vec![span(&traces, "late")]);
    assert_eq!(counted(&metrics, "shed") + counted(&metrics, "lost"), 10_001);
}

#[test]
fn off_is_off() {
    let parts =
        TraceParts { metrics: metrics(), clock: Arc::new(ManualClock::at(0)), seed: [0; 16], resource: Vec::new() };
    let (traces, exporter) = Traces::start(&TraceSettings::default(), parts).unwrap();
    assert!(exporter.is_none() && !traces.is_on() && traces.stopwatch().is_none());
    traces.follow_lake(EpochTraces::of_lake([1, 2]));
    assert_eq!((traces.of_epoch(1), traces.new_root(), traces.of_request(None)), (None, None, None));
    traces.send(Vec::new());
}

fn with(variables: &[(&str, &str)]) -> TraceSettings {
    let mut settings = TraceSettings::default();
    for (name, value) in variables {
        settings.standard.take(name, (*value).to_owned());
    }
    settings
}

#[test]
fn opentelemetrys_own_variables_are_understood() {
    let url = |settings: &TraceSettings| settings.url().map(|url| url.map(|url| url.to_string()));
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
    let of = |more: &[(&str, &str)]| url(&with(&[&[base], more].concat()));
    assert_eq!(url(&with(&[])), Ok(None));
    assert_eq!(of(&[]), Ok(Some("http://collector:4318/v1/traces".to_owned())));
    let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/in");
    assert_eq!(of(&[exact]), Ok(Some("https://other/in".to_owned())));
    assert_eq!(of(&[("OTEL_SDK_DISABLED", "true")]), Ok(None));
    assert_eq!(of(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), of(&[]));
    assert_eq!(of(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err().0, "OTEL_EXPORTER_OTLP_ENDPOINT");
    let own = |endpoint: &str| {
        let settings = TraceSettings { endpoint: endpoint.to_owned(), ..with(&[base]) };
        url(&settings).map(Option::unwrap)
    };
    assert_eq!(own("http://mine:4318").unwrap(), "http://mine:4318/v1/traces");
    assert_eq!(own("http://mine/collect").unwrap(), "http://mine/collect");
    for wrong in ["mine:4318", "ftp://mine", "http://me:secret@mine"] {
        assert_eq!(own(wrong).unwrap_err().0, "endpoint", "{wrong}");
    }
    let named = |variables: &[(&str, &str)], own: &str| {
        let settings = TraceSettings { service_name: own.to_owned(), ..with(variables) };
        settings.resource()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let resource = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b,team=fraud");
    assert_eq!(named(&[], ""), [pair("service.name", "assay")]);
    assert_eq!(named(&[resource], ""), [pair("service.name", "a b"), pair("team", "fraud")]);
    assert_eq!(named(&[resource, ("OTEL_SERVICE_NAME", "c")], "")[0], pair("service.name", "c"));
    assert_eq!(named(&[resource, ("OTEL_SERVICE_NAME", "c")], "d")[0], pair("service.name", "d"));
}

#[test]
fn tokens_are_never_shown_and_bad_headers_are_refused() {
    let mut settings = with(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter1")]);
    settings.headers = Some("authorization=hunter2".to_owned());
    assert!(!format!("{settings:?}").contains("hunter"), "{settings:?}");
    for wrong in ["authorization", "a b=c", "a=b%0Ac"] {
        settings.headers = Some(wrong.to_owned());
        assert!(headers(&settings).is_err(), "{wrong}");
    }
}
