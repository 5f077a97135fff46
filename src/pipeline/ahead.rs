//! Encoding the rows of an epoch while it lasts: an epoch of a backlog holds files in the making, not rows.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;

use super::error::PipelineError;
use super::tables::Tables;
use super::work::EpochWork;
use crate::domain::TableName;
use crate::lake::{Encoder, Intake, Table};
use crate::refine::window::Phase;

/// Encodes for the tables that get a row for each message.
#[derive(Debug, Clone)]
pub struct EncodeAhead {
    pub(super) bronze: Option<Encoder>,
    pub(super) silver: Option<Encoder>,
    pub(super) rows: Vec<Encoder>,
    pub(super) windows: Vec<Encoder>,
    /// Fewer rows of a table stay with their epoch.
    pub(super) from_rows: usize,
}

impl EncodeAhead {
    /// For the columns that the tables have now.
    #[must_use]
    pub fn new(tables: &Tables, from_rows: usize) -> Self {
        Self::with(tables, from_rows, Table::encoder)
    }

    /// For the columns that the tables will have once a row of a later version of the contract has come; `None` when they
    /// have them already.
    #[must_use]
    pub fn evolved(tables: &Tables, from_rows: usize) -> Option<Self> {
        tables.all().any(Table::lacks_columns).then(|| Self::with(tables, from_rows, Table::evolved_encoder))
    }

    fn with(tables: &Tables, from_rows: usize, encoder: impl Fn(&Table) -> Encoder) -> Self {
        Self {
            bronze: Some(encoder(&tables.bronze)),
            silver: Some(encoder(&tables.silver)),
            rows: tables.rows.iter().map(&encoder).collect(),
            windows: tables.windows.iter().map(encoder).collect(),
            from_rows,
        }
    }

    /// Rows of a window table in one part.
    #[must_use]
    pub fn part_rows(&self) -> usize {
        self.from_rows
    }

    /// Takes a part of the rows of a window table.
    ///
    /// # Errors
    /// When the table is none of those that are written.
    pub fn take_part(
        &self,
        intakes: &mut Intakes,
        table: &TableName,
        phase: Phase,
        rows: RecordBatch,
    ) -> Result<(), PipelineError> {
        let encoder = self.windows.iter().find(|encoder| encoder.table() == table);
        let encoder =
            encoder.ok_or_else(|| PipelineError::Layout(format!("{table} has rows, but is not to be written")))?;
        intakes.of(encoder, phase).push(vec![rows]);
        Ok(())
    }

    /// Takes the rows out of the tables of `work` that have many.
    pub fn take(&self, work: &mut EpochWork) {
        let bronze = self.bronze.iter().zip([&mut work.bronze]);
        let silver = self.silver.iter().zip([&mut work.silver]);
        for (encoder, batches) in bronze.chain(silver).chain(self.rows.iter().zip(&mut work.rows)) {
            if batches.iter().map(RecordBatch::num_rows).sum::<usize>() >= self.from_rows {
                work.intakes.of(encoder, Phase::Closed).push(std::mem::take(batches));
            }
        }
    }
}

/// What is encoded ahead of an epoch's end, by table; rows of open windows go into files of their own.
#[derive(Debug, Default)]
pub struct Intakes(BTreeMap<(TableName, Phase), Intake>);

impl Intakes {
    /// Rows of a table that were taken, but for those of open windows.
    #[must_use]
    pub fn rows(&self, table: &TableName) -> u64 {
        self.0.get(&(table.clone(), Phase::Closed)).map_or(0, Intake::rows)
    }

    pub(super) fn remove(&mut self, table: &TableName, phase: Phase) -> Option<Intake> {
        self.0.remove(&(table.clone(), phase))
    }

    fn of(&mut self, encoder: &Encoder, phase: Phase) -> &mut Intake {
        self.0.entry((encoder.table().clone(), phase)).or_insert_with(|| encoder.intake())
    }
}
