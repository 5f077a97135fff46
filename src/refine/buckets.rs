use ahash::AHashMap;

/// A span of event time that is held in memory.
pub(super) trait Bucket {
    /// The memory it takes, about.
    fn bytes(&self) -> usize;
}

/// Spans of event time of equal length. Those that nobody asks for while time goes on by some spans are forgotten, and
/// beyond the bound the least recently used ones.
#[derive(Debug)]
pub(super) struct Buckets<B> {
    span_us: i64,
    bytes_max: usize,
    held: AHashMap<i64, Held<B>>,
    bytes: usize,
    uses: u64,
    /// The latest span that was ever held.
    latest: i64,
}

#[derive(Debug)]
struct Held<B> {
    bucket: B,
    bytes: usize,
    used: u64,
    /// The latest span when it was used.
    used_at: i64,
}

/// A bucket is forgotten when the latest span has moved by more than this since its last use.
const IDLE_SPANS: i64 = 2;

/// What a bucket costs beside its content.
const OVERHEAD_BYTES: usize = 128;

impl<B: Bucket> Buckets<B> {
    pub(super) fn new(span_us: i64, bytes_max: usize) -> Self {
        Self { span_us: span_us.max(1), bytes_max, held: AHashMap::new(), bytes: 0, uses: 0, latest: i64::MIN }
    }

    /// The number of the bucket that an instant falls into.
    #[inline]
    pub(super) fn number(&self, at_us: i64) -> i64 {
        at_us.div_euclid(self.span_us)
    }

    /// `[from, to)` of a bucket.
    pub(super) fn span(&self, number: i64) -> (i64, i64) {
        let from_us = number.saturating_mul(self.span_us);
        (from_us, from_us.saturating_add(self.span_us))
    }

    /// The bucket if it is in memory; this counts as a use.
    pub(super) fn get_mut(&mut self, number: i64) -> Option<&mut B> {
        self.uses += 1;
        let held = self.held.get_mut(&number)?;
        (held.used, held.used_at) = (self.uses, self.latest);
        Some(&mut held.bucket)
    }

    /// Takes a bucket in, in the place of one with the same number.
    pub(super) fn insert(&mut self, number: i64, bucket: B) {
        self.remove(number);
        self.uses += 1;
        if number > self.latest {
            self.latest = number;
            let idle = |held: &Held<B>| held.used_at.saturating_add(IDLE_SPANS) < number;
            let idle: Vec<i64> = self.held.iter().filter(|(_, held)| idle(held)).map(|(idle, _)| *idle).collect();
            idle.into_iter().for_each(|number| self.remove(number));
        }
        self.held.insert(number, Held { bytes: 0, used: self.uses, used_at: self.latest, bucket });
        self.grown(number);
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        self.held.contains_key(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &B> {
        self.held.values().map(|held| &held.bucket)
    }

    /// The latest span that is in memory.
    pub(super) fn newest(&self) -> Option<i64> {
        self.held.keys().copied().max()
    }

    /// Lets `change` make the buckets before `number` smaller; this is no use of them.
    pub(super) fn change_before(&mut self, number: i64, mut change: impl FnMut(&mut B)) {
        for (_, held) in self.held.iter_mut().filter(|(other, _)| **other < number) {
            change(&mut held.bucket);
            let bytes = held.bucket.bytes() + OVERHEAD_BYTES;
            self.bytes = self.bytes - held.bytes + bytes;
            held.bytes = bytes;
        }
    }

    /// Brings the account up to date after a bucket has grown, and makes room at the cost of others.
    pub(super) fn grown(&mut self, number: i64) {
        let Some(held) = self.held.get_mut(&number) else { return };
        let bytes = held.bucket.bytes() + OVERHEAD_BYTES;
        self.bytes = self.bytes - held.bytes + bytes;
        held.bytes = bytes;
        while self.bytes > self.bytes_max {
            let oldest = self.held.iter().filter(|(other, _)| **other != number).min_by_key(|(_, held)| held.used);
            let Some((oldest, _)) = oldest else { break };
            self.remove(*oldest);
        }
    }

    pub(super) fn remove(&mut self, number: i64) {
        if let Some(held) = self.held.remove(&number) {
            self.bytes -= held.bytes;
        }
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.bytes = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bucket for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_one_in_use_never() {
        let mut buckets = Buckets::new(10, 3 * OVERHEAD_BYTES + 30);
        for number in [1, 2, 3] {
            buckets.insert(number, 10);
        }
        buckets.get_mut(1);
        buckets.insert(4, 10);
        assert_eq!([1, 2, 3, 4].map(|number| buckets.contains(number)), [true, false, true, true]);
        *buckets.get_mut(3).unwrap() = 1_000_000;
        buckets.grown(3);
        assert_eq!([1, 3, 4].map(|number| buckets.contains(number)), [false, true, false]);
        buckets.remove(3);
        assert_eq!(buckets.bytes(), 0);
    }

    #[test]
    fn what_nobody_asks_for_while_time_goes_on_is_forgotten() {
        let mut buckets = Buckets::new(10, usize::MAX);
        for number in 1..=5 {
            buckets.insert(number, 10);
            buckets.get_mut(1);
        }
        assert_eq!([1, 2, 3, 4, 5].map(|number| buckets.contains(number)), [true, false, true, true, true]);
        buckets.insert(-7, 10);
        buckets.insert(6, 10);
        assert!(buckets.contains(-7), "a bucket of long ago stays while it is used");
        buckets.insert(8, 10);
        assert_eq!([-7, 1, 6, 8].map(|number| buckets.contains(number)), [false, false, true, true]);
    }

    #[test]
    fn instants_before_1970_fall_into_buckets_of_their_own() {
        let buckets = Buckets::<usize>::new(10, 0);
        assert_eq!([-11, -10, -1, 0, 9, 10].map(|at| buckets.number(at)), [-2, -1, -1, 0, 0, 1]);
        assert_eq!(buckets.span(-1), (-10, 0));
    }
}
