//! The SQL functions of assay, for the incremental engine and for plain DataFusion sessions alike.
//!
//! | function | gives |
//! |---|---|
//! | `event_time(text)` | the instant that an ISO 8601 text names, a timestamp in µs UTC; NULL when it names none |
//! | `money(double)` | `decimal(18,2)`, half to even on the number as written; NULL when not finite or too large |
//! | `before_last(text, separator)` | what stands before the last separator, trimmed; NULL unless both sides hold text |
//! | `after_last(text, separator)` | what stands after the last separator, trimmed; NULL unless both sides hold text |
//! | `is_listed('list', text)` | whether the reference list `sql/reference/<list>.csv` holds the text |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{ScalarValue, exec_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};
use datafusion::prelude::SessionContext;

use super::References;
use super::event_time::parse_event_time;
use super::money::{PRECISION, SCALE, hundredths};
use crate::domain::schema;

pub(super) const EVENT_TIME: &str = "event_time";
pub(super) const MONEY: &str = "money";
pub(super) const BEFORE_LAST: &str = "before_last";
pub(super) const AFTER_LAST: &str = "after_last";
pub(super) const IS_LISTED: &str = "is_listed";

/// Makes the functions known to a session.
pub fn register(session: &SessionContext, references: &Arc<References>) {
    for function in all(references) {
        session.register_udf(function);
    }
}

/// All functions.
#[must_use]
pub fn all(references: &Arc<References>) -> Vec<ScalarUDF> {
    let text = || DataType::Utf8;
    let decimal = DataType::Decimal128(PRECISION, SCALE);
    let function = |name: &str, arguments, result, run: fn(&[ColumnarValue]) -> Result<ColumnarValue>| {
        create_udf(name, arguments, result, Volatility::Immutable, Arc::new(run))
    };
    vec![
        function(EVENT_TIME, vec![text()], schema::timestamp(), event_time),
        function(MONEY, vec![DataType::Float64], decimal, money),
        function(BEFORE_LAST, vec![text(), text()], text(), |args| cut(args, Side::Before)),
        function(AFTER_LAST, vec![text(), text()], text(), |args| cut(args, Side::After)),
        ScalarUDF::new_from_impl(IsListed::new(Arc::clone(references))),
    ]
}

fn event_time(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    mapped(arguments, |texts| {
        let texts: &StringArray = strings(texts)?;
        let instants: TimestampMicrosecondArray = texts.iter().map(|text| text.and_then(parse_event_time)).collect();
        Ok(Arc::new(instants.with_timezone("UTC")))
    })
}

fn money(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    mapped(arguments, |values| {
        let values = values.as_primitive_opt::<Float64Type>().ok_or_else(|| exec_datafusion_err!("not a double"))?;
        let cents: Decimal128Array = values.iter().map(|value| value.and_then(hundredths)).collect();
        Ok(Arc::new(cents.with_precision_and_scale(PRECISION, SCALE)?))
    })
}

/// A side of a separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

impl Side {
    /// What stands on this side of the last separator, trimmed; `None` unless both sides hold text.
    pub(super) fn of<'a>(self, text: &'a str, separator: &str) -> Option<&'a str> {
        let mut chars = separator.chars();
        let (before, after) = match (chars.next(), chars.next()) {
            // One character is found far faster than a text.
            (Some(single), None) => text.rsplit_once(single),
            _ => text.rsplit_once(separator),
        }?;
        let (before, after) = (before.trim(), after.trim());
        let side = if self == Self::Before { before } else { after };
        (!before.is_empty() && !after.is_empty()).then_some(side)
    }
}

/// One side of the last separator of each text.
fn cut(arguments: &[ColumnarValue], side: Side) -> Result<ColumnarValue> {
    let Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(separator)))) = arguments.get(1) else {
        return plan_err!("the separator must be a literal text");
    };
    mapped(arguments, |texts| {
        let texts = strings(texts)?;
        let mut sides = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
        for text in texts {
            sides.append_option(text.and_then(|text| side.of(text, separator)));
        }
        Ok(Arc::new(sides.finish()))
    })
}

