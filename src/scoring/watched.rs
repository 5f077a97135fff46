//! The rows of now, read by the query that a model learned from, counted against the model's baseline.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{Expr, cast as cast_to, ident, lit};
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;

use super::TrainingSetError;
use super::training_set::planned;
use crate::domain::schema;
use crate::lake::Session;
use crate::model::drift::{Baseline, DayQuality, DriftSettings, LiveQuality, Measured, Span, Watch};
use crate::model::registry::{LakeColumn, Manifest};
use crate::model::table::{Table, TableFile};
use crate::model::{Classifier, ModelError, Samples, TrainedModel};
use crate::refine::{Lineage, References, SqlFileError, TrainingDef, origin};

/// A model, and what it is to be compared with.
#[derive(Debug, Clone, Copy)]
pub struct WatchedModel<'a> {
    pub manifest: &'a Manifest,
    pub model: &'a TrainedModel,
    pub baseline: &'a Baseline,
}

/// Which rows to look at.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Days asked for, as instants at midnight; `None` takes the newest complete ones.
    pub days: Option<Span>,
    /// How long a label takes to arrive.
    pub label_delay_us: i64,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Watched {
    pub epoch: i64,
    /// The rows that the query has, from the oldest to the newest.
    pub rows_us: (i64, i64),
    /// Whole days: those that were compared.
    pub span: Span,
    /// Whole days whose labels have arrived, without those that the model learned from.
    pub matured: Span,
    pub measured: Vec<Measured>,
    pub quality: Vec<DayQuality>,
    /// Columns that follow from the time of a row alone.
    pub calendar: Vec<String>,
}

/// Why rows cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Set(#[from] TrainingSetError),
    #[error(transparent)]
    Sql(#[from] SqlFileError),
    #[error(transparent)]
    Model(#[from] ModelError),

    #[error(
        "{file} no longer selects `{column}` as {place}, which {model} learned from: restore the file, or train again with \
         `assay train --set {set}`"
    )]
    OtherColumn { file: String, column: String, place: String, model: String, set: String },

    #[error("there is no complete day yet: rows go from {from} to {to}, and the watermark is {watermark}")]
    NoCompleteDay { from: String, to: String, watermark: String },

    #[error("the days {asked} are not complete yet, or there are none: rows go from {from} to {to} (--from, --to)")]
    NotComplete { asked: String, from: String, to: String },

    #[error("{file}: {cause}")]
    Rows { file: String, cause: String },
}

const DAY_US: i64 = 86_400_000_000;

/// Runs the query of `def` over the lake and compares its rows by day and hour of their event time, those without a label
/// too. Rows stream: memory depends on hours and columns, and on the rows whose labels have arrived (nine bytes each).
///
/// # Errors
/// When the query cannot be answered, no longer has the model's columns, or there is no complete day.
pub async fn watch(
    session: &Session,
    def: &TrainingDef,
    references: &Arc<References>,
    lineage: &Lineage,
    of: WatchedModel<'_>,
    wanted: &Wanted,
    settings: &DriftSettings,
) -> Result<Watched, WatchError> {
    let in_query =
        |error: DataFusionError| TrainingSetError::Query { file: def.file.clone(), cause: error.strip_backtrace() };
    let (state, plan, columns) = planned(session, def, references, lineage).await?;
    same_columns(def, &columns, of.manifest)?;
    let of_time = {
        let index = plan.schema().fields().iter().position(|field| *field.name() == def.time);
        index.and_then(|index| origin(&plan, index))
    };
    let calendar = of_time.map_or_else(Vec::new, |time| {
        let time = lineage.of(&time.table, &time.column);
        let follows = |column: &&LakeColumn| {
            let table = column.table.parse().ok();
            table.is_some_and(|table| lineage.of(&table, &column.of).is_subset(&time))
        };
        columns.iter().filter(follows).map(|column| column.column.clone()).collect()
    });
    let frame = DataFrame::new(state, plan);
    let rows_us = bounds(&frame, def).await.map_err(in_query)?;
    let epoch = session.record.as_ref().map_or(0, |record| record.epoch);
    let rows_us = rows_us.ok_or_else(|| TrainingSetError::NoRows { file: def.file.clone(), epoch })?;
    let watermark_us = session.record.as_ref().and_then(|record| record.watermark_us);
    let span = span(wanted, settings, rows_us, watermark_us)?;
    let matured = matured(wanted, settings, rows_us.1, of.baseline);
    let mut watch = Watch::new(of.baseline);
    let mut quality = LiveQuality::default();
    let instant = |at: i64| lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())));
    let time = || cast_to(ident(def.time.as_str()), schema::timestamp());
    let within = |of: Span| time().gt_eq(instant(of.from_us)).and(time().lt(instant(of.to_us)));
    let rows = if matured.is_empty() { within(span) } else { within(span).or(within(matured)) };
    let mut batches = frame.filter(rows).map_err(in_query)?.execute_stream().await.map_err(in_query)?;
    while let Some(batch) = batches.try_next().await.map_err(in_query)? {
        if batch.num_rows() == 0 {
            continue;
        }
        let told = count(&batch, def, of, &mut watch, span, &mut quality, matured);
        told.map_err(|cause| WatchError::Rows { file: def.file.clone(), cause })?;
    }
    Ok(Watched {
        epoch,
        rows_us,
        span,
        matured,
        measured: watch.measure(span, settings, &calendar),
        quality: quality.measure(matured, of.model.threshold)?,
        calendar,
    })
}

