//! Rows of the stream, scored by the champion as they come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, PrimitiveArray, RecordBatch, StringBuilder,
};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMicrosecondType};
use serde::Serialize;

use super::pipeline::Followed;
use super::scorer::{Rules, decided, key_of};
use super::{DecidedBy, ModelFollower, Models, RuleScore, ScoringPipeline, ScoringSettings, Served};
use crate::domain::{Clock, TableName, schema};
use crate::model::registry::{CHAMPION, ModelName, Registry, Version};
use crate::pipeline::{PipelineError, Publish, RowScorer};
use crate::telemetry::Metrics;

/// Asks the champion about the rows of a stream, and sends what it says to a topic where one is wanted.
///
/// The champion is chosen when an epoch begins, so one version answers all of it. Where there is none, the columns are
/// NULL, and the messages say what the rules decide.
pub struct StreamScorer {
    pipeline: Arc<ScoringPipeline>,
    models: Arc<Models>,
    settings: ScoringSettings,
    /// Where the registry may answer late: it is followed beside the stream, from the first epoch on.
    follower: Option<ModelFollower>,
    rules: Option<Rules>,
    model: Option<Arc<Served>>,
    /// Whether it stays, wherever the alias goes.
    is_fixed: bool,
    publisher: Option<Box<dyn Publish>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    message: Vec<u8>,
}

/// A message of the topic of predictions, as JSON.
#[derive(Debug, Serialize)]
struct Message<'a> {
    transaction_id: Cow<'a, str>,
    fraud_probability: Option<f64>,
    decision: &'static str,
    decided_by: DecidedBy,
    threshold: f64,
    rules: Option<RuleScore<'a>>,
    model: Option<ModelTold<'a>>,
    source: Source<'a>,
    /// Milliseconds since 1970, as the time of a Kafka message.
    scored_at_ms: i64,
}

#[derive(Debug, Serialize)]
struct ModelTold<'a> {
    name: &'a str,
    version: &'a str,
}

/// Where the transaction came from.
#[derive(Debug, Serialize)]
struct Source<'a> {
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
    timestamp_ms: Option<i64>,
}

/// What the champion says of rows.
struct Said {
    model: Arc<Served>,
    probabilities: Vec<f64>,
    /// Rows whose numbers are too large for it, in order.
    refused: Vec<usize>,
}

impl Said {
    /// `None` when the model cannot be asked, which is logged.
    fn ask(model: &Arc<Served>, silver: &RecordBatch, following: &[Followed]) -> Option<Self> {
        match model.ask(silver, following) {
            Ok(answers) => {
                let refused = answers.encoded.refused.iter().map(|(row, _)| *row).collect();
                Some(Self { model: Arc::clone(model), probabilities: answers.probabilities, refused })
            }
            Err(problem) => {
                tracing::warn!(model = %model.name, version = %model.version, problem, "the model cannot be asked");
                None
            }
        }
    }

    fn of(&self, row: usize) -> Option<f64> {
        let asked = self.refused.binary_search(&row).is_err();
        self.probabilities.get(row).copied().filter(|_| asked)
    }
}

impl StreamScorer {
    /// Of the model of `models`; no version is loaded before the first epoch begins.
    #[must_use]
    pub fn new(
        pipeline: Arc<ScoringPipeline>,
        models: Models,
        settings: ScoringSettings,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rules = Rules::find(&pipeline, &settings.rules);
        // A pipeline that nobody trained for asks no model, and needs no warning in each epoch.
        let models = Arc::new(models.unawaited());
        Self {
            pipeline,
            models,
            settings,
            follower: None,
            rules,
            model: None,
            is_fixed: false,
            publisher: None,
            metrics,
            clock,
            message: Vec::new(),
        }
    }

    /// Chooses the champion of now for all that comes, as a rebuild needs it: its chunks are no epochs.
    ///
    /// # Errors
    /// When the registry cannot be read, or its champion cannot be asked: all rows would lose their answers.
    pub fn with_one_champion(mut self) -> Result<Self, String> {
        let aliases = self.models.registry().aliases(self.models.name()).map_err(|error| error.to_string())?;
        self.models.follow(&self.pipeline);
        let chosen = self.models.chosen();
        if let Some(cause) = chosen.unreadable {
            return Err(cause);
        }
        if let (None, Some(version)) = (&chosen.champion, aliases.get(CHAMPION)) {
            let (name, cause) = (self.models.name(), chosen.problem.unwrap_or_default());
            return Err(format!(
                "the champion {name}@{version} cannot be asked: {cause}; assay rollback {name} returns to the one before"
            ));
        }
        (self.model, self.is_fixed) = (chosen.champion, true);
        Ok(self)
    }

