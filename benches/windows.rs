//! What a row costs the window engine, with the five gold tables, a million users and 2,000 merchants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use assay::domain::schema::timestamp;
use assay::domain::{Layer, NoHistory, TableName};
use assay::refine::window::{WindowEngine, WindowSettings, WindowTable};
use assay::refine::{Mode, TableDef, WindowSpec};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::prelude::SessionContext;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const MINUTE: i64 = 60_000_000;
const START: i64 = 1_709_596_800_000_000;
const USERS: f64 = 1_000_000.0;
const MERCHANTS: f64 = 2_000.0;
const EVENTS_PER_SECOND: i64 = 5_000;
const ROWS: usize = 50_000;
/// Rows before the measurement: 20 minutes of event time.
const WARM_ROWS: usize = 6_000_000;

const TABLES: [(&str, i64, i64, &str); 5] = [
    (
        "segment_activity",
        10,
        10,
        "SELECT window_start, window_end, merchant, payment_method, country, count(*) AS transactions,
           sum(amount) AS revenue, avg(amount) AS average,
           count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
           count(DISTINCT user_id) AS users, count(DISTINCT device_id) AS devices
         FROM silver.transactions GROUP BY window_start, window_end, merchant, payment_method, country",
    ),
    (
        "merchant_activity",
        15,
        5,
        "SELECT window_start, window_end, merchant, count(*) AS transactions, sum(amount) AS revenue,
           count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
           count(DISTINCT user_id) AS users, count(DISTINCT device_id) AS devices,
           count(*) FILTER (WHERE payment_method = 'credit_card')::double / count(*)::double AS credit_card_share,
           count(*) FILTER (WHERE payment_method = 'debit_card')::double / count(*)::double AS debit_card_share,
           count(*) FILTER (WHERE payment_method = 'paypal')::double / count(*)::double AS paypal_share,
           count(*) FILTER (WHERE payment_method = 'bank_transfer')::double / count(*)::double AS transfer_share,
           count(*) FILTER (WHERE payment_method = 'digital_wallet')::double / count(*)::double AS wallet_share,
           count(*) FILTER (WHERE payment_method = 'crypto')::double / count(*)::double AS crypto_share
         FROM silver.transactions GROUP BY window_start, window_end, merchant",
    ),
    (
        "user_activity",
        60,
        60,
        "SELECT window_start, window_end, user_id, count(*) AS transactions, sum(amount) AS spending,
           avg(amount) AS average, max(amount) AS largest, count(DISTINCT merchant) AS merchants,
           count(DISTINCT payment_method) AS payment_methods, count(DISTINCT country) AS countries,
           count(DISTINCT device_id) AS devices,
           count(*) > 20 OR count(DISTINCT country) > 2 OR sum(amount) > 10000 AS suspicious
         FROM silver.transactions GROUP BY window_start, window_end, user_id",
    ),
    (
        "country_activity",
        30,
        30,
        "SELECT window_start, window_end, country, count(*) AS transactions, sum(amount) AS revenue,
           count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
           count(DISTINCT user_id) AS users, count(DISTINCT merchant) AS merchants
         FROM silver.transactions GROUP BY window_start, window_end, country",
    ),
    (
        "platform_hourly",
        60,
        60,
        "SELECT window_start, window_end, count(*) AS transactions, sum(amount) AS revenue, avg(amount) AS average,
           count(DISTINCT user_id) AS users,
           count(*) FILTER (WHERE payment_method = 'credit_card')::double / count(*)::double AS credit_card_share,
           count(*) FILTER (WHERE payment_method = 'crypto')::double / count(*)::double AS crypto_share,
           count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
           count(*) FILTER (WHERE is_high_value)::double / count(*)::double AS high_value_rate
         FROM silver.transactions GROUP BY window_start, window_end",
    ),
];

fn schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        field("user_id", DataType::Int32),
        field("amount", DataType::Decimal128(18, 2)),
        field("merchant", DataType::Utf8),
        field("event_at", timestamp()),
        field("is_fraud", DataType::Boolean),
        field("payment_method", DataType::Utf8),
        field("country", DataType::Utf8),
        field("device_id", DataType::Utf8),
        field("is_high_value", DataType::Boolean),
    ]))
}

