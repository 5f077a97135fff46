//! What an epoch changes in the tables.

use std::ops::Range;

use arrow::record_batch::RecordBatch;

use super::error::WindowError;
use super::intern::Interner;
use super::state::TableState;
use crate::domain::TableName;

/// Which windows of a table rows belong to, after an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Open,
    Closed,
}

/// Takes rows of a table's windows before all of them are made.
pub type TakePart<'a> = dyn FnMut(&TableName, Phase, RecordBatch) + 'a;

/// What an epoch does to one table.
#[derive(Debug, Clone)]
pub struct TableChanges {
    pub table: TableName,
    /// All rows of all windows that are open after the epoch; `None` when they are what they were at the last finish.
    pub open: Option<RecordBatch>,
    /// All rows of the windows that the epoch has closed.
    pub closed: RecordBatch,
    /// `Some` when rows fell in windows that were closed before the epoch.
    pub restated: Option<Restated>,
}

/// What late rows change in closed windows: only the groups that they touch.
#[derive(Debug, Clone)]
pub struct Restated {
    /// The rows that stood there at the end of the last epoch; groups that are new have none.
    pub before: RecordBatch,
    /// The rows that replace or join them.
    pub after: RecordBatch,
    /// Rows of the source with a closed window among theirs.
    pub late_rows: u64,
}

/// The changes of a table while the watermark moves.
pub(super) fn changes_of(
    state: &mut TableState,
    watermark: Range<Option<i64>>,
    with_open: bool,
    interners: &[Interner],
    part_rows: usize,
    take: &mut dyn FnMut(Phase, RecordBatch),
) -> Result<TableChanges, WindowError> {
    let (first_before, first_after) = (state.first_open(watermark.start), state.first_open(watermark.end));
    let closed = state.windows(first_before, first_after);
    let touched_open = state.touched.last().is_some_and(|pane| *pane >= first_after);
    let open = if with_open && (touched_open || !closed.is_empty()) {
        let open = state.windows(first_after, i64::MAX);
        Some(state.rows_of(&open, interners, part_rows, &mut |rows| take(Phase::Open, rows))?)
    } else {
        None
    };
    let late_rows = std::mem::take(&mut state.late_rows);
    let restated = if state.restated.is_empty() {
        None
    } else {
        let (before, after) = state.restated_rows(interners)?;
        Some(Restated { before, after, late_rows })
    };
    if with_open {
        state.touched.clear();
    }
    let closed = state.rows_of(&closed, interners, part_rows, &mut |rows| take(Phase::Closed, rows))?;
    Ok(TableChanges { table: state.table.table.clone(), open, closed, restated })
}
