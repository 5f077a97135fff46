//! Sends spans by OTLP over HTTP, from a thread of its own: whoever makes them never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::Span;
use super::proto::{ExportRequest, ExportResponse, Resource, ResourceSpans, Scope, ScopeSpans};
use crate::domain::with_causes;
use crate::telemetry::Metrics;

/// Spans of one message: some hundred kilobytes.
const BATCH_SPANS: usize = 512;
/// How often a batch is tried, and the pause before the next time.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// The answer of a receiver has nothing to say beyond this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CAUSE_CHARS: usize = 200;

/// Spans that were made and not sent yet, counted.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

impl Waiting {
    /// Makes room for so many, unless there would be more than `most`.
    pub fn enter(&self, spans: usize, most: usize) -> bool {
        let enter = |waiting: usize| waiting.checked_add(spans).filter(|all| *all <= most);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    fn leave(&self, spans: usize) {
        self.0.fetch_sub(spans, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends what waits until it is dropped, and then what is left, for as long as the settings allow.
pub struct Exporter {
    stop: watch::Sender<bool>,
    done: crossbeam_channel::Receiver<()>,
    drain: Duration,
    waiting: Arc<Waiting>,
}

/// The thread's side.
pub(super) struct Outbox {
    pub url: Url,
    pub headers: HeaderMap,
    pub resource: Resource,
    pub interval: Duration,
    pub timeout: Duration,
    pub metrics: Arc<Metrics>,
    pub waiting: Arc<Waiting>,
}

impl Exporter {
    pub(super) fn start(
        outbox: Outbox,
        spans: mpsc::UnboundedReceiver<Vec<Span>>,
        drain: Duration,
    ) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(outbox.timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(outbox.timeout))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|cause| cause.to_string())?;
        let (stop, stopping) = watch::channel(false);
        let (ended, done) = crossbeam_channel::bounded(1);
        let waiting = Arc::clone(&outbox.waiting);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let sending = Sending { outbox, http, spans, stopping, is_silent: false };
        let thread = std::thread::Builder::new().name("assay-traces".to_owned()).spawn(move || {
            runtime.block_on(sending.run());
            let _ = ended.send(());
        });
        thread.map_err(|cause| cause.to_string())?;
        Ok(Self { stop, done, drain, waiting })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if self.done.recv_timeout(self.drain).is_err() && self.waiting.count() > 0 {
            tracing::warn!(spans = self.waiting.count(), "the last traces could not be sent in time");
        }
    }
}

struct Sending {
    outbox: Outbox,
    http: reqwest::Client,
    spans: mpsc::UnboundedReceiver<Vec<Span>>,
    stopping: watch::Receiver<bool>,
    /// Whether it was said already that nobody takes them.
    is_silent: bool,
}

/// Why a batch was not taken.
struct Refused {
    cause: String,
    /// Whether it may be taken later.
    may_pass: bool,
}

impl Sending {
    async fn run(mut self) {
        loop {
            let (batch, is_last) = self.gather().await;
            let count = batch.len();
            if count > 0 {
                self.tell(batch).await;
                self.outbox.waiting.leave(count);
            }
            if is_last {
                return;
            }
        }
    }

    /// What came within an interval, or many; and whether there will be no more.
    async fn gather(&mut self) -> (Vec<Span>, bool) {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < BATCH_SPANS {
            let is_stopping = *self.stopping.borrow();
            if is_stopping {
                self.spans.close();
            }
            let next = async {
                match until {
                    Some(until) => timeout_at(until, self.spans.recv()).await.ok(),
                    None => Some(self.spans.recv().await),
                }
            };
            tokio::select! {
                biased;
                next = next => match next {
                    Some(Some(spans)) => {
                        until.get_or_insert_with(|| Instant::now() + self.outbox.interval);
                        batch.extend(spans);
                    }
                    Some(None) => return (batch, true),
                    None => return (batch, false),
                },
                _ = self.stopping.changed(), if !is_stopping => {}
            }
        }
        (batch, false)
    }

    async fn tell(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let body = bytes::Bytes::from(self.message(batch).encode_to_vec());
        let mut pauses = PAUSES.iter();
        let lost = loop {
            match self.post(body.clone()).await {
                Ok(rejected) => break rejected.min(count),
                Err(refused) => {
                    self.complain(&refused.cause);
                    let pause = pauses.next().filter(|_| refused.may_pass && !*self.stopping.borrow());
                    let Some(pause) = pause else { break count };
                    // Cut short by the end of the process.
                    let _ = timeout(*pause, self.stopping.changed()).await;
                }
            }
        };
        let metrics = &self.outbox.metrics;
        metrics.trace_spans("lost", lost);
        metrics.trace_spans("sent", count - lost);
        if lost == count {
            self.complain("it answers that it takes none of them");
        }
        if lost < count && std::mem::take(&mut self.is_silent) {
            tracing::info!(url = %self.outbox.url, "traces are taken again");
        }
    }

    /// Says it once, until it is well again.
    fn complain(&mut self, cause: &str) {
        if !std::mem::replace(&mut self.is_silent, true) {
            let url = self.outbox.url.as_str();
            tracing::warn!(url, cause, "traces are not taken; until they are, they are counted and thrown away");
        }
    }

    /// How many of the spans the receiver refused.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, Refused> {
        let request = self.http.post(self.outbox.url.clone()).headers(self.outbox.headers.clone());
        let silence = |error: reqwest::Error| Refused { cause: with_causes(&error.without_url()), may_pass: true };
        let mut answer =
            request.header(CONTENT_TYPE, "application/x-protobuf").body(body).send().await.map_err(silence)?;
        let status = answer.status();
        let mut told = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(part)) => told.extend_from_slice(&part),
                Ok(None) => break,
                // Taken is taken, whatever becomes of the answer.
                Err(_) if status.is_success() => break,
                Err(error) => return Err(silence(error)),
            }
            if told.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&told).chars().take(CAUSE_CHARS).collect();
            let may_pass = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            return Err(Refused {
                cause: format!("it answers {status} {}", said.trim()).trim_end().to_owned(),
                may_pass,
            });
        }
        // Whoever answers something else has taken them all the same.
        let partial = ExportResponse::decode(&*told).ok().and_then(|answer| answer.partial_success);
        let rejected = partial.filter(|partial| partial.rejected_spans > 0);
        if let Some(rejected) = &rejected {
            tracing::debug!(spans = rejected.rejected_spans, cause = rejected.error_message, "spans were refused");
        }
        Ok(rejected.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)))
    }

    fn message(&self, spans: Vec<Span>) -> ExportRequest {
        let scope = Scope { name: "assay".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let spans = spans.into_iter().map(Span::into_proto).collect();
        let scope_spans = ScopeSpans { scope: Some(scope), spans };
        let resource = Some(self.outbox.resource.clone());
        let resource_spans = ResourceSpans { resource, scope_spans: vec![scope_spans] };
        ExportRequest { resource_spans: vec![resource_spans] }
    }
}
