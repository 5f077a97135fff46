use std::ops::Range;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use serde::Deserialize;
use toml::Spanned;

use super::duration::parse_us;
use super::{EVALUATES, EVENT_TIME_PRESENT};
use super::{Expectation, Mode, OnFail, SqlFileError, TableDef, Told, Trailing, WindowSpec};
use crate::domain::{Layer, TableName, did_you_mean};
use crate::features::{Aggregate, Feature, LabelDelay};

/// Reads one SQL file: its leading comment lines are the header in TOML, the rest is one query.
///
/// The names of columns are not known here; they are checked when the table is compiled for its source.
///
/// # Errors
/// When the header or the query is not what it must be, with the line.
pub fn parse(file: &str, text: &str) -> Result<TableDef, SqlFileError> {
    let split = split(text);
    let header = Parsed { file, text: &split.header };
    let raw: Header = toml::from_str(&split.header).map_err(|error| header.toml_error(&error))?;
    let mut def = header.definition(raw)?;
    def.sql = split.sql;
    def.sql_line = split.sql_line;
    def.source = source(file, &def)?;
    if def.source == def.table {
        return Err(SqlFileError::new(file, def.sql_line, format!("{} cannot be made from itself", def.table)));
    }
    Ok(def)
}

/// A month by the quarter of an hour: so many windows hold one row, each with memory of its own.
const SLIDES_MAX: i64 = 2_880;
/// The past is walked hour by hour.
const TRAILING_DAYS_MAX: i64 = 366;
/// Each operator may stand within the next, and the planner needs some stack for each.
const TOKENS_MAX: usize = 4_096;

pub(crate) struct Split {
    /// Line by line as in the file, without the comment marks.
    pub(crate) header: String,
    pub(crate) sql: String,
    pub(crate) sql_line: usize,
}

