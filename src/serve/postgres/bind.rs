//! Parameters of a prepared question: their types, and their values in text or binary.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use pgwire::api::Type;
use pgwire::api::portal::{Format, Portal};

use super::failure::{Failure, state};
use crate::serve::sql::placeholders::{fit, placeholders_of};

/// Days and microseconds from 1970, where Arrow begins, to 2000, where PostgreSQL does.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = 946_684_800_000_000;
const DIGITS_MAX: u32 = 38;

/// A parameter: as the client sends it, and as the question wants it.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub kind: Type,
    wanted: Option<DataType>,
}

/// The parameters of a plan, in order: typed by the client where it says so, else by where they stand, else as text.
pub(super) fn parameters(plan: &LogicalPlan, told: &[Option<Type>]) -> Result<Vec<Parameter>, Failure> {
    let found = placeholders_of(plan, told.len())?;
    let parameter = |(at, wanted): (usize, Option<DataType>)| {
        let told = told.get(at).cloned().flatten().filter(|kind| *kind != Type::UNKNOWN && kind.oid() != 0);
        let kind = match (told, &wanted) {
            (Some(kind), _) => kind,
            (None, Some(wanted)) => arrow_pg::datatypes::into_pg_type(wanted).unwrap_or(Type::TEXT),
            (None, None) => Type::TEXT,
        };
        if arrow_type(&kind).is_none() {
            return Err(Failure::new(state::NOT_SUPPORTED, format!("parameters of type {kind} are not supported")));
        }
        Ok(Parameter { kind, wanted })
    };
    found.into_iter().enumerate().map(parameter).collect()
}

/// Nulls of the types that the values will have: with them a plan has the columns that it will have.
pub(super) fn placeholders(parameters: &[Parameter]) -> Result<ParamValues, Failure> {
    let values = parameters.iter().map(|parameter| Ok(parameter.fit(null(&parameter.kind)?)));
    Ok(values.collect::<Result<Vec<_>, Failure>>()?.into())
}

/// The values of a portal.
pub(super) fn values<S: Clone>(portal: &Portal<S>, parameters: &[Parameter]) -> Result<ParamValues, Failure> {
    let given = portal.parameters.len();
    if given != parameters.len() {
        let told = format!("bind message supplies {given} parameters, but the statement requires {}", parameters.len());
        return Err(Failure::new(state::PROTOCOL, told));
    }
    if let Format::Individual(formats) = &portal.parameter_format
        && formats.len() != given
    {
        let told = format!("bind message has {} parameter formats but {given} parameters", formats.len());
        return Err(Failure::new(state::PROTOCOL, told));
    }
    let value = |(at, (parameter, bytes)): (usize, (&Parameter, &Option<bytes::Bytes>))| {
        let value = match bytes {
            None => null(&parameter.kind)?,
            Some(bytes) if portal.parameter_format.is_binary(at) => {
                of_binary(&parameter.kind, bytes).ok_or_else(|| {
                    let told = format!("incorrect binary data format in bind parameter {}", at + 1);
                    Failure::new("22P03", told)
                })?
            }
            Some(bytes) => of_text(&parameter.kind, bytes)?,
        };
        Ok(parameter.fit(value))
    };
    let values = parameters.iter().zip(&portal.parameters).enumerate().map(value);
    Ok(values.collect::<Result<Vec<_>, Failure>>()?.into())
}

impl Parameter {
    fn fit(&self, value: ScalarValue) -> ScalarValue {
        fit(value, self.wanted.as_ref())
    }
}

fn null(kind: &Type) -> Result<ScalarValue, Failure> {
    let wanted = arrow_type(kind).unwrap_or(DataType::Utf8);
    ScalarValue::try_from(&wanted).map_err(|error| Failure::new(state::INTERNAL, error.strip_backtrace()))
}

