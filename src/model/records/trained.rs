use arrow::error::ArrowError;

use super::Records;
use super::columns::Columns;
use crate::model::registry::{Aliases, CHAMPION, MODEL_FILE, Manifest};
use crate::model::{FamilyName, FamilyReport, Metrics, Span, TrainReport, Validation};

/// One line of `ml.runs`.
struct Line<'a> {
    family: &'a FamilyReport,
    validation: &'static str,
    part: &'static str,
    /// From 1; 0 for all folds together, and for the test.
    fold: i32,
    train: Option<Span>,
    test: Option<Span>,
    metrics: &'a Metrics,
}

/// `ml.runs`: of each family a row per fold, one of all folds together, and of the winner one of the test.
///
/// # Errors
/// When rows do not make a table.
pub fn runs(manifest: &Manifest, report: &TrainReport) -> Result<Records, ArrowError> {
    let mut lines = Vec::new();
    for family in &report.families {
        let stratified = family.stratified.as_ref().map(|of| ("stratified", of));
        for (validation, of) in [("in_time", &family.in_time)].into_iter().chain(stratified) {
            lines.extend(of_folds(family, validation, of));
        }
        if let Some(champion) = report.champion.as_ref().filter(|champion| champion.family == family.name()) {
            let (train, test) = (Some(report.data.development), Some(report.data.test));
            let (validation, part, metrics) = ("in_time", "test", &champion.test);
            lines.push(Line { family, validation, part, fold: 0, train, test, metrics });
        }
    }
    let winner = report.champion.as_ref().map(|champion| champion.family);
    let rows = || lines.iter();
    let columns = Columns::default()
        .text("model", rows().map(|_| manifest.name.as_str()))
        .text("version", rows().map(|_| manifest.version.as_str()))
        .text("family", rows().map(|of| family_key(of.family.name())))
        .text("validation", rows().map(|of| of.validation))
        .text("part", rows().map(|of| of.part))
        .number("fold", rows().map(|of| of.fold))
        .instant("run_at", rows().map(|_| manifest.version.micros()))
        .flag("is_winner", rows().map(|of| winner == Some(of.family.name())))
        .flag("passes", rows().map(|of| of.family.passes))
        .optional_count("train_rows", rows().map(|of| of.train.map(|span| span.rows as u64)))
        .optional_instant("train_from", rows().map(|of| of.train.map(|span| span.from_us)))
        .optional_instant("train_to", rows().map(|of| of.train.map(|span| span.to_us)))
        .optional_instant("test_from", rows().map(|of| of.test.map(|span| span.from_us)))
        .optional_instant("test_to", rows().map(|of| of.test.map(|span| span.to_us)));
    let columns = quality(columns, &lines.iter().map(|of| Some(of.metrics)).collect::<Vec<_>>(), "")
        .count("seed", rows().map(|_| report.settings.seed))
        .optional_text("settings", rows().map(|of| serde_json::to_string(&of.family.settings).ok()))
        .optional_epoch("epoch", rows().map(|_| manifest.data.lake.as_ref().map(|lake| lake.epoch)));
    Ok(Records {
        table: "runs",
        about: "How each family did in each fold of each training run; written by assay train.",
        key: &["model", "version", "family", "validation", "part", "fold"],
        rows: columns.rows()?,
    })
}

fn of_folds<'a>(family: &'a FamilyReport, validation: &'static str, of: &'a Validation) -> Vec<Line<'a>> {
    let together =
        Line { family, validation, part: "all_folds", fold: 0, train: None, test: None, metrics: &of.pooled };
    let folds = of.folds.iter().zip(1..).map(|(of, fold)| {
        let (train, test) = (Some(of.train), Some(of.test));
        Line { family, validation, part: "fold", fold, train, test, metrics: &of.metrics }
    });
    folds.chain([together]).collect()
}

/// As the settings call it.
const fn family_key(of: FamilyName) -> &'static str {
    match of {
        FamilyName::Logistic => "logistic",
        FamilyName::Forest => "forest",
        FamilyName::Boost => "boost",
    }
}

