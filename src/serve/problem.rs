use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// An error as problem details (RFC 9457), `application/problem+json`.
///
/// The type is `about:blank`, so the title is the phrase of the status; `detail` is for the client and must be safe to show.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone, PartialEq)]
struct Parts {
    status: StatusCode,
    detail: String,
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, &'static str)>,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { status, detail: detail.into(), extensions: Map::new(), headers: Vec::new() }))
    }

    /// A further member, for machines.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(member.to_owned(), value.into());
        self
    }

    /// A header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Too much at once: the client is told when to come back.
    #[must_use]
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).with_header(header::RETRY_AFTER, "1")
    }

    /// The member `code`, or `error` where there is none.
    pub(crate) fn code(&self) -> &str {
        self.0.extensions.get("code").and_then(Value::as_str).unwrap_or("error")
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The members as an object, for a part of an answer.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), self.0.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.0.status.as_u16().into());
        body.insert("detail".into(), self.0.detail.clone().into());
        body.extend(self.0.extensions.clone());
        Value::Object(body)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, Json(self.to_value())).into_response();
        for (name, value) in self.0.headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
