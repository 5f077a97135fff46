//! What a run of `assay train` says when it is done.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use assay::model::registry::{CHAMPION, Manifest};
use assay::model::table::Order;
use assay::model::{FamilyReport, Metrics, Spread, TrainReport};
use assay::tracking::Logged;
use serde_json::json;

use crate::app::App;
use crate::records::Recorded;
use crate::ui::{Look, Paint, instant, render_table, seconds, thousands};

/// What became of the champion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Promoted {
    First,
    Better {
        champion_f1: f64,
    },
    NotBetter {
        champion_f1: f64,
    },
    NotAsked,
    /// By the gate.
    Refused,
    /// The error follows.
    Failed,
}

pub struct Run<'a> {
    pub report: &'a TrainReport,
    pub manifest: &'a Manifest,
    /// Of the version, or where else it is.
    pub folder: String,
    pub promoted: Promoted,
    /// `None` when that failed; the error follows.
    pub recorded: Option<&'a Recorded>,
    /// Where a server is set.
    pub mlflow: Option<&'a Logged>,
    pub elapsed_s: f64,
}

pub fn print(app: &App, run: &Run<'_>) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(&as_json(run))?)?;
    } else {
        crate::ui::print(format_args!("{}", render(run, Look::of_stdout())?))?;
    }
    Ok(())
}

fn as_json(run: &Run<'_>) -> serde_json::Value {
    let (report, manifest) = (run.report, run.manifest);
    let family = |family: &FamilyReport| {
        json!({
            "family": family.name(), "passes": family.passes, "out_of_fold": family.in_time.pooled,
            "spread": family.in_time.spread,
        })
    };
    json!({
        "job": "train",
        "model": manifest.name,
        "version": manifest.version,
        "folder": run.folder,
        "passed": manifest.passed,
        "refusals": manifest.refusals,
        "champion": matches!(run.promoted, Promoted::First | Promoted::Better { .. }),
        "winner": manifest.recorded,
        "families": report.families.iter().map(family).collect::<Vec<_>>(),
        "development": report.data.development,
        "test": report.data.test,
        "order": manifest.data.order,
        "left_out": manifest.data.left_out,
        "lake": manifest.data.lake,
        "recorded": run.recorded.and_then(Recorded::tables),
        "mlflow": run.mlflow.map(|told| json!({"run_id": told.run_id, "model_version": told.model_version,
            "files": told.files, "failures": told.failures})),
        "elapsed_s": run.elapsed_s,
    })
}

/// For people; ends with a line break.
pub fn render(run: &Run<'_>, look: Look) -> anyhow::Result<String> {
    let (report, manifest) = (run.report, run.manifest);
    let mut lines = Vec::new();
    let elapsed = std::time::Duration::from_secs_f64(run.elapsed_s.max(0.0));
    let title = look.paint(Paint::Title, &format!("{}@{}", manifest.name, manifest.version));
    lines.push(format!("{title}  {}", look.paint(Paint::Faint, &seconds(elapsed))));
    let span = |of: &assay::model::Span| {
        let counts = format!("{} rows, {} frauds", thousands(of.rows as u64), thousands(of.positives as u64));
        match manifest.data.order {
            Order::Time => format!("{counts}, {} to {}", instant(of.from_us), instant(of.to_us)),
            Order::Rows => counts,
        }
    };
    lines.push(format!("learned from  {}", span(&report.data.development)));
    lines.push(format!("tested on     {} (the newest)", span(&report.data.test)));
    if let Some(lake) = &manifest.data.lake {
        let young = thousands(lake.unlabelled);
        lines.push(format!("lake          {}, epoch {}; {young} rows have no label yet", lake.location, lake.epoch));
    }
    if manifest.data.order == Order::Rows {
        lines.push("time          none given: the rows are taken to be in the order of time".to_owned());
    }
    lines.push(format!("features      {}, from {} columns", manifest.features.len(), manifest.encoding.columns.len()));
    for (column, reason) in &manifest.data.left_out {
        lines.push(format!("left out      {column}: {reason}"));
    }
    for of in &report.suspicions {
        let text = format!("{} alone ranks frauds with an AUC of {:.4}: made from the label?", of.feature, of.auc);
        lines.push(look.paint(Paint::Warning, &format!("suspicious    {text}")));
    }
    let mut text = lines.join("\n") + "\n";
    if !report.families.is_empty() {
        text.push_str("\nOut of fold, in the order of time: all folds, and mean ± deviation of them\n");
        let batch = quality(report)?;
        text.push_str(&render_table(&batch.schema(), &[batch], look)?);
        text.push('\n');
    }
    text.push_str(&closing(run, look).join("\n"));
    text.push('\n');
    Ok(text)
}

