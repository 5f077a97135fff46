use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

pub(super) fn without(schema: &SchemaRef, names: &[String]) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| !names.contains(field.name())).cloned();
    Arc::new(Schema::new(kept.collect::<Vec<_>>()))
}

/// The spec's fields that the standing table has, in the spec's order.
pub(super) fn standing_schema(standing: &Schema, wanted: &SchemaRef) -> Result<SchemaRef, String> {
    for field in standing.fields() {
        let Ok(defined) = wanted.field_with_name(field.name()) else {
            return Err(format!(
                "the table has a column `{}` that its definition no longer has; restore the definition, or `assay rebuild` into a new lake",
                field.name()
            ));
        };
        if !same_type(field.data_type(), defined.data_type()) {
            return Err(format!(
                "the column `{}` is {} in the table and {} in its definition; restore the definition, or use a new lake",
                field.name(),
                field.data_type(),
                defined.data_type()
            ));
        }
    }
    let kept = wanted.fields().iter().filter(|field| standing.field_with_name(field.name()).is_ok()).cloned();
    Ok(Arc::new(Schema::new(kept.collect::<Vec<_>>())))
}

/// Whether a column read back (views, other names of list items, zones) is the one defined.
fn same_type(read: &DataType, defined: &DataType) -> bool {
    match (read, defined) {
        (DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8, DataType::Utf8) => true,
        (DataType::Binary | DataType::BinaryView | DataType::LargeBinary, DataType::Binary) => true,
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        (DataType::List(read), DataType::List(defined)) => same_type(read.data_type(), defined.data_type()),
        (DataType::Struct(read), DataType::Struct(defined)) => {
            read.len() == defined.len()
                && read
                    .iter()
                    .zip(defined)
                    .all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()))
        }
        (read, defined) => read == defined,
    }
}

/// Picks the columns of `schema` from a batch, casting where only the representation differs.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let pick = |field: &Arc<Field>| {
        let Some(column) = batch.column_by_name(field.name()) else {
            return if field.is_nullable() {
                Ok(new_null_array(field.data_type(), batch.num_rows()))
            } else {
                Err(format!("the rows lack the column `{}`", field.name()))
            };
        };
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        arrow::compute::cast(column, field.data_type()).map_err(|e| format!("column `{}`: {e}", field.name()))
    };
    let columns = schema.fields().iter().map(pick).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| e.to_string())
}
