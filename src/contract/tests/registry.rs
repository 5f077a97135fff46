use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::contract::{Lookup, Registry, RegistryError, RegistrySettings, SchemaLookup, Secret};
use crate::domain::ManualClock;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    line: String,
    authorization: Option<String>,
    body: String,
}

type Answerer = dyn Fn(usize, &Request) -> Option<(u16, String)> + Send;

/// A registry in a few lines: answers each request with what a function says, or hangs up on `None`.
struct Stub {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    fn start(answer: impl Fn(usize, &Request) -> Option<(u16, String)> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, answer) = (requests.clone(), stop.clone(), Box::new(answer) as Box<Answerer>);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                serve(&stream.unwrap(), &log, &answer);
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    fn lines(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.line.clone()).collect()
    }

    fn settings(&self) -> RegistrySettings {
        let url = Some(format!("http://{}/api/", self.address));
        RegistrySettings { url, attempts: 3, backoff_ms: 1, backoff_max_ms: 2, ..RegistrySettings::default() }
    }

    fn client(&self) -> Registry {
        Registry::new(&self.settings(), Arc::new(ManualClock::at(0))).unwrap()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut stream: &TcpStream, log: &Mutex<Vec<Request>>, answer: &Answerer) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let request = Request { line, authorization, body: String::from_utf8(body).unwrap() };
    let number = log.lock().unwrap().len();
    log.lock().unwrap().push(request.clone());
    if let Some((status, body)) = answer(number, &request) {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
    }
}

fn found(schema: &str) -> Option<(u16, String)> {
    Some((200, serde_json::json!({ "schema": schema }).to_string()))
}

fn error(status: u16, code: u32) -> Option<(u16, String)> {
    Some((status, serde_json::json!({ "error_code": code, "message": "no" }).to_string()))
}

#[test]
fn a_schema_is_fetched_once() {
    let stub = Stub::start(|_, _| found("\"int\""));
    let mut client = stub.client();
    for id in [7, 7, 8, 7] {
        assert_eq!(client.schema(id).unwrap(), Lookup::Found("\"int\"".into()));
    }
    assert_eq!(stub.lines(), ["GET /api/schemas/ids/7", "GET /api/schemas/ids/8"]);
}

#[test]
fn an_unknown_id_is_asked_for_again_only_after_a_while() {
    let stub = Stub::start(|number, _| if number == 0 { error(404, 40_403) } else { found("\"int\"") });
    let clock = Arc::new(ManualClock::at(0));
    let mut client = Registry::new(&stub.settings(), clock.clone()).unwrap();
    assert_eq!(client.schema(7).unwrap(), Lookup::Unknown);
    clock.set(29_999_999);
    assert_eq!(client.schema(7).unwrap(), Lookup::Unknown);
    assert_eq!(client.schema(-7).unwrap(), Lookup::Unknown, "no registry gives negative ids");
    assert_eq!(stub.lines().len(), 1);
    clock.set(30_000_000);
    assert_eq!(client.schema(7).unwrap(), Lookup::Found("\"int\"".into()));
}

#[test]
fn a_short_outage_is_waited_out() {
    let stub = Stub::start(|number, _| match number {
        0 => Some((503, "down".into())),
        1 => None,
        _ => found("\"int\""),
    });
    assert_eq!(stub.client().schema(1).unwrap(), Lookup::Found("\"int\"".into()));
    assert_eq!(stub.lines().len(), 3);
}

#[test]
fn a_long_outage_is_reported_and_nothing_is_dead_lettered() {
    let contract = Arc::new(Contract::embedded().unwrap());
    let schema = contract.version(1).unwrap().to_owned();
    let stub = Stub::start(move |number, _| if number < 3 { error(500, 50_001) } else { found(&schema) });
    let mut decoder = Decoder::new(contract, Format::Avro, Box::new(stub.client()));
    let texts = ["id", "shop", "2026-01-01T00:00:00Z", "paypal", "Oslo, Norway", "d"].map(string);
    let [id, merchant, at, method, location, device] = texts;
    let record = [id, long(1), 1f64.to_le_bytes().to_vec(), merchant, at, vec![0], method, location, device].concat();
    let payload = framed(12, &record);
    let batch = batch([Some(payload.as_slice()), None]);
    let outage = decoder.decode(&batch).unwrap_err();
    assert!(outage.is_transient() && outage.to_string().contains("status 500"), "{outage}");
    let decoded = decoder.decode(&batch).unwrap();
    assert_conserved(&decoded, &batch);
    assert_eq!((decoded.rows.num_rows(), decoded.schema_ids), (1, vec![Some(12)]));
    assert_eq!(stub.lines().len(), 4);
}

#[test]
fn a_registry_that_is_not_there_is_unavailable() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = RegistrySettings {
        url: Some(format!("http://{gone}")),
        attempts: 2,
        backoff_ms: 1,
        ..RegistrySettings::default()
    };
    let mut client = Registry::new(&settings, Arc::new(ManualClock::at(0))).unwrap();
    let error = client.schema(1).unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { attempts: 2, .. }), "{error}");
}

