//! Arguments of functions whose fields are known beforehand.
//!
//! A function asks each of its arguments for its field with every batch, and DataFusion makes the field of a CASE or of a sum
//! anew: its name is the whole expression as a text. For one row that takes as long as the values do.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// The expression, with the arguments of its functions settled for batches of this schema.
///
/// # Errors
/// When an argument does not fit the schema.
pub(super) fn settle(expression: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let settled = expression.transform_up(|node| {
        if !node.is::<ScalarFunctionExpr>() {
            return Ok(Transformed::no(node));
        }
        let arguments: Vec<_> =
            node.children().into_iter().map(|argument| one(argument, schema)).collect::<Result<_>>()?;
        Ok(Transformed::yes(node.with_new_children(arguments)?))
    })?;
    Ok(settled.data)
}

fn one(argument: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    if argument.is::<Column>() || argument.is::<Literal>() {
        return Ok(Arc::clone(argument));
    }
    Ok(Arc::new(Settled { expression: Arc::clone(argument), field: argument.return_field(schema)? }))
}

/// An expression that is what it was, and knows its field.
#[derive(Debug)]
struct Settled {
    expression: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl PartialEq for Settled {
    fn eq(&self, other: &Self) -> bool {
        self.expression.eq(&other.expression)
    }
}

impl Eq for Settled {}

impl Hash for Settled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expression.hash(state);
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)
    }
}

impl PhysicalExpr for Settled {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.field.is_nullable())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.expression.evaluate(batch)
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.expression]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let expression = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.expression));
        Ok(Arc::new(Self { expression, field: Arc::clone(&self.field) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt_sql(f)
    }
}
