//! Runs told to MLflow over its REST API: parameters, metrics, files, a registered version. A run is told after it has
//! been kept here, and nothing that fails there changes what was kept.

mod client;
mod settings;
#[cfg(test)]
mod tests;

use serde_json::json;

use client::{Client, Failure};
pub use settings::TrackingSettings;

/// What is told of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunLog {
    pub name: String,
    /// Microseconds since 1970.
    pub began_us: i64,
    pub ended_us: i64,
    pub tags: Vec<(String, String)>,
    pub params: Vec<(String, String)>,
    pub metrics: Vec<(String, f64)>,
    /// By path.
    pub files: Vec<(String, Vec<u8>)>,
    /// Absent when nothing was fitted.
    pub model: Option<ModelLog>,
}

/// The version that the run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLog {
    pub name: String,
    /// The folder among the files of the run.
    pub folder: String,
    pub tags: Vec<(String, String)>,
    pub alias: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logged {
    pub run_id: Option<String>,
    /// As MLflow counts them, from 1.
    pub model_version: Option<String>,
    pub files: usize,
    /// What could not be told, each with its cause.
    pub failures: Vec<String>,
}

/// What one batch may hold, by MLflow's own limits.
const PARAMS_MAX: usize = 100;
const METRICS_MAX: usize = 1_000;
const VALUE_CHARS_MAX: usize = 6_000;

/// Tells a run. What fails is noted, and what does not depend on it is told all the same; but once the server does not
/// answer at all, nothing more is asked of it, so that a dead one costs one timeout.
pub async fn log(settings: &TrackingSettings, run: &RunLog) -> Logged {
    let mut logged = Logged::default();
    let client = match Client::new(settings) {
        Ok(client) => client,
        Err(failure) => {
            logged.failures.push(failure.to_string());
            return logged;
        }
    };
    if let Err(silence) = tell(&client, settings, run, &mut logged).await {
        logged.failures.push(silence.to_string());
    }
    logged
}

/// Notes a refusal; silence ends the telling.
fn noted<T>(told: Result<T, Failure>, what: &str, logged: &mut Logged) -> Result<Option<T>, Failure> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(Failure::Refused { cause }) => {
            logged.failures.push(format!("{what}: {cause}"));
            Ok(None)
        }
        Err(silence) => Err(silence),
    }
}

async fn tell(client: &Client, settings: &TrackingSettings, run: &RunLog, logged: &mut Logged) -> Result<(), Failure> {
    let Some(experiment) = noted(client.experiment(&settings.experiment).await, "the experiment", logged)? else {
        return Ok(());
    };
    let begun = client.begin(&experiment, run).await;
    let Some((run_id, files_at)) = noted(begun, "the run", logged)? else { return Ok(()) };
    logged.run_id = Some(run_id.clone());
    for params in run.params.chunks(PARAMS_MAX) {
        let params: Vec<_> = params.iter().map(|(key, value)| json!({"key": key, "value": cut(value)})).collect();
        let body = json!({"run_id": run_id, "params": params});
        noted(client.post("runs/log-batch", &body).await, "parameters", logged)?;
    }
    let timestamp = run.ended_us / 1_000;
    for metrics in run.metrics.chunks(METRICS_MAX) {
        let of = |(key, value): &(String, f64)| json!({"key": key, "value": value, "timestamp": timestamp, "step": 0});
        let body = json!({"run_id": run_id, "metrics": metrics.iter().map(of).collect::<Vec<_>>()});
        noted(client.post("runs/log-batch", &body).await, "metrics", logged)?;
    }
    for (path, bytes) in &run.files {
        let stored = client.store(&files_at, path, bytes).await;
        logged.files += usize::from(noted(stored, path, logged)?.is_some());
    }
    if let Some(model) = &run.model {
        let made = client.register(model, &run_id, &files_at).await;
        logged.model_version = noted(made, "the version of the model", logged)?;
        if let (Some(alias), Some(version)) = (&model.alias, &logged.model_version) {
            let body = json!({"name": model.name, "alias": alias, "version": version});
            noted(client.post("registered-models/alias", &body).await, "the alias", logged)?;
        }
    }
    let body = json!({"run_id": run_id, "status": "FINISHED", "end_time": timestamp});
    noted(client.post("runs/update", &body).await, "the end of the run", logged)?;
    Ok(())
}

fn cut(value: &str) -> String {
    value.chars().take(VALUE_CHARS_MAX).collect()
}
