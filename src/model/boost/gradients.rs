//! First and second derivatives of the loss as integers: sums of integers are exact, so neither the order of the rows
//! nor the number of threads shows in a tree, and a sibling's histogram is a plain difference.

use rayon::prelude::*;

/// One row's pair: the gradient in the upper 32 bits, the hessian, never negative, in the lower 32.
pub type Pair = i64;

#[must_use]
pub const fn gradient(sum: Pair) -> i64 {
    sum >> 32
}

#[must_use]
pub const fn hessian(sum: Pair) -> i64 {
    sum & 0xFFFF_FFFF
}

pub struct Gradients {
    pairs: Vec<Pair>,
    floats: Vec<(f32, f32)>,
    /// What 1 is in the units of the pairs.
    pub gradient_unit: f64,
    pub hessian_unit: f64,
}

/// Fixed, so that the sums over chunks do not depend on the threads.
const CHUNK: usize = 8192;

impl Gradients {
    pub fn new(rows: usize) -> Self {
        Self { pairs: vec![0; rows], floats: vec![(0.0, 0.0); rows], gradient_unit: 1.0, hessian_unit: 1.0 }
    }

    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The units are as fine as the sums over all rows allow: a thousand steps and more to the mean of a million rows.
    pub fn compute(&mut self, log_odds: &[f32], labels: &[bool]) {
        let chunks = self.floats.par_chunks_mut(CHUNK).zip(log_odds.par_chunks(CHUNK)).zip(labels.par_chunks(CHUNK));
        let sums: Vec<(f64, f64)> =
            chunks.map(|((floats, log_odds), labels)| derive(floats, log_odds, labels)).collect();
        let (gradients, hessians) = sums.iter().fold((0.0, 0.0), |sum, chunk| (sum.0 + chunk.0, sum.1 + chunk.1));
        // Each row may be rounded up by a half.
        let room = f64::from(i32::MAX) - log_odds.len() as f64;
        self.gradient_unit = room / gradients.max(f64::MIN_POSITIVE.sqrt());
        self.hessian_unit = room / hessians.max(f64::MIN_POSITIVE.sqrt());
        let (gradient_unit, hessian_unit) = (self.gradient_unit, self.hessian_unit);
        self.pairs.par_chunks_mut(CHUNK).zip(self.floats.par_chunks(CHUNK)).for_each(|(pairs, floats)| {
            for (pair, &(gradient, hessian)) in pairs.iter_mut().zip(floats) {
                let gradient = round(f64::from(gradient) * gradient_unit);
                let hessian = round(f64::from(hessian) * hessian_unit);
                *pair = (gradient << 32) + hessian;
            }
        });
    }
}

/// Returns Σ|gradient| and Σ hessian.
fn derive(floats: &mut [(f32, f32)], log_odds: &[f32], labels: &[bool]) -> (f64, f64) {
    for ((pair, &log_odds), &label) in floats.iter_mut().zip(log_odds).zip(labels) {
        let probability = 1.0 / (1.0 + exp(-log_odds));
        *pair = (probability - f32::from(u8::from(label)), probability * (1.0 - probability));
    }
    let mut sums = (0.0, 0.0);
    for &(gradient, hessian) in &*floats {
        sums.0 += f64::from(gradient.abs());
        sums.1 += f64::from(hessian);
    }
    sums
}

/// To the nearest integer, for values below 2^51: the sum's last bits are the integer.
#[inline]
const fn round(value: f64) -> i64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 × 2^52
    (value + MAGIC).to_bits() as i64 - MAGIC.to_bits() as i64
}

/// e^x to six digits: the same bits on every machine, and several at a time, unlike the library's.
#[inline]
fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 × 2^23
    let x = x.clamp(-87.0, 87.0) * std::f32::consts::LOG2_E;
    let shifted = x + MAGIC;
    let rest = (x - (shifted - MAGIC)) * std::f32::consts::LN_2;
    let whole = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let series = 1.0
        + rest
            * (1.0
                + rest
                    * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest * (1.0 / 120.0 + rest * (1.0 / 720.0))))));
    series * f32::from_bits(((whole + 127) << 23) as u32)
}

/// The area under the ROC curve: how often a positive stands above a negative, ties counting half.
pub fn auc(scores: &[f32], labels: &[bool]) -> f64 {
    let mut positives: Vec<f32> =
        scores.iter().zip(labels).filter(|(_, label)| **label).map(|(&score, _)| score).collect();
    positives.sort_unstable_by(f32::total_cmp);
    let negatives = scores.len() - positives.len();
    let above = |score: f32| {
        let below = positives.partition_point(|&positive| positive < score);
        let ties = positives[below..].iter().take_while(|&&positive| positive == score).count();
        2 * (positives.len() - below) - ties
    };
    let twice: usize = scores.iter().zip(labels).filter(|(_, label)| !**label).map(|(&score, _)| above(score)).sum();
    twice as f64 / (2.0 * positives.len() as f64 * negatives as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close() {
        for step in -3000..3000 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 3e-6, "e^{x} = {}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1000.0) > 0.0 && exp(1000.0).is_finite());
    }

    #[test]
    fn pairs_hold_both_sums_exactly() {
        let (log_odds, labels) = ([-3.0, 0.0, 2.5, -7.0], [false, true, false, true]);
        let mut gradients = Gradients::new(4);
        gradients.compute(&log_odds, &labels);
        let sum: i64 = gradients.pairs().iter().sum();
        let exact: Vec<f64> = log_odds.iter().map(|&x| 1.0 / (1.0 + f64::from(-x).exp())).collect();
        let g: f64 = exact.iter().zip(labels).map(|(p, label)| p - f64::from(u8::from(label))).sum();
        let h: f64 = exact.iter().map(|p| p * (1.0 - p)).sum();
        assert!((gradient(sum) as f64 / gradients.gradient_unit - g).abs() < 1e-5);
        assert!((hessian(sum) as f64 / gradients.hessian_unit - h).abs() < 1e-5);
    }

    #[test]
    fn the_area_counts_ties_as_half() {
        let area = auc(&[0.1, 0.4, 0.4, 0.8], &[false, true, false, true]);
        assert_eq!(area, (1.0 + 0.5 + 2.0) / 4.0);
        assert_eq!(auc(&[1.0, 2.0], &[false, true]), 1.0);
    }
}
