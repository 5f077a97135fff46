use arrow::record_batch::RecordBatch;

/// The refined rows that came before the ones at hand, wherever they are: committed files or this epoch's memory.
///
/// What the stages hold in memory is a cache of this.
pub trait History: Send + Sync {
    /// The rows with an event time in `[from_us, to_us)`, only the columns named and in that order.
    ///
    /// Batches come in the order in which the rows entered silver.
    ///
    /// # Errors
    /// When the rows cannot be read; the caller's state is then unchanged.
    fn scan(&self, from_us: i64, to_us: i64, columns: &[&str]) -> Result<Vec<RecordBatch>, HistoryError>;

    /// As [`scan`](Self::scan), a batch at a time; it ends early when `each` says `false`.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    fn visit(
        &self,
        from_us: i64,
        to_us: i64,
        columns: &[&str],
        each: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), HistoryError> {
        self.scan(from_us, to_us, columns)?.into_iter().all(each);
        Ok(())
    }

    /// Whether there may be a row in `[from_us, to_us)`; must be cheap, and may say yes wrongly.
    fn may_contain(&self, from_us: i64, to_us: i64) -> bool;
}

/// A past without rows, for those who bring all rows at once.
#[derive(Debug, Clone, Copy)]
pub struct NoHistory;

impl History for NoHistory {
    fn scan(&self, _: i64, _: i64, _: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        Ok(Vec::new())
    }

    fn may_contain(&self, _: i64, _: i64) -> bool {
        false
    }
}

/// The rows of the past could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the past of {table} could not be read: {cause}")]
pub struct HistoryError {
    pub table: String,
    pub cause: String,
}
