//! A decision computed again from its receipt, and its past from the lake.

mod told;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray};
use serde_json::Value;

use super::receipts::features_text;
use super::{
    Added, FeatureSource, Item, Models, Prediction, Receipt, Scorer, Scores, ScoringError, ScoringPipeline,
    ScoringSettings, Served, Standing,
};
use crate::contract::Decoded;
use crate::domain::{ManualClock, TableName};
use crate::model::registry::{ModelName, Registry, Version};

pub use told::{Explainer, event_time, newest_receipt};

/// A decision computed again.
#[derive(Debug)]
pub struct Explained {
    pub prediction: Prediction<'static>,
    /// What moved the model's answer most: feature, value, and what it adds on the model's scale.
    pub contributions: Vec<(String, f32, f64)>,
    pub checks: Vec<Check>,
}

/// One thing that was compared with the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub what: Cow<'static, str>,
    /// Why it is not the same; `None` when it is, to the bit.
    pub differs: Option<String>,
}

/// Scores what was sent again, with what was known then and the version that answered then.
///
/// # Errors
/// In words, when it cannot be computed: the version is gone or another file, or contract or SQL files do not fit any more.
pub fn explain(
    receipt: &Receipt,
    pipeline: &Arc<ScoringPipeline>,
    registry: &Registry,
    settings: &ScoringSettings,
    most: usize,
) -> Result<Explained, String> {
    let sent = receipt.sent(pipeline).map_err(|error| format!("what was sent does not fit the contract: {error}"))?;
    let known = receipt
        .known(pipeline)
        .map_err(|error| format!("what was known does not fit the headers of the SQL files: {error}"))?;
    let (models, model_check) = models(receipt, pipeline, registry)?;
    let past = Recorded { known, epoch: receipt.features_epoch, cause: receipt.degraded.clone() };
    let clock = Arc::new(ManualClock::at(receipt.predicted_at_us));
    let scorer = Scorer::new(Arc::clone(pipeline), Arc::new(past), Arc::new(models), settings.clone(), clock);
    let scores = scorer.score(one(sent)).map_err(|error: ScoringError| error.to_string())?;
    let (prediction, place) = match scores.items.first() {
        Some(Item::Scored { chunk, row }) => (scorer.prediction(&scores, *chunk, *row), (*chunk, *row)),
        Some(Item::Refused(refusal)) => return Err(format!("the transaction is refused now: {}", refusal.detail)),
        None => (None, (0, 0)),
    };
    let prediction = prediction.ok_or("the transaction gives no row of silver")?;
    let mut checks = vec![sql_check(receipt, pipeline)];
    checks.extend(model_check);
    checks.extend(compare(receipt, &prediction, features_text(&scores, place.0, place.1)));
    Ok(Explained { contributions: contributions(&scores, place, most), prediction: prediction.into_owned(), checks })
}

/// Compares what was known with what `past`, a source for the epoch of the receipt, says.
///
/// # Errors
/// In words, when one of both does not fit the SQL files.
pub fn check_past(
    receipt: &Receipt,
    pipeline: &ScoringPipeline,
    past: &dyn FeatureSource,
) -> Result<Vec<Check>, String> {
    let sent = receipt.sent(pipeline).map_err(|error| error.to_string())?;
    let screened = pipeline.refine(&sent, receipt.predicted_at_us).map_err(|error| error.to_string())?;
    let mut checks = Vec::new();
    for (table, known) in receipt.known(pipeline).map_err(|error| error.to_string())? {
        if known.is_null(0) {
            continue;
        }
        let name: TableName = table.parse().map_err(|_| format!("{table} is no table"))?;
        let told = past.added(&name, &screened.rows)?;
        let differing =
            known.fields().iter().zip(known.columns()).zip(&told.columns).find_map(|((field, kept), told)| {
                (kept != told).then(|| {
                    format!("{} of {table} was {}, and the lake says {}", field.name(), shown(kept), shown(told))
                })
            });
        let what = format!("what the lake says of the past as of that epoch, for {table}");
        checks.push(Check { what: what.into(), differs: differing });
    }
    Ok(checks)
}

