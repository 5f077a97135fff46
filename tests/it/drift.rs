//! `assay drift` and the tables of records, through the binary: what a scheduler runs every day.

use std::path::PathBuf;
use std::process::{Command, Output};

use assay::model::registry::{BASELINE_FILE, MANIFEST_FILE, ModelName, Registry, Version};
use serde_json::Value;

use crate::kit::{printed, said};
use tempfile::TempDir;

/// A lake of a month, 400 rows a day, and a model that learned from it.
struct Shop {
    folder: TempDir,
}

impl Shop {
    fn new() -> Self {
        let shop = Self { folder: TempDir::new().unwrap() };
        shop.load("2026-01-01T00:00:00Z", 12_000, 1, |_| {});
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("ASSAY_TRAIN_FAMILIES", "['logistic']")
            .env("ASSAY_TRAIN_FOLDS", "2")
            .env("ASSAY_TRAIN_LABELS_MIN", "10")
            // How well so few frauds are learned is not what is tested here.
            .env("ASSAY_TRAIN_PRECISION_MIN", "0")
            .env("ASSAY_TRAIN_RECALL_MIN", "0")
            .env("ASSAY_TRAIN_F1_MIN", "0")
            .env("ASSAY_DRIFT_ROWS_MIN", "300")
            .output()
            .unwrap()
    }