fn arrow_type(kind: &Type) -> Option<DataType> {
    if let postgres_types::Kind::Array(item) = kind.kind() {
        return Some(DataType::List(Arc::new(Field::new_list_field(arrow_type(item)?, true))));
    }
    Some(match *kind {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 | Type::OID => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 10),
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::CHAR
        | Type::NAME
        | Type::UNKNOWN
        | Type::JSON
        | Type::UUID => DataType::Utf8,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
        _ => return None,
    })
}

fn of_text(kind: &Type, bytes: &[u8]) -> Result<ScalarValue, Failure> {
    let bad =
        |text: &str| Failure::new(state::INVALID_TEXT, format!("invalid input syntax for type {kind}: \"{text}\""));
    let text = std::str::from_utf8(bytes).map_err(|_| Failure::new("22021", "a parameter is not UTF-8"))?;
    if let postgres_types::Kind::Array(item) = kind.kind() {
        let items = array_items(text).ok_or_else(|| bad(text))?;
        let items = items.into_iter().map(|text| match text {
            Some(text) => of_text(item, text.as_bytes()),
            None => null(item),
        });
        return list(items.collect::<Result<_, _>>()?, item);
    }
    let trimmed = text.trim();
    let value = match *kind {
        Type::NUMERIC => number(trimmed),
        Type::BOOL => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "y" | "1" => Some(ScalarValue::Boolean(Some(true))),
            "f" | "false" | "off" | "no" | "n" | "0" => Some(ScalarValue::Boolean(Some(false))),
            _ => None,
        },
        Type::BYTEA => trimmed.strip_prefix("\\x").and_then(hex).map(|bytes| ScalarValue::Binary(Some(bytes))),
        _ => {
            let wanted = arrow_type(kind).unwrap_or(DataType::Utf8);
            let text = if wanted == DataType::Utf8 { text } else { trimmed };
            ScalarValue::Utf8(Some(text.to_owned())).cast_to(&wanted).ok().filter(|value| !value.is_null())
        }
    };
    value.ok_or_else(|| bad(text))
}

fn of_binary(kind: &Type, bytes: &[u8]) -> Option<ScalarValue> {
    if let postgres_types::Kind::Array(item) = kind.kind() {
        return binary_array(item, bytes);
    }
    let utc = Some("UTC".into());
    Some(match *kind {
        Type::BOOL => ScalarValue::Boolean(Some(<[u8; 1]>::try_from(bytes).ok()? != [0])),
        Type::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT4 | Type::OID => ScalarValue::Int32(Some(i32::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(bytes.try_into().ok()?))),
        Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(bytes.try_into().ok()?))),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(bytes.try_into().ok()?))),
        Type::NUMERIC => binary_number(bytes)?,
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::UUID => {
            let id = uuid::Uuid::from_slice(bytes).ok()?;
            ScalarValue::Utf8(Some(id.to_string()))
        }
        Type::DATE => ScalarValue::Date32(Some(i32::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_DAYS)?)),
        Type::TIME => ScalarValue::Time64Microsecond(Some(i64::from_be_bytes(bytes.try_into().ok()?))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let us = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_US)?;
            ScalarValue::TimestampMicrosecond(Some(us), if *kind == Type::TIMESTAMPTZ { utc } else { None })
        }
        Type::INTERVAL => {
            let (us, rest) = bytes.split_first_chunk::<8>()?;
            let (days, months) = rest.split_first_chunk::<4>()?;
            let (us, days) = (i64::from_be_bytes(*us), i32::from_be_bytes(*days));
            ScalarValue::new_interval_mdn(i32::from_be_bytes(months.try_into().ok()?), days, us.checked_mul(1000)?)
        }
        _ => ScalarValue::Utf8(Some(std::str::from_utf8(bytes).ok()?.to_owned())),
    })
}

