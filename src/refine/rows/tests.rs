use arrow::array::{AsArray, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Int64Type, TimeUnit};

use super::*;
use crate::refine::checks::Checks;
use crate::refine::parse;
use crate::refine::testing::{Sent, bronze, bronze_schema, definition, references, shown};

fn file(sql: &str) -> TableDef {
    parse("t.sql", &format!("-- table = \"silver.t\"\n-- mode = \"rows\"\n-- about = \"T.\"\n{sql}")).unwrap()
}

fn source() -> SchemaRef {
    let naive = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let fields = vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, false),
        Field::new("at", naive, false),
    ];
    Arc::new(Schema::new(fields))
}

fn batch(a: &[Option<i64>]) -> RecordBatch {
    let texts = (0..a.len()).map(|row| Some(format!("b{row}"))).collect::<StringArray>();
    let times = TimestampNanosecondArray::from(vec![1_999; a.len()]);
    RecordBatch::try_new(source(), vec![Arc::new(Int64Array::from(a.to_vec())), Arc::new(texts), Arc::new(times)])
        .unwrap()
}

fn compile(sql: &str) -> Result<RowsTable, SqlFileError> {
    RowsTable::compile(&file(sql), &source(), &references())
}

#[test]
fn a_chain_of_projections_is_evaluated_in_order_and_in_the_lakes_types() {
    let sql = "WITH x AS (SELECT a + 1 AS c, substr(b, 2) AS d, at FROM bronze.s AS s)
               SELECT y.c * y.c AS e, d, at FROM (SELECT * FROM x) AS y";
    let table = compile(sql).unwrap();
    let kinds = table.schema().fields().iter().map(|f| (f.data_type().clone(), f.is_nullable())).collect::<Vec<_>>();
    assert_eq!(kinds, [(DataType::Int64, true), (DataType::Utf8, true), (schema::timestamp(), false)]);
    let result = table.evaluate(&batch(&[Some(1), None, Some(-4)])).unwrap();
    assert_eq!(shown(&result, "e"), ["4", "", "9"]);
    assert_eq!(shown(&result, "d"), ["0", "1", "2"]);
    assert_eq!(shown(&result, "at")[0], "1970-01-01T00:00:00.000001Z");
    assert_eq!(table.evaluate(&batch(&[])).unwrap().num_rows(), 0);
}

#[test]
fn columns_of_the_source_pass_through_without_a_copy() {
    let input = batch(&[Some(1)]);
    let result = compile("SELECT b, a FROM bronze.s").unwrap().evaluate(&input).unwrap();
    assert!(Arc::ptr_eq(result.column(1), input.column(0)));
}

#[test]
fn a_constant_fills_the_column() {
    let result = compile("SELECT a, 7 AS seven FROM bronze.s").unwrap().evaluate(&batch(&[Some(1), None])).unwrap();
    assert_eq!(result.column(1).as_primitive::<Int64Type>().values(), &[7, 7]);
}

#[track_caller]
fn refused(sql: &str, line: usize, words: &str) {
    let error = compile(sql).unwrap_err();
    assert!(error.problem.contains(words), "{error}");
    assert_eq!((error.file.as_str(), error.line), ("t.sql", line), "{error}");
}

#[test]
fn what_is_no_row_for_a_row_is_refused_with_its_line() {
    refused("SELECT a FROM bronze.s WHERE a > 0", 4, "WHERE");
    refused("SELECT a FROM (SELECT a FROM bronze.s WHERE true)", 4, "WHERE");
    refused("SELECT count(*) FROM bronze.s", 4, "aggregate");
    refused("SELECT DISTINCT a FROM bronze.s", 4, "DISTINCT");
    refused("SELECT row_number() OVER (ORDER BY a) AS n FROM bronze.s", 4, "window function");
    refused("SELECT s.a FROM bronze.s s JOIN bronze.s t ON s.a = t.a", 4, "join");
    refused("SELECT a FROM bronze.s UNION ALL SELECT a FROM bronze.s", 4, "UNION");
    refused("SELECT a FROM bronze.s ORDER BY a", 4, "ORDER BY");
    refused("SELECT a FROM bronze.s LIMIT 1", 4, "LIMIT");
    refused("SELECT (SELECT max(a) FROM bronze.s) AS m FROM bronze.s", 4, "subquery");
    refused("SELECT unnest(make_array(a)) AS u FROM bronze.s", 4, "unnest");
    refused("SELECT now() AS n FROM bronze.s", 4, "another answer");
    refused("SELECT random() AS n FROM bronze.s", 4, "");
    refused("SELECT $1 AS n FROM bronze.s", 4, "parameters");
}

#[test]
fn what_does_not_fit_the_source_is_refused_with_its_line() {
    refused("SELECT\n  a,\n  nope\nFROM bronze.s", 6, "nope");
    refused("SELECT a,\n  nope(b) AS n\nFROM bronze.s", 5, "nope");
    refused("SELECT a, a FROM bronze.s", 4, "");
    refused("SELECT is_listed('nope', b) AS l FROM bronze.s", 4, "no reference list `nope`");
    refused("SELECT CAST(a AS BIGINT UNSIGNED) AS u FROM bronze.s", 4, "Delta");
}

#[test]
fn the_header_may_only_name_columns_of_the_result() {
    let mut def = file("SELECT a, b, at FROM bronze.s");
    def.event_time = Some("at".into());
    assert!(RowsTable::compile(&def, &source(), &references()).is_ok());
    for (what, name) in [("event_time", "nope"), ("event_time", "a"), ("key", "nope"), ("partition_by", "nope")] {
        let mut def = def.clone();
        match what {
            "event_time" => def.event_time = Some(name.into()),
            "key" => def.key = vec![name.into()],
            _ => def.partition_by = vec![name.into()],
        }
        let error = RowsTable::compile(&def, &source(), &references()).unwrap_err();
        assert!(error.problem.contains(what) && error.problem.contains(name), "{error}");
    }
}

