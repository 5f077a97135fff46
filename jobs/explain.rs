//! `assay explain`: a decision, why it was made, and whether it comes out the same again.

use std::sync::Arc;

use assay::lake::{EpochLedger, open_session, predictions_table, require_tables};
use assay::scoring::{Check, Explained, Receipt, Role, ScoringPipeline, check_past, explain};
use clap::Args;
use datafusion::prelude::{SessionContext, col, lit};
use serde_json::{Value, json};

use crate::app::{App, usage};
use crate::exit::{Exit, Refused};
use crate::models::ModelsFolder;
use crate::serve::follower;
use crate::ui::{Look, Paint, instant};

/// Explain a decision: what it was made from, and the same again from its receipt and from the lake.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The prediction_id of an answer, or a transaction_id: its newest prediction
    pub id: String,
    #[command(flatten)]
    pub folder: ModelsFolder,
}

pub fn run(args: &ExplainArgs, app: &App) -> anyhow::Result<Exit> {
    let contract = app.contract()?;
    let lake = app.open_lake(false)?;
    let plan = app.plan_of(&contract, &lake)?;
    let pipeline = Arc::new(ScoringPipeline::compile(&plan, &contract).map_err(usage)?);
    let receipt = app.handle.block_on(async {
        require_tables(&lake, &[EpochLedger::table_name(), predictions_table()]).await?;
        let session = open_session(&lake, None, app.clock.now_us() / 1000, None).await?;
        newest(&session.context, &args.id).await
    })?;
    let Some(receipt) = receipt else {
        let table = predictions_table();
        return Err(usage(format!(
            "{table} has no receipt of {}; one is stored {} ms after its answer at most, unless it was shed \
             (assay_receipts_total)",
            args.id, app.settings.scoring.receipts_every_ms
        )));
    };
    let registry = args.folder.open(app);
    let settings = &app.settings.scoring;
    let mut explained = explain(&receipt, &pipeline, &registry, settings, settings.contributions_max)
        .map_err(|cause| Refused(format!("{} cannot be computed again: {cause}", receipt.prediction_id)))?;
    if receipt.features_epoch > 0 {
        let past = follower(app, &contract, &plan)?;
        let at_us = event_time(&receipt, &pipeline, plan.event_time())?;
        past.hold(receipt.features_epoch, at_us)?;
        explained.checks.extend(check_past(&receipt, &pipeline, &past).map_err(Refused)?);
    }
    if app.json {
        say!("{}", as_json(&receipt, &explained))?;
    } else {
        say!("{}", render(&receipt, &explained, Look::of_stdout()))?;
    }
    match explained.checks.iter().filter(|check| check.differs.is_some()).count() {
        0 => Ok(Exit::Done),
        count => Err(Refused(format!("{count} of what was decided with does not come out the same")).into()),
    }
}

async fn newest(context: &SessionContext, id: &str) -> anyhow::Result<Option<Receipt>> {
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

/// When the transaction happened, in microseconds.
fn event_time(receipt: &Receipt, pipeline: &ScoringPipeline, column: &str) -> anyhow::Result<i64> {
    use arrow::array::{Array, AsArray};
    let sent = receipt.sent(pipeline).map_err(|error| Refused(error.to_string()))?;
    let screened = pipeline.refine(&sent, receipt.predicted_at_us).map_err(|error| Refused(error.to_string()))?;
    let times = screened.rows.column_by_name(column);
    let times = times.and_then(|times| times.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>());
    let at = times.filter(|times| !times.is_empty()).map(|times| times.value(0));
    at.ok_or_else(|| Refused(format!("{} gives no row of silver now", receipt.transaction_id)).into())
}

fn render(receipt: &Receipt, explained: &Explained, look: Look) -> String {
    let told = &explained.prediction;
    let decision = assay::scoring::decision(told.is_fraud);
    let mut lines = vec![
        format!("{} of transaction {}", receipt.prediction_id, receipt.transaction_id),
        format!("  at           {}, on epoch {} of the lake", instant(receipt.predicted_at_us), receipt.features_epoch),
        format!("  sent         {}", receipt.sent),
        format!("  decision     {decision}, by the {}", told.decided_by.as_str()),
    ];
    if let (Some(model), Some(probability)) = (&receipt.model, told.fraud_probability) {
        lines.push(format!("  model        {}@{}, as {}", model.name, model.version, receipt.role));
        lines.push(format!("  probability  {probability:.4}, threshold {:.4}", told.threshold));
        for (feature, value, part) in &explained.contributions {
            lines.push(format!("    {part:+.4}  {feature} = {value}"));
        }
    }
    if let Some(rules) = &told.rules {
        lines.push(format!("  rules        {} points, {}: {}", rules.score, rules.class, rules.reasons.join("; ")));
    }
    if let Some(reason) = &told.degraded {
        lines.push(format!("  degraded     {reason}"));
    }
    lines.push("computed again:".to_owned());
    lines.extend(explained.checks.iter().map(|check| match &check.differs {
        None => format!("  {} {}", look.paint(Paint::Good, "same"), check.what),
        Some(differs) => format!("  {} {}: {differs}", look.paint(Paint::Bad, "DIFF"), check.what),
    }));
    lines.join("\n")
}

fn as_json(receipt: &Receipt, explained: &Explained) -> Value {
    let told = &explained.prediction;
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let check = |check: &Check| json!({"what": check.what, "same": check.differs.is_none(), "differs": check.differs});
    json!({
        "job": "explain",
        "prediction_id": receipt.prediction_id,
        "transaction_id": receipt.transaction_id,
        "predicted_at": instant(receipt.predicted_at_us),
        "features_epoch": receipt.features_epoch,
        "decision": if told.is_fraud { "fraud" } else { "legitimate" },
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
        "contributions": explained.contributions.iter().map(|(feature, value, part)| json!({"feature": feature, "value": value, "contribution": part})).collect::<Vec<_>>(),
        "checks": explained.checks.iter().map(check).collect::<Vec<_>>(),
        "same": explained.checks.iter().all(|check| check.differs.is_none()),
    })
}
