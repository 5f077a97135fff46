//! JSON messages, one object each, read straight into columns.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate};

use super::avro::Fault;
use super::columns::Columns;
use super::field::{ContractField, Kind, latin1};
use super::json_scan::{Broken, Scanner, Token};
use crate::domain::Reason;

/// Reads messages into the columns of a contract.
#[derive(Debug)]
pub(super) struct JsonReader {
    fields: Vec<ContractField>,
    by_name: HashMap<String, usize>,
    /// Whether the message at hand has the field.
    seen: Vec<bool>,
    unescaped: String,
}

impl JsonReader {
    pub(super) fn new(fields: &[ContractField]) -> Self {
        let aliases =
            fields.iter().enumerate().flat_map(|(at, field)| field.aliases.iter().map(move |name| (name, at)));
        let names = fields.iter().enumerate().map(|(at, field)| (&field.name, at));
        let by_name = aliases.chain(names).map(|(name, at)| (name.clone(), at)).collect();
        Self { fields: fields.to_vec(), by_name, seen: vec![false; fields.len()], unescaped: String::new() }
    }

    /// Reads one message into one row, and says whether it has a field that version 1 lacks.
    ///
    /// On a fault some columns may hold a part of the row: the caller takes it back.
    pub(super) fn read(&mut self, payload: &[u8], columns: &mut Columns) -> Result<bool, Box<Fault>> {
        let text = std::str::from_utf8(payload).map_err(|cause| {
            let detail = format!("byte {}: not UTF-8", cause.valid_up_to());
            Box::new(Fault { reason: Reason::InvalidUtf8, detail })
        })?;
        let Self { fields, by_name, seen, unescaped } = self;
        seen.fill(false);
        let mut fault = None;
        let mut scanner = Scanner::new(text, unescaped);
        scanner.expect(b'{', "expected an object")?;
        let mut next = 0;
        let mut first = true;
        while !scanner.eat(b'}') {
            if !first {
                scanner.expect(b',', "expected `,` or `}`")?;
            }
            first = false;
            let key = scanner.key()?;
            let Some(at) = find(fields, by_name, scanner.say(&key), next) else {
                let token = scanner.value()?;
                scanner.skip_rest(&token)?;
                continue;
            };
            next = at + 1;
            let start = scanner.at();
            let token = scanner.value()?;
            let twice = std::mem::replace(&mut seen[at], true);
            // A text that is no JSON at all is worse than a wrong field: read to the end before judging.
            let result = match (twice, fault.is_some()) {
                (true, _) => Err((Reason::InvalidJson, "the field is there twice".to_owned())),
                (_, true) => Ok(()),
                _ => push(&fields[at], &token, &scanner, columns),
            };
            if let Err((reason, what)) = result {
                let detail = format!("field `{}` (byte {start}): {what}", fields[at].name);
                fault.get_or_insert_with(|| Box::new(Fault { reason, detail }));
            }
            scanner.skip_rest(&token)?;
        }
        scanner.end()?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let mut evolved = false;
        for (field, seen) in fields.iter().zip(seen) {
            evolved |= *seen && field.evolved;
            if !*seen {
                fill(field, columns)?;
            }
        }
        Ok(evolved)
    }
}

/// Producers write the fields in one order, so the next one is usually the one expected.
fn find(fields: &[ContractField], by_name: &HashMap<String, usize>, name: &str, next: usize) -> Option<usize> {
    match fields.get(next) {
        Some(field) if field.name == name => Some(next),
        _ => by_name.get(name).copied(),
    }
}

fn fill(field: &ContractField, columns: &mut Columns) -> Result<(), Box<Fault>> {
    let fault = |reason, what: &str| Box::new(Fault { reason, detail: format!("field `{}`: {what}", field.name) });
    match &field.default {
        Some(default) => columns.push_fill(field.slot, default).map_err(|_| fault(Reason::Malformed, FULL)),
        None if field.nullable => {
            columns.push_null(field.slot);
            Ok(())
        }
        None => Err(fault(Reason::MissingField, "absent, but the contract requires it")),
    }
}

const FULL: &str = "the batch's values of this column exceed 2 GiB";

type Refusal = (Reason, String);

fn push(field: &ContractField, token: &Token<'_>, scanner: &Scanner<'_>, columns: &mut Columns) -> Result<(), Refusal> {
    let at = field.slot.index;
    let wrong = || (Reason::WrongType, format!("expected {}, found {}", field.kind.as_str(), describe(token)));
    let full = |_| (Reason::Malformed, FULL.to_owned());
    match (&field.kind, token) {
        (_, Token::Null) if field.nullable => columns.push_null(field.slot),
        (_, Token::Null) => return Err((Reason::MissingField, "null, but the contract requires a value".to_owned())),
        (Kind::Boolean, Token::Boolean(value)) => columns.bools[at].push(*value),
        (Kind::Int | Kind::Date, Token::Number { text, integer: true }) => {
            columns.i32s[at].push(text.parse().map_err(|_| wrong())?);
        }
        (Kind::Long | Kind::TimestampMillis | Kind::TimestampMicros, Token::Number { text, integer: true }) => {
            let value = text.parse().ok().and_then(|value: i64| value.checked_mul(field.kind.scale()));
            columns.i64s[at].push(value.ok_or_else(wrong)?);
        }
        (Kind::Float, Token::Number { text, .. }) => {
            columns.f32s[at].push(text.parse().ok().filter(|value: &f32| value.is_finite()).ok_or_else(wrong)?);
        }
        (Kind::Double, Token::Number { text, .. }) => {
            columns.f64s[at].push(text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(wrong)?);
        }
        (Kind::String, Token::String(text)) => columns.bytes[at].push(scanner.say(text).as_bytes()).map_err(full)?,
        (Kind::Bytes, Token::String(text)) => {
            let bytes = latin1(scanner.say(text)).ok_or_else(wrong)?;
            columns.bytes[at].push(&bytes).map_err(full)?;
        }
        (Kind::Enum { symbols, default, .. }, Token::String(text)) => {
            let text = scanner.say(text);
            let known = symbols.iter().map(String::as_str).find(|symbol| *symbol == text);
            let symbol = known
                .or(default.as_deref())
                .ok_or_else(|| (Reason::WrongType, format!("the enum has no symbol `{}`", shown(text))))?;
            columns.bytes[at].push(symbol.as_bytes()).map_err(full)?;
        }
        (Kind::Date, Token::String(text)) => {
            let date = scanner.say(text).parse::<NaiveDate>().ok();
            let days = date.and_then(|date| i32::try_from((date - NaiveDate::default()).num_days()).ok());
            columns.i32s[at].push(days.ok_or_else(wrong)?);
        }
        (Kind::TimestampMillis | Kind::TimestampMicros, Token::String(text)) => {
            let at_us = DateTime::parse_from_rfc3339(scanner.say(text)).ok().map(|instant| instant.timestamp_micros());
            columns.i64s[at].push(at_us.ok_or_else(wrong)?);
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn describe(token: &Token<'_>) -> String {
    match token {
        Token::Null => "null".to_owned(),
        Token::Boolean(value) => value.to_string(),
        Token::Number { text, .. } => shown(text),
        Token::String(_) => "a string".to_owned(),
        Token::Object => "an object".to_owned(),
        Token::Array => "an array".to_owned(),
    }
}

/// At most the first 40 characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl From<Broken> for Box<Fault> {
    fn from(Broken { at, what }: Broken) -> Self {
        Self::new(Fault { reason: Reason::InvalidJson, detail: format!("byte {at}: {what}") })
    }
}
