//! Tables and rows to test with.

use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::domain::schema::timestamp;
use crate::domain::{History, HistoryError, Layer, TableName};
use crate::refine::{Mode, TableDef, WindowSpec};

pub const MINUTE: i64 = 60_000_000;
/// 2024-03-05T00:00Z.
pub const START: i64 = 1_709_596_800_000_000;

pub const SEGMENT: &str =
    "SELECT window_start, window_end, merchant, payment_method, country, count(*) AS transactions,
  sum(amount) AS revenue, avg(amount) AS average,
  count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
  count(DISTINCT user_id) AS users, count(DISTINCT device_id) AS devices
FROM silver.transactions GROUP BY window_start, window_end, merchant, payment_method, country";

pub const MERCHANT: &str =
    "SELECT window_start, window_end, merchant, count(*) AS transactions, sum(amount) AS revenue,
  count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
  count(DISTINCT user_id) AS users, count(DISTINCT device_id) AS devices,
  count(*) FILTER (WHERE payment_method = 'credit_card')::double / count(*)::double AS credit_card_share,
  count(*) FILTER (WHERE payment_method = 'debit_card')::double / count(*)::double AS debit_card_share,
  count(*) FILTER (WHERE payment_method = 'paypal')::double / count(*)::double AS paypal_share,
  count(*) FILTER (WHERE payment_method = 'bank_transfer')::double / count(*)::double AS bank_transfer_share,
  count(*) FILTER (WHERE payment_method = 'digital_wallet')::double / count(*)::double AS digital_wallet_share,
  count(*) FILTER (WHERE payment_method = 'crypto')::double / count(*)::double AS crypto_share
FROM silver.transactions GROUP BY window_start, window_end, merchant";

pub const USER: &str = "SELECT window_start, window_end, user_id, count(*) AS transactions, sum(amount) AS spending,
  avg(amount) AS average, max(amount) AS largest, count(DISTINCT merchant) AS merchants,
  count(DISTINCT payment_method) AS payment_methods, count(DISTINCT country) AS countries,
  count(DISTINCT device_id) AS devices,
  count(*) > 20 OR count(DISTINCT country) > 2 OR sum(amount) > 100 AND count(DISTINCT merchant) > 1 AS suspicious
FROM silver.transactions GROUP BY window_start, window_end, user_id";

pub const COUNTRY: &str = "SELECT window_start, window_end, country, count(*) AS transactions, sum(amount) AS revenue,
  count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
  count(DISTINCT user_id) AS users, count(DISTINCT merchant) AS merchants
FROM silver.transactions GROUP BY window_start, window_end, country";

pub const PLATFORM: &str = "SELECT window_start, window_end, count(*) AS transactions, sum(amount) AS revenue,
  avg(amount) AS average, count(DISTINCT user_id) AS users,
  count(*) FILTER (WHERE payment_method = 'credit_card')::double / count(*)::double AS credit_card_share,
  count(*) FILTER (WHERE payment_method = 'crypto')::double / count(*)::double AS crypto_share,
  count(*) FILTER (WHERE is_fraud)::double / count(*)::double AS fraud_rate,
  count(*) FILTER (WHERE is_high_value)::double / count(*)::double AS high_value_rate
FROM silver.transactions GROUP BY window_start, window_end";

/// Every kind of aggregate, NULLs everywhere, and a string as extreme.
const EVERYTHING: &str = "SELECT city, window_start, count(quantity) AS quantities, sum(quantity) AS quantity,
  avg(quantity) AS quantity_average, min(quantity) AS least, max(quantity) AS most, min(device_id) AS first_device,
  max(device_id) FILTER (WHERE is_fraud) AS last_device, min(event_at) AS first_at, max(transaction_date) AS last_day,
  min(score) AS low, max(score) AS high, bool_or(flag) AS any_flag, bool_and(flag) AS all_flags,
  bool_and(is_fraud) FILTER (WHERE quantity > 3) AS all_fraud, count(DISTINCT city) AS cities,
  count(DISTINCT quantity) FILTER (WHERE flag) AS flagged, sum(user_id) AS user_sum, avg(user_id) AS user_average,
  sum(amount) FILTER (WHERE flag) AS flagged_amount, max(amount * amount) AS square, count(DISTINCT amount) AS amounts,
  sum(CASE WHEN is_fraud THEN 1 ELSE 0 END) AS frauds, min(amount * 1000000.5) AS wide
