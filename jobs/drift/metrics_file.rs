//! The newest day as Prometheus text, for node_exporter's textfile collector.

use std::fmt::Write;

use assay::model::drift::{DayQuality, Grain};

use super::summary::Found;

/// Gauges of the newest day of each kind; a value that is not known has no line.
pub fn render(found: &Found<'_>) -> String {
    let manifest = found.of.manifest;
    let mut text = String::new();
    let newest =
        found.watched.measured.iter().filter(|row| row.grain == Grain::Day).map(|row| row.window.from_us).max();
    let rows: Vec<_> = found
        .watched
        .measured
        .iter()
        .filter(|row| row.grain == Grain::Day && Some(row.window.from_us) == newest)
        .collect();
    let of_model = format!("model=\"{}\",version=\"{}\"", manifest.name, manifest.version);
    let mut gauge = |name: &str, help: &str, lines: Vec<(String, Option<f64>)>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in lines.into_iter().filter_map(|(labels, value)| Some((labels, value?))) {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    let labels =
        |feature: &str| format!("{of_model},feature=\"{}\"", feature.replace('\\', "\\\\").replace('"', "\\\""));
    gauge(
        "assay_drift_psi",
        "Population stability index of the newest complete day against the rows learned from.",
        rows.iter().map(|row| (labels(&row.feature), row.psi)).collect(),
    );
    gauge(
        "assay_drift_jensen_shannon",
        "Jensen-Shannon divergence of that day in bits.",
        rows.iter().map(|row| (labels(&row.feature), row.jensen_shannon)).collect(),
    );
    let day = newest.map(|at| at as f64 / 1e6);
    gauge(
        "assay_drift_day_seconds",
        "The day that was compared, in seconds since 1970.",
        vec![(of_model.clone(), day)],
    );
    let rows_of_day = rows.first().map(|row| row.rows as f64);
    gauge("assay_drift_rows", "Rows of that day.", vec![(of_model.clone(), rows_of_day)]);
    let acts = found.acts().len() as f64;
    gauge("assay_drift_windows_to_act_on", "Windows at or above drift.psi_act.", vec![(of_model.clone(), Some(acts))]);
    let matured = found.watched.quality.iter().rev().find(|day| day.metrics.is_some());
    let of = matured.and_then(|day| day.metrics.as_ref());
    let [precision, recall, f1] = matured.map_or([None; 3], DayQuality::rates);
    let lines = |value: Option<f64>| vec![(of_model.clone(), value)];
    gauge(
        "assay_live_day_seconds",
        "The newest day whose labels have arrived, in seconds since 1970.",
        lines(matured.map(|of| of.day.from_us as f64 / 1e6)),
    );
    gauge("assay_live_precision", "Precision of that day.", lines(precision));
    gauge("assay_live_recall", "Recall of that day.", lines(recall));
    gauge("assay_live_f1", "F1 of that day.", lines(f1));
    gauge("assay_live_roc_auc", "Area under the ROC curve of that day.", lines(of.and_then(|of| of.roc_auc)));
    text
}
