//! Questions in SQL: statements as text, `AS OF EPOCH`, plans that only read, errors with their place, and the sessions of
//! complete epochs that they are put to.

mod explain;
mod flat;
mod names;
mod running;
mod sessions;
mod text;

use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionContext};

pub use explain::Explained;
pub use flat::{flat_schema, flatten};
pub use names::{Column, Names};
pub use running::{Task, begin};
pub use sessions::Sessions;
pub use text::{Place, SqlTextError, caret, is_complete, split_epoch, statements, words};

/// What a query may do.
#[must_use]
pub fn only_read() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// Plans a query that only reads.
///
/// # Errors
/// When it cannot be planned, or would change something.
pub async fn plan(session: &SessionContext, sql: &str) -> Result<DataFrame, DataFusionError> {
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
