use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, new_null_array};
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::compute::{and, cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use tokio::runtime::Handle;

use super::data_file::{DataFile, Encoded};
use super::encoder::{Upload, store_file};
use super::error::LakeError;
use super::table::Table;
use crate::domain::TableName;

/// Rows per batch read back from a file.
const BATCH_ROWS: usize = 32 * 1024;

/// A table's files without a snapshot: reads those that the caller names, and stores what a rewrite puts in their place.
///
/// Blocking; call it from a thread that may block.
#[derive(Clone)]
pub struct FileReader {
    table: TableName,
    schema: SchemaRef,
    store: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
    handle: Handle,
}

/// Only rows with a value of `column` in `[from, to)`.
#[derive(Debug, Clone)]
pub struct RangeFilter {
    pub column: String,
    pub from: i64,
    pub to: i64,
}

impl FileReader {
    /// A reader of the files of `table`, with every column of its spec.
    #[must_use]
    pub fn new(table: &Table, handle: Handle) -> Self {
        let url = table.log_store().root_url().to_file_path().ok();
        Self {
            table: table.name().clone(),
            schema: Arc::clone(&table.spec().schema),
            store: Arc::clone(table.store()),
            folder: url,
            handle,
        }
    }

    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// Opens a file for reading the columns named, in that order; columns that the file lacks are null.
    ///
    /// # Errors
    /// When the file cannot be read or a column is unknown.
    pub fn open(&self, file: &DataFile, columns: &[&str], range: Option<RangeFilter>) -> Result<Batches, LakeError> {
        let error = |e: &dyn std::fmt::Display| LakeError::read(&self.table, format!("{}: {e}", file.path));
        let builder = match &self.folder {
            Some(folder) => {
                let opened = std::fs::File::open(folder.join(&file.path)).map_err(|e| error(&e))?;
                Source::Local(ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|e| error(&e))?)
            }
            None => {
                let path = Path::from(file.path.as_str());
                let store = Arc::clone(&self.store);
                let bytes = self
                    .handle
                    .block_on(async move { store.get(&path).await?.bytes().await })
                    .map_err(|e| error(&e))?;
                Source::Remote(ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| error(&e))?)
            }
        };
        let mut wanted: Vec<&str> = columns.to_vec();
        if let Some(range) = &range
            && !wanted.contains(&range.column.as_str())
        {
            wanted.push(&range.column);
        }
        let reader = match builder {
            Source::Local(builder) => project(builder, &wanted, range.as_ref()),
            Source::Remote(builder) => project(builder, &wanted, range.as_ref()),
        }
        .map_err(|e| error(&e))?;
        let fields = wanted
            .iter()
            .map(|name| self.schema.field_with_name(name).cloned())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| error(&e))?;
        let constants = file.partition.clone();
        Ok(Batches {
            reader,
            schema: Arc::new(Schema::new(fields)),
            outputs: columns.len(),
            constants,
            range,
            place: format!("{}: {}", self.table, file.path),
        })
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// As [`open`](Self::open), or when a page is damaged.
    pub fn read(
        &self,
        file: &DataFile,
        columns: &[&str],
        range: Option<RangeFilter>,
    ) -> Result<Vec<RecordBatch>, LakeError> {
        self.open(file, columns, range)?
            .filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0))
            .collect::<Result<_, _>>()
            .map_err(|e| LakeError::read(&self.table, e))
    }

    /// Begins a file of the same store.
    pub(super) fn upload(&self, path: &str) -> Upload<'_> {
        Upload::new(&self.table, &self.store, path, &self.handle)
    }

    /// Stores a file of the table; it is invisible until it is committed. Blocking.
    ///
    /// # Errors
    /// When the store refuses it; the call may be repeated.
    pub fn store(&self, encoded: &Encoded) -> Result<(), LakeError> {
        self.handle.block_on(store_file(self.store.as_ref(), &self.table, encoded))
    }

    /// The names of every column.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }
}