#[test]
fn rows_that_cannot_be_computed_are_found_and_cost_no_other() {
    let table = compile("SELECT a, 100 / a AS d FROM bronze.s").unwrap();
    let values = (0..100).map(|row| Some(i64::from(![3, 4, 50, 99].contains(&row)) * row)).collect::<Vec<_>>();
    let input = batch(&values);
    assert!(matches!(table.evaluate(&input), Err(RefineError::Evaluate { .. })));
    let evaluated = table.evaluate_rows(&input).unwrap();
    assert_eq!(evaluated.failing, [0, 3, 4, 50, 99]);
    assert!(evaluated.cause.contains("ivide by zero"), "{}", evaluated.cause);
    let expected = values.iter().flatten().filter(|value| **value != 0).copied().collect::<Vec<_>>();
    assert_eq!(evaluated.batch.column(0).as_primitive::<Int64Type>().values(), &expected[..]);
    let none = table.evaluate_rows(&batch(&[Some(0)])).unwrap();
    assert_eq!((none.batch.num_rows(), none.failing), (0, vec![0]));
}

#[test]
fn another_batch_is_an_error_of_the_caller() {
    let table = compile("SELECT a FROM bronze.s").unwrap();
    let error = table.evaluate(&bronze(&[Sent::new("t")])).unwrap_err();
    assert!(error.to_string().contains("expected a Int64, found transaction_id Utf8"), "{error}");
}

#[test]
fn what_expressions_share_is_computed_once() {
    let table = RowsTable::compile(&definition("silver.transactions"), &bronze_schema(), &references()).unwrap();
    let shown = table.stages.iter().flat_map(|stage| &stage.expressions).map(ToString::to_string).collect::<Vec<_>>();
    let mentions = shown.iter().map(|text| text.matches("event_time(").count()).sum::<usize>();
    assert_eq!(mentions, 1, "{shown:#?}");
}

#[test]
fn shipped_sql_is_known_row_by_row() {
    let silver = RowsTable::compile(&definition("silver.transactions"), &bronze_schema(), &references()).unwrap();
    let count = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
    let scored = silver.schema().fields().iter().cloned().chain([count("user_transactions_30m")]);
    let features = definition("silver.transaction_features");
    let double = |name: &str| Arc::new(Field::new(name, DataType::Float64, true));
    let featured = silver.schema().fields().iter().cloned();
    let featured = featured.chain(features.features.iter().map(|feature| double(&feature.column)));
    let scored: SchemaRef = Arc::new(Schema::new(scored.collect::<Vec<_>>()));
    let featured: SchemaRef = Arc::new(Schema::new(featured.collect::<Vec<_>>()));
    let scores = RowsTable::compile(&definition("gold.fraud_scores"), &scored, &references()).unwrap();
    let features = RowsTable::compile(&features, &featured, &references()).unwrap();
    let def = definition("silver.transactions");
    let checks = Checks::compile(&def, silver.schema(), &bronze_schema(), &references()).unwrap();
    assert_eq!(checks.slow(), [""; 0]);
    for table in [silver, scores, features] {
        let unknown = table.stages.iter().flat_map(|stage| &stage.expressions).filter(|known| !known.is_quick());
        assert_eq!(unknown.map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{}", table.table);
    }
}

#[test]
fn few_rows_and_many_give_the_same() {
    let table = RowsTable::compile(&definition("silver.transactions"), &bronze_schema(), &references()).unwrap();
    let locations = ["Paris, France", "Iran", ",", "a, b, c", "", "x, "];
    let sent = (0..300_u32).map(|number| Sent {
        amount: [f64::NAN, 0.125, 1e300, f64::from(number) * 7.31][number as usize % 4],
        at: ["2026-11-20T08:15:30Z", "soon", "1969-12-31T23:59:59.999999Z"][number as usize % 3].to_owned(),
        location: locations[number as usize % locations.len()],
        ..Sent::new(&number.to_string())
    });
    let input = bronze(&sent.collect::<Vec<_>>());
    let whole = table.evaluate(&input).unwrap();
    for row in 0..input.num_rows() {
        assert_eq!(table.evaluate(&input.slice(row, 1)).unwrap(), whole.slice(row, 1));
    }
}

#[test]
fn silver_has_the_columns_that_are_promised() {
    let table = RowsTable::compile(&definition("silver.transactions"), &bronze_schema(), &references()).unwrap();
    let columns =
        table.schema().fields().iter().map(|f| (f.name().as_str(), f.data_type().clone())).collect::<Vec<_>>();
    let text = || DataType::Utf8;
    let own = [
        ("transaction_id", text()),
        ("user_id", DataType::Int32),
        ("amount", DataType::Decimal128(18, 2)),
        ("merchant", text()),
        ("merchant_id", text()),
        ("event_at", schema::timestamp()),
        ("is_fraud", DataType::Boolean),
        ("payment_method", text()),
        ("city", text()),
        ("country", text()),
        ("device_id", text()),
        ("amount_category", text()),
        ("hour", DataType::Int32),
        ("day_of_week", DataType::Int32),
        ("is_weekend", DataType::Boolean),
        ("is_high_value", DataType::Boolean),
        ("transaction_date", DataType::Date32),
    ];
    assert_eq!(columns[..own.len()], own);
    let provenance = schema::provenance();
    let rest = provenance.iter().map(|f| (f.name().as_str(), f.data_type().clone())).collect::<Vec<_>>();
    assert_eq!(columns[own.len()..], rest);
}
