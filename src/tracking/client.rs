//! The calls of MLflow's REST API, version 2.0.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use thiserror::Error;
use url::Url;

use super::{ModelLog, RunLog, TrackingSettings};
use crate::domain::with_causes;

/// A request answers within this or counts as silence. Files may be larger than anything else that is sent.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Of an answer that is no success, what a message shows.
const EXCERPT_CHARS: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("MLflow cannot be asked: {cause}")]
    Setting { cause: String },

    #[error("MLflow does not answer {url}: {cause}")]
    Silence { url: String, cause: String },

    #[error("{cause}")]
    Refused { cause: String },
}

pub struct Client {
    http: reqwest::Client,
    base: Url,
    settings: TrackingSettings,
}

impl Client {
    pub fn new(settings: &TrackingSettings) -> Result<Self, Failure> {
        let base = settings.base().map_err(|cause| Failure::Setting { cause })?;
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(|cause| Failure::Setting { cause: cause.to_string() })?;
        Ok(Self { http, base, settings: settings.clone() })
    }

    /// The number of an experiment, made if it is not there.
    pub async fn experiment(&self, name: &str) -> Result<String, Failure> {
        let mut url = self.url("mlflow", "experiments/get-by-name");
        url.query_pairs_mut().append_pair("experiment_name", name);
        let found = match self.call(Method::GET, &url, None).await? {
            (StatusCode::NOT_FOUND, _) => self.post("experiments/create", &json!({"name": name})).await?,
            answer => success(&url, answer)?,
        };
        let id = found.pointer("/experiment/experiment_id").or_else(|| found.get("experiment_id"));
        text(id).ok_or_else(|| Failure::Refused { cause: format!("{url} gave no experiment_id: is it MLflow?") })
    }

    /// The number of the run, and where its files go.
    pub async fn begin(&self, experiment: &str, run: &RunLog) -> Result<(String, String), Failure> {
        let tags: Vec<Value> = run.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let body = json!({"experiment_id": experiment, "run_name": run.name, "start_time": run.began_us / 1_000,
            "tags": tags});
        let made = self.post("runs/create", &body).await?;
        let of = |path: &str| text(made.pointer(path));
        match (of("/run/info/run_id"), of("/run/info/artifact_uri")) {
            (Some(id), Some(files_at)) => Ok((id, files_at)),
            _ => Err(Failure::Refused { cause: "runs/create gave no run_id and artifact_uri: is it MLflow?".into() }),
        }
    }

    /// Stores a file through the server, which passes it on to wherever it keeps files.
    pub async fn store(&self, files_at: &str, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let Some(place) = files_at.strip_prefix("mlflow-artifacts:") else {
            let cause =
                format!("files go to {files_at}, which MLflow does not pass on: start it with --serve-artifacts");
            return Err(Failure::Refused { cause });
        };
        // With a host (mlflow-artifacts://host/path) or without one (mlflow-artifacts:/path), the server is the same.
        let place = match place.strip_prefix("//") {
            Some(with_host) => with_host.split_once('/').map_or("", |(_, path)| path),
            None => place.trim_start_matches('/'),
        };
        let url = self.url("mlflow-artifacts", &format!("artifacts/{place}/{path}"));
        let request = self.http.request(Method::PUT, url.clone()).body(bytes.to_vec());
        success(&url, self.send(request, &url).await?).map(drop)
    }

    /// The number of the version that was made of the files of a run.
    pub async fn register(&self, model: &ModelLog, run_id: &str, files_at: &str) -> Result<String, Failure> {
        let url = self.url("mlflow", "registered-models/create");
        let (status, body) = self.call(Method::POST, &url, Some(&json!({"name": model.name}))).await?;
        if body.get("error_code").and_then(Value::as_str) != Some("RESOURCE_ALREADY_EXISTS") {
            success(&url, (status, body))?;
        }
        let tags: Vec<Value> = model.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let source = format!("{files_at}/{}", model.folder);
        let body = json!({"name": model.name, "source": source, "run_id": run_id, "tags": tags});
        let made = self.post("model-versions/create", &body).await?;
        let version = text(made.pointer("/model_version/version"));
        version.ok_or_else(|| Failure::Refused { cause: "model-versions/create gave no version".to_owned() })
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = self.url("mlflow", path);
        success(&url, self.call(Method::POST, &url, Some(body)).await?)
    }

    fn url(&self, api: &str, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "2.0", api]).extend(path.split('/').filter(|part| !part.is_empty()));
        }
        url
    }

    async fn call(&self, method: Method, url: &Url, body: Option<&Value>) -> Result<(StatusCode, Value), Failure> {
        let request = self.http.request(method, url.clone());
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.send(request, url).await
    }

    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<(StatusCode, Value), Failure> {
        let of = &self.settings;
        let request = match (&of.token, &of.username) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(username)) => request.basic_auth(username, of.password.as_ref()),
            (None, None) => request,
        };
        let silence = |cause: &reqwest::Error| Failure::Silence { url: url.to_string(), cause: with_causes(cause) };
        let mut answer = request.send().await.map_err(|cause| silence(&cause))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|cause| silence(&cause))? {
            bytes.extend_from_slice(&part);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Refused { cause: format!("{url} answers more than {ANSWER_BYTES_MAX} bytes") });
            }
        }
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok((status, body))
    }
}

fn success(url: &Url, (status, body): (StatusCode, Value)) -> Result<Value, Failure> {
    if status.is_success() {
        return Ok(body);
    }
    let said = body.get("message").and_then(Value::as_str).map_or_else(|| body.to_string(), str::to_owned);
    let said: String = said.chars().take(EXCERPT_CHARS).collect();
    let hint = match status.as_u16() {
        401 | 403 => "; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        _ => "",
    };
    Err(Failure::Refused { cause: format!("{} answers {status}: {said}{hint}", url.path()) })
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
