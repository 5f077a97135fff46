//! The rows of bronze or silver in the order in which they arrived.
//!
//! Both are cut into days, silver by event time: an epoch around midnight lies in two folders, and within it the rows of
//! both days came mixed. Running counts depend on that order, so whoever computes them again must restore it.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::error::PipelineError;
use super::recover::in_order;
use super::tables::Tables;
use crate::domain::{EpochKind, schema};
use crate::lake::{DataFile, FileReader, LakeError, RangeFilter};

/// The files of a table, read epoch by epoch.
pub struct Arrivals {
    reader: FileReader,
    files: Vec<DataFile>,
    /// Bronze, where the rows' order is not in the table itself.
    order: Option<Box<Arrivals>>,
}

/// Where a message came from, with its topic as a number.
type Place = (usize, i32, i64);

impl Arrivals {
    #[must_use]
    pub fn of_bronze(tables: &Tables) -> Self {
        let files = in_order(tables.bronze.files()).into_iter().cloned().collect();
        Self { reader: tables.reader(&tables.bronze), files, order: None }
    }

    #[must_use]
    pub fn of_silver(tables: &Tables) -> Self {
        let files = in_order(tables.silver.files()).into_iter().cloned().collect();
        Self { reader: tables.reader(&tables.silver), files, order: Some(Box::new(Self::of_bronze(tables))) }
    }

    #[must_use]
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The rows of some epochs. Blocking.
    ///
    /// # Errors
    /// When a file cannot be read, or a row of silver is not in bronze.
    pub fn rows(&self, epochs: &Range<i64>) -> Result<Vec<RecordBatch>, PipelineError> {
        self.columns(epochs, &self.reader.columns())
    }

    /// As [`rows`](Self::rows), a batch at a time where the files have the order already; it ends early when `each` says
    /// `false`. Blocking.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn visit(&self, epochs: &Range<i64>, mut each: impl FnMut(RecordBatch) -> bool) -> Result<(), PipelineError> {
        let files = self.meeting(epochs).collect::<Vec<_>>();
        if files.windows(2).any(|pair| pair[0].partition != pair[1].partition) {
            self.rows(epochs)?.into_iter().all(each);
            return Ok(());
        }
        for file in files {
            for rows in self.reader.open(file, &self.reader.columns(), Some(range(epochs)))? {
                let rows = rows.map_err(|cause| LakeError::read(self.reader.table(), cause))?;
                if rows.num_rows() > 0 && !each(rows) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn columns(&self, epochs: &Range<i64>, columns: &[&str]) -> Result<Vec<RecordBatch>, PipelineError> {
        let (batches, mixed) = self.read(epochs, columns)?;
        let Some(first) = batches.first().filter(|_| mixed) else { return Ok(batches) };
        let rows = concat_batches(&first.schema(), &batches)?;
        let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX)).collect();
        if let Some(bronze) = &self.order {
            let ranks = bronze.ranks(epochs, &rows)?;
            order.sort_by_key(|row| ranks[*row as usize]);
        } else {
            // A micro-batch has one moment; the sort is stable, so that the order within one stays.
            let (epochs, at) = (numbers(&rows, schema::EPOCH)?, instants(&rows)?);
            order.sort_by_key(|row| (epochs[*row as usize], at[*row as usize]));
        }
        Ok(vec![take_record_batch(&rows, &UInt32Array::from(order))?])
    }

    /// The number of each row in the order of this table.
    fn ranks(&self, epochs: &Range<i64>, rows: &RecordBatch) -> Result<Vec<usize>, PipelineError> {
        let columns =
            [schema::SOURCE_TOPIC, schema::SOURCE_PARTITION, schema::SOURCE_OFFSET, schema::EPOCH, schema::INGESTED_AT];
        let (mut topics, mut sequence) = (HashMap::new(), HashMap::new());
        for batch in self.columns(epochs, &columns)? {
            for place in places_of(&batch, &mut topics)? {
                let next = sequence.len();
                sequence.insert(place, next);
            }
        }
        let ranks =
            places_of(rows, &mut topics)?.iter().map(|place| sequence.get(place).copied()).collect::<Option<_>>();
        ranks.ok_or_else(|| PipelineError::State(format!("a row of silver is not in {}", self.reader.table())))
    }

    /// In the order of the files, and whether these lie in more than one folder.
    fn read(&self, epochs: &Range<i64>, columns: &[&str]) -> Result<(Vec<RecordBatch>, bool), PipelineError> {
        let mut batches = Vec::new();
        let mut folder = None;
        let mut mixed = false;
        for file in self.meeting(epochs) {
            mixed |= *folder.get_or_insert(&file.partition) != &file.partition;
            batches.extend(self.reader.read(file, columns, Some(range(epochs)))?);
        }
        Ok((batches, mixed))
    }

    fn meeting(&self, epochs: &Range<i64>) -> impl Iterator<Item = &DataFile> {
        self.files.iter().filter(|file| file.may_contain(schema::EPOCH, epochs.start, epochs.end))
    }
}

fn range(epochs: &Range<i64>) -> RangeFilter {
    RangeFilter { column: schema::EPOCH.into(), from: epochs.start, to: epochs.end }
}

/// Runs of complete epochs of the stream, each of `rows_max` rows of bronze at most or of one epoch. Blocking.
///
/// # Errors
/// When the ledger cannot be read.
pub fn chunks(tables: &Tables, rows_max: usize) -> Result<Vec<Range<i64>>, PipelineError> {
    let rows_max = rows_max as u64;
    let mut chunks: Vec<Range<i64>> = Vec::new();
    let mut rows = u64::MAX;
    for record in tables.ledger.scan(1, i64::MAX)?.iter().filter(|record| record.kind == EpochKind::Stream) {
        rows = rows.saturating_add(record.bronze_rows);
        match chunks.last_mut().filter(|_| rows <= rows_max) {
            Some(chunk) => chunk.end = record.epoch + 1,
            None => {
                chunks.push(record.epoch..record.epoch + 1);
                rows = record.bronze_rows;
            }
        }
    }
    Ok(chunks)
}

fn missing(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("no column `{column}` of its type"))
}

fn numbers<'a>(rows: &'a RecordBatch, column: &str) -> Result<&'a [i64], ArrowError> {
    let found = rows.column_by_name(column).and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok(found.map(Int64Array::values).ok_or_else(|| missing(column))?)
}

fn instants(rows: &RecordBatch) -> Result<&[i64], ArrowError> {
    let found = rows.column_by_name(schema::INGESTED_AT).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    Ok(found.ok_or_else(|| missing(schema::INGESTED_AT))?.values())
}

fn places_of(rows: &RecordBatch, topics: &mut HashMap<String, usize>) -> Result<Vec<Place>, ArrowError> {
    let names: &StringArray = rows
        .column_by_name(schema::SOURCE_TOPIC)
        .and_then(|column| column.as_string_opt::<i32>())
        .ok_or_else(|| missing(schema::SOURCE_TOPIC))?;
    let partitions = rows
        .column_by_name(schema::SOURCE_PARTITION)
        .and_then(|column| column.as_primitive_opt::<Int32Type>())
        .ok_or_else(|| missing(schema::SOURCE_PARTITION))?;
    let offsets = numbers(rows, schema::SOURCE_OFFSET)?;
    let mut topic = |name: &str| match topics.get(name) {
        Some(number) => *number,
        None => {
            let number = topics.len();
            topics.insert(name.to_owned(), number);
            number
        }
    };
    Ok((0..names.len()).map(|row| (topic(names.value(row)), partitions.value(row), offsets[row])).collect())
}
