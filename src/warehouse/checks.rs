//! Checks of the warehouse: files of `sql/checks/`, put to PostgreSQL before a run's rows are committed.
//!
//! A file lists checks of its table in its header, or holds one query of its own that must give no rows. Of a table with
//! `mode = "rows"` only the rows that the transaction brings are looked at, of a dimension all.

use serde::{Deserialize, Serialize};
use tokio_postgres::Transaction;
use toml::Spanned;

use crate::domain::did_you_mean;
use crate::refine::{Parsed, SqlFileError, SqlText, is_plain, split};

use super::ddl::{list, literal, quoted};
use super::error::{WarehouseError, position, told};
use super::file::{EPOCH, Mode, TableFile, is_added};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Told, and the rows are kept.
    Warn,
    /// The transaction is rolled back.
    Error,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFile {
    pub table: String,
    pub checks: Vec<Check>,
    pub file: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub severity: Severity,
    kind: CheckKind,
    line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CheckKind {
    Unique {
        columns: Vec<String>,
    },
    NotNull {
        column: String,
    },
    Accepted {
        column: String,
        values: Vec<String>,
    },
    Related {
        column: String,
        to: String,
        field: String,
    },
    /// In PostgreSQL's SQL.
    Query(String),
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub check: String,
    pub severity: Severity,
    /// Rows, or values, that break it.
    pub failing: u64,
    /// Some of them, as JSON.
    pub samples: Vec<String>,
}

/// Of what breaks a check, so much is shown.
const SAMPLES: i64 = 5;
/// What a query of a file can ask for: the rows that the transaction brings are of epochs in `(after_epoch, epoch]`.
pub const SETTINGS: [&str; 2] = ["assay.after_epoch", "assay.epoch"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    table: Spanned<String>,
    about: String,
    severity: Option<Spanned<String>>,
    #[serde(default)]
    checks: Vec<Spanned<CheckHeader>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckHeader {
    check: String,
    columns: Option<Vec<String>>,
    column: Option<String>,
    values: Option<Vec<String>>,
    to: Option<String>,
    field: Option<String>,
    severity: Option<String>,
}

impl CheckFile {
    /// # Errors
    /// When the file is not what it must be, with the line.
    pub fn parse(text: &SqlText) -> Result<Self, SqlFileError> {
        let parts = split(&text.text);
        let header = Parsed { file: &text.file, text: &parts.header };
        let raw: Header = toml::from_str(&parts.header).map_err(|error| header.toml_error(&error))?;
        if raw.about.trim().is_empty() {
            return Err(header.at(1, "`about` is empty: say in one sentence what must hold"));
        }
        let table = raw.table.into_inner();
        let mut checks = Vec::new();
        for spanned in &raw.checks {
            let line = header.line(&spanned.span());
            let severity =
                severity(spanned.get_ref().severity.as_deref()).map_err(|problem| header.at(line, problem))?;
            let kinds = kinds(spanned.get_ref()).map_err(|problem| header.at(line, problem))?;
            checks.extend(kinds.into_iter().map(|kind| Check { name: kind.name(&table), severity, kind, line }));
        }
        let wanted = raw.severity.as_ref().map(|severity| severity.get_ref().as_str());
        let severity = severity(wanted).map_err(|problem| header.at(1, problem))?;
        let query = parts.sql.trim().trim_end_matches(';').trim_end();
        match (query.is_empty(), checks.is_empty()) {
            (true, true) => {
                Err(header.at(1, "the file checks nothing: list `checks`, or write a query after the header"))
            }
            (false, false) => {
                Err(header.at(1, "a file lists `checks` or holds a query, not both: give the query a file of its own"))
            }
            (true, false) if raw.severity.is_some() => {
                Err(header.at(1, "`severity` stands in each of `checks` here: at the top it is that of a query"))
            }
            _ => {
                if !query.is_empty() {
                    let kind = CheckKind::Query(parts.sql.trim_end().trim_end_matches(';').to_owned());
                    checks.push(Check { name: text.name.clone(), severity, kind, line: parts.sql_line });
                }
                Ok(Self { table, checks, file: text.file.clone() })
            }
        }
    }

    /// Whether the tables have the columns that are checked.
    ///
    /// # Errors
    /// With the line of the first check that names another.
    pub fn fits(&self, table: &TableFile, tables: &[TableFile]) -> Result<(), SqlFileError> {
        for check in &self.checks {
            let wrong = |problem: String| Err(SqlFileError::new(&self.file, check.line, problem));
            let of = |table: &TableFile, name: &str| {
                let names = table.columns.iter().map(|column| column.name.as_str());
                let hint = did_you_mean(name, names);
                let is_there = table.column(name).is_some() || is_added(name);
                (!is_there).then(|| format!("{} has no column `{name}`{hint}", table.name))
            };
            if let Some(problem) = check.kind.columns().iter().find_map(|name| of(table, name)) {
                return wrong(problem);
            }
            if let CheckKind::Related { to, field, .. } = &check.kind {
                let Some(other) = tables.iter().find(|other| other.name == *to) else {
                    return wrong(format!("`to` names {to}, which no file of warehouse/ loads"));
                };
                if let Some(problem) = of(other, field) {
                    return wrong(problem);
                }
            }
        }
        Ok(())
    }

    /// Puts the checks to the tables as they stand in the transaction.
    ///
    /// # Errors
    /// When PostgreSQL cannot answer one.
    pub async fn run(
        &self,
        tx: &Transaction<'_>,
        table: &TableFile,
        is_full: bool,
    ) -> Result<Vec<Outcome>, WarehouseError> {
        let mut outcomes = Vec::with_capacity(self.checks.len());
        for check in &self.checks {
            if check.kind.is_proven(table) {
                let (check, severity) = (check.name.clone(), check.severity);
                outcomes.push(Outcome { check, severity, failing: 0, samples: Vec::new() });
                continue;
            }
            let before = "WITH failing AS MATERIALIZED (";
            let query = check.kind.failing(table, is_full);
            let sql = format!(
                "{before}{query}\n) SELECT (SELECT count(*) FROM failing), to_jsonb(failing)::text FROM failing LIMIT {SAMPLES}"
            );
            let found = tx.query(&sql, &[]).await;
            let rows = found.map_err(|error| self.refused(check, &query, before.len(), &error))?;
            let failing = rows.first().map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0));
            let samples = rows.iter().map(|row| row.get(1)).collect();
            outcomes.push(Outcome { check: check.name.clone(), severity: check.severity, failing, samples });
        }
        Ok(outcomes)
    }

    /// A query of a file is placed; those that we wrote are right, or the table is not.
    fn refused(&self, check: &Check, query: &str, before: usize, error: &tokio_postgres::Error) -> WarehouseError {
        let (code, cause) = told(error);
        let is_wrong = code.as_deref().is_some_and(|code| code.starts_with("42"));
        if let (CheckKind::Query(_), true, Some(at)) = (&check.kind, is_wrong, position(error)) {
            let until: String = query.chars().take(at.saturating_sub(before + 1)).collect();
            let line = check.line + until.matches('\n').count();
            return SqlFileError::new(&self.file, line, cause).into();
        }
        WarehouseError::Postgres { action: format!("the check {}", check.name), code, cause }
    }
}

