//! Parquet, whose columns say themselves what they are.

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Cells, Column, Kind, Planned, TableError, open, unreadable};

type Builder = ParquetRecordBatchReaderBuilder<std::fs::File>;

pub(super) fn names(path: &str) -> Result<Vec<String>, TableError> {
    Ok(builder(path)?.schema().fields().iter().map(|field| field.name().clone()).collect())
}

pub(super) fn look(path: &str, plan: &mut [Planned]) -> Result<(), TableError> {
    let builder = builder(path)?;
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    for planned in plan {
        if let Ok(field) = builder.schema().field_with_name(&planned.name) {
            planned.declared(kind_of(field.data_type()), rows);
        }
    }
    Ok(())
}

/// Adds the rows of the file to the columns, and returns how many.
pub(super) fn read(path: &str, columns: &mut [Column]) -> Result<usize, TableError> {
    let builder = builder(path)?;
    let schema = builder.schema().clone();
    for column in columns.iter() {
        let field = schema.field_with_name(&column.name).map_err(|cause| unreadable(path, cause))?;
        let (found, wanted) = (kind_of(field.data_type()), column.cells.kind());
        // Text holds any kind; that columns of several files agree was seen to before.
        if wanted != Kind::Other && wanted != found && wanted != Kind::Text {
            let (file, column, found) = (path.to_owned(), column.name.clone(), field.data_type().to_string());
            return Err(TableError::Type { file, column, found, must_be: wanted.to_string() });
        }
    }
    let read = columns.iter().filter(|column| column.cells.kind() != Kind::Other).map(|column| column.name.as_str());
    let mask = ProjectionMask::roots(
        builder.parquet_schema(),
        read.filter_map(|name| schema.index_of(name).ok()).collect::<Vec<_>>(),
    );
    let mut rows = 0;
    for batch in builder.with_projection(mask).build().map_err(|cause| unreadable(path, cause))? {
        let batch = batch.map_err(|cause| unreadable(path, cause))?;
        for column in columns.iter_mut().filter(|column| column.cells.kind() != Kind::Other) {
            let Some(array) = batch.column_by_name(&column.name) else { continue };
            push(path, rows, column, array)?;
        }
        rows += batch.num_rows();
    }
    Ok(rows)
}

/// Adds cells to a column; `before` rows are in it.
pub(super) fn push(path: &str, before: usize, column: &mut Column, array: &ArrayRef) -> Result<(), TableError> {
    let as_type = |kind: &DataType| cast(array, kind).map_err(|cause| unreadable(path, cause));
    match &mut column.cells {
        Cells::Numbers(values) => {
            let array = as_type(&DataType::Float64)?;
            for (row, value) in array.as_primitive::<Float64Type>().iter().enumerate() {
                let value = value.unwrap_or(f64::NAN);
                if value.is_infinite() {
                    return Err(TableError::Cell {
                        file: path.to_owned(),
                        row: before + row + 1,
                        column: column.name.clone(),
                        value: value.to_string(),
                        must_be: "a finite number".into(),
                    });
                }
                values.push(value);
            }
        }
        Cells::Booleans(values) => values.extend(as_type(&DataType::Boolean)?.as_boolean().iter()),
        Cells::Times(values) => {
            let array = as_type(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            values.extend(array.as_primitive::<TimestampMicrosecondType>().iter());
        }
        Cells::Texts(texts) => {
            let array = as_type(&DataType::Utf8)?;
            array.as_string::<i32>().iter().for_each(|text| texts.push(text));
        }
        Cells::Other => {}
    }
    Ok(())
}

pub(super) fn kind_of(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Boolean,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Kind::Time,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Dictionary(_, values) => kind_of(values),
        numeric if numeric.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

fn builder(path: &str) -> Result<Builder, TableError> {
    Builder::try_new(open(path)?).map_err(|cause| unreadable(path, cause))
}
