//! Fitted trees laid flat: eight bytes a node, children side by side, so that a step is one load and one comparison.

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use crate::model::Contributions;

/// A row goes to `left` when its value is at most the threshold, else to the node after `left`. A leaf leads to itself,
/// and its threshold is infinite: so several walks can go on in step until the last has arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    threshold: f32,
    link: u32,
}

const LEFT_BITS: u32 = 22;
const LEFT_MAX: u32 = (1 << LEFT_BITS) - 1;
/// What the links of one tree can reach.
pub const NODES_MAX: usize = LEFT_MAX as usize;
/// A node names its feature in ten bits.
pub const FEATURES_MAX: usize = 1 << (32 - LEFT_BITS);
/// How many walks go in step: enough to hide the latency of the loads.
const LANES: usize = 8;
/// How many rows are taken through one tree while it is in the cache, and they with it.
const BLOCK: usize = 64;
/// A tree of one leaf, for a lane that has none.
static STILL: [Node; 1] = [Node { threshold: f32::INFINITY, link: 0 }];

impl Node {
    pub fn leaf(index: usize) -> Self {
        Self { threshold: f32::INFINITY, link: index as u32 & LEFT_MAX }
    }

    /// `None` where the tree is too large for the links of its nodes.
    pub fn split(feature: usize, threshold: f32, left: usize) -> Option<Self> {
        let fits = feature < FEATURES_MAX && left + 1 < NODES_MAX;
        fits.then_some(Self { threshold, link: (feature as u32) << LEFT_BITS | left as u32 })
    }

    #[inline]
    pub const fn feature(self) -> usize {
        (self.link >> LEFT_BITS) as usize
    }

    #[inline]
    pub const fn left(self) -> usize {
        (self.link & LEFT_MAX) as usize
    }

    pub const fn parts(self) -> (f32, u32) {
        (self.threshold, self.link)
    }

    pub const fn from_parts(threshold: f32, link: u32) -> Self {
        Self { threshold, link }
    }

    #[inline]
    fn next(self, row: &[f32]) -> usize {
        self.left() + usize::from(row[self.feature()] > self.threshold)
    }
}

/// The trees of one model; the output is the sum of the values of the leaves that a row falls into, tree by tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trees {
    pub(super) width: usize,
    /// Where each tree starts, and where the last one ends.
    pub(super) starts: Vec<usize>,
    pub(super) nodes: Vec<Node>,
    /// Of a leaf its output, of an inner node the mean over the training rows below it.
    pub(super) values: Vec<f32>,
}

impl Trees {
    pub fn new(width: usize) -> Self {
        Self { width, starts: vec![0], nodes: Vec::new(), values: Vec::new() }
    }

    pub fn push(&mut self, nodes: Vec<Node>, values: Vec<f32>) {
        self.nodes.extend(nodes);
        self.values.extend(values);
        self.starts.push(self.nodes.len());
    }

    pub fn truncate(&mut self, trees: usize) {
        self.starts.truncate(trees + 1);
        let end = self.starts.last().copied().unwrap_or(0);
        self.nodes.truncate(end);
        self.values.truncate(end);
    }

    pub const fn width(&self) -> usize {
        self.width
    }

    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes and the values of each tree.
    pub fn iter(&self) -> impl Iterator<Item = (&[Node], &[f32])> {
        self.starts.windows(2).map(|bounds| (&self.nodes[bounds[0]..bounds[1]], &self.values[bounds[0]..bounds[1]]))
    }

    /// The sum over all trees for one row.
    pub fn sum(&self, row: &[f32]) -> f64 {
        let mut sum = 0.0;
        let mut starts = self.starts.as_slice();
        while starts.len() > LANES {
            let mut trees: [&[Node]; LANES] = [&[]; LANES];
            for (tree, bounds) in trees.iter_mut().zip(starts.windows(2)) {
                *tree = &self.nodes[bounds[0]..bounds[1]];
            }
            let leaves = walk_trees(trees, row);
            for (start, leaf) in starts.iter().zip(leaves) {
                sum += f64::from(self.values[start + leaf]);
            }
            starts = &starts[LANES..];
        }
        for bounds in starts.windows(2) {
            let leaf = walk(&self.nodes[bounds[0]..bounds[1]], row);
            sum += f64::from(self.values[bounds[0] + leaf]);
        }
        sum
    }