enum Source {
    Local(ParquetRecordBatchReaderBuilder<std::fs::File>),
    Remote(ParquetRecordBatchReaderBuilder<bytes::Bytes>),
}

fn project<T: parquet::file::reader::ChunkReader + 'static>(
    builder: ParquetRecordBatchReaderBuilder<T>,
    columns: &[&str],
    range: Option<&RangeFilter>,
) -> Result<ParquetRecordBatchReader, parquet::errors::ParquetError> {
    let present = columns.iter().copied().filter(|name| builder.schema().field_with_name(name).is_ok());
    let mask = ProjectionMask::columns(builder.parquet_schema(), present);
    let groups = builder.metadata().row_groups().iter().enumerate();
    let groups =
        groups.filter(|(_, group)| range.is_none_or(|range| overlaps(group, range))).map(|(index, _)| index).collect();
    builder.with_projection(mask).with_row_groups(groups).with_batch_size(BATCH_ROWS).build()
}

fn overlaps(group: &RowGroupMetaData, range: &RangeFilter) -> bool {
    let chunk = group.columns().iter().find(|chunk| chunk.column_path().parts() == [range.column.as_str()]);
    match chunk.and_then(|chunk| chunk.statistics()) {
        Some(Statistics::Int64(found)) => match (found.min_opt(), found.max_opt()) {
            (Some(min), Some(max)) => *max >= range.from && *min < range.to,
            _ => true,
        },
        _ => true,
    }
}

/// The rows of one file.
pub struct Batches {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    outputs: usize,
    constants: std::collections::BTreeMap<String, Option<String>>,
    range: Option<RangeFilter>,
    place: String,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(
            batch
                .map_err(|e| e.to_string())
                .and_then(|batch| self.complete(&batch))
                .map_err(|e| format!("{}: {e}", self.place)),
        )
    }
}

impl Batches {
    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let rows = batch.num_rows();
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match (batch.column_by_name(field.name()), self.constants.get(field.name())) {
                (Some(column), _) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
                (Some(column), _) => cast(column, field.data_type()).map_err(|e| e.to_string()),
                (None, Some(Some(value))) => constant(value, field.data_type(), rows),
                (None, _) => Ok(new_null_array(field.data_type(), rows)),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let nullable = Schema::new(
            self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
        );
        let whole =
            RecordBatch::try_new_with_options(Arc::new(nullable), columns, &options).map_err(|e| e.to_string())?;
        let whole = match &self.range {
            Some(range) => filter_record_batch(&whole, &in_range(&whole, range)?).map_err(|e| e.to_string())?,
            None => whole,
        };
        let kept: Vec<usize> = (0..self.outputs).collect();
        let kept = whole.project(&kept).map_err(|e| e.to_string())?;
        let fields: Vec<_> = self.schema.fields().iter().take(self.outputs).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        RecordBatch::try_new_with_options(schema, kept.columns().to_vec(), &options).map_err(|e| e.to_string())
    }
}

fn constant(value: &str, kind: &DataType, rows: usize) -> Result<ArrayRef, String> {
    let one: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let one = cast(&one, kind).map_err(|e| e.to_string())?;
    let zeros = arrow::array::UInt32Array::from(vec![0; rows]);
    arrow::compute::take(&one, &zeros, None).map_err(|e| e.to_string())
}

fn in_range(batch: &RecordBatch, range: &RangeFilter) -> Result<BooleanArray, String> {
    let column = batch.column_by_name(&range.column).ok_or_else(|| format!("no column `{}`", range.column))?;
    let values = cast(column, &DataType::Int64).map_err(|e| e.to_string())?;
    let values: &Int64Array = values.as_primitive::<Int64Type>();
    let from = gt_eq(values, &Int64Array::new_scalar(range.from)).map_err(|e| e.to_string())?;
    let to = lt(values, &Int64Array::new_scalar(range.to)).map_err(|e| e.to_string())?;
    and(&from, &to).map_err(|e| e.to_string())
}
