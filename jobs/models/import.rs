use std::collections::BTreeMap;
use std::path::PathBuf;

use assay::model::imported::{Measured, measure};
use assay::model::onnx::{self, Imported};
use assay::model::registry::{
    BASELINE_FILE, DataSource, FORMAT, FileSum, ImportSource, MODEL_FILE, Manifest, ModelName, Registry, Version,
};
use assay::model::table::{Cells, Prepared, Table, prepare_as};
use clap::Args;
use serde_json::json;

use super::ModelsFolder;
use crate::app::{App, usage};
use crate::exit::{Exit, Refused};
use crate::records::{self, Recorded};
use crate::train::source::{self, RowsArgs, Source};
use crate::ui::thousands;

/// The file as it was given, kept beside the model that was made of it.
const SOURCE_FILE: &str = "source.onnx";
/// More is no model for one machine, and would be held twice while it is read.
const BYTES_MAX: u64 = 1 << 30;

/// Keep a model that another tool trained: trees or a line, from an ONNX file; exits 3 when the gate refuses it.
///
/// It is measured on labelled rows, those of the lake or of --data, as a model of our own: the threshold is chosen on all
/// but the newest, and these are its test. It does not become the champion: `assay promote` makes it so.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// A TreeEnsembleClassifier, TreeEnsembleRegressor or LinearClassifier, as skl2onnx and onnxmltools write them
    pub file: PathBuf,
    /// What the model is called
    #[arg(long)]
    pub name: String,
    /// The columns that it reads, in its order, separated by commas [default: as the file says]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub features: Vec<String>,
    /// From which probability on a row is fraud [default: the one with the best F1 that the gate allows]
    #[arg(long, value_parser = probability)]
    pub threshold: Option<f64>,
    #[command(flatten)]
    pub rows: RowsArgs,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

fn probability(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "give a number within 0 and 1".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("it must be within 0 and 1".to_owned()) }
}

pub fn run(args: &ImportArgs, app: &App) -> anyhow::Result<Exit> {
    let began_us = app.clock.now_us();
    let name = ModelName::parse(&args.name)?;
    let registry = args.folder.open(app)?;
    let bytes = read(&args.file)?;
    let settings = app.settings.train.train_settings();
    let steps = app.screen.steps("import");
    steps.at("read the rows", 0, 1);
    let Source { table, roles, ignored, lake } = source::read(&args.rows, app, settings.label_delay_hours)?;
    steps.at("read the model", 0, 1);
    let given = (!args.features.is_empty()).then_some(args.features.as_slice());
    let imported = onnx::import(&bytes, given, &|column| is_boolean(&table, column))
        .map_err(|error| usage(format!("{}: {error}", args.file.display())))?;
    let prepared = prepare_as(&table, &roles, &imported.encoding)?;
    let (order, left_out) = (prepared.order, unread(&table, &prepared));
    steps.at("measure", 0, 1);
    let measured = measure(&imported, prepared, &settings, args.threshold)?;
    let source = ImportSource {
        file: args.file.display().to_string(),
        sum: FileSum::of(&bytes),
        producer: imported.producer.clone(),
        operator: imported.operator.clone(),
        missing: imported.missing.to_owned(),
    };
    let data = DataSource { files: table.files.clone(), roles, order, ignored, left_out, lake, imported: Some(source) };
    let manifest = keep(&registry, &name, began_us, &imported, &measured, data, bytes)?;
    drop(steps);
    let recorded = records::aliases(app, &registry, &name);
    tell(app, &imported, &measured, &manifest, recorded.as_ref().ok())?;
    recorded?;
    if manifest.passed {
        return Ok(Exit::Done);
    }
    Err(Refused(format!("{name}@{} is kept, but may not be the champion", manifest.version)).into())
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let unreadable = |cause: std::io::Error| usage(format!("{} cannot be read: {cause}", path.display()));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > BYTES_MAX {
        return Err(usage(format!("{} has {size} bytes; at most {BYTES_MAX} are read", path.display())));
    }
    std::fs::read(path).map_err(unreadable)
}

fn is_boolean(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == name && matches!(column.cells, Cells::Booleans(_)))
}

/// Columns of the rows that the model does not read.
fn unread(table: &Table, prepared: &Prepared) -> Vec<(String, String)> {
    let is_read = |name: &str| prepared.encoding.columns.iter().any(|column| column.column == name);
    let others = table.columns.iter().filter(|column| !is_read(&column.name));
    others.map(|column| (column.name.clone(), "not read by the imported model".to_owned())).collect()
}

fn keep(
    registry: &Registry,
    name: &ModelName,
    began_us: i64,
    imported: &Imported,
    measured: &Measured,
    data: DataSource,
    bytes: Vec<u8>,
) -> anyhow::Result<Manifest> {
    let version = Version::at(began_us);
    let files = BTreeMap::from([
        (SOURCE_FILE.to_owned(), bytes),
        (MODEL_FILE.to_owned(), serde_json::to_vec(&measured.model)?),
        (BASELINE_FILE.to_owned(), measured.baseline.to_json()?),
    ]);
    let manifest = Manifest {
        format: FORMAT,
        name: name.clone(),
        version: version.clone(),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        passed: measured.refusals.is_empty(),
        refusals: measured.refusals.clone(),
        recorded: Some(measured.recorded.clone()),
        features: imported.encoding.features(),
        features_blake3: imported.encoding.hash(),
        encoding: imported.encoding.clone(),
        data,
        files: BTreeMap::new(),
    };
    Ok(registry.record(&version, manifest, &files)?)
}

fn tell(
    app: &App,
    imported: &Imported,
    measured: &Measured,
    manifest: &Manifest,
    recorded: Option<&Recorded>,
) -> anyhow::Result<()> {
    let (reference, of) = (format!("{}@{}", manifest.name, manifest.version), &measured.recorded);
    if app.json {
        let line = json!({"job": "models import", "model": manifest.name, "version": manifest.version,
            "passed": manifest.passed, "refusals": manifest.refusals, "imported": manifest.data.imported,
            "columns": imported.encoding.columns.len(), "features": manifest.features.len(), "measured": of,
            "recorded": recorded.and_then(Recorded::tables)});
        say!("{line}")?;
        return Ok(());
    }
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    say!("{reference}: {} by {}, {}", imported.operator, imported.producer, of.family)?;
    say!("reads         {} columns; a missing number is {}", imported.encoding.columns.len(), imported.missing)?;
    let (chosen, tested) = measured.rows;
    for (what, rows, on) in [("threshold on", chosen, &of.out_of_fold), ("tested on", tested, &of.test)] {
        let (f1, precision, recall) = (on.f1, on.precision, on.recall);
        let (rows, ap) = (thousands(rows as u64), optional(on.average_precision));
        say!("{what:<14}{rows} rows: F1 {f1:.4}, precision {precision:.4}, recall {recall:.4}, AP {ap}")?;
    }
    say!("threshold     {:.4}", of.threshold)?;
    match manifest.refusals.as_slice() {
        [] => say!("gate          passed; `assay promote {reference}` makes it the champion")?,
        reasons => say!("gate          refused: {}", reasons.join("; "))?,
    }
    Ok(())
}
