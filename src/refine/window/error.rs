use crate::domain::HistoryError;

/// What can go wrong with a window table: in its SQL when it is compiled, or with rows when it runs.
///
/// After an error from [`update`](super::WindowEngine::update) the engine is as it was before the call.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The SQL is valid, but cannot be kept incrementally and exactly.
    #[error("{place}: {construct} cannot be kept incrementally; {instead}")]
    Refused { place: Place, construct: String, instead: String },
    /// The SQL is not valid over the source.
    #[error("{place}: {cause}")]
    Invalid { place: Place, cause: String },
    /// An expression failed on a row.
    #[error(
        "{tables}: an expression failed on a row of the source: {cause}; guard it in the SQL, or add an expectation to the source that keeps such rows out"
    )]
    Expression { tables: String, cause: String },
    /// A result does not fit its type.
    #[error("{table}: a result does not fit its type: {cause}; cast the argument to a wider type in the SQL")]
    Result { table: String, cause: String },
    /// A row without event time belongs to no window.
    #[error(
        "{nulls} rows have no `{column}` and so belong to no window; add an expectation `{column} IS NOT NULL` with on_fail = \"quarantine\" to the source"
    )]
    NoEventTime { column: String, nulls: usize },
    /// Microseconds whose windows would leave the range of a timestamp.
    #[error(
        "`{column}` holds {value_us} µs, which is out of the range of windows; add an expectation to the source that bounds it"
    )]
    EventTimeRange { column: String, value_us: i64 },
    /// The batch lacks a column that the compiled tables read, or has it with another type.
    #[error("the rows of the source have no column `{column}` of type {expected}")]
    MissingColumn { column: String, expected: String },
    /// Tables of one engine must read the same source by the same event time.
    #[error("{left} and {right} do not share source and event time; give each source an engine of its own")]
    MixedSources { left: String, right: String },
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl WindowError {
    /// Whether the SQL must be corrected, rather than the data or the store.
    #[must_use]
    pub const fn is_definition(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Invalid { .. } | Self::MixedSources { .. } | Self::MissingColumn { .. }
        )
    }
}

/// Where in a SQL file: `sql/gold/x.sql:12:5`, as far as line and column are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        for number in self.line.into_iter().chain(self.column.filter(|_| self.line.is_some())) {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}
