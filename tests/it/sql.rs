//! The lake over PostgreSQL's protocol, spoken byte by byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use assay::serve::postgres::Postgres;
use assay::serve::sql::{Passwords, PostgresSettings, Role};
use assay::telemetry::Metrics;

use crate::kit::{Cut, Lab, Tx, messages};
use crate::listening::{Listening, engine};

/// Four transactions of two users, each an epoch.
fn four() -> Vec<crate::kit::Msg> {
    messages(
        (0..4).map(|n| Tx { user: n % 2, ..Tx::new(&format!("t{n}"), &format!("2026-01-05T0{n}:10:00Z")) }.payload()),
    )
}

struct Server {
    listening: Listening,
    metrics: Arc<Metrics>,
}

impl Server {
    fn of(lab: &Lab, settings: PostgresSettings) -> Self {
        let (engine, metrics) = engine(lab, settings);
        let server = Postgres::new(&engine).unwrap();
        Self { listening: Listening::start(|listener, stopped| server.serve(listener, stopped)), metrics }
    }

    fn connect(&self, user: &str) -> Client {
        let mut socket = TcpStream::connect(self.listening.address).unwrap();
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        body.extend(format!("user\0{user}\0database\0assay\0\0").as_bytes());
        let length = i32::try_from(body.len() + 4).unwrap();
        socket.write_all(&[length.to_be_bytes().to_vec(), body].concat()).unwrap();
        Client { socket }
    }

    fn client(&self, user: &str) -> Client {
        let mut client = self.connect(user);
        client.until_ready();
        client
    }
}

struct Client {
    socket: TcpStream,
}

/// What a statement was answered with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    rows: Vec<String>,
    tags: Vec<String>,
    /// SQLSTATE, message, position.
    error: Option<(String, String, String)>,
    /// `I`, `T` or `E`.
    status: char,
}

impl Client {
    fn send(&mut self, kind: u8, body: &[u8]) {
        let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
        self.socket.write_all(&[[kind].as_slice(), length.as_slice(), body].concat()).unwrap();
    }

    fn message(&mut self) -> (char, Vec<u8>) {
        let mut head = [0; 5];
        self.socket.read_exact(&mut head).unwrap();
        let length = usize::try_from(i32::from_be_bytes([head[1], head[2], head[3], head[4]])).unwrap();
        let mut body = vec![0; length - 4];
        self.socket.read_exact(&mut body).unwrap();
        (char::from(head[0]), body)
    }

    fn until_ready(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let (kind, body) = self.message();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
            match kind {
                'D' => answer.rows.push(cells(&body)),
                'C' => answer.tags.push(text(&body)),
                'E' => answer.error = Some(fields(&body)),
                'Z' => {
                    answer.status = char::from(body[0]);
                    return answer;
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, sql: &str) -> Answer {
        self.send(b'Q', format!("{sql}\0").as_bytes());
        self.until_ready()
    }

    fn rows(&mut self, sql: &str) -> Vec<String> {
        let answer = self.ask(sql);
        assert_eq!(answer.error, None, "{sql}");
        answer.rows
    }

    fn refused(&mut self, sql: &str) -> String {
        self.ask(sql).error.unwrap_or_else(|| panic!("{sql} was not refused")).0
    }

    /// Parse and describe, then bind and execute with one parameter in text, so many rows at a time.
    fn extended(&mut self, sql: &str, value: &str, most: i32) -> Answer {
        self.send(b'P', &[b"s\0".as_slice(), sql.as_bytes(), b"\0", &[0, 0]].concat());
        self.send(b'D', b"Ss\0");
        let length = i32::try_from(value.len()).unwrap().to_be_bytes();
        self.send(b'B', &[b"p\0s\0".as_slice(), &[0, 0, 0, 1], &length, value.as_bytes(), &[0, 0]].concat());
        for _ in 0..2 {
            self.send(b'E', &[b"p\0".as_slice(), &most.to_be_bytes()].concat());
        }
        self.send(b'C', b"Ss\0");
        self.send(b'S', b"");
        self.until_ready()
    }
}

fn cells(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut cells = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length));
        let (cell, after) = after.split_at(*length.as_ref().unwrap_or(&0));
        cells.push(if length.is_ok() { String::from_utf8_lossy(cell).into_owned() } else { "-".to_owned() });
        rest = after;
    }
    cells.join("|")
}

fn fields(body: &[u8]) -> (String, String, String) {
    let parts = body.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    let parts: BTreeMap<u8, String> =
        parts.map(|part| (part[0], String::from_utf8_lossy(&part[1..]).into_owned())).collect();
    let of = |kind: u8| parts.get(&kind).cloned().unwrap_or_default();
    (of(b'C'), of(b'M'), of(b'P'))
}

const COUNTS: &str = "SELECT (SELECT max(epoch) FROM ops.epochs) AS epochs, (SELECT count(*) FROM silver.transactions) AS silver, \
                      (SELECT count(*) FROM gold.fraud_scores) AS scores";

