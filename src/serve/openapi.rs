//! The routes described, for machines and for people.

use std::sync::Arc;

use arrow::datatypes::DataType;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::predict::missing;
use super::{ApiKeys, ServeSettings, ServeState};
use crate::scoring::Scorer;

const DOCUMENT: &str = include_str!("openapi.json");
const PAGE: &str = include_str!("docs.html");

/// The description, with the fields of the contract at hand.
pub(super) fn document(scorer: &Scorer, settings: &ServeSettings, keys: &ApiKeys) -> String {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    if let Some(version) = document.pointer_mut("/info/version") {
        *version = env!("CARGO_PKG_VERSION").into();
    }
    if let Some(transaction) = document.pointer_mut("/components/schemas/Transaction") {
        *transaction = transaction_schema(scorer);
    }
    if let Some(array) =
        document.pointer_mut("/paths/~1predict~1batch/post/requestBody/content/application~1json/schema")
    {
        array["maxItems"] = settings.batch_rows_max.into();
    }
    if !keys.is_empty() {
        document["security"] = json!([{ "bearer": [] }, { "apiKey": [] }]);
    }
    document.to_string()
}

/// The page that shows the description; all of it comes from here.
pub(super) async fn page(State(state): State<Arc<ServeState>>) -> Response {
    if state.predict.is_none() {
        return missing().into_response();
    }
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (HeaderName::from_static("content-security-policy"), policy),
    ];
    (headers, PAGE).into_response()
}

fn transaction_schema(scorer: &Scorer) -> Value {
    let contract = scorer.pipeline.contract();
    let required: Vec<&str> = contract.required().collect();
    let mut properties = Map::new();
    for field in contract.arrow_schema().fields() {
        let kind = match field.data_type() {
            DataType::Boolean => "boolean",
            DataType::Int32 | DataType::Int64 => "integer",
            DataType::Float32 | DataType::Float64 => "number",
            _ => "string",
        };
        let nullable = field.is_nullable();
        let mut schema = json!({ "type": if nullable { json!([kind, "null"]) } else { json!(kind) } });
        if *field.data_type() == DataType::Int32 {
            schema["minimum"] = i32::MIN.into();
            schema["maximum"] = i32::MAX.into();
        }
        properties.insert(field.name().clone(), schema);
    }
    json!({
        "type": "object",
        "description": "A transaction of the contract. Fields that the contract does not know are ignored. What breaks an \
                        expectation of silver is refused with its field.",
        "required": required,
        "properties": properties,
    })
}
