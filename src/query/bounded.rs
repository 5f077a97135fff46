//! Functions that make much of little, held to a bound: what they return is in no memory pool.
//!
//! `repeat('x', 2000000000)` allocates two gigabytes within one call, and `a || a` in nested queries doubles each time. A value
//! that such a function builds has [`VALUE_BYTES_MAX`] at most, and all values of one call [`CALL_BYTES_MAX`]. What a call
//! would build is computed from its arguments before it runs, whether they are constants or columns; where that can only be
//! estimated, the rows are taken in parts.

mod sizes;

use std::cell::OnceCell;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::expressions::{BinaryExpr as PhysicalBinary, Column, Literal};
use datafusion::prelude::SessionContext;

use sizes::{Kind, Size, fixed_width};

/// The longest text or list that a function may build of shorter ones, and the longest constant: a join or a projection may
/// repeat a value for each of 8,192 rows.
pub const VALUE_BYTES_MAX: u64 = 64 << 10;

/// The longest list of numbers or instants in a row: hours of years are asked for so.
pub const RANGE_BYTES_MAX: u64 = 1 << 20;

/// What one call may build for the rows of a batch.
pub const CALL_BYTES_MAX: u64 = 64 << 20;

/// A function would build more than is let.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error(
        "{function} would build a value of {bytes} bytes, and {most} are the most: ask for less; FROM range(…) or \
         generate_series(…) gives rows without holding them"
    )]
    Value { function: String, bytes: u64, most: u64 },
    #[error("{function} would build {bytes} bytes for {rows} rows, and {CALL_BYTES_MAX} are the most: ask for less")]
    Call { function: String, bytes: u64, rows: usize },
}

impl From<TooLarge> for DataFusionError {
    fn from(error: TooLarge) -> Self {
        Self::External(Box::new(error))
    }
}

/// Holds the functions of a session to the bounds, and those that the planner brings by itself.
pub fn bound(session: &SessionContext) {
    let functions: Vec<Arc<ScalarUDF>> = session.state().scalar_functions().values().map(Arc::clone).collect();
    for function in functions {
        if let Some(bounded) = Bounded::of(&function) {
            session.register_udf(bounded);
        }
    }
    session.add_analyzer_rule(Arc::new(BoundOutputs));
}

/// A function that is asked how much it would build before it does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    kind: Kind,
}

impl Bounded {
    /// `None` for a function that makes no more than a few times of what it is given.
    fn of(function: &ScalarUDF) -> Option<ScalarUDF> {
        if function.inner().is::<Self>() {
            return None;
        }
        let kind = Kind::of(function.name())?;
        Some(ScalarUDF::new_from_impl(Self { inner: function.clone(), kind }))
    }

    fn invoke_in_parts(&self, arguments: ScalarFunctionArgs, upper: &[u64]) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let (mut parts, mut built): (Vec<ArrayRef>, u64) = (Vec::new(), 0);
        let given = Given::new(&arguments.args);
        let mut from = 0;
        while from < rows {
            let (mut to, mut bytes) = (from, 0_u64);
            while to < rows && (to == from || bytes.saturating_add(upper[to]) <= CALL_BYTES_MAX) {
                bytes = bytes.saturating_add(upper[to]);
                to += 1;
            }
            let part = ScalarFunctionArgs {
                args: arguments.args.iter().map(|of| sliced(of, from, to - from)).collect(),
                arg_fields: arguments.arg_fields.clone(),
                number_rows: to - from,
                return_field: Arc::clone(&arguments.return_field),
                config_options: Arc::clone(&arguments.config_options),
            };
            let part = self.inner.invoke_with_args(part)?;
            built = built.saturating_add(check_built(self.name(), &part, &|row| given.largest(from + row))?);
            if built > CALL_BYTES_MAX {
                return Err(TooLarge::Call { function: self.name().to_owned(), bytes: built, rows }.into());
            }
            parts.push(part.into_array(to - from)?);
            from = to;
        }
        let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

/// Rewriting a call (`simplify`) is left out: it would bring back the function as it was.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.inner.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(kinds)
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.return_type(kinds)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.kind.mend(&mut arguments.args);
        let is_constant = arguments.args.iter().all(|of| matches!(of, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { arguments.number_rows };
        let upper = self.kind.upper(&arguments.args, rows);
        if !self.kind.is_estimate() {
            let given = Given::new(&arguments.args);
            check(self.name(), upper.iter().copied(), &|row| self.kind.free_bytes().max(given.largest(row)))?;
            return self.inner.invoke_with_args(arguments);
        }
        if let Some(most) = upper.iter().copied().max().filter(|most| *most > CALL_BYTES_MAX) {
            return Err(TooLarge::Value { function: self.name().to_owned(), bytes: most, most: CALL_BYTES_MAX }.into());
        }
        if is_constant || upper.iter().sum::<u64>() <= CALL_BYTES_MAX {
            let given = Given::new(&arguments.args);
            let made = self.inner.invoke_with_args(arguments)?;
            check_built(self.name(), &made, &|row| given.largest(row))?;
            return Ok(made);
        }
        self.invoke_in_parts(arguments, &upper)
    }
}

fn sliced(value: &ColumnarValue, from: usize, rows: usize) -> ColumnarValue {
    match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
        ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.clone()),
    }
}

/// What a call is given. A value that is no longer than one of its arguments is nothing new: repeated, it does not grow.
struct Given {
    arguments: Vec<ColumnarValue>,
    sizes: OnceCell<Vec<Size>>,
}

impl Given {
    /// Looks at nothing before it is asked: few values are long.
    fn new(arguments: &[ColumnarValue]) -> Self {
        Self { arguments: arguments.to_vec(), sizes: OnceCell::new() }
    }

