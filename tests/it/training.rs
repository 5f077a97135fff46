//! `assay train` and its registry, through the binary: what a data scientist does with a table of their own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assay::model::registry::{CHAMPION, MANIFEST_FILE, MODEL_FILE, ModelName, Registry};
use serde_json::Value;

use crate::kit::{printed, said};
use tempfile::TempDir;

const ROWS: u64 = 3_000;

/// A desk with one table on it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sixty days; fraud follows the amount and the country with a little noise, or nothing at all.
    fn table(&self, name: &str, follows: bool) -> PathBuf {
        let mut text = "transaction_id,at,amount,country,visits,is_fraud\n".to_owned();
        let mut random = Lehmer(20_261_121);
        let begin = chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        for row in 0..ROWS {
            let at = begin + chrono::TimeDelta::seconds(i64::try_from(row * 60 * 86_400 / ROWS).unwrap());
            let (amount, country) = (random.below(1_000), ["DE", "FR", "NG"][random.below(3) as usize]);
            let likely = amount > 700 && country == "NG";
            let noisy = random.below(40) == 0;
            let fraud = if follows { likely && !noisy } else { random.below(10) == 0 };
            let visits = if random.below(20) == 0 { String::new() } else { random.below(9).to_string() };
            let at = at.format("%Y-%m-%d %H:%M:%S");
            writeln!(text, "t{row},{at},{amount}.5,{country},{visits},{}", u8::from(fraud)).unwrap();
        }
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("RAYON_NUM_THREADS")
            .env_remove("MLFLOW_TRACKING_URI")
            .env("ASSAY_TRAIN_FAMILIES", "['logistic', 'boost']")
            .env("ASSAY_TRAIN_FOLDS", "2")
            .output()
            .unwrap()
    }

    /// The JSON that a job prints.
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        printed(&self.run(&[arguments, &["--json"]].concat()), code)
    }

    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        said(&self.run(arguments), code)
    }

    fn registry(&self) -> Registry {
        Registry::new(self.path("models"))
    }

    fn champion(&self) -> String {
        let aliases = self.registry().aliases(&ModelName::parse("fraud").unwrap()).unwrap();
        aliases.get(CHAMPION).unwrap().to_string()
    }
}

/// The minimal standard generator: a test needs the same numbers for ever.
struct Lehmer(u64);

