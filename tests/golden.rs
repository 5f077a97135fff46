//! Each SQL file over a small input written by hand, against an expected output that was read by people.
//!
//! `UPDATE_GOLDENS=1 cargo test --test golden` writes the outputs anew; read the diff before committing it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::csv::{ReaderBuilder, WriterBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use assay::domain::{Layer, NoHistory, TableName, schema};
use assay::refine::{Catalog, Mode, RefineSettings, Refiner, functions, run_batch};
use datafusion::prelude::SessionContext;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Refines the input and runs every table that follows from it; the goldens stand in `tests/golden/`.
async fn check_all(bronze: &str, folder: Option<&Path>, input: RecordBatch) {
    let catalog = Catalog::load(folder, &[TableName::new(Layer::Bronze, bronze)]).unwrap();
    let session = SessionContext::new();
    functions::register(&session, &catalog.references);
    let mut tables = vec![(TableName::new(Layer::Bronze, bronze), input)];
    for def in &catalog.tables {
        let source = tables.iter().find(|(name, _)| *name == def.source).unwrap().1.clone();
        let result = match def.mode {
            Mode::Rows => {
                let settings = RefineSettings::default();
                let mut refiner = Refiner::new(def, &source.schema(), &catalog.references, &settings, [1; 16]).unwrap();
                let refined = refiner.refine(&source, &NoHistory).unwrap();
                let out = refined.silver.num_rows() + refined.quarantined.num_rows() + refined.duplicates as usize;
                assert_eq!(source.num_rows(), out, "rows are conserved");
                if let Some(quarantine) = &def.quarantine {
                    check(&quarantine.to_string(), bronze, &refined.quarantined);
                }
                refined.silver
            }
            Mode::Window => {
                let source = session.read_batch(source).unwrap();
                let result = run_batch(&session, def, source).await.unwrap();
                let schema = Arc::new(result.schema().as_arrow().clone());
                let batches = result.collect().await.unwrap();
                sorted(&concat_batches(&schema, &batches).unwrap(), &def.key)
            }
        };
        check(&def.table.to_string(), bronze, &result);
        tables.push((def.table.clone(), result));
    }
}

fn check(table: &str, bronze: &str, found: &RecordBatch) {
    let mut text = Vec::new();
    WriterBuilder::new().build(&mut text).write(&readable(found)).unwrap();
    let text = String::from_utf8(text).unwrap();
    // Two pipelines may call their quarantine the same.
    let name = if table == "silver.quarantine" { format!("{table}.{bronze}.csv") } else { format!("{table}.csv") };
    let path = root().join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} differs; found:\n{text}", path.display());
}

fn sorted(batch: &RecordBatch, key: &[String]) -> RecordBatch {
    let column = |name: &String| SortColumn { values: batch.column_by_name(name).unwrap().clone(), options: None };
    let order = lexsort_to_indices(&key.iter().map(column).collect::<Vec<_>>(), None).unwrap();
    take_record_batch(batch, &order).unwrap()
}

/// Without the provenance that the test made up; lists of names as one text.
fn readable(batch: &RecordBatch) -> RecordBatch {
    let made_up = schema::provenance();
    let is_made_up =
        |field: &Field| field.name() != schema::SOURCE_OFFSET && made_up.iter().any(|m| m.name() == field.name());
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if is_made_up(field) {
            continue;
        }
        let column: ArrayRef = match column.as_list_opt::<i32>() {
            Some(lists) => {
                let join = |list: ArrayRef| list.as_string::<i32>().iter().flatten().collect::<Vec<_>>().join(" ");
                Arc::new(lists.iter().map(|list| list.map(join)).collect::<StringArray>())
            }
            None => column.clone(),
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Reads `tests/golden/input/<name>.csv`: the fields of the contract and `ingested_at`; the rest of the provenance is
/// made up, with the line as the offset.
fn read_input(name: &str, contract: Vec<Field>) -> RecordBatch {
    let path: PathBuf = root().join("tests/golden/input").join(format!("{name}.csv"));
    let mut fields = contract.clone();
    fields.push(Field::new(schema::INGESTED_AT, DataType::Utf8, false));
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true);
    let batches = reader.build(File::open(&path).unwrap()).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let read = concat_batches(&batches[0].schema(), &batches).unwrap();
    let rows = read.num_rows();
    let bronze: SchemaRef = schema::bronze(&Schema::new(contract));
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            schema::SOURCE_TOPIC => Arc::new(StringArray::from(vec!["input"; rows])),
            schema::SOURCE_PARTITION => Arc::new(Int32Array::from(vec![0; rows])),
            schema::SOURCE_OFFSET => Arc::new((0..rows as i64).collect::<Int64Array>()),
            schema::EPOCH => Arc::new(Int64Array::from(vec![1; rows])),
            schema::PROCESSING_DATE => {
                cast(&(Arc::new(Int32Array::from(vec![20_777; rows])) as ArrayRef), field.data_type()).unwrap()
            }
            name => match read.column_by_name(name) {
                Some(column) => cast(column, field.data_type()).unwrap(),
                None => new_null_array(field.data_type(), rows),
            },
        }
    };
    let columns = bronze.fields().iter().map(column).collect();
    RecordBatch::try_new(bronze, columns).unwrap()
}

#[tokio::test]
async fn transactions() {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    let contract = vec![
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
    ];
    check_all("transactions", None, read_input("bronze.transactions", contract)).await;
}

#[tokio::test]
async fn retail() {
    let contract = vec![
        Field::new("invoice_no", DataType::Utf8, false),
        Field::new("stock_code", DataType::Utf8, false),
        Field::new("description", DataType::Utf8, true),
        Field::new("quantity", DataType::Int32, false),
        Field::new("invoice_date", DataType::Utf8, false),
        Field::new("unit_price", DataType::Float64, false),
        Field::new("customer_id", DataType::Utf8, true),
        Field::new("country", DataType::Utf8, false),
    ];
    let folder = root().join("examples/retail/sql");
    check_all("invoice_lines", Some(&folder), read_input("bronze.invoice_lines", contract)).await;
}