/// Errors in words.
fn count(
    batch: &RecordBatch,
    def: &TrainingDef,
    of: WatchedModel<'_>,
    watch: &mut Watch<'_>,
    span: Span,
    quality: &mut LiveQuality,
    matured: Span,
) -> Result<(), String> {
    let stored = TableFile { path: def.file.clone(), bytes: def.bytes, blake3: def.blake3.clone(), rows: 0 };
    let is_read =
        |column: &str| of.manifest.encoding.columns.iter().any(|known| known.column == column) || column == def.label;
    let table = Table::of_batches(stored, std::slice::from_ref(batch), is_read).map_err(|error| error.to_string())?;
    let times = times(batch, def)?;
    let encoded = of.manifest.encoding.encode(&table).map_err(|error| error.to_string())?;
    let samples = Samples::from_columns(encoded, vec![false; table.rows()], times.clone());
    let probabilities = of.model.probabilities(samples.map_err(|error| error.to_string())?.records()).to_vec();
    watch.count(&table, &times, &probabilities, span)?;
    for (row, (at, probability)) in times.iter().zip(&probabilities).enumerate() {
        if matured.contains(*at)
            && let Some(label) = table.label(&def.label, row)
        {
            quality.add(*at, *probability, label);
        }
    }
    Ok(())
}

fn times(batch: &RecordBatch, def: &TrainingDef) -> Result<Vec<i64>, String> {
    let column = batch.column_by_name(&def.time).ok_or_else(|| format!("the time `{}` is not there", def.time))?;
    let micros =
        cast(column, &schema::timestamp()).and_then(|at| cast(&at, &DataType::Int64)).map_err(|e| e.to_string())?;
    let micros = micros.as_primitive::<Int64Type>();
    if micros.null_count() > 0 {
        return Err(format!("the time `{}` is missing in a row", def.time));
    }
    Ok(micros.values().to_vec())
}

/// A model is asked about the columns that it learned from, whatever else the file says by now.
fn same_columns(def: &TrainingDef, columns: &[LakeColumn], manifest: &Manifest) -> Result<(), WatchError> {
    let learned = manifest.data.lake.iter().flat_map(|lake| &lake.columns);
    let read = |column: &str| manifest.encoding.columns.iter().any(|known| known.column == column);
    for known in learned.filter(|known| read(&known.column)) {
        if !columns.contains(known) {
            return Err(WatchError::OtherColumn {
                file: def.file.clone(),
                column: known.column.clone(),
                place: format!("{}.{}", known.table, known.of),
                model: format!("{}@{}", manifest.name, manifest.version),
                set: def.name.clone(),
            });
        }
    }
    Ok(())
}

/// The oldest and the newest instant.
async fn bounds(frame: &DataFrame, def: &TrainingDef) -> Result<Option<(i64, i64)>, DataFusionError> {
    let time = || cast_to(cast_to(ident(def.time.as_str()), schema::timestamp()), DataType::Int64);
    let bounds: Vec<Expr> = vec![min(time()).alias("oldest"), max(time()).alias("newest")];
    let found = frame.clone().aggregate(Vec::new(), bounds)?.collect().await?;
    let value = |column: usize| {
        let column = found.iter().find(|batch| batch.num_rows() > 0)?.column(column).as_primitive_opt::<Int64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    Ok(value(0).zip(value(1)))
}

/// Whole days that no row is to be expected for any more, as far as the watermark tells.
fn span(
    wanted: &Wanted,
    settings: &DriftSettings,
    rows: (i64, i64),
    watermark: Option<i64>,
) -> Result<Span, WatchError> {
    let complete_us = watermark.unwrap_or(rows.1).div_euclid(DAY_US) * DAY_US;
    let first_us = rows.0.div_euclid(DAY_US) * DAY_US;
    let day = instant;
    match wanted.days {
        Some(asked) => {
            let span = Span { to_us: asked.to_us.min(complete_us), ..asked };
            let asked = format!("{} to {}", day(asked.from_us), day(asked.to_us));
            let none = || WatchError::NotComplete { asked, from: day(rows.0), to: day(rows.1) };
            if span.is_empty() || span.to_us <= first_us { Err(none()) } else { Ok(span) }
        }
        None => {
            let from_us = (complete_us - i64::from(settings.days) * DAY_US).max(first_us);
            let none = || WatchError::NoCompleteDay {
                from: day(rows.0),
                to: day(rows.1),
                watermark: watermark.map_or_else(|| "unknown".to_owned(), day),
            };
            if from_us >= complete_us { Err(none()) } else { Ok(Span { from_us, to_us: complete_us }) }
        }
    }
}

/// Whole days whose labels have arrived, and of which the model learned no row. May be empty.
fn matured(wanted: &Wanted, settings: &DriftSettings, newest_us: i64, baseline: &Baseline) -> Span {
    let to_us = newest_us.saturating_sub(wanted.label_delay_us).div_euclid(DAY_US) * DAY_US;
    let unseen_us = (baseline.to_us.div_euclid(DAY_US) + 1) * DAY_US;
    let asked = wanted.days.unwrap_or(Span { from_us: to_us - i64::from(settings.days) * DAY_US, to_us });
    Span { from_us: asked.from_us.max(unseen_us), to_us: asked.to_us.min(to_us) }
}

fn instant(at_us: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at_us);
    at.map_or_else(|| format!("{at_us} µs"), |at| at.format("%Y-%m-%d %H:%MZ").to_string())
}