/// Digits in groups of four, the first of them 10000 to the power of `weight`.
fn binary_number(bytes: &[u8]) -> Option<ScalarValue> {
    let words: Vec<u16> =
        bytes.chunks(2).map(|pair| pair.try_into().ok().map(u16::from_be_bytes)).collect::<Option<_>>()?;
    let [count, weight, sign, scale, groups @ ..] = words.as_slice() else { return None };
    let special = match sign {
        0xC000 => Some(f64::NAN),
        0xD000 => Some(f64::INFINITY),
        0xF000 => Some(f64::NEG_INFINITY),
        _ => None,
    };
    if special.is_some() {
        return Some(ScalarValue::Float64(special));
    }
    if groups.len() != usize::from(*count) {
        return None;
    }
    let weight = i32::from(weight.cast_signed());
    let mut digits: String = groups.iter().map(|group| format!("{group:04}")).collect();
    let whole = (weight + 1) * 4;
    while i32::try_from(digits.len()).ok()? < whole {
        digits.push_str("0000");
    }
    let zeros = usize::try_from(-whole).unwrap_or(0);
    let digits = format!("{}{digits}", "0".repeat(zeros));
    let (whole, part) = digits.split_at_checked(usize::try_from(whole).unwrap_or(0))?;
    let part: String = part.chars().chain(std::iter::repeat('0')).take(usize::from(*scale)).collect();
    number(&format!("{}{whole}.{part}", if *sign == 0x4000 { "-" } else { "" }))
}

/// A decimal number with as many digits as were written; one that has too many, or is none, is a float.
fn number(text: &str) -> Option<ScalarValue> {
    let exact = || -> Option<ScalarValue> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut scale = i32::try_from(part.len()).ok()? - exponent.parse::<i32>().ok()?;
        let mut value: i128 = format!("{whole}{part}").parse().ok()?;
        while scale < 0 {
            value = value.checked_mul(10)?;
            scale += 1;
        }
        let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1).max(u32::try_from(scale).ok()?);
        let fits = digits.max(1) <= DIGITS_MAX;
        fits.then_some(ScalarValue::Decimal128(
            Some(value),
            u8::try_from(digits.max(1)).ok()?,
            i8::try_from(scale).ok()?,
        ))
    };
    exact().or_else(|| text.parse::<f64>().ok().map(|value| ScalarValue::Float64(Some(value))))
}

