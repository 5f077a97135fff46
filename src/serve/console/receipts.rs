//! A decision by request, as `assay explain` shows it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::super::{Problem, ServeState};
use super::asking::internal;
use super::{Console, query_of};
use crate::lake::predictions_table;
use crate::scoring::newest_receipt;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A prediction, or a transaction: its newest prediction.
    id: String,
}

/// Computed again from what the receipt holds. What the lake says of the past as of its epoch is read by `assay explain`:
/// that takes the memory of a scorer.
pub(super) async fn one(
    State(state): State<Arc<ServeState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let Wanted { id } = query_of(&uri, "id=PREDICTION or id=TRANSACTION")?;
    let unknown = || {
        Problem::new(StatusCode::NOT_FOUND, format!("{} has no receipt of {id}", predictions_table()))
            .with("code", "no_receipt")
    };
    if !console.0.asking.has(&predictions_table()).await? {
        return Err(unknown());
    }
    let session = console.0.asking.session(None).await?;
    let asked = id.clone();
    let look = async move {
        newest_receipt(&session.context, &asked).await.map_err(|error| internal(&error.strip_backtrace()))
    };
    let found = console.0.asking.compute("receipt", look).await?;
    let receipt = found.ok_or_else(unknown)?;
    let conflict = |cause: &str| {
        Problem::new(StatusCode::CONFLICT, format!("{} cannot be computed again: {cause}", receipt.prediction_id))
    };
    let explainer = console.0.explainer.as_ref().map(Arc::clone).map_err(|cause| conflict(cause))?;
    let asked = receipt.clone();
    let explained = tokio::task::spawn_blocking(move || explainer.explain(&asked)).await;
    let explained = explained.map_err(|error| internal(&error.to_string()))?.map_err(|cause| conflict(&cause))?;
    Ok(Json(explained.to_value(&receipt)))
}
