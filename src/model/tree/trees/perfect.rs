//! Shallow trees filled up to perfect ones, a leaf repeated down to the last step: where a step leads is arithmetic, and no
//! index needs a check, so that a walk takes 40% of the time for one row, and 70% for many.

use ndarray::{ArrayView1, ArrayView2};

use super::Node;
use crate::model::Contributions;

/// Steps to the last places.
const DEPTH_MAX: usize = 6;
/// Places of splits: the root is 1, and below place `p` are `2p` and `2p + 1`; nothing is at 0.
const SPLITS: usize = 1 << DEPTH_MAX;
const PLACES: usize = 2 * SPLITS;
/// A split names its feature in a byte.
const FEATURES_MAX: usize = 1 << u8::BITS;
/// How many walks go in step: of 4, 8, 12, 16 and 20 these were the fastest.
pub(super) const LANES: usize = 12;
/// So many trees are added up apart, as where they are walked as they are: to the same bits.
const APART: usize = super::LANES;

/// A row with room for every feature that can be named; what the model does not read is 0.
pub(super) type Row = [f32; FEATURES_MAX];

/// A tree: its thresholds, features and values by place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Perfect {
    thresholds: [f32; SPLITS],
    features: [u8; SPLITS],
    values: [f32; PLACES],
    /// Steps to the deepest leaf.
    depth: usize,
}

impl Perfect {
    /// `None` where it is too deep, or rows are too wide.
    pub(super) fn of(nodes: &[Node], values: &[f32], depth: usize, width: usize) -> Option<Self> {
        if depth > DEPTH_MAX || width > FEATURES_MAX {
            return None;
        }
        let mut perfect = Self { thresholds: [0.0; SPLITS], features: [0; SPLITS], values: [0.0; PLACES], depth };
        // Of each place the node that stands there.
        let mut standing = [0; PLACES];
        for place in 1..PLACES {
            let at = standing[place];
            let node = nodes[at];
            perfect.values[place] = values[at];
            if place < SPLITS {
                perfect.features[place] = u8::try_from(node.feature()).ok()?;
                perfect.thresholds[place] = node.threshold;
                // A leaf leads to itself, on the left; nobody goes right.
                let left = node.left();
                standing[2 * place] = left;
                standing[2 * place + 1] = if left == at { at } else { left + 1 };
            }
        }
        Some(perfect)
    }

    #[inline]
    fn next(&self, at: usize, row: &Row) -> usize {
        let at = at % SPLITS;
        2 * at + usize::from(row[self.feature(at)] > self.thresholds[at])
    }

    #[inline]
    fn feature(&self, at: usize) -> usize {
        usize::from(self.features[at % SPLITS])
    }

    #[inline]
    fn value(&self, at: usize) -> f64 {
        f64::from(self.values[at % PLACES])
    }

    /// The place at which each row arrives; `step` is told where it stood and where it goes.
    #[inline]
    fn walk(&self, rows: &[Row; LANES], mut step: impl FnMut(usize, usize, usize)) -> [usize; LANES] {
        let mut at = [1; LANES];
        for _ in 0..self.depth {
            for (lane, (at, row)) in at.iter_mut().zip(rows).enumerate() {
                let next = self.next(*at, row);
                step(lane, *at, next);
                *at = next;
            }
        }
        at
    }
}

/// A row, and zeros after it.
pub(super) fn padded(row: &[f32]) -> Row {
    let mut padded = [0.0; FEATURES_MAX];
    padded[..row.len()].copy_from_slice(row);
    padded
}

/// The values of the leaves in which each row ends, added up tree by tree to sums that are 0.
#[inline(never)]
pub(super) fn add(trees: &[Perfect], records: ArrayView2<'_, f32>, sums: &mut [f64]) {
    let mut records = records.rows().into_iter();
    let mut rows = [[0.0; FEATURES_MAX]; LANES];
    let (groups, rest) = sums.as_chunks_mut::<LANES>();
    for sums in groups {
        rows.iter_mut().zip(&mut records).for_each(|(row, record)| fill(row, record));
        for tree in trees {
            let leaves = tree.walk(&rows, |_, _, _| {});
            sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += tree.value(leaf));
        }
    }
    for (total, record) in rest.iter_mut().zip(records) {
        fill(&mut rows[0], record);
        *total = sum(trees, &rows[0]);
    }
}

