//! The routes that score.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::asking::Asking;
use super::batching::Batching;
use super::body::{self, BodyKind};
use super::bulk::Bulk;
use super::counts::Counts;
use super::pinning::Pinning;
use super::predictions::{Told, refused};
use super::traced;
use super::{ApiKeys, Problem, ServeSettings, ServeState, models, openapi, score};
use crate::scoring::{Item, Receipts, Scorer, Shadows};
use crate::telemetry::Metrics;

/// Most answers are no longer.
const ANSWER_BYTES: usize = 2048;

/// What the routes that score answer from. Clones share their state.
#[derive(Clone)]
pub struct Predict {
    shared: Arc<Shared>,
    /// Of a thread.
    batching: Arc<Batching>,
}

/// What scores, and who hears of it.
pub struct PredictParts {
    pub scorer: Arc<Scorer>,
    /// Absent where no receipts are kept.
    pub receipts: Option<Receipts>,
    /// Absent where nobody is asked in the shadow.
    pub shadows: Option<Shadows>,
    pub keys: ApiKeys,
    pub metrics: Arc<Metrics>,
}

struct Shared {
    asking: Arc<Asking>,
    pinning: Pinning,
    keys: ApiKeys,
    requests: Semaphore,
    batches: Semaphore,
    openapi: String,
}

/// What a batch asks for beside its transactions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchQuery {
    /// How many contributions each answer names.
    #[serde(default)]
    contributions: usize,
}

impl Predict {
    #[must_use]
    pub fn new(parts: PredictParts, settings: &ServeSettings) -> Self {
        let PredictParts { scorer, receipts, shadows, keys, metrics } = parts;
        let permits = |count: usize| Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS));
        let openapi = openapi::document(&scorer, settings, &keys);
        let pinning = Pinning::new(&scorer);
        let asking = Arc::new(Asking { scorer, receipts, shadows, metrics });
        let batching = Arc::new(Batching::new(Arc::clone(&asking)));
        let (requests, batches) = (permits(settings.requests_max), permits(settings.batches_max));
        Self { shared: Arc::new(Shared { asking, pinning, keys, requests, batches, openapi }), batching }
    }

    /// One that shares everything, but scores together what comes to itself.
    pub(super) fn of_thread(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { batching: Arc::new(Batching::new(Arc::clone(&shared.asking))), shared }
    }

    pub(super) fn scorer(&self) -> &Arc<Scorer> {
        &self.shared.asking.scorer
    }
}

impl std::fmt::Debug for Predict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Predict").field("keys", &self.shared.keys).finish_non_exhaustive()
    }
}

/// The routes of a process that scores.
pub(super) fn routes() -> Router<Arc<ServeState>> {
    Router::new()
        .route("/predict", post(transaction))
        .route("/predict/batch", post(many))
        .route("/score", post(question))
        .route("/models", get(list))
        .route("/openapi.json", get(document))
        .route("/docs", get(openapi::page))
}

/// Whether a path is one of the routes that score.
pub(super) fn is_scoring(path: &str) -> bool {
    path == "/predict" || path == "/score" || is_batch(path)
}

/// Whether a route takes bodies of a batch.
pub(super) fn is_batch(path: &str) -> bool {
    path == "/predict/batch"
}

/// As all requests of its route that come by the router.
async fn transaction(State(state): State<Arc<ServeState>>, request: Request) -> Response {
    one(&state, request, One::Transaction).await
}

async fn question(State(state): State<Arc<ServeState>>, request: Request) -> Response {
    one(&state, request, One::Question).await
}

/// Answers for one transaction.
pub(super) async fn one<B: HttpBody<Data = Bytes>>(state: &ServeState, request: Request<B>, what: One) -> Response {
    let began = Instant::now();
    let answer = match &state.predict {
        Some(predict) => score_one(predict, state, request, began, what).await,
        None => Err(missing()),
    };
    finish(&state.metrics, what.path(), began, answer)
}

/// What a body holds that is not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum One {
    Transaction,
    /// Of entities and their context: the answer tells what the model was given.
    Question,
}

impl One {
    /// `None` of a request that asks for something else.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let path = request.uri().path();
        let found = [Self::Transaction, Self::Question].into_iter().find(|one| one.path() == path);
        found.filter(|_| request.method() == Method::POST)
    }

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Transaction => "/predict",
            Self::Question => "/score",
        }
    }
}

