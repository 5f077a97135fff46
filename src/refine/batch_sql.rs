use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::functions::core::expr_fn::arrow_cast;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::SessionContext;

use super::{Mode, TableDef, WindowSpec, planning};
use crate::domain::schema::{WINDOW_END, WINDOW_START};

/// Runs the SQL of any table over the whole of its source, in plain DataFusion: an answer that owes nothing to the
/// incremental engine.
///
/// `session` must know our [`functions`](super::functions); `source` holds the rows of `def.source`. Its own tables
/// stay as they are. For a `rows` table, `source` must bring its trailing columns along, and expectations and
/// deduplication are not applied.
///
/// # Errors
/// When the SQL does not fit the source.
pub async fn run_batch(session: &SessionContext, def: &TableDef, source: DataFrame) -> Result<DataFrame> {
    let source = match (def.mode, def.window, &def.event_time) {
        (Mode::Rows, _, _) => source,
        (Mode::Window, Some(window), Some(event_time)) => window_view(source, event_time, window)?,
        (Mode::Window, _, _) => {
            return Err(DataFusionError::Plan(format!("{} has no window or no event_time", def.table)));
        }
    };
    run_over(session, def, source).await
}

/// As [`run_batch`], over rows that have their windows already, as [`window_view`] gives them or some of them.
///
/// # Errors
/// When the SQL does not fit the source.
pub async fn run_over(session: &SessionContext, def: &TableDef, source: DataFrame) -> Result<DataFrame> {
    // A catalog of its own, so that the source may stand under its name beside the real one.
    let state = SessionStateBuilder::new_from_existing(session.state())
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .build();
    let own = SessionContext::new_with_state(state);
    let catalog = Arc::new(datafusion::catalog::MemoryCatalogProvider::new());
    own.register_catalog(own.state().config_options().catalog.default_catalog.clone(), catalog);
    planning::register(&own, &def.source, source.into_view())?;
    own.sql(&def.sql).await
}

/// Each row once for each window that it falls into, with the columns `window_start` and `window_end`. Rows without an
/// event time fall into none.
///
/// # Errors
/// When `event_time` is not a column of `source`.
pub fn window_view(source: DataFrame, event_time: &str, window: WindowSpec) -> Result<DataFrame> {
    let WindowSpec { size_us, slide_us } = window;
    let source = source.filter(ident(event_time).is_not_null())?;
    // Whole numbers, because date_bin counts in nanoseconds, which end in 2262.
    let at_us = cast(arrow_cast(ident(event_time), lit("Timestamp(Microsecond, None)")), DataType::Int64);
    // The newest window begins at or before the event; `%` follows the sign, hence the second one.
    let into_us = (at_us.clone() % lit(slide_us) + lit(slide_us)) % lit(slide_us);
    let newest = source.with_column(WINDOW_START, at_us - into_us)?;
    let starts = if size_us == slide_us {
        newest
    } else {
        let shifts = (0..size_us / slide_us).map(|step| ScalarValue::Int64(Some(step * slide_us))).collect::<Vec<_>>();
        let shifts = Expr::Literal(ScalarValue::List(ScalarValue::new_list_nullable(&shifts, &DataType::Int64)), None);
        newest
            .with_column(SHIFT, shifts)?
            .unnest_columns(&[SHIFT])?
            .with_column(WINDOW_START, ident(WINDOW_START) - ident(SHIFT))?
            .drop_columns(&[SHIFT])?
    };
    let instant = |us: Expr| arrow_cast(us, lit("Timestamp(Microsecond, Some(\"UTC\"))"));
    starts
        .with_column(WINDOW_END, instant(ident(WINDOW_START) + lit(size_us)))?
        .with_column(WINDOW_START, instant(ident(WINDOW_START)))
}

const SHIFT: &str = "__window_shift";

#[cfg(test)]
mod tests;
