//! Arrow batches as PostgreSQL's binary COPY.
//!
//! A row is the number of its fields in two bytes, then each field as its length in four bytes and its value, all big
//! endian; a NULL is the length −1. <https://www.postgresql.org/docs/current/sql-copy.html>

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, Bytes, BytesMut};

use super::kind::Kind;

/// What stands before the first row.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands after the last one.
pub const TRAILER: &[u8] = &[0xff, 0xff];
/// From 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;
/// PostgreSQL's instants begin at 4714-11-24 BC and end before 294277-01-01.
const TIMESTAMP_US: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// Its days end before 5874898-01-01.
const DATE_DAYS: std::ops::Range<i32> = -2_451_545..2_145_031_949;
/// In the place of a NUL, which no text of PostgreSQL can hold.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Rows as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: Bytes,
    pub rows: u64,
    /// Values that PostgreSQL cannot hold as they are: texts with a NUL, instants and days beyond its calendar.
    pub adjusted: u64,
}

/// Writes rows of one table.
#[derive(Debug, Clone)]
pub struct Encoder {
    kinds: Vec<Kind>,
    /// Fields that are the same in each row, at its end: length and value.
    constant: Vec<u8>,
    fields: i16,
}

impl Encoder {
    /// `constants` are the values of the columns after those of the batches, as PostgreSQL's binary format has them.
    #[must_use]
    pub fn new(kinds: Vec<Kind>, constants: &[&[u8]]) -> Self {
        let mut constant = Vec::new();
        for value in constants {
            constant.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            constant.put_slice(value);
        }
        let fields = i16::try_from(kinds.len() + constants.len()).unwrap_or(i16::MAX);
        Self { kinds, constant, fields }
    }

    /// # Errors
    /// When a column is not of the type that it was planned with.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Encoded, String> {
        let plain = |(array, kind): (&ArrayRef, &Kind)| cast(array, &kind.arrow()).map_err(|e| e.to_string());
        let columns = batch.columns().iter().zip(&self.kinds).map(plain).collect::<Result<Vec<_>, _>>()?;
        let cells = columns.iter().zip(&self.kinds).map(|(array, kind)| Cells::of(array, kind));
        let cells = cells.collect::<Option<Vec<_>>>().ok_or("a column changed its type")?;
        let size: usize = columns.iter().map(|column| column.get_buffer_memory_size() + 4 * column.len()).sum();
        let mut out = BytesMut::with_capacity(size + batch.num_rows() * (2 + self.constant.len()));
        let mut adjusted = 0;
        for row in 0..batch.num_rows() {
            out.put_i16(self.fields);
            for column in &cells {
                column.put(row, &mut out, &mut adjusted);
            }
            out.put_slice(&self.constant);
        }
        Ok(Encoded { bytes: out.freeze(), rows: batch.num_rows() as u64, adjusted })
    }
}

