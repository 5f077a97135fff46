//! Training: each family alone, beside scikit-learn and XGBoost on the same rows, and the whole job.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, RecordBatch, TimestampMicrosecondArray};
use assay::model::table::{Roles, Table, Wanted, prepare};
use assay::model::{
    BoostSettings, Classifier, Family, FamilyName, ForestSettings, LogisticSettings, Metrics, Model, Samples,
    TrainData, TrainSettings, train,
};
use clap::Args;
use parquet::arrow::ArrowWriter;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use serde_json::{Map, Value, json};

use super::machine::{Cpu, Machine, peak_rss_mib};
use super::scratch::{Scratch, ScratchArgs};
use crate::app::{App, usage};
use crate::exit::Exit;
use crate::ui::thousands;

/// Fit each family, score rows that it has not seen, and run the whole job of training, on generated rows
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// Rows of all; the last quarter is the test of the families
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000))]
    pub rows: u64,
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(6..=500))]
    pub features: u16,
    /// A Python with scikit-learn, xgboost-cpu and pyarrow, which fits the same rows beside
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<PathBuf>,
    /// Leave out the whole job
    #[arg(long)]
    pub no_job: bool,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// What the Python of `--python` runs.
const PYTHON: &str = include_str!("../../benches/train.py");
/// How far a family's average precision may lie below that of its counterpart.
const PRECISION_GAP_MAX: f64 = 0.005;

pub fn run(args: &TrainArgs, mut app: App) -> anyhow::Result<Exit> {
    let machine = Machine::look();
    let scratch = Scratch::make(&args.scratch, &mut app)?;
    let folder = scratch.lake().with_file_name("rows");
    std::fs::create_dir_all(&folder)?;
    let rows = rows(args)?;
    let split = rows.num_rows() - rows.num_rows() / 4;
    write(&folder.join("all.parquet"), &rows)?;
    write(&folder.join("train.parquet"), &rows.slice(0, split))?;
    write(&folder.join("test.parquet"), &rows.slice(split, rows.num_rows() - split))?;
    let families = families(args.seed);
    let settings: Map<String, Value> = families
        .iter()
        .map(|(key, family)| Ok((key.clone(), serde_json::to_value(family)?)))
        .collect::<Result<_, serde_json::Error>>()?;
    std::fs::write(folder.join("settings.json"), serde_json::to_vec(&settings)?)?;
    drop(rows);

    let (learned, tested) = (samples(&folder.join("train.parquet"))?, samples(&folder.join("test.parquet"))?);
    let mut ours = Map::new();
    for (key, family) in &families {
        let (before, began_us) = (Cpu::Process.time(), app.clock.now_us());
        let model = family.fit(&learned)?;
        let (cpu, wall_us) = (Cpu::Process.time().saturating_sub(before), app.clock.now_us() - began_us);
        let average_precision = quality(&model, &tested)?;
        ours.insert(
            key.clone(),
            json!({"average_precision": average_precision, "cpu_s": cpu.as_secs_f64(), "wall_s": wall_us as f64 / 1e6}),
        );
    }
    let (tested_rows, positives) = (tested.rows(), tested.positives());
    drop((learned, tested));
    let theirs = args.python.as_deref().map(|python| beside(python, &folder)).transpose()?;
    let job = if args.no_job { None } else { Some(whole(&folder.join("all.parquet"), &app)?) };

    let mut lines = vec![format!("{} rows, {} features; a quarter is the test", thousands(args.rows), args.features)];
    lines.extend(families.iter().map(|(key, family)| line(key, family.name(), &ours, theirs.as_ref())));
    if let Some(job) = &job {
        lines.push(format!("the whole job: {:.1} s, {:.1} s of CPU", number(job, "wall_s"), number(job, "cpu_s")));
    }
    lines.push(format!("peak RSS {} MiB", peak_rss_mib()));
    let figures = json!({
        "rows": args.rows, "features": args.features, "tested": tested_rows, "positives": positives, "families": ours, "beside": theirs, "job": job,
        "within": theirs.as_ref().map(|theirs| within(&ours, theirs)), "peak_rss_mib": peak_rss_mib(),
    });
    super::report(&app, &machine, "train", &figures, &lines)?;
    Ok(Exit::Done)
}

/// Each with a number of trees that both sides grow in full.
fn families(seed: u64) -> Vec<(String, Family)> {
    let boost = BoostSettings { rounds_max: 200, validation_share: 0.0, seed, ..BoostSettings::default() };
    vec![
        ("logistic".to_owned(), Family::Logistic(LogisticSettings::default())),
        ("forest".to_owned(), Family::Forest(ForestSettings { seed, ..ForestSettings::default() })),
        ("boost".to_owned(), Family::Boost(boost)),
    ]
}

