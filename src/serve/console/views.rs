//! What the page shows of the ledger, of what was refused, and of drift.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Problem, ServeState};
use super::asking::Question;
use super::{Console, ledger, query_of};
use crate::domain::{Layer, TableName};

const DEAD_LETTER_REASONS: &str = include_str!("sql/dead_letter_reasons.sql");
const DEAD_LETTERS_NEWEST: &str = include_str!("sql/dead_letters_newest.sql");
const QUARANTINE_REASONS: &str = include_str!("sql/quarantine_reasons.sql");
const QUARANTINE_NEWEST: &str = include_str!("sql/quarantine_newest.sql");
const DRIFT_NOW: &str = include_str!("sql/drift_now.sql");
const DRIFT_DAYS: &str = include_str!("sql/drift_days.sql");
const PERFORMANCE_DAYS: &str = include_str!("sql/performance_days.sql");

/// What this process is, and what its lake has.
pub(super) async fn about(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let lineup = &console.0.lineup;
    let names = |tables: &[super::lineup::Derived]| -> Vec<Value> {
        let told = |of: &super::lineup::Derived| {
            let (size_us, slide_us) = of.window.unzip();
            json!({"table": of.table.to_string(), "key": of.key, "size_us": size_us, "slide_us": slide_us})
        };
        tables.iter().map(told).collect()
    };
    let access = &console.0.access;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "job": console.0.job,
        "pipeline": console.0.pipeline,
        "lake": console.0.lake,
        "now_us": console.0.clock.now_us(),
        "access": {"needs_key": access.needs_key(), "may_be_changed": access.may_be_changed()},
        "limits": {
            "rows_max": console.0.settings.rows_max,
            "statement_timeout_ms": console.0.settings.statement_timeout_ms,
        },
        "tables": {
            "bronze": lineup.bronze.to_string(),
            "dead_letters": lineup.dead_letters.to_string(),
            "silver": lineup.silver.to_string(),
            "silver_key": lineup.silver_key,
            "event_time": lineup.event_time,
            "quarantine": lineup.quarantine.as_ref().map(ToString::to_string),
            "rows": names(&lineup.rows),
            "windows": names(&lineup.windows),
            "contract": lineup.contract,
        },
        "model": lineup.model,
    })))
}

/// How fresh the lake is: asked every few seconds.
pub(super) async fn pulse(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let read = console.0.ledger.read(0).await?;
    let published_at = read.published_at_us.map(ledger::instant);
    Ok(Json(json!({"epoch": read.epoch, "published_at": published_at, "now_us": console.0.clock.now_us()})))
}

/// The newest epochs, and the sum of all.
pub(super) async fn flow(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let read = console.0.ledger.read(ledger::PAGE).await?;
    let missing: Vec<Value> = state.readiness.missing().iter().map(|missing| json!(missing)).collect();
    Ok(Json(json!({
        "epoch": read.epoch,
        "now_us": console.0.clock.now_us(),
        "totals": read.totals,
        "epochs": read.epochs,
        "not_ready": missing,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    before: Option<i64>,
}

/// A page of the ledger.
pub(super) async fn epochs(
    State(state): State<Arc<ServeState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let Before { before } = query_of(&uri, "before=EPOCH")?;
    let read = console.0.ledger.read(ledger::PAGE).await?;
    let epochs = match before {
        Some(before) => console.0.ledger.before(before).await?,
        None => read.epochs,
    };
    Ok(Json(json!({"epoch": read.epoch, "epochs": epochs, "totals": read.totals})))
}

/// Dead letters and quarantine: why, how many, and the newest.
pub(super) async fn rejects(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let (asking, lineup) = (&console.0.asking, &console.0.lineup);
    let mut told = json!({"epoch": 0, "dead_letters": null, "quarantine": null});
    if asking.has(&lineup.dead_letters).await? {
        let reasons = asking.ask(Question::new("rejects", DEAD_LETTER_REASONS)).await?;
        told["epoch"] = reasons.epoch.into();
        let newest = asking.ask(Question::new("rejects", DEAD_LETTERS_NEWEST)).await?;
        told["dead_letters"] = json!({"reasons": reasons.objects(), "newest": newest.objects()});
    }
    if let Some(quarantine) = &lineup.quarantine
        && asking.has(quarantine).await?
    {
        let reasons = asking.ask(Question::new("rejects", lineup.fill(QUARANTINE_REASONS))).await?;
        told["epoch"] = reasons.epoch.into();
        let newest = asking.ask(Question::new("rejects", lineup.fill(QUARANTINE_NEWEST))).await?;
        told["quarantine"] = json!({"reasons": reasons.objects(), "newest": newest.into_value()});
    }
    Ok(Json(told))
}

/// What `assay drift` has found.
pub(super) async fn drift(State(state): State<Arc<ServeState>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let console = Console::reading(&state, &headers)?;
    let asking = &console.0.asking;
    let mut told = json!({"now": null, "days": null, "performance": null, "is_cut": false, "rows_max": null});
    let drift = TableName::new(Layer::Ml, "drift");
    let performance = TableName::new(Layer::Ml, "performance");
    let parts =
        [("now", DRIFT_NOW, &drift), ("days", DRIFT_DAYS, &drift), ("performance", PERFORMANCE_DAYS, &performance)];
    for (part, sql, table) in parts {
        if !asking.has(table).await? {
            continue;
        }
        let answer = asking.ask(Question::new("drift", sql)).await?;
        if answer.is_cut {
            told["is_cut"] = true.into();
            told["rows_max"] = console.0.settings.rows_max.into();
        }
        told[part] = answer.objects().into();
    }
    Ok(Json(told))
}
