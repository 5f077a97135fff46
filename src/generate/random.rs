//! Chance and arithmetic that give the same bits on every machine: no logarithm or exponential of the platform.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Uniform in `[low, high)`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `0..count`; 0 for an empty range.
    pub(super) fn below(&mut self, count: u32) -> u32 {
        scale(self.bits(), count)
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        items.get(self.below(count) as usize)
    }

    /// About standard normal, within ±3.5: the sum of four uniform numbers.
    pub(super) fn normal(&mut self) -> f64 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        (f64::from(u32::try_from(sum).unwrap_or(0)) / 65_536.0 - 2.0) * 3.0_f64.sqrt()
    }
}

/// The upper half of a 64-bit product: uniform in `0..count`.
#[allow(clippy::cast_possible_truncation, reason = "below count by construction")]
pub(super) const fn scale(bits: u64, count: u32) -> u32 {
    (((bits >> 32) * count as u64) >> 32) as u32
}

#[allow(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / 9_007_199_254_740_992.0
}

/// A bijection of 64 bits that looks like chance (SplitMix64's finaliser).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The exponential function, good to 11 digits for |x| < 20, by additions and products only.
pub(super) fn exp(x: f64) -> f64 {
    let r = x / 1024.0;
    let mut y = 1.0 + r * (1.0 + r / 2.0 * (1.0 + r / 3.0 * (1.0 + r / 4.0 * (1.0 + r / 5.0))));
    for _ in 0..10 {
        y *= y;
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_one() {
        for x in [-9.5, -1.0, 0.0, 0.5, 3.0, 11.0] {
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-10, "{x}");
        }
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let mut dice = Dice::new(1);
        let sample: Vec<f64> = std::iter::repeat_with(|| dice.normal()).take(100_000).collect();
        let mean = sample.iter().sum::<f64>() / 1e5;
        let variance = sample.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
