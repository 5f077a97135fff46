//! Decisions that were computed again, for those who ask: found by their id, and told as JSON.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::DataFusionError;
use datafusion::prelude::{SessionContext, col, lit};
use serde_json::{Value, json};

use super::{Check, Explained, explain};
use crate::lake::predictions_table;
use crate::model::registry::Registry;
use crate::scoring::{Receipt, Role, ScoringPipeline, ScoringSettings, decision};

/// What a decision is computed again with.
pub struct Explainer {
    pub pipeline: Arc<ScoringPipeline>,
    pub registry: Registry,
    pub settings: ScoringSettings,
}

impl Explainer {
    /// As [`explain()`].
    ///
    /// # Errors
    /// As there.
    pub fn explain(&self, receipt: &Receipt) -> Result<Explained, String> {
        let Self { pipeline, registry, settings } = self;
        explain(receipt, pipeline, registry, settings, settings.contributions_max)
    }
}

impl std::fmt::Debug for Explainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explainer").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The receipt of a prediction, or of the newest prediction about a transaction.
///
/// # Errors
/// When the table cannot be read, or there is none.
pub async fn newest_receipt(context: &SessionContext, id: &str) -> Result<Option<Receipt>, DataFusionError> {
    let table = context.table(predictions_table().to_string()).await?;
    // What was only said in the shadow is explained where it is asked for by its own id.
    let mut answered = col("transaction_id").eq(lit(id));
    if table.schema().has_column_with_unqualified_name("role") {
        answered = answered.and(col("role").is_null().or(col("role").not_eq(lit(Role::Shadow.as_str()))));
    }
    let of_id = col("prediction_id").eq(lit(id)).or(answered);
    let newest = table.filter(of_id)?.sort(vec![col("predicted_at").sort(false, false)])?.limit(0, Some(1))?;
    Ok(newest.collect().await?.iter().flat_map(Receipt::read).next())
}

/// When the transaction of a receipt happened, in microseconds: `column` of its row of silver.
///
/// # Errors
/// In words, when what was sent gives no row of silver any more.
pub fn event_time(receipt: &Receipt, pipeline: &ScoringPipeline, column: &str) -> Result<i64, String> {
    let sent = receipt.sent(pipeline).map_err(|error| error.to_string())?;
    let screened = pipeline.refine(&sent, receipt.predicted_at_us).map_err(|error| error.to_string())?;
    let times = screened.rows.column_by_name(column);
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let at = times.filter(|times| !times.is_empty()).map(|times| times.value(0));
    at.ok_or_else(|| format!("{} gives no row of silver now", receipt.transaction_id))
}

impl Explained {
    /// With what the receipt holds.
    #[must_use]
    pub fn to_value(&self, receipt: &Receipt) -> Value {
        let told = &self.prediction;
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
        let check =
            |check: &Check| json!({"what": check.what, "same": check.differs.is_none(), "differs": check.differs});
        let at = chrono::DateTime::from_timestamp_micros(receipt.predicted_at_us).unwrap_or_default();
        json!({
            "prediction_id": receipt.prediction_id,
            "transaction_id": receipt.transaction_id,
            "predicted_at": at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            "features_epoch": receipt.features_epoch,
            "decision": decision(told.is_fraud),
            "decided_by": told.decided_by,
            "fraud_probability": told.fraud_probability,
            "threshold": told.threshold,
            "model": receipt.model.as_ref().map(|model| json!({"name": model.name, "version": model.version, "blake3": model.blake3})),
            "role": receipt.role,
            "shadow_of": receipt.shadow_of,
            "rules": told.rules.as_ref().map(|rules| json!({"score": rules.score, "class": rules.class, "reasons": rules.reasons})),
            "degraded_reason": told.degraded,
            "sent": value(&receipt.sent),
            "known": value(&receipt.known),
            "features": receipt.features.as_deref().map(value),
            "contributions": self.contributions.iter().map(|(feature, value, part)| json!({"feature": feature, "value": value, "contribution": part})).collect::<Vec<_>>(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "same": self.checks.iter().all(|check| check.differs.is_none()),
        })
    }
}
