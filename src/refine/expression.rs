//! An expression of SQL, evaluated by DataFusion, or a row at a time where there are few.
//!
//! DataFusion computes a column at a time: each step makes an array, which costs as much for one row as for a hundred. Requests
//! come one by one, and most of their time would go there. What is compiled here gives the same values. Of what it is not
//! sure it says so, and DataFusion is asked: expressions that are not known here, and rows for which one may fail.

mod compile;
mod node;
mod settled;
mod value;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use self::node::Node;
use self::settled::settle;
use super::References;

/// So many rows are few: up to here a row at a time is the faster way.
const FEW: usize = 16;

/// An expression, ready for batches of one schema.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    by_column: Arc<dyn PhysicalExpr>,
    by_row: Option<ByRow>,
}

#[derive(Debug, Clone)]
struct ByRow {
    node: Node,
    kind: DataType,
}

impl Expression {
    /// # Errors
    /// When the expression does not fit the schema.
    pub(super) fn new(
        expression: Arc<dyn PhysicalExpr>,
        schema: &Schema,
        references: &Arc<References>,
    ) -> Result<Self> {
        // A column is there already.
        let is_computed = !expression.is::<Column>();
        let known = is_computed.then(|| compile::compile(expression.as_ref(), schema, references)).flatten();
        let by_row = known.map(|(node, kind)| ByRow { node, kind });
        Ok(Self { by_column: settle(expression, schema)?, by_row })
    }

    /// The value for each row.
    ///
    /// # Errors
    /// When there is none for a row.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let few = self.by_row.as_ref().filter(|_| batch.num_rows() <= FEW);
        few.and_then(|by_row| by_row.evaluate(batch)).map_or_else(|| self.evaluate_by_column(batch), Ok)
    }

    /// Whether few rows need no DataFusion.
    #[cfg(test)]
    pub(super) fn is_quick(&self) -> bool {
        self.by_row.is_some() || self.by_column.is::<Column>()
    }

    fn evaluate_by_column(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        self.by_column.evaluate(batch)?.into_array(batch.num_rows())
    }
}

impl ByRow {
    /// `None` where DataFusion must be asked.
    fn evaluate(&self, batch: &RecordBatch) -> Option<ArrayRef> {
        let (columns, rows) = (batch.columns(), batch.num_rows());
        value::array(&self.kind, (0..rows).map(|row| self.node.value(columns, row)), rows)
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.by_column.fmt(f)
    }
}

#[cfg(test)]
mod tests;
