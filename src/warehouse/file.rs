//! One file of `sql/warehouse/`: the header parsed, the query as text.

use datafusion::common::TableReference;
use datafusion::sql::resolve::resolve_table_references;
use serde::Deserialize;
use toml::Spanned;

use crate::refine::{Parsed, SqlFileError, SqlText, check_query, is_plain, split};

/// How a table of the warehouse follows from the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing of its own: a query that others read.
    View,
    /// The rows of each epoch are added.
    Rows,
    /// Rows are put over those with the same key, column by column.
    Upsert,
    /// Made, and left to people.
    Kept,
}

/// What becomes of a column when a row with the key is there. Whatever the cut into runs, the result is the same; only
/// `Last` asks for a value that follows from the key and the time of the run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    Least,
    Greatest,
    Sum,
    Last,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    pub name: String,
    pub about: String,
    pub not_null: bool,
    /// For columns of [`Mode::Upsert`] that are not in the key.
    pub merge: Option<Merge>,
    /// For [`Mode::Kept`]; elsewhere the query says it.
    pub kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDef {
    pub columns: Vec<String>,
    pub using: &'static str,
}

/// Who reads the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessDef {
    pub role: String,
    /// A condition in PostgreSQL's SQL; all rows without one.
    pub rows: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    pub name: String,
    pub mode: Mode,
    pub about: String,
    pub key: Vec<String>,
    pub columns: Vec<ColumnDef>,
    pub indexes: Vec<IndexDef>,
    pub access: Vec<AccessDef>,
    pub sql: String,
    /// The tables that the query reads, as `schema.table`.
    pub reads: Vec<String>,
    pub file: String,
    pub sql_line: usize,
    pub built_in: bool,
    /// Of the whole file, in hexadecimal.
    pub blake3: String,
}

/// The schema of the lake's session that holds the other files.
pub const SCHEMA: &str = "warehouse";
/// Columns that the job adds to each row.
pub const ADDED: [(&str, &str); 2] = [
    ("run_id", "The run that wrote the row: assay_runs."),
    ("processing_type", "How it came: incremental, with its epoch, or full, in a complete refresh."),
];
pub const EPOCH: &str = "epoch";
const METHODS: [&str; 5] = ["btree", "brin", "hash", "gin", "gist"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    table: Spanned<String>,
    mode: Spanned<String>,
    about: Spanned<String>,
    #[serde(default)]
    key: Vec<Spanned<String>>,
    #[serde(default)]
    columns: Vec<Spanned<ColumnHeader>>,
    #[serde(default)]
    indexes: Vec<Spanned<IndexHeader>>,
    #[serde(default)]
    access: Vec<Spanned<AccessHeader>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnHeader {
    name: String,
    about: String,
    #[serde(default)]
    not_null: bool,
    merge: Option<String>,
    r#type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexHeader {
    columns: Vec<String>,
    using: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessHeader {
    role: String,
    rows: Option<String>,
}

impl TableFile {
    /// Reads one file. Whether its columns are those of its query is checked when the lake is at hand.
    ///
    /// # Errors
    /// When the header or the query is not what it must be, with the line.
    pub fn parse(text: &SqlText) -> Result<Self, SqlFileError> {
        let parts = split(&text.text);
        let header = Parsed { file: &text.file, text: &parts.header };
        let raw: Header = toml::from_str(&parts.header).map_err(|error| header.toml_error(&error))?;
        let name = raw.table.get_ref();
        if !is_plain(name) || name.len() > 40 || name.starts_with("assay_") || name.ends_with("__new") {
            let problem = format!(
                "`{name}` cannot name a table: use a-z, 0-9 and _, at most 40 of them, and neither assay_ before nor __new behind"
            );
            return header.refuse(&raw.table.span(), problem);
        }
        if *name != text.name {
            let problem = format!("the file defines {name}, so it must be called warehouse/{name}.sql");
            return header.refuse(&raw.table.span(), problem);
        }
        let mode = match raw.mode.get_ref().as_str() {
            "view" => Mode::View,
            "rows" => Mode::Rows,
            "upsert" => Mode::Upsert,
            "kept" => Mode::Kept,
            other => {
                let problem = format!("mode `{other}` is not one of: view, rows, upsert, kept");
                return header.refuse(&raw.mode.span(), problem);
            }
        };
        if raw.about.get_ref().trim().is_empty() {
            return header.refuse(&raw.about.span(), "`about` is empty: say in one sentence what the table is for");
        }
        let columns = columns(&header, mode, &raw)?;
        let known = |name: &str| columns.iter().any(|column| column.name == name) || is_added(name);
        for name in &raw.key {
            if !columns.iter().any(|column| column.name == *name.get_ref() && column.not_null) {
                let problem = format!("the key `{}` must be one of `columns`, with not_null = true", name.get_ref());
                return header.refuse(&name.span(), problem);
            }
        }
        if mode != Mode::View && raw.key.is_empty() {
            return Err(header.at(1, "`key` is missing: name the columns that identify a row"));
        }
        let indexes = indexes(&header, &raw, known)?;
        let access = access(&header, &raw)?;
        let reads = if mode == Mode::Kept { nothing(text, &parts)? } else { reads(text, &parts)? };
        Ok(Self {
            name: name.clone(),
            mode,
            about: raw.about.into_inner(),
            key: raw.key.into_iter().map(Spanned::into_inner).collect(),
            columns,
            indexes,
            access,
            sql: parts.sql,
            reads,
            file: text.file.clone(),
            sql_line: parts.sql_line,
            built_in: text.built_in,
            blake3: blake3::hash(text.text.as_bytes()).to_hex().to_string(),
        })
    }

    /// Whether the job writes its rows.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self.mode, Mode::Rows | Mode::Upsert)
    }

    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|column| column.name == name)
    }
}

