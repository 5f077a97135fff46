//! `assay explain`: a decision, why it was made, and whether it comes out the same again.

use std::sync::Arc;

use assay::lake::{EpochLedger, open_session, predictions_table, require_tables};
use assay::scoring::{Explained, Explainer, Receipt, ScoringPipeline, check_past, event_time, newest_receipt};
use assay::telemetry::traces::{EpochTraces, TraceId};
use clap::Args;
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
        Ok::<_, anyhow::Error>(newest_receipt(&session.context, &args.id).await?)
    })?;
    let Some(receipt) = receipt else {
        let table = predictions_table();
        return Err(usage(format!(
            "{table} has no receipt of {}; one is stored {} ms after its answer at most, unless it was shed \
             (assay_receipts_total)",
            args.id, app.settings.scoring.receipts_every_ms
        )));
    };
    let settings = app.settings.scoring.clone();
    let explainer = Explainer { pipeline: Arc::clone(&pipeline), registry: args.folder.open(app)?, settings };
    let mut explained = explainer
        .explain(&receipt)
        .map_err(|cause| Refused(format!("{} cannot be computed again: {cause}", receipt.prediction_id)))?;
    if receipt.features_epoch > 0 {
        let past = follower(app, &contract, &plan)?;
        let at_us = event_time(&receipt, &pipeline, plan.event_time()).map_err(Refused)?;
        past.hold(receipt.features_epoch, at_us)?;
        explained.checks.extend(check_past(&receipt, &pipeline, &past).map_err(Refused)?);
    }
    let trace = EpochTraces::of_lake(lake.hash_key()).of_epoch(receipt.features_epoch).trace;
    let trace = (receipt.features_epoch > 0).then_some(trace);
    if app.json {
        say!("{}", as_json(&receipt, &explained, trace))?;
    } else {
        say!("{}", render(&receipt, &explained, trace, Look::of_stdout()))?;
    }
    match explained.checks.iter().filter(|check| check.differs.is_some()).count() {
        0 => Ok(Exit::Done),
        count => Err(Refused(format!("{count} of what was decided with does not come out the same")).into()),
    }
}

fn render(receipt: &Receipt, explained: &Explained, trace: Option<TraceId>, look: Look) -> String {
    let told = &explained.prediction;
    let decision = assay::scoring::decision(told.is_fraud);
    let mut lines = vec![
        format!("{} of transaction {}", receipt.prediction_id, receipt.transaction_id),
        format!("  at           {}, on epoch {} of the lake", instant(receipt.predicted_at_us), receipt.features_epoch),
        format!("  sent         {}", receipt.sent),
        format!("  decision     {decision}, by the {}", told.decided_by.as_str()),
    ];
    lines.extend(trace.map(|trace| format!("  trace        {trace}, of that epoch")));
    if let (Some(model), Some(probability)) = (&receipt.model, told.fraud_probability) {
        lines.push(format!("  model        {}@{}, as {}", model.name, model.version, receipt.role));
        lines.push(format!("  probability  {probability:.4}, threshold {:.4}", told.threshold));
        for (feature, value, part) in &explained.contributions {
            lines.push(format!("    {part:+.4}  {feature} = {value}"));
        }
    }
    if let Some(rules) = &told.rules {
        lines.push(format!("  rules        {} points, {}: {}", rules.score, rules.class, rules.reasons.as_str()));
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

fn as_json(receipt: &Receipt, explained: &Explained, trace: Option<TraceId>) -> Value {
    let mut told = json!({"job": "explain", "epoch_trace_id": trace.map(|trace| trace.to_string())});
    if let (Value::Object(told), Value::Object(rest)) = (&mut told, explained.to_value(receipt)) {
        told.extend(rest);
    }
    told
}