fn shown(value: &ArrayRef) -> String {
    if value.is_empty() || value.is_null(0) {
        return "NULL".to_owned();
    }
    arrow::util::display::array_value_to_string(value, 0).unwrap_or_default()
}

/// The version that answered; none where the rules did without one.
fn models(
    receipt: &Receipt,
    pipeline: &ScoringPipeline,
    registry: &Registry,
) -> Result<(Models, Option<Check>), String> {
    let Some(used) = &receipt.model else {
        let name = ModelName::parse("none").map_err(|error| error.to_string())?;
        return Ok((Models::fixed(registry.clone(), name, Err(receipt.degraded.clone().unwrap_or_default())), None));
    };
    let name = ModelName::parse(&used.name).map_err(|error| error.to_string())?;
    let version = Version::parse(&used.version).map_err(|error| error.to_string())?;
    let served = Served::load(registry, &name, &version, pipeline)?;
    let differs = (served.blake3 != used.blake3)
        .then(|| format!("{name}@{version} is another file now: blake3 {} and not {}", served.blake3, used.blake3));
    let check = Check { what: "the file of the model".into(), differs };
    Ok((Models::fixed(registry.clone(), name, Ok(Arc::new(served))), Some(check)))
}

fn sql_check(receipt: &Receipt, pipeline: &ScoringPipeline) -> Check {
    let differs = (receipt.sql_blake3 != pipeline.sql_blake3())
        .then(|| "they were changed since: what follows is what they say now".to_owned());
    Check { what: "the SQL files".into(), differs }
}

fn compare(receipt: &Receipt, now: &Prediction<'_>, features: Option<String>) -> Vec<Check> {
    let check = |what: &'static str, same: bool, then: String, now: String| Check {
        what: what.into(),
        differs: (!same).then(|| format!("it was {then}, and is {now}")),
    };
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let by = |fraud: bool, by: &str, threshold: f64| {
        format!("{} by the {by}, threshold {threshold}", super::decision(fraud))
    };
    let then = by(receipt.is_fraud, &receipt.decided_by, receipt.threshold);
    let decided = by(now.is_fraud, now.decided_by.as_str(), now.threshold);
    let read = |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut checks = vec![check(
        "the rules",
        receipt.rules == now.rules,
        format!("{:?}", receipt.rules),
        format!("{:?}", now.rules),
    )];
    if receipt.model.is_some() {
        let same = read(&receipt.features) == read(&features);
        checks.push(check("the features", same, told(&receipt.features), told(&features)));
        let same = bits(receipt.fraud_probability) == bits(now.fraud_probability);
        let shown = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        checks.push(check("the probability", same, shown(receipt.fraud_probability), shown(now.fraud_probability)));
    }
    checks.push(check("the decision", then == decided, then, decided));
    checks
}

fn told(features: &Option<String>) -> String {
    features.clone().unwrap_or_else(|| "none".to_owned())
}

fn contributions(scores: &Scores, (chunk, row): (usize, usize), most: usize) -> Vec<(String, f32, f64)> {
    let found = scores.contributions(chunk, row, most);
    found.into_iter().map(|(feature, value, part)| (feature.to_owned(), value, part)).collect()
}

fn one(sent: RecordBatch) -> Decoded {
    Decoded {
        message_of_row: vec![0],
        schema_ids: Vec::new(),
        newest_version_rows: false,
        rejected: Vec::new(),
        rows: sent,
    }
}

/// The past as a receipt has it.
struct Recorded {
    known: Vec<(String, StructArray)>,
    epoch: i64,
    /// Why something was not known.
    cause: Option<String>,
}

impl FeatureSource for Recorded {
    fn added(&self, table: &TableName, _: &RecordBatch) -> Result<Added, String> {
        let table = table.to_string();
        match self.known.iter().find(|(name, _)| *name == table) {
            Some((_, known)) if !known.is_null(0) => {
                Ok(Added { columns: known.columns().to_vec(), unknown: Vec::new() })
            }
            _ => Err(self.cause.clone().unwrap_or_else(|| "it was not known".to_owned())),
        }
    }

    fn standing(&self) -> Standing {
        Standing { epoch: self.epoch, published_at_us: None }
    }
}

#[cfg(test)]
mod tests;
