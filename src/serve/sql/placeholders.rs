//! The places of a question that its values are put into.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;

use super::failure::{Failure, state};

/// The types that a plan's `$1`, `$2`, … want, where that can be told; at least so many.
pub(in crate::serve) fn placeholders_of(plan: &LogicalPlan, least: usize) -> Result<Vec<Option<DataType>>, Failure> {
    let inferred = match plan.get_parameter_types() {
        Ok(types) => types,
        // Two places want two types: the client's word is taken.
        Err(_) => plan.get_parameter_names().unwrap_or_default().into_iter().map(|name| (name, None)).collect(),
    };
    let number = |name: &str| name.trim_start_matches('$').parse::<usize>().ok().filter(|number| *number > 0);
    let mut found: Vec<Option<DataType>> = vec![None; least];
    for (name, kind) in inferred {
        let number = number(&name).filter(|number| *number <= PLACEHOLDERS_MAX).ok_or_else(|| {
            let told = Failure::new(state::SYNTAX, format!("there is no parameter {name}"));
            told.with_hint("parameters are $1, $2, …, $65535")
        })?;
        if found.len() < number {
            found.resize(number, None);
        }
        if let Some(slot) = found.get_mut(number - 1) {
            *slot = kind;
        }
    }
    Ok(found)
}

/// As many as PostgreSQL's protocol can count.
const PLACEHOLDERS_MAX: usize = 65_535;

/// A whole number where the plan wants one of another width, as in LIMIT; all else the planner coerces like literals.
pub(in crate::serve) fn fit(value: ScalarValue, wanted: Option<&DataType>) -> ScalarValue {
    match wanted {
        Some(wanted) if wanted.is_integer() && value.data_type().is_integer() && *wanted != value.data_type() => {
            value.cast_to(wanted).unwrap_or(value)
        }
        _ => value,
    }
}
