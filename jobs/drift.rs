//! `assay drift`: whether the rows of now are like those that a model learned from, and how good its decisions were.

mod metrics_file;
mod summary;

use std::path::PathBuf;

use assay::lake::{EpochLedger, open_session, require_tables};
use assay::model::card::{CardHead, DriftCard, drift_html};
use assay::model::drift::{DriftSettings, Span};
use assay::model::records::{self, WatchedOf};
use assay::model::registry::{CHAMPION, Reference};
use assay::scoring::{TrainingSetError, Wanted, WatchError, WatchedModel, lineage, watch};
use clap::Args;

use crate::app::{App, usage};
use crate::exit::{Exit, Refused};
use crate::models::ModelsFolder;
use crate::train::source::set;
use crate::ui::instant;
use summary::Found;

/// Compare the rows of the newest days with those that a model learned from; exits 3 when a feature or the score is far off.
///
/// Measures the population stability index (PSI) and the Jensen-Shannon divergence of each feature and of the score, by week,
/// day and hour of event time, and precision and recall of the days whose labels have arrived. Rows go to ml.drift and
/// ml.performance; the same days again replace them. Works beside `assay run`.
#[derive(Debug, Clone, Args)]
pub struct DriftArgs {
    /// NAME, NAME@ALIAS or NAME@VERSION; the name alone means its champion [default: that of the settings, fraud]
    #[arg(long, value_name = "NAME[@VERSION]")]
    pub model: Option<String>,
    /// How many complete days, the newest ones [default: that of the settings, 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660), conflicts_with_all = ["from", "to"])]
    pub days: Option<u32>,
    /// The first day, as 2026-11-21
    #[arg(long, value_name = "DATE", requires = "to")]
    pub from: Option<chrono::NaiveDate>,
    /// The last day, included
    #[arg(long, value_name = "DATE", requires = "from")]
    pub to: Option<chrono::NaiveDate>,
    /// Read the lake as it was after this epoch [default: the last complete one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub epoch: Option<i64>,
    /// The PSI from which a feature is worth a look [default: that of the settings, 0.1]
    #[arg(long, value_name = "PSI")]
    pub psi_watch: Option<f64>,
    /// The PSI from which the job exits 3 [default: that of the settings, 0.25]
    #[arg(long, value_name = "PSI")]
    pub psi_act: Option<f64>,
    /// Windows with fewer rows are not judged [default: that of the settings, 1000]
    #[arg(long, value_name = "N")]
    pub rows_min: Option<u64>,
    /// Judge hours too, not days and weeks alone
    #[arg(long)]
    pub judge_hours: bool,
    /// How long a label takes to arrive, in hours [default: features.label_delay_hours of the settings, 168]
    #[arg(long, value_name = "HOURS")]
    pub label_delay: Option<u32>,
    /// Write a report with plots, one HTML file; what stands there is replaced
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the newest day as metrics, for the textfile collector of Prometheus' node_exporter (a file *.prom)
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Measure only: leave ml.drift and ml.performance as they are
    #[arg(long)]
    pub no_record: bool,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

pub fn run(args: &DriftArgs, app: &App) -> anyhow::Result<Exit> {
    let settings = settings(args, app)?;
    let registry = args.folder.open(app)?;
    let wanted = args.model.as_deref().unwrap_or(&app.settings.scoring.model);
    let reference = Reference::parse(wanted, CHAMPION)?;
    let version = registry.resolve(&reference)?;
    let place = format!("{}@{version}", reference.name);
    let stored = registry.load(&reference.name, &version)?;
    let Some(model) = &stored.model else {
        return Err(Refused(format!("{place} has no model: its rows were refused")).into());
    };
    let Some(source) = &stored.manifest.data.lake else {
        return Err(usage(format!(
            "{place} was learned from files, and what comes to the lake cannot be compared with it: train from the lake (`assay \
             train` without --data)"
        )));
    };
    let Some(baseline) = &stored.baseline else {
        return Err(usage(format!(
            "{place} was trained by assay {} without a baseline to compare with: train again with `assay train --set {}`",
            stored.manifest.code_version, source.set
        )));
    };
    let contract = app.contract()?;
    let plan = app.plan(&contract)?;
    let def = set(&plan.catalog.training, &source.set)?;
    let lineage = lineage(&plan).map_err(usage)?;
    let lake = app.open_lake(false)?;
    let steps = app.screen.steps("drift");
    steps.at("read the lake", 0, 1);
    let delay_hours = args.label_delay.unwrap_or(app.settings.features.label_delay_hours);
    let wanted = Wanted { days: days(args)?, label_delay_us: i64::from(delay_hours) * 3_600_000_000 };
    let of = WatchedModel { manifest: &stored.manifest, model, baseline };
    let watched = app.handle.block_on(async {
        require_tables(&lake, &[EpochLedger::table_name()]).await?;
        let session = open_session(&lake, args.epoch, app.clock.now_us() / 1000, None).await?;
        let references = &plan.catalog.references;
        Ok::<_, anyhow::Error>(watch(&session, def, references, &lineage, of, &wanted, &settings).await)
    })?;
    let watched = watched.map_err(|error| match error {
        WatchError::Set(TrainingSetError::Query { .. }) | WatchError::Rows { .. } => anyhow::Error::new(error),
        WatchError::NotComplete { .. } | WatchError::NoCompleteDay { .. } => anyhow::Error::new(error),
        wrong => usage(wrong),
    })?;
    steps.at("keep what was found", 0, 1);
    let found = Found { place: &place, of, source, settings: &settings, watched: &watched, delay_hours };
    let mut written = Vec::new();
    if !args.no_record {
        let of = WatchedOf { manifest: &stored.manifest, settings: &settings, epoch: watched.epoch };
        for records in [records::drift(&of, &watched.measured)?, records::performance(&of, &watched.quality)?] {
            written.push((records.table, records.rows.num_rows(), crate::records::put(app, &lake, records)?));
        }
    }
    if let Some(path) = &args.report {
        write_whole(path, report(&found).as_bytes())?;
    }
    if let Some(path) = &args.metrics_file {
        write_whole(path, metrics_file::render(&found).as_bytes())?;
    }
    drop(steps);
    summary::print(app, &found, &written, args)?;
    match found.refusal() {
        Some(refusal) => Err(Refused(refusal).into()),
        None => Ok(Exit::Done),
    }
}

fn settings(args: &DriftArgs, app: &App) -> anyhow::Result<DriftSettings> {
    let base = app.settings.drift;
    let settings = DriftSettings {
        days: args.days.unwrap_or(base.days),
        psi_watch: args.psi_watch.unwrap_or_else(|| base.psi_watch.min(args.psi_act.unwrap_or(base.psi_watch))),
        psi_act: args.psi_act.unwrap_or(base.psi_act),
        rows_min: args.rows_min.unwrap_or(base.rows_min),
        judge_hours: args.judge_hours || base.judge_hours,
    };
    match settings.problem() {
        Some((key, cause)) => Err(usage(format!("--{} {cause}", key.replace('_', "-")))),
        None => Ok(settings),
    }
}

fn days(args: &DriftArgs) -> anyhow::Result<Option<Span>> {
    let (Some(from), Some(to)) = (args.from, args.to) else { return Ok(None) };
    let midnight = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
    let after = to.succ_opt().ok_or_else(|| usage(format!("--to {to} is too late")))?;
    let span = Span { from_us: midnight(from), to_us: midnight(after) };
    if span.is_empty() || (span.to_us - span.from_us) / 86_400_000_000 > 3660 {
        return Err(usage(format!("--from {from} --to {to} must be one day to ten years, the first day first")));
    }
    Ok(Some(span))
}

fn report(found: &Found<'_>) -> String {
    let watched = found.watched;
    let facts = vec![
        ("Model".to_owned(), found.place.to_owned()),
        ("Days".to_owned(), format!("{} to {}", instant(watched.span.from_us), instant(watched.span.to_us))),
        ("Epoch".to_owned(), watched.epoch.to_string()),
        (
            "Learned from".to_owned(),
            format!("{} to {}", instant(found.of.baseline.from_us), instant(found.of.baseline.to_us)),
        ),
        ("Judged".to_owned(), format!("windows of {} rows or more", found.settings.rows_min)),
    ];
    let head = CardHead { title: format!("Drift of {}", found.place), facts };
    drift_html(&DriftCard {
        head: &head,
        baseline: found.of.baseline,
        settings: found.settings,
        measured: &watched.measured,
        quality: &watched.quality,
    })
}

/// Beside its place first, so that nobody reads a part of it.
fn write_whole(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    let staged = PathBuf::from(staged);
    let written = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, path));
    written.map_err(|cause| usage(format!("{} cannot be written: {cause}", path.display())))
}
