//! `ops.restatements`: what stood in a closed window before a late event, and what stands there now.
//!
//! It is a redo log too. Putting a row in the place of another means to write a whole file anew, and late events come all
//! the time: an epoch only notes here what is restated, and the files follow every `maintenance.restate_interval_s`. Up
//! to which epoch they have it stands in each table's own log, as the Delta transaction `<pipeline>/restated`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, NullableEncoder, WriterBuilder, make_encoder};
use arrow::json::{Encoder, EncoderFactory, EncoderOptions, ReaderBuilder};

use crate::domain::{Layer, TableName, schema as columns};

pub const EPOCH: &str = "epoch";
pub const TABLE: &str = "table";
pub const KEY: &str = "key";
pub const AFTER: &str = "after";

#[must_use]
pub fn table_name() -> TableName {
    TableName::new(Layer::Ops, "restatements")
}

/// One row for each restated row of gold; `before` is null where none stood.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(EPOCH, DataType::Int64, false),
        Field::new(TABLE, DataType::Utf8, false),
        Field::new(columns::WINDOW_START, columns::timestamp(), false),
        Field::new(KEY, DataType::Utf8, false),
        Field::new("before", DataType::Utf8, true),
        Field::new(AFTER, DataType::Utf8, false),
        Field::new("restated_at", columns::timestamp(), false),
    ]))
}

/// Pairs rows before and after by their key; the rows themselves are kept as JSON objects.
///
/// # Errors
/// When Arrow cannot write a row as JSON.
pub fn rows(
    table: &TableName,
    before: &RecordBatch,
    after: &RecordBatch,
    key: &[String],
    epoch: i64,
    now_us: i64,
) -> Result<RecordBatch, ArrowError> {
    let after_keys = json_lines(&project(after, key)?)?;
    let stood: HashMap<String, String> =
        json_lines(&project(before, key)?)?.into_iter().zip(json_lines(before)?).collect();
    let starts = after
        .column_by_name(columns::WINDOW_START)
        .cloned()
        .ok_or_else(|| ArrowError::SchemaError(format!("{table} has no column {}", columns::WINDOW_START)))?;
    let count = after.num_rows();
    let before: StringArray = after_keys.iter().map(|key| stood.get(key)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_value(epoch, count)),
        Arc::new(StringArray::from(vec![table.to_string(); count])),
        starts,
        Arc::new(StringArray::from(after_keys)),
        Arc::new(before),
        Arc::new(StringArray::from(json_lines(after)?)),
        Arc::new(TimestampMicrosecondArray::from_value(now_us, count).with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// Rows of a table from what [`rows`] wrote of them.
///
/// # Errors
/// When a line is not a row of that table.
pub fn parse<'a>(lines: impl Iterator<Item = &'a str>, schema: &SchemaRef) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).build_decoder()?;
    let mut batches = Vec::new();
    for line in lines {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let read = decoder.decode(rest)?;
            rest = &rest[read..];
            if read == 0 {
                batches.extend(decoder.flush()?);
            }
        }
    }
    batches.extend(decoder.flush()?);
    Ok(batches)
}

fn project(batch: &RecordBatch, key: &[String]) -> Result<RecordBatch, ArrowError> {
    let indices = key.iter().map(|name| batch.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    batch.project(&indices)
}

fn json_lines(batch: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    let writer = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Exact));
    let mut writer = writer.build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).map_err(|e| ArrowError::JsonError(e.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Writes the values that come back wrong or not at all from what Arrow makes of them: instants and dates outside of
/// the years 1 to 9999 as the number that they are, floats that are no number by their name.
#[derive(Debug)]
struct Exact;

/// The years 1 to 9999.
const DAYS: Range<i64> = -719_162..2_932_897;
const DAY_US: i64 = 86_400_000_000;

type Special<'a> = Box<dyn Fn(usize) -> Option<String> + 'a>;

impl EncoderFactory for Exact {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);
        let special: Special<'a> = match array.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let instants = array.as_primitive::<TimestampMicrosecondType>();
                Box::new(|row| number(instants.value(row), instants.value(row).div_euclid(DAY_US)))
            }
            DataType::Date32 => {
                let dates = array.as_primitive::<Date32Type>();
                Box::new(|row| number(dates.value(row).into(), dates.value(row).into()))
            }
            DataType::Float32 => {
                let floats = array.as_primitive::<Float32Type>();
                Box::new(|row| name(floats.value(row).into()))
            }
            DataType::Float64 => {
                let floats = array.as_primitive::<Float64Type>();
                Box::new(|row| name(floats.value(row)))
            }
            _ => return Ok(None),
        };
        let plain = make_encoder(field, array, &PLAIN)?;
        Ok(Some(NullableEncoder::new(Box::new(ExactEncoder { plain, special }), array.nulls().cloned())))
    }
}

fn number(value: i64, day: i64) -> Option<String> {
    (!DAYS.contains(&day)).then(|| value.to_string())
}

fn name(value: f64) -> Option<String> {
    (!value.is_finite()).then(|| format!("\"{value}\""))
}

struct ExactEncoder<'a> {
    plain: NullableEncoder<'a>,
    special: Special<'a>,
}

impl Encoder for ExactEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        match (self.special)(row) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => self.plain.encode(row, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Float32Array, Float64Array};

    use super::*;

    /// Such a row would stop the next start, which reads the log again.
    #[test]
    fn values_that_json_cannot_hold_come_back() {
        let instants = |values: [i64; 5]| TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC");
        let day = |day: i64| day * DAY_US;
        let rows = RecordBatch::try_from_iter_with_nullable([
            (
                columns::WINDOW_START,
                Arc::new(instants([day(DAYS.start), day(DAYS.start) - 1, day(DAYS.end) - 1, day(DAYS.end), i64::MIN]))
                    as ArrayRef,
                false,
            ),
            ("at", Arc::new(instants([0, 1, -1, i64::MAX, 1_767_610_800_000_001])), false),
            ("day", Arc::new(Date32Array::from(vec![0, i32::MIN, i32::MAX, 2_932_897, -719_163])), false),
            ("max", Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300])), false),
            ("least", Arc::new(Float32Array::from(vec![f32::NAN, f32::INFINITY, -1e-30, f32::MAX, 0.1])), false),
            ("none", Arc::new(Float64Array::from(vec![None, Some(f64::NAN), None, Some(0.1), None])), true),
        ])
        .unwrap();
        let key = [columns::WINDOW_START.to_owned(), "day".to_owned()];
        let table = TableName::new(Layer::Gold, "t");
        let log = super::rows(&table, &rows, &rows, &key, 1, 2).unwrap();
        let column = |name: &str| log.column_by_name(name).unwrap().as_string::<i32>().clone();
        assert_eq!(column("before"), column(AFTER), "rows with one key are one row");
        assert_eq!(parse(column(AFTER).iter().flatten(), &rows.schema()).unwrap(), [rows]);
    }

    #[test]
    fn usual_values_are_written_for_people() {
        let rows = RecordBatch::try_from_iter([
            (
                columns::WINDOW_START,
                Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")) as ArrayRef,
            ),
            ("day", Arc::new(Date32Array::from(vec![0]))),
            ("share", Arc::new(Float64Array::from(vec![0.5]))),
        ])
        .unwrap();
        assert_eq!(
            json_lines(&rows).unwrap(),
            [r#"{"window_start":"1970-01-01T00:00:00Z","day":"1970-01-01","share":0.5}"#]
        );
    }
}
