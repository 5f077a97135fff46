use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{concat, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::domain::{History, HistoryError, schema};

mod state;

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

#[derive(Debug, Clone)]
struct Row {
    user: Option<i32>,
    merchant: Option<&'static str>,
    cents: Option<i64>,
    fraud: Option<bool>,
    at_us: Option<i64>,
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Int32, true),
        Field::new("merchant", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(18, 2), true),
        Field::new("fraud", DataType::Boolean, true),
        Field::new("at", schema::timestamp(), true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let amounts: Decimal128Array = rows.iter().map(|row| row.cents.map(i128::from)).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.at_us).collect();
    let columns_: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.user).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.merchant).collect::<StringArray>()),
        Arc::new(amounts.with_precision_and_scale(18, 2).unwrap()),
        Arc::new(rows.iter().map(|row| row.fraud).collect::<BooleanArray>()),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(columns(), columns_).unwrap()
}

fn feature(column: &str, entity: &str, aggregate: Aggregate, of: Option<&str>, window_us: i64) -> Feature {
    Feature {
        column: column.to_owned(),
        entity: entity.to_owned(),
        aggregate,
        of: of.map(str::to_owned),
        filter: None,
        window_us,
        grain_us: None,
        last: None,
        label_delay: None,
        about: "A test.".to_owned(),
    }
}

/// Each aggregate, exact and by panes, of two kinds of entity.
fn declared() -> Vec<Feature> {
    use Aggregate::{Average, Count, Distinct, MismatchRate, Rate, SecondsSincePrevious, Seen, Sum};
    let exact = |name: &str, aggregate, of| feature(name, "user", aggregate, of, 20 * MINUTE_US);
    let paned = |name: &str, entity: &str, aggregate, of, grain_us: i64, panes: i64| Feature {
        grain_us: Some(grain_us),
        ..feature(name, entity, aggregate, of, grain_us * panes)
    };
    let last = |name: &str, aggregate, of, last| Feature {
        last: Some(last),
        ..feature(name, "user", aggregate, of, 2 * DAY_US)
    };
    let amount = Some("amount");
    let flagged = |feature: Feature| Feature { filter: Some("fraud".to_owned()), ..feature };
    let rate = |name: &str, entity: &str, delay_us: Option<i64>| Feature {
        label_delay: delay_us.map(LabelDelay::Own),
        ..paned(name, entity, Rate, Some("fraud"), 6 * HOUR_US, 3)
    };
    vec![
        exact("count", Count, None),
        feature("count_short", "user", Count, None, MINUTE_US),
        exact("sum", Sum, amount),
        exact("average", Average, amount),
        flagged(exact("count_fraud", Count, None)),
        flagged(exact("average_fraud", Average, amount)),
        paned("count_6h", "user", Count, None, HOUR_US, 6),
        paned("sum_6h", "user", Sum, amount, HOUR_US, 6),
        paned("average_2d", "user", Average, amount, DAY_US, 2),
        flagged(paned("sum_fraud_6h", "user", Sum, amount, HOUR_US, 6)),
        paned("merchants_6h", "user", Distinct, Some("merchant"), HOUR_US, 6),
        paned("merchants_2h", "user", Distinct, Some("merchant"), 2 * HOUR_US, 1),
        last("since", SecondsSincePrevious, None, 3),
        last("seen", Seen, Some("merchant"), 3),
        last("mismatch", MismatchRate, Some("merchant"), 3),
        last("mismatch_1", MismatchRate, Some("merchant"), 1),
        paned("merchant_count", "merchant", Count, None, HOUR_US, 12),
        rate("merchant_rate", "merchant", Some(7 * HOUR_US)),
        rate("merchant_rate_now", "merchant", None),
        paned("users_6h", "merchant", Distinct, Some("user"), HOUR_US, 6),
    ]
}

/// A value as text, so that it is compared to the bit.
fn shown(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Float64 => {
            let value = column.as_primitive::<arrow::datatypes::Float64Type>().value(row);
            format!("{value:?}")
        }
        _ => arrow::util::display::array_value_to_string(column, row).unwrap(),
    }
}

