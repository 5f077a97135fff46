//! Rows in, decisions out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::util::display::array_value_to_string;

use super::pipeline::{CHUNK_ROWS, Followed};
use super::{FeatureSource, Models, ScoringError, ScoringPipeline, ScoringSettings, Served, SharedFeatures, Standing};
use crate::contract::{Decoded, Rejected};
use crate::domain::Clock;
use crate::refine::{EVALUATES, RefineError};

/// Everything that a request needs: shared by all of them, changed by none.
pub struct Scorer {
    pub pipeline: Arc<ScoringPipeline>,
    pub features: SharedFeatures,
    pub models: Arc<Models>,
    pub settings: ScoringSettings,
    pub clock: Arc<dyn Clock>,
    /// The table of rules, by number, and its columns.
    rules: Option<Rules>,
    /// Of this process, in the identifiers of its predictions.
    run: Arc<str>,
    predictions: AtomicU64,
}

/// Where the points of the rules stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Among the tables that follow from silver.
    pub table: usize,
    score: usize,
    class: Option<usize>,
    reasons: Option<usize>,
}

/// What became of some transactions.
#[derive(Debug)]
pub struct Scores {
    /// Of each transaction that came, in its order.
    pub items: Vec<Item>,
    chunks: Vec<Chunk>,
    pub model: Option<Arc<Served>>,
    pub standing: Standing,
    pub now_us: i64,
    run: Arc<str>,
    first: u64,
}

#[derive(Debug)]
pub enum Item {
    /// The chunk and the row in it.
    Scored {
        chunk: usize,
        row: usize,
    },
    Refused(Refusal),
}

/// Why a transaction is none that can be scored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The fields of the contract that are at fault; empty when it is the whole.
    pub fields: Vec<String>,
    /// A stable code: that of a dead letter, or the name of the first expectation broken.
    pub code: String,
    /// All expectations broken.
    pub broken: Vec<String>,
    /// For people.
    pub detail: String,
}

#[derive(Debug)]
pub(super) struct Chunk {
    /// The rows of the contract.
    pub sent: RecordBatch,
    /// For each row of silver that of `sent`, and its place among the items.
    pub origins: Vec<(u32, usize)>,
    pub silver: RecordBatch,
    pub following: Vec<Followed>,
    /// What the model says; why it does not.
    pub answers: Result<super::served::Answers, String>,
}

/// What is said of one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub transaction_id: String,
    /// Absent where no model answers.
    pub fraud_probability: Option<f64>,
    pub is_fraud: bool,
    pub decided_by: DecidedBy,
    /// Of the model on its probability, or of the rules on their score.
    pub threshold: f64,
    pub rules: Option<RuleScore>,
    /// Why the answer is not the model's, or not from all that it should know.
    pub degraded: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    Model,
    Rules,
}

impl DecidedBy {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Rules => "rules",
        }
    }
}

/// Points of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleScore {
    pub score: i32,
    pub class: String,
    pub reasons: Vec<String>,
}

impl Scorer {
    #[must_use]
    pub fn new(
        pipeline: Arc<ScoringPipeline>,
        features: SharedFeatures,
        models: Arc<Models>,
        settings: ScoringSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rules = Rules::find(&pipeline, &settings.rules);
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self { pipeline, features, models, settings, clock, rules, run: run.into(), predictions: AtomicU64::new(0) }
    }

