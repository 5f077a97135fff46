//! `ops.restatements`: what stood in a closed window before a late event, and what stands there now.
//!
//! It is a redo log too. Putting a row in the place of another means to write a whole file anew, and late events come all
//! the time: an epoch only notes here what is restated, and the files follow every `maintenance.restate_interval_s`. Up
//! to which epoch they have it stands in each table's own log, as the Delta transaction `<pipeline>/restated`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};

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
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).map_err(|e| ArrowError::JsonError(e.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
