use super::*;

const WINDOW: &str = r#"-- table      = "gold.sales"
-- mode       = "window"
-- about      = "Sales."
-- event_time = "event_at"
-- window     = { size = "15 minutes", slide = "5 minutes" }
-- key        = ["window_start"]

SELECT window_start, count(*) AS n
FROM silver.transactions
GROUP BY window_start
"#;

const ROWS: &str = r#"-- table = "silver.t"
-- mode = "rows"
-- about = "T."
-- event_time = "at"
-- key = ["id"]
-- deduplicate = true
-- quarantine = "silver.quarantine"
-- expectations = [
--   # comments are fine
--   { name = "a", check = "x > 0", on_fail = "quarantine" },
--   { name = "b", check = "y > 0", on_fail = "warn" },
-- ]
-- trailing = [{ column = "n", key = "id", window = "30 minutes" }]
WITH a AS (SELECT * FROM bronze.t) SELECT id, at FROM a
"#;

#[test]
fn a_window_file_is_read() {
    let def = parse("gold/sales.sql", WINDOW).unwrap();
    assert_eq!(def.table.to_string(), "gold.sales");
    assert_eq!(def.source.to_string(), "silver.transactions");
    assert_eq!(def.window, Some(WindowSpec { size_us: 900_000_000, slide_us: 300_000_000 }));
    assert_eq!(def.sql_line, 7);
    assert!(def.sql.trim_start().starts_with("SELECT"));
}

#[test]
fn a_rows_file_is_read_and_ctes_are_no_sources() {
    let def = parse("silver/t.sql", ROWS).unwrap();
    assert_eq!(def.source.to_string(), "bronze.t");
    assert!(def.deduplicate);
    assert_eq!(def.expectations.iter().map(|e| (e.name.as_str(), e.line)).collect::<Vec<_>>(), [("a", 10), ("b", 11)]);
    assert_eq!(def.trailing, [Trailing { column: "n".into(), key: "id".into(), window_us: 1_800_000_000 }]);
}

#[test]
fn windows_line_ends_are_no_obstacle() {
    let def = parse("silver/t.sql", &ROWS.replace('\n', "\r\n")).unwrap();
    assert_eq!(def.sql_line, 14);
}

/// Changes `from` into `to` in `text`, and expects the refusal on `line` to mention `words`.
#[track_caller]
fn refused(text: &str, from: &str, to: &str, line: usize, words: &str) {
    assert!(text.contains(from), "nothing to change: {from}");
    let error = parse("x.sql", &text.replacen(from, to, 1)).unwrap_err();
    assert!(error.problem.contains(words), "{error}");
    assert_eq!(error.line, line, "{error}");
    assert!(error.to_string().starts_with(&format!("x.sql:{line}:")), "{error}");
}

#[test]
fn headers_are_refused_with_their_line() {
    refused(WINDOW, "about ", "abuot ", 3, "abuot");
    refused(WINDOW, "\"15 minutes\"", "\"15 moons\"", 5, "15 moons");
    refused(WINDOW, "\"15 minutes\"", "15", 5, "string");
    refused(WINDOW, "\"5 minutes\"", "\"4 minutes\"", 5, "divide");
    refused(WINDOW, "\"5 minutes\"", "\"20 minutes\"", 5, "divide");
    refused(WINDOW, "\"5 minutes\"", "\"5 ms\"", 5, "2880 parts");
    refused(WINDOW, "\"window\"", "\"full\"", 2, "full");
    refused(WINDOW, "gold.sales", "bronze.sales", 1, "silver or gold");
    refused(WINDOW, "gold.sales", "Gold.sales", 1, "layer.name");
    refused(WINDOW, "-- window     = { size = \"15 minutes\", slide = \"5 minutes\" }\n", "", 1, "`window` is missing");
    refused(WINDOW, "-- key        = [\"window_start\"]", "-- deduplicate = true", 6, "mode = \"rows\"");
    refused(WINDOW, "-- event_time = \"event_at\"", "-- #", 1, "`event_time` is missing");
    refused(ROWS, "on_fail = \"warn\"", "on_fail = \"ignore\"", 11, "ignore");
    refused(ROWS, "x > 0", "x >", 10, "not a SQL expression");
    refused(ROWS, "\"b\"", "\"a\"", 11, "twice");
    refused(ROWS, "30 minutes", "367 days", 13, "366 days");
    refused(ROWS, "x > 0", &"+x".repeat(5_000), 10, "at most 4096");
    refused(ROWS, "\"b\"", "\"evaluates\"", 11, "built-in");
    refused(ROWS, "-- quarantine = \"silver.quarantine\"", "-- #", 10, "quarantine");
    refused(ROWS, "-- key = [\"id\"]", "-- key = []", 1, "`key` is missing");
    refused(ROWS, "-- mode = \"rows\"", "-- mode \"rows\"", 2, "header");
}

