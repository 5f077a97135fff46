//! Values of a prepared question.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;

use super::rows::sent;
use crate::serve::sql::failure::{Failure, state};
use crate::serve::sql::placeholders::{fit, placeholders_of};

/// The places of a question that values are put into, with the types that are wanted there.
#[derive(Debug, Clone)]
pub(super) struct Places(Vec<Option<DataType>>);

impl Places {
    pub fn of(plan: &LogicalPlan) -> Result<Self, Failure> {
        placeholders_of(plan, 0).map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a client is told of them; text stands where anything would do.
    pub fn schema(&self) -> Schema {
        let field = |(at, kind): (usize, &Option<DataType>)| {
            let kind = kind.as_ref().map_or(DataType::Utf8, sent);
            Field::new(format!("${}", at + 1), kind, true)
        };
        Schema::new(self.0.iter().enumerate().map(field).collect::<Vec<_>>())
    }

    /// Nulls of the types that the values will have: with them a plan has the columns that it will have.
    pub fn nulls(&self) -> Result<ParamValues, Failure> {
        let null = |kind: &Option<DataType>| ScalarValue::try_from(kind.as_ref().unwrap_or(&DataType::Utf8));
        let nulls = self.0.iter().map(null).collect::<Result<Vec<_>, _>>();
        Ok(nulls.map_err(|error| wrong(&error))?.into())
    }

    /// The one row of values that was given.
    pub fn values(&self, row: &RecordBatch) -> Result<ParamValues, Failure> {
        if row.num_columns() != self.0.len() {
            let told =
                format!("{} parameters are given, but the statement requires {}", row.num_columns(), self.0.len());
            return Err(Failure::new(state::PROTOCOL, told));
        }
        let value = |(column, wanted): (&Arc<dyn arrow::array::Array>, &Option<DataType>)| {
            Ok(fit(ScalarValue::try_from_array(column, 0)?, wanted.as_ref()))
        };
        let values = row.columns().iter().zip(&self.0).map(value).collect::<Result<Vec<_>, DataFusionError>>();
        Ok(values.map_err(|error| wrong(&error))?.into())
    }

    /// The question with its values.
    pub fn fill(plan: &LogicalPlan, values: &ParamValues) -> Result<LogicalPlan, Failure> {
        plan.clone().replace_params_with_values(values).map_err(|error| wrong(&error))
    }
}

fn wrong(error: &DataFusionError) -> Failure {
    Failure::new(state::WRONG, error.strip_backtrace())
}
