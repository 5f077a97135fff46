use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::super::References;
use super::super::functions::{self, Side};
use super::ByRow;
use super::node::{Calculation, Comparison, Function, Node};
use super::value::{Value, is_known};

/// `None` where a part is not known here.
pub(super) fn compile(expression: &dyn PhysicalExpr, schema: &Schema, references: &Arc<References>) -> Option<ByRow> {
    let compiler = Compiler { schema, references };
    if let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>()
        && call.fun().name() == "concat_ws"
    {
        return compiler.joined(call);
    }
    compiler.node(expression).map(|(node, kind)| ByRow::Value(node, kind))
}

struct Compiler<'a> {
    schema: &'a Schema,
    references: &'a Arc<References>,
}

impl Compiler<'_> {
    fn node(&self, expression: &dyn PhysicalExpr) -> Option<(Node, DataType)> {
        let kind = expression.data_type(self.schema).ok()?;
        if !is_known(&kind) {
            return None;
        }
        let node = if let Some(column) = expression.downcast_ref::<Column>() {
            Node::Column(column.index())
        } else if let Some(value) = folded(expression, &kind) {
            value
        } else if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
            self.binary(binary, &kind)?
        } else if let Some(case) = expression.downcast_ref::<CaseExpr>() {
            self.case(case, &kind)?
        } else if let Some(cast) = expression.downcast_ref::<CastExpr>() {
            self.cast(cast, &kind)?
        } else if let Some(list) = expression.downcast_ref::<InListExpr>() {
            self.in_list(list)?
        } else if let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() {
            self.call(call)?
        } else if let Some(not) = expression.downcast_ref::<NotExpr>() {
            Node::Not(self.boxed(not.arg(), &DataType::Boolean)?)
        } else if let Some(is_null) = expression.downcast_ref::<IsNullExpr>() {
            Node::IsNull(Box::new(self.node(is_null.arg().as_ref())?.0))
        } else if let Some(is_not_null) = expression.downcast_ref::<IsNotNullExpr>() {
            Node::Not(Box::new(Node::IsNull(Box::new(self.node(is_not_null.arg().as_ref())?.0))))
        } else {
            return None;
        };
        Some((node, kind))
    }

    /// An expression of this type.
    fn of(&self, expression: &Arc<dyn PhysicalExpr>, kind: &DataType) -> Option<Node> {
        let (node, found) = self.node(expression.as_ref())?;
        (found == *kind).then_some(node)
    }

    fn boxed(&self, expression: &Arc<dyn PhysicalExpr>, kind: &DataType) -> Option<Box<Node>> {
        self.of(expression, kind).map(Box::new)
    }

    fn binary(&self, binary: &BinaryExpr, kind: &DataType) -> Option<Node> {
        let comparison = match binary.op() {
            Operator::Eq => Comparison::Equal,
            Operator::NotEq => Comparison::NotEqual,
            Operator::Lt => Comparison::Less,
            Operator::LtEq => Comparison::LessOrEqual,
            Operator::Gt => Comparison::Greater,
            Operator::GtEq => Comparison::GreaterOrEqual,
            Operator::And | Operator::Or => {
                let of = |side| self.of(side, &DataType::Boolean);
                let sides = Box::new([of(binary.left())?, of(binary.right())?]);
                return Some(if *binary.op() == Operator::And { Node::And(sides) } else { Node::Or(sides) });
            }
            _ => return self.calculation(binary, kind),
        };
        let (left, of) = self.node(binary.left().as_ref())?;
        Some(Node::Compare(comparison, Box::new([left, self.of(binary.right(), &of)?])))
    }

    fn calculation(&self, binary: &BinaryExpr, kind: &DataType) -> Option<Node> {
        let calculation = match binary.op() {
            Operator::Plus => Calculation::Add,
            Operator::Minus => Calculation::Subtract,
            Operator::Multiply => Calculation::Multiply,
            Operator::Divide if *kind == DataType::Float64 => Calculation::Divide,
            _ => return None,
        };
        let left = self.of(binary.left(), kind)?;
        let right = match kind {
            DataType::Int32 | DataType::Int64 | DataType::Float64 => self.of(binary.right(), kind)?,
            DataType::Timestamp(_, _) => {
                let us = microseconds(binary.right().as_ref())?;
                let us = match calculation {
                    Calculation::Add => us,
                    Calculation::Subtract => us.checked_neg()?,
                    _ => return None,
                };
                return Some(Node::Apply(Function::Later(us), Box::new(left)));
            }
            _ => return None,
        };
        let calculated = Node::Calculate(calculation, Box::new([left, right]));
        Some(if *kind == DataType::Int32 { Node::Apply(Function::Narrow, Box::new(calculated)) } else { calculated })
    }

    fn case(&self, case: &CaseExpr, kind: &DataType) -> Option<Node> {
        if case.expr().is_some() {
            return None;
        }
        let branch = |(condition, value): &(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)| {
            Some((self.of(condition, &DataType::Boolean)?, self.of(value, kind)?))
        };
        let branches = case.when_then_expr().iter().map(branch).collect::<Option<_>>()?;
        let last = case.else_expr().map_or(Some(Node::Constant(Value::Null)), |last| self.of(last, kind))?;
        Some(Node::Case(branches, Box::new(last)))
    }

    fn cast(&self, cast: &CastExpr, to: &DataType) -> Option<Node> {
        let (node, from) = self.node(cast.expr().as_ref())?;
        let function = match (&from, to) {
            (DataType::Int32, DataType::Int64) => return Some(node),
            (from, to) if from == to => return Some(node),
            (DataType::Decimal128(digits, scale), DataType::Decimal128(to_digits, to_scale))
                if scale == to_scale && digits <= to_digits =>
            {
                return Some(node);
            }
            (DataType::Int32 | DataType::Int64, DataType::Decimal128(digits, scale)) => {
                Function::IntToDecimal(*digits, u32::try_from(*scale).ok()?)
            }
            (DataType::Int64, DataType::Int32) => Function::Narrow,
            (DataType::Int32 | DataType::Int64, DataType::Float64) => Function::IntToDouble,
            (DataType::Decimal128(_, scale), DataType::Float64) => Function::DecimalToDouble(*scale),
            (DataType::Timestamp(_, _), DataType::Date32) => Function::Day,
            _ => return None,
        };
        Some(Node::Apply(function, Box::new(node)))
    }

    fn in_list(&self, list: &InListExpr) -> Option<Node> {
        let (value, kind) = self.node(list.expr().as_ref())?;
        // Of doubles NaN would be like no other.
        let is_plain = matches!(kind, DataType::Int32 | DataType::Int64 | DataType::Utf8);
        let listed = |item: &Arc<dyn PhysicalExpr>| {
            let item = self.of(item, &kind)?;
            matches!(&item, Node::Text(_) | Node::Constant(Value::Int(_))).then_some(item)
        };
        let values = list.list().iter().map(listed).collect::<Option<_>>()?;
        is_plain.then(|| Node::IsIn { value: Box::new(value), list: values, negated: list.negated() })
    }

    fn joined(&self, call: &ScalarFunctionExpr) -> Option<ByRow> {
        let (separator, texts) = call.args().split_first()?;
        let texts = texts.iter().map(|text| self.of(text, &DataType::Utf8)).collect::<Option<_>>()?;
        (*call.return_type() == DataType::Utf8).then_some(ByRow::Joined(text(separator.as_ref())?, texts))
    }

    fn call(&self, call: &ScalarFunctionExpr) -> Option<Node> {
        let args = call.args();
        let text = |index: usize| text(args.get(index)?.as_ref());
        let (function, of) = match call.fun().name() {
            functions::EVENT_TIME => (Function::EventTime, self.boxed(args.first()?, &DataType::Utf8)?),
            functions::MONEY => (Function::Money, self.boxed(args.first()?, &DataType::Float64)?),
            functions::BEFORE_LAST => {
                (Function::Cut(Side::Before, text(1)?), self.boxed(args.first()?, &DataType::Utf8)?)
            }
            functions::AFTER_LAST => {
                (Function::Cut(Side::After, text(1)?), self.boxed(args.first()?, &DataType::Utf8)?)
            }
            functions::IS_LISTED => {
                let function = Function::IsListed(Arc::clone(self.references), text(0)?);
                (function, self.boxed(args.get(1)?, &DataType::Utf8)?)
            }
            "date_part" => {
                let function = match text(0)?.as_str() {
                    "hour" => Function::Hour,
                    "isodow" => Function::IsoWeekday,
                    _ => return None,
                };
                let (at, kind) = self.node(args.get(1)?.as_ref())?;
                (function, matches!(kind, DataType::Timestamp(_, _)).then(|| Box::new(at))?)
            }
            _ => return None,
        };
        Some(Node::Apply(function, of))
    }
}

