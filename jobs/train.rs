mod mlflow;
pub mod source;
mod summary;

use std::collections::BTreeMap;

use assay::model::card::{self, CardHead};
use assay::model::drift::Baseline;
use assay::model::registry::{
    BASELINE_FILE, DataSource, FORMAT, MODEL_FILE, Manifest, ModelName, REPORT_FILE, Recorded, Registry, RegistryError,
    Version,
};
use assay::model::table::{Order, Prepared, prepare};
use assay::model::{ModelError, Progress, Stage, TrainData, TrainSettings, Trained, Verdict, train};
use clap::Args;

use crate::app::{App, usage};
use crate::exit::{Exit, Refused};
use crate::models::ModelsFolder;
use crate::records;
use crate::ui::Steps;
use source::{RowsArgs, Source};
use summary::{Promoted, Run};

/// Train three families of models, take the best, and keep it; exits 3 when the gate refuses it.
///
/// Without --data the rows come from the lake, as the SQL file training/<SET>.sql says.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub rows: RowsArgs,
    /// What the model is called
    #[arg(long, default_value = "fraud")]
    pub name: String,
    #[command(flatten)]
    pub folder: ModelsFolder,
    /// The same seed, data and settings give the same model [default: that of the settings, 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long a label takes to arrive, in hours [default: that of the settings, 168]
    #[arg(long, value_name = "HOURS")]
    pub label_delay: Option<u32>,
    /// Keep the model, but leave the champion as it is
    #[arg(long)]
    pub no_promote: bool,
}

pub fn run(args: TrainArgs, app: App) -> anyhow::Result<Exit> {
    app.end_on_signals("a version that was not kept yet is nowhere; no alias points to half of one");
    let began_us = app.clock.now_us();
    if args.label_delay.is_some() && !has_time(&args) {
        return Err(usage("--label-delay needs --time COLUMN: rows without a time are no hours apart"));
    }
    let name = ModelName::parse(&args.name)?;
    let registry = args.folder.open(&app)?;
    let settings = settings(&args, &app);
    let steps = app.screen.steps("train");
    steps.at(if args.rows.data.is_empty() { "read the lake" } else { "read the table" }, 0, 1);
    let Source { table, roles, ignored, lake } = source::read(&args.rows, &app, settings.label_delay_hours)?;
    let gap_us = i64::from(settings.label_delay_hours) * 3_600_000_000;
    let prepared = prepare(&table, &roles, gap_us, settings.test_share).map_err(|error| explained(error, &args))?;
    let data = TrainData { samples: &prepared.samples, cards: prepared.cards.as_deref(), segments: &prepared.segments };
    let trained =
        train(&settings, &data, &|progress| show(&steps, progress)).map_err(|error| explained(error, &args))?;
    steps.at("keep the model", 0, 1);
    let source = DataSource {
        files: table.files.clone(),
        roles,
        order: prepared.order,
        ignored,
        left_out: prepared.left_out.clone(),
        lake,
        imported: None,
    };
    let manifest = keep(&registry, &name, began_us, &trained, &prepared, source)?;
    drop(steps);
    let promoted = promote(&args, &app, &registry, &manifest);
    let recorded = records::run(&app, &registry, &manifest, &trained.report);
    let became = promoted.as_ref().copied().unwrap_or(Promoted::Failed);
    let told = mlflow::log(&app, &manifest, &trained, became, began_us);
    let run = Run {
        report: &trained.report,
        manifest: &manifest,
        folder: registry.location_of(&name, &manifest.version),
        // The run is kept and told of, also where the champion could not be compared.
        promoted: became,
        mlflow: told.as_ref(),
        recorded: recorded.as_ref().ok(),
        elapsed_s: (app.clock.now_us() - began_us) as f64 / 1e6,
    };
    summary::print(&app, &run)?;
    promoted?;
    recorded?;
    match &trained.report.verdict {
        Verdict::Passed => Ok(Exit::Done),
        Verdict::Refused { .. } => {
            Err(Refused(format!("{name}@{} is kept, but may not be the champion", manifest.version)).into())
        }
    }
}

/// Rows of the lake always have one.
fn has_time(args: &TrainArgs) -> bool {
    args.rows.data.is_empty() || args.rows.time.is_some()
}

fn settings(args: &TrainArgs, app: &App) -> TrainSettings {
    let mut settings = app.settings.train.train_settings();
    if let Some(seed) = args.seed {
        settings.seed = seed;
    }
    match (has_time(args), args.label_delay) {
        // Rows without a time are no hours apart.
        (false, _) => settings.label_delay_hours = 0,
        (true, Some(hours)) => settings.label_delay_hours = hours,
        (true, None) => {}
    }
    settings
}

