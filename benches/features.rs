//! Nanoseconds a row of features: `cargo bench --bench features`. The throughput is in rows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use assay::domain::{History, HistoryError, Layer, TableName, schema};
use assay::features::Features;
use assay::refine::Catalog;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const ROWS: usize = 16_384;
/// A million rows, so that the state is as large as in a running service.
const BATCHES: usize = 64;
/// 2026-11-20T08:00:00Z.
const START_US: i64 = 1_795_161_600_000_000;

/// The rows of the past, all of them whatever is asked.
struct Past(Vec<RecordBatch>);

impl History for Past {
    fn scan(&self, _: i64, _: i64, columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        let project = |batch: &RecordBatch| {
            let indices: Vec<usize> = columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
            batch.project(&indices).unwrap()
        };
        Ok(self.0.iter().map(project).collect())
    }

    fn may_contain(&self, _: i64, _: i64) -> bool {
        !self.0.is_empty()
    }
}

fn silver() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        field("user_id", DataType::Int32),
        field("merchant", DataType::Utf8),
        field("device_id", DataType::Utf8),
        field("country", DataType::Utf8),
        field("amount", DataType::Decimal128(18, 2)),
        field("is_fraud", DataType::Boolean),
        field("event_at", schema::timestamp()),
    ]))
}

/// The `number`th batch of a stream of so many users, one row every `step_us`.
fn batch(number: usize, users: i32, step_us: i64) -> RecordBatch {
    let mut random = SmallRng::seed_from_u64(number as u64);
    let users: Vec<i32> = (0..ROWS).map(|_| random.random_range(0..users)).collect();
    let first = (number * ROWS) as i64;
    let devices = users.iter().map(|user| Some(format!("device-{user}-{}", random.random_range(0..3)))).collect();
    let merchants = (0..ROWS).map(|_| Some(format!("Northwind Grocery {}", random.random_range(0..2_000)))).collect();
    let countries = users.iter().map(|user| Some(["France", "Germany", "Norway"][*user as usize % 3])).collect();
    let (devices, merchants, countries): (StringArray, StringArray, StringArray) = (devices, merchants, countries);
    let amounts: Decimal128Array = (0..ROWS).map(|_| Some(i128::from(random.random_range(1..50_000)))).collect();
    let times: TimestampMicrosecondArray =
        (0..ROWS as i64).map(|row| START_US + (first + row) * step_us).collect::<Vec<_>>().into();
    RecordBatch::try_new(
        silver(),
        vec![
            Arc::new(Int32Array::from(users)),
            Arc::new(merchants),
            Arc::new(devices),
            Arc::new(countries),
            Arc::new(amounts.with_precision_and_scale(18, 2).unwrap()),
            Arc::new((0..ROWS).map(|_| Some(random.random_range(0..100) == 0)).collect::<BooleanArray>()),
            Arc::new(times.with_timezone("UTC")),
        ],
    )
    .unwrap()
}

fn features(criterion: &mut Criterion) {
    let catalog = Catalog::load(None, &[TableName::new(Layer::Bronze, "transactions")]).unwrap();
    let def = catalog.get(&"silver.transaction_features".parse().unwrap()).unwrap();
    let fresh = || Features::new(&def.features, &silver(), "event_at", [1; 16]).unwrap();
    let mut group = criterion.benchmark_group("features");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20).measurement_time(Duration::from_secs(3));
    for (name, users, step_us) in [
        ("100,000 users, 5,000 events a second", 100_000, 200),
        ("1,000,000 users, 5,000 events a second", 1_000_000, 200),
        ("100,000 users, a million events over 30 days", 100_000, 2_472_000),
    ] {
        group.bench_function(name, |b| {
            let mut features = fresh();
            let past = Past(Vec::new());
            (0..BATCHES).for_each(|number| drop(features.compute(&batch(number, users, step_us), &past).unwrap()));
            let mut number = BATCHES;
            let next = || {
                number += 1;
                batch(number, users, step_us)
            };
            b.iter_batched(next, |batch| features.compute(&batch, &past).unwrap(), BatchSize::PerIteration);
        });
    }
    group.bench_function("one row looked up", |b| {
        let mut features = fresh();
        (0..BATCHES)
            .for_each(|number| drop(features.compute(&batch(number, 100_000, 200), &Past(Vec::new())).unwrap()));
        let row = batch(BATCHES, 100_000, 200).slice(0, 1);
        b.iter(|| features.lookup(black_box(&row)).unwrap());
    });
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64)).sample_size(10);
    group.bench_function("a million rows of 30 days loaded at a start", |b| {
        let past = Past((0..BATCHES).map(|number| batch(number, 100_000, 2_472_000)).collect());
        let now_us = START_US + (ROWS * BATCHES) as i64 * 2_472_000;
        b.iter_batched(fresh, |mut features| features.warm_up(now_us, &past).unwrap(), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, features);
criterion_main!(benches);
