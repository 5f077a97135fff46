//! Integers of any Arrow type as `i64` or `i128`, and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, new_null_array};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

/// The greatest precision of which every decimal fits 64 bits.
const NARROW_PRECISION: u8 = 18;

/// The values of an array, whatever stands under its NULLs included.
#[derive(Debug)]
pub(super) enum Numbers {
    Narrow(Vec<i64>),
    Wide(Vec<i128>),
}

/// Integers, dates, timestamps, and decimals of up to 18 digits.
pub(super) fn fits_i64(kind: &DataType) -> bool {
    match kind {
        DataType::Decimal128(precision, _) => *precision <= NARROW_PRECISION,
        DataType::UInt64 => false,
        kind => fits_i128(kind),
    }
}

pub(super) fn fits_i128(kind: &DataType) -> bool {
    use DataType::{Date32, Date64, Decimal128, Timestamp};
    kind.is_integer() || matches!(kind, Date32 | Date64 | Timestamp(..) | Decimal128(..))
}

/// `None` when the type is not one of [`fits_i128`]; wide when it, or a decimal beyond its precision, needs that.
pub(super) fn numbers(array: &ArrayRef) -> Option<Numbers> {
    fn narrow<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> Option<Numbers> {
        Some(Numbers::Narrow(array.as_primitive::<T>().values().iter().map(|value| (*value).into()).collect()))
    }
    match array.data_type() {
        DataType::Int8 => narrow::<Int8Type>(array),
        DataType::Int16 => narrow::<Int16Type>(array),
        DataType::Int32 => narrow::<Int32Type>(array),
        DataType::Int64 => narrow::<Int64Type>(array),
        DataType::UInt8 => narrow::<UInt8Type>(array),
        DataType::UInt16 => narrow::<UInt16Type>(array),
        DataType::UInt32 => narrow::<UInt32Type>(array),
        DataType::Date32 => narrow::<Date32Type>(array),
        DataType::Date64 => narrow::<Date64Type>(array),
        DataType::Timestamp(TimeUnit::Second, _) => narrow::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, _) => narrow::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => narrow::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => narrow::<TimestampNanosecondType>(array),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values();
            Some(Numbers::Wide(values.iter().map(|value| i128::from(*value)).collect()))
        }
        DataType::Decimal128(precision, _) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            if *precision > NARROW_PRECISION {
                return Some(Numbers::Wide(values.to_vec()));
            }
            // A decimal beyond its precision wraps here; `check` has refused it where it counts.
            Some(Numbers::Narrow(values.iter().map(|value| *value as i64).collect()))
        }
        _ => None,
    }
}

/// The first value of a narrow decimal that does not fit 64 bits.
pub(super) fn beyond_narrow(array: &ArrayRef) -> Option<i128> {
    match array.data_type() {
        DataType::Decimal128(precision, _) if *precision <= NARROW_PRECISION => {
            let values = array.as_primitive::<Decimal128Type>();
            let beyond = |value: i128| i128::from(value as i64) != value;
            if !values.values().iter().any(|value| beyond(*value)) {
                return None;
            }
            values.iter().flatten().find(|value| beyond(*value))
        }
        _ => None,
    }
}

/// An array of type `kind`; values beyond an integer type wrap, as DataFusion's sums do.
pub(super) fn array(kind: &DataType, values: impl ExactSizeIterator<Item = Option<i128>>) -> ArrayRef {
    macro_rules! cut {
        ($type:ty) => {
            Arc::new(
                values
                    .map(|value| value.map(|value| value as _))
                    .collect::<PrimitiveArray<$type>>()
                    .with_data_type(kind.clone()),
            )
        };
    }
    match kind {
        DataType::Int8 => cut!(Int8Type),
        DataType::Int16 => cut!(Int16Type),
        DataType::Int32 => cut!(Int32Type),
        DataType::Int64 => cut!(Int64Type),
        DataType::UInt8 => cut!(UInt8Type),
        DataType::UInt16 => cut!(UInt16Type),
        DataType::UInt32 => cut!(UInt32Type),
        DataType::UInt64 => cut!(UInt64Type),
        DataType::Date32 => cut!(Date32Type),
        DataType::Date64 => cut!(Date64Type),
        DataType::Timestamp(TimeUnit::Second, _) => cut!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => cut!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => cut!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => cut!(TimestampNanosecondType),
        DataType::Decimal128(..) => cut!(Decimal128Type),
        other => new_null_array(other, values.len()),
    }
}
