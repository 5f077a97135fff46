//! What `assay drift` says when it is done.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use assay::lake::Put;
use assay::model::Metrics;
use assay::model::drift::{DriftSettings, Grain, Measured, Status};
use assay::model::registry::LakeSource;
use assay::scoring::{Watched, WatchedModel};
use serde_json::json;

use super::DriftArgs;
use crate::app::App;
use crate::ui::{Look, Paint, render_table, thousands};

/// A model beside the rows of now.
pub struct Found<'a> {
    /// NAME@VERSION
    pub place: &'a str,
    pub of: WatchedModel<'a>,
    pub source: &'a LakeSource,
    pub settings: &'a DriftSettings,
    pub watched: &'a Watched,
    pub delay_hours: u32,
}

/// Windows that a refusal names.
const NAMED_MAX: usize = 5;

impl Found<'_> {
    /// The windows that end the job with exit code 3, the worst first.
    pub fn acts(&self) -> Vec<&Measured> {
        let judged =
            |row: &&Measured| row.status == Status::Act && (row.grain != Grain::Hour || self.settings.judge_hours);
        let mut acts: Vec<&Measured> = self.watched.measured.iter().filter(judged).collect();
        acts.sort_by(|one, other| other.psi.unwrap_or_default().total_cmp(&one.psi.unwrap_or_default()));
        acts
    }

    /// Which feature, which window, which value, and what to do.
    pub fn refusal(&self) -> Option<String> {
        let acts = self.acts();
        if acts.is_empty() {
            return None;
        }
        let line = |row: &&Measured| {
            let change = row.largest_change.as_ref().map(|change| format!(" ({change})")).unwrap_or_default();
            format!("  {} {}: PSI {:.3}{change}", row.feature, window(row), row.psi.unwrap_or_default())
        };
        let mut lines: Vec<String> = acts.iter().take(NAMED_MAX).map(line).collect();
        if acts.len() > NAMED_MAX {
            lines.push(format!("  and {} windows more", acts.len() - NAMED_MAX));
        }
        Some(format!(
            "the rows are no longer like those that {} learned from; drift.psi_act is {}:\n{}\n  See whether a producer or a SQL \
             file changed (ml.drift, --report FILE); if customers did, `assay train --set {}` learns from the rows of now",
            self.place,
            self.settings.psi_act,
            lines.join("\n"),
            self.source.set
        ))
    }
}

fn window(row: &Measured) -> String {
    let format = match row.grain {
        Grain::Week => "in the week from %Y-%m-%d",
        Grain::Day => "on %Y-%m-%d",
        Grain::Hour => "on %Y-%m-%d at %H:00Z",
    };
    let at = chrono::DateTime::from_timestamp_micros(row.window.from_us).unwrap_or_default();
    at.format(format).to_string()
}

fn day(at_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(at_us).unwrap_or_default().format("%Y-%m-%d").to_string()
}

pub fn print(app: &App, found: &Found<'_>, written: &[(&str, usize, Put)], args: &DriftArgs) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(&as_json(found, written))?)?;
    } else {
        crate::ui::print(format_args!("{}", render(found, written, args, Look::of_stdout())?))?;
    }
    Ok(())
}

fn as_json(found: &Found<'_>, written: &[(&str, usize, Put)]) -> serde_json::Value {
    let watched = found.watched;
    let quality: Vec<_> =
        watched.quality.iter().map(|of| json!({"day": day(of.day.from_us), "metrics": of.metrics})).collect();
    let tables: Vec<_> = written
        .iter()
        .map(|(table, rows, put)| json!({"table": format!("ml.{table}"), "rows": rows, "changed": *put != Put::Unchanged}))
        .collect();
    json!({
        "job": "drift",
        "model": found.of.manifest.name,
        "version": found.of.manifest.version,
        "epoch": watched.epoch,
        "from": day(watched.span.from_us),
        "to": day(watched.span.to_us - 1),
        "psi_watch": found.settings.psi_watch,
        "psi_act": found.settings.psi_act,
        "rows_min": found.settings.rows_min,
        "act": found.acts().iter().map(|row| json!({"feature": row.feature, "grain": row.grain, "window": row.window,
            "psi": row.psi})).collect::<Vec<_>>(),
        "drift": watched.measured,
        "performance": quality,
        "tables": tables,
    })
}

