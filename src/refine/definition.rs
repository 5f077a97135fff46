use crate::domain::TableName;
use crate::features::Feature;

/// How a table follows from its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One row out for each row in.
    Rows,
    /// A windowed aggregate, kept incrementally.
    Window,
}

/// Windows are `[start, end)` in event time, UTC, counted from 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    pub size_us: i64,
    /// Equal to `size_us` for a tumbling window; divides it for a sliding one.
    pub slide_us: i64,
}

/// What happens to a row for which a check is not true (false or NULL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFail {
    /// The row goes on; the breach is counted.
    Warn,
    /// The row goes to the quarantine table.
    Quarantine,
    /// The epoch stops: the user asked for that.
    Fail,
}

/// A named check on the rows that a SQL file selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    pub name: String,
    /// A SQL boolean expression over the columns of the table and of its source.
    pub check: String,
    pub on_fail: OnFail,
    /// The line of the file on which it stands, from 1.
    pub line: usize,
}

/// A running count per key: for each row, the rows of the source with the same key and an event time in
/// `(event_time - window, event_time]` that had arrived by then, the row itself included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailing {
    /// The name of the column that the SQL may use.
    pub column: String,
    pub key: String,
    pub window_us: i64,
}

/// One SQL file: the header parsed, the query as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDef {
    pub table: TableName,
    pub mode: Mode,
    /// One sentence for the catalog.
    pub about: String,
    /// The one table that the query reads.
    pub source: TableName,
    /// The event time: a column of the result for `rows`, of the source for `window`.
    pub event_time: Option<String>,
    /// `Some` if and only if `mode` is [`Mode::Window`].
    pub window: Option<WindowSpec>,
    /// The columns that identify a row. In `rows` mode a later row with a known key is a duplicate.
    pub key: Vec<String>,
    /// Whether `rows` with a known key are counted and left out (silver) or cannot occur (scores).
    pub deduplicate: bool,
    pub partition_by: Vec<String>,
    /// Where rows that break an expectation go.
    pub quarantine: Option<TableName>,
    pub expectations: Vec<Expectation>,
    pub trailing: Vec<Trailing>,
    /// Columns about entities that the SQL may use.
    pub features: Vec<Feature>,
    /// The model whose champion is asked about each row as it comes: the table gets the columns of
    /// [`model_columns`](crate::domain::schema::model_columns) beside those of its SQL.
    pub model: Option<String>,
    pub sql: String,
    /// Path of the file as shown in errors.
    pub file: String,
    /// The line of the file on which `sql` begins, from 1.
    pub sql_line: usize,
}

impl TableDef {
    /// The columns of its source whose past the table depends on, beside the event time and its own key.
    pub fn remembered(&self) -> impl Iterator<Item = &String> {
        let counted = self.trailing.iter().map(|count| &count.key);
        counted.chain(self.features.iter().flat_map(Feature::columns))
    }
}
