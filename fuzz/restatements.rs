//! Any rows of gold through the redo log and back, and any text among its lines.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use assay::domain::{Layer, TableName, schema};
use assay::lake::restatements;

pub fn check(data: &[u8]) {
    let rows = rows_of(data);
    let table = TableName::new(Layer::Gold, "t");
    let key = [schema::WINDOW_START.to_owned(), "name".to_owned()];
    let log =
        restatements::rows(&table, &rows.slice(0, rows.num_rows() / 2), &rows, &key, 7, 8).expect("it is written");
    let lines = log.column_by_name(restatements::AFTER).expect("a column of the log");
    let lines = lines.as_any().downcast_ref::<StringArray>().expect("texts").iter().flatten().collect::<Vec<_>>();
    assert_eq!(joined(restatements::parse(lines.iter().copied(), &rows.schema()).expect("it is read")), rows);
    if let Ok(text) = str::from_utf8(data) {
        let among = lines.iter().copied().take(1).chain(text.lines()).chain(lines.iter().copied().take(1));
        if let Ok(read) = restatements::parse(among, &rows.schema()) {
            assert!(lines.is_empty() || joined(read).slice(0, 1) == rows.slice(0, 1));
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![],
        (0..=255).collect(),
        vec![0x7f; 64],
        vec![0xff; 64],
        b"{\"window_start\":\"1970-01-01T00:00:00Z\",\"n\":1,\"amount\":\"1.5\"}\n{}".to_vec(),
    ]
}

fn joined(batches: Vec<RecordBatch>) -> RecordBatch {
    concat_batches(&gold(), &batches).expect("batches of one table")
}

fn gold() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(schema::WINDOW_START, schema::timestamp(), false),
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("small", DataType::Int32, true),
        Field::new("amount", DataType::Decimal128(38, 6), true),
        Field::new("share", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", schema::timestamp(), true),
    ]))
}

/// Up to eight rows whose values are the bytes; where they end, nulls.
fn rows_of(data: &[u8]) -> RecordBatch {
    let mut bytes = data;
    let mut columns: [Vec<Option<[u8; 8]>>; 9] = Default::default();
    for _ in 0..data.len().div_ceil(64).min(8) {
        for column in &mut columns {
            let next = bytes.split_first_chunk::<8>();
            bytes = next.map_or(&[], |(_, rest)| rest);
            column.push(next.map(|(value, _)| *value));
        }
    }
    let [start, name, n, small, amount, share, flag, day, at] = columns;
    let long = |bytes: [u8; 8]| i64::from_le_bytes(bytes);
    let int = |bytes: [u8; 8]| long(bytes) as i32;
    // Which NaN it was is not kept.
    let float = |bytes: [u8; 8]| Some(f64::from_le_bytes(bytes)).filter(|value| !value.is_nan()).unwrap_or(f64::NAN);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(
            start
                .into_iter()
                .map(|value| Some(value.map_or(0, long)))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(
            name.into_iter()
                .map(|value| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
                .collect::<StringArray>(),
        ),
        Arc::new(n.into_iter().map(|value| value.map(long)).collect::<Int64Array>()),
        Arc::new(small.into_iter().map(|value| value.map(int)).collect::<Int32Array>()),
        Arc::new(
            amount
                .into_iter()
                .map(|value| value.map(|bytes| i128::from(long(bytes)) << 62))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(38, 6)
                .expect("a decimal"),
        ),
        Arc::new(share.into_iter().map(|value| value.map(float)).collect::<Float64Array>()),
        Arc::new(flag.into_iter().map(|value| value.map(|bytes| bytes[0] & 1 == 1)).collect::<BooleanArray>()),
        Arc::new(day.into_iter().map(|value| value.map(int)).collect::<Date32Array>()),
        Arc::new(
            at.into_iter().map(|value| value.map(long)).collect::<TimestampMicrosecondArray>().with_timezone("UTC"),
        ),
    ];
    RecordBatch::try_new(gold(), arrays).expect("columns of gold")
}