enum Cells<'a> {
    Boolean(&'a BooleanArray),
    SmallInt(&'a Int16Array),
    Integer(&'a Int32Array),
    BigInt(&'a Int64Array),
    Real(&'a Float32Array),
    Double(&'a Float64Array),
    Numeric(&'a Decimal128Array, u8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Timestamp(&'a TimestampMicrosecondArray),
    Array(&'a ListArray, Box<Cells<'a>>, u32),
}

impl<'a> Cells<'a> {
    fn of(array: &'a ArrayRef, kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Boolean => Self::Boolean(array.as_boolean_opt()?),
            Kind::SmallInt => Self::SmallInt(array.as_primitive_opt::<Int16Type>()?),
            Kind::Integer => Self::Integer(array.as_primitive_opt::<Int32Type>()?),
            Kind::BigInt => Self::BigInt(array.as_primitive_opt::<Int64Type>()?),
            Kind::Real => Self::Real(array.as_primitive_opt::<Float32Type>()?),
            Kind::Double => Self::Double(array.as_primitive_opt::<Float64Type>()?),
            Kind::Numeric { scale, .. } => Self::Numeric(array.as_primitive_opt::<Decimal128Type>()?, *scale),
            Kind::Text => Self::Text(array.as_string_opt::<i32>()?),
            Kind::Bytes => Self::Bytes(array.as_binary_opt::<i32>()?),
            Kind::Date => Self::Date(array.as_primitive_opt::<Date32Type>()?),
            Kind::Timestamp { .. } => Self::Timestamp(array.as_primitive_opt::<TimestampMicrosecondType>()?),
            // Only the job's own columns are of this type.
            Kind::Uuid => return None,
            Kind::Array(item) => {
                let list = array.as_list_opt::<i32>()?;
                Self::Array(list, Box::new(Self::of(list.values(), item)?), item.oid())
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::SmallInt(array) => array.is_null(row),
            Self::Integer(array) => array.is_null(row),
            Self::BigInt(array) => array.is_null(row),
            Self::Real(array) => array.is_null(row),
            Self::Double(array) => array.is_null(row),
            Self::Numeric(array, _) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Timestamp(array) => array.is_null(row),
            Self::Array(array, ..) => array.is_null(row),
        }
    }

    fn put(&self, row: usize, out: &mut BytesMut, adjusted: &mut u64) {
        if self.is_null(row) {
            out.put_i32(-1);
            return;
        }
        match self {
            Self::Boolean(array) => {
                out.put_i32(1);
                out.put_u8(u8::from(array.value(row)));
            }
            Self::SmallInt(array) => {
                out.put_i32(2);
                out.put_i16(array.value(row));
            }
            Self::Integer(array) => {
                out.put_i32(4);
                out.put_i32(array.value(row));
            }
            Self::BigInt(array) => {
                out.put_i32(8);
                out.put_i64(array.value(row));
            }
            Self::Real(array) => {
                out.put_i32(4);
                out.put_f32(array.value(row));
            }
            Self::Double(array) => {
                out.put_i32(8);
                out.put_f64(array.value(row));
            }
            Self::Numeric(array, scale) => put_numeric(array.value(row), *scale, out),
            Self::Text(array) => put_text(array.value(row).as_bytes(), out, adjusted),
            Self::Bytes(array) => put_bytes(array.value(row), out),
            Self::Date(array) => {
                let day = array.value(row).checked_sub(EPOCH_DAYS).filter(|day| DATE_DAYS.contains(day));
                *adjusted += u64::from(day.is_none());
                out.put_i32(4);
                out.put_i32(day.unwrap_or(if array.value(row) < 0 { i32::MIN } else { i32::MAX }));
            }
            Self::Timestamp(array) => {
                let at = array.value(row).checked_sub(EPOCH_US).filter(|at| TIMESTAMP_US.contains(at));
                *adjusted += u64::from(at.is_none());
                out.put_i32(8);
                // −infinity and infinity.
                out.put_i64(at.unwrap_or(if array.value(row) < 0 { i64::MIN } else { i64::MAX }));
            }
            Self::Array(array, items, oid) => {
                let offsets = array.value_offsets();
                let of = |index: usize| offsets.get(index).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
                put_array(of(row)..of(row + 1), items, *oid, out, adjusted);
            }
        }
    }
}

fn put_bytes(value: &[u8], out: &mut BytesMut) {
    out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
    out.put_slice(value);
}

fn put_text(value: &[u8], out: &mut BytesMut, adjusted: &mut u64) {
    if !value.contains(&0) {
        return put_bytes(value, out);
    }
    *adjusted += 1;
    let mut kept = Vec::with_capacity(value.len() + 16);
    for byte in value {
        match byte {
            0 => kept.extend_from_slice(REPLACEMENT),
            byte => kept.push(*byte),
        }
    }
    put_bytes(&kept, out);
}

/// One dimension, counted from 1; none where there are no items.
fn put_array(items: std::ops::Range<usize>, cells: &Cells<'_>, oid: u32, out: &mut BytesMut, adjusted: &mut u64) {
    let at = out.len();
    out.put_i32(0);
    let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
    out.put_i32(i32::from(count > 0));
    out.put_i32(i32::from(items.clone().any(|item| cells.is_null(item))));
    out.put_u32(oid);
    if count > 0 {
        out.put_i32(count);
        out.put_i32(1);
    }
    for item in items {
        cells.put(item, out, adjusted);
    }
    let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Ten thousands, the decimal point between two of them: how many, the weight of the first, the sign, the digits after
/// the point, and then each in two bytes. Neither the first nor the last is 0.
fn put_numeric(value: i128, scale: u8, out: &mut BytesMut) {
    // 39 digits fill ten groups; the point may split one in two.
    let mut groups = [0_u16; 11];
    let mut count = 0;
    let mut push = |group: u16| {
        if let Some(place) = groups.get_mut(count) {
            *place = group;
            count += 1;
        }
    };
    let partial = u32::from(scale % 4);
    let whole = usize::from(scale / 4);
    let fraction = whole + usize::from(partial > 0);
    let absolute = value.unsigned_abs();
    // The last group first. Nearly all amounts are small, and division by 64 bits is far quicker.
    if let Ok(mut rest) = u64::try_from(absolute) {
        if partial > 0 {
            push(group(rest % 10_u64.pow(partial)) * 10_u16.pow(4 - partial));
            rest /= 10_u64.pow(partial);
        }
        let mut pushed = 0;
        while rest > 0 || pushed < whole {
            push(group(rest % 10_000));
            rest /= 10_000;
            pushed += 1;
        }
    } else {
        let mut rest = absolute;
        if partial > 0 {
            push(group((rest % 10_u128.pow(partial)) as u64) * 10_u16.pow(4 - partial));
            rest /= 10_u128.pow(partial);
        }
        let mut pushed = 0;
        while rest > 0 || pushed < whole {
            push(group((rest % 10_000) as u64));
            rest /= 10_000;
            pushed += 1;
        }
    }
    let groups = groups.get(..count).unwrap_or(&[]);
    let first = groups.iter().rposition(|group| *group != 0);
    let last = groups.iter().position(|group| *group != 0);
    let (digits, weight) = match (first, last) {
        (Some(first), Some(last)) => (groups.get(last..=first).unwrap_or(&[]), first as i64 - fraction as i64),
        _ => (&groups[..0], 0),
    };
    out.put_i32(8 + 2 * i32::try_from(digits.len()).unwrap_or(0));
    out.put_i16(i16::try_from(digits.len()).unwrap_or(0));
    out.put_i16(i16::try_from(weight).unwrap_or(0));
    out.put_u16(if value < 0 { 0x4000 } else { 0 });
    out.put_u16(u16::from(scale));
    for group in digits.iter().rev() {
        out.put_u16(*group);
    }
}

/// Below 10,000, so nothing is cut off.
const fn group(value: u64) -> u16 {
    value as u16
}

#[cfg(test)]
mod tests;