/// An error of folds says what to do on the command line.
fn explained<E: std::error::Error + Send + Sync + 'static>(error: E, args: &TrainArgs) -> anyhow::Error {
    let text = error.to_string();
    let error = anyhow::Error::new(error);
    let short = matches!(error.downcast_ref::<ModelError>(), Some(ModelError::Fold { .. }))
        || matches!(
            error.downcast_ref::<assay::model::table::TableError>(),
            Some(assay::model::table::TableError::Model(ModelError::Fold { .. }))
        );
    if short && has_time(args) {
        return usage(format!("{text} (--label-delay HOURS, or train.label_delay_hours)"));
    }
    error
}

fn show(steps: &Steps, progress: Progress) {
    let stage = match progress.stage {
        Stage::Inspect => "look at the features",
        Stage::Search => "search settings",
        Stage::FoldsInTime => "fit the folds in time",
        Stage::StratifiedFolds => "fit the folds drawn by chance",
        Stage::LastFit => "fit the winner on all rows",
        Stage::Importance => "measure importances",
    };
    steps.at(stage, progress.done, progress.of);
}

/// Writes the version with all its files.
pub fn keep(
    registry: &Registry,
    name: &ModelName,
    began_us: i64,
    trained: &Trained,
    prepared: &Prepared,
    data: DataSource,
) -> Result<Manifest, anyhow::Error> {
    let report = &trained.report;
    let version = Version::at(began_us);
    let head = card_head(name, &version, &data);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert(REPORT_FILE.into(), report.to_json()?.into_bytes());
    files.insert("card.md".into(), card::markdown(report, &head, "").into_bytes());
    files.insert("card.html".into(), card::html(report, &head).into_bytes());
    for plot in card::plots(report) {
        files.insert(format!("{}.svg", plot.name), plot.svg.into_bytes());
    }
    if let Some(model) = &trained.model {
        files.insert(MODEL_FILE.into(), serde_json::to_vec(model)?);
        let baseline = Baseline::of(report, prepared.baseline.clone(), &trained.unseen);
        files.insert(BASELINE_FILE.into(), baseline.to_json()?);
    }
    let refusals = match &report.verdict {
        Verdict::Passed => Vec::new(),
        Verdict::Refused { reasons } => reasons.iter().map(ToString::to_string).collect(),
    };
    let manifest = Manifest {
        format: FORMAT,
        name: name.clone(),
        version: version.clone(),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        passed: report.verdict.passed(),
        refusals,
        recorded: Recorded::of(report),
        features: prepared.encoding.features(),
        features_blake3: prepared.encoding.hash(),
        encoding: prepared.encoding.clone(),
        data,
        files: BTreeMap::new(),
    };
    Ok(registry.record(&version, manifest, &files)?)
}

/// The head of the card of a version that is kept.
fn head_of(manifest: &Manifest) -> CardHead {
    card_head(&manifest.name, &manifest.version, &manifest.data)
}

fn card_head(name: &ModelName, version: &Version, data: &DataSource) -> CardHead {
    let files: Vec<String> = data.files.iter().map(|file| format!("{} ({} rows)", file.path, file.rows)).collect();
    let order = match data.order {
        Order::Time => format!("column `{}`", data.roles.time.as_deref().unwrap_or_default()),
        Order::Rows => "none given: the order of the rows; the days below are not real".to_owned(),
    };
    let mut facts = vec![
        ("Run".to_owned(), version.to_string()),
        ("Code version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("Data".to_owned(), files.join(", ")),
        ("Label".to_owned(), format!("column `{}`", data.roles.label)),
        ("Time".to_owned(), order),
    ];
    if let Some(lake) = &data.lake {
        facts.push(("Lake".to_owned(), format!("{}, epoch {}", lake.location, lake.epoch)));
        facts.push(("Without a label yet".to_owned(), format!("{} rows, left out", lake.unlabelled)));
    }
    let no_features: Vec<String> = data.left_out.iter().map(|(name, why)| format!("`{name}` ({why})")).collect();
    if !no_features.is_empty() {
        facts.push(("Left out".to_owned(), no_features.join(", ")));
    }
    CardHead { title: format!("Model card: {name}"), facts }
}

/// Makes the model the champion when the gate passes it and it is better than the one that is.
fn promote(args: &TrainArgs, app: &App, registry: &Registry, manifest: &Manifest) -> Result<Promoted, RegistryError> {
    let Some(recorded) = manifest.recorded.as_ref().filter(|_| manifest.passed) else {
        return Ok(Promoted::Refused);
    };
    if args.no_promote {
        return Ok(Promoted::NotAsked);
    }
    let f1_of = |manifest: &Manifest| manifest.recorded.as_ref().map(|recorded| recorded.out_of_fold.f1);
    let mut before = None;
    let wins = registry.promote_if(&manifest.name, &manifest.version, app.clock.now_us(), |champion| {
        before = champion.and_then(f1_of);
        before.is_none_or(|f1| recorded.out_of_fold.f1 > f1)
    })?;
    Ok(match (wins, before) {
        (true, None) => Promoted::First,
        (true, Some(f1)) => Promoted::Better { champion_f1: f1 },
        (false, f1) => Promoted::NotBetter { champion_f1: f1.unwrap_or_default() },
    })
}
