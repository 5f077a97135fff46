use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use assay::model::Classifier;
use assay::model::registry::{CHAMPION, Reference};
use assay::model::table::{Kind, Table, Wanted};
use clap::Args;
use parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::app::{App, usage};
use crate::exit::{Exit, Refused};
use crate::models::ModelsFolder;
use crate::ui::thousands;

/// Score a file of rows with a model: probability and decision of each.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// NAME, NAME@ALIAS or NAME@VERSION; the name alone means its champion
    #[arg(long, value_name = "NAME[@VERSION]")]
    pub model: String,
    /// Files (.csv, .csv.gz, .parquet) with the columns that the model reads
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub data: Vec<String>,
    /// Where to write, .csv or .parquet; what stands there is replaced
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Columns to write beside, as text, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub keep: Vec<String>,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

pub fn run(args: &PredictArgs, app: &App) -> anyhow::Result<Exit> {
    let format = Format::of(&args.output)?;
    let registry = args.folder.open(app)?;
    let reference = Reference::parse(&args.model, CHAMPION)?;
    let version = registry.resolve(&reference)?;
    let stored = registry.load(&reference.name, &version)?;
    let Some(model) = stored.model else {
        return Err(Refused(format!("{}@{version} has no model: its rows were refused", reference.name)).into());
    };
    let mut wanted = stored.manifest.encoding.wanted();
    for column in &args.keep {
        if !wanted.iter().any(|(name, _)| name == column) {
            wanted.push((column.clone(), Kind::Text));
        }
    }
    let steps = app.screen.steps("predict");
    steps.at("read the table", 0, 1);
    let table = Table::read(&args.data, &Wanted::These(&wanted))?;
    steps.at("score", 0, 1);
    let samples = assay::model::Samples::from_columns(
        stored.manifest.encoding.encode(&table)?,
        vec![false; table.rows()],
        vec![0; table.rows()],
    )?;
    let probabilities = model.probabilities(samples.records()).to_vec();
    let frauds: Vec<bool> = probabilities.iter().map(|&probability| probability >= model.threshold).collect();
    let found = frauds.iter().filter(|&&fraud| fraud).count();
    steps.at("write", 0, 1);
    let batch = output(args, &table, probabilities, frauds)?;
    write(&args.output, format, &batch)?;
    drop(steps);
    let rows = table.rows();
    if app.json {
        let name = &reference.name;
        let (threshold, output) = (model.threshold, &args.output);
        let line = json!({"job": "predict", "model": name, "version": version, "threshold": threshold, "rows": rows,
            "frauds": found, "output": output});
        say!("{line}")?;
    } else {
        say!(
            "{} rows scored by {}@{version}: {} at {:.4} or above, in {}",
            thousands(rows as u64),
            reference.name,
            thousands(found as u64),
            model.threshold,
            args.output.display()
        )?;
    }
    Ok(Exit::Done)
}

/// One row per row of the table, in its order.
fn output(
    args: &PredictArgs,
    table: &Table,
    probabilities: Vec<f64>,
    frauds: Vec<bool>,
) -> anyhow::Result<RecordBatch> {
    let rows = table.rows();
    let mut columns: Vec<(String, ArrayRef, bool)> =
        vec![("row".into(), Arc::new(UInt64Array::from_iter_values(1..=rows as u64)), false)];
    for name in &args.keep {
        let cells = &table.column(name, "to keep")?.cells;
        let texts: StringArray = (0..rows).map(|row| cells.text(row)).collect();
        columns.push((name.clone(), Arc::new(texts), true));
    }
    columns.push(("fraud_probability".into(), Arc::new(Float64Array::from(probabilities)), false));
    columns.push(("is_fraud".into(), Arc::new(BooleanArray::from(frauds)), false));
    let names: Vec<&str> = columns.iter().map(|(name, _, _)| name.as_str()).collect();
    if let Some(name) = names.iter().find(|name| names.iter().filter(|other| other == name).count() > 1) {
        return Err(usage(format!("`{name}` is a column that predict writes itself, or is kept twice; leave it out")));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Csv,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(usage(format!("{}: the output must end in .csv or .parquet", path.display()))),
        }
    }
}

/// Beside its place first, so that nobody reads a part of it.
fn write(path: &Path, format: Format, batch: &RecordBatch) -> anyhow::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    let staged = PathBuf::from(staged);
    let file =
        File::create(&staged).map_err(|cause| usage(format!("{} cannot be written: {cause}", path.display())))?;
    let file = match format {
        Format::Csv => {
            let mut writer = arrow::csv::Writer::new(BufWriter::new(file));
            writer.write(batch)?;
            writer.into_inner().into_inner().map_err(std::io::IntoInnerError::into_error)?
        }
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
            writer.write(batch)?;
            writer.into_inner()?
        }
    };
    file.sync_all()?;
    std::fs::rename(&staged, path)?;
    Ok(())
}
