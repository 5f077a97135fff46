//! The span of a request, with the parts of its work, linked to the epoch that it was answered from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use tracing::Instrument;

use crate::domain::{Stint, Timeline};
use crate::scoring::Scores;
use crate::telemetry::traces::{Incoming, Kind, Span, SpanContext, Traces, Value};

tokio::task_local! {
    /// Of the request that the task answers; not set where it is not told.
    static CURRENT: Arc<Traced>;
}

/// What machines ask all day, and nobody looks for.
const UNTOLD: [&str; 3] = ["/metrics", "/health", "/ready"];

/// A request that is told, while it is answered.
pub(super) struct Traced {
    traces: Traces,
    context: SpanContext,
    incoming: Option<Incoming>,
    began_us: i64,
    method: &'static str,
    /// As it is declared.
    route: Option<String>,
    path: String,
    scheme: &'static str,
    found: Mutex<Found>,
}

/// What was found out meanwhile.
#[derive(Default)]
struct Found {
    parts: Timeline,
    links: Vec<SpanContext>,
    attributes: Vec<(&'static str, Value)>,
    is_over: bool,
}

/// The request that this task answers; `None` where it is not told.
pub(super) fn current() -> Option<Arc<Traced>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Answers a request, whose span whoever works on it in this task finds by [`current`].
pub(super) async fn within<T>(traced: Option<&Arc<Traced>>, answer: impl Future<Output = T>) -> T {
    match traced {
        None => answer.await,
        Some(traced) => {
            let SpanContext { trace, span } = traced.context;
            let in_log = tracing::error_span!("request", trace_id = %trace, span_id = %span);
            CURRENT.scope(Arc::clone(traced), answer).instrument(in_log).await
        }
    }
}

impl Traced {
    /// `None` where the request is not to be told: traces are off, the client does not record its own, or chance says so.
    pub fn begin<B>(
        traces: &Traces,
        request: &Request<B>,
        route: Option<&str>,
        scheme: &'static str,
    ) -> Option<Arc<Self>> {
        if !traces.is_on() || UNTOLD.contains(&request.uri().path()) {
            return None;
        }
        let incoming = incoming(request.headers());
        let context = traces.of_request(incoming.as_ref())?;
        Some(Arc::new(Self {
            traces: traces.clone(),
            context,
            incoming,
            began_us: traces.now_us(),
            method: method(request.method()),
            route: route.map(str::to_owned),
            path: request.uri().path().to_owned(),
            scheme,
            found: Mutex::default(),
        }))
    }

    pub fn now_us(&self) -> i64 {
        self.traces.now_us()
    }

    /// A part of the work was done from then until now.
    pub fn took(&self, part: &'static str, began_us: i64) {
        let ended_us = self.now_us();
        self.found().parts.took(part, began_us, ended_us);
    }

    /// Parts of the work that others may have shared.
    fn shared(&self, parts: &Timeline) {
        let mut found = self.found();
        parts.iter().for_each(|(part, stint)| found.parts.join(part, stint));
    }

    /// The answer is of an epoch: 0 for none.
    pub fn answered_from(&self, epoch: i64) {
        let root = self.traces.of_epoch(epoch);
        let mut found = self.found();
        if let Some(root) = root.filter(|root| !found.links.contains(root)) {
            found.links.push(root);
            if !found.attributes.iter().any(|(key, _)| *key == "assay.epoch") {
                found.attributes.push(("assay.epoch", epoch.into()));
            }
        }
    }

    /// The transaction waited for the round that scored it.
    pub fn waited(&self, asked_us: i64, scores: &Scores) {
        let parsed = scores.watch.as_ref().and_then(|watch| watch.timeline().get("parse"));
        if let Some(parsed) = parsed {
            self.found().parts.took("wait", asked_us, parsed.began_us);
        }
    }

    /// Transactions were scored for the request, perhaps together with those of others.
    pub fn scored(&self, scores: &Scores) {
        if let Some(watch) = &scores.watch {
            self.shared(&watch.timeline());
        }
        self.answered_from(scores.standing.epoch);
        if let Some(model) = &scores.model {
            self.with("assay.model.name", model.name.as_str().to_owned());
            self.with("assay.model.version", model.version.as_str().to_owned());
            self.with("assay.model.role", scores.role.as_str());
        }
    }

    /// Told once; where there are several, that is what is told.
    fn with(&self, key: &'static str, value: impl Into<Value>) {
        let (mut found, value) = (self.found(), value.into());
        match found.attributes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) if *known == value => {}
            Some((_, known)) => *known = "several".into(),
            None => found.attributes.push((key, value)),
        }
    }

    /// The request was answered.
    pub fn end(&self, status: StatusCode) {
        self.tell(Some(status), status.is_server_error().then(|| status.to_string()));
    }

    fn tell(&self, status: Option<StatusCode>, error: Option<String>) {
        let mut held = self.found();
        if held.is_over {
            return;
        }
        let found = std::mem::replace(&mut *held, Found { is_over: true, ..Found::default() });
        drop(held);
        let route = self.route.as_deref();
        let name = route.map_or_else(|| self.method.to_owned(), |route| format!("{} {route}", self.method));
        let mut root = Span::new(self.context, name, self.began_us, self.now_us())
            .of_kind(Kind::Server)
            .with("http.request.method", self.method)
            .with("url.path", self.path.clone())
            .with("url.scheme", self.scheme);
        root.attributes.extend(route.map(|route| ("http.route", route.to_owned().into())));
        if let Some(status) = status {
            root = root.with("http.response.status_code", u64::from(status.as_u16()));
            if error.is_some() {
                root = root.with("error.type", status.as_u16().to_string());
            }
        }
        root.attributes.extend(found.attributes);
        root.links = found.links;
        root.error = error;
        if let Some(incoming) = &self.incoming {
            (root.parent, root.is_parent_remote) = (Some(incoming.parent.span), true);
            root.state.clone_from(&incoming.state);
        }
        let mut spans = vec![root];
        for (part, stint) in found.parts.iter() {
            spans.extend(self.part(part, stint, self.context));
        }
        // What is known of the past is looked up for the tables of rules.
        let rules = spans.iter().find(|span| span.name == "rules").map(|span| span.context.span);
        if let (Some(rules), Some(features)) = (rules, spans.iter_mut().find(|span| span.name == "features")) {
            features.parent = Some(rules);
        }
        self.traces.send(spans);
    }

    fn part(&self, part: &'static str, stint: Stint, parent: SpanContext) -> Option<Span> {
        let context = self.traces.new_span(parent.trace)?;
        let span = Span::new(context, part, stint.began_us, stint.ended_us).child_of(parent.span);
        Some(if stint.times > 1 {
            span.with("assay.times", stint.times).with("assay.busy_us", stint.busy_us)
        } else {
            span
        })
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a request whose client has gone before there was an answer.
pub(super) struct Unanswered(pub Option<Arc<Traced>>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(traced) = &self.0 {
            traced.tell(None, Some("the client has gone before there was an answer".to_owned()));
        }
    }
}

fn incoming(headers: &HeaderMap) -> Option<Incoming> {
    let mut given = headers.get_all("traceparent").iter();
    let (Some(first), None) = (given.next(), given.next()) else { return None };
    let states: Vec<&str> = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok()).collect();
    Incoming::parse(first.to_str().ok()?, Some(&states.join(",")))
}

/// Names of spans are few: a client may call its method whatever it likes.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}