    /// Scores JSON objects, each by itself.
    ///
    /// # Errors
    /// When the SQL cannot be computed: an error of assay or of a SQL file, not of the request.
    pub fn score_json<'a>(&self, payloads: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<Scores, ScoringError> {
        self.score(self.pipeline.decode(payloads))
    }

    /// Scores rows with the contract's columns.
    ///
    /// # Errors
    /// As [`Scorer::score_json`].
    pub fn score(&self, decoded: Decoded) -> Result<Scores, ScoringError> {
        let Decoded { rows, message_of_row, rejected, .. } = decoded;
        let chosen = self.models.chosen();
        let count = rows.num_rows() + rejected.len();
        let mut scores = Scores {
            items: Vec::with_capacity(count),
            run: Arc::clone(&self.run),
            first: self.predictions.fetch_add(count as u64, Ordering::Relaxed),
            chunks: Vec::new(),
            standing: self.features.standing(),
            now_us: self.clock.now_us(),
            model: chosen.champion,
        };
        scores.items.resize_with(count, || Item::Refused(Refusal::default()));
        for Rejected { message, reason, detail, .. } in rejected {
            scores.set(message as usize, Item::Refused(Refusal::of_contract(reason.as_str(), &detail)));
        }
        let mut from = 0;
        while from < rows.num_rows() {
            let count = CHUNK_ROWS.min(rows.num_rows() - from);
            let messages = message_of_row.get(from..from + count).unwrap_or_default();
            self.score_rows(&rows.slice(from, count), messages, chosen.problem.as_deref(), &mut scores)?;
            from += count;
        }
        Ok(scores)
    }

    /// A row for which the SQL fails costs no neighbour: it is looked for by halves.
    fn score_rows(
        &self,
        rows: &RecordBatch,
        messages: &[u32],
        problem: Option<&str>,
        scores: &mut Scores,
    ) -> Result<(), ScoringError> {
        match (self.score_chunk(rows, messages, problem, scores), messages) {
            (Err(ScoringError::Refine(RefineError::Evaluate { cause, table, .. })), [message]) => {
                scores.set(*message as usize, Item::Refused(Refusal::not_computed(&table, &cause)));
                Ok(())
            }
            (Err(ScoringError::Refine(RefineError::Evaluate { .. })), messages) if messages.len() > 1 => {
                let half = messages.len() / 2;
                let (first, second) = messages.split_at(half);
                self.score_rows(&rows.slice(0, half), first, problem, scores)?;
                self.score_rows(&rows.slice(half, second.len()), second, problem, scores)
            }
            (done, _) => done,
        }
    }

    fn score_chunk(
        &self,
        rows: &RecordBatch,
        messages: &[u32],
        problem: Option<&str>,
        scores: &mut Scores,
    ) -> Result<(), ScoringError> {
        let screened = self.pipeline.refine(rows, scores.now_us)?;
        let features: &dyn FeatureSource = self.features.as_ref();
        let followed = self.pipeline.follow(&screened.rows, features)?;
        let message = |row: usize| messages.get(row).map_or(usize::MAX, |message| *message as usize);
        for (row, broken) in screened.refused {
            scores.set(message(row), Item::Refused(self.refusal(broken)));
        }
        let chunk = scores.chunks.len();
        let mut origins = Vec::with_capacity(screened.input.len());
        for (row, input) in screened.input.iter().enumerate() {
            let place = message(*input);
            origins.push((u32::try_from(*input).unwrap_or(u32::MAX), place));
            scores.set(place, Item::Scored { chunk, row });
        }
        let answers = match &scores.model {
            Some(model) => model.ask(&screened.rows, &followed),
            None => Err(problem.unwrap_or("no model is loaded").to_owned()),
        };
        let sent = rows.clone();
        scores.chunks.push(Chunk { sent, origins, silver: screened.rows, following: followed, answers });
        Ok(())
    }

    /// What is said of a row of a chunk.
    #[must_use]
    pub fn prediction(&self, scores: &Scores, chunk: usize, row: usize) -> Option<Prediction> {
        let chunk = scores.chunks.get(chunk)?;
        let transaction_id = key_of(&chunk.silver, self.pipeline.key(), row)?;
        let table = self.rules.and_then(|rules| Some((chunk.following.get(rules.table)?, rules)));
        let rules = table.and_then(|(table, rules)| rules.told(&table.rows, row));
        let by_model = match (&chunk.answers, &scores.model) {
            (Ok(answers), Some(model)) => match model.lacks(&chunk.following, row) {
                Some(cause) => Err(cause.to_owned()),
                None if answers.encoded.refused.binary_search_by_key(&row, |(row, _)| *row).is_ok() => {
                    Err("a number is too large for the model".to_owned())
                }
                None => Ok((answers.probabilities.get(row).copied()?, model.threshold())),
            },
            (Ok(_), None) => Err("no model is loaded".to_owned()),
            (Err(problem), _) => Err(problem.clone()),
        };
        let answer = by_model.as_ref().ok().copied();
        let (decided_by, is_fraud, threshold) = decided(answer, rules.as_ref(), self.settings.rule_threshold);
        let degraded = match by_model {
            // The model knows all that it reads, and the rules may not.
            Ok(_) => table.and_then(|(table, _)| table.lacks(row)).map(str::to_owned),
            Err(problem) => Some(problem),
        };
        let fraud_probability = answer.map(|(probability, _)| probability);
        Some(Prediction { transaction_id, fraud_probability, is_fraud, decided_by, threshold, rules, degraded })
    }

    fn refusal(&self, broken: Vec<String>) -> Refusal {
        let mut fields: Vec<String> =
            broken.iter().flat_map(|name| self.pipeline.fields_of(name)).map(ToOwned::to_owned).collect();
        fields.sort_unstable();
        fields.dedup();
        let names = broken.join(", ");
        Refusal {
            detail: format!("the transaction breaks {names}"),
            code: broken.first().cloned().unwrap_or_default(),
            fields,
            broken,
        }
    }
}

impl Scores {
    /// What moved the model's answer for a row most; empty where the model does not answer.
    #[must_use]
    pub fn contributions(&self, chunk: usize, row: usize, most: usize) -> Vec<(&str, f32, f64)> {
        let (Some(model), Some(values)) = (&self.model, self.features(chunk, row)) else { return Vec::new() };
        let named =
            |(feature, value, part): (usize, f32, f64)| Some((model.features().get(feature)?.as_str(), value, part));
        model.contributions(values, most).into_iter().filter_map(named).collect()
    }

