use std::net::SocketAddr;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::{ManualClock, TableName};
use crate::model::registry::CHAMPION;
use crate::scoring::testing::{Kept, NOON_US, transaction};
use crate::scoring::{Added, FeatureSource, SharedFeatures, Standing};
use crate::serve::{Readiness, serve};
use crate::telemetry::traces::Traces;

struct Service {
    address: SocketAddr,
    scorer: Arc<Scorer>,
    kept: Kept,
    _stop: tokio::sync::oneshot::Sender<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.head, String::from_utf8_lossy(&self.body))
    }
}

async fn start(settings: ServeSettings) -> Service {
    start_with(Kept::champion(), settings).await
}

async fn start_with(kept: (Kept, Scorer), settings: ServeSettings) -> Service {
    start_traced(kept, settings, Traces::default()).await
}

async fn start_traced((kept, scorer): (Kept, Scorer), settings: ServeSettings, traces: Traces) -> Service {
    let scorer = Arc::new(scorer);
    let metrics = Arc::new(Metrics::new("1", Arc::new(ManualClock::at(0))).unwrap());
    let keys = ApiKeys::load(&settings).unwrap();
    let parts = PredictParts {
        scorer: Arc::clone(&scorer),
        receipts: None,
        shadows: None,
        keys,
        metrics: Arc::clone(&metrics),
    };
    let predict = Some(Predict::new(parts, &settings));
    let state = ServeState { metrics, readiness: Readiness::default(), settings, predict, console: None, traces };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(
        serve(listener.into(), state, async move {
            let _ = stopped.await;
        })
        .unwrap(),
    );
    Service { address, scorer, kept, _stop: stop }
}

