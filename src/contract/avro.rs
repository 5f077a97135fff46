//! Avro's binary encoding, read straight into columns.
//!
//! A flat record needs no more than a walk over its bytes. Doing it here rather than in a general reader lets each message
//! stand alone: a bad one is taken back, named exactly, and costs its neighbours nothing.

use super::columns::{Columns, Full};
use super::resolve::{Branch, Leaf, Plan, Read};
use super::schema::{Named, Primitive, Schema, Type};
use crate::domain::Reason;

/// Why a message is refused, and where in it.
#[derive(Debug)]
pub(super) struct Fault {
    pub reason: Reason,
    pub detail: String,
}

/// When strings are checked to be UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Utf8Check {
    /// The caller checks whole columns, which is much faster.
    Later,
    /// One by one, to find the bad message.
    Each,
}

/// Reads one record, which must fill `payload` from `from` to its end, into one row.
///
/// On a fault some columns may hold a part of the row: the caller takes it back.
pub(super) fn read_record(
    plan: &Plan,
    payload: &[u8],
    from: usize,
    check: Utf8Check,
    columns: &mut Columns,
) -> Result<(), Box<Fault>> {
    let mut cursor = Cursor { bytes: payload, at: from, skips_left: payload.len() + 1_024 };
    for step in &plan.steps {
        let result = match &step.read {
            Read::Leaf(leaf) => read_leaf(leaf, &mut cursor, check, columns),
            Read::Union(branches) => read_union(branches, &mut cursor, check, columns),
            Read::Skip(ty) => cursor.skip(&plan.schema, ty, 0),
        };
        if let Err(flaw) = result {
            return Err(flaw.fault(&step.field, cursor.at));
        }
    }
    if cursor.at != payload.len() {
        let detail = format!("the record ends at byte {}, the message at byte {}", cursor.at, payload.len());
        return Err(Box::new(Fault { reason: Reason::TrailingBytes, detail }));
    }
    for (slot, fill) in &plan.fills {
        if columns.push_fill(*slot, fill).is_err() {
            return Err(Flaw::Full.fault("(a default)", cursor.at));
        }
    }
    Ok(())
}

#[inline]
fn read_leaf(leaf: &Leaf, cursor: &mut Cursor<'_>, check: Utf8Check, columns: &mut Columns) -> Result<(), Flaw> {
    match leaf {
        Leaf::Bool(at) => columns.bools[*at].push(cursor.boolean()?),
        Leaf::Int(at) => columns.i32s[*at].push(cursor.int()?),
        Leaf::IntAsLong(at, scale) => columns.i64s[*at].push(scaled(i64::from(cursor.int()?), *scale)?),
        #[allow(clippy::cast_precision_loss, reason = "Avro's promotion of int to float")]
        Leaf::IntAsFloat(at) => columns.f32s[*at].push(cursor.int()? as f32),
        Leaf::IntAsDouble(at) => columns.f64s[*at].push(f64::from(cursor.int()?)),
        Leaf::Long(at) => columns.i64s[*at].push(cursor.long()?),
        Leaf::LongTimes(at, scale) => columns.i64s[*at].push(scaled(cursor.long()?, *scale)?),
        #[allow(clippy::cast_precision_loss, reason = "Avro's promotion of long to float")]
        Leaf::LongAsFloat(at) => columns.f32s[*at].push(cursor.long()? as f32),
        #[allow(clippy::cast_precision_loss, reason = "Avro's promotion of long to double")]
        Leaf::LongAsDouble(at) => columns.f64s[*at].push(cursor.long()? as f64),
        Leaf::Float(at) => columns.f32s[*at].push(f32::from_le_bytes(cursor.array()?)),
        Leaf::FloatAsDouble(at) => columns.f64s[*at].push(f64::from(f32::from_le_bytes(cursor.array()?))),
        Leaf::Double(at) => columns.f64s[*at].push(f64::from_le_bytes(cursor.array()?)),
        Leaf::Text(at) => {
            let bytes = cursor.bytes()?;
            if check == Utf8Check::Each {
                std::str::from_utf8(bytes).map_err(|cause| Flaw::Utf8(bytes.len() - cause.valid_up_to()))?;
            }
            columns.bytes[*at].push(bytes)?;
        }
        Leaf::Bytes(at) => columns.bytes[*at].push(cursor.bytes()?)?,
        Leaf::Enum(at, symbols) => {
            let index = cursor.long()?;
            let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index)).ok_or(Flaw::Symbol(index))?;
            columns.bytes[*at].push(symbol.as_deref().ok_or(Flaw::UnknownSymbol(index))?.as_bytes())?;
        }
    }
    Ok(())
}

fn read_union(
    branches: &[Branch],
    cursor: &mut Cursor<'_>,
    check: Utf8Check,
    columns: &mut Columns,
) -> Result<(), Flaw> {
    let index = cursor.long()?;
    let branch = usize::try_from(index).ok().and_then(|index| branches.get(index)).ok_or(Flaw::Branch(index))?;
    match branch {
        Branch::Null(slot) => columns.push_null(*slot),
        Branch::Absent => return Err(Flaw::Absent),
        Branch::Leaf(leaf) => return read_leaf(leaf, cursor, check, columns),
        Branch::Refused(what) => return Err(Flaw::Refused(what.clone())),
    }
    Ok(())
}

fn scaled(value: i64, scale: i64) -> Result<i64, Flaw> {
    value.checked_mul(scale).ok_or(Flaw::Range(value))
}