fn tables() -> Vec<WindowTable> {
    let compile = |(name, size, slide, sql): &(&str, i64, i64, &str)| {
        let def = TableDef {
            table: TableName::new(Layer::Gold, *name),
            mode: Mode::Window,
            about: String::new(),
            source: TableName::new(Layer::Silver, "transactions"),
            event_time: Some("event_at".to_owned()),
            window: Some(WindowSpec { size_us: size * MINUTE, slide_us: slide * MINUTE }),
            key: Vec::new(),
            deduplicate: false,
            partition_by: Vec::new(),
            quarantine: None,
            expectations: Vec::new(),
            trailing: Vec::new(),
            features: Vec::new(),
            model: None,
            sql: (*sql).to_owned(),
            file: format!("sql/gold/{name}.sql"),
            sql_line: 1,
        };
        WindowTable::compile(&def, &schema(), &SessionContext::new()).unwrap()
    };
    TABLES.iter().map(compile).collect()
}

/// A seeded stream in event time order, with skewed popularity.
struct Stream {
    random: SmallRng,
    rows: i64,
}

impl Stream {
    fn new() -> Self {
        Self { random: SmallRng::seed_from_u64(1), rows: 0 }
    }

    fn newest_us(&self) -> i64 {
        START + self.rows * 1_000_000 / EVENTS_PER_SECOND
    }

    fn next(&mut self, rows: usize) -> RecordBatch {
        const METHODS: [&str; 6] = ["credit_card", "debit_card", "paypal", "bank_transfer", "digital_wallet", "crypto"];
        let mut skewed = |count: f64, power: i32| (self.random.random::<f64>().powi(power) * count) as i32;
        let users = (0..rows).map(|_| skewed(USERS, 2)).collect::<Vec<_>>();
        let merchants = (0..rows).map(|_| skewed(MERCHANTS, 3)).collect::<Vec<_>>();
        let devices = users
            .iter()
            .map(|user| format!("dev-{:08x}-{}", user.wrapping_mul(0x9e37_79b1_u32 as i32), skewed(1.2, 1)));
        let devices = StringArray::from_iter_values(devices.collect::<Vec<_>>());
        // Nearly every user stays in one country.
        let countries =
            users.iter().map(|user| format!("Country {}", if skewed(50.0, 1) == 0 { 3 } else { user % 60 }));
        let countries = StringArray::from_iter_values(countries.collect::<Vec<_>>());
        let methods = StringArray::from_iter_values((0..rows).map(|_| METHODS[skewed(6.0, 2) as usize]));
        let amounts = Decimal128Array::from_iter_values((0..rows).map(|_| skewed(500_000.0, 3).into()));
        let frauds = (0..rows).map(|_| Some(skewed(100.0, 1) == 0)).collect::<BooleanArray>();
        let high = (0..rows).map(|_| Some(skewed(10.0, 1) == 0)).collect::<BooleanArray>();
        let times = (0..rows as i64).map(|row| START + (self.rows + row) * 1_000_000 / EVENTS_PER_SECOND);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        self.rows += rows as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(users)),
            Arc::new(amounts.with_precision_and_scale(18, 2).unwrap()),
            Arc::new(StringArray::from_iter_values(merchants.iter().map(|merchant| format!("Merchant {merchant}")))),
            Arc::new(times),
            Arc::new(frauds),
            Arc::new(methods),
            Arc::new(countries),
            Arc::new(devices),
            Arc::new(high),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }
}

struct Running {
    engine: WindowEngine,
    stream: Stream,
    watermark: Option<i64>,
}

impl Running {
    fn new() -> Self {
        let engine = WindowEngine::new(tables(), WindowSettings::default()).unwrap();
        let mut running = Self { engine, stream: Stream::new(), watermark: None };
        for _ in 0..WARM_ROWS / ROWS {
            let rows = running.stream.next(ROWS);
            running.update(&rows);
        }
        running.finish();
        running
    }

    fn update(&mut self, rows: &RecordBatch) {
        self.engine.update(rows, &NoHistory, self.watermark).unwrap();
    }

    fn finish(&mut self) -> usize {
        self.watermark = Some(self.stream.newest_us() - 2 * MINUTE);
        let changes = self.engine.finish(self.watermark).unwrap();
        changes.iter().map(|table| table.closed.num_rows() + table.open.as_ref().map_or(0, RecordBatch::num_rows)).sum()
    }
}

fn windows(criterion: &mut Criterion) {
    let running = RefCell::new(Running::new());
    let mut group = criterion.benchmark_group("windows");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("update", |bencher| {
        bencher.iter_batched(
            || running.borrow_mut().stream.next(ROWS),
            |rows| running.borrow_mut().update(&rows),
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("finish", |bencher| {
        bencher.iter_batched(
            || {
                let mut running = running.borrow_mut();
                let rows = running.stream.next(5_000);
                running.update(&rows);
            },
            |()| black_box(running.borrow_mut().finish()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, windows);
criterion_main!(benches);
