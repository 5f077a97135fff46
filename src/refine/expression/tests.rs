use std::sync::{Arc, LazyLock};

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::ToDFSchema;
use proptest::option;
use proptest::prelude::*;

use super::super::planning;
use super::super::testing::references;
use super::*;
use crate::domain::schema;

/// What is computed a row at a time.
const KNOWN: [&str; 58] = [
    "n + 1",
    "n - i",
    "n * n + n",
    "x + 1.5e0",
    "x - x",
    "x * 2.0e0",
    "x / x",
    "at + INTERVAL '5 minutes'",
    "at - INTERVAL '1 second'",
    "i = 3",
    "i <> 3",
    "n < i",
    "n <= 3",
    "x > 0.0e0",
    "x >= x",
    "x = -0.0e0",
    "d < 10",
    "d > 1000",
    "d = d",
    "d > n",
    "d <= i",
    "x < x + 1",
    "t >= t",
    "t = 'crypto'",
    "t < 'b'",
    "at >= event_time('2026-11-20')",
    "day = DATE '2026-11-20'",
    "b <> (n > 0)",
    "b AND n > 0",
    "n > 0 AND b",
    "b OR n > 0",
    "n > 0 OR b",
    "NOT b",
    "t IS NULL",
    "d IS NOT NULL",
    "t IN ('crypto', 'paypal', '', 'a, b')",
    "t NOT IN ('crypto', 'paypal', '', 'a, b', 'c')",
    "i IN (1, 2, 3, 4, 5, 6)",
    "CASE WHEN n > 5 THEN 'many' WHEN n > 0 THEN t ELSE 'none' END",
    "CASE WHEN b THEN d END",
    "CASE WHEN n > 0 AND 100 * n > 7 THEN at END",
    "coalesce(t, 'nobody')",
    "coalesce(after_last(t, ','), t)",
    "CAST(n AS INT)",
    "CAST(i AS BIGINT)",
    "CAST(n AS DOUBLE)",
    "CAST(d AS DOUBLE) / x",
    "CAST(at AS DATE)",
    "event_time(t)",
    "money(x)",
    "coalesce(d, money(x))",
    "before_last(t, ',')",
    "is_listed('high_risk_countries', t)",
    "CAST(i AS DOUBLE)",
    "date_part('hour', at)",
    "date_part('isodow', at)",
    "date_part('hour', at) + date_part('isodow', at) > 20",
    "concat_ws('; ', CASE WHEN b THEN 'yes' END, t, before_last(t, ', '))",
];

impl Expression {
    fn by_row(&self) -> Option<&ByRow> {
        match &self.quick {
            Some(Quick::ByRow(by_row)) => Some(by_row),
            _ => None,
        }
    }
}

static COMPILED: LazyLock<Vec<Expression>> = LazyLock::new(|| expressions(&KNOWN));

fn table() -> SchemaRef {
    let kinds = [
        ("i", DataType::Int32),
        ("n", DataType::Int64),
        ("x", DataType::Float64),
        ("d", DataType::Decimal128(18, 2)),
        ("t", DataType::Utf8),
        ("at", schema::timestamp()),
        ("day", DataType::Date32),
        ("b", DataType::Boolean),
    ];
    Arc::new(Schema::new(kinds.map(|(name, kind)| Field::new(name, kind, true)).to_vec()))
}

fn expressions(texts: &[&str]) -> Vec<Expression> {
    let (references, columns) = (references(), table().to_dfschema_ref().unwrap());
    let state = planning::session(&references).state();
    let planned = texts.iter().map(|text| {
        let logical = state.create_logical_expr(text, &columns).unwrap();
        let logical = planning::computable(&state, logical, Arc::clone(&columns)).unwrap();
        let physical = state.create_physical_expr(logical, &columns).unwrap();
        Expression::new(physical, columns.as_arrow(), &references).unwrap()
    });
    planned.collect()
}

type Row =
    ((Option<i32>, Option<i64>, Option<f64>, Option<i64>), (Option<String>, Option<i64>, Option<i32>, Option<bool>));

fn batch(rows: &[Row]) -> RecordBatch {
    let decimals: Decimal128Array = rows.iter().map(|(row, _)| row.3.map(i128::from)).collect();
    let instants: TimestampMicrosecondArray = rows.iter().map(|(_, row)| row.1).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(row, _)| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|(row, _)| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(row, _)| row.2).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(18, 2).unwrap()),
        Arc::new(rows.iter().map(|(_, row)| row.0.as_deref()).collect::<StringArray>()),
        Arc::new(instants.with_timezone("UTC")),
        Arc::new(rows.iter().map(|(_, row)| row.2).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|(_, row)| row.3).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(table(), columns).unwrap()
}

