//! The state of one slide of one table: groups, accumulators, distinct pairs.

use std::cmp::Ordering;

use arrow::buffer::BooleanBuffer;
use rayon::prelude::*;

use super::accumulate::{Accumulator, GroupedRows};
use super::evaluate::{Evaluated, ROWS_SIDE_BY_SIDE};
use super::groups::Groups;
use super::growth::grow_to;
use super::intern::{Interner, Marks};
use super::pairs::{Counts, PairSet};
use super::plan::WindowTable;

/// Pairs inserted between two looks at the size of a set.
const PAIRS_AT_ONCE: usize = 4096;

/// Which inputs of which context feed the slots of a table, and which interners its keys.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    pub context: usize,
    /// Input and interner of each key.
    pub keys: Vec<(usize, usize)>,
    pub slots: Vec<SlotFeed>,
    pub distincts: Vec<DistinctFeed>,
}

#[derive(Debug)]
pub(super) struct SlotFeed {
    pub values: Option<usize>,
    pub filter: Option<usize>,
    /// Of a string extreme.
    pub interner: Option<usize>,
}

#[derive(Debug)]
pub(super) struct DistinctFeed {
    pub values: usize,
    pub interner: usize,
    pub filter: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Pane {
    pub groups: Groups,
    pub accumulators: Vec<Accumulator>,
    pub distincts: Vec<DistinctPairs>,
    /// The first groups in the order of their keys; those that are not here yet are new.
    order: Vec<u32>,
    pub used: Used,
}

/// When a pane was used last: the number of the update, and the watermark at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Used {
    pub tick: u64,
    pub watermark: Option<i64>,
}

/// The pairs of one `count(DISTINCT …)`.
///
/// `charges[group * panes + k]` counts the pairs of this pane that none of the `k` panes before it has: the sum over a
/// window's panes, each at its own distance from the window's start, is the window's distinct count. At `k` = 0 it
/// is the number of pairs here.
#[derive(Debug)]
pub(super) struct DistinctPairs {
    pub pairs: PairSet,
    pub charges: Vec<u32>,
}

impl Pane {
    pub fn new(table: &WindowTable, feeds: &Feeds, interners: &[Interner]) -> Self {
        let pairs = |feed: &DistinctFeed| {
            let domain = interners.get(feed.interner).map_or(0, Interner::domain);
            DistinctPairs { pairs: PairSet::new(domain), charges: Vec::new() }
        };
        Self {
            groups: Groups::new(feeds.keys.len()),
            accumulators: table.slots.iter().map(Accumulator::new).collect(),
            distincts: feeds.distincts.iter().map(pairs).collect(),
            order: Vec::new(),
            used: Used::default(),
        }
    }

    /// A new pane beside `other`, which is expected to hold about as much.
    pub fn like(other: &Self, table: &WindowTable, feeds: &Feeds, interners: &[Interner]) -> Self {
        let mut pane = Self::new(table, feeds, interners);
        for ((distinct, like), feed) in pane.distincts.iter_mut().zip(&other.distincts).zip(&feeds.distincts) {
            let domain = interners.get(feed.interner).map_or(0, Interner::domain);
            distinct.pairs = PairSet::like(&like.pairs, domain);
        }
        pane
    }

