//! Functions that clients of PostgreSQL call on their session, and those of its catalog that say nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionImplementation, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use pgwire::api::Type;

use super::parameters::{Parameters, SERVER_VERSION};

/// What is the same for every session.
pub(in crate::serve) fn register(context: &SessionContext) {
    let version = format!("PostgreSQL {SERVER_VERSION} (assay {}), read-only", env!("CARGO_PKG_VERSION"));
    context.register_udf(text("version", vec![], version));
    let (oid, word) = (DataType::Int32, DataType::Utf8);
    for (name, arguments) in [
        ("obj_description", vec![oid.clone(), word.clone()]),
        ("shobj_description", vec![oid.clone(), word.clone()]),
        ("col_description", vec![oid.clone(), DataType::Int64]),
        ("pg_get_viewdef", vec![oid.clone()]),
        ("pg_get_indexdef", vec![oid.clone()]),
    ] {
        let nothing: ScalarFunctionImplementation = Arc::new(|_| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))));
        context.register_udf(create_udf(name, arguments, DataType::Utf8, Volatility::Stable, nothing));
    }
    context.register_udf(to_regtype());
    let no: ScalarFunctionImplementation = Arc::new(|_| Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(false)))));
    context.register_udf(create_udf("pg_is_in_recovery", vec![], DataType::Boolean, Volatility::Stable, no));
}

/// What depends on the connection.
pub(in crate::serve) fn register_session(context: &SessionContext, parameters: &Parameters) {
    for name in ["session_user", "current_user", "user", "current_role"] {
        context.register_udf(text(name, vec![], parameters.user().to_owned()));
    }
    context.register_udf(text("current_schema", vec![], parameters.default_layer().to_owned()));
    let values: BTreeMap<String, String> =
        parameters.all().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    context.register_udf(current_setting(values));
    // Accepted for clients that set what they have anyway; SET is what sets.
    let arguments = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
    let told: ScalarFunctionImplementation = Arc::new(|arguments: &[ColumnarValue]| {
        arguments.get(1).cloned().ok_or_else(|| DataFusionError::Execution("set_config wants a value".to_owned()))
    });
    context.register_udf(create_udf("set_config", arguments, DataType::Utf8, Volatility::Volatile, told));
}

fn text(name: &str, arguments: Vec<DataType>, value: String) -> ScalarUDF {
    let told: ScalarFunctionImplementation =
        Arc::new(move |_| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.clone())))));
    create_udf(name, arguments, DataType::Utf8, Volatility::Stable, told)
}

/// The number of a type by its name; NULL for one that there is not, by which drivers ask for extensions.
fn to_regtype() -> ScalarUDF {
    let told = |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let Some(names) = arrays.first() else { return Ok(ColumnarValue::Scalar(ScalarValue::Int32(None))) };
        let names = cast(names, &DataType::Utf8)?;
        let number =
            |name: &str| (16..5000).filter_map(Type::from_oid).find(|kind| kind.name() == name).map(|kind| kind.oid());
        let found =
            names.as_string::<i32>().iter().map(|name| name.and_then(number).and_then(|oid| i32::try_from(oid).ok()));
        Ok(ColumnarValue::Array(Arc::new(found.collect::<Int32Array>()) as ArrayRef))
    };
    create_udf("to_regtype", vec![DataType::Utf8], DataType::Int32, Volatility::Stable, Arc::new(told))
}

fn current_setting(values: BTreeMap<String, String>) -> ScalarUDF {
    let told = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let Some(names) = arrays.first() else { return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))) };
        let names = cast(names, &DataType::Utf8)?;
        let of = |name: &str| match values.get(&name.to_ascii_lowercase()) {
            Some(value) => Ok(value.as_str()),
            None => Err(DataFusionError::Execution(format!("unrecognized configuration parameter \"{name}\""))),
        };
        let found = names.as_string::<i32>().iter().map(|name| name.map(of).transpose());
        let found: StringArray = found.collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    };
    create_udf("current_setting", vec![DataType::Utf8], DataType::Utf8, Volatility::Stable, Arc::new(told))
}