/// Says which rows the transaction brings, to queries of files.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn announce(tx: &Transaction<'_>, after: i64, to: i64) -> Result<(), WarehouseError> {
    let [first, second] = SETTINGS;
    let sql = format!("SELECT set_config('{first}', '{after}', true), set_config('{second}', '{to}', true)");
    tx.client().query(&sql, &[]).await.map(drop).map_err(WarehouseError::of("to prepare the checks"))
}

fn severity(text: Option<&str>) -> Result<Severity, String> {
    match text {
        None | Some("error") => Ok(Severity::Error),
        Some("warn") => Ok(Severity::Warn),
        Some(other) => Err(format!("severity `{other}` is not one of: warn, error")),
    }
}

fn kinds(raw: &CheckHeader) -> Result<Vec<CheckKind>, String> {
    let CheckHeader { check, columns, column, values, to, field, .. } = raw;
    let named = columns.iter().flatten().chain(column).chain(to).chain(field);
    if let Some(name) = named.into_iter().find(|name| !is_plain(name)) {
        return Err(format!("`{name}` is no name of a-z, 0-9 and _"));
    }
    match (check.as_str(), columns, column, values, to, field) {
        ("unique", Some(columns), None, None, None, None) if !columns.is_empty() => {
            Ok(vec![CheckKind::Unique { columns: columns.clone() }])
        }
        ("not_null", Some(columns), None, None, None, None) if !columns.is_empty() => {
            Ok(columns.iter().map(|column| CheckKind::NotNull { column: column.clone() }).collect())
        }
        ("accepted_values", None, Some(column), Some(values), None, None) if !values.is_empty() => {
            Ok(vec![CheckKind::Accepted { column: column.clone(), values: values.clone() }])
        }
        ("relationships", None, Some(column), None, Some(to), Some(field)) => {
            Ok(vec![CheckKind::Related { column: column.clone(), to: to.clone(), field: field.clone() }])
        }
        ("unique" | "not_null", ..) => Err(format!("`{check}` takes `columns`, and severity")),
        ("accepted_values", ..) => Err("`accepted_values` takes `column`, `values`, and severity".to_owned()),
        ("relationships", ..) => Err("`relationships` takes `column`, `to`, `field`, and severity".to_owned()),
        (other, ..) => Err(format!(
            "check `{other}` is not one of: unique, not_null, accepted_values, relationships; for any other write a query"
        )),
    }
}

