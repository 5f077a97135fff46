//! The lake over Arrow Flight SQL, asked by the client of the Arrow project.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery, EndTransaction, ProstMessageExt,
    SqlInfo,
};
use arrow_flight::{Action, CancelFlightInfoRequest, CancelStatus, FlightDescriptor, FlightInfo, IpcMessage};
use assay::serve::flight::{Flight, FlightSettings};
use assay::serve::sql::{Passwords, PostgresSettings, Role};
use assay::telemetry::Metrics;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::kit::{Cut, Lab, Msg, Tx, messages, wait_for};
use crate::listening::{Listening, engine};

/// So many transactions of two users, one an hour.
fn some(count: usize) -> Vec<Msg> {
    messages((0..count).map(|n| {
        let at = format!("2026-01-{:02}T{:02}:10:00Z", 5 + n / 24, n % 24);
        Tx { user: i32::from(n % 2 == 1), ..Tx::new(&format!("t{n}"), &at) }.payload()
    }))
}

struct Server {
    listening: Listening,
    metrics: Arc<Metrics>,
}

impl Server {
    fn of(lab: &Lab, settings: PostgresSettings, flight: FlightSettings) -> Self {
        let (engine, metrics) = engine(lab, settings);
        let flight = FlightSettings { address: "127.0.0.1:0".to_owned(), ..flight };
        let server = Flight::new(&engine, flight).unwrap();
        Self { listening: Listening::start(|listener, stopped| server.serve(listener, stopped)), metrics }
    }

    fn open(lab: &Lab) -> Self {
        Self::of(lab, PostgresSettings::default(), FlightSettings::default())
    }

    fn client(&self) -> Client {
        let channel = Channel::from_shared(format!("http://{}", self.listening.address)).unwrap();
        Client(FlightSqlServiceClient::new(wait_for(channel.connect()).unwrap()))
    }

    fn user(&self, user: &str, password: &str) -> Client {
        let mut client = self.client();
        wait_for(client.0.handshake(user, password)).unwrap();
        client
    }
}

struct Client(FlightSqlServiceClient<Channel>);

impl Client {
    fn info(&mut self, sql: &str, transaction: Option<&bytes::Bytes>) -> FlightInfo {
        wait_for(self.0.execute(sql.to_owned(), transaction.cloned())).unwrap()
    }

    /// As soon as there is a place: that of a question that was stopped is free when the engine has let go.
    fn info_soon(&mut self, sql: &str) -> FlightInfo {
        (0..10_000).find_map(|_| wait_for(self.0.execute(sql.to_owned(), None)).ok()).unwrap()
    }

    fn try_fetch(&mut self, info: &FlightInfo) -> Result<Vec<RecordBatch>, Status> {
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        wait_for(async { self.0.do_get(ticket).await.map_err(status)?.try_collect().await.map_err(status) })
    }

    fn fetch(&mut self, info: &FlightInfo) -> Vec<String> {
        texts(&self.try_fetch(info).unwrap())
    }

    fn rows(&mut self, sql: &str) -> Vec<String> {
        let info = self.info(sql, None);
        self.fetch(&info)
    }

    fn refused(&mut self, sql: &str) -> Status {
        match wait_for(self.0.execute(sql.to_owned(), None)) {
            Err(error) => status(error),
            Ok(info) => self.try_fetch(&info).expect_err(sql),
        }
    }
}

fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("no status: {other}"),
    }
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let row = |batch: &RecordBatch, row: usize| {
        let cell = |column: &Arc<dyn Array>| array_value_to_string(column, row).unwrap();
        batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>()).collect()
}

const COUNTS: &str = "SELECT (SELECT max(epoch) FROM ops.epochs) AS epochs, (SELECT count(*) FROM silver.transactions) AS silver, \
                      (SELECT count(*) FROM gold.fraud_scores) AS scores";

fn lab(folder: &tempfile::TempDir, count: usize, every: usize) -> Lab {
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&some(count), &Cut::every(every)).unwrap();
    lab
}

