//! Where each setting was given, and what it accepts, for errors.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::domain::did_you_mean;

/// The place that gave each key: `assay.toml:12`, or the name of a variable.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, String>);

impl Places {
    pub(super) fn of_file(text: &str, shown: &str) -> Self {
        let mut places = BTreeMap::new();
        each_key(text, |key, name, _| {
            places.insert(key.to_owned(), format!("{shown}:{}", line_of(text, name.start)));
        });
        Self(places)
    }

    /// A variable gives the key, and all that lies below it, anew.
    pub(super) fn give(&mut self, key: &str, place: &str) {
        let below = format!("{key}.");
        self.0.retain(|known, _| !known.starts_with(&below));
        self.0.insert(key.to_owned(), place.to_owned());
    }

    /// The place of a key, or of what it lies in.
    pub(super) fn of(&self, key: &str) -> Option<&str> {
        let mut key = key;
        loop {
            if let Some(place) = self.0.get(key) {
                return Some(place);
            }
            key = key.rsplit_once('.')?.0;
        }
    }
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The key whose name or value stands at `offset`.
pub(super) fn key_at(text: &str, offset: usize) -> Option<String> {
    let mut found = None;
    // Outer keys come first, so the last one is the innermost.
    each_key(text, |key, name, value| {
        if name.contains(&offset) || value.contains(&offset) {
            found = Some(key.to_owned());
        }
    });
    found
}

/// Says in the words of the file what a key accepts; serde speaks of Rust's types.
pub(super) fn explain(key: &str, message: &str) -> String {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    if let Some((_, rest)) = message.split_once("unknown field ") {
        let names = quoted(rest);
        let Some((wrong, known)) = names.split_first() else { return message.to_owned() };
        let hint = did_you_mean(wrong, known.iter().map(String::as_str));
        let (hint, there) = if hint.is_empty() { (";", "there") } else { (hint.as_str(), "There") };
        let known = known.join(", ");
        return match key.rsplit_once('.') {
            Some((section, _)) => format!("there is no setting {key}{hint} [{section}] has: {known}"),
            None => format!("there is no setting {key}{hint} {there} are: {known}"),
        };
    }
    if let Some((_, rest)) = message.split_once("unknown variant ") {
        let names = quoted(rest);
        let Some((wrong, known)) = names.split_first() else { return message.to_owned() };
        let known = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ");
        return format!("{key}: \"{wrong}\" is not accepted; give {known}");
    }
    let bad = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match bad.and_then(|bad| bad.rsplit_once(", expected ")) {
        Some((found, expected)) => {
            format!("{key}: the {} is not accepted; give {}", found.replace('`', ""), in_words(expected))
        }
        None if key.is_empty() => message.to_owned(),
        None => format!("{key}: {message}"),
    }
}

fn in_words(expected: &str) -> String {
    match expected {
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "a text in quotes".to_owned(),
        "a sequence" => "a list, such as [\"a\", \"b\"]".to_owned(),
        "a map" => "a table, such as { key = \"value\" }".to_owned(),
        other if other.starts_with("struct ") => "a section of settings".to_owned(),
        other => other.to_owned(),
    }
}

/// Calls `each` with every dotted key, where its name stands, and where its value does.
fn each_key(text: &str, mut each: impl FnMut(&str, Range<usize>, Range<usize>)) {
    fn walk(prefix: &str, table: &DeTable<'_>, each: &mut impl FnMut(&str, Range<usize>, Range<usize>)) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            each(&key, Spanned::span(name), value.span());
            if let DeValue::Table(inner) = value.get_ref() {
                walk(&key, inner, each);
            }
        }
    }
    let (table, _errors) = DeTable::parse_recoverable(text);
    walk("", table.get_ref(), &mut each);
}
