//! An exact set of integers at rest, in about two bits a member more than information theory asks for.

use super::packed::{Mixer, PackedSet};

/// Buckets between two samples.
const SAMPLED: usize = 32;
/// Positions are 32 bits.
const LEN_MAX: usize = 1 << 30;

/// The mixed integers of a [`PackedSet`], sorted and in Elias-Fano code (Vigna, "Quasi-succinct indices", 2013).
///
/// The first bits of an integer choose a bucket, of which there are about as many as members. `highs` says in unary how
/// many each has: a one for a member, a zero to end the bucket. The remaining bits of all members stand in `lows`.
/// Mixed integers are spread evenly, so that a bucket is found in a step or two from a sample of their positions.
#[derive(Debug)]
pub(super) struct FrozenSet {
    mixer: Mixer,
    low_bits: u32,
    len: usize,
    lows: Vec<u64>,
    highs: Vec<u64>,
    /// Where every [`SAMPLED`]th bucket begins in `highs`.
    samples: Vec<u32>,
}

impl FrozenSet {
    /// The members of `packed` and those of `frozen` that are to be kept; `None` when they are too many. Both must be of
    /// the same number of bits and have no member in common.
    pub fn of(frozen: Option<&Self>, packed: &PackedSet, mut keep: impl FnMut(u64) -> bool) -> Option<Self> {
        let len = packed.len() + frozen.map_or(0, |frozen| frozen.len);
        let mixer = *packed.mixer();
        let mut writer = Writer::new(mixer, len)?;
        let older = frozen.into_iter().flat_map(Self::mixed);
        let mut older = older.filter(|mixed| keep(mixer.unmix(*mixed))).peekable();
        packed.for_each_sorted(|mixed| {
            while let Some(before) = older.next_if(|older| *older < mixed) {
                writer.push(before);
            }
            writer.push(mixed);
        });
        older.for_each(|rest| writer.push(rest));
        Some(writer.finish())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bits(&self) -> u32 {
        self.mixer.bits()
    }

    pub fn bytes(&self) -> usize {
        (self.lows.capacity() + self.highs.capacity()) * size_of::<u64>() + self.samples.capacity() * size_of::<u32>()
    }

    /// `value` must be of the set's bits.
    #[inline]
    pub fn contains(&self, value: u64) -> bool {
        let mixed = self.mixer.mix(value);
        let (bucket, low) = ((mixed >> self.low_bits) as usize, mixed & low_mask(self.low_bits));
        let mut position = self.start_of(bucket);
        // Each position holds a member or the end of a bucket.
        while self.highs[position / 64] >> (position % 64) & 1 == 1 {
            let found = self.low(position - bucket);
            if found >= low {
                return found == low;
            }
            position += 1;
        }
        false
    }

    pub fn for_each(&self, mut visit: impl FnMut(u64)) {
        self.mixed().for_each(|mixed| visit(self.mixer.unmix(mixed)));
    }

    /// All members as they are mixed, in order.
    fn mixed(&self) -> impl Iterator<Item = u64> + '_ {
        let ones = self.highs.iter().enumerate().flat_map(|(word, bits)| Ones(*bits).map(move |bit| word * 64 + bit));
        ones.enumerate().map(|(member, position)| ((position - member) as u64) << self.low_bits | self.low(member))
    }

    #[inline]
    fn low(&self, member: usize) -> u64 {
        let at = member * self.low_bits as usize;
        let (word, shift) = (at / 64, at % 64);
        // A word more than needed ends `lows`.
        let pair = u128::from(self.lows[word]) | u128::from(self.lows[word + 1]) << 64;
        (pair >> shift) as u64 & low_mask(self.low_bits)
    }

    /// Where a bucket begins: behind as many zeros as there are buckets before it.
    #[inline]
    fn start_of(&self, bucket: usize) -> usize {
        let mut position = self.samples[bucket / SAMPLED] as usize;
        let mut zeros = (bucket % SAMPLED) as u32;
        loop {
            let mut ends = !self.highs[position / 64] >> (position % 64) << (position % 64);
            let here = ends.count_ones();
            if here >= zeros && zeros > 0 {
                for _ in 1..zeros {
                    ends &= ends - 1;
                }
                return position / 64 * 64 + ends.trailing_zeros() as usize + 1;
            }
            if zeros == 0 {
                return position;
            }
            zeros -= here;
            position = (position / 64 + 1) * 64;
        }
    }
}