/// `ml.models`: a row per version, with the aliases that it has now.
///
/// # Errors
/// When rows do not make a table.
pub fn models(versions: &[Manifest], aliases: &Aliases) -> Result<Records, ArrowError> {
    let rows = || versions.iter();
    let lake = |of: &Manifest| of.data.lake.clone();
    let of_version = |of: &Manifest| aliases.of(&of.version).join(", ");
    let aliases: Vec<String> = rows().map(of_version).collect();
    let is_champion = |of: &str| of.split(", ").any(|alias| alias == CHAMPION);
    let columns = Columns::default()
        .text("model", rows().map(|of| of.name.as_str()))
        .text("version", rows().map(|of| of.version.as_str()))
        .instant("trained_at", rows().map(|of| of.version.micros()))
        .optional_text("family", rows().map(|of| of.recorded.as_ref().map(|of| family_key(of.family).to_owned())))
        .flag("passed", rows().map(|of| of.passed))
        .optional_text("refusals", rows().map(|of| Some(of.refusals.join("; ")).filter(|text| !text.is_empty())))
        .text("aliases", aliases.iter().map(String::as_str))
        .flag("is_champion", aliases.iter().map(|of| is_champion(of)))
        .real("threshold", rows().map(|of| of.recorded.as_ref().map(|of| of.threshold)));
    let out: Vec<_> = rows().map(|of| of.recorded.as_ref().map(|of| &of.out_of_fold)).collect();
    let test: Vec<_> = rows().map(|of| of.recorded.as_ref().map(|of| &of.test)).collect();
    let columns = quality(quality(columns, &out, ""), &test, "test_")
        .count("features", rows().map(|of| of.features.len() as u64))
        .optional_text("training_set", rows().map(|of| lake(of).map(|of| of.set)))
        .optional_epoch("epoch", rows().map(|of| lake(of).map(|of| of.epoch)))
        .text("features_blake3", rows().map(|of| of.features_blake3.as_str()))
        .optional_text("model_blake3", rows().map(|of| of.files.get(MODEL_FILE).map(|sum| sum.blake3.clone())))
        .text("code_version", rows().map(|of| of.code_version.as_str()));
    Ok(Records {
        table: "models",
        about: "The versions of each model that was learned from this lake; written by assay train, promote and rollback.",
        key: &["model", "version"],
        rows: columns.rows()?,
    })
}

/// The columns of metrics, each name after `prefix`.
fn quality(columns: Columns, of: &[Option<&Metrics>], prefix: &str) -> Columns {
    let name = |name: &str| format!("{prefix}{name}");
    let count = |columns: Columns, column: &str, value: fn(&Metrics) -> u64| {
        columns.optional_count(&name(column), of.iter().map(|of| of.map(value)))
    };
    let real = |columns: Columns, column: &str, value: fn(&Metrics) -> Option<f64>| {
        columns.real(&name(column), of.iter().map(|of| of.and_then(value)))
    };
    let columns = count(columns, "rows", |of| of.rows);
    let columns = count(columns, "frauds", |of| of.positives);
    let columns = count(columns, "true_positives", |of| of.confusion.true_positives);
    let columns = count(columns, "false_positives", |of| of.confusion.false_positives);
    let columns = count(columns, "false_negatives", |of| of.confusion.false_negatives);
    let columns = count(columns, "true_negatives", |of| of.confusion.true_negatives);
    let columns = real(columns, "precision", |of| Some(of.precision));
    let columns = real(columns, "recall", |of| Some(of.recall));
    let columns = real(columns, "f1", |of| Some(of.f1));
    let columns = real(columns, "average_precision", |of| of.average_precision);
    let columns = real(columns, "roc_auc", |of| of.roc_auc);
    let columns = real(columns, "brier", |of| Some(of.brier));
    let columns = real(columns, "log_loss", |of| Some(of.log_loss));
    real(columns, "top_cards", |of| of.top_cards)
}
