//! Scoring by entity key and context: what is known of the entities comes from memory, the rest from the request.

use axum::http::StatusCode;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Problem;
use crate::scoring::ScoringPipeline;

/// The body of `/score`: both are fields of the contract, and together a transaction.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Whom it is about.
    #[serde(default)]
    entity: Map<String, Value>,
    /// What they are about to do.
    #[serde(default)]
    context: Map<String, Value>,
}

/// The transaction that is asked about, as JSON by the contract. It need not have happened: without an identifier it gets
/// `new_key`, and without an event time it happens now.
///
/// # Errors
/// When the body is no question, or a field stands in both parts.
pub(super) fn transaction(
    pipeline: &ScoringPipeline,
    body: &[u8],
    now_us: i64,
    new_key: impl FnOnce() -> String,
) -> Result<Bytes, Problem> {
    let refused =
        |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("code", "not_a_question");
    let Question { entity, context: mut fields } = serde_json::from_slice(body)
        .map_err(|error| refused(format!("expected {{\"entity\": {{…}}, \"context\": {{…}}}}: {error}")))?;
    for (field, value) in entity {
        if fields.contains_key(&field) {
            return Err(
                refused(format!("`{field}` is in `entity` and in `context`; send it once")).with("field", field)
            );
        }
        fields.insert(field, value);
    }
    let stand_ins = pipeline.stand_ins();
    if let Some(key) = stand_ins.key.as_ref().filter(|key| !fields.contains_key(*key)) {
        fields.insert(key.clone(), new_key().into());
    }
    let now = || DateTime::from_timestamp_micros(now_us).map(|now| now.to_rfc3339_opts(SecondsFormat::Micros, true));
    if let Some(time) = stand_ins.event_time.as_ref().filter(|time| !fields.contains_key(*time)) {
        fields.insert(time.clone(), now().into());
    }
    serde_json::to_vec(&fields).map(Bytes::from).map_err(|error| refused(error.to_string()))
}
