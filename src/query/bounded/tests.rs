use arrow::util::pretty::pretty_format_batches;

use super::super::{Explained, Names};
use super::*;

async fn ask(session: &SessionContext, sql: &str) -> Result<String> {
    let batches = super::super::plan(session, sql).await?.collect().await?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

async fn tables() -> SessionContext {
    let session = SessionContext::new();
    bound(&session);
    let rows = "CREATE TABLE t AS SELECT value AS n, 'abc' AS word, 2000000000 AS many, arrow_cast('abc', 'Utf8View') AS viewed
                FROM range(0, 20000)";
    session.sql(rows).await.unwrap().collect().await.unwrap();
    session
}

/// Each gives gigabytes or more, by a constant or by a column.
const HUGE: [&str; 46] = [
    "SELECT arrow_cast(arrow_cast(word, 'Binary'), 'Dictionary(Int32, FixedSizeBinary(2000000000))') FROM t",
    "SELECT arrow_cast(NULL, 'FixedSizeList(65536, Utf8View)') FROM t",
    "SELECT array_repeat(make_array(CASE WHEN n = 0 THEN repeat('x', 65000) ELSE '' END), CASE WHEN n = 0 THEN 3000 ELSE 1 END) FROM t",
    "SELECT repeat('x', 2000000000)",
    "SELECT repeat(word, many) FROM t",
    "SELECT repeat(viewed, many) FROM t",
    "SELECT repeat(word, 60000) FROM t",
    "SELECT length(repeat('x', 2000000000)) FROM t",
    "SELECT n FROM t WHERE repeat(word, many) = 'x'",
    "SELECT count(*) FROM t GROUP BY repeat(word, many)",
    "SELECT n FROM t ORDER BY repeat(word, many)",
    "SELECT (SELECT max(repeat(word, many)) FROM t)",
    "SELECT lpad('x', 2000000000)",
    "SELECT rpad('x', 2000000000, 'é')",
    "SELECT lpad(word, many, 'xyz') FROM t",
    "SELECT rpad(viewed, many) FROM t",
    "SELECT range(0, 2000000000)",
    "SELECT range(many) FROM t",
    "SELECT unnest(range(0, many)) FROM t",
    "SELECT range(-9223372036854775807, 9223372036854775807, 2)",
    "SELECT range(2000000000, 0, -1)",
    "SELECT generate_series(0, many) FROM t",
    "SELECT generate_series(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 day')",
    "SELECT generate_series(TIMESTAMP '2020-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 second')",
    "SELECT generate_series(TIMESTAMP '2020-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 month -29 days')",
    "SELECT array_repeat('x', 2000000000)",
    "SELECT list_repeat(word, many) FROM t",
    "SELECT array_repeat([1, 2, 3], many) FROM t",
    "SELECT array_resize([1], 2000000000)",
    "SELECT array_resize([word], many, word) FROM t",
    "SELECT replace(repeat('x', 60000), 'x', repeat('y', 60000))",
    "SELECT replace(repeat(word, 1000), 'a', repeat('y', 1000)) FROM t",
    "SELECT regexp_replace(repeat('x', 60000), 'x', repeat('y', 60000), 'g')",
    "SELECT regexp_replace(repeat('x', 60000), '(x+)', repeat('\\1', 30000))",
    "SELECT array_to_string(range(0, 8000), repeat('x', 60000))",
    "SELECT array_replace_all(array_repeat('x', 8000), 'x', repeat('y', 60000))",
    "SELECT concat_ws(repeat('x', 60000), word, word, word) FROM t",
    "SELECT concat(repeat('x', 60000), word) FROM t",
    "SELECT concat(repeat('x', 60000), repeat('x', 60000))",
    "SELECT repeat('x', 60000) || word FROM t",
    "SELECT a || a FROM (SELECT a || a AS a FROM (SELECT repeat('x', 60000) AS a))",
    "WITH RECURSIVE r AS (SELECT 'x' AS a UNION ALL SELECT a || a FROM r) SELECT max(a) FROM r",
    "WITH RECURSIVE r AS (SELECT [1] AS a UNION ALL SELECT a || a FROM r) SELECT count(a) FROM r",
    "SELECT to_char(TIMESTAMP '2026-01-01', repeat('%c', 30000)) FROM t",
    "SELECT arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
    "SELECT arrow_cast(NULL, 'FixedSizeList(60000, FixedSizeBinary(60000))') FROM t",
];

#[tokio::test]
async fn what_would_build_too_much_is_refused_before_it_is_built() {
    let session = tables().await;
    let before = peak_bytes();
    // The arguments of a table are computed while the query is planned.
    ask(&session, "SELECT value FROM range(0, length(repeat('x', 2000000000)))").await.unwrap_err();
    for sql in HUGE {
        let error = ask(&session, sql).await.expect_err(sql);
        let told = Explained::new(&error, sql, &Names::default(), false);
        assert!(told.is_usage && told.message.contains("are the most"), "{sql}: {told:?}");
        // Far below what is refused, whatever other tests hold meanwhile.
        let grown = peak_bytes().saturating_sub(before);
        assert!(grown < 512 << 20, "{sql}: {grown} bytes");
    }
}

#[tokio::test]
async fn a_long_constant_is_refused() {
    let session = tables().await;
    let sql = format!("SELECT '{}' FROM t", "x".repeat(70_000));
    assert!(ask(&session, &sql).await.unwrap_err().to_string().contains("a constant has 70000 bytes"));
}

#[tokio::test]
async fn what_is_small_is_answered_as_ever() {
    let (free, held) = (SessionContext::new(), SessionContext::new());
    bound(&held);
    let rows = "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'äbc', 'b'), (3, NULL, 'c'), (-2, '', NULL), (NULL, 'aXbXc', 'X')) v(n, a, b)";
    for session in [&free, &held] {
        session.sql(rows).await.unwrap().collect().await.unwrap();
    }
    for sql in [
        "SELECT repeat(a, n), repeat('ab', 3), repeat(NULL, 3), repeat(arrow_cast(a, 'Utf8View'), 2) FROM t",
        "SELECT lpad(a, 5), rpad(a, 5, b), lpad(a, abs(n), 'é'), rpad('x', 4, 'ab') FROM t",
        "SELECT range(n), range(0, 10, 3), range(10, 0, -3), generate_series(n, 4), range(4, n) FROM t",
        "SELECT generate_series(DATE '2026-01-01', DATE '2026-05-01', INTERVAL '1 month')",
        "SELECT range(TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-02', INTERVAL '6 hours')",
        "SELECT array_repeat(a, n), array_repeat([1, 2], 2), array_resize([n, n], 3), array_resize([1], 3, n) FROM t",
        "SELECT replace(a, 'b', 'zz'), regexp_replace(a, '(.)', '\\1\\1', 'g'), overlay(a placing 'k' from 2) FROM t",
        "SELECT array_to_string([a, b], ',', '-'), array_replace_all([n, 1], 1, 7), concat_ws('-', a, b) FROM t",
        "SELECT concat(a, b, 'x'), a || b, a || '1' || n, [n] || [2], array_append([n], 3), map([1], [n]) FROM t",
        "SELECT a || b AS both, count(*) FROM t GROUP BY a || b ORDER BY both",
        "SELECT k || '!' AS x, count(*) FROM (SELECT 'a' AS k UNION ALL SELECT 'b') GROUP BY k || '!' ORDER BY x",
        "SELECT a || '!', concat(a, '!') FROM t WHERE concat(a, '!') LIKE 'a%' OR a || '!' = '!'",
        "SELECT to_char(TIMESTAMP '2026-01-01', '%Y'), array_union([1], [2]), array_concat([1], [2]), [1, 2][1]",
        "SELECT (SELECT max(a || b) FROM t), t.n FROM t WHERE n IN (SELECT length(repeat('x', 3)))",
        "SELECT unnest(range(0, 3)), value FROM generate_series(1, 2)",
        "SELECT struct(a, n), named_struct('k', b) FROM t",
    ] {
        let (expected, found) = (ask(&free, sql).await, ask(&held, sql).await);
        assert_eq!(found.unwrap_or_else(|e| panic!("{sql}: {e}")), expected.unwrap(), "{sql}");
    }
}

#[tokio::test]
async fn a_long_text_of_a_table_may_be_worked_on_but_does_not_grow() {
    let session = SessionContext::new();
    session.sql("CREATE TABLE t AS SELECT repeat('xy', 50000) AS a").await.unwrap().collect().await.unwrap();
    bound(&session);
    let sql = "SELECT length(replace(a, 'y', '')), length(a || ''), length(concat('', a)), length(regexp_replace(a, '^x', 'z')) FROM t";
    assert!(ask(&session, sql).await.unwrap().contains("| 50000 "));
    for sql in ["SELECT a || a FROM t", "SELECT replace(a, 'x', 'zz') FROM t", "SELECT concat(a, 'x') FROM t"] {
        assert!(ask(&session, sql).await.unwrap_err().to_string().contains("are the most"), "{sql}");
    }
    let hours = "SELECT count(*) FROM (SELECT unnest(generate_series(TIMESTAMP '2020-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 hour')))";
    assert!(ask(&session, hours).await.unwrap().contains("52609"));
}

#[tokio::test]
async fn a_negative_length_pads_nothing() {
    let session = tables().await;
    let sql = "SELECT sum(length(lpad(word, n - 30000, 'x'))), max(rpad(word, -1)), min(lpad('a', -7)) FROM t";
    assert_eq!(ask(&session, sql).await.unwrap().lines().nth(3).unwrap().replace(' ', ""), "|0|||");
}

#[tokio::test]
async fn parts_give_what_the_whole_gives() {
    let (free, held) = (SessionContext::new(), tables().await);
    free.sql("CREATE TABLE t AS SELECT value AS n, 'abc' AS word FROM range(0, 20000)")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    // The estimate is 300 MB a batch, what is built a few: rows go in parts.
    let sql = "SELECT sum(length(r)), min(r), max(r) FROM (
                   SELECT regexp_replace(concat(repeat('x', 300), n), '^x', repeat('y', 100)) AS r FROM t)";
    assert_eq!(ask(&held, sql).await.unwrap(), ask(&free, sql).await.unwrap());
}

/// The most that this process ever had in memory.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024
}