impl CheckKind {
    fn name(&self, table: &str) -> String {
        match self {
            Self::Unique { columns } => format!("{table}.{}.unique", columns.join("+")),
            Self::NotNull { column } => format!("{table}.{column}.not_null"),
            Self::Accepted { column, .. } => format!("{table}.{column}.accepted_values"),
            Self::Related { column, to, .. } => format!("{table}.{column}.relationships.{to}"),
            Self::Query(_) => table.to_owned(),
        }
    }

    fn columns(&self) -> Vec<&str> {
        match self {
            Self::Unique { columns } => columns.iter().map(String::as_str).collect(),
            Self::NotNull { column } | Self::Accepted { column, .. } | Self::Related { column, .. } => vec![column],
            Self::Query(_) => Vec::new(),
        }
    }

    /// Whether a constraint of the table says the same: PostgreSQL has refused what breaks it.
    fn is_proven(&self, table: &TableFile) -> bool {
        match self {
            Self::Unique { columns } => *columns == table.key,
            Self::NotNull { column } => is_added(column) || table.column(column).is_some_and(|def| def.not_null),
            _ => false,
        }
    }

    /// The query that gives what breaks the check; all rows are new to a table that was filled anew.
    fn failing(&self, table: &TableFile, is_full: bool) -> String {
        let name = quoted(&table.name);
        let is_part = table.mode == Mode::Rows && !is_full;
        let new = if is_part {
            let [after, to] = SETTINGS.map(|setting| format!("current_setting('{setting}')::bigint"));
            format!("checked.{epoch} > {after} AND checked.{epoch} <= {to}", epoch = quoted(EPOCH))
        } else {
            "true".to_owned()
        };
        let key = table.key.iter().map(|key| format!("checked.{}", quoted(key))).collect::<Vec<_>>().join(", ");
        match self {
            // With rows of earlier runs too: a row that comes again is in none of the new ones twice.
            Self::Unique { columns } => {
                let columns = list(columns);
                let among = if is_part {
                    format!(" WHERE ({columns}) IN (SELECT {columns} FROM {name} AS checked WHERE {new})")
                } else {
                    String::new()
                };
                format!("SELECT {columns}, count(*) AS rows FROM {name}{among} GROUP BY {columns} HAVING count(*) > 1")
            }
            Self::NotNull { column } => {
                format!("SELECT {key} FROM {name} AS checked WHERE {new} AND checked.{} IS NULL", quoted(column))
            }
            Self::Accepted { column, values } => {
                let values = values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
                let column = format!("checked.{}", quoted(column));
                format!(
                    "SELECT {key}, {column} FROM {name} AS checked WHERE {new} AND {column}::text NOT IN ({values})"
                )
            }
            Self::Related { column, to, field } => {
                let (column, to, field) = (format!("checked.{}", quoted(column)), quoted(to), quoted(field));
                format!(
                    "SELECT {key}, {column} FROM {name} AS checked WHERE {new} AND {column} IS NOT NULL AND NOT EXISTS \
                     (SELECT 1 FROM {to} AS related WHERE related.{field} = {column})"
                )
            }
            Self::Query(sql) => sql.clone(),
        }
    }
}

/// What breaks checks, for people.
#[must_use]
pub fn in_words(outcomes: &[Outcome]) -> String {
    let of = |outcome: &Outcome| {
        let samples = outcome.samples.join(", ");
        format!("  {}: {} rows, such as {samples}", outcome.check, outcome.failing)
    };
    outcomes.iter().map(of).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
