//! An expression of SQL, evaluated by DataFusion, or a row at a time where there are few.
//!
//! DataFusion computes a column at a time: each step makes an array, which costs as much for one row as for a hundred. Requests
//! come one by one, and most of their time would go there. What is compiled here gives the same values. Of what it is not
//! sure it says so, and DataFusion is asked: expressions that are not known here, and rows for which one may fail. So it fails for a row just where
//! DataFusion does with that row alone; with many, DataFusion may fail for what none of them needs.

mod cells;
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

pub(super) use self::cells::Input;
use self::node::Node;
use self::settled::settle;
use self::value::{Texts, Value};
use super::References;

/// So many rows are few. One transaction takes 18 µs a row at a time and 37 by DataFusion, and each of 64 takes 2.9 and 2.6
/// (`assay bench serve`, the scorer alone).
const FEW: usize = 32;

/// An expression, ready for batches of one schema.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    by_column: Arc<dyn PhysicalExpr>,
    quick: Option<Quick>,
}

/// What needs no DataFusion.
#[derive(Debug, Clone)]
enum Quick {
    /// A column of the batch, however many its rows.
    Column(usize),
    /// Where the rows are few.
    ByRow(ByRow),
}

#[derive(Debug, Clone)]
enum ByRow {
    Value(Node, DataType),
    /// The texts that are there, with this one between them; here only, because a value does not own its text.
    Joined(String, Vec<Node>),
}

impl Expression {
    /// The expression may use functions whose answer never changes only: of literals they are computed here.
    ///
    /// # Errors
    /// When the expression does not fit the schema.
    pub(super) fn new(
        expression: Arc<dyn PhysicalExpr>,
        schema: &Schema,
        references: &Arc<References>,
    ) -> Result<Self> {
        let quick = match expression.downcast_ref::<Column>() {
            Some(column) => Some(Quick::Column(column.index())),
            None => compile::compile(expression.as_ref(), schema, references).map(Quick::ByRow),
        };
        Ok(Self { by_column: settle(expression, schema)?, quick })
    }

    /// The value for each row.
    ///
    /// # Errors
    /// When there is none for a row.
    pub(super) fn evaluate(&self, input: &Input<'_>) -> Result<ArrayRef> {
        let quick = match &self.quick {
            Some(Quick::Column(index)) => input.batch.columns().get(*index).cloned(),
            Some(Quick::ByRow(by_row)) if input.batch.num_rows() <= FEW => by_row.evaluate(input),
            _ => None,
        };
        quick.map_or_else(|| self.evaluate_by_column(input.batch), Ok)
    }

    /// Whether few rows need no DataFusion.
    #[cfg(test)]
    pub(super) fn is_quick(&self) -> bool {
        self.quick.is_some()
    }

    fn evaluate_by_column(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        self.by_column.evaluate(batch)?.into_array(batch.num_rows())
    }
}

impl ByRow {
    /// `None` where DataFusion must be asked.
    fn evaluate(&self, input: &Input<'_>) -> Option<ArrayRef> {
        let (columns, rows) = (input.cells(), input.batch.num_rows());
        match self {
            Self::Value(node, kind) => {
                let mut values = [Value::Null; FEW];
                let values = values.get_mut(..rows)?;
                for (row, value) in values.iter_mut().enumerate() {
                    *value = node.value(columns, row).ok()?;
                }
                value::array(kind, values)
            }
            Self::Joined(separator, texts) => {
                let mut written = Texts::with_capacity(rows);
                for row in 0..rows {
                    let mut is_first = true;
                    for text in texts {
                        match text.value(columns, row).ok()? {
                            Value::Null => {}
                            Value::Text(text) => {
                                written.push_str(if is_first { "" } else { separator });
                                written.push_str(text);
                                is_first = false;
                            }
                            _ => return None,
                        }
                    }
                    written.end()?;
                }
                Some(Arc::new(written.finish(None)?))
            }
        }
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.by_column.fmt(f)
    }
}

#[cfg(test)]
mod tests;