#[test]
fn a_ticket_is_answered_from_the_epoch_that_was_planned_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let messages = some(4);
    lab.run(&messages[..2], &Cut::every(1)).unwrap();
    let server = Server::open(&lab);
    let mut client = server.client();
    let old = client.info(COUNTS, None);
    assert_eq!(old.app_metadata, br#"{"assay.epoch":2}"#.as_slice());
    let transaction = wait_for(client.0.begin_transaction()).unwrap();
    let pinned = client.info(COUNTS, Some(&transaction));
    lab.run(&messages[2..], &Cut::every(1)).unwrap();
    assert!((0..1000).any(|_| client.rows(COUNTS) == ["4|4|4"]), "the newest epoch is never seen");
    let schema = old.clone().try_decode_schema().unwrap();
    assert_eq!(schema.metadata()["assay.epoch"], "2");
    assert_eq!(client.fetch(&old), ["2|2|2"]);
    assert_eq!(client.fetch(&pinned), ["2|2|2"]);
    let used = client.try_fetch(&old).unwrap_err();
    assert!(used.code() == Code::InvalidArgument && used.message().contains("fetched once"), "{used}");
    let later = client.info(COUNTS, Some(&transaction));
    assert_eq!(client.fetch(&later), ["2|2|2"], "the epoch of the transaction's first question");
    let earlier = client.info("SELECT count(*) FROM silver.transactions AS OF EPOCH 1", Some(&transaction));
    assert_eq!(client.fetch(&earlier), ["1"]);
    wait_for(client.0.end_transaction(transaction.clone(), EndTransaction::Commit)).unwrap();
    let ended = status(wait_for(client.0.execute(COUNTS.to_owned(), Some(transaction))).unwrap_err());
    assert!(ended.code() == Code::FailedPrecondition && ended.message().contains("has ended"), "{ended}");
    assert_eq!(client.refused("SELECT 1 AS OF EPOCH 99").code(), Code::InvalidArgument);
}

#[test]
fn a_ticket_that_expired_or_was_crowded_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 2, 2);
    let flight = FlightSettings { kept_max: 2, ..FlightSettings::default() };
    let server = Server::of(&lab, PostgresSettings::default(), flight);
    let mut client = server.client();
    let infos: Vec<FlightInfo> = (0..3).map(|_| client.info("SELECT 1", None)).collect();
    assert!(client.try_fetch(&infos[0]).unwrap_err().message().contains("has expired"));
    assert_eq!((client.fetch(&infos[1]), client.fetch(&infos[2])), (vec!["1".to_owned()], vec!["1".to_owned()]));
}

