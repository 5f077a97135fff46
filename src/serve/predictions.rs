//! Answers as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use axum::http::StatusCode;

use super::Problem;
use super::counts::Counted;
use crate::scoring::{DecidedBy, FRAUD, Item, Prediction, Refusal, Role, RuleScore, Scorer, Scores, decision};

/// What is said of one transaction.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    prediction_id: String,
    transaction_id: Cow<'a, str>,
    fraud_probability: Option<f64>,
    decision: &'static str,
    decided_by: DecidedBy,
    role: Role,
    model_version: Option<&'a str>,
    threshold: f64,
    rules: Option<RuleScore<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contributions: Option<Vec<Contribution<'a>>>,
    /// What the model was given, by feature; null where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<BTreeMap<&'a str, f32>>,
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_reason: Option<Cow<'a, str>>,
}

/// On the scale of the model before calibration.
#[derive(Debug, Serialize)]
struct Contribution<'a> {
    feature: &'a str,
    value: f32,
    contribution: f64,
}

/// What answered all transactions of an answer.
#[derive(Debug, Serialize)]
pub(super) struct Answered<'a> {
    model: Option<ModelTold<'a>>,
    features: FeaturesTold,
}

#[derive(Debug, Serialize)]
struct ModelTold<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Debug, Serialize)]
struct FeaturesTold {
    epoch: i64,
    age_s: Option<f64>,
}

/// The answer for one transaction.
#[derive(Debug, Serialize)]
pub(super) struct Single<'a> {
    #[serde(flatten)]
    told: Told<'a>,
    #[serde(flatten)]
    answered: Answered<'a>,
    latency_us: u64,
}

impl<'a> Told<'a> {
    /// With the strongest contributions, where some are asked for.
    pub(super) fn of(scorer: &Scorer, scores: &'a Scores, chunk: usize, row: usize, most: usize) -> Option<Self> {
        let Prediction { transaction_id, fraud_probability, is_fraud, decided_by, threshold, rules, degraded } =
            scorer.prediction(scores, chunk, row)?;
        let by_model = decided_by == DecidedBy::Model;
        let contributions = (most > 0).then(|| {
            let found = if by_model { scores.contributions(chunk, row, most) } else { Vec::new() };
            found
                .into_iter()
                .map(|(feature, value, contribution)| Contribution { feature, value, contribution })
                .collect()
        });
        Some(Self {
            prediction_id: scores.prediction_id(chunk, row),
            transaction_id,
            fraud_probability,
            decision: decision(is_fraud),
            decided_by,
            role: scores.role,
            model_version: scores.model.as_ref().map(|model| model.version.as_str()),
            threshold,
            rules,
            contributions,
            inputs: None,
            degraded: degraded.is_some(),
            degraded_reason: degraded,
        })
    }

    /// Adds what the model was given; nothing where it was not asked.
    pub(super) fn tell_inputs(&mut self, scores: &'a Scores, chunk: usize, row: usize) {
        self.inputs = Some(scores.named_features(chunk, row).collect());
    }

    pub(super) fn counted(&self) -> Counted {
        let probability = self.fraud_probability;
        Counted::Scored { fraud: self.decision == FRAUD, probability, degraded: self.degraded }
    }

    pub(super) fn with_answered(self, scores: &'a Scores, latency_us: u64) -> Single<'a> {
        Single { told: self, answered: Answered::of(scores), latency_us }
    }
}

impl<'a> Answered<'a> {
    pub(super) fn of(scores: &'a Scores) -> Self {
        let model = scores.model.as_ref();
        Self {
            model: model.map(|model| ModelTold { name: model.name.as_str(), version: model.version.as_str() }),
            features: FeaturesTold { epoch: scores.standing.epoch, age_s: scores.features_age_s() },
        }
    }

    /// Names no model where several answered. `None` when nothing came.
    pub(super) fn of_all(all: impl Iterator<Item = &'a Scores> + Clone) -> Option<Self> {
        let mut told = Self::of(all.clone().next()?);
        let mut scored = all.filter(|scores| scores.rows() > 0).map(|scores| scores.model.as_ref());
        let first = scored.next().flatten();
        let version = first.map(|model| &model.version);
        let is_one = scored.all(|model| model.map(|model| &model.version) == version);
        let one = first.filter(|_| is_one);
        told.model = one.map(|model| ModelTold { name: model.name.as_str(), version: model.version.as_str() });
        Some(told)
    }
}

/// A transaction that cannot be scored, as a problem that names its fields.
pub(super) fn refused(refusal: &Refusal) -> Problem {
    let mut problem =
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.detail.clone()).with("code", refusal.code.clone());
    if let Some(field) = refusal.fields.first() {
        problem = problem.with("field", field.clone()).with("fields", json!(refusal.fields));
    }
    if !refusal.broken.is_empty() {
        problem = problem.with("broken_expectations", json!(refusal.broken));
    }
    problem
}

/// Adds one item of a batch to a text: its prediction, or its error.
pub(super) fn push_item(scorer: &Scorer, scores: &Scores, item: &Item, most: usize, into: &mut Vec<u8>) -> Counted {
    let (value, counted) = match item {
        Item::Scored { chunk, row } => match Told::of(scorer, scores, *chunk, *row, most) {
            Some(told) => (serde_json::to_writer(&mut *into, &told), told.counted()),
            None => (serde_json::to_writer(&mut *into, &json!({"error": null})), Counted::Refused),
        },
        Item::Refused(refusal) => {
            let error = refused(refusal).to_value();
            (serde_json::to_writer(&mut *into, &json!({ "error": error })), Counted::Refused)
        }
    };
    debug_assert!(value.is_ok(), "a buffer takes everything");
    counted
}
