use arrow::error::ArrowError;

use super::Records;
use super::columns::Columns;
use crate::model::drift::{DayQuality, DriftSettings, Measured};
use crate::model::registry::Manifest;

/// What was watched, and how.
#[derive(Debug, Clone, Copy)]
pub struct WatchedOf<'a> {
    pub manifest: &'a Manifest,
    pub settings: &'a DriftSettings,
    /// As of which the lake was read.
    pub epoch: i64,
}

impl WatchedOf<'_> {
    fn columns<T>(&self, rows: &[T]) -> Columns {
        let (name, version) = (self.manifest.name.as_str(), self.manifest.version.as_str());
        Columns::default().text("model", rows.iter().map(|_| name)).text("version", rows.iter().map(|_| version))
    }
}

/// `ml.drift`.
///
/// # Errors
/// When rows do not make a table.
pub fn drift(of: &WatchedOf<'_>, rows: &[Measured]) -> Result<Records, ArrowError> {
    let columns = of
        .columns(rows)
        .text("grain", rows.iter().map(|row| row.grain.as_str()))
        .instant("window_start", rows.iter().map(|row| row.window.from_us))
        .instant("window_end", rows.iter().map(|row| row.window.to_us))
        .text("feature", rows.iter().map(|row| row.feature.as_str()))
        .text("status", rows.iter().map(|row| row.status.as_str()))
        .count("rows", rows.iter().map(|row| row.rows))
        .real("psi", rows.iter().map(|row| row.psi))
        .real("jensen_shannon", rows.iter().map(|row| row.jensen_shannon))
        .real("psi_by_chance", rows.iter().map(|row| row.psi_by_chance))
        .real("missing", rows.iter().map(|row| Some(row.missing)))
        .optional_text("largest_change", rows.iter().map(|row| row.largest_change.clone()))
        .real("psi_watch", rows.iter().map(|_| Some(of.settings.psi_watch)))
        .real("psi_act", rows.iter().map(|_| Some(of.settings.psi_act)))
        .optional_epoch("epoch", rows.iter().map(|_| Some(of.epoch)));
    Ok(Records {
        table: "drift",
        about: "How far the rows of each week, day and hour are from those that a model learned from, by feature; written by assay drift.",
        key: &["window_start", "grain", "model", "version", "feature"],
        rows: columns.rows()?,
    })
}

/// `ml.performance`: the days that have labels.
///
/// # Errors
/// When rows do not make a table.
pub fn performance(of: &WatchedOf<'_>, days: &[DayQuality]) -> Result<Records, ArrowError> {
    let with_labels = |day: &DayQuality| Some((day.day, day.metrics.clone()?, day.rates()));
    let rows: Vec<_> = days.iter().filter_map(with_labels).collect();
    let columns = of
        .columns(&rows)
        .instant("window_start", rows.iter().map(|(day, ..)| day.from_us))
        .instant("window_end", rows.iter().map(|(day, ..)| day.to_us))
        .count("rows", rows.iter().map(|(_, of, _)| of.rows))
        .count("frauds", rows.iter().map(|(_, of, _)| of.positives))
        .real("threshold", rows.iter().map(|(_, of, _)| Some(of.threshold)))
        .count("true_positives", rows.iter().map(|(_, of, _)| of.confusion.true_positives))
        .count("false_positives", rows.iter().map(|(_, of, _)| of.confusion.false_positives))
        .count("false_negatives", rows.iter().map(|(_, of, _)| of.confusion.false_negatives))
        .count("true_negatives", rows.iter().map(|(_, of, _)| of.confusion.true_negatives))
        .real("precision", rows.iter().map(|(.., rates)| rates[0]))
        .real("recall", rows.iter().map(|(.., rates)| rates[1]))
        .real("f1", rows.iter().map(|(.., rates)| rates[2]))
        .real("average_precision", rows.iter().map(|(_, of, _)| of.average_precision))
        .real("roc_auc", rows.iter().map(|(_, of, _)| of.roc_auc))
        .real("brier", rows.iter().map(|(_, of, _)| Some(of.brier)))
        .real("log_loss", rows.iter().map(|(_, of, _)| Some(of.log_loss)))
        .optional_epoch("epoch", rows.iter().map(|_| Some(of.epoch)));
    Ok(Records {
        table: "performance",
        about: "How good a model's decisions of each day were, once the labels had arrived; written by assay drift.",
        key: &["window_start", "model", "version"],
        rows: columns.rows()?,
    })
}