/// The definition, read aloud: for each row all rows before it.
fn naive(feature: &Feature, rows: &[Row], index: usize) -> String {
    let row = &rows[index];
    let entity = |row: &Row| match feature.entity.as_str() {
        "user" => row.user.map(|user| user.to_string()),
        _ => row.merchant.map(str::to_owned),
    };
    let (Some(me), Some(at_us)) = (entity(row), row.at_us) else { return "NULL".to_owned() };
    let mut before: Vec<&Row> =
        rows[..index].iter().filter(|other| entity(other).as_ref() == Some(&me) && other.at_us.is_some()).collect();
    let at = |row: &Row| row.at_us.unwrap();
    let of = |row: &Row| match feature.of.as_deref() {
        Some("merchant") => row.merchant.map(str::to_owned),
        Some("user") => row.user.map(|user| user.to_string()),
        _ => None,
    };
    if let Some(last) = feature.last {
        before.retain(|row| {
            rows[..index]
                .iter()
                .filter(|o| entity(o).as_ref() == Some(&me) && o.at_us.is_some_and(|t| t >= at(row)))
                .count()
                <= last
        });
        before.retain(|row| at(row) > at_us - feature.window_us);
        let same = before.iter().filter(|other| of(other) == of(row)).count();
        return match feature.aggregate {
            Aggregate::Seen => (same > 0).to_string(),
            Aggregate::MismatchRate if before.is_empty() => "NULL".to_owned(),
            Aggregate::MismatchRate => format!("{:?}", (before.len() - same) as f64 / before.len() as f64),
            _ => {
                let previous = before.iter().map(|row| at(row)).filter(|time| *time <= at_us).max();
                previous.map_or("NULL".to_owned(), |time| format!("{:?}", (at_us - time) as f64 / 1e6))
            }
        };
    }
    let (from_us, to_us) = match (feature.grain_us, feature.label_delay) {
        (None, _) => (at_us - feature.window_us + 1, at_us + 1),
        (Some(grain_us), None) => {
            let end = (at_us.div_euclid(grain_us) + 1) * grain_us;
            (end - feature.window_us, end)
        }
        (Some(grain_us), Some(delay)) => {
            let end = (at_us - delay.us()).div_euclid(grain_us) * grain_us;
            assert!(end <= at_us - delay.us());
            (end - feature.window_us, end)
        }
    };
    before.retain(|row| (from_us..to_us).contains(&at(row)));
    if feature.filter.is_some() {
        before.retain(|row| row.fraud == Some(true));
    }
    let cents: Vec<i64> = before.iter().filter_map(|row| row.cents).collect();
    let sum: i64 = cents.iter().sum();
    let decimal =
        |cents: i64| format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
    match feature.aggregate {
        Aggregate::Count => before.len().to_string(),
        Aggregate::Sum => decimal(sum),
        Aggregate::Average if cents.is_empty() => "NULL".to_owned(),
        Aggregate::Average => format!("{:?}", sum as f64 / (100 * cents.len()) as f64),
        Aggregate::Distinct => before.iter().filter_map(|row| of(row)).collect::<BTreeSet<_>>().len().to_string(),
        Aggregate::Rate if before.is_empty() => "NULL".to_owned(),
        _ => {
            let frauds = before.iter().filter(|row| row.fraud == Some(true)).count();
            format!("{:?}", frauds as f64 / before.len() as f64)
        }
    }
}

#[derive(Default)]
struct Past {
    batches: Vec<RecordBatch>,
    fails: bool,
}

impl History for Past {
    fn scan(&self, from_us: i64, to_us: i64, columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        if self.fails {
            return Err(HistoryError { table: "past".into(), cause: "as the test wished".into() });
        }
        let part = |batch: &RecordBatch| {
            let times = batch.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
            let within: BooleanArray =
                times.iter().map(|at| Some(at.is_some_and(|at| (from_us..to_us).contains(&at)))).collect();
            let indices: Vec<usize> = columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
            filter_record_batch(batch, &within).unwrap().project(&indices).unwrap()
        };
        // In another order than that of arrival: nothing may depend on it.
        Ok(self.batches.iter().rev().map(part).collect())
    }

