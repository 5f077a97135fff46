//! What cannot be kept incrementally is refused with file, line, construct and a way out.

use datafusion::prelude::SessionContext;

use super::super::{WindowError, WindowTable};
use super::sources::{def, source_schema};

fn error(select: &str) -> WindowError {
    WindowTable::compile(&def("bad", select, 10, 5), &source_schema(), &SessionContext::new()).unwrap_err()
}

/// The SQL begins on line 8 of its file.
#[test]
fn constructs_are_refused_at_their_line() {
    let grouped = |list: &str| {
        format!(
            "SELECT window_start, window_end,\n  {list}\nFROM silver.transactions\nGROUP BY window_start, window_end"
        )
    };
    let tail = |tail: &str| format!("{}\n{tail}", grouped("count(*) AS n"));
    let cases = [
        (grouped("median(user_id)"), 9, "median()", "use count"),
        (grouped("array_agg(user_id)"), 9, "array_agg()", "use count"),
        (grouped("sum(score)"), 9, "sum() over Float64", "decimal(18,2)"),
        (grouped("avg(score)"), 9, "avg() over Float64", "decimal(18,2)"),
        (grouped("sum(user_id::double)"), 9, "sum() over Float64", "decimal(18,2)"),
        (grouped("avg(amount::decimal(30,2))"), 9, "avg() over Decimal128(30, 2)", "25 digits"),
        (grouped("count(DISTINCT score)"), 9, "count(DISTINCT …) over Float64", "cast the argument"),
        (grouped("sum(DISTINCT user_id)"), 9, "sum(DISTINCT …)", "only count()"),
        (grouped("min(flag)"), 9, "min() over Boolean", "cast the argument"),
        (grouped("count(user_id, merchant)"), 9, "count() over 2 arguments", "one argument"),
        (grouped("count(*) FILTER (WHERE random() > 0.5)"), 9, "random()", "columns of the source"),
        (grouped("count(*) FILTER (WHERE event_at < now())"), 9, "now()", "columns of the source"),
        (grouped("count(*) FILTER (WHERE event_at < window_end)"), 9, "within an expression over rows", "GROUP BY"),
        (grouped("sum(count(*)) OVER () AS n"), 9, "OVER", "where the table is read"),
        (tail("HAVING count(*) > 1"), 12, "HAVING", "where the table is read"),
        (tail("ORDER BY window_start"), 12, "ORDER BY", "where the table is read"),
        (tail("LIMIT 3"), 12, "LIMIT", "where the table is read"),
        (tail("UNION ALL SELECT window_start, window_end, 1 FROM silver.transactions"), 12, "UNION", "one table for each part"),
        ("SELECT DISTINCT window_start FROM silver.transactions".into(), 8, "SELECT DISTINCT", "GROUP BY"),
        ("SELECT merchant, count(*) FROM silver.transactions\nGROUP BY merchant".into(), 9, "over all windows", "add window_start"),
        ("SELECT window_start,\n score, count(*) FROM silver.transactions GROUP BY window_start, score".into(), 9, "GROUP BY a value of type Float64", "cast"),
        ("SELECT window_start, merchant, count(*) FROM silver.transactions\nGROUP BY window_start, ROLLUP(merchant)".into(), 9, "ROLLUP", "one table for each"),
        ("SELECT a.window_start, count(*) FROM silver.transactions a\nJOIN silver.transactions b USING (user_id) GROUP BY 1".into(), 9, "a join", "SQL of the source"),
        ("SELECT window_start, max(n) FROM\n(SELECT window_start, merchant, count(*) AS n FROM silver.transactions GROUP BY 1, 2) GROUP BY 1".into(), 9, "an aggregate over an aggregate", "one aggregate"),
        ("SELECT window_start, user_id\nFROM silver.transactions".into(), 8, "a query without aggregate", "mode = \"rows\""),
        ("SELECT window_start, count(*) FROM silver.transactions\nWHERE amount > (SELECT avg(amount) FROM silver.transactions) GROUP BY 1".into(), 9, "a subquery", "columns of the source"),
    ];
    for (sql, line, construct, instead) in cases {
        let error = error(&sql);
        let text = error.to_string();
        assert!(matches!(error, WindowError::Refused { .. }), "{sql}\n{text}");
        for part in [construct, instead] {
            assert!(text.contains(part), "`{part}` is not in: {text}\n{sql}");
        }
        if !construct.contains("subquery") {
            assert!(text.starts_with(&format!("sql/gold/bad.sql:{line}: ")), "{line}: {text}\n{sql}");
        }
    }
}

#[test]
fn unknown_columns_and_bad_sql_are_invalid_at_their_line() {
    let cases = [
        (
            "SELECT window_start, count(*),\n  max(amout)\nFROM silver.transactions GROUP BY window_start",
            9,
            "did you mean `amount`?",
        ),
        ("SELECT window_start, count(*)\nFROM silver.transactions\nGROUP window_start", 10, "expected"),
        ("SELECT window_start, count(*) FROM silver.trades GROUP BY window_start", 0, "trades"),
        ("SELECT window_start, nonsense(amount) FROM silver.transactions GROUP BY window_start", 0, "nonsense"),
    ];
    for (sql, line, part) in cases {
        let error = error(sql);
        let text = error.to_string();
        assert!(matches!(error, WindowError::Invalid { .. }) && text.contains(part), "{text}");
        let place = if line > 0 { format!("sql/gold/bad.sql:{line}:") } else { "sql/gold/bad.sql:".to_owned() };
        assert!(text.starts_with(&place), "{text}");
    }
}

#[test]
fn headers_that_do_not_fit_are_invalid() {
    let good = "SELECT window_start, count(*) AS n FROM silver.transactions GROUP BY window_start";
    let compile = |change: &dyn Fn(&mut crate::refine::TableDef)| {
        let mut def = def("bad", good, 10, 5);
        change(&mut def);
        WindowTable::compile(&def, &source_schema(), &SessionContext::new()).map_err(|error| error.to_string())
    };
    assert!(compile(&|_| ()).is_ok());
    assert!(compile(&|def| def.window = None).unwrap_err().contains("it needs `window`"));
    assert!(compile(&|def| def.window.as_mut().unwrap().slide_us += 1).unwrap_err().contains("divide the size"));
    assert!(compile(&|def| def.event_time = Some("merchant".into())).unwrap_err().contains("`event_time` must be"));
    assert!(compile(&|def| def.key = vec!["merchant".into()]).unwrap_err().contains("`key` names `merchant`"));
}
