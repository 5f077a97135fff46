//! The panes of one table, and what an epoch has done to them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;

use super::error::WindowError;
use super::evaluate::Evaluated;
use super::groups::Groups;
use super::intern::{Interner, Marks};
use super::output::Segment;
use super::pane::{Feeds, Pane, Used};
use super::plan::WindowTable;
use super::tags::NONE;

/// Pairs whose neighbours are looked up together.
const CHARGED_AT_ONCE: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct TableState {
    pub table: WindowTable,
    pub feeds: Feeds,
    /// By the number of the slide since 1970. A pane that is here is complete.
    pub panes: BTreeMap<i64, Pane>,
    /// Panes from here on have no rows unless they are in `panes`; earlier ones that are not in `panes` are unknown.
    pub complete_from: i64,
    /// Panes that took in rows in this epoch.
    pub touched: BTreeSet<i64>,
    /// Windows that were closed when the epoch began and took in rows in it.
    pub restated: BTreeMap<i64, Restating>,
    pub late_rows: u64,
}

/// The groups of a closed window that an epoch touches, and what stood there before.
#[derive(Debug)]
pub(super) struct Restating {
    pub keys: Groups,
    /// Whether each key had a row before.
    pub existed: Vec<bool>,
    /// Rows of the aggregate for the keys that existed, in the order of `keys`.
    pub before: Vec<RecordBatch>,
    /// Rows of the aggregate for all keys: set when the window leaves memory within the epoch.
    pub frozen: Option<RecordBatch>,
}

impl TableState {
    pub fn new(table: WindowTable, feeds: Feeds) -> Self {
        Self {
            table,
            feeds,
            panes: BTreeMap::new(),
            complete_from: i64::MAX,
            touched: BTreeSet::new(),
            restated: BTreeMap::new(),
            late_rows: 0,
        }
    }

    /// The panes of a window.
    pub fn width(&self) -> i64 {
        self.table.window.size_us / self.table.window.slide_us
    }

    pub fn slide_us(&self) -> i64 {
        self.table.window.slide_us
    }

    /// The first window that is open at a watermark. A window has the number of its first pane.
    pub fn first_open(&self, watermark: Option<i64>) -> i64 {
        watermark.map_or(i64::MIN, |watermark| watermark.div_euclid(self.slide_us()) - self.width() + 1)
    }

    /// The event times of the panes `from..until`.
    pub fn times(&self, from: i64, until: i64) -> (i64, i64) {
        (from.saturating_mul(self.slide_us()), until.saturating_mul(self.slide_us()))
    }

    /// The rows of each pane, of those panes that are `wanted`.
    pub fn partition(&self, times: &[i64], mut wanted: impl FnMut(i64) -> bool) -> BTreeMap<i64, Vec<u32>> {
        let slide = self.slide_us();
        let mut panes: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let mut at = 0;
        while at < times.len() {
            let pane = times[at].div_euclid(slide);
            let (from, until) = (pane * slide, (pane + 1) * slide);
            let run = times[at..].iter().take_while(|time| (from..until).contains(*time)).count();
            if wanted(pane) {
                panes.entry(pane).or_default().extend(at as u32..(at + run) as u32);
            }
            at += run;
        }
        panes
    }

