//! Which statements are questions, which are about the session, and which would change something.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::failure::{Failure, state};

/// A statement by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) enum Command {
    Begin,
    Commit,
    Rollback,
    /// Savepoints: nothing changes, so nothing is taken back. With the tag that answers it.
    Savepoint(&'static str),
    /// A transaction that failed goes on.
    RollbackTo,
    /// `None` sets the default.
    Set {
        name: String,
        value: Option<String>,
    },
    ResetAll,
    /// Accepted, and nothing follows; with its tag.
    Nothing(&'static str),
    Show(String),
    ShowAll,
    /// `None` for all.
    Deallocate(Option<String>),
    DiscardAll,
    Query,
}

impl Command {
    /// Reads the first words of a statement; what would change the lake is refused here, with its name.
    pub fn parse(sql: &str) -> Result<Self, Failure> {
        let tokens = words(sql);
        let word = |at: usize| tokens.get(at).map_or_else(String::new, |word| word.to_ascii_uppercase());
        let command = match word(0).as_str() {
            "BEGIN" => Self::Begin,
            "START" if word(1) == "TRANSACTION" => Self::Begin,
            "COMMIT" | "END" => Self::Commit,
            "ROLLBACK" if word(1) == "TO" || word(2) == "TO" => Self::RollbackTo,
            "ROLLBACK" | "ABORT" => Self::Rollback,
            "SAVEPOINT" => Self::Savepoint("SAVEPOINT"),
            "RELEASE" => Self::Savepoint("RELEASE"),
            "SET" => return set(&tokens),
            "RESET" if word(1) == "ALL" => Self::ResetAll,
            "RESET" => Self::Set { name: unquoted(&word(1)), value: None },
            "SHOW" => match word(1).as_str() {
                "ALL" => Self::ShowAll,
                "TIME" => Self::Show("TimeZone".to_owned()),
                "TRANSACTION" => Self::Show("transaction_isolation".to_owned()),
                // Those of the engine.
                "TABLES" | "COLUMNS" | "FUNCTIONS" | "CREATE" => Self::Query,
                _ => Self::Show(tokens.get(1).map_or_else(String::new, |word| unquoted(word))),
            },
            "DISCARD" if word(1) == "ALL" => Self::DiscardAll,
            "DISCARD" => Self::Nothing("DISCARD"),
            "DEALLOCATE" => {
                let name = if word(1) == "PREPARE" { 2 } else { 1 };
                Self::Deallocate(tokens.get(name).filter(|_| word(name) != "ALL").map(|name| unquoted(name)))
            }
            "UNLISTEN" => Self::Nothing("UNLISTEN"),
            "SELECT" | "WITH" | "VALUES" | "TABLE" | "EXPLAIN" | "DESCRIBE" | "DESC" | "(" | "" => Self::Query,
            changing @ ("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "CREATE" | "DROP" | "ALTER" | "TRUNCATE"
            | "GRANT" | "REVOKE" | "COMMENT" | "VACUUM" | "ANALYZE" | "REINDEX" | "CLUSTER" | "REFRESH"
            | "IMPORT" | "SECURITY" | "REASSIGN" | "LOCK") => return Err(read_only(changing)),
            "COPY" if tokens.iter().any(|word| word.eq_ignore_ascii_case("FROM")) && word(1) != "(" => {
                return Err(read_only("COPY FROM"));
            }
            other @ ("COPY" | "DECLARE" | "FETCH" | "MOVE" | "CLOSE" | "PREPARE" | "EXECUTE" | "LISTEN" | "NOTIFY"
            | "CALL" | "DO" | "CHECKPOINT" | "LOAD") => {
                let told = format!("{other} is not supported");
                let hint = match other {
                    "PREPARE" | "EXECUTE" => "prepare statements by the protocol, as drivers do",
                    "COPY" => "ask with SELECT, or write files with `assay sql --format parquet`",
                    "DECLARE" | "FETCH" | "MOVE" | "CLOSE" => {
                        "rows are streamed: ask with SELECT, or fetch in parts by the protocol"
                    }
                    _ => "",
                };
                return Err(Failure::new(state::NOT_SUPPORTED, told).with_hint(hint));
            }
            // The planner says what is wrong with it, and where.
            _ => Self::Query,
        };
        Ok(command)
    }
}

fn read_only(command: &str) -> Failure {
    Failure::new(state::READ_ONLY, format!("cannot execute {command} in a read-only transaction"))
        .with_hint("the tables can be read here, not changed: they are written by `assay run`, `ingest` and `load`")
}

fn set(tokens: &[String]) -> Result<Command, Failure> {
    let mut rest: Vec<&str> = tokens.iter().skip(1).map(String::as_str).collect();
    let is = |rest: &[&str], at: usize, word: &str| rest.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    if is(&rest, 0, "SESSION") && is(&rest, 1, "CHARACTERISTICS") || is(&rest, 0, "TRANSACTION") {
        let writes = rest.windows(2).any(|pair| is(pair, 0, "READ") && is(pair, 1, "WRITE"));
        return if writes { Err(read_only("SET TRANSACTION READ WRITE")) } else { Ok(Command::Nothing("SET")) };
    }
    if is(&rest, 0, "SESSION") || is(&rest, 0, "LOCAL") {
        rest.remove(0);
    }
    if is(&rest, 0, "TIME") && is(&rest, 1, "ZONE") {
        let value = rest.get(2..).unwrap_or_default().concat();
        return Ok(Command::Set { name: "TimeZone".to_owned(), value: Some(unquoted(&value)) });
    }
    if is(&rest, 0, "NAMES") {
        let value = rest.get(1).map(|value| unquoted(value));
        return Ok(Command::Set { name: "client_encoding".to_owned(), value });
    }
    if is(&rest, 0, "ROLE") || is(&rest, 0, "SESSION_AUTHORIZATION") || is(&rest, 0, "AUTHORIZATION") {
        return Err(Failure::new(state::NOT_SUPPORTED, "a connection keeps its user: connect as the other one"));
    }
    let (name, equals, value) = match rest.as_slice() {
        [name, equals, value @ ..] => (*name, *equals, value),
        _ => ("", "", &[] as &[&str]),
    };
    if value.is_empty() || !(equals == "=" || equals.eq_ignore_ascii_case("TO")) {
        return Err(Failure::new(state::SYNTAX, "SET wants a name and a value: SET name TO value"));
    }
    let text: String = match value {
        [one] => unquoted(one),
        several => several.iter().map(|part| if *part == "," { ", ".to_owned() } else { unquoted(part) }).collect(),
    };
    let value = (!is(value, 0, "DEFAULT")).then_some(text);
    Ok(Command::Set { name: unquoted(name), value })
}

fn unquoted(word: &str) -> String {
    let quoted = |quote: char| word.strip_prefix(quote).and_then(|word| word.strip_suffix(quote));
    quoted('\'').or_else(|| quoted('"')).unwrap_or(word).to_owned()
}

/// Words and signs, without blanks and comments; what cannot be read has none, and the planner says why.
fn words(sql: &str) -> Vec<String> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().unwrap_or_default();
    let kept = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF | Token::SemiColon));
    kept.map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Command {
        Command::Set { name: name.to_owned(), value: Some(value.to_owned()) }
    }

    #[test]
    fn what_clients_send_to_their_session_is_understood() {
        for (sql, expected) in [
            ("begin isolation level repeatable read, read only", Command::Begin),
            ("START TRANSACTION READ ONLY", Command::Begin),
            ("-- done\nEND", Command::Commit),
            ("ROLLBACK TO SAVEPOINT a", Command::RollbackTo),
            ("abort", Command::Rollback),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET SESSION search_path TO gold, \"$user\"", set("search_path", "gold, $user")),
            ("SET application_name = 'PostgreSQL JDBC Driver'", set("application_name", "PostgreSQL JDBC Driver")),
            ("SET TIME ZONE 'UTC'", set("TimeZone", "UTC")),
            ("SET NAMES 'utf8'", set("client_encoding", "utf8")),
            ("SET statement_timeout TO DEFAULT", Command::Set { name: "statement_timeout".into(), value: None }),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Command::Nothing("SET")),
            ("SHOW TRANSACTION ISOLATION LEVEL", Command::Show("transaction_isolation".into())),
            ("show search_path", Command::Show("search_path".into())),
            ("SHOW TABLES", Command::Query),
            ("DEALLOCATE \"_pg3_0\"", Command::Deallocate(Some("_pg3_0".into()))),
            ("DEALLOCATE ALL", Command::Deallocate(None)),
            ("discard all", Command::DiscardAll),
            ("/* x */ select 1", Command::Query),
            ("(SELECT 1) UNION (SELECT 2)", Command::Query),
        ] {
            assert_eq!(Command::parse(sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn what_would_change_something_is_refused_as_postgresql_does() {
        for (sql, code) in [
            ("INSERT INTO gold.x VALUES (1)", "25006"),
            ("update silver.transactions set amount = 1", "25006"),
            ("CREATE TEMP TABLE t (a int)", "25006"),
            ("DROP TABLE gold.fraud_scores", "25006"),
            ("COPY gold.x FROM STDIN", "25006"),
            ("COPY gold.x TO STDOUT", "0A000"),
            ("SET TRANSACTION READ WRITE", "25006"),
            ("SET ROLE admin", "0A000"),
            ("SET x", "42601"),
            ("DECLARE c CURSOR FOR SELECT 1", "0A000"),
        ] {
            assert_eq!(Command::parse(sql).unwrap_err().code(), code, "{sql}");
        }
    }
}
