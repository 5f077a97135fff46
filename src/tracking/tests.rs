use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

fn settings(uri: &str) -> TrackingSettings {
    TrackingSettings { uri: uri.to_owned(), experiment: "assay".to_owned(), ..TrackingSettings::default() }
}

fn run() -> RunLog {
    RunLog {
        name: "fraud".into(),
        params: (0..150).map(|at| (format!("p{at}"), "x".repeat(7_000))).collect(),
        metrics: vec![("f1".into(), 0.5)],
        files: vec![("card.md".into(), b"#".to_vec())],
        model: Some(ModelLog { name: "fraud".into(), folder: "model".into(), tags: Vec::new(), alias: None }),
        ..RunLog::default()
    }
}

fn told(settings: &TrackingSettings) -> Logged {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(log(settings, &run()))
}

/// Answers each request with what `answer` makes of its line and body, then closes; returns the requests.
fn server(requests: usize, answer: fn(&str) -> (u16, &'static str)) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/ml", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        (0..requests)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut seen = Vec::new();
                let mut part = [0; 65_536];
                loop {
                    let read = stream.read(&mut part).unwrap();
                    seen.extend_from_slice(&part[..read]);
                    let text = String::from_utf8_lossy(&seen).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.to_ascii_lowercase().lines().find_map(|line| {
                        line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
                    });
                    if body.len() >= length.unwrap_or(0) || read == 0 {
                        let (status, answer) = answer(head);
                        let length = answer.len();
                        let head =
                            format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                        stream.write_all((head + answer).as_bytes()).unwrap();
                        return text;
                    }
                }
            })
            .collect()
    });
    (uri, thread)
}

fn of_mlflow(head: &str) -> (u16, &'static str) {
    match head.split(' ').nth(1).unwrap().split('?').next().unwrap() {
        "/ml/api/2.0/mlflow/experiments/get-by-name" => (404, "{}"),
        "/ml/api/2.0/mlflow/experiments/create" => (200, r#"{"experiment_id": "7"}"#),
        "/ml/api/2.0/mlflow/runs/create" => {
            (200, r#"{"run": {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}}}"#)
        }
        "/ml/api/2.0/mlflow/registered-models/create" => (400, r#"{"error_code": "RESOURCE_ALREADY_EXISTS"}"#),
        "/ml/api/2.0/mlflow/model-versions/create" => (200, r#"{"model_version": {"version": "3"}}"#),
        "/ml/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/card.md" => (500, r#"{"message": "the disk is full"}"#),
        _ => (200, "{}"),
    }
}

#[test]
fn a_run_is_told_in_batches_and_what_is_refused_costs_nothing_else() {
    let (uri, thread) = server(10, of_mlflow);
    let logged = told(&TrackingSettings { token: Some("secret".into()), ..settings(&uri) });
    let seen = thread.join().unwrap();
    assert_eq!((logged.run_id.as_deref(), logged.model_version.as_deref(), logged.files), (Some("r1"), Some("3"), 0));
    assert_eq!(logged.failures.len(), 1, "{:?}", logged.failures);
    assert!(logged.failures[0].contains("card.md") && logged.failures[0].contains("the disk is full"));
    assert!(seen.iter().all(|request| request.to_ascii_lowercase().contains("authorization: bearer secret")));
    let batches: Vec<usize> = seen.iter().map(|request| request.matches(r#""key":"p"#).count()).collect();
    assert_eq!(batches.iter().filter(|params| **params > 0).collect::<Vec<_>>(), [&100, &50]);
    assert!(!seen.iter().any(|request| request.contains(&"x".repeat(6_001))));
    assert!(seen.last().unwrap().contains("FINISHED"));
}

#[test]
fn silence_ends_the_telling() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let logged = told(&settings(&uri));
    assert_eq!((logged.run_id, logged.failures.len()), (None, 1));
    assert!(logged.failures[0].contains("does not answer"), "{:?}", logged.failures);
}

#[test]
fn what_is_no_address_is_told_and_secrets_are_not_shown() {
    for uri in ["./mlruns", "sqlite:///mlflow.db", "databricks", "http://me:pass@host"] {
        let logged = told(&settings(uri));
        assert_eq!(logged.failures.len(), 1, "{uri}");
        assert!(!logged.failures[0].contains("pass@"), "{:?}", logged.failures);
    }
    let secret = TrackingSettings { password: Some("hunter2".into()), token: Some("hunter3".into()), ..settings("") };
    assert!(!format!("{secret:?}").contains("hunter"));
}
