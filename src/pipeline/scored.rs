//! What a model says of rows as they come.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};

use super::error::PipelineError;
use crate::domain::schema;
use crate::refine::{Refiner, SqlFileError, TableDef};

/// Is asked about the rows of a stream, in the order in which they come.
pub trait RowScorer: Send {
    /// An epoch begins, which one version of the model answers.
    fn begin(&mut self);

    /// What is said of rows of silver and of the tables that follow from them, which are given in the order of the plan:
    /// the columns of [`schema::model_columns`].
    ///
    /// # Errors
    /// When what is said cannot be sent to where it was to go. A model that cannot answer is none.
    fn score(&mut self, silver: &RecordBatch, following: &[RecordBatch]) -> Result<Vec<ArrayRef>, PipelineError>;

    /// Waits until all that was sent has arrived. The epoch is not written before.
    ///
    /// # Errors
    /// When some of it was refused.
    fn settle(&mut self) -> Result<(), PipelineError>;
}

/// The table whose header names a model: its columns are those of its SQL, and those of the model after them.
#[derive(Debug, Clone)]
pub(super) struct ScoredTable {
    /// Among the tables that follow from silver row by row.
    pub(super) index: usize,
    pub(super) schema: SchemaRef,
}

impl ScoredTable {
    /// # Errors
    /// When the SQL has a column of that name itself.
    pub(super) fn find(defs: &[TableDef], refiners: &[Refiner]) -> Result<Option<Self>, SqlFileError> {
        let mut tables = defs.iter().zip(refiners).enumerate();
        let Some((index, (def, refiner))) = tables.find(|(_, (def, _))| def.model.is_some()) else { return Ok(None) };
        let own = refiner.schema();
        let added = schema::model_columns();
        if let Some(taken) = added.iter().find(|field| own.column_with_name(field.name()).is_some()) {
            let problem = format!("`{}` is what `model` in the header adds: give it another name", taken.name());
            return Err(SqlFileError::new(&def.file, def.sql_line, problem));
        }
        let fields = own.fields().iter().cloned().chain(added);
        Ok(Some(Self { index, schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) }))
    }

    /// Adds the columns to the rows of the table.
    pub(super) fn fill(
        &self,
        scorer: Option<&mut (dyn RowScorer + 'static)>,
        silver: &RecordBatch,
        following: &mut [RecordBatch],
    ) -> Result<(), PipelineError> {
        let said = scorer.map(|scorer| scorer.score(silver, following)).transpose()?;
        // A rebuild may want other tables only.
        let Some(rows) = following.get_mut(self.index) else { return Ok(()) };
        let nothing =
            || schema::model_columns().iter().map(|f| new_null_array(f.data_type(), rows.num_rows())).collect();
        let said: Vec<ArrayRef> = said.unwrap_or_else(nothing);
        let columns = rows.columns().iter().cloned().chain(said).collect();
        *rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok(())
    }
}
