use super::super::times::rank_in;

/// Instants by key in compressed rows: 4 bytes an instant and 9 a key, 13 where keys have 64 bits. It does not change;
/// [`Frozen::merge`] makes another one.
///
/// Keys must be spread evenly over 64 bits: they stand in ascending order, and their upper half says where.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    /// Where the keys of each bucket begin, and where those of the last one end. Empty without keys.
    directory: Vec<u32>,
    entries: Vec<Entry>,
    /// The lower halves of the keys; none when all of them are zero.
    low: Vec<u32>,
    /// Ascending within a key.
    times: Vec<u32>,
}

/// Together, so that a key that is found costs one cache line.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The upper half of the key.
    high: u32,
    /// Where its instants begin; they end where those of the next key begin.
    start: u32,
}

/// The positions of the first key of a bucket and of the first one behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends([u32; 2]);

/// Keys in a bucket, on average: half a cache line of entries.
const BUCKET: usize = 4;

impl Frozen {
    /// Where the key stands if it is held, for [`Self::find`].
    #[inline]
    pub(super) fn bucket(&self, key: u64) -> Ends {
        let bucket = bucket(halves(key).0, self.directory.len().saturating_sub(1));
        let ends = self.directory.get(bucket..).and_then(|rest| rest.first_chunk());
        Ends(ends.copied().unwrap_or_default())
    }

    /// The instants of a key, in ascending order.
    #[inline]
    pub(super) fn find(&self, key: u64, Ends([from, to]): Ends) -> &[u32] {
        let (high, low) = halves(key);
        let (from, to) = (from as usize, to as usize);
        let is_it = |(at, entry): &(usize, &Entry)| {
            entry.high == high && self.low.get(from + at).map_or(low == 0, |known| *known == low)
        };
        let found = self.entries.get(from..to).unwrap_or_default().iter().enumerate().find(is_it);
        found.and_then(|(at, _)| self.times.get(self.range(from + at))).unwrap_or_default()
    }

    /// Instants of all keys.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let words = self.directory.capacity() + self.low.capacity() + self.times.capacity();
        words * size_of::<u32>() + self.entries.capacity() * size_of::<Entry>()
    }

    /// What both hold.
    pub(super) fn merge(&self, other: &Self) -> Self {
        let keys = self.entries.len() + other.entries.len() - self.common(other);
        let is_wide = !self.low.is_empty() || !other.low.is_empty();
        let mut merged = Builder::new(keys, self.len() + other.len(), is_wide);
        union(self.iter(), other.iter(), |key, ours, theirs| {
            let (ours, theirs) = (ours.unwrap_or_default(), theirs.unwrap_or_default());
            merged.push(key, |times| {
                let start = times.len();
                times.extend_from_slice(ours);
                times.extend_from_slice(theirs);
                if let (Some(last), Some(first)) = (ours.last(), theirs.first())
                    && last > first
                    && let Some(of_key) = times.get_mut(start..)
                {
                    // A stable sort finds the two runs and merges them.
                    of_key.sort();
                }
            });
        });
        merged.finish()
    }

    /// How many keys both hold; without branches, which would be mispredicted.
    fn common(&self, other: &Self) -> usize {
        let (mut ours, mut theirs, mut common) = (0, 0, 0);
        while let (Some(our), Some(their)) = (self.key(ours), other.key(theirs)) {
            common += usize::from(our == their);
            ours += usize::from(our <= their);
            theirs += usize::from(their <= our);
        }
        common
    }

    #[inline]
    fn key(&self, position: usize) -> Option<u64> {
        let low = self.low.get(position).copied().unwrap_or(0);
        self.entries.get(position).map(|entry| (u64::from(entry.high) << 32) | u64::from(low))
    }

    #[inline]
    fn range(&self, position: usize) -> std::ops::Range<usize> {
        let start = |position: usize| self.entries.get(position).map_or(self.times.len(), |entry| entry.start as usize);
        start(position)..start(position + 1)
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &[u32])> {
        let all = (0..).map_while(|position| Some((self.key(position)?, position)));
        all.map(|(key, position)| (key, self.times.get(self.range(position)).unwrap_or_default()))
    }
}

/// Takes in keys in ascending order. Counted beforehand, so that nothing is held in reserve afterwards.
#[derive(Debug)]
pub(super) struct Builder {
    frozen: Frozen,
    buckets: usize,
    is_wide: bool,
}

impl Builder {
    /// `is_wide` if the lower half of any key is not zero.
    pub(super) fn new(keys: usize, times: usize, is_wide: bool) -> Self {
        let buckets = keys.div_ceil(BUCKET);
        let frozen = Frozen {
            directory: Vec::with_capacity(buckets + 1),
            entries: Vec::with_capacity(keys),
            low: Vec::with_capacity(if is_wide { keys } else { 0 }),
            times: Vec::with_capacity(times),
        };
        Self { frozen, buckets, is_wide }
    }