#[test]
fn a_transaction_reads_one_epoch_and_a_statement_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let messages = four();
    lab.run(&messages[..2], &Cut::every(1)).unwrap();
    let server = Server::of(&lab, PostgresSettings::default());
    let (mut one, mut other) = (server.client("ana"), server.client("bob"));
    let begun = one.ask("BEGIN");
    assert_eq!((begun.tags, begun.status), (vec!["BEGIN".to_owned()], 'T'));
    assert_eq!(one.rows(COUNTS), ["2|2|2"]);
    lab.run(&messages[2..], &Cut::every(1)).unwrap();
    // Another client sees the new epoch as soon as somebody looks for it.
    assert!((0..1000).any(|_| other.rows(COUNTS) == ["4|4|4"]), "the newest epoch is never seen");
    assert_eq!(one.rows(COUNTS), ["2|2|2"], "the epoch of its first question");
    assert_eq!(one.rows("SELECT count(*) FROM silver.transactions AS OF EPOCH 1"), ["1"]);
    assert_eq!(one.ask("COMMIT").status, 'I');
    assert_eq!(one.rows(COUNTS), ["4|4|4"]);
    assert_eq!(other.rows("SELECT count(*) FROM silver.transactions AS OF EPOCH 3; SELECT 1"), ["3", "1"]);
}

#[test]
fn a_failed_transaction_listens_to_its_end_only() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&four(), &Cut::every(4)).unwrap();
    let server = Server::of(&lab, PostgresSettings::default());
    let mut client = server.client("ana");
    client.ask("BEGIN");
    let failed = client.ask("SELECT amuont FROM silver.transactions");
    let (code, message, position) = failed.error.unwrap();
    assert_eq!((code.as_str(), position.as_str(), failed.status), ("42703", "8", 'E'), "{message}");
    assert_eq!(client.refused("SELECT 1"), "25P02");
    let ended = client.ask("COMMIT");
    assert_eq!((ended.tags, ended.status), (vec!["ROLLBACK".to_owned()], 'I'));
    let several = client.ask("SELECT 1; SELECT nothing; SELECT 2");
    assert_eq!((several.rows, several.error.map(|error| error.0)), (vec!["1".to_owned()], Some("42703".to_owned())));
    for (sql, code) in [
        ("DELETE FROM gold.fraud_scores", "25006"),
        ("WITH x AS (SELECT 1) INSERT INTO gold.fraud_scores SELECT * FROM x", "25006"),
        ("SELECT * FROM gold.fraud_score", "42P01"),
        ("SET timezone = 'Mars'", "22023"),
        ("SELECT epoch / 0 FROM ops.epochs", "22012"),
    ] {
        assert_eq!(client.refused(sql), code, "{sql}");
    }
    let text = server.metrics.render().unwrap();
    assert!(text.contains("assay_sql_errors_total{protocol=\"postgres\",sqlstate=\"25006\"} 2"), "{text}");
}

#[test]
fn prepared_questions_take_parameters_and_give_rows_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&four(), &Cut::every(4)).unwrap();
    let server = Server::of(&lab, PostgresSettings::default());
    let mut client = server.client("ana");
    let sql = "SELECT transaction_id FROM silver.transactions WHERE user_id = $1 ORDER BY 1";
    let whole = client.extended(sql, "1", 0);
    assert_eq!((whole.error, whole.rows), (None, vec!["t1".to_owned(), "t3".to_owned()]));
    let parts = client.extended(sql, "1", 1);
    assert_eq!((parts.rows.len(), parts.tags), (2, Vec::<String>::new()), "suspended after each row");
    assert_eq!(client.extended(sql, "x", 0).error.unwrap().0, "22P02");
    let instant = "SELECT count(*) FROM silver.transactions WHERE event_at >= $1";
    assert_eq!(client.extended(instant, "2026-01-05 02:00:00+00", 0).rows, ["2"]);
}

#[test]
fn a_role_sees_the_tables_and_rows_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&four(), &Cut::every(4)).unwrap();
    let rows = BTreeMap::from([("silver.transactions".to_owned(), "user_id = 1".to_owned())]);
    let role = Role { tables: vec!["silver.transactions".to_owned(), "gold.*".to_owned()], rows };
    let roles = BTreeMap::from([("ana".to_owned(), role)]);
    let server = Server::of(&lab, PostgresSettings { roles, rows_max: 3, ..PostgresSettings::default() });
    let mut client = server.client("ana");
    assert_eq!(client.rows("SELECT DISTINCT user_id FROM silver.transactions"), ["1"]);
    assert_eq!(client.rows("SELECT count(*) FROM transactions t JOIN gold.fraud_scores USING (transaction_id)"), ["2"]);
    assert_eq!(client.refused("SELECT * FROM ops.epochs"), "42501");
    assert_eq!(client.refused("SELECT 1 FROM ops.epochs AS OF EPOCH 1"), "42501");
    assert_eq!(client.refused("SELECT * FROM gold.nothing"), "42P01");
    assert_eq!(client.refused("SELECT transaction_id FROM gold.fraud_scores"), "54000");
    assert_eq!(client.rows("SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'ops'"), ["0"]);
    let mut other = server.connect("eve");
    assert_eq!(
        loop {
            if let ('E', body) = other.message() {
                break fields(&body).0;
            }
        },
        "28000"
    );
}

#[test]
fn nobody_is_let_in_without_a_password_where_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let settings = PostgresSettings { password: Some(Passwords::hash("x")), ..PostgresSettings::default() };
    let server = Server::of(&lab, settings);
    let mut client = server.connect("assay");
    assert_eq!(client.message().0, 'R');
    client.send(b'Q', b"SELECT 1\0");
    assert_eq!(
        loop {
            if let ('E', body) = client.message() {
                break fields(&body).0;
            }
        },
        "08P01"
    );
}