/// Two or three positives in a hundred rows, which follow from a few features, alone and together; the others are noise, and so is a part of each label.
fn rows(args: &TrainArgs) -> anyhow::Result<RecordBatch> {
    let mut random = SmallRng::seed_from_u64(args.seed);
    let (count, width) = (args.rows as usize, usize::from(args.features));
    let mut columns = vec![Vec::with_capacity(count); width];
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        let row: Vec<f32> = (0..width)
            .map(|feature| {
                let x: f32 = random.sample(StandardNormal);
                // Amounts, counts, and plain numbers.
                match feature % 3 {
                    0 => x.exp() * 50.0,
                    1 => (x.abs() * 4.0).floor(),
                    _ => x,
                }
            })
            .collect();
        let log = |feature: usize| f64::from(row[feature]).ln();
        let alone = 1.4 * (log(0) - 4.5) + 0.5 * f64::from(row[1]);
        let together =
            1.6 * f64::from(row[2]) * f64::from(row[5]) - if row[4] > 4.0 && row[3] > 60.0 { 3.0 } else { 0.0 };
        let score = 2.5 * (alone + together) - 14.0;
        labels.push(random.random::<f64>() < 1.0 / (1.0 + (-score).exp()));
        columns.iter_mut().zip(row).for_each(|(column, x)| column.push(x));
    }
    let times: TimestampMicrosecondArray = (0..args.rows).map(|row| Some(row as i64 * 60_000_000)).collect();
    let features = columns
        .into_iter()
        .enumerate()
        .map(|(feature, values)| (format!("f{feature}"), Arc::new(Float32Array::from(values)) as ArrayRef));
    let others = [
        ("label".to_owned(), Arc::new(BooleanArray::from(labels)) as ArrayRef),
        ("at".to_owned(), Arc::new(times.with_timezone("UTC")) as ArrayRef),
    ];
    Ok(RecordBatch::try_from_iter(features.chain(others))?)
}

fn write(path: &Path, rows: &RecordBatch) -> anyhow::Result<()> {
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, rows.schema(), None)?;
    writer.write(rows)?;
    writer.close()?;
    Ok(())
}

fn table(path: &Path) -> anyhow::Result<Table> {
    Ok(Table::read(&[path.display().to_string()], &Wanted::AllBut(&[]))?)
}

fn roles() -> Roles {
    Roles { label: "label".to_owned(), time: Some("at".to_owned()), ..Roles::default() }
}

fn samples(path: &Path) -> anyhow::Result<Samples> {
    Ok(prepare(&table(path)?, &roles(), 0, 0.1)?.samples)
}

fn quality(model: &Model, tested: &Samples) -> anyhow::Result<f64> {
    let probabilities = model.probabilities(tested.records()).to_vec();
    let metrics = Metrics::of(&probabilities, &tested.labels().to_vec(), 0.5)?;
    metrics.average_precision.ok_or_else(|| usage("no positive row to test on: take more --rows"))
}

/// As `assay train` runs: reading, folds, search, calibration, the last fit, its test.
fn whole(path: &Path, app: &App) -> anyhow::Result<Value> {
    let (before, began_us) = (Cpu::Process.time(), app.clock.now_us());
    let settings = TrainSettings { label_delay_hours: 0, ..TrainSettings::default() };
    let prepared = prepare(&table(path)?, &roles(), 0, settings.test_share)?;
    let data = TrainData { samples: &prepared.samples, cards: None, segments: &[] };
    let trained = train(&settings, &data, &|_| {})?;
    let (cpu, wall_us) = (Cpu::Process.time().saturating_sub(before), app.clock.now_us() - began_us);
    let winner = trained.report.champion.as_ref().map(|champion| champion.family);
    Ok(json!({"cpu_s": cpu.as_secs_f64(), "wall_s": wall_us as f64 / 1e6, "winner": winner}))
}

/// What another program makes of the same rows.
fn beside(python: &Path, folder: &Path) -> anyhow::Result<Value> {
    let output = Command::new(python)
        .args(["-c", PYTHON])
        .arg(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|cause| usage(format!("--python {}: {cause}", python.display())))?;
    if !output.status.success() {
        return Err(usage(format!("--python {}: it ended with {}", python.display(), output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(of: &Value, key: &str) -> f64 {
    of.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn line(key: &str, name: FamilyName, ours: &Map<String, Value>, theirs: Option<&Value>) -> String {
    let of = ours.get(key).cloned().unwrap_or_default();
    let said = |of: &Value| {
        let [ap, cpu, wall] = ["average_precision", "cpu_s", "wall_s"].map(|key| number(of, key));
        format!("AP {ap:.4}, {cpu:.1} s of CPU, {wall:.1} s")
    };
    let mut line = format!("{name:<20} {}", said(&of));
    if let Some(other) = theirs.and_then(|theirs| theirs.pointer(&format!("/families/{key}"))) {
        let tool = if key == "boost" { "XGBoost" } else { "scikit-learn" };
        let share = number(&of, "cpu_s") / number(other, "cpu_s");
        line += &format!("; {tool} {} ({share:.2} of its CPU)", said(other));
    }
    line
}

/// Whether each family is as good as its counterpart, and takes no more CPU; a forest half of it.
fn within(ours: &Map<String, Value>, theirs: &Value) -> Value {
    let of = |(key, of): (&String, &Value)| {
        let other = theirs.pointer(&format!("/families/{key}")).cloned().unwrap_or_default();
        let precise = number(of, "average_precision") >= number(&other, "average_precision") - PRECISION_GAP_MAX;
        let share = if key == "forest" { 0.5 } else { 1.0 };
        let quick = number(of, "cpu_s") <= share * number(&other, "cpu_s");
        (key.clone(), json!({"average_precision": precise, "cpu": quick}))
    };
    Value::Object(ours.iter().map(of).collect())
}