FROM silver.transactions GROUP BY city, window_start";

/// WHERE, expressions as keys, a subquery that renames, and a sliding window of four panes over users.
const DERIVED: &str = "SELECT window_end, initial, weekday, n + 1 AS n1, users, date_trunc('hour', window_end) AS hour
FROM (SELECT window_end, substr(shop, 1, 2) AS initial, transaction_date AS weekday, count(*) AS n,
             count(DISTINCT user_id) AS users
      FROM (SELECT *, merchant AS shop FROM silver.transactions WHERE amount > 0) AS t
      WHERE quantity IS NOT NULL GROUP BY window_end, 2, transaction_date) AS u";

const SLIDING_USERS: &str =
    "SELECT window_start, window_end, user_id, count(*) AS n, count(DISTINCT merchant) AS merchants,
  count(DISTINCT device_id) FILTER (WHERE is_fraud) AS devices, max(amount) AS largest, min(country) AS country
FROM silver.transactions GROUP BY user_id, window_end, window_start";

pub fn def(name: &str, sql: &str, size: i64, slide: i64) -> TableDef {
    TableDef {
        table: TableName::new(Layer::Gold, name),
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
        sql: sql.to_owned(),
        file: format!("sql/gold/{name}.sql"),
        sql_line: 8,
    }
}

pub fn gold_defs() -> Vec<TableDef> {
    vec![
        def("segment_activity", SEGMENT, 10, 10),
        def("merchant_activity", MERCHANT, 15, 5),
        def("user_activity", USER, 60, 60),
        def("country_activity", COUNTRY, 30, 30),
        def("platform_hourly", PLATFORM, 60, 60),
    ]
}

pub fn all_defs() -> Vec<TableDef> {
    let mut defs = gold_defs();
    defs.push(def("everything", EVERYTHING, 20, 10));
    defs.push(def("derived", DERIVED, 30, 10));
    defs.push(def("sliding_users", SLIDING_USERS, 40, 10));
    defs
}

pub fn source_schema() -> SchemaRef {
    let field = |name: &str, kind: DataType, nullable: bool| Field::new(name, kind, nullable);
    Arc::new(Schema::new(vec![
        field("transaction_id", DataType::Utf8, false),
        field("user_id", DataType::Int32, false),
        field("amount", DataType::Decimal128(18, 2), false),
        field("merchant", DataType::Utf8, false),
        field("event_at", timestamp(), false),
        field("is_fraud", DataType::Boolean, false),
        field("payment_method", DataType::Utf8, false),
        field("city", DataType::Utf8, true),
        field("country", DataType::Utf8, false),
        field("device_id", DataType::Utf8, false),
        field("is_high_value", DataType::Boolean, false),
        field("transaction_date", DataType::Date32, false),
        field("quantity", DataType::Int64, true),
        field("flag", DataType::Boolean, true),
        field("score", DataType::Float64, true),
    ]))
}

/// A row of the source in few numbers.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub second: i64,
    pub user: i32,
    pub merchant: u8,
    pub cents: i64,
    pub traits: u32,
}