fn list(items: Vec<ScalarValue>, item: &Type) -> Result<ScalarValue, Failure> {
    let wrong = |error: datafusion::common::DataFusionError| Failure::new(state::INVALID_TEXT, error.strip_backtrace());
    let kind = arrow_type(item).unwrap_or(DataType::Utf8);
    // Numbers of one array may differ in their digits.
    let kind =
        items.iter().map(ScalarValue::data_type).find(|found| matches!(found, DataType::Float64)).unwrap_or(kind);
    let items = items.into_iter().map(|item| item.cast_to(&kind)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let values: ArrayRef = match items.is_empty() {
        true => new_empty_array(&kind),
        false => ScalarValue::iter_to_array(items).map_err(wrong)?,
    };
    let field = Arc::new(Field::new_list_field(kind, true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
    Ok(ScalarValue::List(Arc::new(arrow::array::ListArray::new(field, offsets, values, None))))
}

fn binary_array(item: &Type, bytes: &[u8]) -> Option<ScalarValue> {
    let mut rest = bytes;
    let mut int = || -> Option<i32> {
        let (int, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(i32::from_be_bytes(*int))
    };
    let dimensions = int()?;
    let (_nulls, _kind) = (int()?, int()?);
    if dimensions == 0 {
        return list(Vec::new(), item).ok();
    }
    let (length, _lower) = (usize::try_from(int()?).ok()?, int()?);
    if dimensions != 1 || length > bytes.len() {
        return None;
    }
    let mut items = Vec::with_capacity(length);
    for _ in 0..length {
        let (size, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        match usize::try_from(i32::from_be_bytes(*size)) {
            Err(_) => items.push(null(item).ok()?),
            Ok(size) => {
                let (value, after) = rest.split_at_checked(size)?;
                rest = after;
                items.push(of_binary(item, value)?);
            }
        }
    }
    list(items, item).ok()
}

/// The items of `{a,"b,c",NULL}`; arrays in arrays are refused.
fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut letters = inner.chars();
    let (mut item, mut quoted, mut was_quoted) = (String::new(), false, false);
    let finish = |item: &str, was_quoted: bool| match item.trim() {
        bare if !was_quoted && bare.eq_ignore_ascii_case("null") => None,
        bare if !was_quoted => Some(bare.to_owned()),
        _ => Some(item.to_owned()),
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => item.push(letters.next()?),
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => {
                items.push(finish(&item, was_quoted));
                (item, was_quoted) = (String::new(), false);
            }
            '{' | '}' if !quoted => return None,
            letter => item.push(letter),
        }
    }
    items.push(finish(&item, was_quoted));
    (!quoted).then_some(items)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let decimal = |value, precision, scale| Some(ScalarValue::Decimal128(Some(value), precision, scale));
        for (text, expected) in [
            ("10.005", decimal(10_005, 5, 3)),
            ("-0.10", decimal(-10, 2, 2)),
            ("1E+3", decimal(1000, 4, 0)),
            (
                "12345678901234567890123456789012345678",
                decimal(12_345_678_901_234_567_890_123_456_789_012_345_678, 38, 0),
            ),
            ("0", decimal(0, 1, 0)),
            ("x", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    /// As psycopg sends them.
    #[test]
    fn binary_numbers_are_those_of_the_text() {
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        for (words, text) in [
            (vec![2, 0, 0, 3, 10, 50], "10.005"),
            (vec![1, 0xFFFF, 0x4000, 2, 1000], "-0.10"),
            (vec![1, 1, 0, 0, 3], "30000"),
            (vec![1, 0xFFFE, 0, 8, 12], "0.00000012"),
            (vec![0, 0, 0, 0], "0"),
            (vec![3, 1, 0, 2, 1, 2345, 6700], "12345.67"),
        ] {
            assert_eq!(binary_number(&bytes(&words)), number(text), "{text}");
        }
        assert_eq!(binary_number(&bytes(&[2, 0, 0, 0, 1])), None);
    }

    #[test]
    fn values_in_text_are_read_or_refused() {
        let read = |kind: Type, text: &str| of_text(&kind, text.as_bytes());
        assert_eq!(read(Type::BOOL, "t").unwrap(), ScalarValue::Boolean(Some(true)));
        assert_eq!(read(Type::DATE, "1970-01-02").unwrap(), ScalarValue::Date32(Some(1)));
        let instant = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
        assert_eq!(read(Type::TIMESTAMPTZ, "1970-01-01 01:00:00.5+01:00").unwrap(), instant(500_000));
        assert_eq!(read(Type::TIMESTAMPTZ, "1970-01-01").unwrap(), instant(0));
        assert_eq!(read(Type::BYTEA, "\\x00ff").unwrap(), ScalarValue::Binary(Some(vec![0, 255])));
        for (kind, text) in
            [(Type::INT4, "x"), (Type::BOOL, "maybe"), (Type::TIMESTAMPTZ, "soon"), (Type::INT2, "70000")]
        {
            assert_eq!(read(kind, text).unwrap_err().code(), "22P02", "{text}");
        }
    }

    #[test]
    fn arrays_are_read_in_text_and_binary() {
        let items = |text: &str| array_items(text);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(items(r#"{a,"b,\"c",NULL,"NULL"}"#), Some(vec![some("a"), some("b,\"c"), None, some("NULL")]));
        assert_eq!((items("{}"), items("{{1}}"), items("{\"a}")), (Some(vec![]), None, None));
        let text = of_text(&Type::INT4_ARRAY, b"{1,NULL}").unwrap();
        let ints = [1_i32, 1, 23, 2, 1, 4, 1, -1];
        let bytes: Vec<u8> = ints.iter().flat_map(|int| int.to_be_bytes()).collect();
        assert_eq!(of_binary(&Type::INT4_ARRAY, &bytes), Some(text));
        assert_eq!(of_binary(&Type::INT4_ARRAY, bytes.get(..20).unwrap()), None);
    }
}
