use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle, Runtime};
use url::Url;

use super::lookup::{Lookup, SchemaLookup};
use crate::domain::{Clock, Reaction, with_causes};

/// Where the schema registry is and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// The address of a Confluent-compatible registry, with its path if it has one. Without it the contracts folder
    /// is used: schema id `n` is version `n` of the contract.
    pub url: Option<String>,
    /// The user name of basic authentication.
    pub username: Option<String>,
    /// A file that holds the password in a line.
    pub password_file: Option<PathBuf>,
    /// The password itself; never read from a file of settings.
    #[serde(skip)]
    pub password: Option<Secret>,
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Milliseconds that one request may take.
    pub timeout_ms: u64,
    /// How often a request is tried before the registry counts as unavailable, from 1.
    pub attempts: u32,
    /// Milliseconds before the second attempt; doubles with each one, with jitter.
    pub backoff_ms: u64,
    /// Milliseconds that the wait between two attempts may reach.
    pub backoff_max_ms: u64,
    /// Milliseconds after which an id that the registry did not know is asked for again.
    pub unknown_retry_ms: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password_file: None,
            password: None,
            ca_file: None,
            timeout_ms: 5_000,
            attempts: 5,
            backoff_ms: 100,
            backoff_max_ms: 5_000,
            unknown_retry_ms: 30_000,
        }
    }
}

impl RegistrySettings {
    /// # Errors
    /// [`RegistryError::Settings`] when the address cannot work. Files are looked at once they are needed.
    pub fn check(&self) -> Result<(), RegistryError> {
        if self.url.is_some() { base_url(self).map(drop) } else { Ok(()) }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// The one that is given, or else what stands in a file, without the end of its line; `None` without either.
    ///
    /// # Errors
    /// In words, when the file cannot be read.
    pub fn given_or_in(given: Option<&Self>, file: &Path) -> Result<Option<Self>, String> {
        if given.is_some() || file.as_os_str().is_empty() {
            return Ok(given.cloned());
        }
        let text = fs::read_to_string(file).map_err(|cause| format!("{}: {cause}", file.display()))?;
        Ok(Some(Self(text.trim_end_matches(['\r', '\n']).to_owned())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What the registry would not or could not do.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answered, or not in a useful way; it may pass.
    #[error(
        "the schema registry did not answer {url} in {attempts} attempts: {cause}; check that it runs and can be reached"
    )]
    Unavailable { url: String, attempts: u32, cause: String },

    #[error("the schema registry refused {url} with status {status}: check `username` and the password")]
    Unauthorized { url: String, status: u16 },

    #[error("the schema registry refuses the schema of subject `{subject}`: {}; change the contract, or the compatibility level of the subject", messages.join("; "))]
    Incompatible { subject: String, messages: Vec<String> },

    #[error(
        "the schema registry answered {url} with status {status}: {body}; check that `url` is a Confluent-compatible registry"
    )]
    Unexpected { url: String, status: u16, body: String },