#[test]
fn only_the_registrys_own_not_found_means_unknown() {
    for answer in [Some((404, "<html>nothing here</html>".to_owned())), error(404, 404), Some((200, "{}".to_owned()))] {
        let stub = Stub::start(move |_, _| answer.clone());
        let error = stub.client().schema(1).unwrap_err();
        assert!(matches!(error, RegistryError::Unexpected { .. }) && !error.is_transient(), "{error}");
        assert_eq!(stub.lines().len(), 1, "trying again would not help");
    }
}

#[test]
fn credentials_are_sent_and_a_refusal_is_clear() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let stub = Stub::start(|_, request| match request.authorization.as_deref() {
        // user:s3cret
        Some("Basic dXNlcjpzM2NyZXQ=") => found("\"int\""),
        _ => error(401, 401),
    });
    let mut settings = stub.settings();
    settings.username = Some("user".into());
    settings.password_file = Some(file);
    let mut client = Registry::new(&settings, Arc::new(ManualClock::at(0))).unwrap();
    assert_eq!(client.schema(1).unwrap(), Lookup::Found("\"int\"".into()));

    settings.password = Some(Secret("wrong".into()));
    let mut client = Registry::new(&settings, Arc::new(ManualClock::at(0))).unwrap();
    let refused = client.schema(1).unwrap_err();
    assert!(matches!(refused, RegistryError::Unauthorized { status: 401, .. }), "{refused}");
    assert!(!refused.is_transient() && !refused.to_string().contains("wrong"));
    assert_eq!(stub.lines().len(), 2);
    assert!(!format!("{settings:?}").contains("wrong"));
}

#[test]
fn registering_gives_the_id_or_the_registrys_reasons() {
    let stub = Stub::start(|number, _| match number {
        0 => Some((200, r#"{"id":42}"#.to_owned())),
        1 => Some((409, r#"{"error_code":409,"message":"READER_FIELD_MISSING_DEFAULT_VALUE: b"}"#.to_owned())),
        _ => Some((422, r#"{"error_code":42201,"message":"not Avro"}"#.to_owned())),
    });
    let mut client = stub.client();
    assert_eq!(client.register("shop/tx-value", "\"int\"").unwrap(), 42);
    let refused = client.register("s", "\"int\"").unwrap_err().to_string();
    assert!(refused.contains("`s`") && refused.contains("READER_FIELD_MISSING_DEFAULT_VALUE: b"), "{refused}");
    assert!(client.register("s", "x").unwrap_err().to_string().contains("not Avro"));
    let requests = stub.requests.lock().unwrap();
    assert_eq!(requests[0].line, "POST /api/subjects/shop%2Ftx-value/versions");
    assert_eq!(requests[0].body, r#"{"schema":"\"int\""}"#);
}

#[test]
fn compatibility_is_asked_of_the_registry() {
    let stub = Stub::start(|number, _| match number {
        0 => Some((200, r#"{"is_compatible":true}"#.to_owned())),
        1 => error(404, 40_401),
        2 => Some((200, r#"{"is_compatible":false,"messages":["type mismatch at /amount","and more"]}"#.to_owned())),
        _ => Some((200, "[]".to_owned())),
    });
    let mut client = stub.client();
    client.check("s", "\"int\"").unwrap();
    client.check("s", "\"int\"").unwrap();
    let refused = client.check("s", "\"int\"").unwrap_err();
    assert!(matches!(refused, RegistryError::Incompatible { .. }) && !refused.is_transient());
    assert!(refused.to_string().contains("type mismatch at /amount; and more"), "{refused}");
    assert!(matches!(client.check("s", "\"int\""), Err(RegistryError::Unexpected { .. })));
    assert_eq!(stub.lines()[0], "POST /api/compatibility/subjects/s/versions/latest?verbose=true");
}

#[tokio::test]
async fn it_may_be_called_and_dropped_on_a_thread_of_a_runtime() {
    let stub = Stub::start(|_, _| found("\"int\""));
    let mut client = stub.client();
    assert_eq!(client.schema(1).unwrap(), Lookup::Found("\"int\"".into()));
    drop(client);
}

#[test]
fn wrong_settings_are_refused_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("ca.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let with = |change: &dyn Fn(&mut RegistrySettings)| {
        let mut settings = RegistrySettings { url: Some("https://registry".into()), ..RegistrySettings::default() };
        change(&mut settings);
        let made = Registry::new(&settings, Arc::new(ManualClock::at(0)));
        made.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(with(&|_| {}), "");
    assert!(with(&|settings| settings.url = None).contains("`url`"));
    assert!(with(&|settings| settings.url = Some("registry:8081".into())).contains("http://"));
    let user = with(&|settings| settings.url = Some("http://me:hidden@registry".into()));
    assert!(user.contains("password_file") && !user.contains("hidden"), "{user}");
    assert!(with(&|settings| settings.ca_file = Some(empty.clone())).contains("`ca_file`"));
    assert!(with(&|settings| settings.ca_file = Some(folder.path().join("no"))).contains("`ca_file`"));
    assert!(with(&|settings| settings.password_file = Some(folder.path().join("no"))).contains("`password_file`"));
    assert!(toml::from_str::<RegistrySettings>("uri = 'x'").is_err());
    assert!(toml::from_str::<RegistrySettings>("password = 'x'").is_err(), "secrets do not stand in settings");
}