async fn score_one<B: HttpBody<Data = Bytes>>(
    predict: &Predict,
    state: &ServeState,
    request: Request<B>,
    began: Instant,
    what: One,
) -> Result<Response, Problem> {
    let inner = &*predict.shared;
    inner.keys.admit(request.headers())?;
    BodyKind::of(request.headers(), &[BodyKind::Json])?;
    // Before a place is taken: whoever waits for a version to be loaded takes none from others.
    let pin = inner.pinning.of(request.headers()).await;
    let _permit = inner.requests.try_acquire().map_err(|_| {
        Problem::busy(format!("{} transactions are being scored already; try again", state.settings.requests_max))
    })?;
    let traced = traced::current();
    let reading_us = traced.as_ref().map_or(0, |traced| traced.now_us());
    let payload = body::read(request.into_body(), state.settings.body_bytes_max).await?;
    // With the body read: else the connection would be closed on a client that is still sending it.
    let pin = pin?;
    let scorer = predict.scorer();
    let payload = match what {
        One::Transaction => payload,
        One::Question => score::transaction(&scorer.pipeline, &payload, scorer.clock.now_us(), || scorer.new_key())?,
    };
    if let Some(traced) = &traced {
        traced.took("read body", reading_us);
    }
    let asked_us = traced.as_ref().map_or(0, |traced| traced.now_us());
    let scored = predict.batching.score(payload, pin).await;
    let (scores, item) = scored.map_err(|cause| failed(&cause))?;
    if let Some(traced) = &traced {
        traced.waited(asked_us, &scores);
        traced.scored(&scores);
    }
    let most = scorer.settings.contributions_max;
    match scores.items.get(item) {
        Some(item @ Item::Scored { chunk, row }) => {
            let mut told = Told::of(scorer, &scores, *chunk, *row, most).ok_or_else(|| failed("a row is gone"))?;
            if what == One::Question {
                told.tell_inputs(&scores, *chunk, *row);
            }
            let mut counts = Counts::default();
            counts.add(told.counted(), item);
            counts.tell(&state.metrics, &scores);
            let latency_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut text = Vec::with_capacity(ANSWER_BYTES);
            let written = serde_json::to_writer(&mut text, &told.with_answered(&scores, latency_us));
            written.map_err(|error| failed(&error.to_string()))?;
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
        Some(Item::Refused(refusal)) => {
            state.metrics.prediction_refused(&refusal.code, 1);
            Err(refused(refusal))
        }
        None => Err(failed("an item is gone")),
    }
}

async fn many(State(state): State<Arc<ServeState>>, request: Request) -> Response {
    let began = Instant::now();
    let answer = match &state.predict {
        Some(predict) => score_many(predict, &state, request).await,
        None => Err(missing()),
    };
    finish(&state.metrics, "/predict/batch", began, answer)
}

async fn score_many(predict: &Predict, state: &ServeState, request: Request) -> Result<Response, Problem> {
    let inner = &*predict.shared;
    inner.keys.admit(request.headers())?;
    let kind = BodyKind::of(request.headers(), &[BodyKind::Json, BodyKind::Lines, BodyKind::Arrow])?;
    let query = request.uri().query().unwrap_or_default();
    let BatchQuery { contributions } = parse_query(query)?;
    let pin = inner.pinning.of(request.headers()).await;
    // Before the body is read: batches that wait hold no memory.
    let _permit = inner.batches.try_acquire().map_err(|_| {
        Problem::busy(format!("{} batches are being scored already; try again", state.settings.batches_max))
    })?;
    let traced = traced::current();
    let reading_us = traced.as_ref().map_or(0, |traced| traced.now_us());
    let text = body::read(request.into_body(), state.settings.batch_bytes_max).await?;
    if let Some(traced) = &traced {
        traced.took("read body", reading_us);
    }
    let pin = pin?;
    let asking = Arc::clone(&inner.asking);
    let rows_max = state.settings.batch_rows_max;
    let scored = tokio::task::spawn_blocking(move || {
        let bulk = Bulk { asking: &asking, rows_max, pin: pin.as_ref(), traced: traced.as_deref() };
        bulk.score(kind, &text, contributions)
    });
    match scored.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "a batch could not be scored");
            Err(Problem::new(StatusCode::BAD_REQUEST, "the batch could not be read; the log says more"))
        }
    }
}

fn parse_query(query: &str) -> Result<BatchQuery, Problem> {
    let uri = axum::http::Uri::builder().path_and_query(format!("/?{query}")).build();
    let parsed = uri.ok().and_then(|uri| axum::extract::Query::<BatchQuery>::try_from_uri(&uri).ok());
    parsed.map(|query| query.0).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "the query takes contributions=N, how many each answer names")
            .with("field", "contributions")
    })
}

async fn list(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Response {
    let Some(predict) = &state.predict else { return missing().into_response() };
    if let Err(problem) = predict.shared.keys.admit(&headers) {
        return problem.into_response();
    }
    let scorer = Arc::clone(predict.scorer());
    // Manifests are files.
    let told = tokio::task::spawn_blocking(move || models::told(&scorer)).await;
    match told {
        Ok(Ok(told)) => Json(told).into_response(),
        Ok(Err(cause)) => {
            let detail = format!("the registry cannot be read: {cause}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_header(header::RETRY_AFTER, "1").into_response()
        }
        Err(error) => failed(&error.to_string()).into_response(),
    }
}

async fn document(State(state): State<Arc<ServeState>>) -> Response {
    match &state.predict {
        Some(predict) => ([(header::CONTENT_TYPE, "application/json")], predict.shared.openapi.clone()).into_response(),
        None => missing().into_response(),
    }
}

pub(super) fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "this process scores nothing; `assay serve` and `assay run --predict` do")
}

/// The SQL could not be computed for a transaction that fits the contract.
fn failed(cause: &str) -> Problem {
    tracing::warn!(cause, "a transaction could not be scored");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the transaction cannot be computed; the log says more")
        .with("code", "evaluates")
}

fn finish(metrics: &Metrics, route: &str, began: Instant, answer: Result<Response, Problem>) -> Response {
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    metrics.request_answered(route, response.status().as_str(), began.elapsed());
    response
}

#[cfg(test)]
mod tests;
