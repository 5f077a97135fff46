use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use rayon::prelude::*;

use super::columns::{Column, Inputs, Kind, Sources};
use super::entity::{Entities, Span};
use super::plan::Plan;
use super::{Feature, Keys};
use crate::domain::{History, HistoryError};

/// The keyed state of a set of features: what is known of each entity when a row comes.
///
/// It is a cache of the [`History`]: each part holds every row from some event time on. A row that needs older ones has
/// them loaded; what no row has needed for a while is forgotten. For a few rows that are weeks older than what is held,
/// their entities are looked up apart. So late rows of any age get the right values, and cost a look into the past.
///
/// Memory by entity: about 300 bytes for those of a dozen features, 8 to 24 for each event of the last hour, each pane of
/// hours and days that has a row, each different value, and each of the last events. Whole numbers are told apart for
/// certain, texts as a keyed 64-bit hash.
#[derive(Debug)]
pub struct Features {
    names: Vec<String>,
    keys: Keys,
    sources: Sources,
    kinds: Vec<Kind>,
    nullable: Vec<bool>,
    entities: Vec<Entities>,
    turn: Turn,
    /// Rows that look back further than this before what is held are [`Far`].
    far_us: i64,
    declared: Vec<Feature>,
    /// How many of them are counts over any time.
    counts: usize,
    schema: SchemaRef,
    event_time: String,
}

/// How old rows are, over the last turns: what they need is kept.
#[derive(Debug)]
struct Turn {
    length: usize,
    rows: usize,
    oldest_us: i64,
    oldest_before_us: i64,
    /// Rows from here on may be looked up, whether any came or not.
    held_us: i64,
}

/// Rows after which is looked at what is not needed any more.
const TURN_ROWS: usize = 1 << 20;
/// What is held is widened by so much for a late row. For one that is older, such as one of a clock that is years off,
/// its entities alone are looked up: all that came since would not fit into memory.
const FAR_US: i64 = 7 * 86_400_000_000;
/// When more than this part of a batch is old, it is no odd row: old rows are being loaded.
const FAR_SHARE: usize = 64;

impl Features {
    /// For batches with these columns.
    ///
    /// `hash_key` belongs to the lake, so that nobody can choose keys that meet.
    ///
    /// # Errors
    /// In words, when a declaration does not fit the columns or its own parts.
    pub fn new(declared: &[Feature], schema: &SchemaRef, event_time: &str, hash_key: [u8; 16]) -> Result<Self, String> {
        Self::with_counts(declared, 0, schema, event_time, hash_key)
    }