    /// The panes that must be in memory before rows go to `pane`, and are not: those of all its windows.
    pub fn missing_around(&self, pane: i64) -> impl Iterator<Item = i64> + '_ {
        let around = pane - self.width() + 1..pane + self.width();
        around.take_while(|near| *near < self.complete_from).filter(|near| !self.panes.contains_key(near))
    }

    /// Notes what stands in the closed windows of `pane` for the groups of `rows`, unless this epoch has done so.
    pub fn note_before(
        &mut self,
        pane: i64,
        batch: &Evaluated,
        rows: &[u32],
        first_open: i64,
        interners: &[Interner],
    ) -> Result<(), WindowError> {
        let oldest = pane - self.width() + 1;
        if oldest < first_open {
            self.late_rows += rows.len() as u64;
        }
        let columns = self.feeds.keys.iter().map(|(input, _)| batch.codes(*input)).collect::<Vec<_>>();
        let mut key = vec![0; columns.len()];
        for window in oldest..=pane.min(first_open.saturating_sub(1)) {
            let mut restating = self.restated.remove(&window).unwrap_or_else(|| Restating::new(columns.len()));
            let known = restating.keys.len() as u32;
            for row in rows {
                for (part, codes) in key.iter_mut().zip(&columns) {
                    *part = codes[*row as usize];
                }
                restating.keys.insert(&key);
            }
            let new = known..restating.keys.len() as u32;
            let mut segment = Segment { window, members: Vec::new() };
            for group in new {
                let from = segment.members.len();
                self.push_members(window, restating.keys.key(group), &mut segment.members);
                let existed = segment.members[from..].iter().any(|member| *member != NONE);
                if !existed {
                    segment.members.truncate(from);
                }
                restating.existed.push(existed);
            }
            if !segment.members.is_empty() {
                restating.before.push(self.aggregate_rows(&[segment], interners)?);
            }
            restating.frozen = None;
            self.restated.insert(window, restating);
        }
        Ok(())
    }

    /// Takes rows into a pane whose windows are complete.
    pub fn add(&mut self, pane: i64, batch: &Evaluated, rows: &[u32], interners: &[Interner], used: Used) {
        let width = self.width() as usize;
        if !self.panes.contains_key(&pane) {
            // Time goes on: the newest pane is about full by now. One for late rows stays small.
            let state = match self.panes.last_key_value().filter(|(newest, _)| **newest < pane) {
                Some((_, newest)) => Pane::like(newest, &self.table, &self.feeds, interners),
                None => Pane::new(&self.table, &self.feeds, interners),
            };
            self.panes.insert(pane, state);
        }
        // Its windows need the panes around it.
        let around = self.panes.range_mut(pane - width as i64 + 1..pane + width as i64);
        around.for_each(|(_, near)| near.used = used);
        let Some(state) = self.panes.get_mut(&pane) else { return };
        let fresh = state.add(&self.feeds, batch, rows, interners, width);
        self.touched.insert(pane);
        if width > 1 {
            for (distinct, fresh) in fresh.iter().enumerate() {
                self.charge(pane, distinct, fresh, true);
            }
        }
    }

    /// Counts the distinct pairs of `pane` and of those that share windows with it anew: needed when panes were loaded
    /// beside others.
    pub fn recharge(&mut self, from: i64, until: i64) {
        let width = self.width();
        if width == 1 {
            return;
        }
        let panes = self.panes.range(from..until.saturating_add(width - 1)).map(|(pane, _)| *pane).collect::<Vec<_>>();
        for pane in panes {
            for distinct in 0..self.feeds.distincts.len() {
                let mut pairs = Vec::new();
                if let Some(state) = self.panes.get_mut(&pane) {
                    let known = &mut state.distincts[distinct];
                    known.pairs.for_each(|group, value| pairs.push((group, value)));
                    let charges = known.charges.iter_mut().enumerate();
                    charges.filter(|(at, _)| at % width as usize != 0).for_each(|(_, charge)| *charge = 0);
                }
                pairs.chunks(CHARGED_AT_ONCE).for_each(|pairs| self.charge(pane, distinct, pairs, false));
            }
        }
    }

    /// Counts pairs that are new in `pane` for the windows that begin before it and do not have them yet. When
    /// `uncharge`, later panes give up the windows for which they had counted them.
    fn charge(&mut self, pane: i64, distinct: usize, pairs: &[(u32, u32)], uncharge: bool) {
        let width = self.width();
        let before = self.nearest(pane, distinct, pairs, -1);
        if let Some(state) = self.panes.get_mut(&pane) {
            let charges = &mut state.distincts[distinct].charges;
            for ((group, _), (distance, _)) in pairs.iter().zip(&before) {
                let from = *group as usize * width as usize;
                charges[from + 1..from + *distance].iter_mut().for_each(|charge| *charge += 1);
            }
        }
        if !uncharge {
            return;
        }
        let after = self.nearest(pane, distinct, pairs, 1);
        for ((before, _), (after, group)) in before.iter().zip(after) {
            if after < width as usize
                && let Some(state) = self.panes.get_mut(&(pane + after as i64))
            {
                let from = group as usize * width as usize;
                let until = (after + before).min(width as usize);
                state.distincts[distinct].charges[from + after..from + until]
                    .iter_mut()
                    .for_each(|charge| *charge -= 1);
            }
        }
    }

    /// For each pair of `pane` the distance to the nearest pane that has it too, and its group there; the width of a
    /// window when no other pane of a shared window has it.
    fn nearest(&self, pane: i64, distinct: usize, pairs: &[(u32, u32)], direction: i64) -> Vec<(usize, u32)> {
        let width = self.width();
        let mut nearest = vec![(width as usize, NONE); pairs.len()];
        let Some(home) = self.panes.get(&pane) else { return nearest };
        let mut asked = Vec::new();
        let mut positions = Vec::new();
        for distance in 1..width {
            let Some(near) = self.panes.get(&(pane + direction * distance)).filter(|near| near.groups.len() > 0) else {
                continue;
            };
            asked.clear();
            positions.clear();
            for (at, (group, value)) in pairs.iter().enumerate() {
                if nearest[at].1 == NONE {
                    let group = near.groups.find(home.groups.key(*group));
                    if group != NONE {
                        asked.push((group, *value));
                        positions.push(at);
                    }
                }
            }
            near.distincts[distinct].pairs.find(&asked, |at| nearest[positions[at]] = (distance as usize, asked[at].0));
        }
        nearest
    }

    /// The group of `key` in each pane of a window.
    pub fn push_members(&self, window: i64, key: &[u32], members: &mut Vec<u32>) {
        let panes = window..window + self.width();
        members.extend(panes.map(|pane| self.panes.get(&pane).map_or(NONE, |state| state.groups.find(key))));
    }

    /// Packs the panes that only windows closed at `watermark` have.
    pub fn rest(&mut self, watermark: Option<i64>, interners: &[Interner]) {
        let (first_open, width) = (self.first_open(watermark), self.width() as usize);
        self.panes.range_mut(..first_open).for_each(|(_, pane)| pane.rest(&self.feeds, interners, width));
    }

    /// Drops a pane that only closed windows have; their restated groups are written down first.
    pub fn evict(&mut self, pane: i64, interners: &[Interner]) -> Result<(), WindowError> {
        for window in pane - self.width() + 1..=pane {
            let Some(mut restating) = self.restated.remove(&window) else { continue };
            if restating.frozen.is_none() {
                restating.frozen = Some(self.aggregate_rows(&[self.segment_of(window, &restating.keys)], interners)?);
            }
            self.restated.insert(window, restating);
        }
        self.panes.remove(&pane);
        self.complete_from = self.complete_from.max(pane + 1);
        Ok(())
    }

    /// All keys of a restated window.
    pub fn segment_of(&self, window: i64, keys: &Groups) -> Segment {
        let mut members = Vec::new();
        for group in 0..keys.len() as u32 {
            self.push_members(window, keys.key(group), &mut members);
        }
        Segment { window, members }
    }

    pub fn bytes(&self) -> usize {
        let restated = self.restated.values().flat_map(|restating| restating.before.iter().chain(&restating.frozen));
        self.panes.values().map(Pane::bytes).sum::<usize>()
            + restated
                .map(|rows| rows.columns().iter().map(|column| column.get_array_memory_size()).sum::<usize>())
                .sum::<usize>()
    }

    pub fn mark(&self, marks: &mut [Marks]) {
        self.panes.values().for_each(|pane| pane.mark(&self.feeds, marks));
        for restating in self.restated.values() {
            for (part, code) in restating.keys.codes() {
                marks[self.feeds.keys[part].1].set(code);
            }
        }
    }
}

impl Restating {
    fn new(parts: usize) -> Self {
        Self { keys: Groups::new(parts), existed: Vec::new(), before: Vec::new(), frozen: None }
    }
}