pub fn batch(events: &[Event]) -> RecordBatch {
    const METHODS: [&str; 6] = ["credit_card", "debit_card", "paypal", "bank_transfer", "digital_wallet", "crypto"];
    const COUNTRIES: [&str; 4] = ["Chile", "Côte d'Ivoire", "Nederland", ""];
    const CITIES: [Option<&str>; 4] =
        [None, Some("Utrecht"), Some(""), Some("a city with a name of more than 16 bytes")];
    fn strings<'a>(events: &[Event], value: impl Fn(&Event) -> Option<&'a str>) -> ArrayRef {
        Arc::new(events.iter().map(value).collect::<StringArray>())
    }
    fn owned(events: &[Event], value: impl Fn(&Event) -> String) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(events.iter().map(value)))
    }
    let flags = |bit: u32| -> ArrayRef {
        Arc::new(events.iter().map(|e| Some(e.traits >> bit & 1 == 1)).collect::<BooleanArray>())
    };
    let times = events.iter().map(|e| START + e.second * 1_000_000 + i64::from(e.traits % 7));
    let days = events.iter().map(|e| ((START + e.second * 1_000_000) / (24 * 60 * MINUTE)) as i32);
    let quantity = |e: &Event| (!e.traits.is_multiple_of(5)).then(|| i64::from(e.traits % 11) - 3);
    let flag = |e: &Event| (!e.traits.is_multiple_of(3)).then_some(e.traits.is_multiple_of(2));
    let score = |e: &Event| (!e.traits.is_multiple_of(4)).then(|| e.cents as f64 / 7.0);
    let amounts = Decimal128Array::from_iter_values(events.iter().map(|e| e.cents.into()));
    let columns: Vec<ArrayRef> = vec![
        owned(events, |e| format!("t{}{}", e.second, e.traits)),
        Arc::new(Int32Array::from_iter_values(events.iter().map(|e| e.user))),
        Arc::new(amounts.with_precision_and_scale(18, 2).unwrap()),
        owned(events, |e| format!("merchant {}", e.merchant)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        flags(9),
        strings(events, |e| Some(METHODS[e.traits as usize % 6])),
        strings(events, |e| CITIES[e.traits as usize / 6 % 4]),
        strings(events, |e| Some(COUNTRIES[e.traits as usize / 24 % 4])),
        owned(events, |e| format!("device-{}", e.traits / 96 % 8)),
        flags(5),
        Arc::new(Date32Array::from_iter_values(days)),
        Arc::new(events.iter().map(quantity).collect::<Int64Array>()),
        Arc::new(events.iter().map(flag).collect::<BooleanArray>()),
        Arc::new(events.iter().map(score).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(source_schema(), columns).unwrap()
}

/// Silver in memory.
#[derive(Default)]
pub struct MemoryHistory {
    pub batches: Mutex<Vec<RecordBatch>>,
    pub scans: Mutex<Vec<(i64, i64)>>,
    /// Says that there may be rows everywhere.
    pub vague: bool,
}

impl MemoryHistory {
    pub fn push(&self, rows: RecordBatch) {
        self.batches.lock().unwrap().push(rows);
    }
}

impl History for MemoryHistory {
    fn scan(&self, from_us: i64, to_us: i64, columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        assert!(from_us < to_us, "an empty span is scanned");
        self.scans.lock().unwrap().push((from_us, to_us));
        let batches = self.batches.lock().unwrap();
        let indices = columns.iter().map(|name| source_schema().index_of(name).unwrap()).collect::<Vec<_>>();
        let within = |rows: &RecordBatch| {
            let times = rows.column_by_name("event_at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
            let mask =
                times.iter().map(|time| Some((from_us..to_us).contains(&time.unwrap()))).collect::<BooleanArray>();
            filter_record_batch(rows, &mask).unwrap().project(&indices).unwrap()
        };
        Ok(batches.iter().map(within).filter(|rows| rows.num_rows() > 0).collect())
    }

    fn may_contain(&self, from_us: i64, to_us: i64) -> bool {
        let within = |rows: &RecordBatch| {
            let times = rows.column_by_name("event_at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
            times.values().iter().any(|time| (from_us..to_us).contains(time))
        };
        self.vague || self.batches.lock().unwrap().iter().any(within)
    }
}
