//! Questions in SQL: statements as text, `AS OF EPOCH`, plans that only read, errors with their place, and the sessions of
//! complete epochs that they are put to.

mod bounded;
mod explain;
mod flat;
mod names;
mod running;
mod sessions;
mod text;

use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionContext};

pub use bounded::{CALL_BYTES_MAX, TooLarge, VALUE_BYTES_MAX, bound};
pub use explain::Explained;
pub use flat::{flat_schema, flatten};
pub use names::{Column, Names};
pub use running::{Task, begin};
pub use sessions::Sessions;
pub use text::{Place, SqlTextError, caret, is_complete, split_epoch, statements, words};

/// Operators and brackets of a query. A chain of some thousands makes a tree that is walked by recursion until the stack ends,
/// and the process with it (apache/datafusion#22229).
const OPERATORS_MAX: usize = 600;

/// The stack of a thread that plans queries of others: an unoptimised build walks so deep in it.
pub const STACK_BYTES: usize = 32 << 20;

/// What a query may do.
#[must_use]
pub fn only_read() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// Refuses a query that is too deep to be planned.
///
/// # Errors
/// With the number of its operators.
pub fn check_depth(sql: &str) -> Result<(), DataFusionError> {
    let operators = text::operators(sql);
    if operators > OPERATORS_MAX {
        return Err(DataFusionError::Plan(format!(
            "the query has {operators} operators and brackets, and {OPERATORS_MAX} are the most: ask in parts, or use IN (…)"
        )));
    }
    Ok(())
}

/// Plans a query that only reads.
///
/// # Errors
/// When it cannot be planned, would change something, or is too deep.
pub async fn plan(session: &SessionContext, sql: &str) -> Result<DataFrame, DataFusionError> {
    check_depth(sql)?;
    // Positions cost a little, and errors want them.
    {
        let state = session.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.sql_parser.collect_spans = true;
        // For SHOW TABLES and SHOW COLUMNS.
        options.catalog.information_schema = true;
    }
    session.sql_with_options(sql, only_read()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_would_end_the_stack_is_refused_and_the_deepest_is_planned() {
        let ask = |terms: usize| {
            let sql = format!("SELECT {}", vec!["1"; terms].join(" + "));
            let plan = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async { plan(&SessionContext::new(), &sql).await.map(drop) })
            };
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(plan).unwrap().join().unwrap()
        };
        ask(OPERATORS_MAX + 1).unwrap();
        let refused = ask(OPERATORS_MAX + 2).unwrap_err().to_string();
        assert!(refused.contains("601 operators"), "{refused}");
        // A long list is no deep tree.
        assert_eq!(text::operators(&format!("SELECT 1 IN ({})", vec!["1"; 5000].join(", "))), 1);
        assert!(statements(&"1;".repeat(50_000)).unwrap_err().to_string().contains("100 statements"));
    }
}
