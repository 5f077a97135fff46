//! Rows that a query has answered.

use arrow::array::RecordBatch;

use super::parquet::{kind_of, push};
use super::{Cells, Column, Table, TableError, TableFile};

impl Table {
    /// Takes the columns of batches that `wanted` says yes to; `file` is what they came from, by which errors name it. Its
    /// rows are counted here.
    ///
    /// # Errors
    /// When there are no rows, or a number is infinite.
    pub fn of_batches(
        file: TableFile,
        batches: &[RecordBatch],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, TableError> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let Some(first) = batches.first().filter(|_| rows > 0) else {
            return Err(TableError::NoRows { files: file.path });
        };
        let mut columns = Vec::new();
        for (index, field) in first.schema().fields().iter().enumerate().filter(|(_, field)| wanted(field.name())) {
            let cells = Cells::of(kind_of(field.data_type()));
            let mut column = Column { name: field.name().clone(), cells, odd_row: None };
            let mut before = 0;
            for batch in batches {
                push(&file.path, before, &mut column, batch.column(index))?;
                before += batch.num_rows();
            }
            columns.push(column);
        }
        Ok(Self { files: vec![TableFile { rows, ..file }], columns })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int32Array, StringArray};

    use super::*;

    fn file() -> TableFile {
        TableFile { path: "training/t.sql".into(), bytes: 1, blake3: String::new(), rows: 0 }
    }

    #[test]
    fn batches_become_one_table_of_the_columns_wanted() {
        let batch = |amounts: Vec<Option<i128>>, texts: Vec<Option<&str>>| {
            let flags = BooleanArray::from(vec![true; amounts.len()]);
            let ids = Int32Array::from(vec![1; amounts.len()]);
            let amounts = Decimal128Array::from(amounts).with_precision_and_scale(18, 2).unwrap();
            let columns: [(&str, ArrayRef, bool); 4] = [
                ("amount", Arc::new(amounts), true),
                ("id", Arc::new(ids), true),
                ("method", Arc::new(StringArray::from(texts)), true),
                ("flag", Arc::new(flags), true),
            ];
            RecordBatch::try_from_iter_with_nullable(columns).unwrap()
        };
        let batches = [batch(vec![Some(1250), None], vec![Some("a"), Some("b")]), batch(vec![Some(1)], vec![None])];
        let table = Table::of_batches(file(), &batches, |name| name != "id").unwrap();
        assert_eq!((table.rows(), table.columns.len()), (3, 3));
        let shown = |column: usize| (0..3).map(|row| table.columns[column].cells.text(row)).collect::<Vec<_>>();
        assert_eq!(shown(0), [Some("12.5".to_owned()), None, Some("0.01".to_owned())]);
        assert_eq!(shown(1), [Some("a".to_owned()), Some("b".to_owned()), None]);
        assert!(matches!(Table::of_batches(file(), &batches[..0], |_| true), Err(TableError::NoRows { .. })));
    }
}