#[test]
fn errors_say_what_is_wrong_where_and_by_which_code() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 4, 4);
    let server =
        Server::of(&lab, PostgresSettings::default(), FlightSettings { rows_max: 3, ..FlightSettings::default() });
    let mut client = server.client();
    let wrong = client.refused("SELECT amuont\nFROM silver.transactions");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    for part in ["there is no column `amuont`", "line 1, column 8", "^^^", "Did you mean amount"] {
        assert!(wrong.message().contains(part), "no {part} in {}", wrong.message());
    }
    assert_eq!(wrong.metadata().get("sqlstate").unwrap(), "42703");
    let deep = vec!["1"; 700].join(" + ");
    for (sql, code, part) in [
        ("DELETE FROM gold.fraud_scores", Code::InvalidArgument, "read-only"),
        ("WITH x AS (SELECT 1) INSERT INTO gold.fraud_scores SELECT * FROM x", Code::InvalidArgument, "read-only"),
        ("SELECT * FROM gold.fraud_score", Code::InvalidArgument, "fraud_scores"),
        ("SELECT epoch / 0 FROM ops.epochs", Code::InvalidArgument, "divides by zero"),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, "one question at a time"),
        ("BEGIN", Code::Unimplemented, "autocommit"),
        ("SET search_path TO gold", Code::Unimplemented, "no session"),
        ("SELECT $1", Code::InvalidArgument, "no values"),
        ("SELECT $4000000000", Code::InvalidArgument, "there is no parameter"),
        ("SELECT transaction_id FROM silver.transactions", Code::ResourceExhausted, "flight.rows_max"),
        (&format!("SELECT {deep}"), Code::InvalidArgument, "699 operators"),
        ("SELECT 'x", Code::InvalidArgument, "line 1"),
    ] {
        let refused = client.refused(sql);
        assert_eq!(refused.code(), code, "{sql}: {refused}");
        assert!(refused.message().contains(part), "{sql}: {}", refused.message());
    }
    let update = status(wait_for(client.0.execute_update("UPDATE gold.x SET a = 1".to_owned(), None)).unwrap_err());
    assert!(update.code() == Code::InvalidArgument && update.message().contains("read-only"), "{update}");
    let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1])) as Arc<dyn Array>)]).unwrap();
    let ingest = CommandStatementIngest { table: "x".to_owned(), ..CommandStatementIngest::default() };
    let ingest = wait_for(client.0.execute_ingest(ingest, futures::stream::iter([Ok(batch)]))).unwrap_err();
    assert_eq!(status(ingest).code(), Code::InvalidArgument);
    let text = server.metrics.render().unwrap();
    assert!(text.contains("assay_sql_errors_total{protocol=\"flight\",sqlstate=\"25006\"} 4"), "{text}");
    assert!(text.contains("assay_sql_connections{protocol=\"flight\"} 1"), "{text}");
}

#[test]
fn a_prepared_question_takes_a_row_of_values_and_reads_the_newest_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let messages = some(6);
    let lab = Lab::at(folder.path().to_str().unwrap());
    lab.run(&messages[..4], &Cut::every(4)).unwrap();
    let server = Server::open(&lab);
    let mut client = server.client();
    let sql =
        "SELECT transaction_id FROM silver.transactions WHERE user_id = $1 AND event_at >= $2 ORDER BY 1 LIMIT $3";
    let mut prepared = wait_for(client.0.prepare(sql.to_owned(), None)).unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 3);
    assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "transaction_id");
    let missing = status(wait_for(prepared.execute()).unwrap_err());
    assert!(missing.message().contains("none was bound"), "{missing}");
    let values = |users: Vec<i64>, at: &str| {
        let count = users.len();
        RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(users)) as Arc<dyn Array>),
            ("b", Arc::new(StringArray::from(vec![at; count]))),
            ("c", Arc::new(arrow::array::Int32Array::from(vec![10; count]))),
        ])
        .unwrap()
    };
    let mut ask = |client: &mut Client, row: RecordBatch| {
        prepared.set_parameters(row).unwrap();
        wait_for(prepared.execute()).map_err(status).and_then(|info| Ok(texts(&client.try_fetch(&info)?)))
    };
    assert_eq!(ask(&mut client, values(vec![1], "2026-01-05T00:00:00Z")).unwrap(), ["t1", "t3"]);
    assert_eq!(ask(&mut client, values(vec![0], "2026-01-05T02:00:00Z")).unwrap(), ["t2"]);
    let several = ask(&mut client, values(vec![0, 1], "2026-01-05T02:00:00Z")).unwrap_err();
    assert!(several.message().contains("2 rows of values"), "{several}");
    lab.run(&messages[4..], &Cut::every(2)).unwrap();
    assert!(
        (0..1000).any(|_| ask(&mut client, values(vec![1], "2026-01-05T00:00:00Z")).unwrap() == ["t1", "t3", "t5"])
    );
    let bad = ask(&mut client, values(vec![1], "soon")).unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
    let update = status(wait_for(prepared.execute_update()).unwrap_err());
    assert_eq!(update.code(), Code::InvalidArgument);
    wait_for(prepared.close()).unwrap();
}

