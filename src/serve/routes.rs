use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::FutureExt;
use hyper::body::Incoming;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tower_service::Service;

use super::busy_poll::BusyPoll;
use super::timer::Timer;
use super::traced::{self, Traced, Unanswered};
use super::{Problem, ServeState, console, predict};
use crate::query::Task;

/// Where the process scores.
const SCORING: &str = "POST /predict         what is thought of a transaction\n\
                       POST /predict/batch   of many: a JSON array, NDJSON, or an Arrow IPC stream\n\
                       GET /models    the versions of the model, and which ones answer\n\
                       GET /docs      how to call it; GET /openapi.json for machines\n";

const INDEX: &str = concat!(
    "assay ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "GET /metrics   Prometheus metrics\n",
    "GET /health    live: the process answers\n",
    "GET /ready     ready, or what is missing\n",
);

/// All routes, with their bounds.
fn router(state: Arc<ServeState>) -> Router {
    let index = if state.predict.is_some() { format!("{INDEX}{SCORING}") } else { INDEX.to_owned() };
    let routes = Router::new()
        .route(
            "/",
            get(move |State(state): State<Arc<ServeState>>, headers: HeaderMap| async move {
                root(&state, &headers, index)
            }),
        )
        .route("/metrics", get(metrics))
        .route("/health", get(|| async { Json(json!({ "status": "live" })) }))
        .route("/ready", get(ready))
        .merge(predict::routes())
        .merge(console::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method);
    bounded(routes, state)
}

/// Gives routes their limits and their state.
pub(super) fn bounded(routes: Router<Arc<ServeState>>, state: Arc<ServeState>) -> Router {
    routes.layer(middleware::from_fn_with_state(Arc::clone(&state), routed)).with_state(state)
}

/// A browser gets the console; who asks by hand gets a list.
fn root(state: &ServeState, headers: &HeaderMap, index: String) -> Response {
    if state.console.is_some() && console::wants_page(headers) {
        return console::index(headers);
    }
    ([(header::VARY, "Accept")], index).into_response()
}

async fn metrics(State(state): State<Arc<ServeState>>) -> Response {
    match state.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be told");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be told; the log says why")
                .into_response()
        }
    }
}

async fn ready(State(state): State<Arc<ServeState>>) -> Response {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    let names: Vec<&str> = missing.iter().map(|missing| missing.condition.as_str()).collect();
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", names.join(", ")))
        .with("missing", json!(missing))
        .into_response()
}

async fn unknown(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no {}; GET / lists what there is", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

/// What one thread answers with.
pub(super) struct Routes {
    state: Arc<ServeState>,
    router: Router,
    /// Answers what goes by the router.
    beside: Handle,
    /// Of the thread.
    busy_poll: Arc<BusyPoll>,
}

impl Routes {
    pub fn new(state: ServeState, beside: Handle, busy_poll: Arc<BusyPoll>) -> Self {
        let state = Arc::new(state);
        Self { router: router(Arc::clone(&state)), state, beside, busy_poll }
    }

    /// Answers a request. `timer` is that of its connection.
    pub async fn answer(&self, request: Request<Incoming>, timer: &Timer) -> Response {
        // The same handlers that the router leads to, without its way, which takes a tenth of all requests a second.
        let Some(what) = predict::One::of(&request) else {
            let mut routed = Task(self.beside.spawn(self.router.clone().call(request.map(Body::new))));
            return match (&mut routed.0).await {
                Ok(Ok(response)) => response,
                Err(_) => own_error().into_response(),
            };
        };
        let state = &*self.state;
        let route = Some(what.path());
        let response = within_bounds(state, request, route, timer, |request| predict::one(state, request, what)).await;
        self.busy_poll.answered();
        response
    }
}

/// What comes by the router.
async fn routed(State(state): State<Arc<ServeState>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    within_bounds(&state, request, route, &Timer::default(), |request| next.run(request)).await
}

/// Tells the request, where somebody wants to know.
async fn within_bounds<B, F: Future<Output = Response>>(
    state: &ServeState,
    request: Request<B>,
    route: Option<&str>,
    timer: &Timer,
    answer: impl FnOnce(Request<B>) -> F,
) -> Response {
    let scheme = if state.settings.certificate_file.as_os_str().is_empty() { "http" } else { "https" };
    let traced = Traced::begin(&state.traces, &request, route, scheme);
    let unanswered = Unanswered(traced.clone());
    let response = traced::within(traced.as_ref(), answered(state, request, timer, answer)).await;
    if let Some(traced) = &traced {
        traced.end(response.status());
    }
    drop(unanswered);
    response
}

/// No request takes for ever, none brings the service down, and no answer is kept by a cache in between.
async fn answered<B, F: Future<Output = Response>>(
    state: &ServeState,
    request: Request<B>,
    timer: &Timer,
    answer: impl FnOnce(Request<B>) -> F,
) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // Routes count what they answer; what is answered in their place is counted here.
    let in_place = |problem: Problem| {
        let response = problem.into_response();
        if predict::is_scoring(&path) {
            state.metrics.request_answered(&path, response.status().as_str(), began.elapsed());
        }
        response
    };
    let settings = &state.settings;
    let bytes_max = if predict::is_batch(&path) { settings.batch_bytes_max } else { settings.body_bytes_max };
    if declared_length(&request).is_some_and(|bytes| bytes > bytes_max as u64) {
        let detail = format!("a body may have {bytes_max} bytes at most");
        return in_place(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let limit = Duration::from_millis(state.settings.request_timeout_ms);
    let mut response = match timer.until(began + limit, AssertUnwindSafe(answer(request)).catch_unwind()).await {
        Some(Ok(response)) => response,
        Some(Err(_)) => {
            tracing::error!(%method, path, "a request handler panicked");
            in_place(own_error())
        }
        None => {
            tracing::warn!(%method, path, limit_ms = state.settings.request_timeout_ms, "a request took too long");
            let detail = format!("not answered within {} ms", state.settings.request_timeout_ms);
            in_place(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_header(header::RETRY_AFTER, "1"))
        }
    };
    // The files of the page say themselves how they are kept.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn own_error() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "an error of assay itself; the log says more")
}

fn declared_length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
