//! Any text as a SQL file: what is compiled keeps every row, and gives what DataFusion gives for the whole source.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use assay::domain::Layer;
use assay::refine::window::{WindowEngine, WindowSettings, WindowTable};
use assay::refine::{Mode, RefineSettings, Refiner, TableDef, functions, parse, run_batch};
use datafusion::prelude::SessionContext;

use super::sample::{self, NoHistory};

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    // A query that is not there is missing on the line after the last one.
    let lines = text.matches('\n').count() + 2;
    let def = match parse(FILE, text) {
        Ok(def) => def,
        Err(error) => return assert!(error.file == FILE && (1..=lines).contains(&error.line), "{error}"),
    };
    assert!(text.ends_with(&def.sql) && def.sql_line <= lines);
    assert_eq!(def.mode == Mode::Window, def.window.is_some());
    let source = match (def.source.layer, def.source.name.as_str()) {
        (Layer::Bronze, "transactions") => sample::bronze(),
        (Layer::Silver, "transactions") => sample::silver(),
        _ => return,
    };
    match def.mode {
        Mode::Rows => check_rows(&def, source, lines),
        Mode::Window => check_windows(&def, source, lines),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let built_in = [
        include_str!("../sql/silver/transactions.sql"),
        include_str!("../sql/silver/transaction_features.sql"),
        include_str!("../sql/gold/fraud_scores.sql"),
        include_str!("../sql/gold/platform_hourly.sql"),
        include_str!("../sql/gold/user_activity.sql"),
        include_str!("../sql/gold/country_activity.sql"),
    ];
    let rows = "-- table = \"silver.t\"\n-- mode = \"rows\"\n-- about = \"a\"\n";
    let windows = "-- table = \"gold.t\"\n-- mode = \"window\"\n-- about = \"a\"\n-- event_time = \"event_at\"\n\
                   -- window = { size = \"1 hour\", slide = \"15 m\" }\n-- key = [\"window_start\"]\n";
    let mut seeds = built_in.map(|text| text.as_bytes().to_vec()).to_vec();
    for query in [
        "SELECT amount + 1 AS a, upper(merchant) AS m, epoch FROM bronze.transactions",
        "SELECT CASE WHEN user_id > 5 THEN 1 / (user_id - 6) END AS a, amount::decimal(4,1) AS b FROM bronze.transactions",
    ] {
        seeds.push(format!("{rows}{query}").into_bytes());
    }
    for query in [
        "SELECT window_start, count(*) AS n, sum(amount) AS s, avg(amount) AS a, max(event_at) AS m \
         FROM silver.transactions WHERE amount > 3 GROUP BY window_start",
        "SELECT window_start, city, count(DISTINCT user_id) FILTER (WHERE is_fraud) AS n, min(amount::double) AS m, \
         bool_or(is_weekend) AS w, avg(user_id) * 2 AS u FROM silver.transactions GROUP BY window_start, city",
    ] {
        seeds.push(format!("{windows}{query}").into_bytes());
    }
    seeds
}

const FILE: &str = "f.sql";

fn check_rows(def: &TableDef, source: &RecordBatch, lines: usize) {
    let references = &sample::catalog().references;
    let settings = RefineSettings::default();
    let mut refiner = match Refiner::new(def, &source.schema(), references, &settings, [1; 16]) {
        Ok(refiner) => refiner,
        Err(error) => return assert!(error.file == FILE && (1..=lines).contains(&error.line), "{error}"),
    };
    let Ok(refined) = refiner.refine(source, &NoHistory) else { return };
    let rows = refined.silver.num_rows() + refined.quarantined.num_rows() + refined.duplicates as usize;
    assert_eq!(rows, source.num_rows(), "rows are conserved");
    assert_eq!(refined.silver.schema(), *refiner.schema());
}

fn check_windows(def: &TableDef, source: &RecordBatch, lines: usize) {
    let session = SessionContext::new();
    functions::register(&session, &sample::catalog().references);
    let table = match WindowTable::compile(def, &source.schema(), &session) {
        Ok(table) => table,
        Err(error) => {
            assert!(error.is_definition(), "{error}");
            let line = error.to_string().strip_prefix("f.sql:").and_then(|rest| rest.split(':').next()?.parse().ok());
            return assert!(line.is_none_or(|line: usize| (1..=lines).contains(&line)), "{error}");
        }
    };
    let schema = table.schema().clone();
    let Ok(mut engine) = WindowEngine::new(vec![table], WindowSettings::default()) else { return };
    let half = source.num_rows() / 2;
    for part in [source.slice(0, half), source.slice(half, source.num_rows() - half)] {
        if engine.update(&part, &NoHistory, None).is_err() {
            return;
        }
    }
    let Ok(mut changes) = engine.finish(None) else { return };
    let found = changes.remove(0).open.expect("all windows are open");
    assert_eq!(found.schema(), schema);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let expected = runtime.block_on(async {
        let source = session.read_batch(source.clone())?;
        run_batch(&session, def, source).await?.collect().await
    });
    // It may overflow where the engine does not.
    let Ok(expected) = expected else { return };
    let cast_to = |batch: RecordBatch| {
        let columns =
            batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>().expect("a cast"))
            .expect("the table's columns")
    };
    let expected = texts(expected.into_iter().map(cast_to));
    assert_eq!(texts([found]), expected, "{}", def.sql);
}

/// Rows as text, with how often each is there.
fn texts(batches: impl IntoIterator<Item = RecordBatch>) -> BTreeMap<String, usize> {
    let mut texts = BTreeMap::new();
    let options = FormatOptions::default().with_null("NULL");
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("a column"));
        let columns = columns.collect::<Vec<_>>();
        for row in 0..batch.num_rows() {
            let text = columns.iter().map(|column| format!("<{}>", column.value(row))).collect::<String>();
            *texts.entry(text).or_default() += 1;
        }
    }
    texts
}
