//! SQL as text: statements, `AS OF EPOCH n`, and where in it something stands.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

/// Statements of one script. Each is kept with what comes before it as blanks, so many would take the square of the text.
const STATEMENTS_MAX: usize = 100;

/// A query that cannot be read as text, before any planning. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlTextError {
    #[error("{message}")]
    Unreadable { message: String, line: u64, column: u64 },
    #[error("AS OF EPOCH wants the number of an epoch, from 1, and got {found}")]
    NotAnEpoch { found: String, line: u64, column: u64 },
    #[error("{STATEMENTS_MAX} statements at a time, no more: send them in parts")]
    TooMany { line: u64, column: u64 },
    #[error("one query reads one epoch: this says {second}, and before that it said {first}")]
    TwoEpochs { first: i64, second: i64, line: u64, column: u64 },
}

impl SqlTextError {
    /// Line and column.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        match *self {
            Self::Unreadable { line, column, .. }
            | Self::NotAnEpoch { line, column, .. }
            | Self::TooMany { line, column }
            | Self::TwoEpochs { line, column, .. } => (line, column),
        }
    }

    /// With the line of the query and a caret.
    #[must_use]
    pub fn render(&self, sql: &str) -> String {
        let (line, column) = self.position();
        format!("{self}\n{}", caret(sql, Place { line, column, width: 1 }))
    }
}

/// Takes `AS OF EPOCH n` out of a query, wherever it stands outside of quotes and comments.
///
/// Blanks take its place, so the positions in later errors stay right. The same epoch may be named more than once.
///
/// # Errors
/// When quotes do not end, the number is none, or two different epochs are named.
pub fn split_epoch(sql: &str) -> Result<(String, Option<i64>), SqlTextError> {
    let tokens = tokens(sql)?;
    let words: Vec<&TokenWithSpan> = tokens.iter().filter(|token| !is_blank(&token.token)).collect();
    let mut text: Option<Vec<char>> = None;
    let mut epoch = None;
    let mut rest = words.as_slice();
    while let [first, following @ ..] = rest {
        rest = following;
        let [of, name, value, after @ ..] = following else {
            if let [of, name] = following
                && is_as_of_epoch(first, of, name)
            {
                let Location { line, column } = name.span.end;
                return Err(SqlTextError::NotAnEpoch { found: "nothing".to_owned(), line, column });
            }
            continue;
        };
        if !is_as_of_epoch(first, of, name) {
            continue;
        }
        let Location { line, column } = value.span.start;
        let number = match &value.token {
            Token::Number(digits, _) => digits.parse::<i64>().ok().filter(|number| *number >= 1),
            _ => None,
        };
        let Some(number) = number else {
            let found = format!("`{}`", value.token);
            return Err(SqlTextError::NotAnEpoch { found, line, column });
        };
        match epoch {
            Some(known) if known != number => {
                return Err(SqlTextError::TwoEpochs { first: known, second: number, line, column });
            }
            _ => epoch = Some(number),
        }
        let chars = text.get_or_insert_with(|| sql.chars().collect());
        blank(chars, char_offset(sql, first.span.start), char_offset(sql, value.span.end));
        rest = after;
    }
    let text = text.map_or_else(|| sql.to_owned(), |chars| chars.into_iter().collect());
    Ok((text.trim_end().to_owned(), epoch))
}

/// The statements of a script, without their semicolons. What comes before each is blank, so that positions in errors
/// are those of the script.
///
/// # Errors
/// When quotes or comments do not end, or the statements are too many.
pub fn statements(script: &str) -> Result<Vec<String>, SqlTextError> {
    let mut statements = Vec::new();
    let (mut begin, mut empty) = (0, true);
    let statement = |begin: usize, end: usize| {
        let (before, text) = (script.chars().take(begin), script.chars().skip(begin).take(end - begin));
        let before = before.map(|c| if c == '\n' { '\n' } else { ' ' });
        before.chain(text).collect::<String>()
    };
    for token in tokens(script)? {
        match &token.token {
            Token::SemiColon => {
                let Location { line, column } = token.span.start;
                if !empty {
                    statements.push(statement(begin, char_offset(script, token.span.start)));
                    if statements.len() > STATEMENTS_MAX {
                        return Err(SqlTextError::TooMany { line, column });
                    }
                }
                begin = char_offset(script, token.span.end);
                empty = true;
            }
            other => empty &= is_blank(other),
        }
    }
    if !empty {
        statements.push(statement(begin, script.chars().count()));
    }
    Ok(statements)
}

