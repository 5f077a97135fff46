//! Rows in, decisions out.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::util::display::array_value_to_string;

use super::pipeline::CHUNK_ROWS;
use super::scores::{Chunk, Ids};
use super::{
    Added, DecidedBy, FeatureSource, Item, Models, Prediction, Reasons, Refusal, Role, RuleScore, Scores, ScoringError,
    ScoringPipeline, ScoringSettings, SharedFeatures, Split, Standing,
};
use crate::contract::{Decoded, Rejected};
use crate::domain::{Clock, TableName};
use crate::refine::RefineError;
use crate::telemetry::traces::{Stopwatch, Traces};

/// Everything that a request needs: shared by all of them, changed by none.
pub struct Scorer {
    pub pipeline: Arc<ScoringPipeline>,
    pub features: SharedFeatures,
    pub models: Arc<Models>,
    pub settings: ScoringSettings,
    pub clock: Arc<dyn Clock>,
    /// Off, unless [`Scorer::traced`] says otherwise.
    pub traces: Traces,
    /// Whom the challenger answers.
    pub(super) split: Option<Split>,
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

impl Scorer {
    /// A share of a column that is not there is none: [`Split::of`] says so before.
    #[must_use]
    pub fn new(
        pipeline: Arc<ScoringPipeline>,
        features: SharedFeatures,
        models: Arc<Models>,
        settings: ScoringSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rules = Rules::find(&pipeline, &settings.rules);
        let split = Split::of(&settings, &pipeline).ok().flatten();
        let run = uuid::Uuid::new_v4().simple().to_string();
        let predictions = AtomicU64::new(0);
        let (run, traces) = (run.into(), Traces::default());
        Self { pipeline, features, models, settings, clock, traces, split, rules, run, predictions }
    }

    /// What parts of the work take is noted from now on, where traces are on.
    #[must_use]
    pub fn traced(mut self, traces: Traces) -> Self {
        self.traces = traces;
        self
    }

    /// Scores JSON objects, each by itself, with the champion.
    ///
    /// # Errors
    /// When the SQL cannot be computed: an error of assay or of a SQL file, not of the request.
    pub fn score_json<'a>(&self, payloads: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<Scores, ScoringError> {
        self.score(self.pipeline.decode(payloads))
    }

    /// Scores rows with the contract's columns, with the champion.
    ///
    /// # Errors
    /// As [`Scorer::score_json`].
    pub fn score(&self, decoded: Decoded) -> Result<Scores, ScoringError> {
        let chosen = self.models.chosen();
        let mut scores = self.refine(decoded)?;
        scores.model = chosen.champion;
        scores.ask(chosen.problem.as_deref());
        Ok(scores)
    }

    /// What is known of transactions before any model is asked.
    pub(super) fn refine(&self, decoded: Decoded) -> Result<Scores, ScoringError> {
        let Decoded { rows, message_of_row, rejected, .. } = decoded;
        let count = rows.num_rows() + rejected.len();
        let mut scores = Scores {
            items: Vec::with_capacity(count),
            places: (0..count).collect(),
            role: Role::Champion,
            chunks: Vec::new(),
            standing: self.features.standing(),
            now_us: self.clock.now_us(),
            model: None,
            watch: self.traces.stopwatch().map(Arc::new),
            ids: self.next_ids(count),
        };
        scores.items.resize_with(count, || Item::Refused(Refusal::default()));
        for Rejected { message, reason, detail, .. } in rejected {
            scores.set(message as usize, Item::Refused(Refusal::of_contract(reason.as_str(), &detail)));
        }
        let mut from = 0;
        while from < rows.num_rows() {
            let count = CHUNK_ROWS.min(rows.num_rows() - from);
            let messages = message_of_row.get(from..from + count).unwrap_or_default();
            self.refine_rows(&rows.slice(from, count), messages, &mut scores)?;
            from += count;
        }
        Ok(scores)
    }

    /// Identifiers for so many predictions.
    pub(super) fn next_ids(&self, count: usize) -> Ids {
        let first = self.predictions.fetch_add(count as u64, Ordering::Relaxed);
        Ids { run: Arc::clone(&self.run), first, count, shadow_of: None }
    }

    /// An identifier for a transaction that has none yet.
    #[must_use]
    pub fn new_key(&self) -> String {
        format!("score-{}-{:x}", self.run, self.next_ids(1).first)
    }

    /// A row for which the SQL fails costs no neighbour: it is looked for by halves.
    fn refine_rows(&self, rows: &RecordBatch, messages: &[u32], scores: &mut Scores) -> Result<(), ScoringError> {
        match (self.refine_chunk(rows, messages, scores), messages) {
            (Err(ScoringError::Refine(RefineError::Evaluate { cause, table, .. })), [message]) => {
                scores.set(*message as usize, Item::Refused(Refusal::not_computed(&table, &cause)));
                Ok(())
            }
            (Err(ScoringError::Refine(RefineError::Evaluate { .. })), messages) if messages.len() > 1 => {
                let half = messages.len() / 2;
                let (first, second) = messages.split_at(half);
                self.refine_rows(&rows.slice(0, half), first, scores)?;
                self.refine_rows(&rows.slice(half, second.len()), second, scores)
            }
            (done, _) => done,
        }
    }

