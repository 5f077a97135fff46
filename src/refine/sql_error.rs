//! DataFusion's errors in the words of the one who wrote the SQL.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::domain::did_you_mean;

/// What is wrong, and where in the SQL: line and column from 1, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub problem: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
}

impl Told {
    #[must_use]
    pub fn new(error: &DataFusionError) -> Self {
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span).filter(|span| span.start.line > 0);
        let place = span.map(|span| (span.start.line, span.start.column));
        let (problem, parsed) = match error.find_root() {
            DataFusionError::SQL(parser, _) => {
                let text = parser.to_string();
                let (text, place) = split_position(text.strip_prefix("sql parser error: ").unwrap_or(&text));
                (in_words(text), place)
            }
            DataFusionError::SchemaError(schema, _) => (of_schema(schema), None),
            DataFusionError::Plan(text) => (shorten(text), None),
            other => (shorten(&other.strip_backtrace()), None),
        };
        let place = place.or(parsed).map(|(line, column)| (line as usize, column as usize));
        Self { problem, line: place.map(|(line, _)| line), column: place.map(|(_, column)| column) }
    }
}

/// Takes ` at Line: 1, Column: 8` from the end of a parser's message.
#[must_use]
pub fn split_position(text: &str) -> (&str, Option<(u64, u64)>) {
    let parse = |rest: &str| {
        let (line, column) = rest.split_once(", Column: ")?;
        let digits = column.split(|c: char| !c.is_ascii_digit()).next()?;
        let place = (line.parse().ok()?, digits.parse().ok()?);
        (place.0 > 0).then_some(place)
    };
    match text.rsplit_once(" at Line: ") {
        Some((message, rest)) => (message, parse(rest)),
        None => (text, None),
    }
}

/// The parser's `Expected: x, found: y` as a clause.
#[must_use]
pub fn in_words(text: &str) -> String {
    let Some(rest) = text.strip_prefix("Expected: ") else { return text.to_owned() };
    match rest.rsplit_once(", found: ") {
        Some((expected, found)) => {
            let found = if found == "EOF" { "the end of the SQL" } else { found };
            format!("expected {expected}, found {found}")
        }
        None => format!("expected {rest}"),
    }
}

/// A message without the list of all signatures that a function has, which it gives more than once.
#[must_use]
pub fn shorten(text: &str) -> String {
    const NO_MATCH: &str = "No function matches the given name and argument types '";
    let call = text.split_once(NO_MATCH).and_then(|(_, rest)| rest.split_once('\''));
    if let Some((call, _)) = call {
        return format!("no function takes these types: {call}; cast the arguments");
    }
    let text = text.split("\n\nbacktrace:").next().unwrap_or_default().trim();
    let text = text.strip_prefix("type_coercion\ncaused by\n").unwrap_or(text);
    text.strip_prefix("Error during planning: ").unwrap_or(text).replace('\n', " ")
}

fn of_schema(error: &SchemaError) -> String {
    let SchemaError::FieldNotFound { field, valid_fields } = error else { return error.to_string() };
    let within = field.relation.as_ref().map(|table| format!(" in `{table}`")).unwrap_or_default();
    let near = did_you_mean(&field.name, valid_fields.iter().map(|field| field.name.as_str()));
    format!("there is no column `{}`{within}{near}", field.name)
}
