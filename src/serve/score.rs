//! Scoring by entity key and context: what is known of the entities comes from memory, the rest from the request.

use axum::http::StatusCode;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Problem;
use crate::scoring::ScoringPipeline;

/// The body of `/score`: both are fields of the contract, and together a transaction.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Whom it is about.
    #[serde(default)]
    entity: Fields,
    /// What they are about to do.
    #[serde(default)]
    context: Fields,
}

/// A JSON object in which no name stands twice: the last one would win, and nobody be told.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format!("`{name}` stands twice")));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
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
    let expected = "expected {\"entity\": {…}, \"context\": {…}}";
    // What is derived would take an array too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused(expected.to_owned()));
    }
    let Question { entity, context: Fields(mut fields) } =
        serde_json::from_slice(body).map_err(|error| refused(format!("{expected}: {error}")))?;
    for (field, value) in entity.0 {
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
