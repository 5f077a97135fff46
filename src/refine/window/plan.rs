//! What a window table's SQL comes down to.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use crate::domain::TableName;
use crate::refine::WindowSpec;

/// One window table, compiled: expressions over rows of the source, aggregates, expressions over their results.
#[derive(Debug)]
pub struct WindowTable {
    pub(super) table: TableName,
    pub(super) source: TableName,
    pub(super) event_time: String,
    pub(super) window: WindowSpec,
    pub(super) source_schema: SchemaRef,
    pub(super) props: ExecutionProps,
    /// The WHERE clause.
    pub(super) predicate: Option<Expr>,
    /// The columns of GROUP BY, in that order.
    pub(super) group_columns: Vec<GroupColumn>,
    /// The group expressions other than the window.
    pub(super) keys: Vec<Expr>,
    pub(super) slots: Vec<Slot>,
    pub(super) distincts: Vec<Distinct>,
    /// The columns after those of GROUP BY.
    pub(super) results: Vec<AggregateResult>,
    /// The columns of GROUP BY and then the results, as DataFusion types them.
    pub(super) aggregate_schema: SchemaRef,
    /// The SELECT lists above the aggregate, from the inside out.
    pub(super) projections: Vec<Projection>,
    pub(super) output: SchemaRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupColumn {
    WindowStart,
    WindowEnd,
    Key(usize),
}

/// What a slot keeps for each group.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Keeps {
    /// Rows, or those where the argument is not NULL.
    Count,
    Sum,
    Min,
    Max,
    Or,
    And,
}

/// An accumulator over the rows that pass the FILTER.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    pub keeps: Keeps,
    /// `None` for `count(*)` only.
    pub argument: Option<Expr>,
    /// The type of the argument.
    pub kind: DataType,
    pub filter: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Distinct {
    pub value: Expr,
    pub filter: Option<Expr>,
}

/// How a column of the aggregate follows from slots. `seen` counts the values that went in; at 0 the result is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AggregateResult {
    Count {
        slot: usize,
    },
    CountDistinct {
        distinct: usize,
    },
    Sum {
        slot: usize,
        seen: usize,
    },
    /// The sum in units of `10^-scale`, divided with `extra` more digits.
    DecimalAverage {
        slot: usize,
        seen: usize,
        extra: u32,
    },
    IntegerAverage {
        slot: usize,
        seen: usize,
    },
    Extreme {
        slot: usize,
        seen: usize,
    },
    Flag {
        slot: usize,
        seen: usize,
    },
}

#[derive(Debug)]
pub(super) struct Projection {
    pub schema: SchemaRef,
    pub columns: Vec<Arc<dyn PhysicalExpr>>,
}

impl WindowTable {
    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// The source whose rows go to [`update`](super::WindowEngine::update).
    #[must_use]
    pub fn source(&self) -> &TableName {
        &self.source
    }

    /// The columns of the table: strings are Utf8, timestamps are microseconds in UTC.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.output
    }

    /// The number of slides in a window; a row falls in that many windows.
    pub(super) fn panes(&self) -> usize {
        (self.window.size_us / self.window.slide_us) as usize
    }

    /// The columns of the source that the expressions read, without the event time.
    pub(super) fn columns(&self) -> impl Iterator<Item = String> + '_ {
        let arguments = self.slots.iter().flat_map(|slot| slot.argument.iter().chain(&slot.filter));
        let distincts =
            self.distincts.iter().flat_map(|distinct| [&distinct.value].into_iter().chain(&distinct.filter));
        let expressions = self.keys.iter().chain(&self.predicate).chain(arguments).chain(distincts);
        expressions
            .flat_map(|expr| expr.column_refs().into_iter().map(|column| column.name.clone()).collect::<Vec<_>>())
    }

    /// The rows of the table that follow from rows of the aggregate.
    pub(super) fn project(&self, aggregate: RecordBatch) -> datafusion::error::Result<RecordBatch> {
        let mut rows = aggregate;
        for projection in &self.projections {
            let columns = projection.columns.iter().map(|column| column.evaluate(&rows)?.into_array(rows.num_rows()));
            let columns = columns.collect::<datafusion::error::Result<Vec<_>>>()?;
            rows = RecordBatch::try_new(Arc::clone(&projection.schema), columns)?;
        }
        let columns = rows.columns().iter().zip(self.output.fields());
        let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns.collect::<Result<Vec<_>, _>>()?)?)
    }
}
