//! What the tests of this room share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};

use super::{Catalog, References, TableDef};
use crate::domain::{History, HistoryError, Layer, TableName, schema};

pub(super) const MINUTE_US: i64 = 60_000_000;

/// The past in memory; counts its scans, and fails on demand.
pub(super) struct MemoryHistory {
    event_time: &'static str,
    batches: Mutex<Vec<RecordBatch>>,
    pub(super) scans: AtomicUsize,
    pub(super) fail_after: AtomicUsize,
}

impl MemoryHistory {
    pub(super) fn new(event_time: &'static str) -> Self {
        let never = AtomicUsize::new(usize::MAX);
        Self { event_time, batches: Mutex::default(), scans: AtomicUsize::new(0), fail_after: never }
    }

    pub(super) fn push(&self, batch: &RecordBatch) {
        self.batches.lock().unwrap().push(batch.clone());
    }
}

impl History for MemoryHistory {
    fn scan(&self, from_us: i64, to_us: i64, columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        if self.scans.fetch_add(1, Ordering::Relaxed) >= self.fail_after.load(Ordering::Relaxed) {
            return Err(HistoryError { table: "memory".into(), cause: "as the test wished".into() });
        }
        let select = |batch: &RecordBatch| {
            let times = batch.column_by_name(self.event_time).unwrap().as_primitive::<TimestampMicrosecondType>();
            let within = times.iter().map(|at| Some(at.is_some_and(|at| (from_us..to_us).contains(&at))));
            let kept = filter_record_batch(batch, &within.collect::<BooleanArray>()).unwrap();
            let indices = columns.iter().map(|name| kept.schema().index_of(name).unwrap()).collect::<Vec<_>>();
            kept.project(&indices).unwrap()
        };
        Ok(self.batches.lock().unwrap().iter().map(select).filter(|batch| batch.num_rows() > 0).collect())
    }

    fn may_contain(&self, from_us: i64, to_us: i64) -> bool {
        let batches = self.batches.lock().unwrap();
        let times = batches.iter().map(|batch| batch.column_by_name(self.event_time).unwrap().clone());
        times.into_iter().any(|times| {
            times.as_primitive::<TimestampMicrosecondType>().iter().flatten().any(|at| (from_us..to_us).contains(&at))
        })
    }
}

pub(super) fn catalog() -> Catalog {
    Catalog::load(None, &[TableName::new(Layer::Bronze, "transactions")]).unwrap()
}

pub(super) fn definition(name: &str) -> TableDef {
    catalog().get(&name.parse().unwrap()).unwrap().clone()
}

pub(super) fn references() -> Arc<References> {
    catalog().references
}

/// The columns of `bronze.transactions`.
pub(super) fn bronze_schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    schema::bronze(&Schema::new(vec![
        field("transaction_id", DataType::Utf8),
        field("user_id", DataType::Int32),
        field("amount", DataType::Float64),
        field("merchant", DataType::Utf8),
        field("timestamp", DataType::Utf8),
        field("is_fraud", DataType::Boolean),
        field("payment_method", DataType::Utf8),
        field("location", DataType::Utf8),
        field("device_id", DataType::Utf8),
        Field::new("merchant_id", DataType::Utf8, true),
    ]))
}

/// A message of the contract, valid as it stands.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) user: i32,
    pub(super) amount: f64,
    pub(super) at: String,
    pub(super) is_fraud: bool,
    pub(super) method: &'static str,
    pub(super) location: &'static str,
}

impl Sent {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            user: 1,
            amount: 12.5,
            at: "2026-11-20T08:15:30Z".to_owned(),
            is_fraud: false,
            method: "paypal",
            location: "Paris, France",
        }
    }
}

/// Rows of bronze, with offsets from 0, ingested at 2026-11-20T09:00:00Z.
pub(super) fn bronze(sent: &[Sent]) -> RecordBatch {
    let rows = sent.len();
    let texts =
        |of: &dyn Fn(&Sent) -> String| Arc::new(sent.iter().map(|s| Some(of(s))).collect::<StringArray>()) as ArrayRef;
    let ingested = TimestampMicrosecondArray::from(vec![1_795_165_200_000_000; rows]).with_timezone("UTC");
    let offsets = (0..rows as i64).collect::<Int64Array>();
    let mut columns: Vec<ArrayRef> = vec![
        texts(&|s| s.id.clone()),
        Arc::new(sent.iter().map(|s| Some(s.user)).collect::<Int32Array>()),
        Arc::new(sent.iter().map(|s| Some(s.amount)).collect::<Float64Array>()),
        texts(&|_| "acme".to_owned()),
        texts(&|s| s.at.clone()),
        Arc::new(sent.iter().map(|s| Some(s.is_fraud)).collect::<BooleanArray>()),
        texts(&|s| s.method.to_owned()),
        texts(&|s| s.location.to_owned()),
        texts(&|s| format!("device-{}", s.user)),
        new_null_array(&DataType::Utf8, rows),
    ];
    columns.push(texts(&|_| "transactions".to_owned()));
    columns.push(Arc::new(Int32Array::from(vec![3; rows])));
    columns.push(Arc::new(offsets));
    columns.push(new_null_array(&schema::timestamp(), rows));
    columns.push(new_null_array(&DataType::Binary, rows));
    columns.push(new_null_array(&schema::headers_type(), rows));
    columns.push(new_null_array(&DataType::Int32, rows));
    columns.push(Arc::new(ingested));
    columns.push(Arc::new(Int64Array::from(vec![1; rows])));
    columns.push(Arc::new(Date32Array::from(vec![20_777; rows])));
    RecordBatch::try_new(bronze_schema(), columns).unwrap()
}

/// The values of a text column.
pub(super) fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(column).unwrap();
    column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

/// A column as the pretty printer shows it.
pub(super) fn shown(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap();
    (0..column.len()).map(|row| arrow::util::display::array_value_to_string(column, row).unwrap()).collect()
}
