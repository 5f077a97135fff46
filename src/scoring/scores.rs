//! What became of transactions that were scored together by one version.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use serde::{Serialize, Serializer};

use super::pipeline::Followed;
use super::served::Answers;
use super::{Served, Standing};
use crate::refine::EVALUATES;
use crate::telemetry::traces::Stopwatch;

/// What came together keeps its batches: about so much beside its rows.
const ROUND_BYTES: usize = 16 << 10;
const ROW_BYTES: usize = 2 << 10;

/// As what a version answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// For all that nobody else answers for; the rules, where there is none.
    Champion,
    /// For a share of the users.
    Challenger,
    /// For a request that named it.
    Pinned,
    /// For nobody: it is asked what the champion was asked.
    Shadow,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Challenger => "challenger",
            Self::Pinned => "pinned",
            Self::Shadow => "shadow",
        }
    }
}

/// What one version says of transactions that came together, or of some of them.
#[derive(Debug)]
pub struct Scores {
    pub items: Vec<Item>,
    /// Of each item its place among the transactions that came together.
    pub places: Vec<usize>,
    pub role: Role,
    pub model: Option<Arc<Served>>,
    pub standing: Standing,
    pub now_us: i64,
    /// What their parts took, where somebody wants to know.
    pub watch: Option<Arc<Stopwatch>>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) ids: Ids,
}

/// What identifies the predictions of transactions that came together.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    /// Of the process.
    pub run: Arc<str>,
    /// Of the first transaction.
    pub first: u64,
    /// How many came together.
    pub count: usize,
    /// Of the first answer whose shadow they are.
    pub shadow_of: Option<u64>,
}

#[derive(Debug, Clone)]
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
    /// For each row of silver that of `sent`, and its place among those that came.
    pub origins: Vec<(u32, usize)>,
    pub silver: RecordBatch,
    pub following: Vec<Followed>,
    /// What the model says; why it does not.
    pub answers: Result<Answers, String>,
}

impl Chunk {
    /// Some of its rows, in ascending order, of which nobody was asked yet.
    pub fn take(&self, rows: &[usize]) -> Result<Self, ArrowError> {
        let answers = Err("no model was asked".to_owned());
        if rows.len() == self.silver.num_rows() {
            let (sent, silver, following) = (self.sent.clone(), self.silver.clone(), self.following.clone());
            return Ok(Self { sent, origins: self.origins.clone(), silver, following, answers });
        }
        let numbers: UInt32Array = rows.iter().map(|row| u32::try_from(*row).ok()).collect();
        let origins: Vec<(u32, usize)> = rows.iter().filter_map(|row| self.origins.get(*row).copied()).collect();
        // Not the whole: what waits for its receipt is counted by its own rows.
        let sent: UInt32Array = origins.iter().map(|(row, _)| *row).collect();
        Ok(Self {
            sent: take_record_batch(&self.sent, &sent)?,
            origins: (0..).zip(origins).map(|(row, (_, place))| (row, place)).collect(),
            silver: take_record_batch(&self.silver, &numbers)?,
            following: self.following.iter().map(|table| table.take(rows, &numbers)).collect::<Result<_, _>>()?,
            answers,
        })
    }
}

/// What is said of one transaction, for as long as its [`Scores`] are there.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction<'a> {
    pub transaction_id: Cow<'a, str>,
    /// Absent where no model answers.
    pub fraud_probability: Option<f64>,
    pub is_fraud: bool,
    pub decided_by: DecidedBy,
    /// Of the model on its probability, or of the rules on their score.
    pub threshold: f64,
    pub rules: Option<RuleScore<'a>>,
    /// Why the answer is not the model's, or not from all that it should know.
    pub degraded: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleScore<'a> {
    pub score: i32,
    pub class: Cow<'a, str>,
    pub reasons: Reasons<'a>,
}

/// Why there are points, as the SQL of the rules writes it: some texts with `; ` between them.
#[derive(Debug, Clone)]
pub struct Reasons<'a>(Cow<'a, str>);

impl Scores {
    /// None of these transactions yet, for another version.
    pub(super) fn apart(&self, role: Role, model: Option<Arc<Served>>) -> Self {
        let (standing, now_us) = (self.standing, self.now_us);
        let (ids, chunks) = (self.ids.clone(), Vec::new());
        let watch = self.watch.as_ref().map(|watch| Arc::new(watch.apart()));
        Self { items: Vec::new(), places: Vec::new(), role, model, standing, now_us, watch, chunks, ids }
    }

    /// Takes on the transactions of a chunk.
    pub(super) fn push(&mut self, chunk: Chunk) {
        let number = self.chunks.len();
        for (row, (_, place)) in chunk.origins.iter().enumerate() {
            self.items.push(Item::Scored { chunk: number, row });
            self.places.push(*place);
        }
        self.chunks.push(chunk);
    }

    /// What the model says of a row.
    ///
    /// # Errors
    /// Why it says nothing, in words.
    pub fn probability(&self, chunk: usize, row: usize) -> Result<f64, &str> {
        const NONE: &str = "no model is loaded";
        let chunk = self.chunks.get(chunk).ok_or(NONE)?;
        let answers = chunk.answers.as_ref().map_err(String::as_str)?;
        let model = self.model.as_ref().ok_or(NONE)?;
        if let Some(cause) = model.lacks(&chunk.following, row) {
            return Err(cause);
        }
        if answers.encoded.refused.binary_search_by_key(&row, |(row, _)| *row).is_ok() {
            return Err("a number is too large for the model");
        }
        let told = answers.probabilities.get(row).copied().filter(|told| told.is_finite());
        told.ok_or("the model gave no probability")
    }

