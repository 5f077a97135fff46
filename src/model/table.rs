//! A table of the user's own: read from CSV or Parquet files, and made into samples that models learn from.

mod batches;
mod csv;
mod encoding;
mod error;
mod parquet;
mod prepare;
mod rows;

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use encoding::{CATEGORIES_MAX, Encoding, FeatureColumn, FeatureKind};
pub use error::TableError;
pub use prepare::{Order, Prepared, Roles, prepare, prepare_as};
pub use rows::{Encoded, RowEncoder};

use crate::domain::did_you_mean;

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Number,
    Boolean,
    Time,
    Text,
    /// Nothing that can be learned from: lists, structs, bytes, or no value at all.
    Other,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Time => "a time",
            Self::Text => "text",
            Self::Other => "nothing that can be learned from",
        })
    }
}

/// The cells of a column, one per row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Missing ones are NaN; infinite ones were refused.
    Numbers(Vec<f64>),
    Booleans(Vec<Option<bool>>),
    /// Microseconds since 1970, UTC.
    Times(Vec<Option<i64>>),
    Texts(Texts),
    Other,
}

/// Text by code, each value held once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Texts {
    /// The place in `values`; `None` is missing.
    pub codes: Vec<Option<u32>>,
    /// In the order of their first row.
    pub values: Vec<String>,
    places: HashMap<String, u32>,
}

impl Texts {
    fn push(&mut self, text: Option<&str>) {
        let code = text.map(|text| match self.places.get(text) {
            Some(&code) => code,
            None => {
                let code = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
                self.values.push(text.to_owned());
                self.places.insert(text.to_owned(), code);
                code
            }
        });
        self.codes.push(code);
    }

    fn get(&self, row: usize) -> Option<&str> {
        self.codes.get(row).copied().flatten().and_then(|code| self.values.get(code as usize)).map(String::as_str)
    }
}

impl Cells {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Number => Self::Numbers(Vec::new()),
            Kind::Boolean => Self::Booleans(Vec::new()),
            Kind::Time => Self::Times(Vec::new()),
            Kind::Text => Self::Texts(Texts::default()),
            Kind::Other => Self::Other,
        }
    }

    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Numbers(_) => Kind::Number,
            Self::Booleans(_) => Kind::Boolean,
            Self::Times(_) => Kind::Time,
            Self::Texts(_) => Kind::Text,
            Self::Other => Kind::Other,
        }
    }

    /// The cell as text, `None` where it is missing.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<String> {
        match self {
            Self::Numbers(values) => values.get(row).filter(|value| !value.is_nan()).map(ToString::to_string),
            Self::Booleans(values) => values.get(row).copied().flatten().map(|value| value.to_string()),
            Self::Times(values) => {
                let at = chrono::DateTime::from_timestamp_micros(values.get(row).copied().flatten()?)?;
                Some(at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            }
            Self::Texts(texts) => texts.get(row).map(str::to_owned),
            Self::Other => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub cells: Cells,
    /// Of a column of text most of whose cells are numbers: the first row that is none.
    odd_row: Option<usize>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// As it was given.
    pub path: String,
    pub bytes: u64,
    /// Of the file as it is stored, in hexadecimal.
    pub blake3: String,
    pub rows: usize,
}

/// The rows of one or more files, one below the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub files: Vec<TableFile>,
    pub columns: Vec<Column>,
}

