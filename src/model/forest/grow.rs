//! One tree of the forest: drawn rows, drawn features, splits by Gini's index.

use std::ops::Range;

use super::ForestSettings;
use crate::model::ModelError;
use crate::model::random::Random;
use crate::model::tree::{Bins, Column, Cuts, Growing, partition};

pub struct Grower<'a> {
    bins: &'a Bins,
    cuts: &'a Cuts,
    labels: &'a [bool],
    settings: &'a ForestSettings,
    features_per_split: usize,
}

/// Used again from tree to tree by one thread.
#[derive(Default)]
pub struct Buffers {
    items: Vec<Item>,
    spare: Vec<Item>,
    /// How often each row was drawn.
    draws: Vec<u16>,
    counts: Vec<u64>,
    sorted: Vec<u64>,
}

/// A drawn row, and how it counts: the times it was drawn in the lower 16 bits, and once more in the upper 16 if positive.
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    row: u32,
    weight: u32,
}

/// Drawn rows in the lower 32 bits, those of them that are positive in the upper 32: one addition counts both.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sum(u64);

struct Open {
    node: usize,
    items: Range<usize>,
    depth: usize,
    sum: Sum,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    feature: usize,
    bin: usize,
    left: Sum,
    score: f64,
}

/// Below this many rows, sorting them beats counting in bins.
const SORT_MAX: usize = 32;

impl<'a> Grower<'a> {
    pub fn new(bins: &'a Bins, cuts: &'a Cuts, labels: &'a [bool], settings: &'a ForestSettings) -> Self {
        let root = (bins.width() as f64).sqrt().round() as usize;
        let features_per_split = settings.features_per_split.unwrap_or(root).clamp(1, bins.width());
        Self { bins, cuts, labels, settings, features_per_split }
    }

    pub fn grow(&self, buffers: &mut Buffers, mut random: Random) -> Result<Growing, ModelError> {
        self.draw(buffers, &mut random);
        let mut features: Vec<usize> = (0..self.bins.width()).collect();
        let sum = buffers.items.iter().fold(Sum::default(), |sum, item| sum.plus(item.sum()));
        let mut tree = Growing::new(sum.share(), sum.rows() as f64);
        let mut open = vec![Open { node: 0, items: 0..buffers.items.len(), depth: 0, sum }];
        while let Some(node) = open.pop() {
            if !self.may_split(&node) {
                continue;
            }
            let Some(found) = self.best(&node, buffers, &mut features, &mut random) else { continue };
            let right = node.sum.minus(found.left);
            let children = [found.left, right].map(|sum| (sum.share(), sum.rows() as f64));
            let left_node = tree.split(node.node, (found.feature, found.bin), self.cuts, children)?;
            let column = self.bins.column(found.feature);
            let items = &mut buffers.items[node.items.clone()];
            let cut =
                node.items.start + partition(items, &mut buffers.spare, column, found.bin, |item| item.row as usize);
            let depth = node.depth + 1;
            open.push(Open { node: left_node + 1, items: cut..node.items.end, depth, sum: right });
            open.push(Open { node: left_node, items: node.items.start..cut, depth, sum: found.left });
        }
        Ok(tree)
    }

    /// As many rows as there are, with replacement. Drawing fewer negatives gained nothing where it was measured, and made
    /// the probabilities worse.
    fn draw(&self, buffers: &mut Buffers, random: &mut Random) {
        let draws = &mut buffers.draws;
        draws.clear();
        draws.resize(self.labels.len(), 0);
        for _ in 0..self.labels.len() {
            let draws = &mut draws[random.below(self.labels.len() as u32) as usize];
            *draws = draws.saturating_add(1);
        }
        buffers.items.clear();
        let drawn = draws.iter().zip(self.labels).enumerate().filter(|(_, (draws, _))| **draws > 0);
        buffers.items.extend(drawn.map(|(row, (&draws, &label))| Item::new(row, draws, label)));
        buffers.spare.resize(buffers.items.len().max(buffers.spare.len()), Item::default());
    }

    fn may_split(&self, node: &Open) -> bool {
        let (rows, positives) = (node.sum.rows(), node.sum.positives());
        let is_pure = positives == 0 || positives == rows;
        !is_pure && node.depth < self.settings.depth_max && rows >= 2 * self.settings.leaf_rows_min as u64
    }

