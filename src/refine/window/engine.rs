//! All window tables of one source, kept together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use crossbeam_channel::bounded;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::changes::{TableChanges, TakePart, changes_of};
use super::error::WindowError;
use super::evaluate::{Computed, Evaluated, Evaluator, Form};
use super::intern::{Interner, Marks};
use super::numbers::fits_i128;
use super::pane::{DistinctFeed, Feeds, Pane, SlotFeed, Used};
use super::plan::{Keeps, WindowTable};
use super::state::TableState;
use crate::domain::History;

/// Codes in all interners before the first sweep is worth its time.
const SWEEP_CODES_MIN: usize = 1 << 17;

/// Batches of the history that are read ahead.
const BATCHES_AHEAD: usize = 4;

/// Bounds of the window engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowSettings {
    /// A closed window leaves memory when the watermark has moved so far, in seconds, without a late row in it. One that
    /// comes after all reads the window from silver again.
    pub closed_idle_s: u32,
    /// Bytes of closed windows kept in memory, whatever comes. Late rows spread over more than that read their windows
    /// from silver again and again.
    pub closed_bytes_max: usize,
}

impl Default for WindowSettings {
    fn default() -> Self {
        Self { closed_idle_s: 600, closed_bytes_max: 1 << 30 }
    }
}

/// Keeps all window tables of one source, exactly and incrementally.
///
/// An epoch is any number of [`update`](Self::update)s and one [`finish`](Self::finish). What is in memory is a cache
/// of the source's history. After an error the epoch cannot be finished: make a new engine.
#[derive(Debug)]
pub struct WindowEngine {
    settings: WindowSettings,
    evaluator: Evaluator,
    interners: Vec<Interner>,
    tables: Vec<TableState>,
    /// The watermark at which the epoch began.
    watermark: Option<i64>,
    warm: bool,
    tick: u64,
    /// Sweep when the interners have this many codes.
    sweep_at: usize,
    /// Panes that late rows needed and that were read from the history again.
    reloaded: u64,
}

/// Which panes of a table are to be loaded.
enum Wanted {
    From(i64),
    These(BTreeSet<i64>),
}

impl Wanted {
    fn panes(&self) -> u64 {
        match self {
            Self::From(_) => 0,
            Self::These(panes) => panes.len() as u64,
        }
    }
}

impl WindowEngine {
    /// An engine with nothing in memory.
    ///
    /// # Errors
    /// [`WindowError::MixedSources`] when the tables do not share source and event time.
    pub fn new(tables: Vec<WindowTable>, settings: WindowSettings) -> Result<Self, WindowError> {
        if let Some(first) = tables.first() {
            let shared = |table: &WindowTable| table.source == first.source && table.event_time == first.event_time;
            if let Some(other) = tables.iter().find(|table| !shared(table)) {
                return Err(WindowError::MixedSources {
                    left: first.table.to_string(),
                    right: other.table.to_string(),
                });
            }
        }
        let mut columns = tables.iter().flat_map(WindowTable::columns).collect::<Vec<_>>();
        columns.sort_unstable();
        columns.dedup();
        let (schema, event_time) = match tables.first() {
            Some(first) => (Arc::clone(&first.source_schema), first.event_time.clone()),
            None => {
                let time = arrow::datatypes::Field::new("event_at", crate::domain::schema::timestamp(), false);
                (Arc::new(arrow::datatypes::Schema::new(vec![time])), "event_at".to_owned())
            }
        };
        let mut evaluator = Evaluator::new(&schema, &event_time, &columns)?;
        let mut interners = Vec::new();
        let mut states = Vec::with_capacity(tables.len());
        for table in tables {
            let feeds = feeds(&table, &mut evaluator, &mut interners)?;
            states.push(TableState::new(table, feeds));
        }
        Ok(Self {
            settings,
            evaluator,
            interners,
            tables: states,
            watermark: None,
            warm: false,
            tick: 0,
            sweep_at: SWEEP_CODES_MIN,
            reloaded: 0,
        })
    }

    pub fn tables(&self) -> impl Iterator<Item = &WindowTable> {
        self.tables.iter().map(|state| &state.table)
    }

    /// The columns that are asked of the history; the event time is the first.
    #[must_use]
    pub fn source_columns(&self) -> Vec<String> {
        self.evaluator.column_names()
    }