    #[error("registry setting `{key}`: {problem}")]
    Settings { key: &'static str, problem: String },
}

impl RegistryError {
    /// Whether the same call may succeed later without anybody changing a setting.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// What to do about it.
    #[must_use]
    pub const fn reaction(&self) -> Reaction {
        if self.is_transient() { Reaction::Retry } else { Reaction::Correct }
    }
}

/// A client of a Confluent-compatible schema registry. Its calls block.
///
/// A schema is fetched once per id and kept for ever, since an id never changes its meaning.
pub struct Registry {
    client: Client,
    base: Url,
    username: Option<String>,
    password: Option<Secret>,
    attempts: u32,
    backoff_ms: u64,
    backoff_max_ms: u64,
    unknown_retry_us: i64,
    found: HashMap<i32, String>,
    /// When each unknown id was asked for.
    unknown: HashMap<i32, i64>,
    clock: Arc<dyn Clock>,
    jitter: SmallRng,
    runtime: Option<Runtime>,
}

const CONTENT: &str = "application/vnd.schemaregistry.v1+json";
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// A stream of garbage ids must not fill the memory.
const UNKNOWN_MAX: usize = 10_000;
const SUBJECT_NOT_FOUND: u64 = 40_401;
const VERSION_NOT_FOUND: u64 = 40_402;
const SCHEMA_NOT_FOUND: u64 = 40_403;

impl Registry {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When a setting is wrong or a file that it names cannot be used.
    pub fn new(settings: &RegistrySettings, clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        let base = base_url(settings)?;
        let mut client = Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms.max(1)))
            .redirect(Policy::none())
            .no_proxy();
        if let Some(path) = &settings.ca_file {
            let problem = |cause: &dyn fmt::Display| setting("ca_file", format!("{}: {cause}", path.display()));
            let pem = fs::read(path).map_err(|cause| problem(&cause))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|cause| problem(&cause))?;
            if authorities.is_empty() {
                return Err(problem(&"holds no certificate in PEM form"));
            }
            client = authorities.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = client.build().map_err(|cause| setting("ca_file", with_causes(&cause)))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| setting("url", format!("no thread to call it from: {cause}")))?;
        Ok(Self {
            client,
            base,
            username: settings.username.clone(),
            password: password(settings)?,
            attempts: settings.attempts.max(1),
            backoff_ms: settings.backoff_ms,
            backoff_max_ms: settings.backoff_max_ms,
            unknown_retry_us: i64::try_from(settings.unknown_retry_ms).unwrap_or(i64::MAX).saturating_mul(1_000),
            found: HashMap::new(),
            unknown: HashMap::new(),
            jitter: SmallRng::seed_from_u64(clock.now_us().cast_unsigned()),
            clock,
            runtime: Some(runtime),
        })
    }

    /// Registers a schema and returns its id; one that is registered already keeps its id.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`] when the registry refuses it, or as the transport fails.
    pub fn register(&mut self, subject: &str, schema: &str) -> Result<i32, RegistryError> {
        let url = self.url(&["subjects", subject, "versions"]);
        let answer = self.call(Method::POST, &url, Some(&json!({ "schema": schema })))?;
        match answer.status {
            200 => {
                let id = answer.json().get("id").and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok());
                id.ok_or_else(|| answer.unexpected(&url))
            }
            409 | 422 => Err(RegistryError::Incompatible { subject: subject.to_owned(), messages: answer.messages() }),
            _ => Err(answer.unexpected(&url)),
        }
    }

    /// Checks a schema against the latest one of its subject; a subject without one accepts any.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`] with the registry's reasons, or as the transport fails.
    pub fn check(&mut self, subject: &str, schema: &str) -> Result<(), RegistryError> {
        let mut url = self.url(&["compatibility", "subjects", subject, "versions", "latest"]);
        url.query_pairs_mut().append_pair("verbose", "true");
        let answer = self.call(Method::POST, &url, Some(&json!({ "schema": schema })))?;
        let refused = || RegistryError::Incompatible { subject: subject.to_owned(), messages: answer.messages() };
        match (answer.status, answer.code()) {
            (404, Some(SUBJECT_NOT_FOUND | VERSION_NOT_FOUND)) => Ok(()),
            (200, _) => match answer.json().get("is_compatible").and_then(Value::as_bool) {
                Some(true) => Ok(()),
                Some(false) => Err(refused()),
                None => Err(answer.unexpected(&url)),
            },
            (409 | 422, _) => Err(refused()),
            _ => Err(answer.unexpected(&url)),
        }
    }

    fn fetch(&mut self, id: i32) -> Result<Lookup, RegistryError> {
        let url = self.url(&["schemas", "ids", &id.to_string()]);
        let answer = self.call(Method::GET, &url, None)?;
        match (answer.status, answer.code()) {
            (200, _) => match answer.json().get("schema").and_then(Value::as_str) {
                Some(schema) => Ok(Lookup::Found(schema.to_owned())),
                None => Err(answer.unexpected(&url)),
            },
            (404, Some(SCHEMA_NOT_FOUND)) => Ok(Lookup::Unknown),
            _ => Err(answer.unexpected(&url)),
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// One request, tried again while the registry is out of order.
    fn call(&mut self, method: Method, url: &Url, body: Option<&Value>) -> Result<Answer, RegistryError> {
        let mut cause = String::new();
        for attempt in 1..=self.attempts {
            let request = self.request(method.clone(), url, body);
            let wait_ms = if attempt == 1 { 0 } else { self.wait_ms(attempt - 1) };
            let answer = self.block_on(async move {
                #[expect(clippy::disallowed_methods, reason = "the back-off of a request")]
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                match request.send().await {
                    Ok(response) => Answer::read(response).await,
                    Err(cause) => Err(with_causes(&cause)),
                }
            });
            match answer {
                Ok(answer) if matches!(answer.status, 401 | 403) => {
                    return Err(RegistryError::Unauthorized { url: url.to_string(), status: answer.status });
                }
                Ok(answer) if !answer.is_transient() => return Ok(answer),
                Ok(answer) => cause = format!("status {}: {}", answer.status, answer.excerpt()),
                Err(error) => cause = error,
            }
            tracing::warn!(%url, attempt, cause, "schema registry out of order");
        }
        Err(RegistryError::Unavailable { url: url.to_string(), attempts: self.attempts, cause })
    }

    fn request(&self, method: Method, url: &Url, body: Option<&Value>) -> RequestBuilder {
        let mut request = self.client.request(method, url.clone()).header("Accept", CONTENT);
        if let Some(username) = &self.username {
            request = request.basic_auth(username, self.password.as_ref().map(|password| &password.0));
        }
        match body {
            Some(body) => request.header("Content-Type", CONTENT).body(body.to_string()),
            None => request,
        }
    }

    /// Half of the doubled wait is certain, half is chance, so that many clients do not come back at once.
    fn wait_ms(&mut self, failures: u32) -> u64 {
        let doubled = self.backoff_ms.saturating_mul(1_u64.checked_shl(failures - 1).unwrap_or(u64::MAX));
        let wait_ms = doubled.min(self.backoff_max_ms);
        wait_ms / 2 + self.jitter.random_range(0..=wait_ms.div_ceil(2))
    }

    /// Blocks on a future, also when the caller stands on a thread of another runtime.
    fn block_on<T: Send>(&self, future: impl Future<Output = Result<T, String>> + Send) -> Result<T, String> {
        let Some(runtime) = &self.runtime else { return Err("the client is shut down".to_owned()) };
        if Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| runtime.block_on(future));
            thread.join().unwrap_or_else(|_| Err("the thread of the call panicked".to_owned()))
        })
    }
}