#[test]
fn a_role_sees_the_tables_and_rows_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 4, 4);
    let passwords = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(passwords.path(), format!("ana:{}\nbob:pass:word\n", Passwords::hash("x"))).unwrap();
    let rows = BTreeMap::from([("silver.transactions".to_owned(), "user_id = 1".to_owned())]);
    let role = Role { tables: vec!["silver.transactions".to_owned(), "gold.*".to_owned()], rows };
    let all = Role { tables: vec!["*".to_owned()], ..Role::default() };
    let roles = BTreeMap::from([("ana".to_owned(), role), ("bob".to_owned(), all)]);
    let password_file = passwords.path().to_owned();
    let settings = PostgresSettings { roles, password_file, ..PostgresSettings::default() };
    let server = Server::of(&lab, settings, FlightSettings::default());
    let mut client = server.user("ana", "x");
    assert_eq!(client.rows("SELECT DISTINCT user_id, current_user FROM silver.transactions"), ["1|ana"]);
    for sql in ["SELECT * FROM ops.epochs", "SELECT 1 FROM ops.epochs AS OF EPOCH 1"] {
        assert_eq!(client.refused(sql).code(), Code::PermissionDenied, "{sql}");
    }
    let listed = wait_for(client.0.get_tables(CommandGetTables::default())).unwrap();
    let listed = client.fetch(&listed);
    assert!(listed.iter().all(|row| row.contains("|gold|") || row.contains("|silver|transactions|")), "{listed:?}");
    let with_columns = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let with_columns = wait_for(client.0.get_tables(with_columns)).unwrap();
    let with_columns: usize = client.try_fetch(&with_columns).unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(with_columns, listed.len());
    let mut bob = server.user("bob", "pass:word");
    assert_eq!(bob.rows("SELECT count(DISTINCT user_id) FROM silver.transactions"), ["2"]);
    // What one user was given is nothing to another.
    let info = client.info("SELECT 1", None);
    assert_eq!(bob.try_fetch(&info).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.fetch(&info), ["1"]);
    let token = client.0.token().unwrap().clone();
    for (user, password) in [("ana", "y"), ("ana", ""), ("eve", "x"), ("bob", "pass")] {
        let refused = wait_for(server.client().0.handshake(user, password)).unwrap_err().to_string();
        assert!(refused.contains("valid authentication credentials") && refused.contains(user), "{refused}");
    }
    for forged in ["", "x", &format!("{token}x"), &token.replacen('.', "0.", 1)] {
        let mut other = server.client();
        other.0.set_token(forged.to_owned());
        assert_eq!(other.refused("SELECT 1").code(), Code::Unauthenticated, "{forged}");
    }
    assert_eq!(server.client().refused("SELECT 1").code(), Code::Unauthenticated);
    let mut basic = server.client();
    basic.0.set_header("authorization", "basic YW5hOng=");
    assert_eq!(basic.rows("SELECT current_user"), ["ana"]);
}

