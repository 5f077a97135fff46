use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

/// One value. Its type is known where it is used: whole numbers, instants and days are all integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Decimal(i128),
    Text(&'a str),
}

/// DataFusion must be asked: it may say that there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsure;

impl Value<'_> {
    pub(super) fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    /// `None` when one of them is NULL. Where NaN stands is for DataFusion to say.
    pub(super) fn compare(self, other: Self) -> Result<Option<Ordering>, Unsure> {
        Ok(Some(match (self, other) {
            (Self::Null, _) | (_, Self::Null) => return Ok(None),
            (Self::Int(one), Self::Int(other)) => one.cmp(&other),
            (Self::Decimal(one), Self::Decimal(other)) => one.cmp(&other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(&other).ok_or(Unsure)?,
            (Self::Bool(one), Self::Bool(other)) => one.cmp(&other),
            _ => return Err(Unsure),
        }))
    }

    /// `None` is NULL.
    pub(super) fn truth(self) -> Result<Option<bool>, Unsure> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(truth) => Ok(Some(truth)),
            _ => Err(Unsure),
        }
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(truth: Option<bool>) -> Self {
        truth.map_or(Self::Null, Self::Bool)
    }
}

/// Whether values of this type can be read and made a row at a time.
pub(super) fn is_known(kind: &DataType) -> bool {
    match kind {
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Utf8
        | DataType::Date32 => true,
        // Of other time zones the parts of an instant would need their rules.
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => zone.as_ref() == "UTC",
        _ => false,
    }
}

/// A column of this type; `None` when a value is none of this type.
pub(super) fn array(kind: &DataType, values: &[Value<'_>]) -> Option<ArrayRef> {
    let is_there = |value: &Value<'_>| !value.is_null();
    let nulls = (!values.iter().all(is_there)).then(|| values.iter().map(is_there).collect::<NullBuffer>());
    Some(match kind {
        DataType::Boolean => {
            let truths = values.iter().map(|value| Some(value.truth().ok()?.unwrap_or_default()));
            Arc::new(BooleanArray::new(truths.collect::<Option<Vec<bool>>>()?.into(), nulls))
        }
        DataType::Int32 => Arc::new(primitives::<Int32Type>(kind, values, nulls, narrow)?),
        DataType::Date32 => Arc::new(primitives::<Date32Type>(kind, values, nulls, narrow)?),
        DataType::Int64 => Arc::new(primitives::<Int64Type>(kind, values, nulls, whole)?),
        DataType::Timestamp(_, _) => Arc::new(primitives::<TimestampMicrosecondType>(kind, values, nulls, whole)?),
        DataType::Float64 => Arc::new(primitives::<Float64Type>(kind, values, nulls, |value| match value {
            Value::Double(double) => Some(double),
            _ => None,
        })?),
        DataType::Decimal128(_, _) => {
            Arc::new(primitives::<Decimal128Type>(kind, values, nulls, |value| match value {
                Value::Decimal(decimal) => Some(decimal),
                _ => None,
            })?)
        }
        DataType::Utf8 => {
            let mut written = Texts::with_capacity(values.len());
            for value in values {
                match value {
                    Value::Null => {}
                    Value::Text(text) => written.push_str(text),
                    _ => return None,
                }
                written.end()?;
            }
            Arc::new(written.finish(nulls)?)
        }
        _ => return None,
    })
}

fn primitives<'a, T: ArrowPrimitiveType>(
    kind: &DataType,
    values: &[Value<'a>],
    nulls: Option<NullBuffer>,
    native: fn(Value<'a>) -> Option<T::Native>,
) -> Option<PrimitiveArray<T>> {
    let natives = values.iter().map(|value| if value.is_null() { Some(T::Native::default()) } else { native(*value) });
    let natives: Vec<T::Native> = natives.collect::<Option<_>>()?;
    Some(PrimitiveArray::new(ScalarBuffer::from(natives), nulls).with_data_type(kind.clone()))
}

fn whole(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(whole) => Some(whole),
        _ => None,
    }
}

fn narrow(value: Value<'_>) -> Option<i32> {
    whole(value).and_then(|whole| i32::try_from(whole).ok())
}

/// A column of texts that is being written.
pub(super) struct Texts {
    bytes: String,
    ends: Vec<i32>,
}

impl Texts {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: String::with_capacity(rows * 16), ends }
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.bytes.push_str(text);
    }

    /// The text of the row is whole; `None` when the column is larger than arrow allows.
    pub(super) fn end(&mut self) -> Option<()> {
        self.ends.push(i32::try_from(self.bytes.len()).ok()?);
        Some(())
    }

    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> Option<StringArray> {
        let ends = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        StringArray::try_new(ends, Buffer::from(self.bytes.into_bytes()), nulls).ok()
    }
}