/// Ordinary values, and those at which computing goes wrong.
fn any_row() -> impl Strategy<Value = Row> {
    let doubles = prop_oneof![
        4 => -1e6..1e6,
        1 => prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, 2.675, 1e300, f64::MIN_POSITIVE]),
    ];
    let texts = prop_oneof![
        "[a-c, ]{0,6}",
        prop::sample::select(vec![
            "crypto",
            "Paris, France",
            "Iran",
            "2026-11-20T08:15:30+02:00",
            "9999-12-31",
            "é, ü",
            ","
        ])
        .prop_map(str::to_owned),
    ];
    let instants = prop_oneof![
        4 => 1_000_000_000_000_000..2_000_000_000_000_000_i64,
        2 => -70_000_000_000_000_000..260_000_000_000_000_000_i64,
        1 => any::<i64>(),
    ];
    let wide = prop_oneof![4 => -10..10_i64, 1 => any::<i64>()];
    let narrow = prop_oneof![4 => -10..10_i32, 1 => any::<i32>()];
    let numbers = (
        option::of(narrow),
        option::of(wide),
        option::of(doubles),
        option::of(-1_000_000_000_000_000_000..1_000_000_000_000_000_000_i64),
    );
    (numbers, (option::of(texts), option::of(instants), option::of(-800_000..3_000_000_i32), option::of(any::<bool>())))
}

proptest! {
    /// A row at a time gives what DataFusion gives, or nothing; and nothing where DataFusion has an error.
    #[test]
    fn a_row_at_a_time_gives_what_datafusion_gives(rows in prop::collection::vec(any_row(), 0..12)) {
        let whole = batch(&rows);
        for expression in COMPILED.iter() {
            let by_row = expression.by_row().unwrap();
            let parts = (0..rows.len()).map(|row| whole.slice(row, 1)).chain([whole.clone()]);
            for part in parts {
                match (by_row.evaluate(&Input::new(&part)), expression.evaluate_by_column(&part)) {
                    (Some(found), Ok(expected)) => prop_assert_eq!(&found, &expected, "{}", expression),
                    (Some(found), Err(error)) if part.num_rows() == 1 => {
                        prop_assert!(false, "{expression} is {found:?}, and DataFusion says {error}");
                    }
                    // Of many rows DataFusion computes more than of each by itself.
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn what_is_known_is_sure_of_ordinary_values() {
    let row = |number: i32, text: &str| {
        let day = 20_777 + number;
        let at = i64::from(day) * 86_400_000_000 + 30_930_000_000;
        let numbers = (Some(number), Some(i64::from(number) * 3), Some(f64::from(number) + 0.25), Some(1_250));
        (numbers, (Some(text.to_owned()), Some(at), Some(day), Some(number % 2 == 0)))
    };
    let ordinary = batch(&[row(1, "Paris, France"), row(2, "crypto"), row(3, "2026-11-20")]);
    for (text, expression) in KNOWN.iter().zip(COMPILED.iter()) {
        let by_row = expression.by_row().unwrap_or_else(|| panic!("{text} is not known: {expression}"));
        assert!(by_row.evaluate(&Input::new(&ordinary)).is_some(), "{text} is not sure");
    }
}

#[test]
fn what_is_not_known_is_left_to_datafusion() {
    for expression in
        expressions(&["n % 2", "n / 2", "abs(n)", "upper(t)", "date_part('year', at)", "at + INTERVAL '1 month'"])
    {
        assert!(expression.by_row().is_none(), "{expression}");
    }
}

#[test]
fn a_row_that_fails_is_told_by_datafusion() {
    let rows = [1, i64::from(i32::MAX) + 1].map(|n| ((None, Some(n), None, None), (None, None, None, None)));
    let [cast] = &expressions(&["CAST(n AS INT)"])[..] else { panic!("one") };
    assert!(cast.evaluate(&Input::new(&batch(&rows[..1]))).is_ok());
    let error = cast.evaluate(&Input::new(&batch(&rows))).unwrap_err();
    assert!(error.to_string().contains("2147483648"), "{error}");
}