impl Lehmer {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % bound
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn learned(folder: &str) -> [Vec<u8>; 2] {
    ["report.json", MODEL_FILE].map(|file| std::fs::read(Path::new(folder).join(file)).unwrap())
}

const TRAIN: [&str; 7] = ["train", "--data", "good.csv", "--label", "is_fraud", "--time", "at"];

#[test]
fn a_model_is_trained_compared_promoted_and_rolled_back() {
    let desk = Desk::new();
    desk.table("good.csv", true);
    desk.table("bad.csv", false);
    let train = [&TRAIN[..], &["--segment", "country"]].concat();

    let first = desk.json(0, &train);
    assert_eq!((&first["passed"], &first["champion"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(first["winner"]["out_of_fold"]["f1"].as_f64().unwrap() > 0.9, "{first}");
    assert_eq!(first["left_out"][0][0], "transaction_id");
    assert_eq!(desk.champion(), text(&first, "version"));

    // The same data and seed: the same bytes, with one thread too; and no better than the champion.
    let again = Command::new(env!("CARGO_BIN_EXE_assay"))
        .args([&train[..], &["--json"]].concat())
        .current_dir(desk.folder.path())
        .env("RAYON_NUM_THREADS", "1")
        .env("ASSAY_TRAIN_FAMILIES", "['logistic', 'boost']")
        .env("ASSAY_TRAIN_FOLDS", "2")
        .output()
        .unwrap();
    let second: Value = serde_json::from_slice(&again.stdout).unwrap();
    let folder = |run: &Value| desk.path(text(run, "folder")).display().to_string();
    assert!(learned(&folder(&first)) == learned(&folder(&second)), "two runs differ");
    assert_eq!(second["champion"], Value::Bool(false));
    assert_eq!(desk.champion(), text(&first, "version"));

    // Labels that follow nothing: the run is kept, the champion stays.
    let bad = desk.run(&["train", "--data", "bad.csv", "--label", "is_fraud", "--time", "at", "--json"]);
    assert_eq!(bad.status.code(), Some(3), "{}", String::from_utf8_lossy(&bad.stderr));
    let bad: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(bad["passed"], Value::Bool(false));
    assert_eq!(desk.champion(), text(&first, "version"));
    let error = desk.refused(3, &["promote", &format!("fraud@{}", text(&bad, "version"))]);
    assert!(error.contains("may not be promoted"), "{error}");

    let promoted = desk.json(0, &["promote", &format!("fraud@{}", text(&second, "version"))]);
    assert_eq!(text(&promoted, "before"), text(&first, "version"));
    let list = desk.json(0, &["models", "fraud"]);
    let aliases: Vec<&Value> = list.as_array().unwrap().iter().map(|line| &line["aliases"]).collect();
    assert_eq!(aliases, [&serde_json::json!([]), &serde_json::json!([CHAMPION]), &serde_json::json!([])]);
    let back = desk.json(0, &["rollback", "fraud"]);
    assert_eq!((text(&back, "version"), text(&back, "before")), (text(&first, "version"), text(&second, "version")));
    let nothing = desk.refused(2, &["rollback", "fraud"]);
    assert!(nothing.contains("nothing to roll back to"), "{nothing}");

    predicts(&desk, &first);

    // One byte of the artifact changes: nothing loads it any more.
    let model = PathBuf::from(folder(&first)).join(MODEL_FILE);
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&model, bytes).unwrap();
    let score = ["predict", "--model", "fraud", "--data", "good.csv", "--output", "again.csv"];
    let error = desk.refused(3, &score);
    assert!(error.contains("model.json` is not what was written: its checksum differs"), "{error}");
    assert!(!desk.path("again.csv").exists());
    std::fs::remove_file(PathBuf::from(folder(&second)).join(MANIFEST_FILE)).unwrap();
    desk.refused(3, &["models"]);
}

fn predicts(desk: &Desk, first: &Value) {
    let score = ["predict", "--model", "fraud", "--data", "good.csv", "--keep", "transaction_id", "--output"];
    let told = desk.json(0, &[&score[..], &["scores.csv"]].concat());
    assert_eq!((told["rows"].as_u64(), text(&told, "version")), (Some(ROWS), text(first, "version")));
    let scores = std::fs::read_to_string(desk.path("scores.csv")).unwrap();
    let mut lines = scores.lines();
    assert_eq!(lines.next(), Some("row,transaction_id,fraud_probability,is_fraud"));
    let threshold = told["threshold"].as_f64().unwrap();
    let (mut rows, mut frauds) = (0, 0);
    for (row, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!((cells[0], cells[1]), (&*(row + 1).to_string(), &*format!("t{row}")));
        assert_eq!(cells[2].parse::<f64>().unwrap() >= threshold, cells[3] == "true", "{line}");
        (rows, frauds) = (rows + 1, frauds + u64::from(cells[3] == "true"));
    }
    assert_eq!((rows, Some(frauds)), (ROWS, told["frauds"].as_u64()));
    desk.json(0, &[&score[..], &["scores.parquet"]].concat());
    assert!(desk.path("scores.parquet").exists() && !desk.path("scores.parquet.part").exists());
}

#[test]
fn a_call_that_cannot_work_leaves_nothing_behind() {
    let desk = Desk::new();
    desk.table("good.csv", true);
    for (arguments, expected) in [
        (&["train", "--data", "nowhere.csv", "--label", "is_fraud"][..], "`nowhere.csv` cannot be read"),
        (&["train", "--data", "good.csv", "--label", "fraud"], "did you mean `is_fraud`?"),
        (&["train", "--data", "good.csv", "--label", "country"], "`good.csv`, row 1, column `country`"),
        (&["train", "--data", "good.csv", "--label", "is_fraud", "--name", "../x"], "`../x` is no name of a model"),
        (&["models", "fraud"], "there is no model `fraud` in models (models: none)"),
        (&["promote", "fraud"], "there is no model `fraud`"),
        (&["predict", "--model", "fraud", "--data", "good.csv", "--output", "x.txt"], "must end in .csv or .parquet"),
    ] {
        let error = desk.refused(2, arguments);
        assert!(error.contains(expected), "{error}");
    }
    let long = ["--time", "at", "--label-delay", "9999"];
    let error = desk.refused(2, &[&["train", "--data", "good.csv", "--label", "is_fraud"][..], &long].concat());
    assert!(error.contains("--label-delay HOURS"), "{error}");
    assert!(!desk.path("models").exists());
}

/// What the graph says is looked at by onnxruntime in `tests/services/onnx.sh`.
#[test]
fn a_model_goes_out_as_onnx_and_what_holds_no_model_leaves_none_behind() {
    let desk = Desk::new();
    desk.table("payments.csv", true);
    let rows = ["--data", "payments.csv", "--label", "is_fraud", "--time", "at", "--ignore", "transaction_id"];
    let trained = desk.json(0, &[&["train"], &rows[..]].concat());
    let told = desk.json(0, &["models", "export", "fraud", "--onnx", "one.onnx"]);
    assert_eq!((text(&told, "version"), &told["columns"]), (text(&trained, "version"), &Value::from(3)));
    desk.json(0, &["models", "export", &format!("fraud@{}", text(&trained, "version")), "--onnx", "two.onnx"]);
    let [one, two] = ["one.onnx", "two.onnx"].map(|name| std::fs::read(desk.path(name)).unwrap());
    assert!(one == two, "the same version gives the same bytes");
    assert_eq!(told["blake3"], blake3::hash(&one).to_hex().to_string());
    let name = ModelName::parse("fraud").unwrap();
    let registry = desk.registry();
    let version = &registry.versions(&name).unwrap()[0];
    let model = std::path::Path::new(&registry.location_of(&name, version)).join(MODEL_FILE);
    let checksum = blake3::hash(&std::fs::read(model).unwrap()).to_hex().to_string();
    for word in ["fraud_probability", "assay.threshold", "country=NG", "visits is missing", checksum.as_str()] {
        assert!(one.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
    }
    std::fs::write(desk.path("cut.onnx"), &one[..one.len() / 2]).unwrap();
    for (file, words) in
        [("one.onnx", "there is no model in this file"), ("cut.onnx", "no ONNX file"), ("none.onnx", "none.onnx")]
    {
        let said = desk.refused(2, &[&["models", "import", file, "--name", "other"], &rows[..]].concat());
        assert!(said.contains(words), "{said}");
    }
    assert!(!desk.path("models/other").exists());
    let said = desk.refused(2, &["models", "export", "nobody", "--onnx", "x.onnx"]);
    assert!(said.contains("there is no model `nobody`"), "{said}");
}