/// Applies a vectorised function to the first argument, be it a column or a constant.
fn mapped(arguments: &[ColumnarValue], run: impl FnOnce(&dyn Array) -> Result<ArrayRef>) -> Result<ColumnarValue> {
    match arguments.first() {
        Some(ColumnarValue::Array(column)) => run(column).map(ColumnarValue::Array),
        Some(ColumnarValue::Scalar(constant)) => {
            let one = run(&constant.to_array()?)?;
            ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
        }
        None => plan_err!("an argument is missing"),
    }
}

fn strings(array: &dyn Array) -> Result<&StringArray> {
    array.as_string_opt::<i32>().ok_or_else(|| exec_datafusion_err!("{} is not a text", array.data_type()))
}

/// `is_listed('list', text)`.
#[derive(Debug, PartialEq, Eq)]
struct IsListed {
    signature: Signature,
    references: Arc<References>,
}

impl std::hash::Hash for IsListed {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl IsListed {
    fn new(references: Arc<References>) -> Self {
        let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
        Self { signature, references }
    }

    fn known(&self) -> String {
        self.references.names().collect::<Vec<_>>().join(", ")
    }
}

impl ScalarUDFImpl for IsListed {
    fn name(&self) -> &'static str {
        IS_LISTED
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    /// Refuses an unknown list when the query is planned.
    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let list = arguments.scalar_arguments.first().copied().flatten();
        let Some(list) = list.and_then(|list| list.try_as_str().flatten()) else {
            return plan_err!("is_listed takes the name of a list as a literal text, then the value");
        };
        if self.references.list(list).is_none() {
            return plan_err!("there is no reference list `{list}`; there are: {}", self.known());
        }
        let nullable = arguments.arg_fields.get(1).is_none_or(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(ColumnarValue::Scalar(list)), Some(value)) = (arguments.args.first(), arguments.args.get(1)) else {
            return plan_err!("is_listed takes the name of a list as a literal text, then the value");
        };
        let list = list.try_as_str().flatten().and_then(|list| self.references.list(list));
        let list = list.ok_or_else(|| exec_datafusion_err!("there is no such list; there are: {}", self.known()))?;
        mapped(std::slice::from_ref(value), |values| {
            let values = strings(values)?;
            let found: BooleanArray = values.iter().map(|value| value.map(|value| list.contains(value))).collect();
            Ok(Arc::new(found))
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn references() -> Arc<References> {
        let mut references = References::default();
        references.insert_csv("c", "c.csv", "country\nIran\n").unwrap();
        Arc::new(references)
    }

    async fn table(sql: &str) -> Result<String> {
        let session = SessionContext::new();
        register(&session, &references());
        let batches = session.sql(sql).await?.collect().await?;
        Ok(pretty_format_batches(&batches)?.to_string())
    }

    #[tokio::test]
    async fn the_functions_work_in_plain_sql_on_columns_and_constants() {
        let sql = "SELECT t, event_time(t) AS e, before_last(t, ',') AS b, after_last(t, ', ') AS a, is_listed('c', t) AS l
                   FROM (VALUES ('Paris, France'), ('2026-11-20'), ('Iran'), (NULL), ('a, b, c'), (', x'), ('x, ')) v(t)";
        let expected = [
            "+---------------+----------------------+-------+--------+-------+",
            "| t             | e                    | b     | a      | l     |",
            "+---------------+----------------------+-------+--------+-------+",
            "| Paris, France |                      | Paris | France | false |",
            "| 2026-11-20    | 2026-11-20T00:00:00Z |       |        | false |",
            "| Iran          |                      |       |        | true  |",
            "|               |                      |       |        |       |",
            "| a, b, c       |                      | a, b  | c      | false |",
            "| , x           |                      |       |        | false |",
            "| x,            |                      |       |        | false |",
            "+---------------+----------------------+-------+--------+-------+",
        ];
        assert_eq!(table(sql).await.unwrap(), expected.join("\n"));
        let sql = "SELECT money(2.675) AS m, money(1e300) AS n, event_time('2026-11-20T08:15:30+02:00') AS e, is_listed('c', 'Iran') AS l";
        let constants = table(sql).await.unwrap();
        assert!(constants.contains("| 2.68 |   | 2026-11-20T06:15:30Z | true |"), "{constants}");
    }

    #[tokio::test]
    async fn an_unknown_list_is_refused_when_planned() {
        let error = table("SELECT is_listed('nope', 'x')").await.unwrap_err();
        assert!(error.to_string().contains("there is no reference list `nope`; there are: c"), "{error}");
    }
}
