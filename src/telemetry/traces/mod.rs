//! Traces, by OpenTelemetry's protocol (OTLP over HTTP): one of each epoch, one of each request, linked.
//!
//! Spans are made when the work that they tell of is over, from times that were taken anyway, and handed to a thread that
//! sends them. Handing over never waits: what does not fit is shed, and what nobody takes is lost; both are counted. Where
//! traces are off, [`Traces`] is empty and every question of it is one branch.

mod exporter;
mod ids;
mod incoming;
pub mod proto;
#[cfg(test)]
pub(crate) mod receiver;
mod settings;
mod span;
mod stopwatch;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;

pub use exporter::Exporter;
pub use ids::{EpochTraces, SpanContext, SpanId, TraceId};
pub use incoming::Incoming;
pub use settings::{StandardVariables, TraceSettings};
pub use span::{Event, Kind, Span, Value};
pub use stopwatch::Stopwatch;

use super::Metrics;
use crate::domain::Clock;
use exporter::{Outbox, Waiting};
use ids::Ids;
use proto::Resource;

/// Takes spans. Clones share everything; the default takes none.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Shared>>);

struct Shared {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    ids: Ids,
    /// Traces whose number is below are told.
    below: u64,
    /// Of the lake that this process writes or follows.
    epochs: RwLock<Option<EpochTraces>>,
    queue: mpsc::UnboundedSender<Vec<Span>>,
    waiting: Arc<Waiting>,
    spans_max: usize,
}

/// What traces are made with.
pub struct TraceParts {
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    /// By chance, so that no two processes give the same ids.
    pub seed: [u8; 16],
    /// What every span of this process carries, beside the name and version of the service.
    pub resource: Vec<(&'static str, String)>,
}

/// Traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("{0}")]
    Setting(String),
    #[error("the thread that sends traces could not be started: {0}")]
    Start(String),
}

impl Traces {
    /// Traces as the settings want them; without an address there are none, and nothing to keep.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn start(settings: &TraceSettings, parts: TraceParts) -> Result<(Self, Option<Exporter>), TracesError> {
        let url = settings.url().map_err(|(name, cause)| TracesError::Setting(format!("{name} {cause}")))?;
        let Some(url) = url else { return Ok((Self::default(), None)) };
        let headers = headers(settings).map_err(TracesError::Setting)?;
        let TraceParts { metrics, clock, seed, resource } = parts;
        let waiting = Arc::new(Waiting::default());
        let (queue, spans) = mpsc::unbounded_channel();
        let mut told = settings.resource();
        told.retain(|(key, _)| key != "service.version" && !resource.iter().any(|(own, _)| own == key));
        let mut attributes: Vec<_> =
            told.iter().map(|(key, value)| span::attribute(key, value.clone().into())).collect();
        attributes.push(span::attribute("service.version", env!("CARGO_PKG_VERSION").into()));
        attributes.extend(resource.into_iter().map(|(key, value)| span::attribute(key, value.into())));
        let outbox = Outbox {
            url,
            headers,
            resource: Resource { attributes },
            interval: Duration::from_millis(settings.interval_ms),
            timeout: Duration::from_millis(settings.timeout_ms),
            metrics: Arc::clone(&metrics),
            waiting: Arc::clone(&waiting),
        };
        let drain = Duration::from_millis(settings.drain_timeout_ms);
        let exporter = Exporter::start(outbox, spans, drain).map_err(TracesError::Start)?;
        let shared = Shared {
            clock,
            metrics,
            ids: Ids::new(seed),
            below: below(settings.requests_share),
            epochs: RwLock::default(),
            queue,
            waiting,
            spans_max: settings.spans_max,
        };
        Ok((Self(Some(Arc::new(shared))), Some(exporter)))
    }

    /// Whether anybody wants to know.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// For the parts of work that is told later; `None` where traces are off.
    #[must_use]
    pub fn stopwatch(&self) -> Option<Stopwatch> {
        self.0.as_ref().map(|shared| Stopwatch::new(Arc::clone(&shared.clock)))
    }

    /// The time in which spans are told; 0 where traces are off.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.0.as_ref().map_or(0, |shared| shared.clock.now_us())
    }

    /// Of another lake from now on; this process writes or follows one.
    pub fn follow_lake(&self, epochs: EpochTraces) {
        if let Some(shared) = &self.0 {
            *shared.epochs.write().unwrap_or_else(PoisonError::into_inner) = Some(epochs);
        }
    }

    /// The root of the trace of an epoch of the lake; `None` before the first epoch, and while no lake is known.
    #[must_use]
    pub fn of_epoch(&self, epoch: i64) -> Option<SpanContext> {
        let shared = self.0.as_ref().filter(|_| epoch > 0)?;
        let epochs = *shared.epochs.read().unwrap_or_else(PoisonError::into_inner);
        epochs.map(|epochs| epochs.of_epoch(epoch))
    }

    /// A span of a trace of its own. `None` where traces are off.
    #[must_use]
    pub fn new_root(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|shared| SpanContext { trace: shared.ids.trace(), span: shared.ids.span() })
    }

    /// Another span of a trace; `None` where traces are off.
    #[must_use]
    pub fn new_span(&self, trace: TraceId) -> Option<SpanContext> {
        self.0.as_ref().map(|shared| SpanContext { trace, span: shared.ids.span() })
    }

    /// The span of a request: a child of the client's where the client records its own, a trace of its own where the client
    /// says nothing and the share of requests takes it in. `None` where it is not to be told.
    #[must_use]
    pub fn of_request(&self, incoming: Option<&Incoming>) -> Option<SpanContext> {
        let shared = self.0.as_ref()?;
        match incoming {
            Some(incoming) => {
                incoming.is_sampled.then(|| SpanContext { trace: incoming.parent.trace, span: shared.ids.span() })
            }
            None => {
                let trace = shared.ids.trace();
                (number(trace) < shared.below).then(|| SpanContext { trace, span: shared.ids.span() })
            }
        }
    }

    /// Takes spans, and never waits. Those of which the queue has no room for all are shed together.
    pub fn send(&self, spans: Vec<Span>) {
        let Some(shared) = &self.0 else { return };
        let count = spans.len();
        if !shared.waiting.enter(count, shared.spans_max) || shared.queue.send(spans).is_err() {
            shared.metrics.trace_spans("shed", count as u64);
        }
    }
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Traces").field(&self.is_on()).finish()
    }
}

/// A trace's place among all: 63 bits of it that are drawn by chance, as other samplers take them.
fn number(trace: TraceId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = trace.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^63"
)]
fn below(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64
}

fn headers(settings: &TraceSettings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in settings.all_headers()? {
        let bad = || {
            format!("`{name}` is no header that can be sent to traces.endpoint: its name or its value is not allowed")
        };
        let parsed = HeaderName::try_from(&name).map_err(|_| bad())?;
        let mut value = HeaderValue::try_from(&value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}
