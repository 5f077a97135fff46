use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use datafusion::{catalog::MemorySchemaProvider, datasource::MemTable};
use futures::{FutureExt, future::BoxFuture};
use proptest::prelude::*;

use super::output::{Target, write_to};
use super::prompt::{Answer, Shell};
use super::query::{Cancelled, Settings, prepare};
use super::*;
use crate::exit::Exit;
use assay::query::{SqlTextError, is_complete, split_epoch, statements};

/// A lake of three epochs that each add two transactions.
struct Lake;

#[async_trait]
impl QueryContext for Lake {
    async fn session(&self, epoch: Option<i64>) -> anyhow::Result<SessionContext> {
        let session = SessionContext::new();
        let catalog = session.catalog("datafusion").unwrap();
        let rows = usize::try_from(epoch.unwrap_or(self.latest_epoch()) * 2)?;
        for (schema, table) in
            [("bronze", "transactions"), ("silver", "transactions"), ("gold", "merchant_activity"), ("ops", "epochs")]
        {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
            let batch = transactions().slice(0, rows);
            let memory = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
            session.register_table(format!("{schema}.{table}"), Arc::new(memory))?;
        }
        Ok(session)
    }

    fn latest_epoch(&self) -> i64 {
        3
    }
}

fn transactions() -> RecordBatch {
    let amount = Decimal128Array::from(vec![100, 250, -5, 99_999, 1, 7]).with_precision_and_scale(18, 2).unwrap();
    let lists = [Some(vec![Some(1), None]), None, Some(vec![]), None, None, Some(vec![Some(3)])];
    let tags = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    RecordBatch::try_from_iter_with_nullable([
        ("transaction_id", Arc::new(StringArray::from(vec!["a", "b", "c,d", "e\"f", "g\nh", "i"])) as ArrayRef, false),
        ("amount", Arc::new(amount), true),
        ("event_at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2, 3, 4, 5]).with_timezone("UTC")), false),
        ("epoch", Arc::new(Int64Array::from(vec![1, 1, 2, 2, 3, 3])), false),
        ("tags", Arc::new(tags), true),
    ])
    .unwrap()
}

/// Nobody presses Ctrl-C.
struct Never;

impl Interrupt for Never {
    fn interrupted(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

fn settings(format: Format, target: Target) -> Settings {
    Settings { format, target, look: Look::PLAIN, rows_max: 100, epoch: None }
}

async fn to_file(sql: &str, format: Format) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rows");
    let result = run_script(sql, &settings(format, Target::File(path.clone())), &Lake, &Never).await;
    let files = std::fs::read_dir(folder.path())?.count();
    assert_eq!(files, usize::from(result.is_ok()), "a query that fails leaves no file, one that ends leaves one");
    result?;
    Ok(std::fs::read(path)?)
}

async fn rows(sql: &str) -> String {
    String::from_utf8(to_file(sql, Format::Csv).await.unwrap()).unwrap()
}

async fn fails(sql: &str) -> (Exit, String) {
    let error = to_file(sql, Format::Csv).await.unwrap_err();
    (Exit::of(&error), format!("{error:#}"))
}

#[test]
fn the_epoch_is_found_outside_of_quotes_and_comments() {
    let found = |sql: &str| split_epoch(sql).unwrap();
    assert_eq!(found("SELECT 1"), ("SELECT 1".to_owned(), None));
    assert_eq!(found("SELECT 1 AS OF EPOCH 7"), ("SELECT 1".to_owned(), Some(7)));
    assert_eq!(found("SELECT 1 as /* x */ of\n epoch 7;"), ("SELECT 1              \n        ;".to_owned(), Some(7)));
    assert_eq!(found("SELECT x FROM silver.t AS OF EPOCH 12 t WHERE x > 1").0.split_whitespace().count(), 9);
    assert_eq!(found("SELECT x FROM a.t AS OF EPOCH 12 JOIN b.t AS OF EPOCH 12 USING (x)").1, Some(12));
    for untouched in [
        "SELECT 'AS OF EPOCH 7'",
        "SELECT 'it''s AS OF EPOCH 7'",
        "SELECT 1 -- AS OF EPOCH 7",
        "SELECT /* AS OF EPOCH 7 /* nested */ */ 1",
        "SELECT \"AS\" \"OF\" \"EPOCH\" FROM t",
        "SELECT $$ AS OF EPOCH 7 $$",
        "SELECT epoch AS of, epoch FROM t",
    ] {
        assert_eq!(found(untouched), (untouched.to_owned(), None));
    }
}

#[test]
fn positions_stay_when_the_epoch_is_taken_out() {
    let sql = "SELECT é\nFROM t AS OF EPOCH 3 WHERE x";
    let (text, _) = split_epoch(sql).unwrap();
    assert_eq!(text.chars().count(), sql.chars().count());
    assert_eq!(text.find("WHERE"), sql.find("WHERE"));
}

#[test]
fn an_epoch_that_is_none_and_two_that_differ_are_refused() {
    let error = split_epoch("SELECT 1\nAS OF EPOCH soon").unwrap_err();
    assert_eq!(error, SqlTextError::NotAnEpoch { found: "`soon`".to_owned(), line: 2, column: 13 });
    for bad in ["0", "-1", "1.5", "'3'", "99999999999999999999", ";", "1e3"] {
        let error = split_epoch(&format!("SELECT 1 AS OF EPOCH {bad}")).unwrap_err();
        assert!(matches!(error, SqlTextError::NotAnEpoch { .. }), "{bad}: {error}");
    }
    let error = split_epoch("SELECT 1 AS OF EPOCH").unwrap_err();
    assert_eq!(error, SqlTextError::NotAnEpoch { found: "nothing".to_owned(), line: 1, column: 21 });
    let error = split_epoch("SELECT * FROM a AS OF EPOCH 1, b AS OF EPOCH 2").unwrap_err();
    assert_eq!(error, SqlTextError::TwoEpochs { first: 1, second: 2, line: 1, column: 46 });
    assert!(matches!(split_epoch("SELECT 'open"), Err(SqlTextError::Unreadable { line: 1, .. })));
}

#[test]
fn a_flag_and_a_query_must_agree_and_the_epoch_must_exist() {
    assert_eq!(prepare("SELECT 1 AS OF EPOCH 2", Some(2), 3).unwrap().1, Some(2));
    assert_eq!(prepare("SELECT 1", Some(3), 3).unwrap().1, Some(3));
    assert_eq!(prepare("SELECT 1", None, 0).unwrap().1, None);
    let text = |result: Result<_, UsageError>| result.unwrap_err().to_string();
    assert!(text(prepare("SELECT 1 AS OF EPOCH 2", Some(1), 3)).contains("--epoch says 1"));
    assert_eq!(text(prepare("SELECT 1", Some(9), 3)), "there is no epoch 9 yet: the latest complete one is 3");
    assert_eq!(text(prepare("SELECT 1", Some(9), 0)), "there is no epoch 9: the lake has none yet");
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(sql in "(AS|OF|EPOCH|[0-9]|[;'\"/*\n -]|\\$|é|[a-z]){0,30}") {
        if let Ok((text, epoch)) = split_epoch(&sql) {
            prop_assert!(text.chars().count() <= sql.chars().count());
            prop_assert!(epoch.is_none_or(|epoch| epoch >= 1));
            // Once taken out, it is out.
            prop_assert_eq!(split_epoch(&text), Ok((text.clone(), None)));
        }
        if let Err(error) = statements(&sql) {
            prop_assert!(error.render(&sql).contains(" --> line "));
        }
    }

    #[test]
    fn an_epoch_is_found_wherever_it_stands(before in "[a-z 0-9]{1,20}", epoch in 1_i64.., after in "[a-z ]{0,10}") {
        let sql = format!("{before} AS OF EPOCH {epoch} {after}");
        let (text, found) = split_epoch(&sql).unwrap();
        prop_assert_eq!(found, Some(epoch));
        let expected = format!("{before} {after}");
        prop_assert_eq!(text.split_whitespace().collect::<Vec<_>>(), expected.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn a_script_is_cut_at_its_semicolons() {
    let script = "SELECT ';' -- ;\n; ;\nSELECT 2;; SELECT\n3";
    let found = statements(script).unwrap();
    let trimmed: Vec<&str> = found.iter().map(|statement| statement.trim()).collect();
    assert_eq!(trimmed, ["SELECT ';' -- ;", "SELECT 2", "SELECT\n3"]);
    assert_eq!(found[1].split('\n').count(), 3, "the second statement begins on the third line");
    assert!(statements(" -- nothing\n ;").unwrap().is_empty());
}

#[test]
fn the_prompt_reads_on_until_the_statement_is_whole() {
    for whole in ["", "SELECT 1;", "SELECT ';';  -- done", "  "] {
        assert!(is_complete(whole), "{whole}");
    }
    for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT 1 /* ;", "SELECT 1 -- ;"] {
        assert!(!is_complete(open), "{open}");
    }
}

#[tokio::test]
async fn csv_quotes_what_must_be_and_writes_nested_values_as_json() {
    let expected = "transaction_id,amount,event_at,epoch,tags\n\
                    a,1.00,1970-01-01T00:00:00Z,1,\"[1,null]\"\n\
                    b,2.50,1970-01-01T00:00:00.000001Z,1,\n\
                    \"c,d\",-0.05,1970-01-01T00:00:00.000002Z,2,[]\n\
                    \"e\"\"f\",999.99,1970-01-01T00:00:00.000003Z,2,\n\
                    \"g\nh\",0.01,1970-01-01T00:00:00.000004Z,3,\n\
                    i,0.07,1970-01-01T00:00:00.000005Z,3,[3]\n";
    assert_eq!(rows("SELECT * FROM silver.transactions").await, expected);
    assert_eq!(rows("SELECT epoch FROM silver.transactions WHERE false").await, "epoch\n");
}

#[tokio::test]
async fn an_earlier_epoch_is_read_everywhere_in_the_query() {
    let sql = "SELECT count(*) AS n FROM silver.transactions AS OF EPOCH 2 t JOIN gold.merchant_activity USING (transaction_id)";
    assert_eq!(rows(sql).await, "n\n4\n");
    assert_eq!(rows("SELECT count(*) AS n FROM ops.epochs").await, "n\n6\n");
}

#[tokio::test]
async fn json_is_one_object_a_line_with_all_keys() {
    let bytes = to_file("SELECT * FROM silver.transactions AS OF EPOCH 1;", Format::Json).await.unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = serde_json::json!([
        {"transaction_id": "a", "amount": 1.0, "event_at": "1970-01-01T00:00:00Z", "epoch": 1, "tags": [1, null]},
        {"transaction_id": "b", "amount": 2.5, "event_at": "1970-01-01T00:00:00.000001Z", "epoch": 1, "tags": null},
    ]);
    assert_eq!(serde_json::Value::from(lines), expected);
}

#[tokio::test]
async fn parquet_reads_back_equal() {
    let bytes =
        to_file("SELECT transaction_id, amount, event_at, epoch, tags FROM silver.transactions", Format::Parquet);
    let bytes = bytes::Bytes::from(bytes.await.unwrap());
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 100).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].columns(), transactions().columns());
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused_where_they_would_be_lost() {
    let sql = "SELECT a.epoch, b.epoch FROM silver.transactions a JOIN ops.epochs b USING (transaction_id)";
    for format in [Format::Json, Format::Parquet] {
        let error = to_file(sql, format).await.unwrap_err();
        assert_eq!(
            (Exit::of(&error), error.to_string().contains("two columns are named `epoch`")),
            (Exit::Usage, true)
        );
    }
    assert!(rows(sql).await.starts_with("epoch,epoch\n1,1\n"));
}

#[test]
fn a_table_stops_at_its_limit_and_takes_no_more() {
    let schema = transactions().schema();
    let mut asked = 0;
    let mut text = Vec::new();
    let written = write_to(Format::Table, &schema, &mut text, Look::PLAIN, 8, || {
        asked += 1;
        Ok((asked < 100).then(transactions))
    });
    let written = written.unwrap();
    assert_eq!((written.rows, written.truncated, asked), (8, true, 2));
    assert_eq!(String::from_utf8(text).unwrap().lines().count(), 10);

    let mut batches = vec![transactions()].into_iter();
    let exact = write_to(Format::Table, &schema, &mut Vec::new(), Look::PLAIN, 6, || Ok(batches.next())).unwrap();
    assert_eq!((exact.rows, exact.truncated), (6, false));
}

#[tokio::test]
async fn a_syntax_error_has_a_caret() {
    let (exit, text) = fails("SELECT transaction_id\nFRM silver.transactions WHERE").await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.contains("--> line 2, column 5\n"), "{text}");
    assert!(text.ends_with("2 | FRM silver.transactions WHERE\n  |     ^^^^^^"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_computed_is_said_in_words() {
    let (exit, text) = fails("SELECT epoch,\n  epoch / 0 FROM silver.transactions").await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.starts_with("an expression divides by zero: guard it"), "{text}");
    assert!(text.contains("--> line 2, column 9\n"), "{text}");
    let (exit, text) = fails("SELECT cast(transaction_id AS int) FROM silver.transactions").await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.starts_with("cannot cast string '") && text.contains("try_cast"), "{text}");
    let (_, text) = fails("SELECT sum(transaction_id) FROM silver.transactions").await;
    assert!(text.starts_with("no function takes these types: sum("), "{text}");
}

#[tokio::test]
async fn a_wrong_column_is_shown_and_the_right_one_named() {
    let (exit, text) = fails("SELECT amuont\nFROM silver.transactions").await;
    let expected = "there is no column `amuont`\n  --> line 1, column 8\n  |\n1 | SELECT amuont\n  |        ^^^^^^\n  = did you mean `amount`?";
    assert_eq!((exit, text.as_str()), (Exit::Usage, expected));
    let (_, text) = fails("SELECT amuont, transaction FROM silver.transactions").await;
    assert!(text.contains("there is no column `amuont`") && text.contains('^'), "{text}");
}

#[tokio::test]
async fn a_wrong_table_is_shown_and_the_right_one_named() {
    let (exit, text) = fails("SELECT 1 FROM silver.transaction AS OF EPOCH 1").await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.starts_with("there is no table `silver.transaction`\n  --> line 1, column 15\n"), "{text}");
    assert!(text.ends_with("did you mean `bronze.transactions` or `silver.transactions`?"), "{text}");
    let (_, text) = fails("SELECT 1 FROM merchant_activity").await;
    assert!(text.starts_with("there is no table `merchant_activity`"), "{text}");
    assert!(text.ends_with("did you mean `gold.merchant_activity`?"), "{text}");
}

#[tokio::test]
async fn the_second_statement_knows_its_line() {
    let settings = settings(Format::Table, Target::Stdout);
    let error = run_script("SELECT 1;\n\nSELECT nope FROM ops.epochs", &settings, &Lake, &Never);
    let text = error.await.unwrap_err().to_string();
    assert!(text.contains("--> line 3, column 8"), "{text}");
}

#[tokio::test]
async fn nothing_can_be_changed() {
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE silver.transactions",
        "INSERT INTO silver.transactions SELECT * FROM silver.transactions",
        "DELETE FROM silver.transactions",
        "COPY silver.transactions TO '/tmp/out.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
    ] {
        let (exit, text) = fails(sql).await;
        assert_eq!(exit, Exit::Usage, "{sql}");
        assert!(text.starts_with("the tables can be read here, not changed"), "{sql}: {text}");
    }
    for sql in ["EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1", "DESCRIBE silver.transactions", "VALUES (1)"] {
        rows(sql).await;
    }
}

#[tokio::test]
async fn an_error_of_the_data_is_a_failure_not_a_usage_error() {
    let (exit, text) = fails("SELECT 1 / (epoch - 1) FROM silver.transactions").await;
    assert_eq!((exit, text.contains("divides by zero")), (Exit::Failed, true), "{text}");
}

#[tokio::test]
async fn no_query_and_several_in_one_file_are_refused() {
    let (exit, text) = fails(" -- nothing\n;").await;
    assert_eq!((exit, text.starts_with("there is no query")), (Exit::Usage, true));
    let (exit, text) = fails("SELECT 1; SELECT 2").await;
    assert_eq!((exit, text.starts_with("2 queries make one table each")), (Exit::Usage, true));
}

/// Ctrl-C as soon as something waits for it, or once the query runs.
struct Stop(tokio::sync::Semaphore);

impl Interrupt for Stop {
    fn interrupted(&self) -> BoxFuture<'_, ()> {
        async { drop(self.0.acquire().await) }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_without_end_is_stopped_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endless.csv");
    let stop = Arc::new(Stop(tokio::sync::Semaphore::new(0)));
    let settings = settings(Format::Csv, Target::File(path.clone()));
    let endless = tokio::spawn({
        let stop = stop.clone();
        async move { run_script("SELECT * FROM generate_series(1, 1000000000000)", &settings, &Lake, &*stop).await }
    });
    // The partial file shows that rows are on their way.
    while std::fs::read_dir(folder.path()).unwrap().next().is_none() {
        tokio::task::yield_now().await;
    }
    stop.0.add_permits(1);
    let error = endless.await.unwrap().unwrap_err();
    assert!(error.is::<Cancelled>(), "{error:#}");
    assert_eq!((Exit::of(&error), error.to_string().as_str()), (Exit::Failed, "cancelled"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stop_before_planning_is_heard() {
    let stop = Stop(tokio::sync::Semaphore::new(1));
    let error = run_script("SELECT 1", &settings(Format::Table, Target::Stdout), &Lake, &stop).await.unwrap_err();
    assert!(error.is::<Cancelled>());
}

async fn shell(epoch: Option<i64>) -> Shell<'static> {
    let args = SqlArgs { epoch, ..SqlArgs::default() };
    Shell::new(&args, Look::PLAIN, &Lake).await.unwrap()
}

async fn says(shell: &mut Shell<'_>, line: &str) -> String {
    match shell.answer(line, &Never).await {
        Answer::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_prompt_knows_its_commands() {
    let mut shell = shell(None).await;
    assert_eq!(shell.prompt(), "assay> ");
    let tables = says(&mut shell, ".tables").await;
    let names: Vec<&str> = tables.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["bronze.transactions", "gold.merchant_activity", "ops.epochs", "silver.transactions"]);
    let columns = says(&mut shell, ".describe silver.transactions").await;
    assert!(columns.contains("  transaction_id  Utf8  not null\n  amount          Decimal128(18, 2)\n"), "{columns}");
    assert_eq!(says(&mut shell, "\\d silver.transactions").await, columns);
    assert!(
        says(&mut shell, ".describe transactions")
            .await
            .contains("did you mean bronze.transactions, silver.transactions?")
    );
    assert!(says(&mut shell, ".help").await.contains(".epoch n"));
    assert!(says(&mut shell, ".tabels").await.contains("Did you mean .tables?"));
    assert_eq!(shell.answer(".quit", &Never).await, Answer::Quit);
    assert_eq!(shell.answer("exit", &Never).await, Answer::Quit);
}

#[tokio::test]
async fn the_prompt_stays_at_an_epoch() {
    let mut shell = shell(None).await;
    assert_eq!(says(&mut shell, ".epoch 2").await, "");
    assert_eq!(shell.prompt(), "assay@2> ");
    assert!(says(&mut shell, ".epoch 4").await.contains("there is no epoch 4 yet"));
    assert!(says(&mut shell, ".epoch soon").await.contains("an epoch is a number"));
    assert_eq!(shell.prompt(), "assay@2> ");
    assert_eq!(shell.answer("SELECT count(*) FROM ops.epochs AS OF EPOCH 1;", &Never).await, Answer::Shown);
    assert_eq!(says(&mut shell, ".epoch latest").await, "");
    assert_eq!(shell.prompt(), "assay> ");
    assert!(says(&mut shell, "SELECT nope FROM ops.epochs;").await.starts_with("error: there is no column `nope`"));
}

#[tokio::test]
async fn completion_offers_what_may_follow() {
    let shell = shell(None).await;
    let names = shell.names.read().unwrap();
    let at_end = |line: &str| complete::candidates(line, line.len(), &names);
    assert_eq!(at_end("SELECT * FROM si"), (14, vec!["silver.transactions".to_owned()]));
    assert_eq!(at_end("SELECT * FROM silver.tr"), (14, vec!["silver.transactions".to_owned()]));
    assert_eq!(at_end("SELECT * FROM trans").1[1..], ["bronze.transactions", "silver.transactions"]);
    assert_eq!(at_end("SELECT * FROM ").1.len(), 4);
    assert_eq!(at_end("SELECT silver.transactions.am"), (7, vec!["silver.transactions.amount".to_owned()]));
    assert_eq!(at_end("SELECT transactions.am").1, ["transactions.amount"]);
    assert_eq!(at_end("SEL"), (0, vec!["SELECT".to_owned()]));
    assert_eq!(at_end("sel"), (0, vec!["select".to_owned()]));
    assert_eq!(complete::candidates("SELECT am FROM ops.epochs", 9, &names), (7, vec!["amount".to_owned()]));
    assert_eq!(at_end(".des"), (0, vec![".describe".to_owned()]));
    assert_eq!(at_end(".describe go"), (10, vec!["gold.merchant_activity".to_owned()]));
    assert_eq!(at_end("SELECT zzz").1, Vec::<String>::new());
    assert_eq!(at_end("SELECT é").1, Vec::<String>::new());
}

#[test]
fn arguments_are_read() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        sql: SqlArgs,
    }
    let parse = |args: &[&str]| <Cli as clap::Parser>::try_parse_from([&["assay"], args].concat()).map(|cli| cli.sql);
    let args =
        parse(&["SELECT 1", "--format", "parquet", "-o", "x.parquet", "--epoch", "3", "--limit-rows", "5"]).unwrap();
    assert_eq!(
        (args.query.as_deref(), args.format(), args.epoch, args.limit_rows),
        (Some("SELECT 1"), Format::Parquet, Some(3), Some(5))
    );
    assert_eq!(parse(&[]).unwrap().format(), Format::Table);
    for (output, format) in
        [("a.parquet", Format::Parquet), ("b.csv", Format::Csv), ("c.jsonl", Format::Json), ("d", Format::Table)]
    {
        assert_eq!(parse(&["--output", output]).unwrap().format(), format);
    }
    assert_eq!(parse(&["--output", "a.parquet", "--format", "csv"]).unwrap().format(), Format::Csv);
    assert!(parse(&["--epoch", "0"]).is_err());
    assert!(parse(&["--format", "xml"]).is_err());
}

#[tokio::test]
async fn what_ends_too_early_is_shown_at_its_end() {
    let (exit, text) = fails("SELECT *\nFROM ops.epochs WHERE  ").await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.ends_with("2 | FROM ops.epochs WHERE\n  |                      ^"), "{text}");
}

#[tokio::test]
async fn a_wrong_function_is_shown_and_the_right_one_named() {
    let (exit, text) = fails("SELECT cuont(epoch) FROM ops.epochs").await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.starts_with("there is no function `cuont`\n  --> line 1, column 8\n"), "{text}");
    assert!(text.contains("did you mean") && text.contains("`count`"), "{text}");
}

#[tokio::test]
async fn an_argument_that_cannot_be_is_told_without_the_engines_prefix() {
    let (exit, text) = fails("SELECT date_trunc('blah', event_at) FROM ops.epochs").await;
    assert_eq!((exit, text.starts_with("Unsupported date_trunc granularity: 'blah'")), (Exit::Failed, true), "{text}");
}

#[tokio::test]
async fn the_catalog_can_be_asked_in_sql() {
    let text = rows("SHOW TABLES").await;
    assert!(text.contains(",silver,transactions,"), "{text}");
}