/// For people; ends with a line break.
fn render(found: &Found<'_>, written: &[(&str, usize, Put)], args: &DriftArgs, look: Look) -> anyhow::Result<String> {
    let watched = found.watched;
    let days = (watched.span.to_us - watched.span.from_us) / 86_400_000_000;
    let mut text = format!("{}\n", look.paint(Paint::Title, found.place));
    let learned = (day(found.of.baseline.from_us), day(found.of.baseline.to_us));
    text.push_str(&format!("learned from  {} to {}\n", learned.0, learned.1));
    let rows =
        watched.measured.iter().filter(|row| row.grain == Grain::Day && row.feature == assay::model::drift::SCORE);
    text.push_str(&format!(
        "compared      {} to {} ({days} days, {} rows), epoch {}\n\n",
        day(watched.span.from_us),
        day(watched.span.to_us - 1),
        thousands(rows.map(|row| row.rows).sum()),
        watched.epoch
    ));
    let batch = features(found)?;
    text.push_str(&render_table(&batch.schema(), &[batch], look)?);
    let hours =
        |status: Status| watched.measured.iter().filter(|row| row.grain == Grain::Hour && row.status == status).count();
    let judged = if found.settings.judge_hours { "" } else { ", not judged" };
    text.push_str(&format!(
        "hours         {} at {} or more, {} below {}, {} with fewer than {} rows{judged}\n\n",
        hours(Status::Act),
        found.settings.psi_act,
        hours(Status::Stable) + hours(Status::Watch),
        found.settings.psi_act,
        hours(Status::FewRows),
        found.settings.rows_min
    ));
    text.push_str(&decisions(found, look)?);
    for (table, rows, put) in written {
        let done = if *put == Put::Unchanged { "as they stood there" } else { "written" };
        text.push_str(&format!("{:<16}{} rows, {done}\n", format!("ml.{table}"), thousands(*rows as u64)));
    }
    for (name, path) in [("report", &args.report), ("metrics", &args.metrics_file)] {
        if let Some(path) = path {
            text.push_str(&format!("{name:<14}{}\n", path.display()));
        }
    }
    Ok(text)
}

/// A line for each feature: its newest day, and its worst.
fn features(found: &Found<'_>) -> anyhow::Result<RecordBatch> {
    let of_days: Vec<&Measured> = found.watched.measured.iter().filter(|row| row.grain == Grain::Day).collect();
    let mut lines: Vec<(&Measured, &Measured)> = Vec::new();
    for row in &of_days {
        match lines.iter_mut().find(|(newest, _)| newest.feature == row.feature) {
            Some((newest, worst)) => {
                *newest = row;
                let judged = |row: &Measured| row.status != Status::FewRows;
                if (judged(row), row.psi) > (judged(worst), worst.psi) {
                    *worst = row;
                }
            }
            None => lines.push((row, row)),
        }
    }
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let of_week = |of: &Measured| {
        let weeks = found.watched.measured.iter().filter(|row| row.grain == Grain::Week && row.feature == of.feature);
        weeks.max_by_key(|row| row.window.from_us)
    };
    let week = |of: &Measured| number(of_week(of).and_then(|row| row.psi));
    let status = |newest: &Measured, worst: &Measured| match of_week(newest) {
        // What the calendar rules is judged by the week.
        Some(week) if worst.status == Status::Calendar => week.status,
        _ => worst.status,
    };
    let column = |cell: &dyn Fn(&Measured, &Measured) -> String| {
        Arc::new(lines.iter().map(|(newest, worst)| Some(cell(newest, worst))).collect::<StringArray>()) as ArrayRef
    };
    Ok(RecordBatch::try_from_iter([
        ("feature", column(&|newest, _| newest.feature.clone())),
        ("newest day", column(&|newest, _| number(newest.psi))),
        ("JS", column(&|newest, _| number(newest.jensen_shannon))),
        ("worst day", column(&|_, worst| number(worst.psi))),
        ("on", column(&|_, worst| day(worst.window.from_us))),
        ("week", column(&|newest, _| week(newest))),
        ("status", column(&|newest, worst| status(newest, worst).as_str().replace('_', " "))),
        ("largest change", column(&|_, worst| worst.largest_change.clone().unwrap_or_default())),
    ])?)
}

/// The days whose labels have arrived.
fn decisions(found: &Found<'_>, look: Look) -> anyhow::Result<String> {
    let watched = found.watched;
    if watched.quality.is_empty() {
        return Ok(format!(
            "decisions     no day has labels that the model did not learn from: they take {} hours\n\n",
            found.delay_hours
        ));
    }
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let column = |cell: &dyn Fn(&Metrics, [Option<f64>; 3]) -> String| {
        let cells = watched
            .quality
            .iter()
            .map(|day| Some(day.metrics.as_ref().map_or_else(|| "–".to_owned(), |of| cell(of, day.rates()))));
        Arc::new(cells.collect::<StringArray>()) as ArrayRef
    };
    let days = watched.quality.iter().map(|of| Some(day(of.day.from_us))).collect::<StringArray>();
    let batch = RecordBatch::try_from_iter([
        ("day", Arc::new(days) as ArrayRef),
        ("rows", column(&|of, _| thousands(of.rows))),
        ("frauds", column(&|of, _| thousands(of.positives))),
        ("precision", column(&|_, rates| number(rates[0]))),
        ("recall", column(&|_, rates| number(rates[1]))),
        ("F1", column(&|_, rates| number(rates[2]))),
        ("AP", column(&|of, _| number(of.average_precision))),
        ("ROC AUC", column(&|of, _| number(of.roc_auc))),
    ])?;
    let mut text = render_table(&batch.schema(), &[batch], look)?;
    if let Some(recorded) = &found.of.manifest.recorded {
        let of = &recorded.out_of_fold;
        text.push_str(&format!(
            "out of fold   precision {:.4}, recall {:.4}, F1 {:.4} when it was trained\n\n",
            of.precision, of.recall, of.f1
        ));
    }
    Ok(text)
}
