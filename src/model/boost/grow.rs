//! One tree of the booster: histograms of gradients, best splits, leaves.

use std::ops::Range;

use rayon::prelude::*;

use super::BoostSettings;
use super::gradients::{Gradients, Pair, gradient, hessian};
use crate::model::ModelError;
use crate::model::random::Random;
use crate::model::tree::{Bins, Column, Cuts, Growing, partition};

/// What is kept from tree to tree: the buffers.
pub struct Grower<'a> {
    bins: &'a Bins,
    cuts: &'a Cuts,
    settings: &'a BoostSettings,
    /// Where each feature's bins stand in a histogram.
    ranges: Vec<Range<usize>>,
    rows: Vec<u32>,
    spare: Vec<u32>,
    /// The pairs of the node at hand, in the order of its rows.
    ordered: Vec<Pair>,
    pool: Vec<Vec<Pair>>,
}

/// A leaf that is to be split.
struct Open {
    node: usize,
    rows: Range<usize>,
    depth: usize,
    sum: Pair,
    histogram: Vec<Pair>,
    best: Option<Found>,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    feature: usize,
    bin: usize,
    left: Pair,
    gain: f64,
}

/// What a split is judged by, in the units of the pairs.
struct Judge {
    l2: f64,
    gain_min: f64,
    child_weight_min: i64,
    learning_rate: f64,
    /// From the units of the pairs to those of log-odds.
    to_log_odds: f64,
}

/// Below this many values to add up, threads cost more than they save.
const PARALLEL_MIN: usize = 1 << 17;

impl<'a> Grower<'a> {
    pub fn new(bins: &'a Bins, cuts: &'a Cuts, settings: &'a BoostSettings) -> Self {
        let rows = bins.rows();
        Self {
            bins,
            cuts,
            settings,
            ranges: cuts.ranges(),
            rows: Vec::with_capacity(rows),
            spare: vec![0; rows],
            ordered: Vec::with_capacity(rows),
            pool: Vec::new(),
        }
    }

    /// Grows a tree and adds its output to the log-odds of every row.
    pub fn grow(
        &mut self,
        gradients: &Gradients,
        random: &mut Random,
        log_odds: &mut [f32],
    ) -> Result<Growing, ModelError> {
        let judge = Judge::new(gradients, self.settings);
        let features = self.draw_features(random);
        let left_out = self.draw_rows(random);
        let sum = self.rows.iter().map(|&row| gradients.pairs()[row as usize]).sum();
        let mut tree = Growing::new(judge.leaf(sum), hessian(sum) as f64);
        let mut leaves = Vec::new();
        let mut open = vec![self.root(gradients, &features, sum, &judge)];
        while let Some(node) = open.pop() {
            let Some(found) = node.best else {
                leaves.push((node.node, node.rows));
                self.pool.push(node.histogram);
                continue;
            };
            let right = node.sum - found.left;
            let children = [found.left, right].map(|sum| (judge.leaf(sum), hessian(sum) as f64));
            let left_node = tree.split(node.node, (found.feature, found.bin), self.cuts, children)?;
            let cut = node.rows.start + self.divide(node.rows.clone(), found);
            let sides = [(left_node, node.rows.start..cut, found.left), (left_node + 1, cut..node.rows.end, right)];
            let depth = node.depth + 1;
            if depth == self.settings.depth_max || !sides.iter().any(|(.., sum)| judge.may_split(*sum)) {
                leaves.extend(sides.map(|(node, rows, _)| (node, rows)));
                self.pool.push(node.histogram);
                continue;
            }
            open.extend(self.open_both(sides, depth, node.histogram, gradients, &features, &judge));
        }
        for (node, rows) in leaves {
            let value = tree.value(node);
            for &row in &self.rows[rows] {
                log_odds[row as usize] += value;
            }
        }
        for row in left_out {
            log_odds[row as usize] += tree.value(tree.leaf(self.bins, row as usize));
        }
        Ok(tree)
    }

