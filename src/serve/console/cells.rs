//! Rows as JSON that a page can show: numbers that JavaScript holds exactly as numbers, everything else as text.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};

use crate::query::{flat_schema, flatten};

/// JavaScript's numbers are doubles.
const EXACT_MAX: i64 = 1 << 53;
/// Characters of a text that are sent; nobody reads more in a cell.
const TEXT_MAX: usize = 20_000;
/// Bytes of a binary value that are shown.
const BINARY_MAX: usize = 2_048;

/// What a column holds, for alignment and for charts.
pub(super) fn kind(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Dictionary(_, values) => kind(values),
        kind if kind.is_integer() => "integer",
        kind if kind.is_floating() => "number",
        DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Decimal32(..) | DataType::Decimal64(..) => {
            "decimal"
        }
        DataType::Boolean => "boolean",
        DataType::Timestamp(..) => "instant",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary",
        kind if kind.is_nested() => "json",
        _ => "text",
    }
}

/// Names and kinds.
pub(super) fn columns(schema: &Schema) -> Vec<Value> {
    schema.fields().iter().map(|field| json!({"name": field.name(), "kind": kind(field.data_type())})).collect()
}

/// The first `most` rows, a list of cells each; adds about how many bytes they have.
pub(super) fn rows(batch: &RecordBatch, most: usize, bytes: &mut usize) -> Result<Vec<Vec<Value>>, ArrowError> {
    let batch = batch.slice(0, batch.num_rows().min(most));
    let kinds: Vec<&str> = batch.schema().fields().iter().map(|field| kind(field.data_type())).collect();
    let flat = flatten(&batch, &flat_schema(&batch.schema(), |_| true))?;
    let mut rows: Vec<Vec<Value>> = (0..batch.num_rows()).map(|_| Vec::with_capacity(kinds.len())).collect();
    for (column, kind) in flat.columns().iter().zip(kinds) {
        let cells = cells(column, kind)?;
        for (row, cell) in rows.iter_mut().zip(cells) {
            *bytes += bytes_of(&cell) + 4;
            row.push(cell);
        }
    }
    Ok(rows)
}

fn bytes_of(cell: &Value) -> usize {
    match cell {
        Value::String(text) => text.len(),
        Value::Array(_) | Value::Object(_) => cell.to_string().len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// Rows as objects by the names of their columns.
pub(super) fn objects(schema: &Schema, rows: Vec<Vec<Value>>) -> Vec<Value> {
    let object = |row: Vec<Value>| {
        let pairs = schema.fields().iter().map(|field| field.name().clone()).zip(row);
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    rows.into_iter().map(object).collect()
}

fn cells(column: &ArrayRef, kind: &str) -> Result<Vec<Value>, ArrowError> {
    match kind {
        "integer" => {
            let number = |value: i128| {
                let exact = i64::try_from(value).ok().filter(|value| value.abs() <= EXACT_MAX);
                exact.map_or_else(|| Value::from(value.to_string()), Value::from)
            };
            let or_null = |value: Option<i128>| value.map_or(Value::Null, number);
            if let Some(column) = column.as_primitive_opt::<UInt64Type>() {
                return Ok(column.iter().map(|value| or_null(value.map(i128::from))).collect());
            }
            let column = cast(column, &DataType::Int64)?;
            Ok(column.as_primitive::<Int64Type>().iter().map(|value| or_null(value.map(i128::from))).collect())
        }
        "number" => {
            let column = cast(column, &DataType::Float64)?;
            // What JSON has no number for is a text: NaN, inf.
            let number = |value: f64| {
                serde_json::Number::from_f64(value).map_or_else(|| format!("{value}").into(), Value::Number)
            };
            Ok(column.as_primitive::<Float64Type>().iter().map(|value| value.map_or(Value::Null, number)).collect())
        }
        "boolean" if *column.data_type() == DataType::Boolean => {
            Ok(column.as_boolean().iter().map(|value| value.map_or(Value::Null, Value::from)).collect())
        }
        "binary" => {
            let column = cast(column, &DataType::LargeBinary)?;
            let bytes = column.as_binary::<i64>();
            Ok(bytes.iter().map(|value| value.map_or(Value::Null, |value| binary(value).into())).collect())
        }
        "json" => {
            let texts = column.as_string::<i32>();
            let read = |text: &str| match serde_json::from_str(text) {
                Ok(value) if text.len() <= TEXT_MAX => value,
                _ => Value::from(cut(text.to_owned())),
            };
            Ok(texts.iter().map(|text| text.map_or(Value::Null, read)).collect())
        }
        _ => {
            let options = FormatOptions::new()
                .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
                .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"));
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
            let text = |row: usize| {
                if column.is_null(row) {
                    return Ok(Value::Null);
                }
                Ok(Value::from(cut(formatter.value(row).try_to_string()?)))
            };
            (0..column.len()).map(text).collect()
        }
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// Text where it is text, else the bytes in hexadecimal.
fn binary(bytes: &[u8]) -> String {
    let shown = bytes.get(..BINARY_MAX).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    let is_plain =
        |text: &&str| !text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'));
    match std::str::from_utf8(shown).ok().filter(is_plain) {
        Some(text) => format!("{text}{more}"),
        None => {
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
        UInt64Array,
    };

    use super::*;

    fn one(column: ArrayRef) -> Vec<Value> {
        let kind = kind(column.data_type());
        cells(&column, kind).unwrap()
    }

    #[test]
    fn what_a_double_cannot_hold_is_text() {
        let big = (1_i64 << 53) + 1;
        assert_eq!(
            one(Arc::new(Int64Array::from(vec![Some(7), Some(big), None]))),
            vec![json!(7), json!(big.to_string()), Value::Null]
        );
        assert_eq!(one(Arc::new(UInt64Array::from(vec![u64::MAX, 7]))), vec![json!("18446744073709551615"), json!(7)]);
        assert_eq!(
            one(Arc::new(Float64Array::from(vec![0.5, f64::NAN, f64::INFINITY]))),
            vec![json!(0.5), json!("NaN"), json!("inf")]
        );
        let money = Decimal128Array::from(vec![1_234_567]).with_precision_and_scale(18, 2).unwrap();
        assert_eq!(one(Arc::new(money)), vec![json!("12345.67")]);
    }

    #[test]
    fn texts_stay_what_they_are() {
        let evil = "<img src=x onerror=alert(1)>";
        assert_eq!(one(Arc::new(StringArray::from(vec![evil]))), vec![json!(evil)]);
        assert_eq!(
            one(Arc::new(BinaryArray::from(vec![&b"{\"a\":1}"[..], &b"\x00\xff"[..]]))),
            vec![json!("{\"a\":1}"), json!("0x00ff")]
        );
        assert_eq!(one(Arc::new(BooleanArray::from(vec![Some(true), None]))), vec![json!(true), Value::Null]);
        let at = TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("UTC");
        assert_eq!(one(Arc::new(at)), vec![json!("1970-01-01T00:00:01.500Z")]);
    }
}
