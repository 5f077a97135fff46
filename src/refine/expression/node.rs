use std::cmp::Ordering;
use std::sync::Arc;

use arrow::datatypes::{Decimal128Type, DecimalType};

use super::super::References;
use super::super::event_time::parse_event_time;
use super::super::functions::Side;
use super::super::money::hundredths;
use super::cells::Cells;
use super::value::{Unsure, Value};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;
/// From year 1 to year 9999 calendars agree with a division; beyond them DataFusion is asked.
const CALENDAR_US: std::ops::RangeInclusive<i64> = -62_135_596_800 * SECOND_US..=253_402_300_799 * SECOND_US;

/// An expression whose types were checked.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Column(usize),
    Constant(Value<'static>),
    Text(String),
    Compare(Comparison, Box<[Node; 2]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    Calculate(Calculation, Box<[Node; 2]>),
    /// The first value whose condition is true, or else the last.
    Case(Vec<(Node, Node)>, Box<Node>),
    /// Of constants.
    IsIn {
        value: Box<Node>,
        list: Vec<Node>,
        negated: bool,
    },
    Apply(Function, Box<Node>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Calculation {
    Add,
    Subtract,
    Multiply,
    /// Of doubles only.
    Divide,
}

/// What makes one value of another; of NULL it makes NULL.
#[derive(Debug, Clone)]
pub(super) enum Function {
    EventTime,
    Money,
    Cut(Side, String),
    IsListed(Arc<References>, String),
    Hour,
    /// 1 is Monday.
    IsoWeekday,
    Day,
    /// An instant so many microseconds later.
    Later(i64),
    /// To a number of 32 bits.
    Narrow,
    IntToDouble,
    /// So many digits, and so many of them after the point.
    IntToDecimal(u8, u32),
    /// The digits after the point.
    DecimalToDouble(i8),
}

impl Node {
    pub(super) fn value<'a>(&'a self, columns: &'a [Cells<'a>], row: usize) -> Result<Value<'a>, Unsure> {
        let both = |sides: &'a [Self; 2]| {
            let [left, right] = sides;
            Ok((left.value(columns, row)?, right.value(columns, row)?))
        };
        let truth = |node: &'a Self| node.value(columns, row)?.truth();
        Ok(match self {
            Self::Column(index) => columns.get(*index).ok_or(Unsure)?.value(row)?,
            Self::Constant(value) => *value,
            Self::Text(text) => Value::Text(text),
            Self::Compare(comparison, sides) => {
                let (left, right) = both(sides)?;
                left.compare(right)?.map(|order| comparison.holds(order)).into()
            }
            Self::And(sides) => either(false, truth(&sides[0])?, || truth(&sides[1]))?.into(),
            Self::Or(sides) => either(true, truth(&sides[0])?, || truth(&sides[1]))?.into(),
            Self::Not(node) => truth(node)?.map(|truth| !truth).into(),
            Self::IsNull(node) => Value::Bool(node.value(columns, row)?.is_null()),
            Self::Calculate(calculation, sides) => {
                let (left, right) = both(sides)?;
                calculation.of(left, right)?
            }
            Self::Case(branches, last) => {
                for (condition, value) in branches {
                    if truth(condition)? == Some(true) {
                        return value.value(columns, row);
                    }
                }
                last.value(columns, row)?
            }
            Self::IsIn { value, list, negated } => match value.value(columns, row)? {
                Value::Null => Value::Null,
                value => {
                    let is_in = list.iter().any(|listed| listed.value(columns, row) == Ok(value));
                    Value::Bool(is_in != *negated)
                }
            },
            Self::Apply(function, node) => function.of(node.value(columns, row)?)?,
        })
    }
}

/// Kleene's logic: `decides` on either side is the answer, whatever the other is.
fn either(
    decides: bool,
    left: Option<bool>,
    right: impl FnOnce() -> Result<Option<bool>, Unsure>,
) -> Result<Option<bool>, Unsure> {
    if left == Some(decides) {
        return Ok(left);
    }
    let right = right()?;
    Ok(if right == Some(decides) { right } else { left.and(right) })
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Calculation {
    fn of(self, left: Value<'_>, right: Value<'_>) -> Result<Value<'static>, Unsure> {
        Ok(match (left, right) {
            (Value::Null, _) | (_, Value::Null) => Value::Null,
            (Value::Int(left), Value::Int(right)) => {
                let whole = match self {
                    Self::Add => left.checked_add(right),
                    Self::Subtract => left.checked_sub(right),
                    Self::Multiply => left.checked_mul(right),
                    Self::Divide => None,
                };
                Value::Int(whole.ok_or(Unsure)?)
            }
            (Value::Double(left), Value::Double(right)) => Value::Double(match self {
                Self::Add => left + right,
                Self::Subtract => left - right,
                Self::Multiply => left * right,
                Self::Divide => left / right,
            }),
            _ => return Err(Unsure),
        })
    }
}

impl Function {
    fn of<'a>(&self, value: Value<'a>) -> Result<Value<'a>, Unsure> {
        let whole = |found: Option<i64>| found.map_or(Value::Null, Value::Int);
        Ok(match (self, value) {
            (_, Value::Null) => Value::Null,
            (Self::EventTime, Value::Text(text)) => whole(parse_event_time(text)),
            (Self::Money, Value::Double(double)) => hundredths(double).map_or(Value::Null, Value::Decimal),
            (Self::Cut(side, separator), Value::Text(text)) => {
                side.of(text, separator).map_or(Value::Null, Value::Text)
            }
            (Self::IsListed(references, list), Value::Text(text)) => {
                Value::Bool(references.list(list).ok_or(Unsure)?.contains(text))
            }
            (Self::Hour, Value::Int(at)) => Value::Int(known(at)?.rem_euclid(DAY_US) / HOUR_US),
            // Day 0 was a Thursday.
            (Self::IsoWeekday, Value::Int(at)) => Value::Int((known(at)?.div_euclid(DAY_US) + 3).rem_euclid(7) + 1),
            (Self::Day, Value::Int(at)) => Value::Int(known(at)?.div_euclid(DAY_US)),
            (Self::Later(us), Value::Int(at)) => Value::Int(known(known(at)?.checked_add(*us).ok_or(Unsure)?)?),
            (Self::Narrow, Value::Int(wide)) => Value::Int(i32::try_from(wide).map_err(|_| Unsure)?.into()),
            (Self::IntToDouble, Value::Int(whole)) => Value::Double(whole as f64),
            (Self::IntToDecimal(digits, scale), Value::Int(whole)) => {
                let decimal = 10_i128.checked_pow(*scale).and_then(|unit| unit.checked_mul(whole.into()));
                let fits = |decimal: &i128| Decimal128Type::is_valid_decimal_precision(*decimal, *digits);
                Value::Decimal(decimal.filter(fits).ok_or(Unsure)?)
            }
            (Self::DecimalToDouble(scale), Value::Decimal(decimal)) => {
                Value::Double(decimal as f64 / 10_f64.powi(i32::from(*scale)))
            }
            _ => return Err(Unsure),
        })
    }
}

fn known(at: i64) -> Result<i64, Unsure> {
    if CALENDAR_US.contains(&at) { Ok(at) } else { Err(Unsure) }
}