    fn draw_features(&self, random: &mut Random) -> Vec<usize> {
        let mut features: Vec<usize> = (0..self.bins.width()).collect();
        let share = self.settings.feature_share;
        if share < 1.0 {
            random.shuffle(&mut features);
            features.truncate(((features.len() as f64 * share).round() as usize).max(1));
            features.sort_unstable();
        }
        features
    }

    /// Returns the rows that the tree does not see.
    fn draw_rows(&mut self, random: &mut Random) -> Vec<u32> {
        let (rows, share) = (0..self.bins.rows() as u32, self.settings.row_share);
        self.rows.clear();
        if share >= 1.0 {
            self.rows.extend(rows);
            return Vec::new();
        }
        let (seen, left_out): (Vec<u32>, Vec<u32>) = rows.partition(|_| random.unit() < share);
        self.rows = seen;
        left_out
    }

    fn root(&mut self, gradients: &Gradients, features: &[usize], sum: Pair, judge: &Judge) -> Open {
        let mut histogram = self.histogram();
        let is_whole = self.rows.len() == self.bins.rows();
        self.order(gradients, 0..self.rows.len());
        let (bins, rows, pairs) = (self.bins, &self.rows, &self.ordered);
        let tasks = self.tasks(features, &mut histogram);
        let found = each(tasks, rows.len() * features.len(), |(feature, counts)| {
            if is_whole {
                add_all(counts, bins.column(feature), pairs);
            } else {
                add(counts, bins.column(feature), rows, pairs);
            }
            judge.best(feature, counts, sum)
        });
        Open { node: 0, rows: 0..self.rows.len(), depth: 0, sum, histogram, best: best_of(found) }
    }

    /// Adds up the smaller side, and takes the difference to the parent for the larger.
    fn open_both(
        &mut self,
        sides: [(usize, Range<usize>, Pair); 2],
        depth: usize,
        parent: Vec<Pair>,
        gradients: &Gradients,
        features: &[usize],
        judge: &Judge,
    ) -> [Open; 2] {
        let swap = sides[0].1.len() > sides[1].1.len();
        let [left, right] = sides;
        let (small, large) = if swap { (right, left) } else { (left, right) };
        let (mut small_histogram, mut large_histogram) = (self.histogram(), parent);
        self.order(gradients, small.1.clone());
        let (bins, rows, pairs) = (self.bins, &self.rows[small.1.clone()], &self.ordered);
        let larges = self.tasks(features, &mut large_histogram);
        let tasks = self.tasks(features, &mut small_histogram).into_iter().zip(larges).collect();
        let found = each(tasks, rows.len() * features.len(), |((feature, counts), (_, others))| {
            add(counts, bins.column(feature), rows, pairs);
            for (other, count) in others.iter_mut().zip(&*counts) {
                *other -= count;
            }
            (judge.best(feature, counts, small.2), judge.best(feature, others, large.2))
        });
        let (found_small, found_large): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let open = |(node, rows, sum), histogram, best| Open { node, rows, depth, sum, histogram, best };
        let small = open(small, small_histogram, best_of(found_small));
        let large = open(large, large_histogram, best_of(found_large));
        if swap { [large, small] } else { [small, large] }
    }

    fn divide(&mut self, rows: Range<usize>, found: Found) -> usize {
        let column = self.bins.column(found.feature);
        partition(&mut self.rows[rows], &mut self.spare, column, found.bin, |row| row as usize)
    }

    fn order(&mut self, gradients: &Gradients, rows: Range<usize>) {
        let pairs = gradients.pairs();
        self.ordered.clear();
        self.ordered.extend(self.rows[rows].iter().map(|&row| pairs[row as usize]));
    }

    fn histogram(&mut self) -> Vec<Pair> {
        let mut histogram = self.pool.pop().unwrap_or_default();
        histogram.clear();
        histogram.resize(self.ranges.last().map_or(0, |range| range.end), 0);
        histogram
    }

