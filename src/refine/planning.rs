use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::MemorySchemaProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, TableReference};
use datafusion::datasource::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{References, SqlFileError, TableDef, functions};
use crate::domain::TableName;

/// A session that plans SQL for the incremental engine: our functions, texts as Utf8, and lines in errors.
pub(super) fn session(references: &Arc<References>) -> SessionContext {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    let session = SessionContext::new_with_config(config);
    functions::register(&session, references);
    session
}

/// The plan of a table's query over a source with these columns, as written: not optimised.
pub(super) fn plan(session: &SessionContext, def: &TableDef, source: &SchemaRef) -> Result<LogicalPlan, SqlFileError> {
    let in_sql = |error| SqlFileError::in_sql(&def.file, def.sql_line, &error);
    register(session, &def.source, Arc::new(EmptyTable::new(Arc::clone(source)))).map_err(in_sql)?;
    let state = session.state();
    ready(state.create_logical_plan(&def.sql)).map_err(in_sql)
}

/// Functions that DataFusion has cancel each other, as if no power were infinite. They are computed as they stand.
const CANCELLING: [&str; 2] = ["log", "power"];

/// An expression over these columns, with its types made equal and functions written out that cannot be computed as they
/// stand, `coalesce` among them. It is not simplified further: what fails for a row, or loses digits in a cast, still does.
pub(super) fn computable(state: &SessionState, expression: Expr, columns: DFSchemaRef) -> Result<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(&columns))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    let coerced = ExprSimplifier::new(context.clone()).coerce(expression, &columns)?;
    let written_out = coerced.transform_up(|part| match part {
        Expr::ScalarFunction(ScalarFunction { func, args }) if !CANCELLING.contains(&func.name()) => {
            Ok(match func.simplify(args, &context)? {
                ExprSimplifyResult::Simplified(expression) => Transformed::yes(expression),
                ExprSimplifyResult::Original(args) => {
                    Transformed::no(Expr::ScalarFunction(ScalarFunction::new_udf(func, args)))
                }
            })
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(written_out.data)
}

/// Makes a table known as `layer.name`, in the place of an earlier one.
pub(super) fn register(session: &SessionContext, name: &TableName, table: Arc<dyn TableProvider>) -> Result<()> {
    let state = session.state();
    let default = &state.config_options().catalog.default_catalog;
    let catalog = session.catalog(default).ok_or_else(|| internal("the session has no default catalog"))?;
    if catalog.schema(name.layer.as_str()).is_none() {
        catalog.register_schema(name.layer.as_str(), Arc::new(MemorySchemaProvider::new()))?;
    }
    let reference = TableReference::partial(name.layer.as_str(), name.name.as_str());
    session.deregister_table(reference.clone())?;
    session.register_table(reference, table)?;
    Ok(())
}

/// Planning over tables in memory never waits, so that it can be done where there is no runtime.
fn ready<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(internal("the planner waited for something")),
    }
}

fn internal(problem: &str) -> DataFusionError {
    DataFusionError::Internal(problem.to_owned())
}