    /// Sends a message for each row, too.
    #[must_use]
    pub fn publishing(mut self, publisher: Box<dyn Publish>) -> Self {
        self.publisher = Some(publisher);
        self
    }

    /// Without a thread, each epoch looks for itself.
    fn follow_beside(&mut self) {
        let (models, pipeline) = (Arc::clone(&self.models), Arc::clone(&self.pipeline));
        let every = Duration::from_millis(self.settings.follow_ms);
        let follower = ModelFollower::start(models, pipeline, every, Arc::clone(&self.metrics), |_| {});
        match follower {
            Ok(follower) => self.follower = Some(follower),
            Err(error) => tracing::warn!(%error, "no thread follows the registry; the stream looks itself"),
        }
    }

    fn publish(
        &mut self,
        silver: &RecordBatch,
        following: &[Followed],
        said: Option<&Said>,
    ) -> Result<(), PipelineError> {
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        let places = Places::of(silver);
        let table = self.rules.and_then(|rules| Some((following.get(rules.table)?, rules)));
        let scored_at_ms = self.clock.now_us() / 1000;
        for row in 0..silver.num_rows() {
            let rules = table.and_then(|(table, rules)| rules.told(&table.rows, row));
            let by_model = said.and_then(|said| Some((said.of(row)?, said.model.threshold())));
            let (decided_by, is_fraud, threshold) = decided(by_model, rules.as_ref(), self.settings.rule_threshold);
            let message = Message {
                transaction_id: key_of(silver, self.pipeline.key(), row).unwrap_or_default(),
                fraud_probability: by_model.map(|(probability, _)| probability),
                decision: super::decision(is_fraud),
                decided_by,
                threshold,
                rules,
                // Of a row that it could not be asked about, it said nothing.
                model: by_model
                    .and(said)
                    .map(|said| ModelTold { name: said.model.name.as_str(), version: said.model.version.as_str() }),
                source: places.at(row),
                scored_at_ms,
            };
            self.message.clear();
            let written = serde_json::to_writer(&mut self.message, &message);
            written.map_err(|error| PipelineError::State(format!("a prediction cannot be written: {error}")))?;
            publisher.publish(places.key(row).or(Some(message.transaction_id.as_bytes())), &self.message)?;
        }
        Ok(())
    }
}

impl RowScorer for StreamScorer {
    fn begin(&mut self) {
        if self.is_fixed {
            return;
        }
        if self.follower.is_none() {
            self.models.follow(&self.pipeline);
            if self.models.registry().is_remote() {
                self.follow_beside();
            }
        }
        self.model = self.models.chosen().champion;
    }

    fn score(&mut self, silver: &RecordBatch, following: &[RecordBatch]) -> Result<Vec<ArrayRef>, PipelineError> {
        let following: Vec<Followed> = following.iter().cloned().map(Followed::known).collect();
        let said = self.model.as_ref().and_then(|model| Said::ask(model, silver, &following));
        self.publish(silver, &following, said.as_ref())?;
        let asked = said.as_ref().map_or(0, |said| silver.num_rows() - said.refused.len());
        self.metrics.stream_scored(asked as u64, (silver.num_rows() - asked) as u64);
        if let Some(oldest_us) = Places::of(silver).oldest_us() {
            self.metrics.stream_score_delay((self.clock.now_us() - oldest_us).max(0) as f64 / 1e6);
        }
        Ok(columns(said.as_ref(), silver.num_rows()))
    }

    fn settle(&mut self) -> Result<(), PipelineError> {
        self.publisher.as_mut().map_or(Ok(()), |publisher| publisher.settle())
    }
}

/// Asks the versions that answered in the epochs of a lake once more.
#[derive(Debug)]
pub struct RecallScorer {
    /// By epoch; one that is not here was answered by none.
    versions: BTreeMap<i64, Arc<Served>>,
}

impl RecallScorer {
    /// Loads the version of each epoch.
    ///
    /// # Errors
    /// In words, when one of them is not there any more, or does not verify.
    pub fn new(
        pipeline: &ScoringPipeline,
        registry: &Registry,
        name: &ModelName,
        versions: &BTreeMap<i64, String>,
    ) -> Result<Self, String> {
        let mut loaded: BTreeMap<&String, Arc<Served>> = BTreeMap::new();
        let mut by_epoch = BTreeMap::new();
        for (epoch, text) in versions {
            if !loaded.contains_key(text) {
                let version = Version::parse(text).map_err(|error| error.to_string())?;
                loaded.insert(text, Arc::new(Served::load(registry, name, &version, pipeline)?));
            }
            by_epoch.extend(loaded.get(text).map(|served| (*epoch, Arc::clone(served))));
        }
        Ok(Self { versions: by_epoch })
    }
}