/// What is the same for all rows is computed once, by DataFusion.
fn folded(expression: &dyn PhysicalExpr, kind: &DataType) -> Option<Node> {
    fn is_constant(expression: &dyn PhysicalExpr) -> bool {
        let parts = expression.children();
        expression.is::<Literal>() || (!parts.is_empty() && parts.iter().all(|part| is_constant(part.as_ref())))
    }
    if !is_constant(expression) {
        return None;
    }
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one).ok()?;
    let value = match expression.evaluate(&one).ok()? {
        ColumnarValue::Scalar(value) => value,
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0).ok()?,
    };
    (value.data_type() == *kind).then(|| constant(&value)).flatten()
}

/// A span of time that has the same length everywhere.
fn microseconds(expression: &dyn PhysicalExpr) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(span)) = expression.downcast_ref::<Literal>()?.value() else {
        return None;
    };
    let is_fixed = span.months == 0 && span.days == 0 && span.nanoseconds % 1_000 == 0;
    is_fixed.then_some(span.nanoseconds / 1_000)
}

/// A literal text.
fn text(expression: &dyn PhysicalExpr) -> Option<String> {
    expression.downcast_ref::<Literal>()?.value().try_as_str().flatten().map(str::to_owned)
}

fn constant(value: &ScalarValue) -> Option<Node> {
    let kind = value.data_type();
    if value.is_null() {
        return is_known(&kind).then_some(Node::Constant(Value::Null));
    }
    Some(Node::Constant(match value {
        ScalarValue::Boolean(Some(truth)) => Value::Bool(*truth),
        ScalarValue::Int32(Some(whole)) | ScalarValue::Date32(Some(whole)) => Value::Int((*whole).into()),
        ScalarValue::Int64(Some(whole)) => Value::Int(*whole),
        ScalarValue::TimestampMicrosecond(Some(at), _) if is_known(&kind) => Value::Int(*at),
        ScalarValue::Float64(Some(double)) => Value::Double(*double),
        ScalarValue::Decimal128(Some(decimal), _, _) => Value::Decimal(*decimal),
        ScalarValue::Utf8(Some(text)) => return Some(Node::Text(text.clone())),
        _ => return None,
    }))
}
