//! What the routes of the console answer, over a lake: figures as SQL has them, limits, keys, and lakes that are not there.

use std::sync::Arc;

use assay::contract::Contract;
use assay::domain::{Layer, SystemClock, TableName};
use assay::model::registry::Registry;
use assay::pipeline::{Plan, bronze_schema};
use assay::refine::Catalog;
use assay::serve::{ApiKeys, Console, ConsoleParts, ConsoleSettings, Readiness, ServeSettings, ServeState, serve};
use assay::telemetry::Metrics;
use assay::telemetry::traces::Traces;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::kit::{Cut, Lab, NOON_US, RUNTIME, Ticking, Tx, dirty, generated, messages, wait_for};

const EVIL: &str = "<img src=x onerror=alert(1)>";
const OWN: &str = "x-assay-console: 1\r\n";

struct Service {
    address: std::net::SocketAddr,
    models: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

fn start(lab: &Lab, settings: ConsoleSettings, serving: ServeSettings) -> Service {
    let models = tempfile::tempdir().unwrap();
    let contract = Contract::embedded().unwrap();
    let bronze = TableName::new(Layer::Bronze, "transactions");
    let catalog = Catalog::load(None, std::slice::from_ref(&bronze)).unwrap();
    let plan = Plan::new(catalog, bronze, bronze_schema(&contract)).unwrap();
    let metrics = Arc::new(Metrics::new("1", Arc::new(SystemClock)).unwrap());
    let console = Console::new(ConsoleParts {
        metrics: Arc::clone(&metrics),
        settings,
        serve: &serving,
        lake: lab.lake.clone(),
        pipeline: "it".into(),
        plan: &plan,
        clock: Arc::clone(&lab.clock),
        registry: Registry::new(models.path()),
        readers: ApiKeys::load(&serving).unwrap(),
        admins: ApiKeys::load_admins(&serving).unwrap(),
        explainer: Err("nothing is scored here".into()),
        job: "serve",
        runtime: RUNTIME.handle().clone(),
    });
    let state = ServeState {
        metrics,
        readiness: Readiness::default(),
        settings: serving,
        predict: None,
        console: Some(console.unwrap()),
        traces: Traces::default(),
    };
    let listener = wait_for(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let in_runtime = RUNTIME.enter();
    let served = serve(listener.into(), state, async move {
        let _ = stopped.await;
    });
    drop(in_runtime);
    RUNTIME.spawn(served.unwrap());
    Service { address, models, _stop: stop }
}

fn plain(lab: &Lab) -> Service {
    start(lab, ConsoleSettings::default(), ServeSettings::default())
}

impl Service {
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let text = wait_for(async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or_else(|_| json!(body)) }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    fn ask(&self, sql: &str) -> Answer {
        let headers = format!("{OWN}content-type: application/json\r\n");
        self.send("POST", "/console/sql", &headers, &json!({ "sql": sql }).to_string())
    }

    /// Once the tables are open: a machine that is busy takes its time for them.
    fn one(&self, sql: &str) -> Value {
        let mut answer = self.ask(sql);
        for _ in 0..60 {
            if answer.body["code"] != "opening" {
                break;
            }
            answer = self.ask(sql);
        }
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        answer.body["rows"][0][0].clone()
    }
}

/// A lake with all that can go wrong in it, and one row with a name that a careless page would run.
fn lake() -> (tempfile::TempDir, Lab) {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (mut made, _) = generated(dirty(5, 400));
    let evil = Tx { merchant: EVIL.into(), amount: 6_000.0, ..Tx::new("evil/1", "2026-01-05T23:30:00Z") };
    let next = made.iter().filter(|message| message.partition == 0).map(|message| message.offset).max().unwrap() + 1;
    made.extend(messages([evil.payload(), evil.payload()]).into_iter().map(|mut message| {
        message.offset += next;
        message
    }));
    lab.run(&made, &Cut::every(100)).unwrap();
    (folder, lab)
}

#[test]
fn figures_are_those_of_the_tables() {
    let (_folder, lab) = lake();
    let service = plain(&lab);
    let flow = service.get("/console/flow");
    assert_eq!(flow.status, 200, "{}", flow.body);
    let totals = &flow.body["totals"];
    for (name, table) in [
        ("bronze_rows", "bronze.transactions"),
        ("dead_letters", "bronze.dead_letters"),
        ("silver_rows", "silver.transactions"),
        ("quarantined", "silver.quarantine"),
    ] {
        assert!(totals[name].as_i64().unwrap() > 0, "{name}");
        assert_eq!(totals[name], service.one(&format!("SELECT count(*) FROM {table}")), "{name}");
    }
    assert_eq!(totals["unbalanced_epochs"], 0);
    assert_eq!(totals["epochs"], flow.body["epochs"].as_array().unwrap().len());
    assert_eq!(flow.body["epochs"][0]["epoch"], totals["last_epoch"]);
    assert_eq!(service.get("/console/pulse").body["epoch"], totals["last_epoch"]);

    let rejects = service.get("/console/rejects");
    assert_eq!(rejects.status, 200, "{}", rejects.body);
    let rejects = rejects.body;
    let sum =
        |rows: &Value, name: &str| rows.as_array().unwrap().iter().map(|row| row[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!(sum(&rejects["dead_letters"]["reasons"], "messages"), totals["dead_letters"].as_i64().unwrap());
    let broken = service.one("SELECT sum(cardinality(broken_expectations)) FROM silver.quarantine");
    assert_eq!(sum(&rejects["quarantine"]["reasons"], "rows"), broken.as_i64().unwrap());

    let page = service.get("/console/epochs?before=3").body;
    let epochs: Vec<i64> =
        page["epochs"].as_array().unwrap().iter().map(|row| row["epoch"].as_i64().unwrap()).collect();
    assert_eq!(epochs, [2, 1]);
    assert!(
        page["epochs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["is_balanced"] == true && row["offsets"][0]["topic"] == "shop")
    );
}

#[test]
fn a_story_tells_where_a_row_came_from_and_what_became_of_it() {
    let (_folder, lab) = lake();
    let service = plain(&lab);
    let newest = service.get("/console/transactions").body;
    assert_eq!(newest["table"], "gold.fraud_scores");
    let high = service.one("SELECT count(*) FROM gold.fraud_scores WHERE class IN ('HIGH', 'CRITICAL')");
    assert_eq!(newest["rows"].as_array().unwrap().len() as i64, high.as_i64().unwrap().min(100));
    let all = service.get("/console/transactions?risk=all").body;
    assert_eq!(all["context"]["evil/1"]["merchant"], EVIL, "{}", all["context"]);

    let story = service.get("/console/story?id=evil%2F1");
    assert_eq!(story.status, 200, "{}", story.body);
    let chapters = story.body["chapters"].as_array().unwrap();
    let of = |kind: &str| chapters.iter().filter(|chapter| chapter["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("silver")[0]["rows"][0]["merchant"], EVIL);
    assert_eq!(of("bronze")[0]["rows"].as_array().unwrap().len(), 2, "the duplicate is told");
    assert_eq!(
        of("rows").iter().find(|chapter| chapter["table"] == "gold.fraud_scores").unwrap()["rows"][0]["high_amount_points"],
        30
    );
    for chapter in of("window") {
        let row = &chapter["rows"][0];
        let at = "2026-01-05T23:30:00Z";
        assert!(row["window_start"].as_str().unwrap() <= at && row["window_end"].as_str().unwrap() > at, "{row}");
        let slides = if chapter["table"] == "gold.merchant_activity" { 3 } else { 1 };
        assert_eq!(chapter["rows"].as_array().unwrap().len(), slides, "{}", chapter["table"]);
    }
    assert!(of("window").len() >= 3);
    let epoch = &of("silver")[0]["rows"][0]["epoch"];
    assert_eq!(&of("epoch")[0]["rows"][0]["epoch"], epoch);

    let letter = service
        .ask("SELECT source_topic, source_partition, source_offset, reason FROM bronze.dead_letters LIMIT 1")
        .body;
    let [topic, partition, offset, reason] = [0, 1, 2, 3].map(|at| letter["rows"][0][at].clone());
    let found =
        service.get(&format!("/console/story?topic={}&partition={partition}&offset={offset}", topic.as_str().unwrap()));
    assert_eq!((found.status, &found.body["chapters"][0]["rows"][0]["reason"]), (200, &reason));
    assert_eq!(service.get("/console/story?id=nobody").body["code"], "unknown_row");
    for wrong in ["", "?id=a&topic=t&partition=0&offset=1", "?offset=1x", "?who=me"] {
        assert_eq!(service.get(&format!("/console/story{wrong}")).status, 400, "{wrong}");
    }
}

#[test]
fn the_prompt_reads_and_does_nothing_else() {
    let (folder, lab) = lake();
    let service = plain(&lab);
    let answer = service.ask("SELECT count(*) AS rows FROM silver.transactions AS OF EPOCH 1").body;
    assert_eq!((&answer["epoch"], &answer["columns"][0]), (&json!(1), &json!({"name": "rows", "kind": "integer"})));
    assert!(
        answer["rows"][0][0].as_i64().unwrap()
            < service.one("SELECT count(*) FROM silver.transactions").as_i64().unwrap()
    );
    let out = folder.path().join("out.csv");
    let out = out.display();
    for sql in [
        "DROP TABLE silver.transactions".to_owned(),
        "CREATE TABLE silver.x AS SELECT 1".to_owned(),
        "INSERT INTO ops.epochs SELECT * FROM ops.epochs".to_owned(),
        format!("COPY (SELECT 1) TO '{out}' STORED AS CSV"),
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{out}'"),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        String::new(),
        "SELECT nonsense FROM silver.transactions".to_owned(),
        "SELECT * FROM silver.transactoins".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
    ] {
        let refused = service.ask(&sql);
        assert_eq!((refused.status, &refused.body["code"]), (400, &json!("sql")), "{sql}: {}", refused.body);
        assert!(refused.head.contains("application/problem+json"));
    }
    assert!(!folder.path().join("out.csv").exists());
    let wrong = service.ask("SELECT *\nFROM silver.transactoins").body;
    assert_eq!(wrong["place"]["line"], 2);
    assert!(wrong["did_you_mean"].as_array().unwrap().contains(&json!("silver.transactions")), "{wrong}");
}

#[test]
fn questions_are_bounded_in_rows_time_and_memory() {
    let (_folder, lab) = lake();
    let settings = ConsoleSettings {
        rows_max: 7,
        statement_timeout_ms: 3_000,
        memory_bytes_max: 16 << 20,
        ..ConsoleSettings::default()
    };
    let service = start(&lab, settings, ServeSettings::default());
    assert_eq!(service.one("SELECT 1"), 1);
    let cut = service.ask("SELECT transaction_id FROM silver.transactions");
    assert_eq!(cut.status, 200, "{}", cut.body);
    let cut = cut.body;
    assert_eq!((cut["rows"].as_array().unwrap().len(), &cut["is_cut"]), (7, &json!(true)));
    let whole = service.ask("SELECT transaction_id FROM silver.transactions LIMIT 7").body;
    assert_eq!((whole["rows"].as_array().unwrap().len(), &whole["is_cut"]), (7, &json!(false)));
    let endless = "SELECT sum(a.amount * b.amount) FROM silver.transactions a, silver.transactions b, silver.transactions c, \
                   silver.transactions d WHERE a.user_id <> d.user_id + c.user_id";
    let slow = service.ask(endless);
    assert_eq!((slow.status, &slow.body["code"]), (422, &json!("timeout")), "{}", slow.body);
    // It was taken off its thread: the next ones have their turn.
    for _ in 0..3 {
        assert_eq!(service.one("SELECT 1"), 1);
    }
}

/// Endless, and different by its number.
fn endless(number: usize) -> String {
    format!(
        "SELECT sum(a.amount * b.amount) FROM silver.transactions a, silver.transactions b, silver.transactions c, \
         silver.transactions d WHERE a.user_id <> d.user_id + c.user_id + {number}"
    )
}

#[test]
fn who_waits_too_long_for_a_turn_is_told_to_come_back() {
    let (_folder, lab) = lake();
    let settings = ConsoleSettings {
        statement_timeout_ms: 4_000,
        wait_timeout_ms: 300,
        statements_max: 2,
        ..ConsoleSettings::default()
    };
    let service = start(&lab, settings, ServeSettings::default());
    assert_eq!(service.one("SELECT 1"), 1);
    let answers = std::thread::scope(|scope| {
        let service = &service;
        let all = (0..3).map(|number| scope.spawn(move || service.ask(&endless(number)))).collect::<Vec<_>>();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let mut codes: Vec<_> = answers.iter().map(|of| (of.status, of.body["code"].as_str().unwrap())).collect();
    codes.sort_unstable();
    assert_eq!(codes, [(422, "timeout"), (422, "timeout"), (503, "busy")]);
    let busy = answers.iter().find(|answer| answer.status == 503).unwrap();
    assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    let metrics = service.get("/metrics").body.as_str().unwrap().to_owned();
    assert!(metrics.contains("assay_console_questions_total{outcome=\"busy\",view=\"prompt\"} 1"), "{metrics}");
    assert!(metrics.contains("assay_console_questions_total{outcome=\"timeout\",view=\"prompt\"} 2"), "{metrics}");
}

#[test]
fn who_asks_the_same_at_once_shares_one_turn() {
    let (_folder, lab) = lake();
    let settings = ConsoleSettings {
        statement_timeout_ms: 3_000,
        wait_timeout_ms: 100,
        statements_max: 1,
        ..ConsoleSettings::default()
    };
    let service = start(&lab, settings, ServeSettings::default());
    assert_eq!(service.one("SELECT 1"), 1);
    let codes = std::thread::scope(|scope| {
        let service = &service;
        let all =
            (0..5).map(|_| scope.spawn(move || service.ask(&endless(0)).body["code"].clone())).collect::<Vec<_>>();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    // With a turn for each, four of them would be told to come back.
    assert_eq!(codes, ["timeout"; 5]);
}

#[test]
fn what_would_not_fit_into_memory_is_refused_as_a_mistake_of_the_question() {
    let (_folder, lab) = lake();
    let service = plain(&lab);
    assert_eq!(service.one("SELECT 1"), 1);
    for sql in ["SELECT repeat('x', 2000000000)", "SELECT repeat(merchant, 2000000000) FROM silver.transactions"] {
        let refused = service.ask(sql);
        assert_eq!((refused.status, &refused.body["code"]), (400, &json!("sql")), "{}", refused.body);
        assert!(refused.body["message"].as_str().unwrap().contains("65536 are the most"), "{}", refused.body);
    }
}

#[test]
fn lakes_that_are_not_there_or_empty_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().join("none").to_str().unwrap());
    let service = plain(&lab);
    assert_eq!(service.get("/console/about").status, 200);
    assert_eq!(service.get("/console/models").body["models"], json!([]));
    for route in ["pulse", "flow", "epochs", "rejects", "drift", "transactions", "names", "story?id=a"] {
        let answer = service.get(&format!("/console/{route}"));
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("no_lake")), "{route}: {}", answer.body);
    }
    let lake = lab.open_lake().unwrap();
    drop(lab.tables(&lake).unwrap());
    for route in ["pulse", "flow", "epochs", "rejects", "drift", "transactions", "names"] {
        let answer = service.get(&format!("/console/{route}"));
        assert_eq!(answer.status, 200, "{route}: {}", answer.body);
    }
    assert_eq!(service.get("/console/pulse").body["epoch"], 0);
    assert_eq!(service.get("/console/transactions").body["rows"], Value::Null);
    assert_eq!(service.get("/console/story?id=a").body["code"], "unknown_row");
}

#[test]
fn looking_and_changing_need_the_keys_that_are_set() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let keys = ServeSettings {
        api_keys: vec![ApiKeys::hash("look")],
        admin_keys: vec![ApiKeys::hash("change")],
        ..ServeSettings::default()
    };
    let service = start(&lab, ConsoleSettings::default(), keys);
    let as_of = |key: &str| format!("authorization: Bearer {key}\r\n");
    for (key, status) in [("", 401), ("wrong", 401), ("look", 200), ("change", 200)] {
        let headers = if key.is_empty() { String::new() } else { as_of(key) };
        assert_eq!(service.send("GET", "/console/about", &headers, "").status, status, "{key}");
    }
    // Who has no key yet gets the page, which asks for one.
    assert_eq!(service.send("GET", "/", "accept: text/html\r\n", "").status, 200);
    let rollback = |headers: String| service.send("POST", "/console/models/fraud/rollback", &headers, "");
    assert_eq!(rollback(as_of("change")).body["code"], "header_missing");
    assert_eq!(rollback(format!("{OWN}{}", as_of("look"))).status, 403);
    assert_eq!(rollback(OWN.to_owned()).status, 401);
    let allowed = rollback(format!("{OWN}{}", as_of("change")));
    assert_eq!((allowed.status, &allowed.body["code"]), (404, &json!("registry")), "{}", allowed.body);

    let open = plain(&lab);
    let refused = open.send("POST", "/console/models/fraud/rollback", OWN, "");
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("no_admin_key")));
    assert!(refused.body["detail"].as_str().unwrap().contains("ASSAY_SERVE_ADMIN_KEY"));
    let foreign = open.send("POST", "/console/sql", "content-type: application/json\r\n", r#"{"sql": "SELECT 1"}"#);
    assert_eq!((foreign.status, &foreign.body["code"]), (403, &json!("header_missing")));
    assert!(open.models.path().read_dir().unwrap().next().is_none());
}

#[test]
fn the_page_is_for_browsers_and_comes_from_here() {
    let folder = tempfile::tempdir().unwrap();
    let service = plain(&Lab::at(folder.path().to_str().unwrap()));
    assert!(service.get("/").body.as_str().unwrap().starts_with("assay "));
    let page = service.send("GET", "/", "accept: text/html,application/xhtml+xml\r\n", "");
    assert!(
        page.head.contains("content-security-policy: default-src 'self';") && page.head.contains("no-cache"),
        "{}",
        page.head
    );
    let style = service.get("/console/page/style.css");
    assert_eq!(style.status, 200);
    let tag = style.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let again = service.send("GET", "/console/page/style.css", &format!("if-none-match: {tag}\r\n"), "");
    assert_eq!((again.status, again.body), (304, json!("")));
    assert_eq!(service.get("/console/page/none.js").status, 404);
}

#[test]
fn a_page_that_asks_often_has_tables_opened_rarely() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Ticking::at(NOON_US);
    let lab = Lab::at(folder.path().to_str().unwrap()).with_clock(Arc::clone(&clock) as _);
    let (made, _) = generated(dirty(5, 200));
    let service = plain(&lab);
    let seen = || {
        let pulse = service.get("/console/pulse").body["epoch"].as_i64().unwrap();
        (pulse, service.one("SELECT max(epoch) FROM ops.epochs").as_i64().unwrap())
    };
    lab.run(&made[..100], &Cut::every(100)).unwrap();
    assert_eq!(seen(), (1, 1));
    lab.run(&made, &Cut::every(100)).unwrap();
    assert_eq!(seen(), (1, 1));
    clock.set(NOON_US + 1_000_000);
    assert_eq!(seen(), (2, 1), "the ledger is cheap to follow");
    clock.set(NOON_US + 60_000_000);
    assert_eq!(seen(), (2, 2));
}