#[test]
fn features_are_refused_with_their_line() {
    let text = include_str!("../../../sql/silver/transaction_features.sql");
    let line = |part: &str| 1 + text.lines().position(|line| line.contains(part)).unwrap();
    let first = line("user_count_5m");
    refused(text, "\"count\"", "\"cuont\"", first, "did you mean `count`");
    refused(text, "\"user_count_30m\"", "\"user_count_5m\"", first + 1, "a name of its own");
    refused(text, "window = \"5 minutes\"", "window = \"5 hours\"", first, "give a `grain`");
    refused(text, "grain = \"1 day\"", "grain = \"2 days\"", line("user_count_7d"), "whole parts");
    refused(text, "label_delay = true", "label_delay = \"soon\"", line("merchant_fraud_rate_30d"), "`soon`");
    refused(text, "-- event_time   = \"event_at\"", "-- #", 1, "`event_time` is missing");
    let own = text.replacen("label_delay = true", "label_delay = \"2 days\"", 1);
    let def = parse("x.sql", &own).unwrap();
    let delays: Vec<i64> = def.features.iter().filter_map(|f| f.label_delay).map(LabelDelay::us).collect();
    assert_eq!(delays, [2 * 86_400_000_000, 7 * 86_400_000_000]);
}

#[test]
fn queries_are_refused_with_their_line() {
    refused(WINDOW, "FROM silver.transactions", "FRUM silver.transactions WHERE", 9, "");
    refused(WINDOW, "GROUP BY window_start", "GROUP BY window_start; SELECT 1", 7, "exactly one query");
    refused(WINDOW, "silver.transactions", "silver.transactions, silver.other", 7, "2 tables");
    refused(WINDOW, "silver.transactions", "transactions", 7, "layer.table");
    refused(WINDOW, "silver.transactions", "gold.sales", 7, "from itself");
    refused(ROWS, "WITH a AS (SELECT * FROM bronze.t) SELECT id, at FROM a", "DROP TABLE bronze.t", 14, "not a query");
    refused(ROWS, "SELECT * FROM bronze.t", "SELECT 1", 14, "no table");
    refused(ROWS, "SELECT id,", &format!("SELECT id{},", "+1".repeat(20_000)), 14, "at most 4096");
}

#[test]
fn a_syntax_error_is_told_with_the_line_and_column_of_the_file() {
    let error = parse("sql/gold/x.sql", &WINDOW.replacen("FROM silver", "FROM FROM silver", 1)).unwrap_err();
    let line = 1 + WINDOW.lines().position(|line| line.contains("FROM silver")).unwrap();
    let text = error.to_string();
    assert!(text.starts_with(&format!("sql/gold/x.sql:{line}:")), "{text}");
    let header = "-- table = \"gold.x\"\n-- mode = \"rows\"\n-- about = \"x\"\n";
    let error = parse("x.sql", &format!("{header}\n-- why\nSELECT a,\n  count(* AS n\nFROM silver.t\n")).unwrap_err();
    assert_eq!(error.to_string(), "x.sql:7:11: expected ), found AS");
    let error = parse("x.sql", &format!("{header}SELECT 'a\nFROM silver.t")).unwrap_err();
    assert_eq!(error.to_string(), "x.sql:4:8: Unterminated string literal");
    let error = parse("x.sql", &format!("{header}SELECT a FROM")).unwrap_err();
    assert_eq!(error.to_string(), "x.sql:4: expected identifier, found the end of the SQL");
}

#[test]
fn a_header_that_ends_too_early_is_refused_on_its_last_line() {
    for text in [
        "-- table = \"gold.x\"\n-- about = \"\"\"",
        "-- table = \"gold.x\"\n-- about = \"\"\"x\nSELECT 1 FROM silver.t",
    ] {
        assert_eq!(parse("x.sql", text).unwrap_err().line, 2, "{text}");
    }
}

#[test]
fn a_file_without_a_header_is_refused() {
    let error = parse("x.sql", "SELECT 1").unwrap_err();
    assert_eq!(error.line, 1);
    assert!(error.problem.contains("table"), "{error}");
}

proptest::proptest! {
    #[test]
    fn any_text_gets_an_answer(text in ".{0,200}", header in "[a-z =\"\\[\\]{},.#]{0,80}") {
        let _ = parse("x.sql", &text);
        let _ = parse("x.sql", &format!("-- {header}\n{text}"));
    }
}