    /// The features of a row, in the model's order; `None` where the model was not asked.
    #[must_use]
    pub fn features(&self, chunk: usize, row: usize) -> Option<&[f32]> {
        let model = self.model.as_ref()?;
        let answers = self.chunks.get(chunk)?.answers.as_ref().ok()?;
        answers.encoded.values.chunks_exact(model.width().max(1)).nth(row)
    }

    /// Seconds since the epoch of the features was published; `None` before the first.
    #[must_use]
    pub fn features_age_s(&self) -> Option<f64> {
        self.standing.published_at_us.map(|at| (self.now_us.saturating_sub(at)) as f64 / 1e6)
    }

    /// What identifies the prediction of a row, among all of all processes.
    #[must_use]
    pub fn prediction_id(&self, chunk: usize, row: usize) -> String {
        let place = self.chunks.get(chunk).and_then(|chunk| chunk.origins.get(row)).map_or(0, |(_, place)| *place);
        format!("{}-{:x}", self.run, self.first + place as u64)
    }

    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Rows that were scored.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.silver.num_rows()).sum()
    }

    fn set(&mut self, message: usize, item: Item) {
        if let Some(place) = self.items.get_mut(message) {
            *place = item;
        }
    }
}

impl Refusal {
    fn not_computed(table: &str, cause: &str) -> Self {
        let detail = format!("{table} cannot be computed for the transaction: {cause}");
        Self { fields: Vec::new(), code: EVALUATES.to_owned(), broken: vec![EVALUATES.to_owned()], detail }
    }

    /// The decoder names the field first.
    fn of_contract(code: &str, detail: &str) -> Self {
        let field =
            detail.strip_prefix("field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name.to_owned());
        Self {
            fields: field.into_iter().collect(),
            code: code.to_owned(),
            broken: Vec::new(),
            detail: detail.to_owned(),
        }
    }
}

impl Rules {
    /// `None` when no table has that name, or it has no column `score`.
    pub(super) fn find(pipeline: &ScoringPipeline, wanted: &str) -> Option<Self> {
        pipeline.tables().enumerate().find_map(|(table, (name, schema))| {
            (name.to_string() == wanted).then_some(())?;
            let index = |column: &str| schema.index_of(column).ok();
            Some(Self { table, score: index("score")?, class: index("class"), reasons: index("reasons") })
        })
    }

    pub(super) fn told(self, table: &RecordBatch, row: usize) -> Option<RuleScore> {
        let text = |column: Option<usize>| {
            let column = table.columns().get(column?)?.as_string_opt::<i32>()?;
            (!column.is_null(row)).then(|| column.value(row))
        };
        let score = table.columns().get(self.score)?.as_primitive_opt::<Int32Type>()?;
        Some(RuleScore {
            score: if score.is_null(row) { 0 } else { score.value(row) },
            class: text(self.class).unwrap_or_default().to_owned(),
            reasons: RuleScore::split(text(self.reasons).unwrap_or_default()),
        })
    }
}

/// Who decides, whether it is fraud, and the threshold: by the model's probability and threshold, or else by the rules.
pub(super) fn decided(
    by_model: Option<(f64, f64)>,
    rules: Option<&RuleScore>,
    rule_threshold: i32,
) -> (DecidedBy, bool, f64) {
    match by_model {
        Some((probability, threshold)) => (DecidedBy::Model, probability >= threshold, threshold),
        None => {
            let is_fraud = rules.is_some_and(|rules| rules.score >= rule_threshold);
            (DecidedBy::Rules, is_fraud, f64::from(rule_threshold))
        }
    }
}

/// What identifies a row of silver.
pub(super) fn key_of(silver: &RecordBatch, key: usize, row: usize) -> Option<String> {
    let column = silver.columns().get(key)?;
    match column.as_string_opt::<i32>() {
        Some(texts) => Some(texts.value(row).to_owned()),
        None => array_value_to_string(column, row).ok(),
    }
}

pub const FRAUD: &str = "fraud";
pub const LEGITIMATE: &str = "legitimate";

/// A decision in a word.
#[must_use]
pub const fn decision(is_fraud: bool) -> &'static str {
    if is_fraud { FRAUD } else { LEGITIMATE }
}

impl RuleScore {
    pub(super) fn split(reasons: &str) -> Vec<String> {
        reasons.split(SEPARATOR).filter(|reason| !reason.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn joined(&self) -> String {
        self.reasons.join(SEPARATOR)
    }
}

/// Between the reasons of a transaction, as the SQL of the rules writes them.
const SEPARATOR: &str = "; ";
