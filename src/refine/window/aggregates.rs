//! The aggregates that can be kept incrementally and exactly, and the slots that they need.

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::compile::{Compiler, Rows};
use super::error::WindowError;
use super::evaluate::plain;
use super::intern::Interner;
use super::numbers::fits_i128;
use super::plan::{AggregateResult, Distinct, Keeps, Slot};

/// Averages of decimals up to this precision are summed in 128 bits by DataFusion too.
const AVERAGE_PRECISION_MAX: u8 = 25;
const FLOATS: &str =
    "cast the argument to a decimal, for example sum(x::decimal(18,2)): sums of floats depend on the order of rows";

/// Slots and results; equal ones are kept once.
#[derive(Default)]
pub(super) struct Aggregates {
    pub slots: Vec<Slot>,
    pub distincts: Vec<Distinct>,
    pub results: Vec<AggregateResult>,
}

impl Aggregates {
    fn slot(&mut self, keeps: Keeps, argument: Option<(Expr, DataType)>, filter: Option<Expr>) -> usize {
        let (argument, kind) = argument.map_or((None, DataType::Int64), |(expr, kind)| (Some(expr), kind));
        let slot = Slot { keeps, argument, kind, filter };
        self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        })
    }

    fn distinct(&mut self, value: Expr, filter: Option<Expr>) -> usize {
        let distinct = Distinct { value, filter };
        self.distincts.iter().position(|known| *known == distinct).unwrap_or_else(|| {
            self.distincts.push(distinct);
            self.distincts.len() - 1
        })
    }
}

impl Compiler<'_> {
    /// Adds one column of the aggregate.
    pub fn aggregate(
        &self,
        expr: &Expr,
        input: &LogicalPlan,
        rows: &Rows,
        into: &mut Aggregates,
    ) -> Result<(), WindowError> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias() else {
            return Err(self.refuse.because(&[], &format!("the aggregate {expr}"), "write a plain aggregate function"));
        };
        let name = func.name().to_owned();
        let call = format!("{name}(");
        let refuse = |construct: String, instead: &str| Err(self.refuse.because(&[&call], &construct, instead));
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return refuse(
                format!("{name}() with an order or a treatment of NULLs"),
                "leave it out: these aggregates have no order",
            );
        }
        let filter = match params.filter {
            Some(filter) => Some(self.row_expression(rows.over_source(&filter, input))?),
            None => None,
        };
        let [argument] = params.args.as_slice() else {
            return refuse(format!("{name}() over {} arguments", params.args.len()), "give it one argument");
        };
        let argument = self.row_expression(rows.over_source(argument, input))?;
        let literal = matches!(&argument, Expr::Literal(value, _) if !value.is_null());
        let kind = self.kind(&argument)?;
        if params.distinct {
            if name != "count" {
                return refuse(format!("{name}(DISTINCT …)"), "only count() takes DISTINCT here");
            }
            if Interner::new(&plain(&kind)).is_none() {
                return refuse(
                    format!("count(DISTINCT …) over {kind}"),
                    "cast the argument to a string, an integer or a decimal",
                );
            }
            let distinct = into.distinct(argument, filter);
            into.results.push(AggregateResult::CountDistinct { distinct });
            return Ok(());
        }
        let result = match name.as_str() {
            "count" => {
                let argument = (!literal).then_some((argument, kind));
                AggregateResult::Count { slot: into.slot(Keeps::Count, argument, filter) }
            }
            "sum" => {
                let (argument, kind) = self.integer_within_cast(argument, kind, false)?;
                if !fits_i128(&kind) {
                    return refuse(format!("sum() over {kind}"), FLOATS);
                }
                let seen = self.seen(into, &argument, &kind, &filter);
                AggregateResult::Sum { slot: into.slot(Keeps::Sum, Some((argument, kind)), filter), seen }
            }
            "avg" => {
                let (argument, kind) = self.integer_within_cast(argument, kind, true)?;
                let seen = self.seen(into, &argument, &kind, &filter);
                match kind {
                    DataType::Decimal128(precision, scale) if precision <= AVERAGE_PRECISION_MAX => {
                        let slot = into.slot(Keeps::Sum, Some((argument, kind)), filter);
                        // DataFusion gives an average four more digits, as far as a decimal has them.
                        let extra = (scale.saturating_add(4).min(38) - scale).max(0);
                        AggregateResult::DecimalAverage { slot, seen, extra: u32::from(extra.unsigned_abs()) }
                    }
                    DataType::Decimal128(..) => {
                        return refuse(
                            format!("avg() over {kind}"),
                            "cast the argument to a decimal of at most 25 digits",
                        );
                    }
                    kind if kind.is_integer() => AggregateResult::IntegerAverage {
                        slot: into.slot(Keeps::Sum, Some((argument, kind)), filter),
                        seen,
                    },
                    kind => return refuse(format!("avg() over {kind}"), FLOATS),
                }
            }
            "min" | "max" => {
                let comparable = fits_i128(&kind) || matches!(plain(&kind), DataType::Utf8 | DataType::Float64);
                if !comparable {
                    return refuse(
                        format!("{name}() over {kind}"),
                        "cast the argument to a number, a date, a timestamp or a string",
                    );
                }
                let keeps = if name == "min" { Keeps::Min } else { Keeps::Max };
                let seen = self.seen(into, &argument, &kind, &filter);
                AggregateResult::Extreme { slot: into.slot(keeps, Some((argument, kind)), filter), seen }
            }
            "bool_or" | "bool_and" => {
                let keeps = if name == "bool_or" { Keeps::Or } else { Keeps::And };
                let seen = self.seen(into, &argument, &kind, &filter);
                AggregateResult::Flag { slot: into.slot(keeps, Some((argument, kind)), filter), seen }
            }
            _ => {
                let instead = "use count, count(DISTINCT …), sum, avg, min, max, bool_or or bool_and, or calculate it where the table is read";
                return refuse(format!("the aggregate {name}()"), instead);
            }
        };
        into.results.push(result);
        Ok(())
    }

    /// The slot that counts the values which go into an aggregate; plain rows when none of them can be NULL.
    fn seen(&self, into: &mut Aggregates, argument: &Expr, kind: &DataType, filter: &Option<Expr>) -> usize {
        let argument = self.may_be_null(argument).then(|| (argument.clone(), kind.clone()));
        into.slot(Keeps::Count, argument, filter.clone())
    }

    /// DataFusion widens integers before it sums or averages them; the sums here are wider than either.
    fn integer_within_cast(
        &self,
        argument: Expr,
        kind: DataType,
        average: bool,
    ) -> Result<(Expr, DataType), WindowError> {
        if let Expr::Cast(cast) = &argument {
            let inner = self.kind(&cast.expr)?;
            let widened = match kind {
                DataType::Int64 => inner.is_signed_integer(),
                DataType::UInt64 => inner.is_unsigned_integer(),
                DataType::Float64 => average && inner.is_integer(),
                _ => false,
            };
            if widened {
                return Ok((cast.expr.as_ref().clone(), inner));
            }
        }
        Ok((argument, kind))
    }
}