    fn may_contain(&self, _: i64, _: i64) -> bool {
        !self.batches.is_empty()
    }
}

/// What happens between batches.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    Restart,
    Forget,
}

fn computed(rows: &[Row], cuts: &[(usize, Between)], turn: usize, far_us: i64) -> Vec<ArrayRef> {
    let fresh = || Features::new(&declared(), &columns(), "at", [7; 16]).unwrap().bounded(turn, far_us);
    let (mut features, mut past) = (fresh(), Past::default());
    let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
    let mut start = 0;
    for (cut, between) in cuts.iter().copied().chain([(rows.len(), Between::Nothing)]) {
        let end = cut.clamp(start, rows.len());
        let input = batch(&rows[start..end]);
        let columns = features.compute(&input, &past).unwrap();
        parts.push(columns);
        past.batches.push(input);
        match between {
            Between::Nothing => {}
            Between::Restart => features = fresh(),
            Between::Forget => features.forget(),
        }
        start = end;
    }
    (0..declared().len())
        .map(|index| {
            let columns: Vec<&dyn Array> = parts.iter().map(|part| part[index].as_ref()).collect();
            concat(&columns).unwrap()
        })
        .collect()
}

fn check(rows: &[Row], cuts: &[(usize, Between)], turn: usize, far_us: i64) -> Result<(), TestCaseError> {
    let columns = computed(rows, cuts, turn, far_us);
    for (feature, column) in declared().iter().zip(&columns) {
        for index in 0..rows.len() {
            let (found, expected) = (shown(column, index), naive(feature, rows, index));
            prop_assert_eq!(found, expected, "{} of row {} of {:#?}", &feature.column, index, &rows[..=index]);
        }
    }
    Ok(())
}

/// Mostly in order, some late by minutes, hours or days; times collide.
fn stream() -> impl Strategy<Value = Vec<Row>> {
    let late = prop_oneof![
        6 => Just(0_i64),
        3 => (0..30_i64).prop_map(|minutes| minutes * MINUTE_US),
        2 => (0..20_i64).prop_map(|hours| hours * HOUR_US),
        1 => (0..6_i64).prop_map(|days| days * DAY_US),
    ];
    let merchant = prop::sample::select(vec![Some("a"), Some("b"), Some("c"), Some("d"), None]);
    let fraud = prop::sample::select(vec![Some(true), Some(false), Some(false), None]);
    let row = (0..5_i32, merchant, prop::option::weighted(0.9, -50_i64..100_000), fraud, 0..90_i64, late);
    prop::collection::vec((row, 0..40_u8), 1..120).prop_map(|all| {
        let mut now_us = -3 * DAY_US;
        let rows = all.into_iter().map(|((user, merchant, cents, fraud, minutes, late_us), odd)| {
            now_us += minutes * MINUTE_US;
            Row {
                user: (odd != 0).then_some(user),
                merchant,
                cents,
                fraud,
                at_us: (odd != 1).then_some(now_us - late_us),
            }
        });
        rows.collect()
    })
}