/// Which columns are read, and as what.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// All but these, as what their cells are.
    AllBut(&'a [String]),
    /// These, as what a model learned them.
    These(&'a [(String, Kind)]),
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Parquet,
}

impl Table {
    /// Reads `.csv`, `.csv.gz` and `.parquet` files. The columns of the first file are those of all: their order may
    /// differ, their names may not.
    ///
    /// In CSV an empty cell and `NULL`, `NA`, `N/A` and `NaN` in any case are missing values; a column is numbers,
    /// booleans (`true`, `false`) or times (ISO 8601) where all its cells are, and text otherwise.
    ///
    /// # Errors
    /// When a file cannot be read, its columns differ, or a cell is not what its column is.
    pub fn read(paths: &[String], wanted: &Wanted<'_>) -> Result<Self, TableError> {
        let formats = paths.iter().map(|path| format_of(path)).collect::<Result<Vec<_>, _>>()?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let (bytes, blake3) = fingerprint(path)?;
            files.push(TableFile { path: path.clone(), bytes, blake3, rows: 0 });
        }
        let mut plan: Vec<Planned> = Vec::new();
        for (place, (path, format)) in paths.iter().zip(&formats).enumerate() {
            let names = match format {
                Format::Csv => csv::names(path)?,
                Format::Parquet => parquet::names(path)?,
            };
            check_names(path, &names)?;
            if place == 0 {
                plan = planned(&names, wanted)?;
            }
            let first = paths.first().map_or("", String::as_str);
            if let Some(missing) = plan.iter().find(|planned| !names.contains(&planned.name)) {
                return Err(TableError::MissingColumn {
                    file: path.clone(),
                    column: missing.name.clone(),
                    because: if place == 0 { "the model".into() } else { format!("`{first}`") },
                });
            }
            if let (Wanted::AllBut(ignored), Some(more)) =
                (wanted, names.iter().find(|name| place > 0 && !plan.iter().any(|planned| planned.name == **name)))
                && !ignored.contains(more)
            {
                return Err(TableError::MissingColumn {
                    file: first.to_owned(),
                    column: more.clone(),
                    because: format!("`{path}`"),
                });
            }
        }
        if matches!(wanted, Wanted::AllBut(_)) {
            for (path, format) in paths.iter().zip(&formats) {
                match format {
                    Format::Csv => csv::look(path, &mut plan)?,
                    Format::Parquet => parquet::look(path, &mut plan)?,
                }
            }
            plan.iter_mut().for_each(Planned::decide);
        }
        let mut columns: Vec<Column> = plan
            .iter()
            .map(|planned| Column {
                name: planned.name.clone(),
                cells: Cells::of(planned.kind),
                odd_row: planned.odd_row(),
            })
            .collect();
        for (file, format) in files.iter_mut().zip(&formats) {
            file.rows = match format {
                Format::Csv => csv::read(&file.path, &mut columns)?,
                Format::Parquet => parquet::read(&file.path, &mut columns)?,
            };
            // Inference and reading are two passes over a file that somebody may be writing.
            if fingerprint(&file.path)? != (file.bytes, file.blake3.clone()) {
                return Err(TableError::Changed { file: file.path.clone() });
            }
        }
        let table = Self { files, columns };
        if table.rows() == 0 { Err(TableError::NoRows { files: paths.join(", ") }) } else { Ok(table) }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// # Errors
    /// When there is no such column; `role` says what it is wanted for.
    pub fn column(&self, name: &str, role: &'static str) -> Result<&Column, TableError> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
            unknown_column(name, role, &names)
        })
    }

    /// The file and the row in it, counted from 1, the header not counted.
    #[must_use]
    pub fn place(&self, row: usize) -> (String, usize) {
        let mut row = row;
        for file in &self.files {
            if row < file.rows {
                return (file.path.clone(), row + 1);
            }
            row -= file.rows;
        }
        (String::new(), row + 1)
    }

    fn cell_error(&self, row: usize, column: &str, value: &str, must_be: &str) -> TableError {
        let (file, row) = self.place(row);
        TableError::Cell { file, row, column: column.into(), value: value.into(), must_be: must_be.into() }
    }
}

/// A column before its cells are read, and what was seen of them.
#[derive(Debug, Clone)]
struct Planned {
    name: String,
    kind: Kind,
    filled: usize,
    numbers: usize,
    booleans: usize,
    times: usize,
    /// Cells that Parquet declares as text or as something else.
    texts: usize,
    others: usize,
    rows: usize,
    first_odd: Option<usize>,
}

impl Planned {
    fn new(name: &str, kind: Kind) -> Self {
        let name = name.to_owned();
        Self { name, kind, filled: 0, numbers: 0, booleans: 0, times: 0, texts: 0, others: 0, rows: 0, first_odd: None }
    }

    fn see(&mut self, cell: &str) {
        let row = self.rows;
        self.rows += 1;
        if is_missing(cell) {
            return;
        }
        self.filled += 1;
        if number(cell).is_some() {
            self.numbers += 1;
            return;
        }
        self.first_odd.get_or_insert(row);
        if boolean(cell).is_some() {
            self.booleans += 1;
        } else if self.times + 1 == self.filled && time(cell).is_some() {
            self.times += 1;
        }
    }

