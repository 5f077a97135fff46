use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

/// The schema with text in the place of lists, structs and maps, where `is_flattened` says so.
#[must_use]
pub fn flat_schema(schema: &Schema, is_flattened: impl Fn(&DataType) -> bool) -> SchemaRef {
    let flat = |field: &Arc<Field>| match field.data_type() {
        kind if kind.is_nested() && is_flattened(kind) => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        _ => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(flat).collect::<Vec<_>>()))
}

/// Rows in a schema that [`flat_schema`] made: nested values are JSON text.
///
/// # Errors
/// When a value has no JSON.
pub fn flatten(batch: &RecordBatch, flat: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(flat.fields()).zip(batch.columns()).map(|((field, wanted), column)| {
        if !field.data_type().is_nested() || wanted.data_type().is_nested() {
            return Ok(column.clone());
        }
        let options = EncoderOptions::default().with_explicit_nulls(true);
        let mut encoder = make_encoder(field, column.as_ref(), &options)?;
        let mut texts = StringBuilder::new();
        let mut json = Vec::new();
        for row in 0..column.len() {
            if column.is_null(row) {
                texts.append_null();
                continue;
            }
            json.clear();
            encoder.encode(row, &mut json);
            texts.append_value(String::from_utf8_lossy(&json));
        }
        Ok(Arc::new(texts.finish()) as ArrayRef)
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(flat.clone(), columns, &options)
}
