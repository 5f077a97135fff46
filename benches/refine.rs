//! Rows from bronze to silver, and from silver to scores, on one core.

#[path = "common/mod.rs"]
mod common;

use std::hint::black_box;

use arrow::array::RecordBatch;
use assay::domain::{History, HistoryError};
use assay::refine::{RefineSettings, Refiner};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use common::{bronze, plan};

const ROWS: usize = 16_384;
const KEY: [u8; 16] = [7; 16];

/// A past without rows.
struct Empty;

impl History for Empty {
    fn scan(&self, _from_us: i64, _to_us: i64, _columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        Ok(Vec::new())
    }

    fn may_contain(&self, _from_us: i64, _to_us: i64) -> bool {
        false
    }
}

fn refine(criterion: &mut Criterion) {
    let plan = plan();
    let bronze = bronze(&plan, ROWS);
    let settings = RefineSettings::default();
    let references = &plan.catalog.references;
    let new = || Refiner::new(&plan.silver, &plan.bronze_schema, references, &settings, KEY).expect("silver compiles");
    let mut group = criterion.benchmark_group("refine");
    group.throughput(Throughput::Elements(bronze.num_rows() as u64));
    // A refiner remembers the ids it saw: each run needs a new one, or all rows were duplicates.
    group.bench_function("silver", |bencher| {
        bencher.iter_batched_ref(new, |silver| silver.refine(black_box(&bronze), &Empty), BatchSize::LargeInput);
    });
    let silver = new().refine(&bronze, &Empty).expect("rows of the generator").silver;
    for def in &plan.rows {
        let new = || Refiner::new(def, silver.schema_ref(), references, &settings, KEY).expect("the table compiles");
        group.bench_function(def.table.name.as_str(), |bencher| {
            bencher.iter_batched_ref(new, |table| table.refine(black_box(&silver), &Empty), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, refine);
criterion_main!(benches);