fn closing(run: &Run<'_>, look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(recorded) = &run.manifest.recorded {
        lines.push(format!("winner        {}, threshold {:.4}", recorded.family, recorded.threshold));
        lines.push(format!("test          {}", quality_line(&recorded.test)));
    }
    lines.push(if run.manifest.passed {
        format!("gate          {}", look.paint(Paint::Good, "passed"))
    } else {
        format!("gate          {}", look.paint(Paint::Bad, "refused"))
    });
    lines.extend(run.manifest.refusals.iter().map(|reason| format!("              {reason}")));
    let reference = format!("{}@{}", run.manifest.name, run.manifest.version);
    let champion = match run.promoted {
        Promoted::First => "this model, the first one".to_owned(),
        Promoted::Better { champion_f1 } => format!("this model: the one before has F1 {champion_f1:.4}"),
        Promoted::NotBetter { champion_f1 } => {
            format!("stays: its F1 is {champion_f1:.4}; `assay promote {reference}` takes this one all the same")
        }
        Promoted::NotAsked => format!("stays: --no-promote; `assay promote {reference}` takes this one"),
        Promoted::Refused => "stays as it is".to_owned(),
        Promoted::Failed => "unknown: the error below says why".to_owned(),
    };
    lines.push(format!("{CHAMPION}      {champion}"));
    lines.push(match run.recorded {
        Some(Recorded::In(tables)) => format!("recorded in   {tables}"),
        Some(Recorded::Not(why)) => format!("recorded in   no table: {why}"),
        None => "recorded in   no table: the error below says why".to_owned(),
    });
    lines.extend(run.mlflow.map(|told| mlflow_line(told, look)));
    lines.push(format!("card          {}", format_args!("{}/card.html", run.folder)));
    lines
}

fn mlflow_line(told: &Logged, look: Look) -> String {
    let run = told.run_id.as_deref().map_or_else(|| "not told".to_owned(), |id| format!("run {id}"));
    let version = told.model_version.as_deref().map(|version| format!(", version {version}")).unwrap_or_default();
    let failed = match told.failures.as_slice() {
        [] => String::new(),
        [first, ..] => {
            let failed = format!("; {} could not be told: {first}", told.failures.len());
            look.paint(Paint::Warning, &failed)
        }
    };
    format!("mlflow        {run}{version}{failed}")
}

fn quality_line(of: &Metrics) -> String {
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    format!(
        "F1 {:.4}, precision {:.4}, recall {:.4}, AP {}, ROC AUC {}",
        of.f1,
        of.precision,
        of.recall,
        optional(of.average_precision),
        optional(of.roc_auc)
    )
}

fn quality(report: &TrainReport) -> anyhow::Result<RecordBatch> {
    let winner = report.champion.as_ref().map(|champion| champion.family);
    let with_spread =
        |value: f64, spread: &Spread| format!("{value:.3} ({:.3} ± {:.3})", spread.mean, spread.deviation);
    let column = |cell: &dyn Fn(&FamilyReport) -> String| {
        Arc::new(report.families.iter().map(|family| Some(cell(family))).collect::<StringArray>()) as ArrayRef
    };
    let name = |family: &FamilyReport| {
        let mark = if winner == Some(family.name()) { " (winner)" } else { "" };
        format!("{}{mark}", family.name())
    };
    Ok(RecordBatch::try_from_iter([
        ("family", column(&name)),
        ("F1", column(&|of| with_spread(of.in_time.pooled.f1, &of.in_time.spread.f1))),
        ("precision", column(&|of| with_spread(of.in_time.pooled.precision, &of.in_time.spread.precision))),
        ("recall", column(&|of| with_spread(of.in_time.pooled.recall, &of.in_time.spread.recall))),
        (
            "AP",
            column(&|of| {
                let spread = &of.in_time.spread.average_precision;
                with_spread(of.in_time.pooled.average_precision.unwrap_or_default(), spread)
            }),
        ),
        ("gate", column(&|of| if of.passes { "passed" } else { "refused" }.to_owned())),
    ])?)
}
