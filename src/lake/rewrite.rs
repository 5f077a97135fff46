//! Putting rows in the place of those with their key.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};

use super::data_file::DataFile;
use super::error::LakeError;
use super::reader::FileReader;

/// Rows that are to replace those with the same key, told apart by it.
pub struct Revision {
    key: Vec<String>,
    rows: RecordBatch,
    keys: Rows,
    converter: RowConverter,
    /// Values of the first column of the key, where it is an instant: what files are pruned by.
    instants: Option<BTreeSet<i64>>,
}

impl Revision {
    /// Of rows with one key, the last counts.
    ///
    /// # Errors
    /// When the rows lack a column of the key.
    pub fn new(batches: &[RecordBatch], key: &[String]) -> Result<Option<Self>, ArrowError> {
        let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
        let all = concat_batches(&first.schema(), batches)?;
        let fields = key
            .iter()
            .map(|name| Ok(SortField::new(all.schema().field_with_name(name)?.data_type().clone())))
            .collect::<Result<_, ArrowError>>()?;
        let converter = RowConverter::new(fields)?;
        let keys = converter.convert_columns(&columns(&all, key)?)?;
        let last: HashMap<_, u32> = keys.iter().zip(0..).collect();
        let mut kept: Vec<u32> = last.into_values().collect();
        kept.sort_unstable();
        let rows = take_record_batch(&all, &UInt32Array::from(kept))?;
        let keys = converter.convert_columns(&columns(&rows, key)?)?;
        let instants = key
            .first()
            .and_then(|name| rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>().cloned())
            .map(|instants| instants.values().iter().copied().collect());
        Ok(Some(Self { key: key.to_vec(), rows, keys, converter, instants }))
    }

    #[must_use]
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Reads the files that hold any of the keys, one after the other, and hands over each with its rows revised, in
    /// their order. Gives the rows whose key stood nowhere.
    ///
    /// # Errors
    /// When a file cannot be read, or `replaced` fails.
    pub fn apply<'a, E: From<LakeError>>(
        &self,
        reader: &FileReader,
        files: impl Iterator<Item = &'a DataFile>,
        mut replaced: impl FnMut(&'a DataFile, Vec<RecordBatch>) -> Result<(), E>,
    ) -> Result<RecordBatch, E> {
        let error = |e: ArrowError| LakeError::read(reader.table(), e);
        let places: HashMap<_, usize> = self.keys.iter().zip(0..).collect();
        let mut stood = vec![false; self.rows.num_rows()];
        for file in files.filter(|file| self.may_touch(file)) {
            let mut hit = false;
            let mut revised = Vec::new();
            for batch in reader.read(file, &reader.columns(), None)? {
                let keys = columns(&batch, &self.key).and_then(|columns| self.converter.convert_columns(&columns));
                let found: Vec<Option<usize>> =
                    keys.map_err(error)?.iter().map(|key| places.get(&key).copied()).collect();
                if found.iter().all(Option::is_none) {
                    revised.push(batch);
                    continue;
                }
                hit = true;
                found.iter().flatten().for_each(|place| stood[*place] = true);
                let indices: Vec<(usize, usize)> =
                    found.iter().enumerate().map(|(row, found)| found.map_or((0, row), |place| (1, place))).collect();
                let rows = self.rows.project(&positions(&self.rows, &batch).map_err(error)?).map_err(error)?;
                let rows = rows.with_schema(batch.schema()).map_err(error)?;
                revised.push(interleave_record_batch(&[&batch, &rows], &indices).map_err(error)?);
            }
            if hit {
                replaced(file, revised)?;
            }
        }
        let new: Vec<u32> = stood.iter().zip(0..).filter(|(stood, _)| !**stood).map(|(_, row)| row).collect();
        Ok(take_record_batch(&self.rows, &UInt32Array::from(new)).map_err(error)?)
    }

    fn may_touch(&self, file: &DataFile) -> bool {
        let (Some(instants), Some(name)) = (&self.instants, self.key.first()) else { return true };
        file.ranges.get(name).is_none_or(|(min, max)| instants.range(*min..=*max).next().is_some())
    }
}

fn columns(batch: &RecordBatch, names: &[String]) -> Result<Vec<arrow::array::ArrayRef>, ArrowError> {
    names.iter().map(|name| Ok(batch.column(batch.schema().index_of(name)?).clone())).collect()
}

fn positions(rows: &RecordBatch, of: &RecordBatch) -> Result<Vec<usize>, ArrowError> {
    of.schema().fields().iter().map(|field| rows.schema().index_of(field.name())).collect()
}

/// The name of a file that takes the place of `file`: it sorts where that one stood.
#[must_use]
pub fn successor(file: &DataFile, mark: &str) -> String {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let epoch = name.split(['-', '.']).next().unwrap_or_default();
    format!("{epoch}-{mark}-{}", uuid::Uuid::new_v4().simple())
}