    /// The bytes of the longest argument of a row.
    fn largest(&self, row: usize) -> u64 {
        let sizes = self.sizes.get_or_init(|| self.arguments.iter().map(Size::of).collect());
        sizes.iter().map(|size| size.at(row)).max().unwrap_or(0)
    }
}

/// Refuses sizes of values beyond the bounds, and gives their sum. `free` is how long a value of a row may be in any case.
fn check(function: &str, sizes: impl Iterator<Item = u64>, free: &dyn Fn(usize) -> u64) -> Result<u64> {
    let (mut bytes, mut rows) = (0_u64, 0);
    for size in sizes {
        if size > VALUE_BYTES_MAX && size > free(rows) {
            let most = VALUE_BYTES_MAX.max(free(rows));
            return Err(TooLarge::Value { function: function.to_owned(), bytes: size, most }.into());
        }
        (bytes, rows) = (bytes.saturating_add(size), rows + 1);
    }
    if bytes > CALL_BYTES_MAX {
        return Err(TooLarge::Call { function: function.to_owned(), bytes, rows }.into());
    }
    Ok(bytes)
}

fn check_built(function: &str, made: &ColumnarValue, free: &dyn Fn(usize) -> u64) -> Result<u64> {
    let rows = if let ColumnarValue::Array(array) = made { array.len() } else { 1 };
    let sizes = Size::of(made);
    check(function, (0..rows).map(|row| sizes.at(row)), free)
}

/// Bounds what no name of a function says: `||`, `[…]`, constants, types of a fixed width.
#[derive(Debug)]
struct BoundOutputs;

impl AnalyzerRule for BoundOutputs {
    fn name(&self) -> &'static str {
        "bound_outputs"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let bounded = plan
            .transform_up_with_subqueries(|plan| plan.map_expressions(|expression| expression.transform_up(bounded)));
        Ok(bounded?.data)
    }
}

fn bounded(expression: Expr) -> Result<Transformed<Expr>> {
    match expression {
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            if matches!(func.name(), "arrow_cast" | "arrow_try_cast")
                && let Some(Expr::Literal(kind, _)) = args.get(1)
                && let Some(kind) = kind.try_as_str().flatten().and_then(|kind| kind.parse::<DataType>().ok())
            {
                check_width(&kind)?;
            }
            let (func, is_new) = match Bounded::of(&func) {
                Some(bounded) => (Arc::new(bounded), true),
                None => (func, false),
            };
            let call = Expr::ScalarFunction(ScalarFunction { func, args });
            Ok(if is_new { Transformed::yes(call) } else { Transformed::no(call) })
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            let joined = ScalarUDF::new_from_impl(Joined { signature: Signature::any(2, Volatility::Immutable) });
            Ok(Transformed::yes(joined.call(vec![*left, *right])))
        }
        Expr::Literal(value, metadata) => {
            let bytes = literal_bytes(&value);
            if bytes > VALUE_BYTES_MAX {
                return plan_err!("a constant has {bytes} bytes, and {VALUE_BYTES_MAX} are the most");
            }
            Ok(Transformed::no(Expr::Literal(value, metadata)))
        }
        Expr::Cast(Cast { ref field, .. }) | Expr::TryCast(TryCast { ref field, .. }) => {
            check_width(field.data_type())?;
            Ok(Transformed::no(expression))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn literal_bytes(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, |text| text.len() as u64)
        }
        ScalarValue::Binary(bytes) | ScalarValue::LargeBinary(bytes) | ScalarValue::BinaryView(bytes) => {
            bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
        }
        other if other.data_type().is_nested() => Size::of(&ColumnarValue::Scalar(other.clone())).at(0),
        _ => 0,
    }
}

/// A value of such a type takes its width even when it is NULL.
fn check_width(kind: &DataType) -> Result<()> {
    match fixed_width(kind) {
        width if width > VALUE_BYTES_MAX => {
            plan_err!("a value of {kind} has {width} bytes, and {VALUE_BYTES_MAX} are the most")
        }
        _ => Ok(()),
    }
}

/// `||`, which is no function to the planner: asked like one, and then left to the engine. By its names it is not there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &'static str {
        "||"
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let [left, right] = arguments else { return plan_err!("|| takes two texts") };
        let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
        let joined = Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right });
        Ok(joined.schema_name().to_string())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        let [left, right] = kinds else { return plan_err!("|| takes two texts") };
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let kinds: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        // As the operator says it: a plan that was made before does not change its schema.
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&kinds)?, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ScalarFunctionArgs { args, number_rows, .. } = arguments;
        let is_constant = args.iter().all(|of| matches!(of, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { number_rows };
        let given = Given::new(&args);
        check(self.name(), Kind::Sum.upper(&args, rows).into_iter(), &|row| given.largest(row))?;
        let (mut fields, mut columns, mut sides) = (Vec::new(), Vec::new(), Vec::<Arc<dyn PhysicalExpr>>::new());
        for side in args {
            match side {
                ColumnarValue::Scalar(constant) => sides.push(Arc::new(Literal::new(constant))),
                ColumnarValue::Array(array) => {
                    let name = columns.len().to_string();
                    sides.push(Arc::new(Column::new(&name, columns.len())));
                    fields.push(Field::new(name, array.data_type().clone(), true));
                    columns.push(array);
                }
            }
        }
        let [left, right] =
            <[_; 2]>::try_from(sides).map_err(|_| DataFusionError::Plan("|| takes two texts".to_owned()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        let joined = PhysicalBinary::new(left, Operator::StringConcat, right).evaluate(&batch)?;
        match joined {
            // Constants give a constant, or else the optimizer would not take it for one.
            ColumnarValue::Array(array) if is_constant => {
                ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar)
            }
            joined => Ok(joined),
        }
    }
}

#[cfg(test)]
mod tests;