/// What is wrong with a value.
#[derive(Debug)]
enum Flaw {
    Ended,
    Varint,
    Range(i64),
    Length(i64),
    Boolean(u8),
    Branch(i64),
    Symbol(i64),
    UnknownSymbol(i64),
    /// With the bytes from the first bad one to the end of the string.
    Utf8(usize),
    Absent,
    Refused(String),
    Nested,
    Full,
}

impl From<Full> for Flaw {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

impl Flaw {
    #[cold]
    fn fault(self, field: &str, at: usize) -> Box<Fault> {
        let (reason, at, what) = match self {
            Self::Ended => (Reason::Truncated, at, "the message ends in the value".to_owned()),
            Self::Varint => (Reason::Malformed, at, "a number of more than 64 bits".to_owned()),
            Self::Range(value) => (Reason::Malformed, at, format!("{value} is out of range")),
            Self::Length(length) => (Reason::Malformed, at, format!("{length} is no length")),
            Self::Boolean(byte) => (Reason::Malformed, at, format!("{byte} is no boolean")),
            Self::Branch(index) => (Reason::Malformed, at, format!("the union has no branch {index}")),
            Self::Symbol(index) => (Reason::Malformed, at, format!("the enum has no symbol {index}")),
            Self::UnknownSymbol(index) => (
                Reason::IncompatibleSchema,
                at,
                format!("the contract does not know symbol {index} of the writer's enum"),
            ),
            Self::Utf8(left) => (Reason::InvalidUtf8, at.saturating_sub(left), "not UTF-8".to_owned()),
            Self::Absent => (Reason::MissingField, at, "null, but the contract requires a value".to_owned()),
            Self::Refused(what) => (Reason::IncompatibleSchema, at, what),
            Self::Nested => (Reason::Malformed, at, "nested too deeply, or more items than bytes".to_owned()),
            Self::Full => (Reason::Malformed, at, "the batch's values of this column exceed 2 GiB".to_owned()),
        };
        Box::new(Fault { reason, detail: format!("field `{field}` (byte {at}): {what}") })
    }
}

const DEPTH_MAX: usize = 64;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// An array of nulls may claim any number of items in a few bytes; this bounds the work for a message.
    skips_left: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn long(&mut self) -> Result<i64, Flaw> {
        let first = *self.bytes.get(self.at).ok_or(Flaw::Ended)?;
        self.at += 1;
        let raw = if first < 0x80 { u64::from(first) } else { self.long_rest(first)? };
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    #[inline]
    fn long_rest(&mut self, first: u8) -> Result<u64, Flaw> {
        let mut raw = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = *self.bytes.get(self.at).ok_or(Flaw::Ended)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return Err(Flaw::Varint);
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(raw);
            }
            shift += 7;
        }
    }

    #[inline]
    fn int(&mut self) -> Result<i32, Flaw> {
        let value = self.long()?;
        i32::try_from(value).map_err(|_| Flaw::Range(value))
    }

    #[inline]
    fn boolean(&mut self) -> Result<bool, Flaw> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Flaw::Boolean(other)),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let rest = self.bytes.get(self.at..).ok_or(Flaw::Ended)?;
        let array = rest.first_chunk::<N>().ok_or(Flaw::Ended)?;
        self.at += N;
        Ok(*array)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.long()?;
        let wanted = i32::try_from(length).ok().and_then(|length| usize::try_from(length).ok());
        self.take(wanted.ok_or(Flaw::Length(length))?)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let end = self.at.checked_add(length).ok_or(Flaw::Ended)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Flaw::Ended)?;
        self.at = end;
        Ok(bytes)
    }

    /// Passes over a value that the contract does not have.
    fn skip(&mut self, schema: &Schema, ty: &Type, depth: usize) -> Result<(), Flaw> {
        self.skips_left = self.skips_left.checked_sub(1).filter(|_| depth < DEPTH_MAX).ok_or(Flaw::Nested)?;
        let depth = depth + 1;
        match ty {
            Type::Primitive(primitive, _) => self.skip_primitive(*primitive),
            Type::Array(items) => self.skip_blocks(|cursor| cursor.skip(schema, items, depth)),
            Type::Map(values) => self.skip_blocks(|cursor| {
                cursor.bytes()?;
                cursor.skip(schema, values, depth)
            }),
            Type::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                self.skip(schema, branch.ok_or(Flaw::Branch(index))?, depth)
            }
            Type::Named(index) => match schema.named.get(*index) {
                Some(Named::Record(record)) => {
                    record.fields.iter().try_for_each(|field| self.skip(schema, &field.ty, depth))
                }
                Some(Named::Enum(declared)) => {
                    let index = self.long()?;
                    let known = usize::try_from(index).is_ok_and(|index| index < declared.symbols.len());
                    if known { Ok(()) } else { Err(Flaw::Symbol(index)) }
                }
                Some(Named::Fixed { bytes, .. }) => self.take(*bytes).map(drop),
                None => Err(Flaw::Nested),
            },
        }
    }

    fn skip_primitive(&mut self, primitive: Primitive) -> Result<(), Flaw> {
        match primitive {
            Primitive::Null => Ok(()),
            Primitive::Boolean => self.boolean().map(drop),
            Primitive::Int => self.int().map(drop),
            Primitive::Long => self.long().map(drop),
            Primitive::Float => self.take(4).map(drop),
            Primitive::Double => self.take(8).map(drop),
            Primitive::Bytes | Primitive::String => self.bytes().map(drop),
        }
    }

    fn skip_blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // A negative count is followed by the block's length in bytes.
                self.bytes()?;
                continue;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }
}
