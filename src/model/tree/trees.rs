//! Fitted trees laid flat: eight bytes a node, children side by side, so that a step is one load and one comparison.

mod perfect;

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use crate::model::Contributions;
use perfect::Perfect;

/// A row goes to the node after `left` when its value is above the threshold, else to `left`, as what is no number does. A leaf
/// leads to itself, and its threshold is infinite: so several walks can go on in step until the last has arrived.
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
/// Rows of one task, which stay in the cache: a multiple of both numbers of walks in step, so that only the last task leaves
/// some over.
const BLOCK: usize = LANES * perfect::LANES;
/// Trees of so many levels are walked to the last one: to look after each step whether all have arrived costs a third more.
const SHALLOW: usize = 8;
/// A tree of one leaf, for a lane that has none.
static STILL: [Node; 1] = [Node { threshold: f32::INFINITY, link: 0 }];
static STILL_VALUES: [f32; 1] = [0.0];

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
    /// Of each tree the steps from its root to its deepest leaf.
    depths: Vec<usize>,
    pub(super) nodes: Vec<Node>,
    /// Of a leaf its output, of an inner node the mean over the training rows below it.
    pub(super) values: Vec<f32>,
    /// The first trees again, up to one that does not fit; they are all once that one is taken back.
    perfect: Vec<Perfect>,
}

impl Trees {
    pub fn new(width: usize) -> Self {
        Self { width, starts: vec![0], ..Self::default() }
    }

    /// Adds a tree whose children come after their parents.
    pub fn push(&mut self, nodes: Vec<Node>, values: Vec<f32>) {
        let depth = depth(&nodes);
        if self.perfect.len() == self.len() {
            self.perfect.extend(Perfect::of(&nodes, &values, depth, self.width));
        }
        self.depths.push(depth);
        self.nodes.extend(nodes);
        self.values.extend(values);
        self.starts.push(self.nodes.len());
    }

