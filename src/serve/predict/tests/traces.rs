//! What OpenTelemetry is told of requests.

use arrow::array::RecordBatch;
use prost::Message;

use super::*;
use crate::domain::{SystemClock, TableName};
use crate::scoring::{Added, FeatureSource, NoPast, Standing};
use crate::telemetry::traces::proto::{AnyOf, ExportRequest, Span};
use crate::telemetry::traces::receiver::Receiver;
use crate::telemetry::traces::{EpochTraces, Exporter, TraceParts, TraceSettings};

const LAKE: [u64; 2] = [11, 12];
const CLIENT: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

/// Users without a past, as of an epoch.
struct AsOf(i64);

impl FeatureSource for AsOf {
    fn added(&self, table: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        NoPast { counts: 1 }.added(table, silver)
    }

    fn standing(&self) -> Standing {
        Standing { epoch: self.0, published_at_us: Some(NOON_US) }
    }
}

fn traces(endpoint: String, requests_share: f64) -> (Traces, Exporter, Arc<Metrics>) {
    let clock = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new("1", clock.clone()).unwrap());
    let settings = TraceSettings { endpoint, requests_share, interval_ms: 5, ..TraceSettings::default() };
    let parts = TraceParts { metrics: Arc::clone(&metrics), clock, seed: [5; 16], resource: Vec::new() };
    let (traces, exporter) = Traces::start(&settings, parts).unwrap();
    traces.follow_lake(EpochTraces::of_lake(LAKE));
    (traces, exporter.unwrap(), metrics)
}

async fn start_told(traces: Traces) -> Service {
    let kept = Kept::empty();
    let version = kept.record(NOON_US, 2_400.0);
    kept.registry.promote(&kept.name, &version, CHAMPION, NOON_US).unwrap();
    let scorer = kept.scorer(Arc::new(AsOf(5))).traced(traces.clone());
    start_traced((kept, scorer), ServeSettings::default(), traces).await
}

fn spans(receiver: &Receiver) -> Vec<Span> {
    let requests = receiver.received().into_iter().map(|got| ExportRequest::decode(&*got.body).unwrap());
    requests.flat_map(|request| request.resource_spans).flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
}

fn attribute(span: &Span, key: &str) -> Option<AnyOf> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(flags: &str) -> String {
    format!("{JSON}traceparent: 00-{CLIENT}-{flags}\r\ntracestate: shop=1\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_span_of_its_client_with_its_parts_and_a_link_to_its_epoch() {
    let receiver = Receiver::start();
    let (traces, exporter, _) = traces(receiver.url(), 0.0);
    let service = start_told(traces).await;
    let one = transaction("t-1", 1, 2_990.0);
    for (path, body) in [("/predict", one.to_string()), ("/predict/batch", json!([one, one]).to_string())] {
        let answer = service.send("POST", path, &traceparent("01"), body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let refused = service.send("POST", "/predict", &traceparent("01"), b"{}").await;
    let (lost, ready) =
        (service.send("GET", "/no/such", &traceparent("01"), b"").await, service.send("GET", "/ready", "", b"").await);
    assert_eq!((refused.status, lost.status, ready.status), (422, 404, 200));
    drop(exporter);
    let spans = spans(&receiver);
    let servers: Vec<&Span> = spans.iter().filter(|span| span.kind == 2).collect();
    let names: Vec<&str> = servers.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /predict", "POST /predict/batch", "POST /predict", "GET"]);
    let epoch = EpochTraces::of_lake(LAKE).of_epoch(5);
    for (server, status) in servers.iter().zip([200, 200, 422, 404]) {
        assert_eq!(format!("{}-{}", hex(&server.trace_id), hex(&server.parent_span_id)), CLIENT);
        assert_eq!((server.trace_state.as_str(), server.flags), ("shop=1", 0x301));
        assert_eq!(attribute(server, "http.response.status_code"), Some(AnyOf::Integer(status)));
        // What the client did wrong is no error of the server's.
        assert_eq!(server.status, None);
        let links: Vec<(&[u8], &[u8])> = server.links.iter().map(|link| (&*link.trace_id, &*link.span_id)).collect();
        // What is refused was held against the same epoch.
        let is_linked = status != 404;
        assert_eq!(links, if is_linked { vec![(&epoch.trace.0[..], &epoch.span.0[..])] } else { vec![] });
        let is_answered = status == 200;
        let children: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == server.span_id).collect();
        for child in &children {
            assert!(
                server.start_time_unix_nano <= child.start_time_unix_nano
                    && child.end_time_unix_nano <= server.end_time_unix_nano,
                "{} is not within {}",
                child.name,
                server.name
            );
        }
        let parts: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
        for part in ["read body", "parse", "refine", "rules", "model"].into_iter().filter(|_| is_answered) {
            assert!(parts.contains(&part), "no {part} in {parts:?} of {}", server.name);
        }
        if is_answered {
            let rules = children.iter().find(|child| child.name == "rules").unwrap();
            assert!(spans.iter().any(|span| span.name == "features" && span.parent_span_id == rules.span_id));
            assert_eq!(attribute(server, "assay.model.role"), Some(AnyOf::Text("champion".to_owned())));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_records_nothing_is_not_told_and_chance_decides_for_the_others() {
    let receiver = Receiver::start();
    let (traces, exporter, _) = traces(receiver.url(), 1.0);
    let service = start_told(traces).await;
    let body = transaction("t-1", 1, 2_990.0).to_string();
    for headers in [traceparent("00"), JSON.to_owned(), format!("{JSON}traceparent: nonsense\r\n")] {
        assert_eq!(service.send("POST", "/predict", &headers, body.as_bytes()).await.status, 200);
    }
    drop(exporter);
    let spans = spans(&receiver);
    let servers: Vec<&Span> = spans.iter().filter(|span| span.kind == 2).collect();
    assert_eq!(servers.len(), 2);
    assert!(servers.iter().all(|span| span.parent_span_id.is_empty() && !CLIENT.contains(&hex(&span.trace_id))));
    assert_ne!(servers[0].trace_id, servers[1].trace_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_gone_costs_no_answer() {
    let gone = Receiver::start().url();
    let (traces, exporter, metrics) = traces(gone, 1.0);
    let service = start_told(traces).await;
    for number in 0..50 {
        assert_eq!(service.predict(&transaction(&number.to_string(), number, 10.0)).await.status, 200);
    }
    drop(exporter);
    let text = metrics.render().unwrap();
    let lost: Vec<&str> = text.lines().filter(|line| line.starts_with("assay_trace_spans_total{outcome=\"")).collect();
    assert!(lost.len() == 1 && lost[0].contains("lost"), "{lost:?}");
}
