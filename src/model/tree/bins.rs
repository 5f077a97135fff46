//! Features cut into bins, so that a split is searched over a few hundred counts and not over every row.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

/// How finely features are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinSettings {
    /// At least 2, at most 65,536. Up to 256 take one byte per value, more take two.
    pub bins_max: usize,
    /// The share of the bins that is spread by the positives alone. Where one row in a hundred is positive, bins of
    /// equal size would be coarse just where the positives are, and blunt the tail that matters.
    pub positive_share: f64,
}

/// Where each feature is cut: ascending, and a value's bin is the number of cuts below it. So `value <= cuts[j]` and
/// `bin <= j` are one and the same for every value, seen in training or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Cuts(Vec<Vec<f32>>);

/// The bin of every value, by feature.
#[derive(Debug)]
pub struct Bins {
    columns: Vec<Column>,
    rows: usize,
}

#[derive(Debug)]
pub enum Column {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl Column {
    #[inline]
    pub fn at(&self, row: usize) -> usize {
        match self {
            Self::Narrow(bins) => bins[row] as usize,
            Self::Wide(bins) => bins[row] as usize,
        }
    }
}

impl Cuts {
    /// Cuts between values, so that each bin weighs about the same.
    pub fn new(records: ArrayView2<'_, f32>, labels: ArrayView1<'_, bool>, settings: BinSettings) -> Self {
        let positives: Vec<usize> =
            labels.iter().enumerate().filter(|(_, label)| **label).map(|(row, _)| row).collect();
        let cuts = (0..records.ncols()).into_par_iter().map(|feature| {
            let column = records.column(feature);
            let mut chosen: Vec<u32> = positives.iter().map(|&row| key(column[row])).collect();
            chosen.sort_unstable();
            let all = sorted_keys(column);
            cut(&masses(&all, &chosen, settings.positive_share), settings.bins_max)
        });
        Self(cuts.collect())
    }

    /// The value below or at which a row goes left when its bin is at most `bin`.
    pub fn threshold(&self, feature: usize, bin: usize) -> f32 {
        self.0[feature][bin]
    }

    pub fn bins(&self, feature: usize) -> usize {
        self.0[feature].len() + 1
    }

    /// Where the bins of each feature stand when all are laid in a row.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let mut next = |feature| {
            let start = end;
            end += self.bins(feature);
            start..end
        };
        (0..self.0.len()).map(&mut next).collect()
    }

    pub fn apply(&self, records: ArrayView2<'_, f32>) -> Bins {
        let columns = self.0.par_iter().enumerate().map(|(feature, cuts)| {
            let column = records.column(feature);
            let bin = |&value: &f32| cuts.partition_point(|&cut| cut < value);
            if cuts.len() < 256 {
                Column::Narrow(column.iter().map(|value| bin(value) as u8).collect())
            } else {
                Column::Wide(column.iter().map(|value| bin(value) as u16).collect())
            }
        });
        Bins { columns: columns.collect(), rows: records.nrows() }
    }
}

impl Bins {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn column(&self, feature: usize) -> &Column {
        &self.columns[feature]
    }
}

/// A distinct value and its share of the whole.
struct Mass {
    value: f32,
    share: f64,
}

/// `all` and `positives` are sorted keys; every positive stands in `all` too.
fn masses(all: &[u32], positives: &[u32], positive_share: f64) -> Vec<Mass> {
    let positive_share = if positives.is_empty() { 0.0 } else { positive_share };
    let each = (1.0 - positive_share) / all.len().max(1) as f64;
    let each_positive = positive_share / positives.len().max(1) as f64;
    let mut masses: Vec<Mass> = Vec::new();
    let mut positives = positives;
    for run in all.chunk_by(|a, b| a == b) {
        let mine = positives.iter().take_while(|&&positive| positive == run[0]).count();
        positives = &positives[mine..];
        let share = each * run.len() as f64 + each_positive * mine as f64;
        masses.push(Mass { value: value(run[0]), share });
    }
    masses
}

fn cut(masses: &[Mass], bins_max: usize) -> Vec<f32> {
    let between = |pair: &[Mass]| middle(pair[0].value, pair[1].value);
    if masses.len() <= bins_max {
        return masses.windows(2).map(between).collect();
    }
    let mut rest = Rest::new(masses, bins_max);
    let mut cuts = Vec::with_capacity(bins_max - 1);
    let mut share = 0.0;
    for pair in masses.windows(2) {
        let is_alone = pair[0].share >= rest.alone_min;
        if !is_alone {
            share += pair[0].share;
        }
        let is_full = is_alone || share >= rest.target() || pair[1].share >= rest.alone_min;
        if is_full && cuts.len() + 1 < bins_max {
            cuts.push(between(pair));
            if !is_alone {
                rest.take(share);
                share = 0.0;
            }
        }
    }
    cuts
}

/// What is left to be shared evenly, once every value that fills a bin alone has been given its own.
struct Rest {
    alone_min: f64,
    share: f64,
    bins: usize,
}

impl Rest {
    fn new(masses: &[Mass], bins_max: usize) -> Self {
        let mut rest = Self { alone_min: f64::INFINITY, share: 1.0, bins: bins_max };
        // Targets only fall, and each fall sets another value apart.
        while rest.target() < rest.alone_min * 0.999 {
            let alone_min = rest.target();
            let (alone, others): (Vec<&Mass>, Vec<&Mass>) = masses.iter().partition(|mass| mass.share >= alone_min);
            let share = others.iter().map(|mass| mass.share).sum();
            rest = Self { alone_min, share, bins: bins_max - alone.len().min(bins_max - 1) };
        }
        rest
    }

    /// The share of a bin; sums that fall short of it by rounding alone are to reach it.
    fn target(&self) -> f64 {
        self.share.max(0.0) / self.bins as f64 * (1.0 - 1e-9)
    }

    /// What one bin takes more than its target, the others have less of.
    fn take(&mut self, share: f64) {
        self.share -= share;
        self.bins = (self.bins - 1).max(1);
    }
}

/// At least `a` and below `b`.
fn middle(a: f32, b: f32) -> f32 {
    let middle = a / 2.0 + b / 2.0;
    if a <= middle && middle < b { middle } else { a }
}

/// Keys are ordered as the values are; both zeros have one key.
fn key(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

fn value(key: u32) -> f32 {
    f32::from_bits(key ^ ((!(key as i32 >> 31) as u32) | 0x8000_0000))
}

/// By three passes of eleven bits, as 32-bit keys have no need of comparisons.
fn sorted_keys(column: ArrayView1<'_, f32>) -> Vec<u32> {
    const BITS: u32 = 11;
    let mut keys: Vec<u32> = column.iter().map(|&value| key(value)).collect();
    let mut other = vec![0; keys.len()];
    for pass in 0..3 {
        let digit = |key: u32| (key >> (pass * BITS)) as usize & ((1 << BITS) - 1);
        let mut starts = [0_u32; 1 << BITS];
        for &key in &keys {
            starts[digit(key)] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        for &key in &keys {
            let start = &mut starts[digit(key)];
            other[*start as usize] = key;
            *start += 1;
        }
        std::mem::swap(&mut keys, &mut other);
    }
    keys
}

#[cfg(test)]
mod tests;