#[test]
fn what_one_user_made_is_nothing_to_another_and_a_token_expires() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 2, 2);
    let passwords = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(passwords.path(), "ana:x\nbob:y\n").unwrap();
    let settings = || PostgresSettings { password_file: passwords.path().to_owned(), ..PostgresSettings::default() };
    let server = Server::of(&lab, settings(), FlightSettings::default());
    let (mut ana, mut bob) = (server.user("ana", "x"), server.user("bob", "y"));
    let transaction = wait_for(ana.0.begin_transaction()).unwrap();
    assert_eq!(ana.info("SELECT 1", Some(&transaction)).endpoint.len(), 1);
    let foreign = status(wait_for(bob.0.execute("SELECT 1".to_owned(), Some(transaction))).unwrap_err());
    assert_eq!(foreign.code(), Code::FailedPrecondition, "{foreign}");
    let query = ActionCreatePreparedStatementRequest { query: "SELECT 1".to_owned(), transaction_id: None };
    let action = Action::new("CreatePreparedStatement", query.as_any().encode_to_vec());
    let made = wait_for(async { ana.0.do_action(action).await.unwrap().try_next().await.unwrap().unwrap() });
    let made: Option<ActionCreatePreparedStatementResult> = Any::decode(made.body).unwrap().unpack().unwrap();
    let handle = made.unwrap().prepared_statement_handle;
    let execute = |client: &mut Client| {
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let mut request = tonic::Request::new(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()));
        let token = format!("Bearer {}", client.0.token().unwrap());
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        wait_for(client.0.inner_mut().get_flight_info(request)).map(|info| info.into_inner().endpoint.len())
    };
    assert_eq!(execute(&mut bob).unwrap_err().code(), Code::InvalidArgument);
    let close = ActionClosePreparedStatementRequest { prepared_statement_handle: handle.clone() };
    let close = Action::new("ClosePreparedStatement", close.as_any().encode_to_vec());
    wait_for(async { bob.0.do_action(close).await.unwrap().try_collect::<Vec<_>>().await.unwrap() });
    assert_eq!(execute(&mut ana).unwrap(), 1);
    let server = Server::of(&lab, settings(), FlightSettings { login_timeout_s: 0, ..FlightSettings::default() });
    let expired = server.user("ana", "x").refused("SELECT 1");
    assert_eq!(expired.code(), Code::Unauthenticated);
    assert!(expired.message().contains("the token has expired"), "{expired}");
}

#[test]
fn who_could_be_reached_from_elsewhere_wants_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (sql, _) = engine(&lab, PostgresSettings::default());
    let settings = FlightSettings { address: "0.0.0.0:0".to_owned(), ..FlightSettings::default() };
    let refused = Flight::new(&sql, settings).err().unwrap().to_string();
    assert!(refused.contains("flight.address 0.0.0.0:0") && refused.contains("ASSAY_POSTGRES_PASSWORD"), "{refused}");
}

#[test]
fn the_catalog_says_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 2, 2);
    let server = Server::open(&lab);
    let mut client = server.client();
    let catalogs = wait_for(client.0.get_catalogs()).unwrap();
    assert_eq!(client.fetch(&catalogs), ["assay"]);
    let layers = wait_for(client.0.get_db_schemas(CommandGetDbSchemas::default())).unwrap();
    assert_eq!(client.fetch(&layers), ["assay|bronze", "assay|gold", "assay|ml", "assay|ops", "assay|silver"]);
    let wanted = CommandGetTables {
        db_schema_filter_pattern: Some("sil%".to_owned()),
        table_name_filter_pattern: Some("transactions".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let tables = wait_for(client.0.get_tables(wanted)).unwrap();
    let tables = client.try_fetch(&tables).unwrap();
    assert_eq!(tables[0].num_rows(), 1);
    let bytes = tables[0].column(4).as_binary::<i32>().value(0);
    let schema: arrow::datatypes::Schema = IpcMessage(bytes::Bytes::copy_from_slice(bytes)).try_into().unwrap();
    let info = client.info("SELECT * FROM silver.transactions", None);
    let asked = info.clone().try_decode_schema().unwrap();
    let kinds = |schema: &arrow::datatypes::Schema| {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&schema), kinds(&asked), "a table is listed with the columns that it is read with");
    let read = client.try_fetch(&info).unwrap();
    assert_eq!(kinds(&read[0].schema()), kinds(&asked));
    let types = wait_for(client.0.get_table_types()).unwrap();
    assert_eq!(client.fetch(&types), ["TABLE"]);
    let abilities = wait_for(client.0.get_sql_info(vec![SqlInfo::FlightSqlServerReadOnly])).unwrap();
    assert_eq!(client.fetch(&abilities), ["3|{bool_value=true}"]);
    let keys = wait_for(client.0.get_primary_keys(CommandGetPrimaryKeys::default())).unwrap();
    assert!(client.fetch(&keys).is_empty());
    let kinds = wait_for(client.0.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(-5) })).unwrap();
    assert!(client.fetch(&kinds)[0].starts_with("bigint|-5|64"));
    let asked = CommandStatementQuery { query: "SELECT 1 AS one".to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(asked.as_any().encode_to_vec());
    let columns = wait_for(client.0.inner_mut().get_schema(descriptor)).unwrap().into_inner();
    let columns: arrow::datatypes::Schema = IpcMessage(columns.schema).try_into().unwrap();
    assert_eq!(columns.field(0).name(), "one");
}