impl RowScorer for RecallScorer {
    fn begin(&mut self) {}

    fn score(&mut self, silver: &RecordBatch, following: &[RecordBatch]) -> Result<Vec<ArrayRef>, PipelineError> {
        let epochs = silver.column_by_name(schema::EPOCH).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let epochs = epochs.ok_or_else(|| PipelineError::State(format!("silver has no column {}", schema::EPOCH)))?;
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        for run in epochs.values().chunk_by(|one, other| one == other) {
            let from = parts.iter().filter_map(|part| part.first()).map(|column| column.len()).sum();
            let silver = silver.slice(from, run.len());
            let following: Vec<Followed> =
                following.iter().map(|rows| Followed::known(rows.slice(from, run.len()))).collect();
            let model = run.first().and_then(|epoch| self.versions.get(epoch));
            let said = model.and_then(|model| Said::ask(model, &silver, &following));
            parts.push(columns(said.as_ref(), run.len()));
        }
        let column = |index: usize| {
            let parts: Vec<&dyn Array> = parts.iter().filter_map(|part| Some(part.get(index)?.as_ref())).collect();
            arrow::compute::concat(&parts)
        };
        Ok((0..schema::model_columns().len()).map(column).collect::<Result<_, _>>()?)
    }

    fn settle(&mut self) -> Result<(), PipelineError> {
        Ok(())
    }
}

impl std::fmt::Debug for StreamScorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamScorer").field("model", self.models.name()).finish_non_exhaustive()
    }
}

/// The columns of [`schema::model_columns`].
fn columns(said: Option<&Said>, rows: usize) -> Vec<ArrayRef> {
    let mut probabilities = Float64Builder::with_capacity(rows);
    let mut decisions = BooleanBuilder::with_capacity(rows);
    let mut versions = StringBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        let answer = said.and_then(|said| Some((said.of(row)?, &said.model)));
        probabilities.append_option(answer.map(|(probability, _)| probability));
        decisions.append_option(answer.map(|(probability, model)| probability >= model.threshold()));
        versions.append_option(answer.map(|(_, model)| model.version.as_str()));
    }
    vec![Arc::new(probabilities.finish()), Arc::new(decisions.finish()), Arc::new(versions.finish())]
}

/// The provenance of rows of silver, as far as its SQL selects it.
struct Places<'a> {
    topics: Option<&'a arrow::array::StringArray>,
    partitions: Option<&'a PrimitiveArray<Int32Type>>,
    offsets: Option<&'a PrimitiveArray<Int64Type>>,
    times: Option<&'a PrimitiveArray<TimestampMicrosecondType>>,
    keys: Option<&'a arrow::array::BinaryArray>,
}

impl<'a> Places<'a> {
    fn of(silver: &'a RecordBatch) -> Self {
        fn numbers<'a, T: ArrowPrimitiveType>(silver: &'a RecordBatch, name: &str) -> Option<&'a PrimitiveArray<T>> {
            silver.column_by_name(name)?.as_primitive_opt()
        }
        Self {
            topics: silver.column_by_name(schema::SOURCE_TOPIC).and_then(|column| column.as_string_opt()),
            partitions: numbers(silver, schema::SOURCE_PARTITION),
            offsets: numbers(silver, schema::SOURCE_OFFSET),
            times: numbers(silver, schema::SOURCE_AT),
            keys: silver.column_by_name(schema::SOURCE_KEY).and_then(|column| column.as_binary_opt()),
        }
    }

    fn at(&self, row: usize) -> Source<'a> {
        fn number<T: ArrowPrimitiveType>(column: Option<&PrimitiveArray<T>>, row: usize) -> Option<T::Native> {
            column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
        }
        Source {
            topic: self.topics.filter(|topics| topics.is_valid(row)).map(|topics| topics.value(row)),
            partition: number(self.partitions, row),
            offset: number(self.offsets, row),
            timestamp_ms: number(self.times, row).map(|at_us| at_us / 1000),
        }
    }

    fn key(&self, row: usize) -> Option<&'a [u8]> {
        self.keys.filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row))
    }

    fn oldest_us(&self) -> Option<i64> {
        arrow::compute::min(self.times?)
    }
}

/// The model that a table of the plan names in its header; `None` where none does.
#[must_use]
pub fn streamed_model(plan: &crate::pipeline::Plan) -> Option<(&TableName, &str)> {
    plan.rows.iter().find_map(|def| Some((&def.table, def.model.as_deref()?)))
}

#[cfg(test)]
mod tests;