pub fn is_added(name: &str) -> bool {
    ADDED.iter().any(|(added, _)| *added == name)
}

fn columns(header: &Parsed<'_>, mode: Mode, raw: &Header) -> Result<Vec<ColumnDef>, SqlFileError> {
    let mut columns: Vec<ColumnDef> = Vec::with_capacity(raw.columns.len());
    if let (Mode::View, Some(first)) = (mode, raw.columns.first()) {
        return header.refuse(&first.span(), "a view has no `columns` of its own: its query says them");
    }
    for spanned in &raw.columns {
        let column = spanned.get_ref();
        let name = &column.name;
        let is_key = raw.key.iter().any(|key| key.get_ref() == name);
        if !is_plain(name) || name.len() > 63 || is_added(name) || columns.iter().any(|other| other.name == *name) {
            let problem = format!(
                "the column `{name}` needs a name of its own of a-z, 0-9 and _ (run_id and processing_type are added)"
            );
            return header.refuse(&spanned.span(), problem);
        }
        if column.about.trim().is_empty() {
            return header.refuse(&spanned.span(), format!("`about` of `{name}` is empty: say what it holds"));
        }
        let merge = match column.merge.as_deref() {
            None => None,
            Some("least") => Some(Merge::Least),
            Some("greatest") => Some(Merge::Greatest),
            Some("sum") => Some(Merge::Sum),
            Some("last") => Some(Merge::Last),
            Some(other) => {
                let problem = format!("merge `{other}` is not one of: least, greatest, sum, last");
                return header.refuse(&spanned.span(), problem);
            }
        };
        if merge.is_some() != (mode == Mode::Upsert && !is_key) {
            let problem =
                format!("`{name}`: `merge` belongs to each column of mode = \"upsert\" that is not in the key");
            return header.refuse(&spanned.span(), problem);
        }
        if column.r#type.is_some() != (mode == Mode::Kept) {
            let problem =
                format!("`{name}`: `type` belongs to each column of mode = \"kept\"; elsewhere the query says it");
            return header.refuse(&spanned.span(), problem);
        }
        let kind = column.r#type.clone();
        let (name, about) = (name.clone(), column.about.clone());
        columns.push(ColumnDef { name, about, not_null: column.not_null, merge, kind });
    }
    let has_epoch = columns.iter().any(|column| column.name == EPOCH && column.not_null);
    if matches!(mode, Mode::Rows | Mode::Upsert) && !has_epoch {
        return Err(header.at(1, "`columns` lacks { name = \"epoch\", not_null = true, … }: by it rows are told apart"));
    }
    Ok(columns)
}

fn indexes(header: &Parsed<'_>, raw: &Header, known: impl Fn(&str) -> bool) -> Result<Vec<IndexDef>, SqlFileError> {
    let mut indexes = Vec::with_capacity(raw.indexes.len());
    for spanned in &raw.indexes {
        let IndexHeader { columns, using } = spanned.get_ref();
        if let Some(column) = columns.iter().find(|column| !known(column)) {
            return header.refuse(&spanned.span(), format!("the index names `{column}`, which is none of `columns`"));
        }
        let wanted = using.as_deref().unwrap_or("btree");
        let Some(using) = METHODS.into_iter().find(|method| *method == wanted).filter(|_| !columns.is_empty()) else {
            let problem = format!("an index needs `columns`, and `using` must be one of: {}", METHODS.join(", "));
            return header.refuse(&spanned.span(), problem);
        };
        indexes.push(IndexDef { columns: columns.clone(), using });
    }
    Ok(indexes)
}

fn access(header: &Parsed<'_>, raw: &Header) -> Result<Vec<AccessDef>, SqlFileError> {
    let mut access: Vec<AccessDef> = Vec::with_capacity(raw.access.len());
    for spanned in &raw.access {
        let AccessHeader { role, rows } = spanned.get_ref();
        if !is_plain(role)
            || role.len() > 63
            || role.starts_with("pg_")
            || access.iter().any(|other| other.role == *role)
        {
            let problem = format!("`{role}` cannot name a role here: use a-z, 0-9 and _, each role once");
            return header.refuse(&spanned.span(), problem);
        }
        access.push(AccessDef { role: role.clone(), rows: rows.clone() });
    }
    Ok(access)
}

fn nothing(text: &SqlText, parts: &crate::refine::Split) -> Result<Vec<String>, SqlFileError> {
    if parts.sql.trim().is_empty() {
        return Ok(Vec::new());
    }
    Err(SqlFileError::new(&text.file, parts.sql_line, "mode = \"kept\" has no query: people fill the table"))
}

fn reads(text: &SqlText, parts: &crate::refine::Split) -> Result<Vec<String>, SqlFileError> {
    let statement = check_query(&text.file, parts.sql_line, &parts.sql)?;
    let (tables, _ctes) = resolve_table_references(&statement, true)
        .map_err(|error| SqlFileError::in_sql(&text.file, parts.sql_line, &error))?;
    let of = |table: &TableReference| match table {
        TableReference::Partial { schema, table } => Ok(format!("{schema}.{table}")),
        other => Err(SqlFileError::new(
            &text.file,
            parts.sql_line,
            format!("`{other}` is not a table: write layer.table, or {SCHEMA}.<view> for another file"),
        )),
    };
    tables.iter().map(of).collect()
}
