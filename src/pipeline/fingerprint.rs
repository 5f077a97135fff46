//! Whether two sets of rows are the same, whatever their order: rows are hashed in 128 bits, and the hashes summed up.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::dataframe::DataFrame;
use futures::TryStreamExt;

use super::error::PipelineError;
use crate::domain::schema;

/// How many rows, and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) rows: u64,
    sum: u128,
}

impl Fingerprint {
    /// Of what a query gives, as rows with these columns.
    pub(super) async fn of(frame: DataFrame, schema: &SchemaRef) -> Result<Self, PipelineError> {
        let mut print = Self::default();
        let mut batches = frame.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            hashes(&batch, schema)?.into_iter().for_each(|hash| print.add(hash));
        }
        Ok(print)
    }

    /// Of these rows and others.
    pub(super) fn and(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// Of the rows of each epoch.
#[derive(Debug, Default)]
pub(super) struct ByEpoch {
    pub(super) epochs: BTreeMap<i64, Fingerprint>,
}

impl ByEpoch {
    pub(super) fn add(&mut self, batch: &RecordBatch, schema: &SchemaRef) -> Result<(), PipelineError> {
        let epochs = batch
            .column_by_name(schema::EPOCH)
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .ok_or_else(|| PipelineError::State(format!("no column {}", schema::EPOCH)))?;
        for (hash, epoch) in hashes(batch, schema)?.into_iter().zip(epochs.values()) {
            self.epochs.entry(*epoch).or_default().add(hash);
        }
        Ok(())
    }
}

/// The hash of each row, of the columns of `schema` in their types.
fn hashes(batch: &RecordBatch, schema: &SchemaRef) -> Result<Vec<u128>, PipelineError> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch
                .column_by_name(field.name())
                .ok_or_else(|| PipelineError::State(format!("no column {}", field.name())))?;
            Ok(arrow::compute::cast(column, field.data_type())?)
        })
        .collect::<Result<Vec<_>, PipelineError>>()?;
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
    let (low, high) = (ahash::RandomState::with_seeds(1, 2, 3, 4), ahash::RandomState::with_seeds(5, 6, 7, 8));
    let hash = |row: &[u8]| u128::from(low.hash_one(row)) << 64 | u128::from(high.hash_one(row));
    Ok(rows.iter().map(|row| hash(row.as_ref())).collect())
}
