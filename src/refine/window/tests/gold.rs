//! A gold table as the lake would keep it, and the same table as DataFusion calculates it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::memory::MemorySchemaProvider;
use datafusion::catalog::{MemTable, SchemaProvider};
use datafusion::prelude::SessionContext;

use super::super::TableChanges;
use super::sources::source_schema;
use crate::domain::schema::{WINDOW_END, WINDOW_START, timestamp};
use crate::refine::TableDef;

/// Rows as text, with how often each is there.
pub type Rows = BTreeMap<String, i64>;

#[derive(Default, Clone)]
pub struct Gold {
    pub open: Rows,
    pub closed: Rows,
}

impl Gold {
    pub fn apply(&mut self, changes: &TableChanges) {
        if let Some(open) = &changes.open {
            self.open = rows(open);
        }
        for (row, count) in rows(&changes.closed) {
            *self.closed.entry(row).or_default() += count;
        }
        if let Some(restated) = &changes.restated {
            for (row, count) in rows(&restated.before) {
                let stood = self.closed.remove(&row);
                assert_eq!(
                    stood,
                    Some(count),
                    "{}: the row before a restatement is not what stood there: {row}",
                    changes.table
                );
            }
            for (row, count) in rows(&restated.after) {
                *self.closed.entry(row).or_default() += count;
            }
            assert!(restated.after.num_rows() >= restated.before.num_rows() && restated.late_rows > 0);
        }
    }

    pub fn all(&self) -> Rows {
        let mut all = self.closed.clone();
        for (row, count) in &self.open {
            *all.entry(row.clone()).or_default() += count;
        }
        all
    }
}

pub fn rows(batch: &RecordBatch) -> Rows {
    let mut rows = Rows::new();
    for text in lines(batch) {
        *rows.entry(text).or_default() += 1;
    }
    rows
}

/// Each row as text; a NULL is not an empty string.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect::<Vec<_>>();
    let cell = |column: &ArrayFormatter<'_>, row: usize| format!("‹{}›", column.value(row));
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

/// The SQL of `def` over all rows, each repeated for every window that it falls in.
pub fn reference(def: &TableDef, source: &[RecordBatch], output: &SchemaRef) -> Rows {
    let expanded = expand(def, source);
    let table = MemTable::try_new(expanded.schema(), vec![vec![expanded]]).unwrap();
    let ctx = SessionContext::new();
    let schema = MemorySchemaProvider::new();
    schema.register_table(def.source.name.clone(), Arc::new(table)).unwrap();
    ctx.catalog("datafusion").unwrap().register_schema("silver", Arc::new(schema)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async { ctx.sql(&def.sql).await.unwrap().collect().await.unwrap() });
    let mut all = Rows::new();
    for batch in batches {
        let columns = batch.columns().iter().zip(output.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
        let typed = RecordBatch::try_new(Arc::clone(output), columns).unwrap();
        rows(&typed).into_iter().for_each(|(row, count)| *all.entry(row).or_default() += count);
    }
    all
}

fn expand(def: &TableDef, source: &[RecordBatch]) -> RecordBatch {
    let window = def.window.unwrap();
    let all = concat_batches(&source_schema(), source).unwrap();
    let times = all.column_by_name("event_at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let (mut rows, mut starts) = (Vec::new(), Vec::new());
    for (row, time) in times.values().iter().enumerate() {
        let mut start = time - time.rem_euclid(window.slide_us);
        while start > time - window.size_us {
            rows.push(row as u32);
            starts.push(start);
            start -= window.slide_us;
        }
    }
    let taken = take_record_batch(&all, &UInt32Array::from(rows)).unwrap();
    let mut fields = taken.schema().fields().iter().cloned().collect::<Vec<_>>();
    fields.extend([WINDOW_START, WINDOW_END].map(|name| Arc::new(Field::new(name, timestamp(), false))));
    let ends = starts.iter().map(|start| start + window.size_us).collect::<Vec<_>>();
    let mut columns = taken.columns().to_vec();
    for instants in [starts, ends] {
        columns.push(Arc::new(TimestampMicrosecondArray::from(instants).with_timezone("UTC")) as ArrayRef);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}
