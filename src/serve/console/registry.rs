//! Models: versions, how good they are, their aliases; promote and rollback.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{self, BodyKind};
use super::super::{Problem, ServeState};
use super::Console;
use super::asking::internal;
use crate::domain::Reaction;
use crate::lake::{Lake, LakeError};
use crate::model::TrainReport;
use crate::model::registry::{CHAMPION, Manifest, ModelName, REPORT_FILE, Registry, RegistryError, Version};
use crate::scoring::{lake_versions, record_versions};

/// All models, the newest version of each first.
pub(super) async fn list(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let folder = console.0.registry.location();
    let served = state.predict.as_ref().map(|predict| {
        let models = &predict.scorer().models;
        let chosen = models.chosen();
        json!({
            "model": models.name(),
            "champion": chosen.champion.map(|of| of.version.clone()),
            "challenger": chosen.challenger.map(|of| of.served.version.clone()),
            "problem": chosen.problem,
        })
    });
    let models = with_registry(&console, all).await?;
    Ok(Json(json!({"folder": folder, "models": models, "served": served, "streamed": console.0.lineup.model})))
}

fn all(registry: &Registry) -> Result<Vec<Value>, RegistryError> {
    registry.names()?.iter().map(|name| model(registry, name)).collect()
}

fn model(registry: &Registry, name: &ModelName) -> Result<Value, RegistryError> {
    let aliases = registry.aliases(name)?;
    let versions = registry.versions(name)?.into_iter().map(|version| {
        let read = registry.manifest(name, &version);
        let (manifest, damage) = match read {
            Ok(manifest) => (Some(manifest), None),
            Err(error) => (None, Some(error.to_string())),
        };
        json!({
            "version": version,
            "trained_at_us": version.micros(),
            "aliases": aliases.of(&version),
            "manifest": manifest.as_ref().map(outline),
            "damage": damage,
        })
    });
    Ok(json!({
        "name": name,
        "versions": versions.collect::<Vec<_>>(),
        "aliases": aliases.iter().map(|(alias, version)| json!({"alias": alias, "version": version})).collect::<Vec<_>>(),
        "champions": aliases.champions(),
        "previous": aliases.previous(),
    }))
}

fn outline(manifest: &Manifest) -> Value {
    let recorded = manifest.recorded.as_ref();
    json!({
        "passed": manifest.passed,
        "refusals": manifest.refusals,
        "family": recorded.map(|of| of.family),
        "threshold": recorded.map(|of| of.threshold),
        "out_of_fold": recorded.map(|of| &of.out_of_fold),
        "test": recorded.map(|of| &of.test),
        "features": manifest.features.len(),
        "set": manifest.data.lake.as_ref().map(|lake| &lake.set),
        "epoch": manifest.data.lake.as_ref().map(|lake| lake.epoch),
        "imported": manifest.data.imported.as_ref().map(|imported| &imported.producer),
        "code_version": manifest.code_version,
    })
}