    /// As [`Features::new`], where the first `counts` of the declarations may be exact over any time.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn with_counts(
        declared: &[Feature],
        counts: usize,
        schema: &SchemaRef,
        event_time: &str,
        hash_key: [u8; 16],
    ) -> Result<Self, String> {
        let plan = Plan::new(declared, counts, schema, event_time)?;
        Ok(Self {
            names: declared.iter().map(|feature| feature.column.clone()).collect(),
            keys: Keys::new(hash_key),
            sources: plan.sources,
            kinds: plan.kinds,
            nullable: plan.nullable,
            entities: plan.entities.into_iter().map(Entities::new).collect(),
            turn: Turn {
                length: TURN_ROWS,
                rows: 0,
                oldest_us: i64::MAX,
                oldest_before_us: i64::MAX,
                held_us: i64::MAX,
            },
            far_us: FAR_US,
            declared: declared.to_vec(),
            counts,
            schema: Arc::clone(schema),
            event_time: event_time.to_owned(),
        })
    }

    /// Forgets after so many rows, and rows are far after so much time, so that tests see it.
    #[cfg(test)]
    pub(super) fn bounded(mut self, turn_rows: usize, far_us: i64) -> Self {
        (self.turn.length, self.far_us) = (turn_rows, far_us);
        self
    }

    /// The columns that it reads of a batch, the event time first.
    #[must_use]
    pub fn reads(&self) -> Vec<String> {
        self.sources.names().into_iter().map(str::to_owned).collect()
    }

    /// The columns, in the order of their declarations. A feature of a row without entity or event time is NULL.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let fields = self.names.iter().zip(&self.kinds).zip(&self.nullable);
        fields.map(|((name, kind), nullable)| Field::new(name, kind.data_type(), *nullable)).collect()
    }

    /// The values of a batch, row by row, and records it: each row sees those before it.
    ///
    /// `history` must hold the rows of all earlier batches and none of this one. When the batch does not get into the
    /// history after all, call [`forget`](Self::forget).
    ///
    /// # Errors
    /// When the past cannot be read or the batch is not of the source; everything is forgotten then.
    pub fn compute(&mut self, batch: &RecordBatch, history: &dyn History) -> Result<Vec<ArrayRef>, HistoryError> {
        let inputs = self.inputs(batch)?;
        let mut out = self.columns(batch.num_rows());
        let far = self.far(&inputs);
        let near_from_us = far.as_ref().map_or(i64::MIN, |far| far.before_us);
        let near = inputs.timed().map(|(_, at_us)| at_us).filter(|at_us| *at_us >= near_from_us);
        let oldest_us = near.min();
        if let Some(oldest_us) = oldest_us {
            self.cover(oldest_us, history)?;
        }
        // Also where all rows are far: what is far for one memory may be held by another, which must not miss the row.
        for entities in &mut self.entities {
            entities.pass(&inputs, near_from_us, &mut out);
        }
        if let Some(oldest_us) = oldest_us {
            self.turn(oldest_us, batch.num_rows());
        }
        self.compute_far(&inputs, far, history, out)
    }

    /// The values that each row would get if it came now, alone; nothing is recorded or loaded, so that rows older than
    /// what is held look back on less.
    ///
    /// # Errors
    /// When the batch is not of the source.
    pub fn lookup(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, HistoryError> {
        let inputs = self.inputs(batch)?;
        let mut out = self.columns(batch.num_rows());
        for entities in &self.entities {
            entities.read(&inputs, &mut out);
        }
        Ok(finish(out))
    }

    /// Loads what rows at `at_us` need, so that the first one does not wait.
    ///
    /// # Errors
    /// When the past cannot be read; everything is forgotten then.
    pub fn warm_up(&mut self, at_us: i64, history: &dyn History) -> Result<(), HistoryError> {
        self.cover(at_us, history)
    }

    /// Loads what rows at `at_us` need, and keeps it for lookups until a later instant is held.
    ///
    /// # Errors
    /// When the past cannot be read; everything is forgotten then.
    pub fn hold(&mut self, at_us: i64, history: &dyn History) -> Result<(), HistoryError> {
        self.turn.held_us = at_us;
        self.cover(at_us, history)
    }

    /// How far a row may look back.
    #[must_use]
    pub fn reach_us(&self) -> i64 {
        self.entities.iter().map(Entities::reach_us).max().unwrap_or(0)
    }

    /// The key of each row's entity, for each kind of entity; none where a row has none, or no event time.
    ///
    /// # Errors
    /// When the batch is not of the source.
    pub fn keys(&self, batch: &RecordBatch) -> Result<Vec<Vec<Option<u64>>>, HistoryError> {
        let inputs = self.inputs(batch)?;
        Ok(self.entities.iter().map(|entities| entities.keys(&inputs)).collect())
    }

    /// The keys of all entities that are known, for each kind.
    #[must_use]
    pub fn known_keys(&self) -> Vec<Vec<u64>> {
        self.entities.iter().map(|entities| entities.known().collect()).collect()
    }

    /// Appends what is known of an entity as bytes, for [`Features::restore`].
    pub fn state(&self, kind: usize, key: u64, out: &mut Vec<u8>) {
        if let Some(entities) = self.entities.get(kind) {
            entities.state(key, out);
        }
    }

    /// Knows of an entity what [`Features::state`] of the same declarations said. To be [looked up](Self::lookup) only:
    /// whose state was not restored is a stranger.
    ///
    /// # Errors
    /// In words, when the bytes are no state of these declarations; nothing is known of the entity then.
    pub fn restore(&mut self, kind: usize, key: u64, state: &[u8]) -> Result<(), String> {
        self.entities.get_mut(kind).ok_or("there is no such kind of entity")?.restore(key, state)
    }

    /// Forgets everything; it is loaded again when needed.
    pub fn forget(&mut self) {
        self.entities.iter_mut().for_each(Entities::forget);
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entities.iter().map(Entities::bytes).sum()
    }

    /// How many users, merchants, ... are known, all together.
    #[must_use]
    pub fn known(&self) -> usize {
        self.entities.iter().map(Entities::len).sum()
    }

    /// The rows that are so much older than what is held that it is not widened for them, when they are few.
    fn far(&self, inputs: &Inputs) -> Option<Far> {
        let before_us = self.entities.iter().map(|entities| entities.reaches(self.far_us)).max()?;
        let rows: Vec<usize> = inputs.timed().filter(|(_, at_us)| *at_us < before_us).map(|(row, _)| row).collect();
        (!rows.is_empty() && rows.len() <= inputs.len() / FAR_SHARE + 1).then_some(Far { rows, before_us })
    }

    /// The values of far rows: of their entities alone, all that came since is loaded, and forgotten again.
    fn compute_far(
        &mut self,
        inputs: &Inputs,
        far: Option<Far>,
        history: &dyn History,
        mut out: Vec<Column>,
    ) -> Result<Vec<ArrayRef>, HistoryError> {
        let Some(Far { rows, .. }) = far else { return Ok(finish(out)) };
        let oldest_us = rows.iter().map(|row| inputs.times.value(*row)).min().unwrap_or(i64::MAX);
        let mut values = self.columns(inputs.len());
        let looked_up = self.apart().and_then(|mut apart| {
            apart.entities.iter_mut().for_each(|entities| entities.know_only(inputs, &rows));
            apart.cover(oldest_us, history)?;
            apart.entities.iter_mut().for_each(|entities| entities.pass(inputs, i64::MIN, &mut values));
            Ok(())
        });
        if looked_up.is_err() {
            self.forget();
        }
        looked_up?;
        for (column, values) in out.iter_mut().zip(&values) {
            rows.iter().for_each(|row| column.take(*row, values));
        }
        Ok(finish(out))
    }

    /// The same features without a memory.
    fn apart(&self) -> Result<Self, HistoryError> {
        let apart = Self::with_counts(&self.declared, self.counts, &self.schema, &self.event_time, [0; 16]);
        let mut apart = apart.map_err(unreadable)?;
        apart.keys = self.keys.clone();
        Ok(apart)
    }

    fn inputs(&self, batch: &RecordBatch) -> Result<Inputs, HistoryError> {
        self.sources.read(batch, &self.keys).map_err(unreadable)
    }

    fn columns(&self, rows: usize) -> Vec<Column> {
        self.kinds.iter().map(|kind| Column::new(*kind, rows)).collect()
    }

    /// Loads what rows from `oldest_us` on need and is not there, in one pass over the past.
    fn cover(&mut self, oldest_us: i64, history: &dyn History) -> Result<(), HistoryError> {
        let spans: Vec<Vec<Span>> = self.entities.iter().map(|entities| entities.lacking(oldest_us)).collect();
        let lacking = spans.iter().flatten().filter(|span| !span.is_empty());
        let from_us = lacking.clone().map(|span| span.start).min();
        let to_us = lacking.map(|span| span.end).max();
        let (Some(from_us), Some(to_us)) = (from_us, to_us) else { return Ok(()) };
        if history.may_contain(from_us, to_us) {
            let loaded = self.load(from_us..to_us, &spans, history);
            if loaded.is_err() {
                self.forget();
                return loaded;
            }
        }
        self.entities.iter_mut().zip(&spans).for_each(|(entities, spans)| entities.loaded(spans));
        Ok(())
    }

    fn load(&mut self, all: Span, spans: &[Vec<Span>], history: &dyn History) -> Result<(), HistoryError> {
        let names: Vec<String> = self.sources.names().into_iter().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut failed = None;
        history.visit(all.start, all.end, &names, &mut |batch| match self.inputs(&batch) {
            Ok(inputs) => {
                let entities = self.entities.par_iter_mut().zip(spans);
                entities.for_each(|(entities, spans)| entities.load(&inputs, spans));
                true
            }
            Err(error) => {
                failed = Some(error);
                false
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn turn(&mut self, oldest_us: i64, rows: usize) {
        self.turn.oldest_us = self.turn.oldest_us.min(oldest_us);
        self.turn.rows += rows;
        if self.turn.rows < self.turn.length {
            return;
        }
        let needed_us = self.turn.oldest_us.min(self.turn.oldest_before_us).min(self.turn.held_us);
        self.entities.iter_mut().for_each(|entities| entities.trim(needed_us));
        self.turn.oldest_before_us = std::mem::replace(&mut self.turn.oldest_us, i64::MAX);
        self.turn.rows = 0;
    }
}

/// Rows of a batch before an instant.
struct Far {
    rows: Vec<usize>,
    before_us: i64,
}

fn unreadable(cause: String) -> HistoryError {
    HistoryError { table: "the rows of which features are made".into(), cause }
}

fn finish(columns: Vec<Column>) -> Vec<ArrayRef> {
    columns.into_iter().map(Column::finish).collect()
}
