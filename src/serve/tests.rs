use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::domain::ManualClock;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    readiness: Readiness,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in `{}`", self.body))
    }
}

/// That answers nothing but what every server does.
pub(super) fn bare(settings: ServeSettings, readiness: Readiness) -> ServeState {
    let metrics = Arc::new(Metrics::new("9.9.9", Arc::new(ManualClock::at(0))).unwrap());
    ServeState { metrics, readiness, settings, predict: None, console: None, traces: Traces::default() }
}

async fn start(settings: ServeSettings) -> Server {
    let readiness = Readiness::awaiting(["kafka", "lake"]);
    let state = bare(settings, readiness.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = serve(listener.into(), state, async move {
        let _ = stopped.await;
    });
    let task = tokio::spawn(served.unwrap());
    Server { address, stop, task, readiness }
}

async fn raw(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in `{text}`"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn get(server: &Server, path: &str) -> Answer {
    raw(server.address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let server = start(ServeSettings::default()).await;
    let answer = get(&server, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("assay_build_info{version=\"9.9.9\"} 1"), "{}", answer.body);
}

#[tokio::test]
async fn live_from_the_start_and_ready_when_nothing_is_missing() {
    let server = start(ServeSettings::default()).await;
    let live = get(&server, "/health").await;
    assert_eq!((live.status, live.json()), (200, json!({"status": "live"})));

    server.readiness.set("kafka", Err("the broker does not answer".to_owned()));
    let unready = get(&server, "/ready").await;
    assert_eq!(unready.status, 503);
    assert!(unready.head.contains("content-type: application/problem+json"), "{}", unready.head);
    let expected = json!([
        {"condition": "kafka", "reason": "the broker does not answer"},
        {"condition": "lake", "reason": "not started yet"},
    ]);
    assert_eq!(unready.json()["missing"], expected);
    assert_eq!(unready.json()["detail"], "not ready: kafka, lake");

    server.readiness.set("kafka", Ok(()));
    server.readiness.set("lake", Ok(()));
    let ready = get(&server, "/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready"})));

    server.readiness.set("lake", Err("disk full".to_owned()));
    assert_eq!(get(&server, "/ready").await.status, 503);
    assert_eq!(get(&server, "/health").await.status, 200);
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem() {
    let server = start(ServeSettings::default()).await;
    let missing = get(&server, "/nothing/here?x=1").await;
    assert_eq!(missing.status, 404);
    assert!(missing.head.contains("content-type: application/problem+json"), "{}", missing.head);
    let expected = json!({
        "type": "about:blank", "title": "Not Found", "status": 404,
        "detail": "there is no /nothing/here; GET / lists what there is",
    });
    assert_eq!(missing.json(), expected);

    let post = "POST /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let wrong = raw(server.address, post).await;
    assert_eq!((wrong.status, wrong.json()["detail"].as_str()), (405, Some("/health does not take POST")));
    assert!(wrong.head.contains("allow: get,head"), "{}", wrong.head);
}

#[tokio::test]
async fn every_route_of_the_index_answers() {
    let server = start(ServeSettings::default()).await;
    let index = get(&server, "/").await;
    let routes: Vec<&str> =
        index.body.lines().filter_map(|line| line.strip_prefix("GET ")?.split(' ').next()).collect();
    assert_eq!(routes, ["/metrics", "/health", "/ready"]);
    for route in routes {
        assert_ne!(get(&server, route).await.status, 404, "{route}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread() {
    let server = start(ServeSettings { body_bytes_max: 10, ..ServeSettings::default() }).await;
    let request = "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\n";
    let answer = raw(server.address, request).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["detail"], "a body may have 10 bytes at most");
}

#[tokio::test]
async fn a_handler_that_hangs_or_panics_gets_an_answer() {
    let settings = ServeSettings { request_timeout_ms: 30, ..ServeSettings::default() };
    let state = bare(settings, Readiness::default());
    let routes = axum::Router::new()
        .route("/hangs", axum::routing::get(std::future::pending::<&'static str>))
        .route("/panics", axum::routing::get(|| async { if true { panic!("on purpose") } else { "" } }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, routes::bounded(routes, Arc::new(state))).into_future());
    let ask =
        async |path: &str| raw(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    let slow = ask("/hangs").await;
    assert_eq!((slow.status, slow.json()["detail"].as_str()), (503, Some("not answered within 30 ms")));
    let panicked = ask("/panics").await;
    assert_eq!((panicked.status, panicked.json()["title"].as_str()), (500, Some("Internal Server Error")));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_makes_room() {
    let settings = ServeSettings { idle_timeout_ms: 50, connections_max: 1, ..ServeSettings::default() };
    let server = start(settings).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /hea").await.unwrap();
    // The only place is taken, so this waits until the idle one is thrown out.
    assert_eq!(get(&server, "/health").await.status, 200);
    let mut rest = Vec::new();
    let closed = idle.read_to_end(&mut rest).await;
    assert!(closed.is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
}

#[tokio::test]
async fn shutdown_closes_what_idles_and_ends() {
    let server = start(ServeSettings::default()).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0_u8; 12];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever_for_a_request_half_sent() {
    let server = start(ServeSettings { drain_timeout_ms: 20, ..ServeSettings::default() }).await;
    assert_eq!(get(&server, "/health").await.status, 200);
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET /health HTTP/1.1\r\nhost").await.unwrap();
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}

#[test]
fn settings_refuse_unknown_keys() {
    assert_eq!(toml::from_str::<ServeSettings>("").unwrap(), ServeSettings::default());
    let error = toml::from_str::<ServeSettings>("adress = \"x\"").unwrap_err();
    assert!(error.to_string().contains("unknown field `adress`"), "{error}");
}
