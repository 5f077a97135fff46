use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

use super::checks::Checks;
use super::{EVALUATES, OnFail, References, RefineError, RowsTable, SqlFileError, TableDef};
use crate::domain::TableName;

/// The SQL and the expectations of a `rows` table without its memory: nothing is remembered, so no row is a duplicate,
/// and trailing counts come with the source. What [`Refiner`](super::Refiner) computes of a row, this does too.
#[derive(Debug)]
pub struct Screening {
    def: TableDef,
    rows: RowsTable,
    checks: Checks,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub struct Screened {
    /// The rows that break no expectation but those that warn, in the order of the input.
    pub rows: RecordBatch,
    /// The row of the input of each of them.
    pub input: Vec<usize>,
    /// The rows of the input that are refused, ascending, with the names of the expectations that they break.
    pub refused: Vec<(usize, Vec<String>)>,
}

impl Screening {
    /// Compiles a table for a source with these columns, trailing counts among them.
    ///
    /// # Errors
    /// When the SQL or an expectation does not fit the source, with file and line.
    pub fn compile(def: &TableDef, source: &SchemaRef, references: &Arc<References>) -> Result<Self, SqlFileError> {
        let rows = RowsTable::compile(def, source, references)?;
        let checks = Checks::compile(def, rows.schema(), source, references)?;
        Ok(Self { def: def.clone(), rows, checks })
    }

    #[must_use]
    pub fn table(&self) -> &TableName {
        &self.def.table
    }

    #[must_use]
    pub fn def(&self) -> &TableDef {
        &self.def
    }

    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    /// Computes and judges a batch of the source.
    ///
    /// # Errors
    /// [`RefineError::Schema`] when the batch is not one of the source.
    pub fn screen(&self, input: &RecordBatch) -> Result<Screened, RefineError> {
        let mismatch = |error: arrow::error::ArrowError| RefineError::Schema {
            table: self.def.table.to_string(),
            detail: error.to_string(),
        };
        let evaluated = self.rows.evaluate_rows(input)?;
        let mut refused: Vec<(usize, Vec<String>)> =
            evaluated.failing.iter().map(|row| (*row, vec![EVALUATES.to_owned()])).collect();
        let mut computed: Vec<usize> = (0..input.num_rows()).collect();
        if !evaluated.failing.is_empty() {
            computed.retain(|row| evaluated.failing.binary_search(row).is_err());
        }
        let source =
            if evaluated.failing.is_empty() { input.clone() } else { taken(input, &computed).map_err(mismatch)? };
        let outcomes = self.checks.judge(&evaluated.batch, &source).map_err(mismatch)?;
        let breaches = || outcomes.iter().filter(|outcome| outcome.on_fail != OnFail::Warn);
        if breaches().all(|outcome| outcome.holds.is_none()) {
            return Ok(Screened { rows: evaluated.batch, input: computed, refused });
        }
        let mut kept = Vec::with_capacity(computed.len());
        for row in 0..computed.len() {
            let is_broken = |holds: &arrow::buffer::BooleanBuffer| !holds.value(row);
            let broken = breaches().filter(|outcome| outcome.holds.as_ref().is_some_and(is_broken));
            let names: Vec<String> = broken.map(|outcome| outcome.name.to_owned()).collect();
            match computed.get(row) {
                Some(input) if !names.is_empty() => refused.push((*input, names)),
                _ => kept.push(row),
            }
        }
        refused.sort_unstable();
        let rows = taken(&evaluated.batch, &kept).map_err(mismatch)?;
        let input = kept.iter().filter_map(|row| computed.get(*row).copied()).collect();
        Ok(Screened { rows, input, refused })
    }
}

fn taken(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let rows: arrow::array::UInt32Array = rows.iter().filter_map(|row| u32::try_from(*row).ok()).collect();
    take_record_batch(batch, &rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::super::testing::{MemoryHistory, Sent, bronze, bronze_schema, definition, references};
    use super::super::{RefineSettings, Refiner};
    use super::*;
    use crate::domain::schema::BROKEN;

    #[test]
    fn what_is_kept_and_refused_is_what_refining_keeps_and_quarantines() {
        let mut sent: Vec<Sent> = (0..9).map(|number| Sent::new(&number.to_string())).collect();
        sent[1].amount = f64::NAN;
        sent[4].at = "soon".into();
        sent[4].id = String::new();
        sent[6].method = "shells";
        sent[8].amount = 2e6;
        let input = bronze(&sent);
        let def = definition("silver.transactions");
        let screening = Screening::compile(&def, &bronze_schema(), &references()).unwrap();
        let screened = screening.screen(&input).unwrap();
        let mut refiner =
            Refiner::new(&def, &bronze_schema(), &references(), &RefineSettings::default(), [0; 16]).unwrap();
        let refined = refiner.refine(&input, &MemoryHistory::new("event_at")).unwrap();
        assert_eq!(screened.rows, refined.silver);
        assert_eq!(screened.input, [0, 2, 3, 5, 6, 7]);
        assert_eq!(screened.refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 4, 8]);
        let lists = refined.quarantined.column_by_name(BROKEN).unwrap().as_list::<i32>().clone();
        let names = lists.iter().flatten();
        let names = names.map(|list| list.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(screened.refused.into_iter().map(|(_, names)| names).collect::<Vec<_>>(), names.collect::<Vec<_>>());
    }
}