/// How deep the tree of a query can be: its operators. What cannot be read has none.
pub(super) fn operators(sql: &str) -> usize {
    let joins = ["and", "or", "not", "union", "except", "intersect", "join", "like", "between", "is"];
    let is_one = |token: &TokenWithSpan| match &token.token {
        Token::Word(Word { value, quote_style: None, .. }) => joins.iter().any(|join| value.eq_ignore_ascii_case(join)),
        Token::Word(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::RParen
        | Token::RBracket
        | Token::SemiColon => false,
        other => !is_blank(other),
    };
    tokens(sql).unwrap_or_default().iter().filter(|token| is_one(token)).count()
}

/// Whether a text of the prompt is whole: it ends with a semicolon that is in no quote and no comment.
#[must_use]
pub fn is_complete(text: &str) -> bool {
    // What cannot be read yet has a quote or a comment that is still open.
    let Ok(tokens) = tokens(text) else { return false };
    let last = tokens.iter().rev().find(|token| !is_blank(&token.token));
    last.is_none_or(|token| token.token == Token::SemiColon)
}

/// The unquoted and quoted words of a query, with their places; none when it cannot be read.
#[must_use]
pub fn words(sql: &str) -> Vec<(String, Place)> {
    let tokens = tokens(sql).unwrap_or_default();
    let words = tokens.iter().filter_map(|token| match &token.token {
        Token::Word(Word { value, .. }) => {
            let Location { line, column } = token.span.start;
            let width = token.span.end.column.saturating_sub(column).max(1);
            Some((value.clone(), Place { line, column, width }))
        }
        _ => None,
    });
    words.collect()
}

/// The places of `/` and `%`.
#[must_use]
pub fn divisions(sql: &str) -> Vec<Place> {
    let tokens = tokens(sql).unwrap_or_default();
    let divisions = tokens.iter().filter(|token| matches!(token.token, Token::Div | Token::Mod));
    divisions.map(|token| Place { line: token.span.start.line, column: token.span.start.column, width: 1 }).collect()
}

/// Part of a line of a query; columns count characters from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
    pub width: u64,
}

/// The line that a place is in, and `^` under it.
#[must_use]
pub fn caret(sql: &str, place: Place) -> String {
    let index = usize::try_from(place.line).unwrap_or(1).saturating_sub(1);
    let line = sql.lines().nth(index).unwrap_or_default();
    let column = usize::try_from(place.column).unwrap_or(1).max(1);
    // Tabs are kept, so that the caret stands right whatever their width; wide characters take two blanks.
    let before = line.chars().take(column - 1).map(|c| match c {
        '\t' => "\t",
        wide if console::measure_text_width(wide.encode_utf8(&mut [0; 4])) > 1 => "  ",
        _ => " ",
    });
    let before: String = before.collect();
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let carets = "^".repeat(usize::try_from(place.width).unwrap_or(1).clamp(1, 200));
    format!("{margin} --> line {number}, column {column}\n{margin} |\n{number} | {line}\n{margin} | {before}{carets}")
}

fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, SqlTextError> {
    Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(|error| SqlTextError::Unreadable {
        message: error.message,
        line: error.location.line,
        column: error.location.column,
    })
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

fn is_as_of_epoch(first: &TokenWithSpan, second: &TokenWithSpan, third: &TokenWithSpan) -> bool {
    let is = |token: &TokenWithSpan, expected: &str| matches!(&token.token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(expected));
    is(first, "as") && is(second, "of") && is(third, "epoch")
}

fn blank(chars: &mut [char], from: usize, to: usize) {
    for c in chars.iter_mut().take(to).skip(from) {
        if *c != '\n' {
            *c = ' ';
        }
    }
}

fn char_offset(sql: &str, at: Location) -> usize {
    let line = usize::try_from(at.line).unwrap_or(1).saturating_sub(1);
    let column = usize::try_from(at.column).unwrap_or(1).saturating_sub(1);
    let before: usize = sql.split('\n').take(line).map(|line| line.chars().count() + 1).sum();
    before + column
}
