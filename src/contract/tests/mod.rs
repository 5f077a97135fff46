//! What the tests of this room share: contracts, batches and readers of columns.

mod avro;
mod definition;
mod json;
mod properties;
mod registry;

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type};
use arrow::record_batch::RecordBatch;

use super::{Contract, Decoded, Decoder, Format, LocalSchemas};
use crate::domain::{MessageBatch, MessageBatchBuilder, Reason};

/// A contract named `t` with these versions, each a list of fields in JSON.
fn contract(versions: &[&str]) -> Arc<Contract> {
    let record = |fields: &&str| format!(r#"{{"type":"record","name":"T","fields":{fields}}}"#);
    let files = versions.iter().zip(1..).map(|(fields, number)| (format!("t.v{number}.avsc"), record(fields)));
    Arc::new(Contract::parse("t", files.collect()).unwrap())
}

fn decoder(contract: &Arc<Contract>, format: Format) -> Decoder {
    Decoder::new(contract.clone(), format, Box::new(LocalSchemas::new(contract.clone())))
}

fn batch<'a>(payloads: impl IntoIterator<Item = Option<&'a [u8]>>) -> MessageBatch {
    let mut builder = MessageBatchBuilder::default();
    for (offset, payload) in (0..).zip(payloads) {
        builder.push("t", 0, offset, None, None, payload, Vec::new());
    }
    builder.finish()
}

fn reasons(decoded: &Decoded) -> Vec<(u32, Reason)> {
    decoded.rejected.iter().map(|rejected| (rejected.message, rejected.reason)).collect()
}

/// Every message is in exactly one place, in order.
fn assert_conserved(decoded: &Decoded, batch: &MessageBatch) {
    assert_eq!(decoded.rows.num_rows(), decoded.message_of_row.len());
    assert_eq!(decoded.rows.num_rows(), decoded.schema_ids.len());
    assert!(decoded.message_of_row.is_sorted_by(|left, right| left < right));
    assert!(decoded.rejected.is_sorted_by(|left, right| left.message < right.message));
    let mut all: Vec<u32> = decoded.message_of_row.clone();
    all.extend(decoded.rejected.iter().map(|rejected| rejected.message));
    all.sort_unstable();
    assert_eq!(all, (0..batch.len() as u32).collect::<Vec<_>>());
}

fn text<'a>(rows: &'a RecordBatch, column: &str, row: usize) -> Option<&'a str> {
    let column = rows.column_by_name(column).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn double(rows: &RecordBatch, column: &str, row: usize) -> f64 {
    rows.column_by_name(column).unwrap().as_primitive::<Float64Type>().value(row)
}

fn int(rows: &RecordBatch, column: &str, row: usize) -> i32 {
    rows.column_by_name(column).unwrap().as_primitive::<Int32Type>().value(row)
}

fn boolean(rows: &RecordBatch, column: &str, row: usize) -> bool {
    rows.column_by_name(column).unwrap().as_boolean().value(row)
}

/// Avro's variable-length zig-zag number.
fn long(value: i64) -> Vec<u8> {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while raw >= 0x80 {
        bytes.push(raw.to_le_bytes()[0] | 0x80);
        raw >>= 7;
    }
    bytes.push(raw.to_le_bytes()[0]);
    bytes
}

/// Avro's string or bytes.
fn string(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [long(value.len() as i64), value.to_vec()].concat()
}

fn framed(id: i32, record: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), record].concat()
}