    /// The sums for many rows: added up in the order of [`Trees::sum`], so to the same bits.
    ///
    /// # Panics
    /// When the rows have another number of features than the trees.
    pub fn sums(&self, records: ArrayView2<'_, f32>) -> Vec<f64> {
        assert_eq!(records.ncols(), self.width, "rows of another width than the model");
        let mut sums = vec![0.0; records.nrows()];
        sums.par_chunks_mut(BLOCK).enumerate().for_each_init(Vec::new, |copied: &mut Vec<f32>, (block, sums)| {
            let start = block * BLOCK;
            let part = records.slice(ndarray::s![start..start + sums.len(), ..]);
            if let Some(rows) = part.as_slice() {
                return self.add_block(rows, sums);
            }
            // Columns side by side: as many rows as stay in the cache are copied.
            copied.resize(part.len(), 0.0);
            for (feature, column) in part.axis_iter(Axis(1)).enumerate() {
                for (row, &value) in column.iter().enumerate() {
                    copied[row * self.width + feature] = value;
                }
            }
            self.add_block(copied, sums);
        });
        sums
    }

    fn add_block(&self, rows: &[f32], sums: &mut [f64]) {
        for bounds in self.starts.windows(2) {
            let tree = &self.nodes[bounds[0]..bounds[1]];
            let values = &self.values[bounds[0]..bounds[1]];
            let mut groups = sums.chunks_exact_mut(LANES);
            let mut rows = rows.chunks_exact(self.width * LANES);
            for (sums, rows) in groups.by_ref().zip(rows.by_ref()) {
                for (sum, leaf) in sums.iter_mut().zip(walk_rows(tree, rows, self.width)) {
                    *sum += f64::from(values[leaf]);
                }
            }
            for (sum, row) in groups.into_remainder().iter_mut().zip(rows.remainder().chunks_exact(self.width)) {
                *sum += f64::from(values[walk(tree, row)]);
            }
        }
    }

    /// What each step on the way to the leaves adds to the mean, by the feature that the step asked for (the method of
    /// Saabas): a pass over the trees, where exact Shapley values would cost a thousand times as much.
    pub fn contributions(&self, row: &[f32]) -> Contributions {
        let mut told = Contributions { base: 0.0, features: vec![0.0; self.width] };
        let mut steps: Vec<[usize; LANES]> = Vec::new();
        let mut starts = self.starts.as_slice();
        while let Some((first, rest)) = starts.split_first()
            && !rest.is_empty()
        {
            let count = rest.len().min(LANES);
            let mut trees: [&[Node]; LANES] = [&STILL; LANES];
            for (tree, bounds) in trees.iter_mut().zip(starts.windows(2)) {
                *tree = &self.nodes[bounds[0]..bounds[1]];
            }
            steps.clear();
            walk_trees_by(trees, row, |at| steps.push(*at));
            for (lane, start) in std::iter::once(first).chain(rest).take(count).enumerate() {
                told.base += f64::from(self.values[*start]);
                for step in steps.windows(2) {
                    let (at, next) = (start + step[0][lane], start + step[1][lane]);
                    if at == next {
                        break;
                    }
                    let feature = self.nodes[at].feature();
                    told.features[feature] += f64::from(self.values[next]) - f64::from(self.values[at]);
                }
            }
            starts = &starts[count..];
        }
        told
    }
}

fn walk(tree: &[Node], row: &[f32]) -> usize {
    let mut at = 0;
    loop {
        let next = tree[at].next(row);
        if next == at {
            return at;
        }
        at = next;
    }
}

#[inline]
fn walk_trees(trees: [&[Node]; LANES], row: &[f32]) -> [usize; LANES] {
    walk_trees_by(trees, row, |_| ())
}

/// `each` is told where all walks are before the first step and after every one.
#[inline]
fn walk_trees_by(trees: [&[Node]; LANES], row: &[f32], mut each: impl FnMut(&[usize; LANES])) -> [usize; LANES] {
    let mut at = [0; LANES];
    loop {
        each(&at);
        let mut moved = 0;
        for (at, tree) in at.iter_mut().zip(trees) {
            let next = tree[*at].next(row);
            moved |= next ^ *at;
            *at = next;
        }
        if moved == 0 {
            return at;
        }
    }
}

#[inline]
fn walk_rows(tree: &[Node], rows: &[f32], width: usize) -> [usize; LANES] {
    let mut at = [0; LANES];
    loop {
        let mut moved = 0;
        for (at, row) in at.iter_mut().zip(rows.chunks_exact(width)) {
            let next = tree[*at].next(row);
            moved |= next ^ *at;
            *at = next;
        }
        if moved == 0 {
            return at;
        }
    }
}

#[cfg(test)]
pub(in crate::model::tree) mod tests;
