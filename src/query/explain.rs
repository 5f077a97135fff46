//! What is wrong with a query, where, and what was probably meant.

use crate::refine::{in_words, shorten, split_position};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};

use super::bounded::TooLarge;
use super::names::{Names, closest};
use super::text::{Place, caret, divisions, words};

/// Bytes of a message that wants a shorter one.
const LONG: usize = 160;

/// An error of DataFusion for the one who wrote the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub message: String,
    pub place: Option<Place>,
    pub did_you_mean: Vec<String>,
    /// The query itself is wrong, rather than the data or the machine.
    pub is_usage: bool,
}

impl Explained {
    /// `sql` is the text that was planned; `names` what there is; `planning` says that no row had been read yet.
    #[must_use]
    pub fn new(error: &DataFusionError, sql: &str, names: &Names, planning: bool) -> Self {
        let root = error.find_root();
        let place = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| Place {
            line: span.start.line,
            column: span.start.column,
            width: if span.end.line == span.start.line { span.end.column.saturating_sub(span.start.column) } else { 1 },
        });
        let mut explained = Self { message: String::new(), place, did_you_mean: Vec::new(), is_usage: true };
        match root {
            DataFusionError::SQL(parser, _) => {
                let text = parser.to_string();
                let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
                let (message, place) = split_position(text);
                let place = place.map(|(line, column)| Place { line, column, width: 1 });
                explained.message = in_words(message);
                explained.place = explained.place.or(place).or_else(|| end_of(sql));
            }
            DataFusionError::SchemaError(schema, _) => explained.schema(schema, sql),
            DataFusionError::Plan(text) => {
                explained.plan(text, sql, names);
                // What is told beside a place is written for people, and sometimes at half the length.
                let told = error.diagnostic().map(|diagnostic| diagnostic.message.as_str());
                if let Some(told) = told.filter(|told| explained.message.len() > LONG && told.len() < LONG) {
                    explained.message = told.to_owned();
                }
            }
            DataFusionError::Execution(text) => {
                // A constant that a function does not take may be found while planning.
                explained.is_usage = planning;
                explained.message = text.clone();
            }
            DataFusionError::ArrowError(cause, _) => match in_data(cause) {
                Some(message) => {
                    explained.is_usage = planning;
                    explained.message = message;
                    if matches!(**cause, ArrowError::DivideByZero) {
                        explained.place = explained.place.or_else(|| only_division(sql));
                    }
                }
                None => {
                    explained.is_usage = false;
                    explained.message = cause.to_string();
                }
            },
            DataFusionError::External(cause) => {
                explained.is_usage = cause.is::<TooLarge>();
                explained.message = cause.to_string();
            }
            DataFusionError::NotImplemented(text) => explained.message = format!("not supported: {text}"),
            other => {
                explained.is_usage = false;
                explained.message = other.strip_backtrace();
            }
        }
        explained
    }

    /// The message, the line of the query with a caret, and the suggestions.
    #[must_use]
    pub fn render(&self, sql: &str) -> String {
        let mut text = self.message.trim_end().to_owned();
        if let Some(place) = self.place {
            text.push('\n');
            text.push_str(&caret(sql, place));
        }
        if !self.did_you_mean.is_empty() {
            let names: Vec<String> = self.did_you_mean.iter().map(|name| format!("`{name}`")).collect();
            text.push_str(&format!("\n  = did you mean {}?", names.join(" or ")));
        }
        text
    }

    fn schema(&mut self, error: &SchemaError, sql: &str) {
        let SchemaError::FieldNotFound { field, valid_fields } = error else {
            self.message = error.to_string();
            return;
        };
        let within = field.relation.as_ref().map(|table| format!(" in `{table}`")).unwrap_or_default();
        self.message = format!("there is no column `{}`{within}", field.name);
        self.place = self.place.or_else(|| find_word(sql, &field.name));
        self.did_you_mean = closest(&field.name, valid_fields.iter().map(|field| field.name.as_str()));
    }

    fn plan(&mut self, text: &str, sql: &str, names: &Names) {
        let quoted = |prefix: &str| text.strip_prefix(prefix)?.split_once('\'').map(|(name, _)| name.to_owned());
        if let Some(full) = quoted("table '").filter(|_| text.contains("not found")) {
            // The catalog, and a schema that was not written, are not the user's words.
            let mut parts = full.rsplit('.');
            let bare = parts.next().unwrap_or(&full).to_owned();
            let wanted = match parts.next() {
                Some(schema) if find_word(sql, schema).is_some() => format!("{schema}.{bare}"),
                _ => bare.clone(),
            };
            self.message = format!("there is no table `{wanted}`");
            self.place = self.place.or_else(|| find_word(sql, &bare));
            self.did_you_mean = names.like_table(&wanted);
            return;
        }
        if let Some(name) = quoted("Invalid function '") {
            self.message = format!("there is no function `{name}`");
            self.place = self.place.or_else(|| find_word(sql, &name));
            self.did_you_mean = closest(&name, names.functions.iter().map(String::as_str));
            return;
        }
        self.message = match text.split_once(" not supported: ") {
            // How SQLOptions refuses.
            Some(("DDL" | "DML" | "Statement", _)) => {
                "the tables can be read here, not changed: write SELECT, WITH, VALUES, EXPLAIN, DESCRIBE or SHOW"
                    .to_owned()
            }
            _ => shorten(text),
        };
    }
}

/// Just behind the last character: where something is missing.
fn end_of(sql: &str) -> Option<Place> {
    let text = sql.trim_end();
    let line = text.lines().count() as u64;
    let column = text.lines().last()?.chars().count() as u64 + 1;
    Some(Place { line, column, width: 1 })
}

fn find_word(sql: &str, wanted: &str) -> Option<Place> {
    words(sql).into_iter().find(|(word, _)| word.eq_ignore_ascii_case(wanted)).map(|(_, place)| place)
}

/// What an expression cannot compute.
fn in_data(error: &ArrowError) -> Option<String> {
    let advice = "; try_cast(x AS type) gives NULL where a value does not fit";
    match error {
        ArrowError::DivideByZero => {
            Some("an expression divides by zero: guard it, for example with nullif(divisor, 0)".to_owned())
        }
        ArrowError::CastError(text) => Some(format!("{}{advice}", lower(text))),
        ArrowError::ParseError(text) => Some(format!("a value cannot be read: {text}")),
        ArrowError::ArithmeticOverflow(text) => {
            Some(format!("a result does not fit its type: {text}; cast to a wider one"))
        }
        ArrowError::ComputeError(text) => Some(format!("an expression cannot be computed: {text}")),
        ArrowError::InvalidArgumentError(text) => Some(format!("an argument cannot be used: {text}")),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>()?.find_root() {
            DataFusionError::ArrowError(inner, _) => in_data(inner),
            DataFusionError::Execution(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The division of a query that has only one: the engine does not tell where a row failed.
fn only_division(sql: &str) -> Option<Place> {
    let divisions = divisions(sql);
    <[Place; 1]>::try_from(divisions).ok().map(|[place]| place)
}