pub(crate) fn split(text: &str) -> Split {
    let mut header = String::new();
    let mut rest = text;
    let mut lines = 0;
    while let Some(line) = rest.strip_prefix("--") {
        let (line, after) = line.split_once('\n').unwrap_or((line, ""));
        let line = line.trim_end_matches('\r');
        header.push_str(line.strip_prefix(' ').unwrap_or(line));
        header.push('\n');
        rest = after;
        lines += 1;
    }
    Split { header, sql: rest.to_owned(), sql_line: lines + 1 }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    table: Spanned<String>,
    mode: Spanned<String>,
    about: Spanned<String>,
    event_time: Option<String>,
    window: Option<Spanned<WindowHeader>>,
    #[serde(default)]
    key: Vec<String>,
    deduplicate: Option<Spanned<bool>>,
    #[serde(default)]
    partition_by: Vec<String>,
    quarantine: Option<Spanned<String>>,
    #[serde(default)]
    expectations: Vec<Spanned<ExpectationHeader>>,
    #[serde(default)]
    trailing: Vec<Spanned<TrailingHeader>>,
    #[serde(default)]
    features: Vec<Spanned<FeatureHeader>>,
    model: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowHeader {
    size: String,
    slide: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectationHeader {
    name: String,
    check: String,
    on_fail: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailingHeader {
    column: String,
    key: String,
    window: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureHeader {
    column: String,
    entity: String,
    aggregate: String,
    of: Option<String>,
    filter: Option<String>,
    window: String,
    grain: Option<String>,
    last: Option<usize>,
    label_delay: Option<DelayHeader>,
    about: String,
}

/// `true` for the delay of the settings, or a length of time.
#[derive(Deserialize)]
#[serde(untagged)]
enum DelayHeader {
    Flag(bool),
    Length(String),
}

/// The header of one file, to turn places in it into lines.
pub(crate) struct Parsed<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Parsed<'_> {
    fn definition(&self, raw: Header) -> Result<TableDef, SqlFileError> {
        let table = self.table_name(&raw.table)?;
        if !matches!(table.layer, Layer::Silver | Layer::Gold) {
            return self.refuse(&raw.table.span(), format!("{table} is not a table of the layers silver or gold"));
        }
        let mode = match raw.mode.get_ref().as_str() {
            "rows" => Mode::Rows,
            "window" => Mode::Window,
            other => return self.refuse(&raw.mode.span(), format!("mode `{other}` is not one of: rows, window")),
        };
        if raw.about.get_ref().trim().is_empty() {
            return self.refuse(&raw.about.span(), "`about` is empty: say in one sentence what the table is for");
        }
        let quarantine = raw.quarantine.as_ref().map(|name| self.table_name(name)).transpose()?;
        let deduplicate = raw.deduplicate.as_ref().is_some_and(|flag| *flag.get_ref());
        let window = self.window(mode, &raw)?;
        let expectations = self.expectations(&raw, quarantine.as_ref())?;
        let trailing = self.trailing(&raw)?;
        let features = self.features(&raw, &trailing)?;
        let model = self.model(&raw)?;
        let needs_time = mode == Mode::Window || deduplicate || !trailing.is_empty() || !features.is_empty();
        if needs_time && raw.event_time.is_none() {
            let problem = "`event_time` is missing: windows, deduplication, trailing counts and features need it";
            return Err(self.at(1, problem));
        }
        if raw.key.is_empty() && (mode == Mode::Window || deduplicate) {
            return Err(self.at(1, "`key` is missing: name the columns that identify a row"));
        }
        Ok(TableDef {
            mode,
            about: raw.about.into_inner(),
            // Replaced by the query's FROM.
            source: table.clone(),
            table,
            event_time: raw.event_time,
            window,
            key: raw.key,
            deduplicate,
            partition_by: raw.partition_by,
            quarantine,
            expectations,
            trailing,
            features,
            model,
            sql: String::new(),
            file: self.file.to_owned(),
            sql_line: 1,
        })
    }

    fn window(&self, mode: Mode, raw: &Header) -> Result<Option<WindowSpec>, SqlFileError> {
        let window = match (mode, &raw.window) {
            (Mode::Rows, None) => return Ok(None),
            (Mode::Rows, Some(window)) => {
                return self.refuse(&window.span(), "`window` belongs to mode = \"window\"");
            }
            (Mode::Window, None) => {
                return Err(self.at(1, "`window` is missing: mode = \"window\" needs { size, slide }"));
            }
            (Mode::Window, Some(window)) => window,
        };
        let rows_only = [
            (raw.deduplicate.as_ref().map(Spanned::span), "deduplicate"),
            (raw.quarantine.as_ref().map(Spanned::span), "quarantine"),
            (raw.expectations.first().map(Spanned::span), "expectations"),
            (raw.trailing.first().map(Spanned::span), "trailing"),
            (raw.features.first().map(Spanned::span), "features"),
            (raw.model.as_ref().map(Spanned::span), "model"),
        ];
        for (span, name) in rows_only {
            if let Some(span) = span {
                return self.refuse(&span, format!("`{name}` belongs to mode = \"rows\""));
            }
        }
        let length = |text: &str| parse_us(text).map_err(|problem| self.at(self.line(&window.span()), problem));
        let size_us = length(&window.get_ref().size)?;
        let slide_us = window.get_ref().slide.as_deref().map_or(Ok(size_us), length)?;
        if size_us % slide_us != 0 {
            return self.refuse(&window.span(), "`slide` must divide `size` into whole parts");
        }
        if size_us / slide_us > SLIDES_MAX {
            let problem = format!("`slide` divides `size` into more than {SLIDES_MAX} parts: a row counts in each");
            return self.refuse(&window.span(), problem);
        }
        Ok(Some(WindowSpec { size_us, slide_us }))
    }

    fn expectations(&self, raw: &Header, quarantine: Option<&TableName>) -> Result<Vec<Expectation>, SqlFileError> {
        let mut known: Vec<Expectation> = Vec::with_capacity(raw.expectations.len());
        for spanned in &raw.expectations {
            let ExpectationHeader { name, check, on_fail: action } = spanned.get_ref();
            let on_fail = match action.get_ref().as_str() {
                "warn" => OnFail::Warn,
                "quarantine" => OnFail::Quarantine,
                "fail" => OnFail::Fail,
                other => {
                    let problem = format!("on_fail `{other}` is not one of: warn, quarantine, fail");
                    return self.refuse(&action.span(), problem);
                }
            };
            if on_fail == OnFail::Quarantine && quarantine.is_none() {
                let problem = format!("`{name}` sends rows to quarantine, but the header names no `quarantine` table");
                return self.refuse(&spanned.span(), problem);
            }
            if !is_plain(name) || [EVALUATES, EVENT_TIME_PRESENT].contains(&name.as_str()) {
                let problem = format!("`{name}` cannot name an expectation: use a-z, 0-9 and _, and no built-in name");
                return self.refuse(&spanned.span(), problem);
            }
            if known.iter().any(|other| other.name == *name) {
                return self.refuse(&spanned.span(), format!("the expectation `{name}` stands here twice"));
            }
            let line = self.line(&spanned.span());
            check_length(check).map_err(|problem| self.at(line, problem))?;
            if let Err(error) = DFParser::parse_sql_into_expr(check) {
                let problem = format!("the check of `{name}` is not a SQL expression: {}", Told::new(&error).problem);
                return Err(self.at(line, problem));
            }
            known.push(Expectation { name: name.clone(), check: check.clone(), on_fail, line });
        }
        Ok(known)
    }

    fn trailing(&self, raw: &Header) -> Result<Vec<Trailing>, SqlFileError> {
        let mut known: Vec<Trailing> = Vec::with_capacity(raw.trailing.len());
        for spanned in &raw.trailing {
            let TrailingHeader { column, key, window } = spanned.get_ref();
            let window_us = parse_us(window).map_err(|problem| self.at(self.line(&spanned.span()), problem))?;
            if window_us > TRAILING_DAYS_MAX * 86_400_000_000 {
                let problem = format!("`{window}` is more than the {TRAILING_DAYS_MAX} days that are counted back");
                return self.refuse(&spanned.span(), problem);
            }
            if !is_plain(column) || known.iter().any(|other| other.column == *column) {
                let problem = format!("the trailing column `{column}` needs a name of its own of a-z, 0-9 and _");
                return self.refuse(&spanned.span(), problem);
            }
            known.push(Trailing { column: column.clone(), key: key.clone(), window_us });
        }
        Ok(known)
    }

    fn features(&self, raw: &Header, trailing: &[Trailing]) -> Result<Vec<Feature>, SqlFileError> {
        let mut known: Vec<Feature> = Vec::with_capacity(raw.features.len());
        for spanned in &raw.features {
            let header = spanned.get_ref();
            let line = self.line(&spanned.span());
            let length = |text: &String| parse_us(text).map_err(|problem| self.at(line, problem));
            let found = Aggregate::ALL.into_iter().find(|aggregate| aggregate.as_str() == header.aggregate);
            let Some(aggregate) = found else {
                let names = Aggregate::ALL.map(Aggregate::as_str);
                let near = did_you_mean(&header.aggregate, names);
                let problem = format!("aggregate `{}` is not one of: {}{near}", header.aggregate, names.join(", "));
                return Err(self.at(line, problem));
            };
            let label_delay = match &header.label_delay {
                None | Some(DelayHeader::Flag(false)) => None,
                Some(DelayHeader::Flag(true)) => Some(LabelDelay::standard()),
                Some(DelayHeader::Length(text)) => Some(LabelDelay::Own(length(text)?)),
            };
            let feature = Feature {
                column: header.column.clone(),
                entity: header.entity.clone(),
                aggregate,
                of: header.of.clone(),
                filter: header.filter.clone(),
                window_us: length(&header.window)?,
                grain_us: header.grain.as_ref().map(length).transpose()?,
                last: header.last,
                label_delay,
                about: header.about.clone(),
            };
            let column = &feature.column;
            let is_taken = known.iter().map(|other| &other.column).chain(trailing.iter().map(|count| &count.column));
            if !is_plain(column) || is_taken.into_iter().any(|other| other == column) {
                let problem = format!("the feature `{column}` needs a name of its own of a-z, 0-9 and _");
                return Err(self.at(line, problem));
            }
            feature.check().map_err(|problem| self.at(line, problem))?;
            known.push(feature);
        }
        Ok(known)
    }

    fn model(&self, raw: &Header) -> Result<Option<String>, SqlFileError> {
        let Some(name) = &raw.model else { return Ok(None) };
        if !is_plain(name.get_ref()) {
            let problem = format!("`{}` cannot name a model: use a-z, 0-9 and _", name.get_ref());
            return self.refuse(&name.span(), problem);
        }
        Ok(Some(name.get_ref().clone()))
    }

    fn table_name(&self, name: &Spanned<String>) -> Result<TableName, SqlFileError> {
        name.get_ref().parse().map_err(|error| self.at(self.line(&name.span()), format!("{error}")))
    }

    pub(crate) fn toml_error(&self, error: &toml::de::Error) -> SqlFileError {
        let line = error.span().map_or(1, |span| self.line(&span));
        self.at(line, format!("the header is not right: {}", error.message().replace('\n', " ")))
    }

    pub(crate) fn refuse<T>(&self, span: &Range<usize>, problem: impl Into<String>) -> Result<T, SqlFileError> {
        Err(self.at(self.line(span), problem))
    }

    pub(crate) fn at(&self, line: usize, problem: impl Into<String>) -> SqlFileError {
        SqlFileError::new(self.file, line, problem)
    }

    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        // What is missing at the end is missing on the last line.
        let text = self.text.strip_suffix('\n').unwrap_or(self.text);
        1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
    }
}

pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(plain)
}

fn check_length(sql: &str) -> Result<(), String> {
    // What the tokenizer refuses, the parser refuses with a place.
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if tokens <= TOKENS_MAX {
        return Ok(());
    }
    Err(format!("the SQL has {tokens} words and signs; at most {TOKENS_MAX} can be planned"))
}

/// The one query of a file.
pub(crate) fn check_query(file: &str, sql_line: usize, sql: &str) -> Result<Statement, SqlFileError> {
    let at = |problem: String| SqlFileError::new(file, sql_line, problem);
    check_length(sql).map_err(at)?;
    let statements = DFParser::parse_sql(sql).map_err(|error| SqlFileError::in_sql(file, sql_line, &error))?;
    let mut statements = statements.into_iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(at("a file holds exactly one query after its header".to_owned()));
    };
    let is_query = matches!(&statement, Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)));
    if !is_query {
        return Err(at("the statement is not a query: write SELECT ... FROM layer.table".to_owned()));
    }
    Ok(statement)
}

/// The one table that the query reads.
fn source(file: &str, def: &TableDef) -> Result<TableName, SqlFileError> {
    let sql_error = |error| SqlFileError::in_sql(file, def.sql_line, &error);
    let at = |problem: String| SqlFileError::new(file, def.sql_line, problem);
    let statement = check_query(file, def.sql_line, &def.sql)?;
    let (tables, _ctes) = resolve_table_references(&statement, true).map_err(sql_error)?;
    match tables.as_slice() {
        [TableReference::Partial { schema, table }] => {
            format!("{schema}.{table}").parse().map_err(|error| at(format!("{error}")))
        }
        [other] => Err(at(format!("`{other}` is not a table of the lake: write layer.table"))),
        [] => Err(at("the query reads no table: write FROM layer.table".to_owned())),
        several => {
            let names = several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(at(format!("the query reads {} tables ({names}); an incremental table reads one", several.len())))
        }
    }
}

#[cfg(test)]
mod tests;