    /// Over features drawn without replacement; a feature that cannot split the node is drawn for nothing, but drawing
    /// goes on until one can.
    fn best(&self, node: &Open, buffers: &mut Buffers, features: &mut [usize], random: &mut Random) -> Option<Found> {
        let mut best: Option<Found> = None;
        for drawn in 0..features.len() {
            if drawn >= self.features_per_split && best.is_some() {
                break;
            }
            let other = drawn + random.below((features.len() - drawn) as u32) as usize;
            features.swap(drawn, other);
            let found = self.best_of(features[drawn], node, buffers);
            if found.is_some_and(|found| best.is_none_or(|best| found.score > best.score)) {
                best = found;
            }
        }
        best
    }

    fn best_of(&self, feature: usize, node: &Open, buffers: &mut Buffers) -> Option<Found> {
        let items = &buffers.items[node.items.clone()];
        let column = self.bins.column(feature);
        let mut search = Search::new(feature, node.sum, self.settings.leaf_rows_min as u64);
        if items.len() <= SORT_MAX {
            buffers.sorted.clear();
            let keyed = items.iter().map(|item| (column.at(item.row as usize) as u64) << 32 | u64::from(item.weight));
            buffers.sorted.extend(keyed);
            buffers.sorted.sort_unstable();
            for run in buffers.sorted.chunk_by(|a, b| a >> 32 == b >> 32) {
                let sum = run.iter().fold(Sum::default(), |sum, &key| sum.plus(Sum::of(key as u32)));
                search.visit((run[0] >> 32) as usize, sum);
            }
        } else {
            let counts = &mut buffers.counts;
            counts.clear();
            counts.resize(self.cuts.bins(feature), 0);
            match column {
                Column::Narrow(bins) => {
                    items.iter().for_each(|item| counts[bins[item.row as usize] as usize] += item.sum().0);
                }
                Column::Wide(bins) => {
                    items.iter().for_each(|item| counts[bins[item.row as usize] as usize] += item.sum().0);
                }
            }
            for (bin, &count) in counts.iter().enumerate() {
                if count != 0 {
                    search.visit(bin, Sum(count));
                }
            }
        }
        search.best
    }
}

/// Goes over the filled bins of one feature from the left.
struct Search {
    feature: usize,
    all: Sum,
    leaf_rows_min: u64,
    left: Sum,
    /// The bin before, and what it held.
    last: Option<(usize, Sum)>,
    best: Option<Found>,
}

impl Search {
    const fn new(feature: usize, all: Sum, leaf_rows_min: u64) -> Self {
        Self { feature, all, leaf_rows_min, left: Sum(0), last: None, best: None }
    }

    /// Judges the cut between the bin before and this one.
    #[inline]
    fn visit(&mut self, bin: usize, sum: Sum) {
        if let Some((last_bin, last)) = self.last {
            // Between two bins of one and the same class no cut is the best, unless it is the first or the last that
            // leaves enough rows on either side.
            let is_inside = (last.positives() == 0 && sum.positives() == 0)
                || (last.positives() == last.rows() && sum.positives() == sum.rows());
            let is_first = self.left.minus(last).rows() < self.leaf_rows_min;
            let is_last = self.all.minus(self.left).rows() < self.leaf_rows_min + sum.rows();
            if !is_inside || is_first || is_last {
                self.judge(last_bin);
            }
        }
        self.left = self.left.plus(sum);
        self.last = Some((bin, sum));
    }

    #[inline]
    fn judge(&mut self, bin: usize) {
        let right = self.all.minus(self.left);
        if self.left.rows() < self.leaf_rows_min || right.rows() < self.leaf_rows_min {
            return;
        }
        let part = |sum: Sum| (sum.positives() as f64).powi(2) / sum.rows() as f64;
        // The greater, the less impure: what is left out is the same for every cut of the node.
        let score = part(self.left) + part(right);
        if self.best.is_none_or(|best| score > best.score) {
            self.best = Some(Found { feature: self.feature, bin, left: self.left, score });
        }
    }
}

impl Item {
    const fn new(row: usize, draws: u16, label: bool) -> Self {
        let draws = draws as u32;
        Self { row: row as u32, weight: if label { draws << 16 | draws } else { draws } }
    }

    #[inline]
    const fn sum(self) -> Sum {
        Sum::of(self.weight)
    }
}

impl Sum {
    #[inline]
    const fn of(weight: u32) -> Self {
        Self((weight & 0xFFFF) as u64 | ((weight >> 16) as u64) << 32)
    }

    #[inline]
    const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    #[inline]
    const fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    #[inline]
    const fn rows(self) -> u64 {
        self.0 & 0xFFFF_FFFF
    }

    #[inline]
    const fn positives(self) -> u64 {
        self.0 >> 32
    }

    fn share(self) -> f32 {
        if self.rows() == 0 { 0.0 } else { (self.positives() as f64 / self.rows() as f64) as f32 }
    }
}

#[cfg(test)]
mod tests;
