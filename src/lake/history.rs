use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;

use super::data_file::DataFile;
use super::reader::{FileReader, RangeFilter};
use crate::domain::schema::EPOCH;
use crate::domain::{History, HistoryError};

/// What came before: the table's files, and the rows that are refined but not written yet. A clone shares the rows.
#[derive(Clone)]
pub struct FileHistory {
    reader: FileReader,
    event_time: String,
    files: Vec<Arc<DataFile>>,
    /// Rows of later epochs in the files are not the past.
    up_to: i64,
    pending: Vec<Pending>,
}

/// Rows in memory, with their epoch and their smallest and largest event time.
#[derive(Clone)]
struct Pending {
    epoch: i64,
    rows: RecordBatch,
    min: i64,
    max: i64,
}

impl Pending {
    fn meets(&self, from_us: i64, to_us: i64) -> bool {
        self.max >= from_us && self.min < to_us
    }
}

impl FileHistory {
    #[must_use]
    pub fn new(reader: FileReader, event_time: impl Into<String>) -> Self {
        Self { reader, event_time: event_time.into(), files: Vec::new(), up_to: i64::MAX, pending: Vec::new() }
    }

    /// Files that are written but belong to no epoch yet: those of a rebuild under way.
    pub fn add_files(&mut self, files: impl Iterator<Item = DataFile>) {
        self.files.extend(files.map(Arc::new));
    }

    /// Rows of an epoch that now count as the past.
    pub fn push(&mut self, epoch: i64, rows: RecordBatch) {
        if let Some((min, max)) = self.bounds(&rows) {
            self.pending.push(Pending { epoch, rows, min, max });
        }
    }

    /// The table consists of these files, which hold the rows of every epoch up to `epoch`.
    pub fn written(&mut self, epoch: i64, files: impl IntoIterator<Item = impl Into<Arc<DataFile>>>) {
        self.files = files.into_iter().map(Into::into).collect();
        self.up_to = i64::MAX;
        self.pending.retain(|pending| pending.epoch > epoch);
    }

    /// As [`written`](Self::written), for files that hold rows of later epochs too: those are still to come.
    pub fn reached(&mut self, epoch: i64, files: impl IntoIterator<Item = impl Into<Arc<DataFile>>>) {
        self.written(epoch, files);
        self.files.retain(|file| file.may_contain(EPOCH, i64::MIN, epoch.saturating_add(1)));
        self.up_to = epoch;
    }

    /// The rows of a file that are of the past, and within a span of event time, as they are read.
    fn read<'a>(
        &'a self,
        file: &DataFile,
        from_us: i64,
        to_us: i64,
        columns: &[&str],
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, HistoryError>> + 'a>, HistoryError> {
        let range = RangeFilter { column: self.event_time.clone(), from: from_us, to: to_us };
        let all_past = file.ranges.get(EPOCH).is_none_or(|(_, last)| *last <= self.up_to);
        let mut wanted = columns.to_vec();
        if !all_past {
            wanted.push(EPOCH);
        }
        let kept: Vec<usize> = (0..columns.len()).collect();
        let past = move |rows: RecordBatch| {
            if all_past {
                return Ok(rows);
            }
            let epochs = rows.column(kept.len()).as_primitive::<Int64Type>();
            let keep: arrow::array::BooleanArray =
                epochs.iter().map(|epoch| Some(epoch.is_some_and(|e| e <= self.up_to))).collect();
            arrow::compute::filter_record_batch(&rows, &keep)
                .and_then(|rows| rows.project(&kept))
                .map_err(|e| self.error(e))
        };
        let batches = self.reader.open(file, &wanted, Some(range)).map_err(|e| self.error(e))?;
        Ok(Box::new(batches.map(move |rows| rows.map_err(|e| self.error(e)).and_then(&past))))
    }

    fn pending(
        &self,
        from_us: i64,
        to_us: i64,
        columns: &[&str],
    ) -> impl Iterator<Item = Result<RecordBatch, HistoryError>> {
        let meeting = self.pending.iter().filter(move |pending| pending.meets(from_us, to_us));
        meeting.map(move |pending| {
            let batch = &pending.rows;
            let times = batch
                .column_by_name(&self.event_time)
                .and_then(|column| column.as_any().downcast_ref::<arrow::array::TimestampMicrosecondArray>())
                .ok_or_else(|| self.error(format!("no column `{}`", self.event_time)))?;
            let keep: arrow::array::BooleanArray =
                times.iter().map(|at| Some(at.is_some_and(|at| at >= from_us && at < to_us))).collect();
            let kept = if keep.true_count() == batch.num_rows() {
                batch.clone()
            } else {
                arrow::compute::filter_record_batch(batch, &keep).map_err(|e| self.error(e))?
            };
            let indices = columns
                .iter()
                .map(|name| kept.schema().index_of(name))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| self.error(e))?;
            kept.project(&indices).map_err(|e| self.error(e))
        })
    }

    fn bounds(&self, batch: &RecordBatch) -> Option<(i64, i64)> {
        let column = batch.column_by_name(&self.event_time)?;
        let times = column.as_any().downcast_ref::<arrow::array::TimestampMicrosecondArray>()?;
        Some((arrow::compute::min(times)?, arrow::compute::max(times)?))
    }

    fn error(&self, cause: impl std::fmt::Display) -> HistoryError {
        HistoryError { table: self.reader.table().to_string(), cause: cause.to_string() }
    }
}

impl History for FileHistory {
    fn scan(&self, from_us: i64, to_us: i64, columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        let mut found = Vec::new();
        self.visit(from_us, to_us, columns, &mut |rows| {
            found.push(rows);
            true
        })?;
        Ok(found)
    }

    fn visit(
        &self,
        from_us: i64,
        to_us: i64,
        columns: &[&str],
        each: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), HistoryError> {
        for file in self.files.iter().filter(|file| file.may_contain(&self.event_time, from_us, to_us)) {
            for rows in self.read(file, from_us, to_us, columns)? {
                let rows = rows?;
                if rows.num_rows() > 0 && !each(rows) {
                    return Ok(());
                }
            }
        }
        for rows in self.pending(from_us, to_us, columns) {
            if !each(rows?) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn may_contain(&self, from_us: i64, to_us: i64) -> bool {
        self.files.iter().any(|file| file.may_contain(&self.event_time, from_us, to_us))
            || self.pending.iter().any(|pending| pending.meets(from_us, to_us))
    }
}