    /// Finds what moved the model's answer for all rows at once, of which [`Self::contributions`] tells afterwards.
    pub fn contribute(&mut self) {
        let Some(model) = &self.model else { return };
        self.chunks
            .iter_mut()
            .filter_map(|chunk| chunk.answers.as_mut().ok())
            .for_each(|answers| model.contribute(answers));
    }

    /// What moved the model's answer for a row most; empty where the model does not answer.
    #[must_use]
    pub fn contributions(&self, chunk: usize, row: usize, most: usize) -> Vec<(&str, f32, f64)> {
        let answers = self.chunks.get(chunk).and_then(|chunk| chunk.answers.as_ref().ok());
        let (Some(model), Some(answers)) = (&self.model, answers) else { return Vec::new() };
        let named =
            |(feature, value, part): (usize, f32, f64)| Some((model.features().get(feature)?.as_str(), value, part));
        model.contributions(answers, row, most).into_iter().filter_map(named).collect()
    }

    /// The features of a row, in the model's order; `None` where the model was not asked.
    #[must_use]
    pub fn features(&self, chunk: usize, row: usize) -> Option<&[f32]> {
        let model = self.model.as_ref()?;
        let answers = self.chunks.get(chunk)?.answers.as_ref().ok()?;
        answers.encoded.values.chunks_exact(model.width().max(1)).nth(row)
    }

    /// As [`Self::features`], each with its name; empty where the model was not asked.
    pub fn named_features(&self, chunk: usize, row: usize) -> impl Iterator<Item = (&str, f32)> {
        let names = self.model.iter().flat_map(|model| model.features()).map(String::as_str);
        names.zip(self.features(chunk, row).unwrap_or_default().iter().copied())
    }

    /// Seconds since the epoch of the features was published; `None` before the first.
    #[must_use]
    pub fn features_age_s(&self) -> Option<f64> {
        self.standing.published_at_us.map(|at| (self.now_us.saturating_sub(at)) as f64 / 1e6)
    }

    /// What identifies the prediction of a row, among all of all processes.
    #[must_use]
    pub fn prediction_id(&self, chunk: usize, row: usize) -> String {
        let mut id = String::with_capacity(self.ids.run.len() + 17);
        // A string takes everything.
        let _ = self.write_prediction_id(chunk, row, &mut id);
        id
    }

    /// As [`Self::prediction_id`], at the end of some text.
    ///
    /// # Errors
    /// Those of the text.
    pub fn write_prediction_id(&self, chunk: usize, row: usize, into: &mut impl Write) -> std::fmt::Result {
        self.write_id(self.ids.first, chunk, row, into)
    }

    /// The answer whose shadow the prediction of a row is.
    #[must_use]
    pub fn shadow_of(&self, chunk: usize, row: usize) -> Option<String> {
        let first = self.ids.shadow_of?;
        let mut id = String::new();
        self.write_id(first, chunk, row, &mut id).ok().map(|()| id)
    }

    fn write_id(&self, first: u64, chunk: usize, row: usize, into: &mut impl Write) -> std::fmt::Result {
        let place = self.chunks.get(chunk).and_then(|chunk| chunk.origins.get(row)).map_or(0, |(_, place)| *place);
        into.write_str(&self.ids.run)?;
        write!(into, "-{:x}", first + place as u64)
    }

    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Rows that were scored.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.silver.num_rows()).sum()
    }

    /// About so much memory is held by them.
    pub(super) fn bytes(&self) -> usize {
        // A feature's value and its contribution.
        let features = self.model.as_ref().map_or(0, |model| model.width() * 12);
        ROUND_BYTES + self.rows() * (ROW_BYTES + features)
    }

    pub(super) fn set(&mut self, message: usize, item: Item) {
        if let Some(place) = self.items.get_mut(message) {
            *place = item;
        }
    }
}

impl Refusal {
    pub(super) fn not_computed(table: &str, cause: &str) -> Self {
        let detail = format!("{table} cannot be computed for the transaction: {cause}");
        Self { fields: Vec::new(), code: EVALUATES.to_owned(), broken: vec![EVALUATES.to_owned()], detail }
    }

    /// The decoder names the field first.
    pub(super) fn of_contract(code: &str, detail: &str) -> Self {
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

impl Prediction<'_> {
    /// One that outlives the scores.
    #[must_use]
    pub fn into_owned(self) -> Prediction<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Prediction {
            transaction_id: owned(self.transaction_id),
            fraud_probability: self.fraud_probability,
            is_fraud: self.is_fraud,
            decided_by: self.decided_by,
            threshold: self.threshold,
            rules: self.rules.map(|RuleScore { score, class, reasons }| RuleScore {
                score,
                class: owned(class),
                reasons: Reasons(owned(reasons.0)),
            }),
            degraded: self.degraded.map(owned),
        }
    }
}

impl<'a> Reasons<'a> {
    pub(super) fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self(text.into())
    }

    /// As they were written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split("; ").filter(|reason| !reason.is_empty())
    }
}

impl PartialEq for Reasons<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Reasons<'_> {}

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