fn fill(row: &mut Row, record: ArrayView1<'_, f32>) {
    match record.as_slice() {
        Some(record) => row[..record.len()].copy_from_slice(record),
        None => row.iter_mut().zip(record).for_each(|(cell, value)| *cell = *value),
    }
}

/// The values of the leaves in which a row ends, added up tree by tree.
pub(super) fn sum(trees: &[Perfect], row: &Row) -> f64 {
    let (groups, rest) = trees.as_chunks::<LANES>();
    let mut sum = 0.0;
    for group in groups {
        let leaves = in_step(group, row, |_, _, _| {});
        group.iter().zip(leaves).for_each(|(tree, leaf)| sum += tree.value(leaf));
    }
    for tree in rest {
        let [leaf] = in_step(std::array::from_ref(tree), row, |_, _, _| {});
        sum += tree.value(leaf);
    }
    sum
}

/// Adds what each step adds to the mean, by feature and by the number of the tree modulo [`APART`]; gives the sum of the means
/// at the roots.
pub(super) fn contribute(trees: &[Perfect], row: &Row, parts: &mut [[f64; APART]]) -> f64 {
    let (groups, rest) = trees.as_chunks::<APART>();
    for group in groups {
        moved(group, row, |tree, feature, part| parts[feature][tree] += part);
    }
    for (number, tree) in rest.iter().enumerate() {
        moved(std::array::from_ref(tree), row, |_, feature, part| parts[feature][number] += part);
    }
    base(trees)
}

/// As [`contribute`] for [`LANES`] rows of `width` features, each row added up as there.
pub(super) fn contributions(trees: &[Perfect], records: &[f32], width: usize) -> Vec<Contributions> {
    let mut rows = [[0.0; FEATURES_MAX]; LANES];
    for (row, record) in rows.iter_mut().zip(records.chunks_exact(width)) {
        row[..width].copy_from_slice(record);
    }
    let (mut sums, mut parts) = (vec![0.0; LANES * width], vec![0.0; LANES * width]);
    for first in 0..APART {
        for tree in trees.iter().skip(first).step_by(APART) {
            let mut means = [tree.value(1); LANES];
            tree.walk(&rows, |lane, at, next| {
                let mean = tree.value(next);
                parts[lane * width + tree.feature(at)] += mean - std::mem::replace(&mut means[lane], mean);
            });
        }
        sums.iter_mut().zip(&mut parts).for_each(|(sum, part)| *sum += std::mem::take(part));
    }
    let base = base(trees);
    sums.chunks_exact(width).map(|features| Contributions { base, features: features.to_vec() }).collect()
}

fn base(trees: &[Perfect]) -> f64 {
    trees.iter().fold(0.0, |base, tree| base + tree.value(1))
}

/// Tells of each step the tree's number, the feature, and how the mean moves.
#[inline]
fn moved<const TREES: usize>(trees: &[Perfect; TREES], row: &Row, mut tell: impl FnMut(usize, usize, f64)) {
    let mut means = trees.each_ref().map(|tree| tree.value(1));
    in_step(trees, row, |lane, at, next| {
        let (tree, mean) = (&trees[lane], trees[lane].value(next));
        tell(lane, tree.feature(at), mean - std::mem::replace(&mut means[lane], mean));
    });
}

/// The place at which the row arrives in each tree.
#[inline]
fn in_step<const TREES: usize>(
    trees: &[Perfect; TREES],
    row: &Row,
    mut step: impl FnMut(usize, usize, usize),
) -> [usize; TREES] {
    let mut at = [1; TREES];
    let deepest = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
    for _ in 0..deepest {
        for (lane, (at, tree)) in at.iter_mut().zip(trees).enumerate() {
            let next = tree.next(*at, row);
            step(lane, *at, next);
            *at = next;
        }
    }
    at
}