    /// The bytes of all state, estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let interners: usize = self.interners.iter().map(Interner::bytes).sum();
        interners + self.tables.iter().map(TableState::bytes).sum::<usize>()
    }

    /// The bytes of each table's state, and of the strings that they share, estimated.
    pub fn bytes_by_table(&self) -> impl Iterator<Item = (String, usize)> {
        let shared = self.interners.iter().map(Interner::bytes).sum();
        let tables = self.tables.iter().map(|state| (state.table.table.to_string(), state.bytes()));
        tables.chain(std::iter::once(("strings of windows".to_owned(), shared)))
    }

    /// How often, since the start, a late row fell in a pane that was no longer in memory. Each such pane is read from
    /// the history whole: when this grows, [`WindowSettings::closed_bytes_max`] is too small for the late rows that come.
    #[must_use]
    pub fn panes_reloaded(&self) -> u64 {
        self.reloaded
    }

    /// Loads the windows that are open at `watermark` (all, when there is none yet) from the history: after a start.
    ///
    /// The first [`update`](Self::update) does it when nobody has; without it the rows of open windows which see no
    /// new rows would be missing from the next `open`.
    ///
    /// # Errors
    /// When the history cannot be read or its rows cannot be evaluated.
    pub fn warm_up(&mut self, history: &dyn History, watermark: Option<i64>) -> Result<(), WindowError> {
        let from = self.tables.iter().map(|state| state.first_open(watermark));
        let wanted = from.enumerate().map(|(table, from)| (table, Wanted::From(from))).collect::<BTreeMap<_, _>>();
        for state in &mut self.tables {
            state.panes.clear();
            state.complete_from = i64::MAX;
        }
        self.load(history, &wanted)?;
        for (state, wanted) in self.tables.iter_mut().zip(wanted.values()) {
            if let Wanted::From(from) = wanted {
                state.complete_from = *from;
            }
        }
        self.watermark = watermark;
        self.warm = true;
        Ok(())
    }

    /// Takes in rows of the source. `history` holds all rows of earlier calls and none of `rows`;
    /// `watermark_before` is that at which the epoch began, the same in all its updates.
    ///
    /// # Errors
    /// When the history cannot be read, or an expression fails on a row.
    pub fn update(
        &mut self,
        rows: &RecordBatch,
        history: &dyn History,
        watermark_before: Option<i64>,
    ) -> Result<(), WindowError> {
        if !self.warm {
            self.warm_up(history, watermark_before)?;
        }
        self.watermark = watermark_before.max(self.watermark);
        self.tick += 1;
        let rows = self.evaluator.project(rows)?;
        self.take_in(&rows, history)?;
        if self.codes() > self.sweep_at {
            self.sweep();
        }
        Ok(())
    }

    /// Ends the epoch: one [`TableChanges`] for each table, in the order in which they were given.
    ///
    /// # Errors
    /// [`WindowError::Result`] when a result does not fit its type.
    pub fn finish(&mut self, watermark_after: Option<i64>) -> Result<Vec<TableChanges>, WindowError> {
        self.finish_in_parts(watermark_after, true, usize::MAX, &mut |_, _, _| {})
    }

    /// As [`finish`](Self::finish), with no more than `part_rows` rows of a table in memory at a time: `take` gets those
    /// of each full part, in order, and what is returned is the rest.
    ///
    /// A caller that asks for the open windows only at its last epoch has them left out until then, by `with_open`.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_in_parts(
        &mut self,
        watermark_after: Option<i64>,
        with_open: bool,
        part_rows: usize,
        take: &mut TakePart<'_>,
    ) -> Result<Vec<TableChanges>, WindowError> {
        let after = watermark_after.max(self.watermark);
        let mut changes = Vec::with_capacity(self.tables.len());
        for state in &mut self.tables {
            let name = state.table.table.clone();
            let mut take = |phase, rows| take(&name, phase, rows);
            changes.push(changes_of(state, self.watermark..after, with_open, &self.interners, part_rows, &mut take)?);
            state.rest(after, &self.interners);
        }
        self.watermark = after;
        self.evict()?;
        if self.codes() > self.sweep_at {
            self.sweep();
        }
        Ok(changes)
    }

    /// Table and number of every pane in memory.
    #[cfg(test)]
    pub(super) fn panes(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.tables.iter().enumerate().flat_map(|(table, state)| state.panes.keys().map(move |pane| (table, *pane)))
    }

    fn take_in(&mut self, rows: &RecordBatch, history: &dyn History) -> Result<(), WindowError> {
        let batches = self.evaluator.evaluate(rows, &mut self.interners)?;
        let mut panes = Vec::with_capacity(self.tables.len());
        let mut missing = BTreeMap::new();
        for (number, state) in self.tables.iter().enumerate() {
            let batch = &batches[state.feeds.context];
            let touched = state.partition(&batch.times, |_| true);
            let absent = touched.keys().flat_map(|pane| state.missing_around(*pane)).collect::<BTreeSet<_>>();
            if !absent.is_empty() {
                missing.insert(number, Wanted::These(absent));
            }
            panes.push(touched);
        }
        if !missing.is_empty() {
            let clusters = self.clusters(&panes);
            if clusters.len() > 1 {
                // One after the other, so that no more than one needs to be in memory.
                let times = rows.column(0).as_primitive::<TimestampMicrosecondType>().values();
                for (from, until) in clusters {
                    let within = times.iter().map(|time| Some((from..until).contains(time))).collect::<BooleanArray>();
                    let part = filter_record_batch(rows, &within).map_err(|error| arrow_error(&error))?;
                    self.take_in(&part, history)?;
                }
                return Ok(());
            }
            self.reloaded += missing.values().map(Wanted::panes).sum::<u64>();
            self.load(history, &missing)?;
        }
        self.apply(&batches, &panes)?;
        self.evict()
    }

    fn apply(&mut self, batches: &[Evaluated], panes: &[BTreeMap<i64, Vec<u32>>]) -> Result<(), WindowError> {
        let used = self.now();
        for (state, panes) in self.tables.iter_mut().zip(panes) {
            let batch = &batches[state.feeds.context];
            let first_open = state.first_open(self.watermark);
            for (pane, rows) in panes {
                state.note_before(*pane, batch, rows, first_open, &self.interners)?;
                state.add(*pane, batch, rows, &self.interners, used);
            }
        }
        Ok(())
    }

    /// Spans of event time that share no window in any table, around the touched panes.
    fn clusters(&self, panes: &[BTreeMap<i64, Vec<u32>>]) -> Vec<(i64, i64)> {
        let spans = self.tables.iter().zip(panes).flat_map(|(state, panes)| {
            panes.keys().map(|pane| state.times(pane - state.width() + 1, pane + state.width()))
        });
        merged(spans.collect())
    }

    /// Loads panes from the history, all tables in one scan.
    fn load(&mut self, history: &dyn History, wanted: &BTreeMap<usize, Wanted>) -> Result<(), WindowError> {
        let mut spans = Vec::new();
        let mut loading = BTreeMap::new();
        for (table, wanted) in wanted {
            let state = &self.tables[*table];
            match wanted {
                Wanted::From(from) => spans.push((state.times(*from, 0).0, i64::MAX)),
                Wanted::These(panes) => spans.extend(panes.iter().map(|pane| state.times(*pane, pane + 1))),
            }
            loading.insert(*table, BTreeMap::<i64, Pane>::new());
        }
        let columns = self.evaluator.column_names();
        let columns = columns.iter().map(String::as_str).collect::<Vec<_>>();
        for (from, until) in merged(spans) {
            self.load_span(history, (from, until), &columns, wanted, &mut loading)?;
        }
        let now = self.now();
        for (table, mut panes) in loading {
            let state = &mut self.tables[table];
            if let Some(Wanted::These(wanted)) = wanted.get(&table) {
                for pane in wanted {
                    panes.entry(*pane).or_insert_with(|| Pane::new(&state.table, &state.feeds, &self.interners)).used =
                        now;
                }
            }
            let (first, last) = (panes.keys().next().copied(), panes.keys().next_back().copied());
            state.panes.extend(panes);
            if let (Some(first), Some(last)) = (first, last) {
                state.recharge(first, last + 1);
            }
        }
        Ok(())
    }

    /// Reads a span, each file once and a batch at a time: late rows spread each file over half an hour, so that slices
    /// of time would read the same files again and again. One thread reads and evaluates, and the tables take the rows in
    /// side by side: a start waits for it.
    fn load_span(
        &mut self,
        history: &dyn History,
        (from, until): (i64, i64),
        columns: &[&str],
        wanted: &BTreeMap<usize, Wanted>,
        loading: &mut BTreeMap<usize, BTreeMap<i64, Pane>>,
    ) -> Result<(), WindowError> {
        if !history.may_contain(from, until) {
            return Ok(());
        }
        let expressions = self.evaluator.expressions();
        std::thread::scope(|scope| {
            let (rows_tx, rows_rx) = bounded(BATCHES_AHEAD);
            let reading = scope.spawn(move || {
                history.visit(from, until, columns, &mut |rows| {
                    let computed = expressions.project(&rows).and_then(|rows| expressions.compute(&rows));
                    rows_tx.send(computed).is_ok()
                })
            });
            // Dropped before the join: a reader whose rows nobody wants any more must not wait.
            let loaded = rows_rx.into_iter().try_for_each(|computed| self.load_rows(computed?, wanted, loading));
            match reading.join() {
                Ok(read) => Ok(read?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
            .and(loaded)
        })
    }

    fn load_rows(
        &mut self,
        computed: Vec<Computed>,
        wanted: &BTreeMap<usize, Wanted>,
        loading: &mut BTreeMap<usize, BTreeMap<i64, Pane>>,
    ) -> Result<(), WindowError> {
        let batches = self.evaluator.encode(computed, &mut self.interners)?;
        let (tables, interners, now) = (&self.tables, &self.interners, self.now());
        loading.par_iter_mut().for_each(|(table, panes)| {
            let state = &tables[*table];
            let batch = &batches[state.feeds.context];
            let is_wanted = |pane: i64| match wanted.get(table) {
                Some(Wanted::From(from)) => pane >= *from,
                Some(Wanted::These(panes)) => panes.contains(&pane),
                None => false,
            };
            for (number, rows) in state.partition(&batch.times, is_wanted) {
                let pane = panes.entry(number).or_insert_with(|| Pane::new(&state.table, &state.feeds, interners));
                pane.used = now;
                pane.add(&state.feeds, batch, &rows, interners, state.table.panes());
            }
        });
        Ok(())
    }

    fn now(&self) -> Used {
        Used { tick: self.tick, watermark: self.watermark }
    }

    /// Drops the closed panes that nobody has used for long, and of the rest those that were used the longest ago until
    /// they fit their bound.
    fn evict(&mut self) -> Result<(), WindowError> {
        let mut closed = Vec::new();
        for (table, state) in self.tables.iter().enumerate() {
            let first_open = state.first_open(self.watermark);
            let panes = state.panes.range(..first_open);
            closed.extend(panes.map(|(number, pane)| (pane.used, *number, table, pane.bytes())));
        }
        let idle_us = i64::from(self.settings.closed_idle_s) * 1_000_000;
        let is_idle = |used: Used| used.watermark < self.watermark.map(|watermark| watermark.saturating_sub(idle_us));
        let mut bytes: usize = closed.iter().map(|pane| pane.3).sum();
        closed.sort_unstable();
        for (used, pane, table, pane_bytes) in closed {
            if bytes > self.settings.closed_bytes_max || is_idle(used) {
                self.tables[table].evict(pane, &self.interners)?;
                bytes -= pane_bytes;
            }
        }
        Ok(())
    }

    fn codes(&self) -> usize {
        self.interners.iter().map(Interner::used).sum()
    }

    /// Frees the codes that no window uses any more.
    fn sweep(&mut self) {
        let mut marks = self.interners.iter().map(|_| Marks::default()).collect::<Vec<_>>();
        self.tables.iter().for_each(|state| state.mark(&mut marks));
        let live: usize = self.interners.iter_mut().zip(&marks).map(|(interner, marks)| interner.sweep(marks)).sum();
        self.evaluator.forget_codes();
        self.sweep_at = (live * 2).max(SWEEP_CODES_MIN);
    }
}

/// The rows with an event time behind the watermark.
#[must_use]
pub fn late_rows(event_times_us: &[i64], watermark: Option<i64>) -> u64 {
    let Some(watermark) = watermark else { return 0 };
    event_times_us.iter().filter(|time| **time < watermark).count() as u64
}

/// Finds or makes the inputs of a table.
fn feeds(table: &WindowTable, evaluator: &mut Evaluator, interners: &mut Vec<Interner>) -> Result<Feeds, WindowError> {
    let props = &table.props;
    let context = evaluator.context(table.predicate.as_ref(), props)?;
    let mut feeds = Feeds { context, ..Feeds::default() };
    for key in &table.keys {
        feeds.keys.push(evaluator.codes(context, key, interners, props)?);
    }
    for slot in &table.slots {
        let filter =
            slot.filter.as_ref().map(|filter| evaluator.truth(context, filter, interners, props)).transpose()?;
        let mut feed = SlotFeed { values: None, filter, interner: None };
        if let Some(argument) = &slot.argument {
            feed.values = Some(match slot.keeps {
                Keeps::Count => evaluator.input(context, argument, Form::Presence, props)?,
                Keeps::Or => evaluator.truth(context, argument, interners, props)?,
                Keeps::And => evaluator.input(context, argument, Form::Falsehood, props)?,
                Keeps::Sum | Keeps::Min | Keeps::Max if fits_i128(&slot.kind) => {
                    evaluator.input(context, argument, Form::Numbers, props)?
                }
                _ if slot.kind == DataType::Float64 => evaluator.input(context, argument, Form::Floats, props)?,
                _ => {
                    let (input, interner) = evaluator.codes(context, argument, interners, props)?;
                    feed.interner = Some(interner);
                    input
                }
            });
        }
        feeds.slots.push(feed);
    }
    for distinct in &table.distincts {
        let (values, interner) = evaluator.codes(context, &distinct.value, interners, props)?;
        let filter =
            distinct.filter.as_ref().map(|filter| evaluator.truth(context, filter, interners, props)).transpose()?;
        feeds.distincts.push(DistinctFeed { values, interner, filter });
    }
    Ok(feeds)
}

/// Overlapping and touching spans become one.
fn merged(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (from, until) in spans {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => merged.push((from, until)),
        }
    }
    merged
}

fn arrow_error(error: &arrow::error::ArrowError) -> WindowError {
    WindowError::Expression { tables: "window tables".to_owned(), cause: error.to_string() }
}
