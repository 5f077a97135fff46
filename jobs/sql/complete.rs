//! What may follow at the cursor: commands, keywords, tables, columns.

use std::sync::{Arc, PoisonError, RwLock};

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::prompt::COMMANDS;
use assay::query::Names;
use assay::query::is_complete;

#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "ALL", "AND", "AS", "AS OF EPOCH", "ASC", "AVG", "BETWEEN", "BY", "CASE", "CAST", "COALESCE", "COUNT", "CROSS JOIN",
    "CURRENT_DATE", "DATE_BIN", "DATE_PART", "DATE_TRUNC", "DESC", "DESCRIBE", "DISTINCT", "ELSE", "END", "EXCEPT",
    "EXISTS", "EXPLAIN", "EXPLAIN ANALYZE", "EXTRACT", "FALSE", "FILTER", "FROM", "FULL JOIN", "GROUP BY", "HAVING",
    "ILIKE", "IN", "INNER JOIN", "INTERSECT", "INTERVAL", "IS", "JOIN", "LEFT JOIN", "LIKE", "LIMIT", "MAX", "MEDIAN",
    "MIN", "NOT", "NULL", "NULLIF", "NULLS LAST", "OFFSET", "ON", "OR", "ORDER BY", "OVER", "PARTITION BY", "RIGHT JOIN",
    "ROUND", "ROW_NUMBER", "SELECT", "SUM", "THEN", "TIMESTAMP", "TRUE", "UNION", "UNION ALL", "UNNEST", "USING",
    "VALUES", "WHEN", "WHERE", "WITH",
];

/// Completes, hints from history, and keeps reading until a statement is whole.
pub struct PromptHelper {
    pub names: Arc<RwLock<Names>>,
    pub hinter: HistoryHinter,
    pub colors: bool,
}

/// The start of the word at `pos` and what it may become, in order.
pub fn candidates(line: &str, pos: usize, names: &Names) -> (usize, Vec<String>) {
    let before = line.get(..pos).unwrap_or(line);
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let start = before.char_indices().rev().take_while(|(_, c)| in_word(*c)).last().map_or(before.len(), |(at, _)| at);
    let word = before.get(start..).unwrap_or_default();
    if before.trim_start().starts_with('.') {
        return complete_command(before, start, word, names);
    }
    let lower = word.to_lowercase();
    let mut found: Vec<String> = Vec::new();
    if let Some((owner, partial)) = lower.rsplit_once('.') {
        // `layer.t…`, `layer.table.c…` or `table.c…`
        let written = word.get(..owner.len() + 1).unwrap_or_default();
        found.extend(names.tables.keys().filter(|name| name.starts_with(&lower)).cloned());
        let owners = names
            .tables
            .iter()
            .filter(|(name, _)| name.as_str() == owner || name.split_once('.').is_some_and(|(_, bare)| bare == owner));
        let columns = owners.flat_map(|(_, columns)| columns).filter(|column| column.name.starts_with(partial));
        found.extend(columns.map(|column| format!("{written}{}", column.name)));
    } else if !word.is_empty() {
        let used: Vec<&String> = names.tables.keys().filter(|name| line.contains(name.as_str())).collect();
        let tables = names.tables.iter().filter(|(name, _)| used.is_empty() || used.contains(name));
        let columns = tables.flat_map(|(_, columns)| columns).map(|column| column.name.clone());
        found.extend(columns.filter(|name| name.starts_with(&lower)));
        let begins = |name: &&String| {
            name.starts_with(&lower) || name.split_once('.').is_some_and(|(_, bare)| bare.starts_with(&lower))
        };
        found.extend(names.tables.keys().filter(begins).cloned());
        let upper = word.to_uppercase();
        let shouts = word.chars().any(char::is_uppercase);
        let keywords = KEYWORDS.iter().filter(|keyword| keyword.starts_with(&upper));
        found.extend(keywords.map(|keyword| if shouts { (*keyword).to_owned() } else { keyword.to_lowercase() }));
    } else if follows_table_keyword(before) {
        found.extend(names.tables.keys().cloned());
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|name| seen.insert(name.clone()));
    (start, found)
}

fn complete_command(before: &str, start: usize, word: &str, names: &Names) -> (usize, Vec<String>) {
    let has_argument = before.trim_start().contains(' ');
    if has_argument {
        return (start, names.tables.keys().filter(|name| name.starts_with(word)).cloned().collect());
    }
    let commands = COMMANDS.iter().map(|(name, _)| name.split(' ').next().unwrap_or(name));
    (start, commands.filter(|name| name.starts_with(word)).map(str::to_owned).collect())
}

fn follows_table_keyword(before: &str) -> bool {
    let last = before.split_whitespace().next_back().unwrap_or_default().to_uppercase();
    matches!(last.as_str(), "FROM" | "JOIN" | "DESCRIBE")
}

impl Helper for PromptHelper {}

impl Completer for PromptHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let (start, found) = candidates(line, pos, &names);
        let pair = |name: String| Pair { display: name.clone(), replacement: name };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for PromptHelper {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        self.hinter.hint(line, pos, context)
    }
}

impl Highlighter for PromptHelper {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> std::borrow::Cow<'b, str> {
        if self.colors { format!("\x1b[1;36m{prompt}\x1b[0m").into() } else { prompt.into() }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> std::borrow::Cow<'h, str> {
        if self.colors { format!("\x1b[2m{hint}\x1b[0m").into() } else { hint.into() }
    }
}

impl Validator for PromptHelper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let done = super::prompt::is_command(context.input()) || is_complete(context.input());
        Ok(if done { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}
