//! Questions about PostgreSQL's catalog that the engine cannot plan, in words that it can, with the same answer here.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The question as it can be planned; `None` when there is nothing to concede.
pub(in crate::serve) fn conceded(sql: &str) -> Option<String> {
    let mut tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().ok()?;
    let has = |tokens: &[Token], name: &str| tokens.iter().any(|token| is(token, name));
    // Keys and indexes are listed by taking arrays apart, and options of storage stand beside parents: the lake has none.
    let asks_keys = has(&tokens, "unnest") && (has(&tokens, "indkey") || has(&tokens, "conkey"));
    if asks_keys || (has(&tokens, "reloptions") && has(&tokens, "pg_inherits")) {
        let (_, columns) = select_list(&tokens)?;
        let columns: Vec<String> = (1..=columns).map(|number| format!("CAST(NULL AS TEXT) AS c{number}")).collect();
        return Some(format!("SELECT {} WHERE false", columns.join(", ")));
    }
    let mut is_changed = false;
    // Defaults, identities and collations of columns are looked up one by one: there are none either.
    while has(&tokens, "json_build_object")
        && let Some((end, _)) = select_list(&tokens)
        && let Some((from, to)) = subquery(&tokens, end)
    {
        tokens.splice(from..to, [Token::make_word("NULL", None)]);
        is_changed = true;
    }
    // The engine has no other sign than the backslash; no name of ours has a sign that would need one.
    while let Some(at) = tokens.iter().position(|token| is(token, "escape")) {
        let sign = tokens.iter().skip(at + 1).position(|token| matches!(token, Token::SingleQuotedString(_)))?;
        tokens.drain(at..=at + 1 + sign);
        is_changed = true;
    }
    is_changed.then(|| tokens.iter().map(ToString::to_string).collect())
}

fn is(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case(name))
}

/// Where the list of the first SELECT ends, and how many columns it has.
fn select_list(tokens: &[Token]) -> Option<(usize, usize)> {
    let first = tokens.iter().position(|token| matches!(token, Token::Word(_)))?;
    if !is(tokens.get(first)?, "select") {
        return None;
    }
    let (mut depth, mut columns) = (0_i32, 1);
    for (at, token) in tokens.iter().enumerate().skip(first) {
        match token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Comma if depth == 0 => columns += 1,
            token if depth == 0 && is(token, "from") => return Some((at, columns)),
            _ => {}
        }
    }
    None
}

/// The first question in parentheses that begins before `end`.
fn subquery(tokens: &[Token], end: usize) -> Option<(usize, usize)> {
    let begins = |at: usize| {
        let mut after = tokens.iter().skip(at + 1).filter(|token| !matches!(token, Token::Whitespace(_)));
        tokens.get(at) == Some(&Token::LParen) && after.next().is_some_and(|token| is(token, "select"))
    };
    let from = (0..end).find(|at| begins(*at))?;
    let mut depth = 0_i32;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((from, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlalchemy_asks_is_put_into_other_words() {
        for (sql, expected) in [
            (
                "SELECT n.nspname FROM pg_namespace n WHERE n.nspname NOT LIKE $1 || '%' ESCAPE '/' ORDER BY 1",
                Some("SELECT n.nspname FROM pg_namespace n WHERE n.nspname NOT LIKE $1 || '%'  ORDER BY 1"),
            ),
            (
                "SELECT a, f(b, c), (SELECT 1) FROM (SELECT unnest(i.indkey) FROM pg_index i) x",
                Some("SELECT CAST(NULL AS TEXT) AS c1, CAST(NULL AS TEXT) AS c2, CAST(NULL AS TEXT) AS c3 WHERE false"),
            ),
            (
                "SELECT c.relname, c.reloptions FROM pg_class c LEFT JOIN (SELECT inhrelid FROM pg_inherits) p ON true",
                Some("SELECT CAST(NULL AS TEXT) AS c1, CAST(NULL AS TEXT) AS c2 WHERE false"),
            ),
            (
                "SELECT a, CASE WHEN b THEN (SELECT json_build_object('x', (1)) FROM t) END FROM (SELECT 2) u",
                Some("SELECT a, CASE WHEN b THEN NULL END FROM (SELECT 2) u"),
            ),
            ("SELECT relname FROM pg_class WHERE relname LIKE 'a%'", None),
        ] {
            assert_eq!(conceded(sql).as_deref(), expected, "{sql}");
        }
    }
}