impl Service {
    async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..split].to_vec()).unwrap().to_lowercase();
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: answer[split + 4..].to_vec() }
    }

    async fn predict(&self, body: &Value) -> Answer {
        self.send("POST", "/predict", JSON, body.to_string().as_bytes()).await
    }
}

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_transaction_is_answered_with_all_that_was_promised() {
    let service = start(ServeSettings::default()).await;
    let answer = service.predict(&transaction("t-1", 1, 2_990.0)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    assert_eq!(
        (&told["transaction_id"], &told["decision"], &told["decided_by"]),
        (&json!("t-1"), &json!("fraud"), &json!("model"))
    );
    assert!(told["fraud_probability"].as_f64().unwrap() >= told["threshold"].as_f64().unwrap());
    assert_eq!(told["rules"], json!({"score": 0, "class": "MINIMAL", "reasons": []}));
    assert_eq!(told["contributions"][0]["feature"], "amount");
    let version = service.kept.registry.versions(&service.kept.name).unwrap()[0].to_string();
    assert_eq!(told["model"], json!({"name": "fraud", "version": version}));
    assert_eq!((&told["role"], &told["model_version"]), (&json!("champion"), &json!(version)));
    assert_eq!((&told["features"]["epoch"], &told["degraded"]), (&json!(0), &json!(false)));
    assert!(told["latency_us"].is_u64() && told.get("degraded_reason").is_none());
}

#[tokio::test]
async fn a_question_is_answered_as_the_transaction_it_may_become() {
    let service = start(ServeSettings::default()).await;
    let whole = transaction("t-1", 1, 2_990.0);
    let mut context = whole.as_object().unwrap().clone();
    let user = context.remove("user_id").unwrap();
    let ask = async |entity: Value, context: &serde_json::Map<String, Value>| {
        let body = json!({"entity": entity, "context": context}).to_string();
        service.send("POST", "/score", JSON, body.as_bytes()).await
    };
    let (told, asked) = (service.predict(&whole).await.json(), ask(json!({"user_id": user}), &context).await.json());
    for field in ["transaction_id", "fraud_probability", "decision", "threshold", "rules", "model", "features"] {
        assert_eq!(told[field], asked[field], "{field}");
    }
    assert!(told.get("inputs").is_none());
    assert_eq!(asked["inputs"]["amount"], json!(2990.0));

    // It has not happened yet: it gets an identifier of its own, and happens now.
    let of_now = context.remove("timestamp").zip(context.remove("transaction_id"));
    assert!(of_now.is_some());
    let (one, other) = (ask(json!({"user_id": 1}), &context).await, ask(json!({"user_id": 1}), &context).await);
    assert_eq!((one.status, other.status), (200, 200), "{one:?}");
    assert_ne!(one.json()["transaction_id"], other.json()["transaction_id"]);
    assert_eq!(one.json()["fraud_probability"], told["fraud_probability"]);

    let twice = ask(json!({"user_id": 1, "amount": 5.0}), &context).await;
    assert_eq!((twice.status, &twice.json()["field"]), (422, &json!("amount")));
    let nobody = ask(json!({}), &context).await;
    assert_eq!((nobody.status, &nobody.json()["field"]), (422, &json!("user_id")));
    let twice = "{\"context\": {\"amount\": 1, \"amount\": 99999}}";
    for body in ["", "[]", "[{\"user_id\": 7}, {}]", "{\"entity\": 1}", "{\"whom\": {}}", twice] {
        let refused = service.send("POST", "/score", JSON, body.as_bytes()).await;
        assert_eq!((refused.status, &refused.json()["code"]), (422, &json!("not_a_question")), "{body}");
    }
}

#[tokio::test]
async fn what_cannot_be_scored_names_its_field() {
    let service = start(ServeSettings::default()).await;
    let mut wrong = transaction("t", 1, 5.0);
    wrong["user_id"] = json!("seven");
    let answer = service.predict(&wrong).await;
    assert_eq!(
        (answer.status, &answer.json()["field"], &answer.json()["code"]),
        (422, &json!("user_id"), &json!("wrong_type"))
    );
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    let answer = service.predict(&transaction("t", 1, -5.0)).await;
    assert_eq!((answer.status, &answer.json()["fields"]), (422, &json!(["amount"])));
    assert_eq!(answer.json()["broken_expectations"], json!(["amount_positive"]));
    for (body, status) in [("", 422), ("[]", 422), ("{", 422), ("null", 422)] {
        assert_eq!(service.send("POST", "/predict", JSON, body.as_bytes()).await.status, status, "{body}");
    }
    assert_eq!(service.send("POST", "/predict", "content-type: text/plain\r\n", b"{}").await.status, 415);
    assert_eq!(service.send("GET", "/predict", "", b"").await.status, 405);
}

#[tokio::test]
async fn a_batch_gives_each_its_own_result() {
    let service = start(ServeSettings::default()).await;
    let sent = json!([transaction("a", 1, 2_990.0), {"amount": 1}, transaction("b", 2, 1.0), 7]);
    let answer = service.send("POST", "/predict/batch?contributions=1", JSON, sent.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    let results = told["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    assert_eq!((&results[0]["transaction_id"], &results[2]["transaction_id"]), (&json!("a"), &json!("b")));
    assert_eq!(results[0]["contributions"].as_array().unwrap().len(), 1);
    assert_eq!((&results[1]["error"]["status"], &results[3]["error"]["code"]), (&json!(422), &json!("invalid_json")));
    assert!(told["model"].is_object() && told["features"].is_object());
    let single = service.predict(&transaction("a", 1, 2_990.0)).await.json();
    assert_eq!(single["fraud_probability"], results[0]["fraud_probability"]);
    let lines = format!("{}\n\n{{}}\n{}\n", transaction("a", 1, 2_990.0), transaction("b", 2, 1.0));
    let answer =
        service.send("POST", "/predict/batch", "content-type: application/x-ndjson\r\n", lines.as_bytes()).await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((told.len(), &told[2]["transaction_id"]), (3, &json!("b")));
    assert_eq!(told[1]["error"]["code"], "missing_field");
    let empty = service.send("POST", "/predict/batch", JSON, b"[]").await;
    assert_eq!((empty.status, empty.json()), (200, json!({"results": []})));
}

#[tokio::test]
async fn arrow_and_json_say_the_same() {
    let service = start(ServeSettings::default()).await;
    let sent: Vec<Value> =
        (0..300).map(|row| transaction(&row.to_string(), row, f64::from(row) * 10.0 - 5.0)).collect();
    let texts: Vec<Vec<u8>> = sent.iter().map(|value| value.to_string().into_bytes()).collect();
    let rows = service.scorer.pipeline.decode(texts.iter().map(Vec::as_slice)).rows;
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &rows.schema()).unwrap();
    writer.write(&rows.slice(0, 100)).unwrap();
    writer.write(&rows.slice(100, 200)).unwrap();
    writer.finish().unwrap();
    let kind = "content-type: application/vnd.apache.arrow.stream\r\n";
    let answer = service.send("POST", "/predict/batch", kind, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = StreamReader::try_new(answer.body.as_slice(), None).unwrap();
    let told = concat_batches(&told.schema(), &told.collect::<Result<Vec<_>, _>>().unwrap()).unwrap();
    assert_eq!(told.num_rows(), 300);
    let probabilities = told.column_by_name("fraud_probability").unwrap().as_primitive::<Float64Type>().clone();
    let errors = told.column_by_name("error_fields").unwrap().as_string::<i32>().clone();
    let json = service.send("POST", "/predict/batch", JSON, Value::Array(sent).to_string().as_bytes()).await.json();
    for (row, result) in json["results"].as_array().unwrap().iter().enumerate() {
        let expected = result["fraud_probability"].as_f64();
        assert_eq!(probabilities.is_valid(row).then(|| probabilities.value(row)), expected, "{row}");
        assert_eq!(errors.is_valid(row).then(|| errors.value(row)), result["error"]["field"].as_str(), "{row}");
    }
    assert!(errors.is_valid(0) && errors.is_null(1));
    for broken in [&body[..body.len() / 2], b"ARROW1", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b""] {
        assert_eq!(service.send("POST", "/predict/batch", kind, broken).await.status, 400);
    }
}

/// A past that takes its time, on a thread that may wait.
struct Slow(SharedFeatures);

impl FeatureSource for Slow {
    fn added(&self, table: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        // It panics on a thread that serves connections.
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        let _ = tokio::task::block_in_place(|| never.recv_timeout(Duration::from_millis(300)));
        self.0.added(table, silver)
    }

    fn waits(&self) -> bool {
        true
    }

    fn standing(&self) -> Standing {
        self.0.standing()
    }
}

#[tokio::test]
async fn whoever_waits_for_features_keeps_nobody_else_waiting() {
    let (kept, mut scorer) = Kept::champion();
    scorer.features = Arc::new(Slow(Arc::clone(&scorer.features)));
    let service =
        start_with((kept, scorer), ServeSettings { request_timeout_ms: 150, ..ServeSettings::default() }).await;
    // As many as there are threads, and more.
    let asked = transaction("t", 1, 5.0);
    let all = (0..32).map(|_| service.predict(&asked));
    let answers = futures::future::join_all(all).await;
    // Their time was up while they waited: the threads that answer so were free.
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    assert_eq!(service.send("GET", "/health", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_connection_has_the_whole_time_for_each_request() {
    let service = start(ServeSettings { request_timeout_ms: 300, ..ServeSettings::default() }).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let body = transaction("t", 1, 5.0).to_string();
    let head = format!("POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut part = [0; 4096];
    let mut answered = async |stream: &mut TcpStream| {
        let count = stream.read(&mut part).await.unwrap();
        String::from_utf8_lossy(&part[..count]).into_owned()
    };
    for _ in 0..3 {
        // Its second half comes late, but in time; all of them together take longer than one may.
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::interval_at(Instant::now() + Duration::from_millis(120), Duration::from_secs(1)).tick().await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = answered(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = answered(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn limits_hold() {
    let settings =
        ServeSettings { body_bytes_max: 400, batch_rows_max: 2, batch_bytes_max: 2_000, ..ServeSettings::default() };
    let service = start(settings).await;
    assert_eq!(service.predict(&transaction("t", 1, 5.0)).await.status, 200);
    assert_eq!(service.predict(&transaction(&"t".repeat(400), 1, 5.0)).await.status, 413);
    let batch = |rows: usize| Value::Array(vec![transaction("t", 1, 5.0); rows]).to_string();
    assert_eq!(service.send("POST", "/predict/batch", JSON, batch(2).as_bytes()).await.status, 200);
    let answer = service.send("POST", "/predict/batch", JSON, batch(3).as_bytes()).await;
    assert_eq!(
        (answer.status, answer.json()["detail"].as_str().unwrap().contains("2 transactions at most")),
        (413, true)
    );
    assert_eq!(service.send("POST", "/predict/batch", JSON, batch(20).as_bytes()).await.status, 413);
    // A chunked body declares no length.
    let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let long = "x".repeat(500);
    let text =
        format!("POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{chunked}\r\n1f4\r\n{long}\r\n0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Also those that no route saw.
    let metrics = service.send("GET", "/metrics", JSON, b"").await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    for route in ["/predict", "/predict/batch"] {
        let counted = format!("assay_requests_total{{route=\"{route}\",status=\"413\"}} 2");
        assert!(metrics.contains(&counted), "{counted}");
    }
}

#[tokio::test]
async fn too_many_at_once_are_told_to_come_back() {
    let service = start(ServeSettings { requests_max: 1, ..ServeSettings::default() }).await;
    let (slow, busy) = loop {
        // A body that does not end holds its place, unless it comes while another has it.
        let mut slow = TcpStream::connect(service.address).await.unwrap();
        slow.write_all(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
        let answer = service.predict(&transaction("t", 1, 5.0)).await;
        if answer.status != 200 {
            break (slow, answer);
        }
    };
    assert_eq!(busy.status, 429, "{busy:?}");
    assert!(busy.head.contains("retry-after: 1"), "{busy:?}");
    drop(slow);
    while service.predict(&transaction("t", 1, 5.0)).await.status != 200 {}
}

#[tokio::test]
async fn keys_open_what_scores_and_nothing_else_needs_one() {
    let settings = ServeSettings { api_keys: vec![ApiKeys::hash("k1")], ..ServeSettings::default() };
    let service = start(settings).await;
    let body = transaction("t", 1, 5.0).to_string();
    for (route, method) in [("/predict", "POST"), ("/predict/batch", "POST"), ("/score", "POST"), ("/models", "GET")] {
        let answer = service.send(method, route, JSON, body.as_bytes()).await;
        assert_eq!((answer.status, answer.head.contains("www-authenticate: bearer")), (401, true), "{route}");
    }
    let with_key = format!("{JSON}authorization: Bearer k1\r\n");
    assert_eq!(service.send("POST", "/predict", &with_key, body.as_bytes()).await.status, 200);
    for route in ["/health", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(service.send("GET", route, "", b"").await.status, 200, "{route}");
    }
    let document = service.send("GET", "/openapi.json", "", b"").await.json();
    assert_eq!(document["security"][0], json!({"bearer": []}));
}

#[tokio::test]
async fn the_description_knows_the_contract_and_every_route() {
    let service = start(ServeSettings::default()).await;
    let document = service.send("GET", "/openapi.json", "", b"").await.json();
    let transaction = &document["components"]["schemas"]["Transaction"];
    assert_eq!(transaction["properties"]["user_id"]["type"], "integer");
    assert_eq!(transaction["properties"]["merchant_id"]["type"], json!(["string", "null"]));
    let required: Vec<&str> = transaction["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(required.contains(&"amount") && !required.contains(&"is_fraud") && !required.contains(&"merchant_id"));
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let status = service.send(&method.to_uppercase(), path, JSON, b"").await.status;
            assert!(methods[method]["responses"].get(status.to_string()).is_some(), "{method} {path}: {status}");
        }
    }
    let text = document.to_string();
    for (at, _) in text.match_indices("\"#/") {
        let reference = text[at + 2..].split('"').next().unwrap();
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let page = service.send("GET", "/docs", "", b"").await;
    assert!(page.head.contains("content-security-policy"), "{page:?}");
    assert!(!String::from_utf8(page.body).unwrap().contains("http"), "the page loads nothing from elsewhere");
}

#[tokio::test]
async fn models_are_told_and_exchanged_without_a_failed_request() {
    let service = start(ServeSettings::default()).await;
    let (first, second) = {
        let first = service.kept.registry.versions(&service.kept.name).unwrap()[0].clone();
        (first, service.kept.record(NOON_US + 9_000_000, 1_000.0))
    };
    let address = service.address;
    let load = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = transaction("t", 1, 2_990.0).to_string();
        let request =
            format!("POST /predict HTTP/1.1\r\nhost: x\r\n{JSON}content-length: {}\r\n\r\n{body}", body.len());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..400 {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let read = stream.read(&mut answer).await.unwrap();
            let text = String::from_utf8_lossy(&answer[..read]).into_owned();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let at = text.find("\"version\":\"").unwrap() + 11;
            seen.insert(text[at..at + 16].to_owned());
        }
        seen
    });
    let mut moved = 0;
    while !load.is_finished() {
        // Not in step with the requests: each takes the same number of turns.
        let version = if moved / 37 % 2 == 0 { &second } else { &first };
        service.kept.registry.promote(&service.kept.name, version, CHAMPION, NOON_US + moved).unwrap();
        service.scorer.models.follow(&service.scorer.pipeline);
        moved += 1;
        tokio::task::yield_now().await;
    }
    let seen = load.await.unwrap();
    assert!(moved > 1 && seen.len() == 2, "{moved} moves, {seen:?}");
    let told = service.send("GET", "/models", "", b"").await.json();
    assert_eq!((told["model"].as_str(), told["versions"].as_array().unwrap().len()), (Some("fraud"), 2));
    assert!(told["serving"]["version"].is_string() && told["problem"].is_null());
}

mod traces;
mod versions;