impl SchemaLookup for Registry {
    fn schema(&mut self, id: i32) -> Result<Lookup, RegistryError> {
        if let Some(schema) = self.found.get(&id) {
            return Ok(Lookup::Found(schema.clone()));
        }
        let now_us = self.clock.now_us();
        let fresh = |asked_us: &i64| now_us.saturating_sub(*asked_us) < self.unknown_retry_us;
        if id < 0 || self.unknown.get(&id).is_some_and(fresh) {
            return Ok(Lookup::Unknown);
        }
        let lookup = self.fetch(id)?;
        match &lookup {
            Lookup::Found(schema) => {
                self.unknown.remove(&id);
                self.found.insert(id, schema.clone());
            }
            Lookup::Unknown => {
                if self.unknown.len() >= UNKNOWN_MAX {
                    self.unknown.clear();
                }
                self.unknown.insert(id, now_us);
            }
        }
        Ok(lookup)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which is forbidden on a thread of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    async fn read(mut response: Response) -> Result<Self, String> {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|cause| with_causes(&cause))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        Ok(Self { status, body })
    }

    fn is_transient(&self) -> bool {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn code(&self) -> Option<u64> {
        self.json().get("error_code").and_then(Value::as_u64)
    }

    /// The registry's own reasons.
    fn messages(&self) -> Vec<String> {
        let json = self.json();
        let list = json.get("messages").and_then(Value::as_array).into_iter().flatten();
        let messages: Vec<String> =
            list.chain(json.get("message")).filter_map(Value::as_str).map(str::to_owned).collect();
        if messages.is_empty() { vec!["it gives no reason".to_owned()] } else { messages }
    }

    fn unexpected(&self, url: &Url) -> RegistryError {
        RegistryError::Unexpected { url: url.to_string(), status: self.status, body: self.excerpt() }
    }

    fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(200).collect()
    }
}

fn base_url(settings: &RegistrySettings) -> Result<Url, RegistryError> {
    let text =
        settings.url.as_deref().ok_or_else(|| setting("url", "is not set; write the registry's address".into()))?;
    let url = Url::parse(text).map_err(|cause| setting("url", format!("is not an address: {cause}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(setting("url", "does not begin with http:// or https://".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(setting("url", "holds a user; set `username` and `password_file` instead".into()));
    }
    Ok(url)
}

fn password(settings: &RegistrySettings) -> Result<Option<Secret>, RegistryError> {
    let file = settings.password_file.as_deref().unwrap_or(Path::new(""));
    Secret::given_or_in(settings.password.as_ref(), file).map_err(|cause| setting("password_file", cause))
}

const fn setting(key: &'static str, problem: String) -> RegistryError {
    RegistryError::Settings { key, problem }
}