fn cuts() -> impl Strategy<Value = Vec<(usize, Between)>> {
    let between = prop::sample::select(vec![Between::Nothing, Between::Nothing, Between::Restart, Between::Forget]);
    // Now and then a batch of one row.
    prop::collection::vec((0..120_usize, between, any::<bool>()), 0..8).prop_map(|found| {
        let with_next = |(cut, between, alone): (usize, Between, bool)| {
            let next = alone.then_some((cut + 1, Between::Nothing));
            std::iter::once((cut, between)).chain(next)
        };
        let mut cuts: Vec<(usize, Between)> = found.into_iter().flat_map(with_next).collect();
        cuts.sort_by_key(|(cut, _)| *cut);
        cuts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn values_equal_the_definition_at_any_cut(rows in stream(), cuts in cuts(), turn in prop::sample::select(vec![1_usize, 7, 40, 1 << 20]), far_us in prop::sample::select(vec![HOUR_US, DAY_US, 30 * DAY_US])) {
        check(&rows, &cuts, turn, far_us)?;
    }
}

fn row(user: i32, at_us: i64) -> Row {
    Row { user: Some(user), merchant: Some("a"), cents: Some(100), fraud: Some(false), at_us: Some(at_us) }
}

#[test]
fn a_lookup_gives_what_the_row_would_get_and_records_nothing() {
    let rows: Vec<Row> = (0..200).map(|n| row(n % 3, i64::from(n) * 7 * MINUTE_US)).collect();
    let past = Past::default();
    let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
    features.compute(&batch(&rows[..150]), &past).unwrap();
    for index in 150..200 {
        let input = batch(&rows[index..=index]);
        let first = features.lookup(&input).unwrap();
        let again = features.lookup(&input).unwrap();
        let computed = features.compute(&input, &past).unwrap();
        for (feature, ((first, again), computed)) in declared().iter().zip(first.iter().zip(&again).zip(&computed)) {
            assert_eq!(shown(first, 0), shown(again, 0));
            assert_eq!(shown(first, 0), shown(computed, 0), "{} of row {index}", feature.column);
        }
    }
}

#[test]
fn a_late_row_that_comes_alone_is_known_to_the_next() {
    let late = -5 * HOUR_US;
    let rows: Vec<Row> = (0..9).map(|n| row(1, n * MINUTE_US)).chain([row(1, late), row(1, 10 * MINUTE_US)]).collect();
    let cuts = [(9, Between::Nothing), (10, Between::Nothing)];
    // Far for the windows of minutes and hours, and held by those of days.
    check(&rows, &cuts, 1 << 20, HOUR_US).unwrap();
}

#[test]
fn memory_is_given_back_when_nobody_comes_any_more() {
    let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap().bounded(1_000, DAY_US);
    let past = Past::default();
    let (mut bytes, mut known) = (Vec::new(), Vec::new());
    for day in 0..40 {
        let rows: Vec<Row> =
            (0..1_000).map(|n| row(day * 1_000 + n, i64::from(day) * DAY_US + i64::from(n) * MINUTE_US)).collect();
        features.compute(&batch(&rows), &past).unwrap();
        bytes.push(features.bytes());
        known.push(features.known());
    }
    // Each day has users of its own, who are needed for two days and forgotten within the next two.
    assert!(known.iter().all(|known| *known <= 6_000), "{known:?}");
    assert!(bytes[39] <= 2 * bytes[10], "{bytes:?}");
    features.forget();
    assert_eq!(features.known(), 0);
    assert!(features.bytes() < 1_000, "{}", features.bytes());
}

#[test]
fn a_row_of_a_clock_that_is_years_off_costs_no_memory() {
    let rows: Vec<Row> = (0..2_000).map(|n| row(n, i64::from(n) * HOUR_US)).collect();
    let mut past = Past::default();
    past.batches.push(batch(&rows));
    let now_us = 2_000 * HOUR_US;
    let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
    features.compute(&batch(&[row(1, now_us)]), &past).unwrap();
    past.batches.push(batch(&[row(1, now_us)]));
    let (known, bytes) = (features.known(), features.bytes());
    // User 5 was there once, at the fifth hour.
    let found = features.compute(&batch(&[row(5, 5 * HOUR_US + MINUTE_US)]), &past).unwrap();
    let all: Vec<Row> = rows.into_iter().chain([row(1, now_us), row(5, 5 * HOUR_US + MINUTE_US)]).collect();
    for (feature, column) in declared().iter().zip(&found) {
        assert_eq!(shown(column, 0), naive(feature, &all, all.len() - 1), "{}", feature.column);
    }
    assert!(features.known() <= known + 1 && features.bytes() < bytes + 1_000, "{known} {bytes}: {features:?}");
}

#[test]
fn a_past_that_cannot_be_read_leaves_nothing_half_done() {
    let rows: Vec<Row> = (0..100).map(|n| row(n % 3, i64::from(n) * 20 * MINUTE_US)).collect();
    let mut past = Past::default();
    past.batches.push(batch(&rows[..90]));
    let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
    past.fails = true;
    features.compute(&batch(&rows[90..]), &past).unwrap_err();
    past.fails = false;
    let columns = features.compute(&batch(&rows[90..]), &past).unwrap();
    for (feature, column) in declared().iter().zip(&columns) {
        for index in 90..100 {
            assert_eq!(shown(column, index - 90), naive(feature, &rows, index), "{}", feature.column);
        }
    }
}

#[test]
fn a_heavy_entity_is_counted_as_fast_as_others_and_right() {
    // More different values than a sorted list holds, by one user within an hour.
    let names: Vec<String> = (0..3_000).map(|n| format!("m{}", n % 1_500)).collect();
    let names: Vec<&'static str> = names.into_iter().map(|name| &*Box::leak(name.into_boxed_str())).collect();
    let rows: Vec<Row> =
        names.iter().enumerate().map(|(n, name)| Row { merchant: Some(name), ..row(1, n as i64 * 1_000) }).collect();
    let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
    let columns = features.compute(&batch(&rows), &Past::default()).unwrap();
    let index = declared().iter().position(|feature| feature.column == "merchants_6h").unwrap();
    for row in [0, 1, 700, 1_499, 1_500, 2_999] {
        assert_eq!(shown(&columns[index], row), row.min(1_500).to_string());
    }
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let refusal = |change: &dyn Fn(&mut Feature)| {
        let mut feature = feature("x", "user", Aggregate::Sum, Some("amount"), 20 * MINUTE_US);
        change(&mut feature);
        Features::new(&[feature], &columns(), "at", [0; 16]).unwrap_err()
    };
    for (change, part) in [
        (&(|f: &mut Feature| f.entity = "nobody".into()) as &dyn Fn(&mut Feature), "`nobody` does not exist"),
        (&|f| f.entity = "fraud".into(), "texts and whole numbers"),
        (&|f| f.of = None, "needs a column: `of`"),
        (&|f| f.of = Some("merchant".into()), "exact sums"),
        (&|f| f.aggregate = Aggregate::Count, "leave out `of`"),
        (&|f| f.window_us = 2 * HOUR_US, "give a `grain`"),
        (&|f| f.grain_us = Some(7 * MINUTE_US), "whole parts"),
        (&|f| f.grain_us = Some(1), "too short"),
        (&|f| f.window_us = 400 * DAY_US, "366 days"),
        (&|f| f.last = Some(3), "leave out `last`"),
        (&|f| f.filter = Some("merchant".into()), "not a boolean"),
        (&|f| f.about = " ".into(), "`about`"),
        (&|f| f.column = "user".into(), "has a column `user` already"),
        (&|f| f.label_delay = Some(LabelDelay::Own(1)), "belongs to a rate"),
        (
            &|f| {
                let amount = Some("fraud".to_owned());
                (f.aggregate, f.of, f.grain_us) = (Aggregate::Rate, amount, Some(MINUTE_US));
                f.label_delay = Some(LabelDelay::Own(i64::MAX));
            },
            "366 days",
        ),
        (&|f| f.aggregate = Aggregate::Seen, "`last`, 1 to 100"),
        (&|f| (f.aggregate, f.of) = (Aggregate::Rate, Some("fraud".into())), "needs a `grain`"),
    ] {
        let found = refusal(change);
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn lengths_of_time_are_said_as_people_say_them() {
    let said = [(5 * MINUTE_US, "5 minutes"), (HOUR_US, "1 hour"), (DAY_US, "24 hours"), (30 * DAY_US, "30 days")];
    for (us, words) in said {
        assert_eq!(in_words(us), words);
    }
    assert_eq!(in_words(1), "1 microseconds");
}