    /// `append` adds the instants of the key, in ascending order.
    #[inline]
    pub(super) fn push(&mut self, key: u64, append: impl FnOnce(&mut Vec<u32>)) {
        let (high, low) = halves(key);
        let Frozen { directory, entries, low: lows, times } = &mut self.frozen;
        let position = index(entries.len());
        while directory.len() <= bucket(high, self.buckets) {
            directory.push(position);
        }
        entries.push(Entry { high, start: index(times.len()) });
        if self.is_wide {
            lows.push(low);
        }
        append(times);
    }

    pub(super) fn finish(mut self) -> Frozen {
        let Frozen { directory, entries, .. } = &mut self.frozen;
        if !entries.is_empty() {
            directory.resize(self.buckets + 1, index(entries.len()));
        }
        self.frozen
    }
}

/// Both sequences by key in ascending order.
fn union<T>(
    ours: impl Iterator<Item = (u64, T)>,
    theirs: impl Iterator<Item = (u64, T)>,
    mut take: impl FnMut(u64, Option<T>, Option<T>),
) {
    let (mut ours, mut theirs) = (ours.fuse(), theirs.fuse());
    let (mut our, mut their) = (ours.next(), theirs.next());
    loop {
        match (our.take(), their.take()) {
            (None, None) => break,
            (Some((one, ofs)), Some((other, theirs_of))) if one == other => {
                take(one, Some(ofs), Some(theirs_of));
                (our, their) = (ours.next(), theirs.next());
            }
            (Some((one, of_key)), rest) if rest.as_ref().is_none_or(|(other, _)| one < *other) => {
                take(one, Some(of_key), None);
                (our, their) = (ours.next(), rest);
            }
            (rest, Some((other, of_key))) => {
                take(other, None, Some(of_key));
                (our, their) = (rest, theirs.next());
            }
            (Some(_), None) => break,
        }
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the halves are meant")]
fn halves(key: u64) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}

/// Ascending with the upper half of the key.
#[inline]
fn bucket(high: u32, buckets: usize) -> usize {
    ((u64::from(high) * buckets as u64) >> 32) as usize
}

/// A span of 4 billion events would take 16 GB.
#[inline]
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// How many instants are in `(after, until]`; from the very first one without `after`.
#[inline]
pub(super) fn within(times: &[u32], after: Option<u32>, until: u32) -> usize {
    rank_in(times, until) - after.map_or(0, |after| rank_in(times, after))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<u64, Vec<u32>>;

    fn frozen(model: &Model) -> Frozen {
        let is_wide = model.keys().any(|key| halves(*key).1 != 0);
        let mut builder = Builder::new(model.len(), model.values().map(Vec::len).sum(), is_wide);
        for (key, times) in model {
            builder.push(*key, |all| all.extend(times));
        }
        builder.finish()
    }

    fn model(is_wide: bool) -> impl Strategy<Value = Model> {
        // Few upper halves, so that keys meet in them, and the ends of the range.
        let high = prop::sample::select(vec![0, 1, 7, 1 << 20, 1 << 31, u32::MAX]);
        let low = if is_wide { prop::sample::select(vec![0, 1, u32::MAX]) } else { prop::sample::select(vec![0]) };
        let key = (high, low).prop_map(|(high, low)| (u64::from(high) << 32) | u64::from(low));
        prop::collection::btree_map(key, prop::collection::vec(0_u32..40, 1..6), 0..12).prop_map(|mut model| {
            model.values_mut().for_each(|times| times.sort_unstable());
            model
        })
    }

    proptest! {
        #[test]
        fn a_merge_holds_what_both_held_and_nothing_in_reserve(
            one in any::<bool>().prop_flat_map(model),
            other in any::<bool>().prop_flat_map(model),
            absent in any::<u64>(),
        ) {
            let merged = frozen(&one).merge(&frozen(&other));
            let mut expected = one;
            for (key, times) in other {
                let of_key = expected.entry(key).or_default();
                of_key.extend(times);
                of_key.sort_unstable();
            }
            for (key, times) in &expected {
                prop_assert_eq!(merged.find(*key, merged.bucket(*key)), &times[..]);
            }
            for key in expected.keys().map(|key| key ^ 2).chain([absent]).filter(|key| !expected.contains_key(key)) {
                prop_assert!(merged.find(key, merged.bucket(key)).is_empty());
            }
            prop_assert_eq!(merged.len(), expected.values().map(Vec::len).sum::<usize>());
            let is_wide = !merged.low.is_empty();
            let buckets = expected.len().div_ceil(BUCKET);
            let words = if buckets == 0 { 0 } else { buckets + 1 } + expected.len() * if is_wide { 3 } else { 2 };
            prop_assert!(merged.bytes() - (words + merged.len()) * 4 <= 4, "{merged:?}");
        }
    }

    #[test]
    fn evenly_spread_keys_are_found_in_short_buckets() {
        let key = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) << 32;
        let model = (0..10_000).map(|number| (key(number), vec![7])).collect::<Model>();
        let frozen = frozen(&model);
        assert!(frozen.directory.windows(2).all(|ends| ends[1] - ends[0] <= 4 * BUCKET as u32));
        assert!((0..10_000).all(|number| frozen.find(key(number), frozen.bucket(key(number))) == [7]));
    }
}