    fn refine_chunk(&self, rows: &RecordBatch, messages: &[u32], scores: &mut Scores) -> Result<(), ScoringError> {
        let watch = scores.watch.as_deref();
        let screened = Stopwatch::time(watch, "refine", || self.pipeline.refine(rows, scores.now_us))?;
        let (standing, following) = Stopwatch::time(watch, "rules", || {
            let began_us = self.traces.now_us();
            let fetched = self.features.fetch(&screened.rows);
            if let (Some(watch), Some(_)) = (watch, &fetched) {
                watch.took("features", began_us, self.traces.now_us());
            }
            let source = fetched.as_deref().unwrap_or(self.features.as_ref());
            let following = self.pipeline.follow(&screened.rows, &TimedFeatures { source, watch })?;
            Ok::<_, ScoringError>((fetched.map(|fetched| fetched.standing()), following))
        })?;
        if let Some(standing) = standing {
            scores.standing = standing;
        }
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
        let (sent, silver) = (rows.clone(), screened.rows);
        scores.chunks.push(Chunk { sent, origins, silver, following, answers: Err(String::new()) });
        Ok(())
    }

    /// What is said of a row of a chunk.
    #[must_use]
    pub fn prediction<'a>(&self, scores: &'a Scores, chunk: usize, row: usize) -> Option<Prediction<'a>> {
        let by_model = scores.probability(chunk, row);
        let chunk = scores.chunks.get(chunk)?;
        let transaction_id = key_of(&chunk.silver, self.pipeline.key(), row)?;
        let table = self.rules.and_then(|rules| Some((chunk.following.get(rules.table)?, rules)));
        let rules = table.and_then(|(table, rules)| rules.told(&table.rows, row));
        let threshold = scores.model.as_ref().map_or(1.0, |model| model.threshold());
        let answer = by_model.as_ref().ok().map(|probability| (*probability, threshold));
        let (decided_by, is_fraud, threshold) = decided(answer, rules.as_ref(), self.settings.rule_threshold);
        let degraded = match by_model {
            // The model knows all that it reads, and the rules may not.
            Ok(_) => table.and_then(|(table, _)| table.lacks(row)).map(Cow::Borrowed),
            Err(problem) => Some(Cow::Borrowed(problem)),
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
    /// Asks the version about all rows. `problem` is why there is none.
    pub(super) fn ask(&mut self, problem: Option<&str>) {
        for chunk in &mut self.chunks {
            chunk.answers = match &self.model {
                Some(model) => model.ask(&chunk.silver, &chunk.following),
                None => Err(problem.unwrap_or("no model is loaded").to_owned()),
            };
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

    pub(super) fn told(self, table: &RecordBatch, row: usize) -> Option<RuleScore<'_>> {
        let text = |column: Option<usize>| {
            let column = table.columns().get(column?)?.as_string_opt::<i32>()?;
            (!column.is_null(row)).then(|| column.value(row))
        };
        let score = table.columns().get(self.score)?.as_primitive_opt::<Int32Type>()?;
        Some(RuleScore {
            score: if score.is_null(row) { 0 } else { score.value(row) },
            class: text(self.class).unwrap_or_default().into(),
            reasons: Reasons::new(text(self.reasons).unwrap_or_default()),
        })
    }
}

/// What is known of the past, and how long it takes to find.
struct TimedFeatures<'a> {
    source: &'a dyn FeatureSource,
    watch: Option<&'a Stopwatch>,
}

impl FeatureSource for TimedFeatures<'_> {
    fn added(&self, table: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        Stopwatch::time(self.watch, "features", || self.source.added(table, silver))
    }

    fn standing(&self) -> Standing {
        self.source.standing()
    }
}

/// Who decides, whether it is fraud, and the threshold: by the model's probability and threshold, or else by the rules.
pub(super) fn decided(
    by_model: Option<(f64, f64)>,
    rules: Option<&RuleScore<'_>>,
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
pub(super) fn key_of(silver: &RecordBatch, key: usize, row: usize) -> Option<Cow<'_, str>> {
    let column = silver.columns().get(key)?;
    match column.as_string_opt::<i32>() {
        Some(texts) => Some(texts.value(row).into()),
        None => array_value_to_string(column, row).ok().map(Cow::Owned),
    }
}

pub const FRAUD: &str = "fraud";
pub const LEGITIMATE: &str = "legitimate";

/// A decision in a word.
#[must_use]
pub const fn decision(is_fraud: bool) -> &'static str {
    if is_fraud { FRAUD } else { LEGITIMATE }
}