    /// The part of each feature in a histogram.
    fn tasks<'h>(&self, features: &[usize], histogram: &'h mut [Pair]) -> Vec<(usize, &'h mut [Pair])> {
        let mut wanted = features.iter().peekable();
        let mut rest = histogram;
        let mut tasks = Vec::with_capacity(features.len());
        for (feature, range) in self.ranges.iter().enumerate() {
            let (mine, others) = rest.split_at_mut(range.len());
            rest = others;
            if wanted.next_if_eq(&&feature).is_some() {
                tasks.push((feature, mine));
            }
        }
        tasks
    }
}

impl Judge {
    fn new(gradients: &Gradients, settings: &BoostSettings) -> Self {
        let to_log_odds = gradients.hessian_unit / gradients.gradient_unit;
        Self {
            l2: settings.l2 * gradients.hessian_unit,
            gain_min: 2.0 * settings.gain_min * gradients.gradient_unit.powi(2) / gradients.hessian_unit,
            // A side of nothing is no split.
            child_weight_min: ((settings.child_weight_min * gradients.hessian_unit).ceil() as i64).max(1),
            learning_rate: settings.learning_rate,
            to_log_odds,
        }
    }

    fn leaf(&self, sum: Pair) -> f32 {
        let weight = hessian(sum) as f64 + self.l2;
        if weight > 0.0 { (-self.learning_rate * self.to_log_odds * gradient(sum) as f64 / weight) as f32 } else { 0.0 }
    }

    const fn may_split(&self, sum: Pair) -> bool {
        hessian(sum) >= 2 * self.child_weight_min
    }

    fn score(&self, gradient: i64, hessian: i64) -> f64 {
        let gradient = gradient as f64;
        gradient * gradient / (hessian as f64 + self.l2)
    }

    fn best(&self, feature: usize, counts: &[Pair], sum: Pair) -> Option<Found> {
        if !self.may_split(sum) {
            return None;
        }
        let (all_gradient, all_hessian) = (gradient(sum), hessian(sum));
        let floor = self.score(all_gradient, all_hessian) + self.gain_min;
        let mut best = None;
        let mut best_score = floor * (1.0 + 1e-9);
        let mut left = 0;
        for (bin, &count) in counts.iter().enumerate() {
            if count == 0 {
                continue;
            }
            left += count;
            let (gradient, hessian) = (gradient(left), hessian(left));
            if hessian < self.child_weight_min {
                continue;
            }
            if all_hessian - hessian < self.child_weight_min {
                break;
            }
            let score = self.score(gradient, hessian) + self.score(all_gradient - gradient, all_hessian - hessian);
            if score > best_score {
                best_score = score;
                best = Some(Found { feature, bin, left, gain: score - floor });
            }
        }
        best
    }
}

/// The first of the best, whatever thread found it.
fn best_of(found: Vec<Option<Found>>) -> Option<Found> {
    found.into_iter().flatten().reduce(|best, other| if other.gain > best.gain { other } else { best })
}

/// In the order of the tasks, by as many threads as the work is worth.
fn each<T: Send, R: Send>(tasks: Vec<T>, work: usize, run: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if work >= PARALLEL_MIN { tasks.into_par_iter().map(run).collect() } else { tasks.into_iter().map(run).collect() }
}

fn add_all(counts: &mut [Pair], column: &Column, pairs: &[Pair]) {
    match column {
        Column::Narrow(bins) => bins.iter().zip(pairs).for_each(|(&bin, pair)| counts[bin as usize] += pair),
        Column::Wide(bins) => bins.iter().zip(pairs).for_each(|(&bin, pair)| counts[bin as usize] += pair),
    }
}

fn add(counts: &mut [Pair], column: &Column, rows: &[u32], pairs: &[Pair]) {
    match column {
        Column::Narrow(bins) => {
            rows.iter().zip(pairs).for_each(|(&row, pair)| counts[bins[row as usize] as usize] += pair);
        }
        Column::Wide(bins) => {
            rows.iter().zip(pairs).for_each(|(&row, pair)| counts[bins[row as usize] as usize] += pair);
        }
    }
}