fn low_mask(low_bits: u32) -> u64 {
    (1 << low_bits) - 1
}

/// The places of the ones in a word.
struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    }
}

/// Takes the members in order.
struct Writer {
    set: FrozenSet,
    bucket: usize,
}

impl Writer {
    fn new(mixer: Mixer, len: usize) -> Option<Self> {
        if len > LEN_MAX {
            return None;
        }
        let bucket_bits = len.max(1).ilog2().min(mixer.bits());
        let low_bits = mixer.bits() - bucket_bits;
        let buckets = 1_usize << bucket_bits;
        let lows = vec![0; (len * low_bits as usize).div_ceil(64).max(1) + 1];
        let highs = vec![0; (len + buckets).div_ceil(64) + 1];
        let mut samples = Vec::with_capacity(buckets.div_ceil(SAMPLED));
        samples.push(0);
        Some(Self { set: FrozenSet { mixer, low_bits, len: 0, lows, highs, samples }, bucket: 0 })
    }

    #[inline]
    fn push(&mut self, mixed: u64) {
        let set = &mut self.set;
        let (bucket, low) = ((mixed >> set.low_bits) as usize, mixed & low_mask(set.low_bits));
        while self.bucket < bucket {
            self.bucket += 1;
            if self.bucket.is_multiple_of(SAMPLED) {
                set.samples.push((self.bucket + set.len) as u32);
            }
        }
        let position = bucket + set.len;
        set.highs[position / 64] |= 1 << (position % 64);
        let at = set.len * set.low_bits as usize;
        set.lows[at / 64] |= low << (at % 64);
        if at % 64 + set.low_bits as usize > 64 {
            set.lows[at / 64 + 1] |= low >> (64 - at % 64);
        }
        set.len += 1;
    }

    fn finish(mut self) -> FrozenSet {
        let buckets = 1_usize << (self.set.mixer.bits() - self.set.low_bits);
        while self.set.samples.len() < buckets.div_ceil(SAMPLED) {
            self.set.samples.push((self.set.samples.len() * SAMPLED + self.set.len) as u32);
        }
        self.set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn packed(bits: u32, values: &HashSet<u64>) -> PackedSet {
        let mut set = PackedSet::new(bits, values.len());
        values.iter().for_each(|value| {
            set.insert_mixed(set.mix(*value));
        });
        set
    }

    fn check(set: &FrozenSet, bits: u32, known: &HashSet<u64>) {
        let mut visited = HashSet::new();
        set.for_each(|value| assert!(visited.insert(value)));
        assert_eq!(&visited, known);
        assert_eq!(set.len(), known.len());
        let mask = u64::MAX >> (64 - bits);
        for value in known {
            for asked in [*value, value ^ 1, value.wrapping_add(2) & mask] {
                assert_eq!(set.contains(asked), known.contains(&asked), "{asked}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_frozen_set_holds_what_was_packed(bits in 2_u32..=63, size in 0_usize..2_000, seed in any::<u64>()) {
            let mask = u64::MAX >> (64 - bits);
            let mut state = seed | 1;
            let mut some = |count: usize| -> HashSet<u64> {
                (0..count).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 1) & mask
                }).collect()
            };
            let first = some(size);
            let frozen = FrozenSet::of(None, &packed(bits, &first), |_| true).unwrap();
            check(&frozen, bits, &first);
            let second: HashSet<u64> = some(size / 3).difference(&first).copied().collect();
            let both = FrozenSet::of(Some(&frozen), &packed(bits, &second), |value| value % 3 > 0).unwrap();
            check(&both, bits, &first.into_iter().filter(|value| value % 3 > 0).chain(second).collect());
        }
    }

    #[test]
    fn a_million_pairs_cost_two_bytes_each() {
        // Users and merchants: 20 and 11 bits.
        let values: HashSet<u64> = (0..1_000_000_u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).collect();
        let set = FrozenSet::of(None, &packed(31, &values), |_| true).unwrap();
        assert!(set.bytes() < values.len() * 2, "{} bytes for {}", set.bytes(), values.len());
    }
}
