//! Columns, made ready to be read a cell at a time.

use std::cell::OnceCell;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, RecordBatch, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};

use super::value::{Unsure, Value, is_known};

/// A batch for some expressions: what a column is, is asked once for all of them.
pub(in crate::refine) struct Input<'a> {
    pub batch: &'a RecordBatch,
    columns: OnceCell<Vec<Cells<'a>>>,
}

impl<'a> Input<'a> {
    pub fn new(batch: &'a RecordBatch) -> Self {
        Self { batch, columns: OnceCell::new() }
    }

    pub(super) fn cells(&self) -> &[Cells<'a>] {
        self.columns.get_or_init(|| self.batch.columns().iter().map(|column| Cells::of(column.as_ref())).collect())
    }
}

/// The cells of a column.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
}

#[derive(Debug)]
enum Values<'a> {
    Bools(&'a BooleanBuffer),
    /// Days, too.
    Ints(&'a [i32]),
    /// Instants, too.
    Longs(&'a [i64]),
    Doubles(&'a [f64]),
    Decimals(&'a [i128]),
    Texts(&'a StringArray),
    Unknown,
}

impl<'a> Cells<'a> {
    fn of(column: &'a dyn Array) -> Self {
        fn natives<T: ArrowPrimitiveType>(column: &dyn Array) -> Option<&[T::Native]> {
            Some(&**column.as_primitive_opt::<T>()?.values())
        }
        let kind = column.data_type();
        let known = is_known(kind).then_some(kind).and_then(|kind| match kind {
            DataType::Boolean => column.as_boolean_opt().map(|column| Values::Bools(column.values())),
            DataType::Int32 => natives::<Int32Type>(column).map(Values::Ints),
            DataType::Date32 => natives::<Date32Type>(column).map(Values::Ints),
            DataType::Int64 => natives::<Int64Type>(column).map(Values::Longs),
            DataType::Timestamp(_, _) => natives::<TimestampMicrosecondType>(column).map(Values::Longs),
            DataType::Float64 => natives::<Float64Type>(column).map(Values::Doubles),
            DataType::Decimal128(_, _) => natives::<Decimal128Type>(column).map(Values::Decimals),
            DataType::Utf8 => column.as_string_opt().map(Values::Texts),
            _ => None,
        });
        Self { values: known.unwrap_or(Values::Unknown), nulls: column.nulls() }
    }

    #[inline]
    pub(super) fn value(&self, row: usize) -> Result<Value<'a>, Unsure> {
        let value = match self.values {
            Values::Bools(values) if row < values.len() => Value::Bool(values.value(row)),
            Values::Ints(values) => Value::Int((*values.get(row).ok_or(Unsure)?).into()),
            Values::Longs(values) => Value::Int(*values.get(row).ok_or(Unsure)?),
            Values::Doubles(values) => Value::Double(*values.get(row).ok_or(Unsure)?),
            Values::Decimals(values) => Value::Decimal(*values.get(row).ok_or(Unsure)?),
            Values::Texts(values) if row < values.len() => Value::Text(values.value(row)),
            _ => return Err(Unsure),
        };
        Ok(if self.nulls.is_some_and(|nulls| nulls.is_null(row)) { Value::Null } else { value })
    }
}