    /// The JSON that a job prints.
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        printed(&self.run(&[arguments, &["--json"]].concat()), code)
    }

    /// What a job says of its failure.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        said(&self.run(arguments), code)
    }

    /// Loads generated transactions, each changed first.
    fn load(&self, start_at: &str, events: usize, seed: u64, change: impl Fn(&mut Value)) {
        let (events, seed) = (events.to_string(), seed.to_string());
        let clean = ["--malformed", "0", "--bad-rows", "0", "--late", "0", "--out-of-order", "0", "--duplicates", "0"];
        let stream = ["--event-rate", "0.00463", "--start-at", start_at, "--users", "3000", "--merchants", "1000"];
        let file = ["generate", "--events", &events, "--seed", &seed, "--output", "made.jsonl"];
        self.json(0, &[&file[..], &stream, &clean].concat());
        let made = std::fs::read_to_string(self.path("made.jsonl")).unwrap();
        let changed = made.lines().map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            change(&mut row);
            row.to_string() + "\n"
        });
        std::fs::write(self.path("rows.jsonl"), changed.collect::<String>()).unwrap();
        self.json(0, &["load", "rows.jsonl"]);
    }

    fn train(&self) -> Value {
        self.json(0, &["train", "--label-delay", "24"])
    }

    /// The rows of a query.
    fn sql(&self, query: &str) -> Vec<Value> {
        let output = self.run(&["sql", "--format", "json", query]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn versions_of(&self, table: &str) -> usize {
        std::fs::read_dir(self.path(&format!("lake/ml/{table}/_delta_log"))).unwrap().count()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

const DRIFT: [&str; 3] = ["drift", "--label-delay", "24"];

#[test]
fn a_shifted_stream_ends_with_three_and_an_unshifted_one_does_not() {
    let shop = Shop::new();
    let trained = shop.train();
    assert_eq!(text(&trained, "recorded"), "ml.runs, ml.models");

    // Other customers of the same kind.
    shop.load("2026-02-01T00:00:00Z", 1_700, 2, |_| {});
    let days = [&DRIFT[..], &["--days", "3"]].concat();
    let same = shop.json(0, &days);
    assert_eq!((text(&same, "from"), text(&same, "to")), ("2026-02-02", "2026-02-04"));
    assert_eq!(same["act"], serde_json::json!([]));

    // The same days again: the same rows, no version more.
    let before = [shop.versions_of("drift"), shop.versions_of("performance")];
    let again = shop.json(0, &days);
    assert_eq!(again["drift"], same["drift"]);
    assert!(again["tables"].as_array().unwrap().iter().all(|table| table["changed"] == false), "{again}");
    assert_eq!([shop.versions_of("drift"), shop.versions_of("performance")], before);

    // Prices of three times as much, in the days that follow.
    shop.load("2026-02-05T06:00:00Z", 1_700, 3, |row| row["amount"] = (row["amount"].as_f64().unwrap() * 3.0).into());
    let report = [&days[..], &["--report", "drift.html", "--metrics-file", "drift.prom"]].concat();
    let error = shop.refused(3, &report);
    for part in ["amount on 2026-02-0", "PSI", "drift.psi_act is 0.25", "assay train --set fraud"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("country on"), "{error}");
    let page = std::fs::read_to_string(shop.path("drift.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("amount") && !page.contains("http://127"), "{page}");
    let metrics = std::fs::read_to_string(shop.path("drift.prom")).unwrap();
    let line = |name: &str| metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
    let value = |name: &str| line(name).rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    let labels = format!("{{model=\"fraud\",version=\"{}\",feature=\"amount\"}}", text(&trained, "version"));
    assert!(value(&format!("assay_drift_psi{labels}")) > 0.25, "{metrics}");
    assert!(value("assay_drift_windows_to_act_on") >= 3.0);

    // The table has both kinds of days; a higher threshold lets the last ones pass.
    let rows = shop.sql(
        "SELECT max(psi) AS psi, count(DISTINCT window_start) AS days FROM ml.drift WHERE grain = 'day' AND feature = 'amount'",
    );
    assert!(rows[0]["psi"].as_f64().unwrap() > 0.25 && rows[0]["days"].as_i64() >= Some(6), "{rows:?}");
    shop.json(0, &[&days[..], &["--psi-act", "50", "--no-record"]].concat());
    // An hour of so few rows is off by chance: judged only when asked for.
    let quiet =
        [&DRIFT[..], &["--from", "2026-02-02", "--to", "2026-02-04", "--rows-min", "5", "--no-record"]].concat();
    shop.json(0, &quiet);
    let error = shop.refused(3, &[&quiet[..], &["--judge-hours"]].concat());
    assert!(error.contains("00Z: PSI"), "{error}");
}

#[test]
fn decisions_are_compared_with_labels_that_the_model_did_not_learn() {
    let shop = Shop::new();
    shop.train();
    let found =
        shop.json(0, &[&DRIFT[..], &["--from", "2026-01-01", "--to", "2026-01-30", "--psi-act", "50"]].concat());
    let performance = found["performance"].as_array().unwrap();
    let version = text(&found, "version").to_owned();
    let baseline = std::fs::read(shop.path(&format!("models/fraud/{version}/{BASELINE_FILE}"))).unwrap();
    let learned_us = serde_json::from_slice::<Value>(&baseline).unwrap()["to_us"].as_i64().unwrap();
    let learned = chrono::DateTime::from_timestamp_micros(learned_us).unwrap().format("%Y-%m-%d").to_string();
    let days: Vec<&str> = performance.iter().map(|day| text(day, "day")).collect();
    // The newest row is of the 31st, and labels take a day.
    assert!(days[0] > &*learned && days.last() == Some(&"2026-01-29"), "{learned}: {days:?}");

    // Counted again from a file that `predict` scores.
    let rows = "SELECT CAST(CAST(transactions.event_at AS DATE) AS VARCHAR) AS day, transactions.is_fraud AS fraud, \
        transactions.amount, transactions.payment_method, transactions.country, transactions.hour, \
        transactions.day_of_week, scores.user_transactions_30m, scores.high_risk_country_points \
        FROM silver.transactions AS transactions \
        JOIN gold.fraud_scores AS scores ON scores.transaction_id = transactions.transaction_id";
    assert!(shop.run(&["sql", "--format", "parquet", "--output", "rows.parquet", rows]).status.success());
    let predict =
        ["predict", "--model", "fraud", "--data", "rows.parquet", "--keep", "day,fraud", "--output", "scores.csv"];
    shop.json(0, &predict);
    let scores = std::fs::read_to_string(shop.path("scores.csv")).unwrap();
    let mut with_frauds = 0;
    for day in performance {
        let lines = scores.lines().filter(|line| line.split(',').nth(1) == Some(text(day, "day")));
        let counts = lines.fold([0_u64; 4], |mut counts, line| {
            let cells: Vec<&str> = line.split(',').collect();
            counts[usize::from(cells[4] == "true") * 2 + usize::from(cells[2] == "true")] += 1;
            counts
        });
        let of = &day["metrics"]["confusion"];
        let told = ["true_negatives", "false_negatives", "false_positives", "true_positives"]
            .map(|name| of[name].as_u64().unwrap());
        assert_eq!(told, counts, "{day}");
        with_frauds += u64::from(counts[1] + counts[3] > 0);
    }
    assert!(with_frauds > 0);
    let table = shop.sql("SELECT count(*) AS days, sum(rows) AS rows, count(recall) AS recalls FROM ml.performance");
    assert_eq!(table[0]["days"].as_u64(), Some(days.len() as u64));
    assert_eq!(table[0]["recalls"].as_u64(), Some(with_frauds));
}

#[test]
fn runs_and_versions_are_rows_of_the_lake() {
    let shop = Shop::new();
    let first = text(&shop.train(), "version").to_owned();
    let runs = shop.sql("SELECT part, count(*) AS rows, min(rows) AS least FROM ml.runs GROUP BY part ORDER BY part");
    let parts: Vec<(&str, u64)> = runs.iter().map(|row| (text(row, "part"), row["rows"].as_u64().unwrap())).collect();
    assert_eq!(parts, [("all_folds", 1), ("fold", 2), ("test", 1)]);
    let second = shop.train();
    assert_eq!(second["champion"], Value::Bool(false));
    let second = text(&second, "version").to_owned();
    let champions = || {
        let rows = shop.sql("SELECT version, aliases, is_champion FROM ml.models ORDER BY version");
        assert_eq!(rows.len(), 2);
        let champions: Vec<String> =
            rows.iter().filter(|row| row["is_champion"] == true).map(|row| text(row, "version").to_owned()).collect();
        champions
    };
    assert_eq!(champions(), std::slice::from_ref(&first));
    assert_eq!(shop.json(0, &["promote", &format!("fraud@{second}")])["recorded"], "ml.models");
    assert_eq!(champions(), std::slice::from_ref(&second));
    shop.json(0, &["rollback", "fraud"]);
    assert_eq!(champions(), [first]);
    // Nothing moved: nothing is written.
    let before = shop.versions_of("models");
    shop.json(0, &["promote", "fraud@champion"]);
    assert_eq!(shop.versions_of("models"), before);
    // Another place of the lake: the alias moves all the same, and why no table shows it is told.
    let told = shop.run(&["promote", &format!("fraud@{second}"), "--lake", "elsewhere"]);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stdout).contains("elsewhere"), "{told:?}");
    let told = shop.json(0, &["models", "fraud"]);
    assert_eq!(told[0]["aliases"], serde_json::json!(["champion"]));
}

#[test]
fn a_model_without_something_to_compare_with_is_refused_with_what_to_do() {
    let shop = Shop::new();
    assert!(shop.refused(2, &["drift"]).contains("there is no model `fraud`"));
    let trained = shop.train();
    for (flags, expected) in [
        (&["--from", "2027-01-01", "--to", "2027-01-02"][..], "not complete yet"),
        (&["--psi-watch", "0"], "--psi-watch must be above 0"),
        (&["--from", "2026-01-03", "--to", "2026-01-02"], "the first day first"),
    ] {
        let error = shop.refused(if expected.contains("complete") { 1 } else { 2 }, &[&DRIFT[..], flags].concat());
        assert!(error.contains(expected), "{error}");
    }

    // As an assay without baselines would have kept it.
    let registry = Registry::new(shop.path("models"));
    let name = ModelName::parse("fraud").unwrap();
    let version = Version::parse(text(&trained, "version")).unwrap();
    let manifest = registry.manifest(&name, &version).unwrap();
    let folder = std::path::PathBuf::from(registry.location_of(&name, &version));
    let read = |file: &String| (file.clone(), std::fs::read(folder.join(file)).unwrap());
    let files =
        manifest.files.keys().filter(|file| *file != BASELINE_FILE && *file != MANIFEST_FILE).map(read).collect();
    let older = registry.record(&version, manifest, &files).unwrap().version;
    let error = shop.refused(2, &["drift", "--model", &format!("fraud@{older}")]);
    assert!(error.contains("train again with `assay train --set fraud`"), "{error}");

    // A baseline that was changed.
    let path = folder.join(BASELINE_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"counts\":[", "\"counts\":[1", 1)).unwrap();
    assert!(shop.refused(3, &DRIFT).contains("baseline.json` is not what was written"));

    // Files know no lake.
    shop.run(&[
        "sql",
        "--format",
        "csv",
        "--output",
        "t.csv",
        "SELECT amount, country, is_fraud, event_at FROM silver.transactions",
    ]);
    let flags = ["--label", "is_fraud", "--time", "event_at", "--label-delay", "24", "--name", "own"];
    let own = shop.json(0, &[&["train", "--data", "t.csv"][..], &flags].concat());
    assert_eq!(own["recorded"], Value::Null);
    assert!(shop.refused(2, &["drift", "--model", "own"]).contains("learned from files"));
}