/// One version, with what its card is drawn from.
pub(super) async fn version(
    State(state): State<Arc<ServeState>>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let (name, version) = parse(&name, &version)?;
    let told = with_registry(&console, move |registry| {
        let manifest = registry.manifest(&name, &version)?;
        let report: Option<TrainReport> = registry.report(&name, &version)?;
        let champion = report.as_ref().and_then(|report| report.champion.as_ref());
        let family = |of: &crate::model::FamilyReport| json!({"family": of.name(), "passes": of.passes, "in_time": of.in_time.pooled});
        Ok(json!({
            "name": name,
            "version": version,
            "manifest": outline(&manifest),
            "features": manifest.features,
            "report_file": manifest.files.contains_key(REPORT_FILE),
            "curves": champion.map(|of| json!({"out_of_fold": of.out_of_fold_curves, "test": of.test_curves})),
            "importances": champion.map(|of| &of.importances),
            "segments": champion.map(|of| &of.segments),
            "families": report.as_ref().map(|of| of.families.iter().map(family).collect::<Vec<_>>()),
            "data": report.as_ref().map(|of| json!({"development": of.data.development, "test": of.data.test})),
        }))
    });
    Ok(Json(told.await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promotion {
    version: String,
    #[serde(default)]
    alias: Option<String>,
}

/// Gives a version an alias, as `assay promote` does.
pub(super) async fn promote(
    State(state): State<Arc<ServeState>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let console = Console::changing(&state, request.headers())?;
    BodyKind::of(request.headers(), &[BodyKind::Json])?;
    let text = body::read(request.into_body(), state.settings.body_bytes_max).await?;
    let Promotion { version, alias } = serde_json::from_slice(&text).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is {{\"version\": VERSION, \"alias\": ALIAS}}: {error}"),
        )
    })?;
    let (name, version) = parse(&name, &version)?;
    let alias = alias.unwrap_or_else(|| CHAMPION.to_owned());
    let now_us = console.0.clock.now_us();
    to_the_end(async move {
        let (model, wanted, given) = (name.clone(), version.clone(), alias.clone());
        let before = with_registry(&console, move |registry| registry.promote(&model, &wanted, &given, now_us)).await?;
        tracing::info!(model = %name, %version, alias, "promoted by the console");
        let recorded = record(&console, &name, now_us).await;
        Ok(Json(json!({"model": name, "alias": alias, "version": version, "before": before, "recorded": recorded})))
    })
    .await
}

/// Makes the previous champion the champion again, as `assay rollback` does.
pub(super) async fn rollback(
    State(state): State<Arc<ServeState>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let console = Console::changing(&state, &headers)?;
    let name = ModelName::parse(&name).map_err(|error| refused(&error))?;
    let now_us = console.0.clock.now_us();
    to_the_end(async move {
        let model = name.clone();
        let (before, version) = with_registry(&console, move |registry| registry.rollback(&model, now_us)).await?;
        tracing::info!(model = %name, %version, "rolled back by the console");
        let recorded = record(&console, &name, now_us).await;
        Ok(Json(json!({"model": name, "alias": CHAMPION, "version": version, "before": before, "recorded": recorded})))
    })
    .await
}

/// A change is finished, and written down, also for who hangs up in the middle of it.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(change).await.unwrap_or_else(|error| Err(internal(&error.to_string())))
}

/// Writes the aliases into `ml.models`, beside whoever writes the lake. The alias has moved by then: what goes wrong is told.
async fn record(console: &Console, name: &ModelName, now_us: i64) -> Value {
    let inner = &console.0;
    let (pipeline, model) = (inner.pipeline.clone(), name.clone());
    let ours = with_registry(console, move |registry| lake_versions(registry, &model, &pipeline)).await;
    let ours = match ours {
        Ok(ours) if ours.is_empty() => {
            return json!({"not": format!("no version of {name} is from a lake of this pipeline")});
        }
        Ok(ours) => ours,
        Err(_) => return json!({"not": "the registry cannot be read"}),
    };
    let recorded = async {
        let lake = Lake::open(&inner.place, &inner.pipeline, false).await?;
        record_versions(&lake, &inner.registry, name, &ours, now_us / 1000).await
    };
    match recorded.await {
        Ok(()) => json!({"in": "ml.models"}),
        Err(error) => {
            let error: LakeError = error;
            tracing::warn!(%error, "an alias is not recorded in ml.models");
            json!({"not": error.to_string()})
        }
    }
}

fn parse(name: &str, version: &str) -> Result<(ModelName, Version), Problem> {
    let parsed = ModelName::parse(name).and_then(|name| Ok((name, Version::parse(version)?)));
    parsed.map_err(|error| refused(&error))
}

/// Manifests are files: they are read where a thread may block.
async fn with_registry<T: Send + 'static>(
    console: &Console,
    work: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, Problem> {
    let registry = console.0.registry.clone();
    let done = tokio::task::spawn_blocking(move || work(&registry)).await;
    done.map_err(|error| internal(&error.to_string()))?.map_err(|error| refused(&error))
}

fn refused(error: &RegistryError) -> Problem {
    let status = match error {
        RegistryError::UnknownModel { .. }
        | RegistryError::UnknownVersion { .. }
        | RegistryError::UnknownAlias { .. } => StatusCode::NOT_FOUND,
        error => match error.reaction() {
            Reaction::Retry => StatusCode::SERVICE_UNAVAILABLE,
            Reaction::Correct => StatusCode::BAD_REQUEST,
            Reaction::Refused => StatusCode::CONFLICT,
        },
    };
    Problem::new(status, error.to_string()).with("code", "registry")
}
