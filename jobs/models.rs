//! `assay models`, `assay promote` and `assay rollback`: the registry from the command line.

mod export;
mod import;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use assay::model::registry::{CHAMPION, Manifest, ModelName, Reference, Registry, RegistryError, Version, Which};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::app::{App, usage};
use crate::exit::{Exit, Refused};
use crate::records::{self, Recorded};
use crate::ui::{Look, render_table, seconds};

/// List models: version, quality, alias and age; write one as ONNX, or keep one that another tool trained.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// The model [default: all]
    pub name: Option<String>,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ModelsCommand {
    Export(export::ExportArgs),
    Import(Box<import::ImportArgs>),
}

/// Make a version the champion, or give it another alias; it is verified first.
#[derive(Debug, Clone, Args)]
pub struct PromoteArgs {
    /// NAME@VERSION, NAME@ALIAS, or NAME for its newest version that passed the gate
    #[arg(value_name = "NAME[@VERSION]")]
    pub model: String,
    /// The alias to give
    #[arg(long, default_value = CHAMPION)]
    pub alias: String,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

/// Make the previous champion the champion again; it is verified first.
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    pub name: String,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ModelsFolder {
    /// Where models are kept: a folder, or s3://bucket/prefix [default: that of the settings, models]
    #[arg(long, value_name = "LOCATION")]
    pub models: Option<String>,
}

impl ModelsFolder {
    pub fn open(&self, app: &App) -> anyhow::Result<Registry> {
        app.models_in(self.models.as_ref().unwrap_or(&app.settings.model.folder))
    }
}

/// A line of the list.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub model: ModelName,
    pub version: Version,
    /// Absent when nothing was fitted.
    pub family: Option<String>,
    /// Out of fold, in the order of time.
    pub f1: Option<f64>,
    pub average_precision: Option<f64>,
    pub passed: bool,
    pub aliases: Vec<String>,
    pub age_s: u64,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

pub fn run(args: &ModelsArgs, app: &App) -> anyhow::Result<Exit> {
    match &args.command {
        Some(ModelsCommand::Export(args)) => return export::run(args, app),
        Some(ModelsCommand::Import(args)) => return import::run(args, app),
        None => {}
    }
    let registry = args.folder.open(app)?;
    let names = match &args.name {
        Some(name) => vec![ModelName::parse(name)?],
        None => registry.names()?,
    };
    let mut lines = Vec::new();
    for name in &names {
        lines.extend(list(&registry, name, app.clock.now_us())?);
    }
    if let (true, Some(name)) = (lines.is_empty(), &args.name) {
        // Says which models there are.
        registry.resolve(&Reference::parse(name, CHAMPION)?)?;
    }
    if app.json {
        say!("{}", serde_json::to_string(&lines)?)?;
    } else if lines.is_empty() {
        say!("no models in {}; `assay train` makes one", registry.location())?;
    } else {
        crate::ui::print(format_args!("{}", render(&lines, Look::of_stdout())?))?;
    }
    // A damaged version stands in the list, and whoever looks at exit codes only learns of it too.
    match lines.iter().find_map(|line| line.damage.as_ref()) {
        Some(damage) => Err(Refused(damage.clone()).into()),
        None => Ok(Exit::Done),
    }
}

pub fn list(registry: &Registry, name: &ModelName, now_us: i64) -> Result<Vec<Line>, RegistryError> {
    let aliases = registry.aliases(name)?;
    let line = |version: Version| {
        let read = registry.manifest(name, &version);
        let (manifest, damage) = match read {
            Ok(manifest) => (Some(manifest), None),
            Err(damage) => (None, Some(damage.to_string())),
        };
        let recorded = manifest.as_ref().and_then(|manifest| manifest.recorded.as_ref());
        Line {
            model: name.clone(),
            family: recorded.map(|of| of.family.to_string()),
            f1: recorded.map(|of| of.out_of_fold.f1),
            average_precision: recorded.and_then(|of| of.out_of_fold.average_precision),
            passed: manifest.as_ref().is_some_and(|manifest| manifest.passed),
            aliases: aliases.of(&version).into_iter().map(str::to_owned).collect(),
            age_s: u64::try_from((now_us - version.micros()) / 1_000_000).unwrap_or(0),
            version,
            damage,
        }
    };
    Ok(registry.versions(name)?.into_iter().map(line).collect())
}

fn render(lines: &[Line], look: Look) -> anyhow::Result<String> {
    let column = |cell: &dyn Fn(&Line) -> Option<String>| {
        Arc::new(lines.iter().map(cell).map(|cell| Some(cell.unwrap_or_else(|| "–".into()))).collect::<StringArray>())
            as ArrayRef
    };
    let number = |value: Option<f64>| value.map(|value| format!("{value:.4}"));
    let gate = |line: &Line| match (&line.damage, line.passed) {
        (Some(_), _) => "damaged",
        (None, true) => "passed",
        (None, false) => "refused",
    };
    let batch = RecordBatch::try_from_iter([
        ("model", column(&|line| Some(line.model.to_string()))),
        ("version", column(&|line| Some(line.version.to_string()))),
        ("family", column(&|line| line.family.clone())),
        ("F1", column(&|line| number(line.f1))),
        ("AP", column(&|line| number(line.average_precision))),
        ("gate", column(&|line| Some(gate(line).to_owned()))),
        ("alias", column(&|line| Some(line.aliases.join(", ")).filter(|text| !text.is_empty()))),
        ("age", column(&|line| Some(age(line.age_s)))),
    ])?;
    Ok(render_table(&batch.schema(), &[batch], look)?)
}

fn age(age_s: u64) -> String {
    if age_s >= 2 * 86_400 { format!("{} days", age_s / 86_400) } else { seconds(Duration::from_secs(age_s)) }
}

pub fn promote(args: &PromoteArgs, app: &App) -> anyhow::Result<Exit> {
    let registry = args.folder.open(app)?;
    let reference = Reference::parse(&args.model, CHAMPION)?;
    let name = &reference.name;
    let version =
        if args.model.contains('@') { registry.resolve(&reference)? } else { newest_passed(&registry, name)? };
    let before = registry.promote(name, &version, &args.alias, app.clock.now_us())?;
    let recorded = records::aliases(app, &registry, name);
    if app.json {
        let tables = recorded.as_ref().ok().and_then(Recorded::tables);
        let line = json!({"job": "promote", "model": name, "alias": args.alias, "version": version, "before": before,
            "recorded": tables});
        say!("{line}")?;
        recorded?;
        return Ok(Exit::Done);
    }
    match before {
        Some(before) if before == version => say!("{name}@{} is {version}, as before", args.alias)?,
        Some(before) => say!("{name}@{} is {version}; before it was {before}", args.alias)?,
        None => say!("{name}@{} is {version}", args.alias)?,
    }
    told(recorded?)?;
    Ok(Exit::Done)
}

/// That a lake does not show the alias.
fn told(recorded: Recorded) -> std::io::Result<()> {
    match recorded {
        Recorded::In(_) => Ok(()),
        Recorded::Not(why) => say!("not recorded in ml.models: {why}"),
    }
}

fn newest_passed(registry: &Registry, name: &ModelName) -> anyhow::Result<Version> {
    let versions = registry.versions(name)?;
    if versions.is_empty() {
        // Says which models there are.
        registry.resolve(&Reference { name: name.clone(), which: Which::Alias(CHAMPION.to_owned()) })?;
    }
    for version in versions {
        let manifest: Manifest = registry.manifest(name, &version)?;
        if manifest.passed {
            return Ok(version);
        }
    }
    Err(usage(format!("no version of `{name}` has passed the gate; name one as {name}@VERSION to give it an alias")))
}

pub fn rollback(args: &RollbackArgs, app: &App) -> anyhow::Result<Exit> {
    let name = ModelName::parse(&args.name)?;
    let registry = args.folder.open(app)?;
    let (old, new) = registry.rollback(&name, app.clock.now_us())?;
    let recorded = records::aliases(app, &registry, &name);
    if app.json {
        let tables = recorded.as_ref().ok().and_then(Recorded::tables);
        let line = json!({"job": "rollback", "model": name, "alias": CHAMPION, "version": new, "before": old,
            "recorded": tables});
        say!("{line}")?;
        recorded?;
    } else {
        say!("{name}@{CHAMPION} is {new} again; before it was {old}")?;
        told(recorded?)?;
    }
    Ok(Exit::Done)
}