    fn declared(&mut self, kind: Kind, rows: usize) {
        self.rows += rows;
        self.filled += rows;
        match kind {
            Kind::Number => self.numbers += rows,
            Kind::Boolean => self.booleans += rows,
            Kind::Time => self.times += rows,
            Kind::Text => self.texts += rows,
            Kind::Other => self.others += rows,
        }
    }

    fn decide(&mut self) {
        let all = |count: usize| self.filled > 0 && count == self.filled;
        self.kind = if all(self.numbers) {
            Kind::Number
        } else if all(self.booleans) {
            Kind::Boolean
        } else if all(self.times) {
            Kind::Time
        } else if self.filled == 0 || self.others > 0 {
            Kind::Other
        } else {
            Kind::Text
        };
    }

    fn odd_row(&self) -> Option<usize> {
        self.first_odd.filter(|_| self.kind == Kind::Text && self.numbers * 2 > self.filled)
    }
}

fn planned(names: &[String], wanted: &Wanted<'_>) -> Result<Vec<Planned>, TableError> {
    match wanted {
        Wanted::AllBut(ignored) => {
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            if let Some(name) = ignored.iter().find(|name| !names.contains(name)) {
                return Err(unknown_column(name, "to ignore", &all));
            }
            Ok(names.iter().filter(|name| !ignored.contains(name)).map(|n| Planned::new(n, Kind::Other)).collect())
        }
        Wanted::These(columns) => Ok(columns.iter().map(|(name, kind)| Planned::new(name, *kind)).collect()),
    }
}

fn unknown_column(name: &str, role: &'static str, names: &[&str]) -> TableError {
    let hint = did_you_mean(name, names.iter().copied());
    TableError::UnknownColumn { column: name.to_owned(), role, hint, columns: names.join(", ") }
}

fn check_names(file: &str, names: &[String]) -> Result<(), TableError> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(TableError::DuplicateColumn { file: file.to_owned(), column: name.clone() }),
        None => Ok(()),
    }
}

fn format_of(path: &str) -> Result<Format, TableError> {
    let name = path.to_ascii_lowercase();
    if name.ends_with(".csv") || name.ends_with(".csv.gz") {
        Ok(Format::Csv)
    } else if name.ends_with(".parquet") {
        Ok(Format::Parquet)
    } else {
        Err(TableError::UnknownFormat { file: path.to_owned() })
    }
}

fn fingerprint(path: &str) -> Result<(u64, String), TableError> {
    let mut file = open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer).map_err(|cause| unreadable(path, cause))?;
        if read == 0 {
            return Ok((hasher.count(), hasher.finalize().to_hex().to_string()));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn open(path: &str) -> Result<std::fs::File, TableError> {
    std::fs::File::open(Path::new(path)).map_err(|cause| unreadable(path, cause))
}

fn unreadable(path: &str, cause: impl std::fmt::Display) -> TableError {
    TableError::Unreadable { file: path.to_owned(), cause: cause.to_string() }
}

fn is_missing(cell: &str) -> bool {
    let cell = cell.trim();
    cell.is_empty() || ["null", "na", "n/a", "nan"].iter().any(|word| cell.eq_ignore_ascii_case(word))
}

fn number(cell: &str) -> Option<f64> {
    cell.trim().parse::<f64>().ok().filter(|value| value.is_finite())
}

fn boolean(cell: &str) -> Option<bool> {
    let cell = cell.trim();
    if cell.eq_ignore_ascii_case("true") { Some(true) } else { cell.eq_ignore_ascii_case("false").then_some(false) }
}

/// ISO 8601 in microseconds since 1970; without an offset it is UTC.
fn time(cell: &str) -> Option<i64> {
    use chrono::{DateTime, NaiveDate, NaiveDateTime};
    let cell = cell.trim();
    if !cell.starts_with(|c: char| c.is_ascii_digit()) || cell.len() < 10 {
        return None;
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(cell) {
        return Some(at.timestamp_micros());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(cell, format) {
            return Some(at.and_utc().timestamp_micros());
        }
    }
    let day = NaiveDate::parse_from_str(cell, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests;
