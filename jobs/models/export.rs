use std::path::PathBuf;

use assay::model::onnx;
use assay::model::registry::{CHAMPION, Reference};
use clap::Args;
use serde_json::json;

use super::ModelsFolder;
use crate::app::{App, usage};
use crate::exit::{Exit, Refused};

/// Write a version as an ONNX file: from the columns of a row to its probability and decision.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// NAME, NAME@ALIAS or NAME@VERSION; the name alone means its champion
    #[arg(value_name = "NAME[@VERSION]")]
    pub model: String,
    /// Where to write; what stands there is replaced
    #[arg(long, value_name = "FILE")]
    pub onnx: PathBuf,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

pub fn run(args: &ExportArgs, app: &App) -> anyhow::Result<Exit> {
    let registry = args.folder.open(app)?;
    let reference = Reference::parse(&args.model, CHAMPION)?;
    let version = registry.resolve(&reference)?;
    let stored = registry.load(&reference.name, &version)?;
    let Some(model) = &stored.model else {
        return Err(Refused(format!("{}@{version} has no model: its rows were refused", reference.name)).into());
    };
    let bytes = onnx::export(&stored.manifest, model)?;
    write(&args.onnx, &bytes)?;
    let (name, columns) = (&reference.name, stored.manifest.encoding.columns.len());
    if app.json {
        let line = json!({"job": "models export", "model": name, "version": version, "onnx": args.onnx,
            "bytes": bytes.len(), "blake3": blake3::hash(&bytes).to_hex().to_string(), "columns": columns,
            "features": stored.manifest.features.len(), "threshold": model.threshold});
        say!("{line}")?;
    } else {
        let file = args.onnx.display();
        say!("{name}@{version}: {columns} columns in, {} and {} out, in {file}", onnx::PROBABILITY, onnx::DECISION)?;
    }
    Ok(Exit::Done)
}

/// Beside its place first, so that nobody reads a part of it.
fn write(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    let staged = PathBuf::from(staged);
    std::fs::write(&staged, bytes)
        .and_then(|()| std::fs::rename(&staged, path))
        .map_err(|cause| usage(format!("{} cannot be written: {cause}", path.display())))
}
