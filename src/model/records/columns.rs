//! Rows of structs, column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;

/// Columns of as many rows.
#[derive(Debug, Default)]
pub(super) struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn add(mut self, name: &str, nullable: bool, array: ArrayRef) -> Self {
        self.fields.push(Field::new(name, array.data_type().clone(), nullable));
        self.arrays.push(array);
        self
    }

    pub(super) fn text<'a>(self, name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        self.add(name, false, Arc::new(values.map(Some).collect::<StringArray>()))
    }

    pub(super) fn optional_text(self, name: &str, values: impl Iterator<Item = Option<String>>) -> Self {
        self.add(name, true, Arc::new(values.collect::<StringArray>()))
    }

    pub(super) fn instant(self, name: &str, values: impl Iterator<Item = i64>) -> Self {
        let array = TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC");
        self.add(name, false, Arc::new(array))
    }

    pub(super) fn optional_instant(self, name: &str, values: impl Iterator<Item = Option<i64>>) -> Self {
        self.add(name, true, Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
    }

    pub(super) fn count(self, name: &str, values: impl Iterator<Item = u64>) -> Self {
        let array = Int64Array::from_iter_values(values.map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
        self.add(name, false, Arc::new(array))
    }

    pub(super) fn optional_count(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        let count = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        self.add(name, true, Arc::new(values.map(count).collect::<Int64Array>()))
    }

    pub(super) fn number(self, name: &str, values: impl Iterator<Item = i32>) -> Self {
        self.add(name, false, Arc::new(Int32Array::from_iter_values(values)))
    }

    pub(super) fn optional_epoch(self, name: &str, values: impl Iterator<Item = Option<i64>>) -> Self {
        self.add(name, true, Arc::new(values.collect::<Int64Array>()))
    }

    pub(super) fn real(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Self {
        // A row that is not equal to itself would be written again and again.
        let array: Float64Array = values.map(|value| value.filter(|value| !value.is_nan())).collect();
        self.add(name, true, Arc::new(array))
    }

    pub(super) fn flag(self, name: &str, values: impl Iterator<Item = bool>) -> Self {
        self.add(name, false, Arc::new(values.map(Some).collect::<BooleanArray>()))
    }

    pub(super) fn rows(self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)
    }
}
