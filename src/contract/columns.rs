//! Rows on their way into Arrow columns; a row that turns out bad is taken back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Float32Array, Float64Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use super::field::{ContractField, Fill, Kind, Physical, Slot};

/// The columns of a batch, grouped by physical type so that a reader knows the type when it knows the place.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub bools: Vec<Column<bool>>,
    pub i32s: Vec<Column<i32>>,
    pub i64s: Vec<Column<i64>>,
    pub f32s: Vec<Column<f32>>,
    pub f64s: Vec<Column<f64>>,
    pub bytes: Vec<BytesColumn>,
}

#[derive(Debug)]
pub(super) struct Column<T> {
    values: Vec<T>,
    valid: Option<BooleanBufferBuilder>,
}

#[derive(Debug)]
pub(super) struct BytesColumn {
    offsets: Vec<i32>,
    data: Vec<u8>,
    valid: Option<BooleanBufferBuilder>,
}

/// A batch's strings of one column exceed what 32-bit offsets can address.
#[derive(Debug)]
pub(super) struct Full;

impl Columns {
    /// `row_bytes[i]` is the expected length of a value in the i-th column of bytes.
    pub(super) fn new(fields: &[ContractField], rows: usize, row_bytes: &[usize]) -> Self {
        let mut columns = Self::default();
        for field in fields {
            let valid = field.has_validity();
            match field.slot.physical {
                Physical::Bool => columns.bools.push(Column::new(valid, rows)),
                Physical::I32 => columns.i32s.push(Column::new(valid, rows)),
                Physical::I64 => columns.i64s.push(Column::new(valid, rows)),
                Physical::F32 => columns.f32s.push(Column::new(valid, rows)),
                Physical::F64 => columns.f64s.push(Column::new(valid, rows)),
                Physical::Bytes => {
                    let each = row_bytes.get(columns.bytes.len()).copied().unwrap_or_default();
                    columns.bytes.push(BytesColumn::new(valid, rows, each.saturating_mul(rows)));
                }
            }
        }
        columns
    }

    /// Forgets all rows but the first `rows`.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.bools.iter_mut().for_each(|column| column.truncate(rows));
        self.i32s.iter_mut().for_each(|column| column.truncate(rows));
        self.i64s.iter_mut().for_each(|column| column.truncate(rows));
        self.f32s.iter_mut().for_each(|column| column.truncate(rows));
        self.f64s.iter_mut().for_each(|column| column.truncate(rows));
        self.bytes.iter_mut().for_each(|column| column.truncate(rows));
    }

    pub(super) fn push_null(&mut self, slot: Slot) {
        let at = slot.index;
        match slot.physical {
            Physical::Bool => self.bools[at].push_null(),
            Physical::I32 => self.i32s[at].push_null(),
            Physical::I64 => self.i64s[at].push_null(),
            Physical::F32 => self.f32s[at].push_null(),
            Physical::F64 => self.f64s[at].push_null(),
            Physical::Bytes => self.bytes[at].push_null(),
        }
    }

    pub(super) fn push_fill(&mut self, slot: Slot, fill: &Fill) -> Result<(), Full> {
        let at = slot.index;
        match fill {
            Fill::Null => self.push_null(slot),
            Fill::Bool(value) => self.bools[at].push(*value),
            Fill::I32(value) => self.i32s[at].push(*value),
            Fill::I64(value) => self.i64s[at].push(*value),
            Fill::F32(value) => self.f32s[at].push(*value),
            Fill::F64(value) => self.f64s[at].push(*value),
            Fill::Bytes(value) => return self.bytes[at].push(value),
        }
        Ok(())
    }

    /// The average length of a value in each column of bytes, rounded up.
    pub(super) fn row_bytes(&self) -> Vec<usize> {
        let average = |column: &BytesColumn| column.data.len().div_ceil(column.offsets.len().max(1));
        self.bytes.iter().map(average).collect()
    }

    /// The arrays in the order of `fields`, which must be those of [`new`](Self::new).
    ///
    /// # Errors
    /// When a string is not UTF-8.
    pub(super) fn finish(mut self, fields: &[ContractField]) -> Result<Vec<ArrayRef>, ArrowError> {
        fields.iter().map(|field| self.take(field)).collect()
    }

    fn take(&mut self, field: &ContractField) -> Result<ArrayRef, ArrowError> {
        let at = field.slot.index;
        Ok(match field.kind {
            Kind::Boolean => {
                let (values, nulls) = self.bools[at].take();
                Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls))
            }
            Kind::Int => {
                let (values, nulls) = self.i32s[at].take();
                Arc::new(Int32Array::try_new(values.into(), nulls)?)
            }
            Kind::Date => {
                let (values, nulls) = self.i32s[at].take();
                Arc::new(Date32Array::try_new(values.into(), nulls)?)
            }
            Kind::Long => {
                let (values, nulls) = self.i64s[at].take();
                Arc::new(Int64Array::try_new(values.into(), nulls)?)
            }
            Kind::TimestampMillis | Kind::TimestampMicros => {
                let (values, nulls) = self.i64s[at].take();
                Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?.with_timezone("UTC"))
            }
            Kind::Float => {
                let (values, nulls) = self.f32s[at].take();
                Arc::new(Float32Array::try_new(values.into(), nulls)?)
            }
            Kind::Double => {
                let (values, nulls) = self.f64s[at].take();
                Arc::new(Float64Array::try_new(values.into(), nulls)?)
            }
            Kind::String | Kind::Enum { .. } => {
                let (offsets, data, nulls) = self.bytes[at].take();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Kind::Bytes => {
                let (offsets, data, nulls) = self.bytes[at].take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
        })
    }
}

impl<T: Copy + Default> Column<T> {
    fn new(valid: bool, rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), valid: valid.then(|| BooleanBufferBuilder::new(rows)) }
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
        if let Some(valid) = &mut self.valid {
            valid.append(true);
        }
    }

    fn push_null(&mut self) {
        self.values.push(T::default());
        if let Some(valid) = &mut self.valid {
            valid.append(false);
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
    }

    fn take(&mut self) -> (Vec<T>, Option<NullBuffer>) {
        (std::mem::take(&mut self.values), nulls(&mut self.valid))
    }
}

impl BytesColumn {
    fn new(valid: bool, rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, data: Vec::with_capacity(bytes), valid: valid.then(|| BooleanBufferBuilder::new(rows)) }
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Full> {
        let end = i32::try_from(self.data.len() + value.len()).map_err(|_| Full)?;
        self.data.extend_from_slice(value);
        self.offsets.push(end);
        if let Some(valid) = &mut self.valid {
            valid.append(true);
        }
        Ok(())
    }

    fn push_null(&mut self) {
        let end = self.end();
        self.offsets.push(end);
        if let Some(valid) = &mut self.valid {
            valid.append(false);
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data.truncate(usize::try_from(self.end()).unwrap_or_default());
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
    }

    fn end(&self) -> i32 {
        self.offsets.last().copied().unwrap_or_default()
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::take(&mut self.offsets)));
        (offsets, Buffer::from_vec(std::mem::take(&mut self.data)), nulls(&mut self.valid))
    }
}

fn nulls(valid: &mut Option<BooleanBufferBuilder>) -> Option<NullBuffer> {
    valid.take().map(|mut valid| NullBuffer::new(valid.finish()))
}
