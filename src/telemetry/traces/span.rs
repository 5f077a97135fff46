//! Spans as they are made here, and as OpenTelemetry's protocol has them.

use std::borrow::Cow;

use super::proto::{self, AnyOf, AnyValue, KeyValue, Link, Status};
use super::{SpanContext, SpanId};

/// A longer text of an attribute or a status is cut: a statement or an error may be of any length.
const TEXT_BYTES_MAX: usize = 4096;
/// A trace that is sampled, and ids that are drawn by chance; the parent may be remote.
const FLAGS: u32 = 0x1;
const HAS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Which end of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Internal,
    /// A request that was answered.
    Server,
    /// Messages that were taken from a broker.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: &'static str,
    pub at_us: i64,
    pub attributes: Vec<(&'static str, Value)>,
}

/// Work that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub context: SpanContext,
    pub parent: Option<SpanId>,
    /// Whether the parent is of another process.
    pub is_parent_remote: bool,
    /// What the client's `tracestate` said.
    pub state: String,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    /// Microseconds since 1970, UTC.
    pub began_us: i64,
    pub ended_us: i64,
    pub attributes: Vec<(&'static str, Value)>,
    pub events: Vec<Event>,
    pub events_dropped: u32,
    pub links: Vec<SpanContext>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Span {
    #[must_use]
    pub fn new(context: SpanContext, name: impl Into<Cow<'static, str>>, began_us: i64, ended_us: i64) -> Self {
        Self {
            context,
            parent: None,
            is_parent_remote: false,
            state: String::new(),
            name: name.into(),
            kind: Kind::Internal,
            began_us,
            ended_us: ended_us.max(began_us),
            attributes: Vec::new(),
            events: Vec::new(),
            events_dropped: 0,
            links: Vec::new(),
            error: None,
        }
    }

    #[must_use]
    pub fn child_of(mut self, parent: SpanId) -> Self {
        self.parent = Some(parent);
        self
    }

    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    #[must_use]
    pub fn failed(mut self, error: Option<String>) -> Self {
        self.error = error.map(cut);
        self
    }

    pub(super) fn into_proto(self) -> proto::Span {
        let remote = if self.is_parent_remote { HAS_REMOTE | IS_REMOTE } else { HAS_REMOTE };
        proto::Span {
            trace_id: self.context.trace.0.to_vec(),
            span_id: self.context.span.0.to_vec(),
            trace_state: self.state,
            parent_span_id: self.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
            flags: FLAGS | remote,
            name: self.name.into_owned(),
            kind: match self.kind {
                Kind::Internal => proto::KIND_INTERNAL,
                Kind::Server => proto::KIND_SERVER,
                Kind::Consumer => proto::KIND_CONSUMER,
            },
            start_time_unix_nano: nanos(self.began_us),
            end_time_unix_nano: nanos(self.ended_us),
            attributes: attributes(self.attributes),
            events: self
                .events
                .into_iter()
                .map(|event| proto::Event {
                    time_unix_nano: nanos(event.at_us),
                    name: event.name.to_owned(),
                    attributes: attributes(event.attributes),
                })
                .collect(),
            dropped_events_count: self.events_dropped,
            links: self.links.iter().map(link).collect(),
            status: self.error.map(|message| Status { message, code: proto::STATUS_ERROR }),
        }
    }
}

/// Attributes as the protocol has them.
pub(super) fn attributes(pairs: Vec<(&'static str, Value)>) -> Vec<KeyValue> {
    pairs.into_iter().map(|(key, value)| attribute(key, value)).collect()
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyOf::Text(text.into_owned()),
        Value::Integer(number) => AnyOf::Integer(number),
        Value::Float(number) => AnyOf::Float(number),
        Value::Boolean(told) => AnyOf::Boolean(told),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn link(to: &SpanContext) -> Link {
    Link { trace_id: to.trace.0.to_vec(), span_id: to.span.0.to_vec(), flags: FLAGS }
}

fn nanos(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).saturating_mul(1000)
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        // Before it waits for the receiver: what waits is bounded in number.
        Self::Text(Cow::Owned(cut(text)))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(told: bool) -> Self {
        Self::Boolean(told)
    }
}
