use std::fmt;
use std::sync::Arc;

use super::Header;

/// Where a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The envelope: null payload, wire format, schema id.
    Frame,
    /// The payload against its schema.
    Decode,
    /// A line or row of a file.
    Parse,
}

impl Stage {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Decode => "decode",
            Self::Parse => "parse",
        }
    }
}

/// Why a message cannot become a row. The codes are stable: users filter and alert on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    NullPayload,
    /// The first byte is not the Confluent magic byte 0.
    WrongMagic,
    /// Fewer than the five bytes of magic and schema id.
    ShortFrame,
    /// The registry (or the contracts folder) does not know the id.
    UnknownSchemaId,
    /// The registry knows the id, but the schema cannot be read as the contract.
    IncompatibleSchema,
    /// The payload ends before the record does.
    Truncated,
    /// Bytes are left after the record.
    TrailingBytes,
    InvalidUtf8,
    /// Not a record of the schema in any other way (a bad length, an enum or union index out of range).
    Malformed,
    /// A JSON message that is not one JSON object.
    InvalidJson,
    /// A field that the contract requires is absent or null.
    MissingField,
    /// A field has another type than the contract says.
    WrongType,
    /// A line of a file with another number of columns than its header.
    ColumnCount,
}

impl Reason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NullPayload => "null_payload",
            Self::WrongMagic => "wrong_magic",
            Self::ShortFrame => "short_frame",
            Self::UnknownSchemaId => "unknown_schema_id",
            Self::IncompatibleSchema => "incompatible_schema",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::Malformed => "malformed",
            Self::InvalidJson => "invalid_json",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::ColumnCount => "column_count",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that cannot become a row, whole, with what is needed to replay it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub schema_id: Option<i32>,
    pub stage: Stage,
    pub reason: Reason,
    /// For people: what was found, and where in the payload.
    pub detail: String,
}
