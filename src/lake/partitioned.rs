//! Rows of one table on their way into Parquet files, one file for each value of the partition column.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{partition, sort_to_indices, take_record_batch};
use arrow::datatypes::{Date32Type, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;

use super::data_file::{Encoded, Encoding, FileWriter, Partition};

/// Rows of a partition that are held back until its file is begun. They say which columns repeat their values, and a
/// file that is open takes memory for each column: of many small partitions only one is open at a time.
const FILE_BEGINS_ROWS: usize = 8 * 1024;

/// Takes rows batch by batch, and encodes them as they come.
#[derive(Debug)]
pub(super) struct PartitionedWriter {
    partition_by: Vec<String>,
    encoding: Encoding,
    parts: BTreeMap<Vec<Option<String>>, Part>,
}

#[derive(Default)]
struct Part {
    waiting: Vec<RecordBatch>,
    file: Option<FileWriter>,
}

impl PartitionedWriter {
    pub fn new(partition_by: &[String], encoding: &Encoding) -> Self {
        Self { partition_by: partition_by.to_vec(), encoding: encoding.clone(), parts: BTreeMap::new() }
    }

    pub fn write(&mut self, batches: &[RecordBatch]) -> Result<(), String> {
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            for (values, rows) in split(batch, &self.partition_by).map_err(|e| e.to_string())? {
                self.parts.entry(values).or_default().waiting.push(rows);
            }
        }
        for part in self.parts.values_mut() {
            if part.file.is_some() || part.waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= FILE_BEGINS_ROWS
            {
                part.flush(&self.encoding)?;
            }
        }
        Ok(())
    }

    /// Ends all files. `name` makes their names unique.
    pub fn finish(self, name: &str, now_ms: i64) -> Result<Vec<Encoded>, String> {
        let Self { partition_by, encoding, parts } = self;
        let finish = |(values, mut part): (Vec<_>, Part)| {
            part.flush(&encoding)?;
            let partition: Partition = partition_by.iter().cloned().zip(values).collect();
            part.file.map(|file| file.finish(partition, name, now_ms)).transpose()
        };
        parts.into_iter().filter_map(|part| finish(part).transpose()).collect()
    }
}

impl Part {
    fn flush(&mut self, encoding: &Encoding) -> Result<(), String> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(FileWriter::new(&first.schema(), &self.waiting, encoding)?),
        };
        self.waiting.drain(..).try_for_each(|batch| file.write(&batch))
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("waiting", &self.waiting.len()).field("begun", &self.file.is_some()).finish()
    }
}

/// The values of the partition columns, and the rows that have them, without those columns.
type Rows = (Vec<Option<String>>, RecordBatch);

/// Cuts a batch by the values of its partition columns, keeping the order of the rows within each part.
fn split(batch: &RecordBatch, partition_by: &[String]) -> Result<Vec<Rows>, ArrowError> {
    let schema = batch.schema();
    let [name] = partition_by else {
        return match partition_by {
            [] => Ok(vec![(Vec::new(), batch.clone())]),
            _ => Err(ArrowError::NotYetImplemented("more than one partition column".into())),
        };
    };
    let key = Arc::clone(batch.column(schema.index_of(name)?));
    let kept = batch.project(&kept_columns(&schema, partition_by))?;
    if let Some(days) = key.as_primitive_opt::<Date32Type>()
        && days.null_count() == 0
        && days.values().iter().all(|day| *day == days.value(0))
    {
        return Ok(vec![(vec![value(&key, 0)?], kept)]);
    }
    // A stable order: equal keys stay in the order of arrival.
    let unstable = sort_to_indices(&key, None, None)?;
    let mut order: Vec<u32> = unstable.values().to_vec();
    let sorted = arrow::compute::take(&key, &unstable, None)?;
    let mut parts = Vec::new();
    for range in partition(&[sorted])?.ranges() {
        let rows = &mut order[range];
        rows.sort_unstable();
        let label = value(&key, rows[0] as usize)?;
        parts.push((vec![label], take_record_batch(&kept, &UInt32Array::from(rows.to_vec()))?));
    }
    Ok(parts)
}

/// The columns that stand in the files: Delta keeps partition columns in the log.
pub(super) fn kept_columns(schema: &Schema, partition_by: &[String]) -> Vec<usize> {
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| !partition_by.contains(field.name())).map(|(column, _)| column).collect()
}

fn value(key: &ArrayRef, row: usize) -> Result<Option<String>, ArrowError> {
    if key.is_null(row) { Ok(None) } else { array_value_to_string(key, row).map(Some) }
}