    pub fn truncate(&mut self, trees: usize) {
        self.starts.truncate(trees + 1);
        self.depths.truncate(trees);
        self.perfect.truncate(trees);
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

    /// All trees, where all of them fit.
    fn perfect(&self) -> Option<&[Perfect]> {
        (self.perfect.len() == self.len()).then_some(&self.perfect)
    }

    /// The sum over all trees for one row.
    ///
    /// # Panics
    /// When the row has another number of features than the trees.
    pub fn sum(&self, row: &[f32]) -> f64 {
        assert_eq!(row.len(), self.width, "a row of another width than the model");
        if let Some(trees) = self.perfect() {
            return perfect::sum(trees, &perfect::padded(row));
        }
        let mut sum = 0.0;
        for (starts, depths) in self.groups() {
            let leaves = walk_trees(self.lanes(starts), depths, row);
            for (start, leaf) in starts.iter().zip(leaves).take(depths.len()) {
                sum += f64::from(self.values[start + leaf]);
            }
        }
        sum
    }

    /// Trees that are walked in step: where each starts and the last one ends, and their depths.
    fn groups(&self) -> impl Iterator<Item = (&[usize], &[usize])> {
        let groups = self.depths.chunks(LANES).enumerate();
        groups.map(|(group, depths)| (&self.starts[group * LANES..][..=depths.len()], depths))
    }

    /// The trees of a group.
    fn lanes(&self, starts: &[usize]) -> [&[Node]; LANES] {
        let mut lanes: [&[Node]; LANES] = [&STILL; LANES];
        for (lane, bounds) in lanes.iter_mut().zip(starts.windows(2)) {
            *lane = &self.nodes[bounds[0]..bounds[1]];
        }
        lanes
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
            if let Some(trees) = self.perfect() {
                return perfect::add(trees, part, sums);
            }
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
        for ((tree, values), depth) in self.iter().zip(&self.depths) {
            let mut groups = sums.chunks_exact_mut(LANES);
            let mut rows = rows.chunks_exact(self.width * LANES);
            for (sums, rows) in groups.by_ref().zip(rows.by_ref()) {
                for (sum, leaf) in sums.iter_mut().zip(walk_rows(tree, *depth, rows, self.width)) {
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
    ///
    /// # Panics
    /// When the row has another number of features than the trees.
    pub fn contributions(&self, row: &[f32]) -> Contributions {
        assert_eq!(row.len(), self.width, "a row of another width than the model");
        // Lane by lane, and added up at the end: in one sum each step would wait for the one before.
        let mut parts = vec![[0.0; LANES]; self.width];
        let base = match self.perfect() {
            Some(trees) => perfect::contribute(trees, &perfect::padded(row), &mut parts),
            None => self.contribute(row, &mut parts),
        };
        Contributions { base, features: parts.iter().map(|lanes| lanes.iter().sum()).collect() }
    }

    /// Adds to the parts of a row, and gives the sum of the means at the roots.
    fn contribute(&self, row: &[f32], parts: &mut [[f64; LANES]]) -> f64 {
        let mut base = 0.0;
        for (starts, depths) in self.groups() {
            let trees = self.lanes(starts);
            let mut values: [&[f32]; LANES] = [&STILL_VALUES; LANES];
            for (lane, bounds) in values.iter_mut().zip(starts.windows(2)) {
                *lane = &self.values[bounds[0]..bounds[1]];
            }
            let mut means = values.map(|values| f64::from(values[0]));
            means.iter().for_each(|mean| base += mean);
            in_step(deepest(depths), |at| {
                let mut moved = 0;
                for lane in 0..LANES {
                    let node = trees[lane][at[lane]];
                    let next = node.next(row);
                    let mean = f64::from(values[lane][next]);
                    // Of a leaf that is nothing: it leads to itself.
                    parts[node.feature()][lane] += mean - means[lane];
                    means[lane] = mean;
                    moved |= go(&mut at[lane], next);
                }
                moved
            });
        }
        base
    }

    /// As [`Trees::contributions`] for row after row, to the same bits: each tree comes into the cache once for many of them.
    pub fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        let mut told = Vec::with_capacity(rows.len() / self.width);
        if let Some(trees) = self.perfect() {
            let groups = rows.chunks_exact(self.width * perfect::LANES);
            let few = groups.remainder();
            groups.for_each(|rows| told.extend(perfect::contributions(trees, rows, self.width)));
            told.extend(few.chunks_exact(self.width).map(|row| self.contributions(row)));
            return told;
        }
        for block in rows.chunks(self.width * BLOCK) {
            let groups = block.chunks_exact(self.width * LANES);
            let few = groups.remainder();
            self.contributions_of_block(&block[..block.len() - few.len()], &mut told);
            told.extend(few.chunks_exact(self.width).map(|row| self.contributions(row)));
        }
        told
    }

    /// Of rows that come in whole groups.
    fn contributions_of_block(&self, rows: &[f32], told: &mut Vec<Contributions>) {
        let (mut sums, mut parts) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        // The trees of a lane of `contributions`, and then those of the next: what is added up first is the same there.
        for lane in 0..LANES {
            for ((tree, values), depth) in self.iter().zip(&self.depths).skip(lane).step_by(LANES) {
                let groups = rows.chunks_exact(self.width * LANES).zip(parts.chunks_exact_mut(self.width * LANES));
                for (rows, parts) in groups {
                    let mut means = [f64::from(values[0]); LANES];
                    in_step(*depth, |at| {
                        let mut moved = 0;
                        let lanes = rows.chunks_exact(self.width).zip(parts.chunks_exact_mut(self.width));
                        for (((row, parts), at), mean_at) in lanes.zip(at).zip(&mut means) {
                            let node = tree[*at];
                            let next = node.next(row);
                            let mean = f64::from(values[next]);
                            parts[node.feature()] += mean - *mean_at;
                            *mean_at = mean;
                            moved |= go(at, next);
                        }
                        moved
                    });
                }
            }
            for (sum, part) in sums.iter_mut().zip(&mut parts) {
                *sum += std::mem::take(part);
            }
        }
        let base = self.iter().fold(0.0, |base, (_, values)| base + f64::from(values[0]));
        told.extend(sums.chunks_exact(self.width).map(|features| Contributions { base, features: features.to_vec() }));
    }
}

/// Steps from the root to the deepest leaf.
fn depth(nodes: &[Node]) -> usize {
    let mut depths = vec![0; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let (left, below) = (node.left(), depths[at] + 1);
        if left != at {
            depths[left..left + 2].fill(below);
        }
    }
    depths.into_iter().max().unwrap_or(0)
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

fn deepest(depths: &[usize]) -> usize {
    depths.iter().copied().max().unwrap_or(0)
}

#[inline]
fn walk_trees(trees: [&[Node]; LANES], depths: &[usize], row: &[f32]) -> [usize; LANES] {
    in_step(deepest(depths), |at| {
        let lanes = at.iter_mut().zip(trees);
        lanes.fold(0, |moved, (at, tree)| moved | go(at, tree[*at].next(row)))
    })
}

#[inline]
fn walk_rows(tree: &[Node], depth: usize, rows: &[f32], width: usize) -> [usize; LANES] {
    in_step(depth, |at| {
        let lanes = at.iter_mut().zip(rows.chunks_exact(width));
        lanes.fold(0, |moved, (at, row)| moved | go(at, tree[*at].next(row)))
    })
}

/// 0 when that is where it was.
#[inline]
fn go(at: &mut usize, to: usize) -> usize {
    std::mem::replace(at, to) ^ to
}

/// Takes walks to their leaves, which are so many steps away at most. A step gives 0 when nobody moved.
#[inline]
fn in_step(depth: usize, mut step: impl FnMut(&mut [usize; LANES]) -> usize) -> [usize; LANES] {
    let mut at = [0; LANES];
    if depth <= SHALLOW {
        for _ in 0..depth {
            step(&mut at);
        }
    } else {
        while step(&mut at) != 0 {}
    }
    at
}

#[cfg(test)]
pub(in crate::model::tree) mod tests;
