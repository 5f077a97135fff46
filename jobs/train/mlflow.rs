//! What MLflow is told of a run.

use assay::model::registry::{CHAMPION, Manifest};
use assay::model::{FamilyReport, Metrics, Trained, onnx};
use assay::tracking::{self, Logged, ModelLog, RunLog};
use serde_json::Value;

use super::summary::Promoted;
use crate::app::App;

/// The folder among the files of a run that is the model.
const MODEL_FOLDER: &str = "model";

/// Tells MLflow of a run, where a server is set; what fails is a warning and stands in the summary.
pub fn log(app: &App, manifest: &Manifest, trained: &Trained, promoted: Promoted, began_us: i64) -> Option<Logged> {
    let settings = app.settings.tracking();
    if settings.uri.is_empty() {
        return None;
    }
    let (run, problem) = of_run(app, manifest, trained, promoted, began_us);
    let mut logged = app.handle.block_on(tracking::log(&settings, &run));
    logged.failures.extend(problem);
    for failure in &logged.failures {
        tracing::warn!(uri = settings.uri, failure, "not told to MLflow; the model is kept all the same");
    }
    Some(logged)
}

/// And why a part of it is not there.
fn of_run(
    app: &App,
    manifest: &Manifest,
    trained: &Trained,
    promoted: Promoted,
    began_us: i64,
) -> (RunLog, Option<String>) {
    let report = &trained.report;
    let version = manifest.version.to_string();
    let mut run = RunLog {
        name: format!("{}@{version}", manifest.name),
        began_us,
        ended_us: app.clock.now_us(),
        tags: tags(manifest),
        params: params(manifest, trained),
        metrics: report.families.iter().flat_map(of_family).collect(),
        files: vec![
            ("card.html".to_owned(), assay::model::card::html(report, &super::head_of(manifest)).into_bytes()),
            ("manifest.json".to_owned(), serde_json::to_vec_pretty(manifest).unwrap_or_default()),
        ],
        model: None,
    };
    if let Some(champion) = &report.champion {
        run.metrics.extend(of_metrics("test", &champion.test));
    }
    let Some(model) = &trained.model else { return (run, None) };
    let graph = match onnx::export(manifest, model) {
        Ok(graph) => graph,
        Err(error) => return (run, Some(format!("the ONNX file: {error}"))),
    };
    run.files.push((format!("{MODEL_FOLDER}/model.onnx"), graph));
    run.files.push((format!("{MODEL_FOLDER}/MLmodel"), FLAVOR.as_bytes().to_vec()));
    let is_champion = matches!(promoted, Promoted::First | Promoted::Better { .. });
    run.model = Some(ModelLog {
        name: manifest.name.to_string(),
        folder: MODEL_FOLDER.to_owned(),
        tags: tags(manifest),
        alias: is_champion.then(|| CHAMPION.to_owned()),
    });
    (run, None)
}

/// By which `mlflow.onnx.load_model` finds the graph.
const FLAVOR: &str = "artifact_path: model\nflavors:\n  onnx:\n    code: ''\n    data: model.onnx\n    onnx_version: 1.16.0\n    \
                      providers:\n    - CPUExecutionProvider\n";

fn tags(manifest: &Manifest) -> Vec<(String, String)> {
    let mut tags = vec![
        ("assay.model".to_owned(), manifest.name.to_string()),
        ("assay.version".to_owned(), manifest.version.to_string()),
        ("assay.code_version".to_owned(), manifest.code_version.clone()),
        ("assay.passed".to_owned(), manifest.passed.to_string()),
    ];
    if !manifest.refusals.is_empty() {
        tags.push(("assay.refusals".to_owned(), manifest.refusals.join("; ")));
    }
    tags
}

fn params(manifest: &Manifest, trained: &Trained) -> Vec<(String, String)> {
    let report = &trained.report;
    let mut params = vec![
        ("features".to_owned(), manifest.features.len().to_string()),
        ("features_blake3".to_owned(), manifest.features_blake3.clone()),
        ("rows.development".to_owned(), report.data.development.rows.to_string()),
        ("rows.test".to_owned(), report.data.test.rows.to_string()),
        ("seed".to_owned(), report.settings.seed.to_string()),
        ("folds".to_owned(), report.settings.folds.folds.to_string()),
        ("label_delay_hours".to_owned(), report.settings.label_delay_hours.to_string()),
    ];
    let files: Vec<&str> = manifest.data.files.iter().map(|file| file.path.as_str()).collect();
    params.push(("data".to_owned(), files.join(", ")));
    if let Some(lake) = &manifest.data.lake {
        params.push(("lake".to_owned(), lake.location.clone()));
        params.push(("epoch".to_owned(), lake.epoch.to_string()));
    }
    if let Some(champion) = &report.champion {
        params.push(("threshold".to_owned(), champion.threshold.to_string()));
        let method = serde_json::to_value(&champion.calibration).ok();
        let method = method.as_ref().and_then(|of| of.get("method")).and_then(Value::as_str);
        params.push(("calibration".to_owned(), method.unwrap_or_default().to_owned()));
        if let Ok(Value::Object(settings)) = serde_json::to_value(&champion.settings) {
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // `family` among them.
            params.extend(settings.iter().map(|(key, value)| (format!("winner.{key}"), plain(value))));
        }
    }
    params
}

fn of_family(family: &FamilyReport) -> Vec<(String, f64)> {
    let key = serde_json::to_value(family.name()).ok();
    let key = key.as_ref().and_then(Value::as_str).unwrap_or_default();
    of_metrics(&format!("out_of_fold.{key}"), &family.in_time.pooled)
}

fn of_metrics(prefix: &str, of: &Metrics) -> Vec<(String, f64)> {
    let all = [
        ("precision", Some(of.precision)),
        ("recall", Some(of.recall)),
        ("f1", Some(of.f1)),
        ("average_precision", of.average_precision),
        ("roc_auc", of.roc_auc),
        ("brier", Some(of.brier)),
        ("log_loss", Some(of.log_loss)),
        ("top_cards", of.top_cards),
    ];
    all.into_iter().filter_map(|(name, value)| Some((format!("{prefix}.{name}"), value?))).collect()
}
