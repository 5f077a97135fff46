use std::collections::HashSet;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};

use super::data_file::DataFile;
use super::error::LakeError;
use super::reader::FileReader;

/// Which files go, and the rows of theirs that stay.
#[derive(Debug, Default)]
pub struct Replacement {
    pub removes: Vec<String>,
    pub kept: Vec<RecordBatch>,
    pub rows_removed: usize,
}

/// Finds the files that hold any of the rows `gone` (told apart by `key`), and reads what else is in them.
///
/// # Errors
/// When a file cannot be read.
pub fn replace_rows<'a>(
    reader: &FileReader,
    files: impl Iterator<Item = &'a DataFile>,
    gone: &RecordBatch,
    key: &[String],
) -> Result<Replacement, LakeError> {
    let error = |e: &dyn std::fmt::Display| LakeError::read(reader.table(), e);
    let mut replacement = Replacement::default();
    if gone.num_rows() == 0 {
        return Ok(replacement);
    }
    let fields = key
        .iter()
        .map(|name| gone.schema().field_with_name(name).map(|field| SortField::new(field.data_type().clone())))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(&e))?;
    let converter = RowConverter::new(fields).map_err(|e| error(&e))?;
    let rows_of = |batch: &RecordBatch| -> Result<arrow::row::Rows, LakeError> {
        let columns = key
            .iter()
            .map(|name| batch.column_by_name(name).cloned().ok_or_else(|| error(&format!("no column `{name}`"))))
            .collect::<Result<Vec<_>, _>>()?;
        converter.convert_columns(&columns).map_err(|e| error(&e))
    };
    let gone_rows: HashSet<OwnedRow> = rows_of(gone)?.iter().map(|row| row.owned()).collect();
    let window = key.first().map(String::as_str).unwrap_or_default();
    let times: Option<(i64, i64)> = gone
        .column_by_name(window)
        .and_then(|column| column.as_any().downcast_ref::<arrow::array::TimestampMicrosecondArray>())
        .and_then(|times| Some((arrow::compute::min(times)?, arrow::compute::max(times)?)));
    for file in files {
        if times.is_some_and(|(min, max)| !file.may_contain(window, min, max + 1)) {
            continue;
        }
        let batches = reader.read(file, &reader.columns(), None)?;
        let mut hit = false;
        let mut kept = Vec::with_capacity(batches.len());
        for batch in &batches {
            let keep: BooleanArray =
                rows_of(batch)?.iter().map(|row| Some(!gone_rows.contains(&row.owned()))).collect();
            let removed = batch.num_rows() - keep.true_count();
            replacement.rows_removed += removed;
            hit |= removed > 0;
            kept.push(filter_record_batch(batch, &keep).map_err(|e| error(&e))?);
        }
        if hit {
            replacement.removes.push(file.path.clone());
            replacement.kept.extend(kept);
        }
    }
    Ok(replacement)
}
