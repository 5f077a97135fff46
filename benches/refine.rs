//! Nanoseconds a row of refining: `cargo bench --bench refine`. The throughput is in rows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use assay::domain::{Layer, NoHistory, TableName, schema};
use assay::refine::{Catalog, Dedup, RefineSettings, Refiner, RowsTable, TableDef, TrailingCount};
use chrono::DateTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const ROWS: usize = 10_000;
const USERS: i32 = 1_000_000;
/// 2026-11-20T08:00:00Z.
const START_US: i64 = 1_795_161_600_000_000;
/// 5,000 events a second.
const STEP_US: i64 = 200;

fn bronze_schema() -> SchemaRef {
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

/// The `number`th batch of a stream.
fn bronze(number: usize) -> RecordBatch {
    let mut random = SmallRng::seed_from_u64(number as u64);
    let first = number * ROWS;
    let ids = (0..ROWS).map(|row| Some(format!("{:032x}", (first + row) as u128 * 0x9e37_79b9_7f4a_7c15)));
    let users = (0..ROWS).map(|_| random.random_range(0..USERS)).collect::<Vec<_>>();
    let time = |row: usize| DateTime::from_timestamp_micros(START_US + (first + row) as i64 * STEP_US).unwrap();
    let pick = |choices: &[&str]| {
        users.iter().map(|u| Some(choices[*u as usize % choices.len()].to_owned())).collect::<StringArray>()
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(ids.collect::<StringArray>()),
        Arc::new(Int32Array::from(users.clone())),
        Arc::new(users.iter().map(|u| Some(f64::from(u % 600_000) / 100.0 + 0.01)).collect::<Float64Array>()),
        Arc::new(users.iter().map(|u| Some(format!("merchant-{}", u % 2_000))).collect::<StringArray>()),
        Arc::new(
            (0..ROWS).map(|row| Some(time(row).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())).collect::<StringArray>(),
        ),
        Arc::new(users.iter().map(|u| Some(u % 100 == 0)).collect::<BooleanArray>()),
        Arc::new(pick(&["credit_card", "debit_card", "paypal", "bank_transfer", "digital_wallet", "crypto"])),
        Arc::new(pick(&["Paris, France", "Lagos, Nigeria", "Berlin, Germany", "Oslo, Norway"])),
        Arc::new(users.iter().map(|u| Some(format!("device-{u}"))).collect::<StringArray>()),
        new_null_array(&DataType::Utf8, ROWS),
    ];
    for field in schema::provenance() {
        columns.push(match field.name().as_str() {
            schema::SOURCE_TOPIC => Arc::new(StringArray::from(vec!["transactions"; ROWS])),
            schema::SOURCE_PARTITION => Arc::new(Int32Array::from(vec![0; ROWS])),
            schema::SOURCE_OFFSET | schema::EPOCH => Arc::new(Int64Array::from(vec![1; ROWS])),
            schema::INGESTED_AT => {
                Arc::new(TimestampMicrosecondArray::from(vec![START_US + 86_400_000_000; ROWS]).with_timezone("UTC"))
            }
            schema::PROCESSING_DATE => Arc::new(Date32Array::from(vec![20_777; ROWS])),
            _ => new_null_array(field.data_type(), ROWS),
        });
    }
    RecordBatch::try_new(bronze_schema(), columns).unwrap()
}

fn refine(criterion: &mut Criterion) {
    let catalog = Catalog::load(None, &[TableName::new(Layer::Bronze, "transactions")]).unwrap();
    let find = |name: &str| -> &TableDef { catalog.get(&name.parse().unwrap()).unwrap() };
    let (silver, scores) = (find("silver.transactions"), find("gold.fraud_scores"));
    let settings =
        RefineSettings { dedup_bytes_max: 1 << 30, trailing_bytes_max: 1 << 30, ..RefineSettings::default() };
    let refiner = |def: &TableDef, source: &SchemaRef| {
        Refiner::new(def, source, &catalog.references, &settings, [1; 16]).unwrap()
    };
    let table = RowsTable::compile(silver, &bronze_schema(), &catalog.references).unwrap();
    // Ten minutes of events, so that the caches are as large as in a running service.
    let inputs = (0..300).map(bronze).collect::<Vec<_>>();
    let refined = inputs.iter().map(|input| table.evaluate(input).unwrap()).collect::<Vec<_>>();
    let mut group = criterion.benchmark_group("refine");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(30).measurement_time(Duration::from_secs(3));
    group.bench_function("silver SQL", |b| b.iter(|| table.evaluate(black_box(&inputs[0])).unwrap()));
    group.bench_function("silver SQL, expectations and dedup of new ids", |b| {
        let mut refiner = refiner(silver, &bronze_schema());
        let mut next = inputs.iter().cycle();
        let mut fresh = || {
            let input = next.next().unwrap();
            // A new round begins with an empty memory.
            (std::ptr::eq(input, &raw const inputs[0]), input)
        };
        b.iter_batched(
            &mut fresh,
            |(is_first, input)| {
                if is_first {
                    refiner.forget();
                }
                refiner.refine(input, &NoHistory).unwrap()
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("dedup among 3 million ids", |b| {
        let mut dedup = Dedup::new(table.schema(), &silver.key, "event_at", &settings, [1; 16]).unwrap();
        refined.iter().for_each(|batch| drop(dedup.keep(batch, &NoHistory).unwrap()));
        let mut next = refined.iter().cycle().step_by(7);
        b.iter_batched(
            || next.next().unwrap(),
            |batch| dedup.keep(batch, &NoHistory).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("trailing count over 3 million events of 1 million users", |b| {
        let mut count =
            TrailingCount::new(&scores.trailing[0], table.schema(), "event_at", &settings, [1; 16]).unwrap();
        // The first count makes the span known, so that what follows is recorded.
        count.count(&refined[0], &NoHistory).unwrap();
        refined.iter().for_each(|batch| count.record(batch).unwrap());
        let mut next = refined.iter().cycle().step_by(7);
        b.iter_batched(
            || next.next().unwrap(),
            |batch| {
                let counts = count.count(batch, &NoHistory).unwrap();
                count.record(batch).unwrap();
                counts
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("scores SQL", |b| {
        let fields = table.schema().fields().iter().cloned();
        let counted = Arc::new(Field::new("user_transactions_30m", DataType::Int64, true));
        let counted = Arc::new(Schema::new(fields.chain([counted]).collect::<Vec<_>>()));
        let rules = RowsTable::compile(scores, &counted, &catalog.references).unwrap();
        let counts: ArrayRef = Arc::new((0..ROWS as i64).map(|row| Some(row % 8)).collect::<Int64Array>());
        let columns = refined[0].columns().iter().cloned().chain([counts]).collect();
        let input = RecordBatch::try_new(counted, columns).unwrap();
        b.iter(|| rules.evaluate(black_box(&input)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, refine);
criterion_main!(benches);
