//! Text cells to typed Arrow columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int32Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::compute::kernels::cast_utils::{Parser, parse_decimal, string_to_timestamp_nanos};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Schema, TimeUnit};
use tracing::warn;

use crate::domain::Reason;
use crate::source::SourceError;

/// A cell as its column's type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Text(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
    Decimal(i128),
}

/// Builds one column of the contract.
pub(super) struct Column {
    pub name: String,
    pub nullable: bool,
    builder: Builder,
}

enum Builder {
    Text(StringBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Decimal(Decimal128Builder, u8, i8),
}

impl Column {
    pub(super) fn all(contract: &Schema) -> Result<Vec<Self>, SourceError> {
        contract
            .fields()
            .iter()
            .map(|field| {
                let unsupported = || SourceError::UnsupportedField {
                    field: field.name().clone(),
                    kind: field.data_type().to_string(),
                };
                let builder = Builder::of(field.data_type()).ok_or_else(unsupported)?;
                Ok(Self { name: field.name().clone(), nullable: field.is_nullable(), builder })
            })
            .collect()
    }

    /// The cell as a value; an empty one is null, or empty text where the field must not be null.
    pub(super) fn parse<'a>(&self, cell: &'a str) -> Result<Value<'a>, (Reason, String)> {
        let trimmed = cell.trim_ascii();
        if cell.is_empty() || (trimmed.is_empty() && !matches!(self.builder, Builder::Text(_))) {
            return match (&self.builder, self.nullable) {
                (_, true) => Ok(Value::Null),
                (Builder::Text(_), false) => Ok(Value::Text(cell)),
                _ => Err((Reason::MissingField, format!("column `{}` is empty", self.name))),
            };
        }
        let value = match &self.builder {
            Builder::Text(_) => Some(Value::Text(cell)),
            Builder::Int(_) => integer(trimmed).filter(|value| i32::try_from(*value).is_ok()).map(Value::Int),
            Builder::Long(_) => integer(trimmed).map(Value::Int),
            Builder::Float(_) | Builder::Double(_) => trimmed.parse().ok().map(Value::Float),
            Builder::Bool(_) => boolean(trimmed).map(Value::Bool),
            Builder::Timestamp(_) => {
                string_to_timestamp_nanos(trimmed).ok().map(|nanos| Value::Int(nanos.div_euclid(1_000)))
            }
            Builder::Date(_) => Date32Type::parse(trimmed).map(|days| Value::Int(days.into())),
            Builder::Decimal(_, precision, scale) => {
                parse_decimal::<Decimal128Type>(trimmed, *precision, *scale).ok().map(Value::Decimal)
            }
        };
        value.ok_or_else(|| {
            let detail = format!("column `{}`: `{}` is not {}", self.name, excerpt(cell), self.builder.article());
            (Reason::WrongType, detail)
        })
    }

    #[allow(clippy::cast_possible_truncation, reason = "checked by parse")]
    pub(super) fn append(&mut self, value: Value<'_>) {
        match (&mut self.builder, value) {
            (Builder::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Builder::Int(builder), Value::Int(value)) => builder.append_value(value as i32),
            (Builder::Long(builder), Value::Int(value)) => builder.append_value(value),
            (Builder::Float(builder), Value::Float(value)) => builder.append_value(value as f32),
            (Builder::Double(builder), Value::Float(value)) => builder.append_value(value),
            (Builder::Bool(builder), Value::Bool(value)) => builder.append_value(value),
            (Builder::Timestamp(builder), Value::Int(value)) => builder.append_value(value),
            (Builder::Date(builder), Value::Int(value)) => builder.append_value(value as i32),
            (Builder::Decimal(builder, ..), Value::Decimal(value)) => builder.append_value(value),
            (builder, _) => builder.append_null(),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Text(builder) => Arc::new(builder.finish()),
            Builder::Int(builder) => Arc::new(builder.finish()),
            Builder::Long(builder) => Arc::new(builder.finish()),
            Builder::Float(builder) => Arc::new(builder.finish()),
            Builder::Double(builder) => Arc::new(builder.finish()),
            Builder::Bool(builder) => Arc::new(builder.finish()),
            Builder::Timestamp(builder) => Arc::new(builder.finish()),
            Builder::Date(builder) => Arc::new(builder.finish()),
            Builder::Decimal(builder, ..) => Arc::new(builder.finish()),
        }
    }
}

impl Builder {
    fn of(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Int32 => Self::Int(Int32Builder::new()),
            DataType::Int64 => Self::Long(Int64Builder::new()),
            DataType::Float32 => Self::Float(Float32Builder::new()),
            DataType::Float64 => Self::Double(Float64Builder::new()),
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_precision_and_scale(*precision, *scale).ok()?;
                Self::Decimal(builder, *precision, *scale)
            }
            _ => return None,
        })
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Long(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Bool(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
        }
    }

    const fn article(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Int(_) => "an int",
            Self::Long(_) => "a long",
            Self::Float(_) => "a float",
            Self::Double(_) => "a double",
            Self::Bool(_) => "a boolean",
            Self::Timestamp(_) => "a timestamp",
            Self::Date(_) => "a date",
            Self::Decimal(..) => "a decimal",
        }
    }
}

/// Which column of a file holds each field of the contract; `None` for a nullable field that the file has not.
///
/// Names are compared without regard to case, the field's own name before its aliases. Other columns are ignored, with one warning.
pub(super) fn map_columns(
    url: &str,
    found: &[String],
    contract: &Schema,
    aliases: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<Option<usize>>, SourceError> {
    let mut mapping = Vec::with_capacity(contract.fields().len());
    for field in contract.fields() {
        let others = aliases.get(field.name()).map(Vec::as_slice).unwrap_or_default();
        let mut names = std::iter::once(field.name()).chain(others);
        let place = names.find_map(|name| found.iter().position(|column| column.eq_ignore_ascii_case(name)));
        let Some(place) = place else {
            if field.is_nullable() {
                mapping.push(None);
                continue;
            }
            let (url, column) = (url.to_owned(), field.name().clone());
            return Err(SourceError::MissingColumn { url, column, found: found.join(", ") });
        };
        let column = found.get(place).cloned().unwrap_or_default();
        if found.iter().filter(|other| other.eq_ignore_ascii_case(&column)).count() > 1 {
            return Err(SourceError::AmbiguousColumn { url: url.to_owned(), field: field.name().clone(), column });
        }
        mapping.push(Some(place));
    }
    let ignored: Vec<&str> = found
        .iter()
        .enumerate()
        .filter(|(place, _)| !mapping.contains(&Some(*place)))
        .map(|(_, column)| column.as_str())
        .collect();
    if !ignored.is_empty() {
        warn!(url, columns = ignored.join(", "), "columns that the contract does not have are ignored");
    }
    Ok(mapping)
}

/// The start of a value that is shown to people.
pub(super) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whole numbers; also those that a spreadsheet wrote as `17850.0`.
fn integer(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    };
    whole.parse().ok()
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}