const SLOW: &str =
    "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value + b.value > 0";

fn cancel(client: &mut Client, info: &FlightInfo) -> CancelStatus {
    let request = CancelFlightInfoRequest::new(info.clone());
    let action = Action::new("CancelFlightInfo", request.encode_to_vec());
    let answer = wait_for(async { client.0.do_action(tonic::Request::new(action)).await.unwrap().message().await });
    let result = arrow_flight::CancelFlightInfoResult::decode(answer.unwrap().unwrap().body).unwrap();
    CancelStatus::try_from(result.status).unwrap()
}

#[test]
fn a_question_is_stopped_by_request_by_time_and_when_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 2, 2);
    let flight = FlightSettings { statement_timeout_ms: 2000, questions_max: 1, ..FlightSettings::default() };
    let server = Server::of(&lab, PostgresSettings::default(), flight);
    let mut client = server.client();
    let overdue = client.refused(SLOW);
    assert!(overdue.code() == Code::DeadlineExceeded && overdue.message().contains("statement_timeout"), "{overdue}");
    let info = client.info_soon(SLOW);
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut rows: FlightRecordBatchStream = wait_for(client.0.do_get(ticket)).unwrap();
    let busy = client.refused("SELECT 1");
    assert!(busy.code() == Code::ResourceExhausted && busy.message().contains("flight.questions_max"), "{busy}");
    assert_eq!(cancel(&mut client, &info), CancelStatus::Cancelled);
    let stopped = loop {
        match wait_for(rows.next()) {
            Some(Ok(_)) => {}
            Some(Err(error)) => break status(error),
            None => panic!("it was not cancelled"),
        }
    };
    assert_eq!(stopped.code(), Code::Cancelled, "{stopped}");
    assert_eq!(cancel(&mut client, &info), CancelStatus::NotCancellable);
    let info = client.info_soon(SLOW);
    assert_eq!(cancel(&mut client, &info), CancelStatus::Cancelled, "one that nobody fetched");
    assert!(client.try_fetch(&info).is_err());
    let info = client.info_soon(SLOW);
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    drop(wait_for(client.0.do_get(ticket)).unwrap());
    client.info_soon("SELECT 1");
    let abandoned = || server.metrics.render().unwrap().contains("outcome=\"abandoned\",protocol=\"flight\"");
    assert!((0..10_000).any(|_| abandoned()));
}

#[test]
fn many_rows_come_whole_and_in_messages_of_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder, 2, 2);
    let server = Server::open(&lab);
    let mut client = server.client();
    let info = client.info("SELECT value AS n, repeat('x', 100) AS x FROM generate_series(1, 300000) ORDER BY 1", None);
    let batches = client.try_fetch(&info).unwrap();
    let numbers: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(numbers, (1..=300_000).collect::<Vec<i64>>());
    assert!(batches.len() > 10);
    let text = server.metrics.render().unwrap();
    assert!(text.contains("assay_sql_rows_total{protocol=\"flight\"} 300000"), "{text}");
    let nothing = client.info("SELECT transaction_id FROM silver.transactions WHERE false", None);
    let nothing = client.try_fetch(&nothing).unwrap();
    assert!(texts(&nothing).is_empty());
    let large = client.refused("SELECT string_agg(repeat('x', 60000), '') AS x FROM generate_series(1, 1200)");
    assert!(large.code() == Code::ResourceExhausted && large.message().contains("bytes"), "{large}");
}