    pub fn bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(Accumulator::bytes).sum();
        let pair_bytes =
            |distinct: &DistinctPairs| distinct.pairs.bytes() + distinct.charges.capacity() * size_of::<u32>();
        let distincts: usize = self.distincts.iter().map(pair_bytes).sum();
        size_of::<Self>() + self.groups.bytes() + accumulators + distincts + self.order.capacity() * size_of::<u32>()
    }

    /// Takes in rows. Returns the new pairs of each distinct count when `panes` is more than one; else counts them.
    pub fn add(
        &mut self,
        feeds: &Feeds,
        batch: &Evaluated,
        rows: &[u32],
        interners: &[Interner],
        panes: usize,
    ) -> Vec<Vec<(u32, u32)>> {
        let columns = feeds.keys.iter().map(|(input, _)| batch.codes(*input)).collect::<Vec<_>>();
        let mut groups = Vec::new();
        self.groups.assign(&columns, rows, &mut groups);
        let grouped = GroupedRows { rows, groups: &groups, group_count: self.groups.len() };
        for (accumulator, feed) in self.accumulators.iter_mut().zip(&feeds.slots) {
            let values = feed.values.and_then(|input| batch.values.get(input));
            let interner = feed.interner.and_then(|interner| interners.get(interner));
            accumulator.add(grouped, values, batch.mask(feed.filter), interner);
        }
        let distincts = self.distincts.iter_mut().zip(&feeds.distincts);
        let add = |(distinct, feed): (&mut DistinctPairs, &DistinctFeed)| {
            let domain = interners.get(feed.interner).map_or(0, Interner::domain);
            distinct.add(grouped, batch.codes(feed.values), batch.mask(feed.filter), domain, panes)
        };
        if rows.len() < ROWS_SIDE_BY_SIDE {
            distincts.map(add).collect()
        } else {
            distincts.collect::<Vec<_>>().into_par_iter().map(add).collect()
        }
    }

    /// All its windows are closed, so no more than a few late rows come: it takes less memory from now on.
    pub fn rest(&mut self, feeds: &Feeds, interners: &[Interner], panes: usize) {
        for (distinct, feed) in self.distincts.iter_mut().zip(&feeds.distincts) {
            let domain = interners.get(feed.interner).map_or(0, Interner::domain);
            distinct.pairs.rest(Counts { counts: &distinct.charges, stride: panes }, domain);
        }
        self.order = Vec::new();
    }

    /// All groups in the order of their keys.
    pub fn sorted(&mut self, feeds: &Feeds, interners: &[Interner]) -> &[u32] {
        let known = self.order.len();
        if known < self.groups.len() {
            let groups = &self.groups;
            let prefix = |group: u32| match (feeds.keys.first(), groups.key(group).first()) {
                (Some((_, interner)), Some(code)) => interners[*interner].prefix(*code),
                _ => 0,
            };
            let compare = |left: u32, right: u32| compare_keys(feeds, interners, groups.key(left), groups.key(right));
            let mut new = (known as u32..groups.len() as u32).map(|group| (prefix(group), group)).collect::<Vec<_>>();
            new.sort_unstable_by(|left, right| left.0.cmp(&right.0).then_with(|| compare(left.1, right.1)));
            let mut merged = Vec::with_capacity(groups.len());
            let mut rest = self.order.as_slice();
            for (_, group) in new {
                let before = rest.partition_point(|known| compare(*known, group).is_lt());
                merged.extend_from_slice(&rest[..before]);
                merged.push(group);
                rest = &rest[before..];
            }
            merged.extend_from_slice(rest);
            self.order = merged;
        }
        &self.order
    }

    /// The groups as [`sorted`](Self::sorted) left them.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Marks every code that the state holds; `marks` has one for each interner.
    pub fn mark(&self, feeds: &Feeds, marks: &mut [Marks]) {
        for (part, code) in self.groups.codes() {
            marks[feeds.keys[part].1].set(code);
        }
        for (accumulator, feed) in self.accumulators.iter().zip(&feeds.slots) {
            if let Some(interner) = feed.interner {
                accumulator.mark(&mut marks[interner]);
            }
        }
        for (distinct, feed) in self.distincts.iter().zip(&feeds.distincts) {
            let marks = &mut marks[feed.interner];
            distinct.pairs.for_each(|_, value| marks.set(value));
        }
    }
}

impl DistinctPairs {
    /// Takes in the code of each row. Returns the new pairs when `panes` is more than one; else counts them.
    fn add(
        &mut self,
        rows: GroupedRows<'_>,
        codes: &[u32],
        filter: Option<&BooleanBuffer>,
        domain: usize,
        panes: usize,
    ) -> Vec<(u32, u32)> {
        let mut added = Vec::new();
        let mut pairs = Vec::with_capacity(PAIRS_AT_ONCE);
        grow_to(&mut self.charges, rows.group_count * panes, 0);
        for (rows, groups) in rows.rows.chunks(PAIRS_AT_ONCE).zip(rows.groups.chunks(PAIRS_AT_ONCE)) {
            pairs.clear();
            let all = rows.iter().zip(groups).map(|(row, group)| (*row as usize, *group));
            match filter {
                Some(filter) => {
                    pairs.extend(all.filter(|(row, _)| filter.value(*row)).map(|(row, group)| (group, codes[row])));
                }
                None => pairs.extend(all.map(|(row, group)| (group, codes[row]))),
            }
            let charges = &mut self.charges;
            if panes == 1 {
                self.pairs.insert(&pairs, |at| charges[pairs[at].0 as usize] += 1);
            } else {
                self.pairs.insert(&pairs, |at| {
                    let (group, value) = pairs[at];
                    charges[group as usize * panes] += 1;
                    added.push((group, value));
                });
            }
            if self.pairs.needs_review() {
                self.pairs.review(Counts { counts: &self.charges, stride: panes }, domain);
            }
        }
        added
    }
}

/// The order of two keys: by value, part by part, NULL first.
pub(super) fn compare_keys(feeds: &Feeds, interners: &[Interner], left: &[u32], right: &[u32]) -> Ordering {
    let parts = left.iter().zip(right).zip(&feeds.keys);
    let mut orders = parts.map(|((left, right), (_, interner))| interners[*interner].compare(*left, *right));
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
