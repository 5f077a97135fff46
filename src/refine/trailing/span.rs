use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::super::buckets::Bucket;
use super::super::times::Times;
use super::frozen::{Builder, Frozen, within};

/// The event times of one span, by key: most of them frozen, the recent ones in a table that takes more.
///
/// Times are microseconds since the start of the span. Keys must be spread evenly over 64 bits, or over the upper 32 of
/// them.
#[derive(Debug, Default)]
pub(super) struct Span {
    frozen: Frozen,
    recent: Recent,
}

/// Below it, what is recent is small beside the processor's caches.
const RECENT_MIN: usize = if cfg!(test) { 8 } else { 1 << 14 };
/// Recent times may be this part of the frozen ones. They take three to eight times as much memory each; merging copies
/// a time as often as it is passed by a growth of a quarter, and then on average four times more.
const RECENT_PART: usize = 4;
/// What is left recent when a span is [packed](Span::pack).
const REST_PART: usize = 16;

impl Span {
    /// How many times of the key are in `(after, until]`; from the very first one without `after`.
    #[inline]
    pub(super) fn count(&self, key: u64, after: Option<u32>, until: u32) -> usize {
        let recent = self.recent.find(key).map_or(0, |t| t.rank(until) - after.map_or(0, |after| t.rank(after)));
        within(self.frozen.find(key), after, until) + recent
    }

    #[inline]
    pub(super) fn insert(&mut self, key: u64, time: u32) {
        self.recent.insert(key, time);
        if self.recent.len > RECENT_MIN.max(self.frozen.len() / RECENT_PART) {
            self.freeze();
        }
    }

    /// For a span that most rows have left behind, or that is complete.
    pub(super) fn pack(&mut self) {
        if self.recent.len > self.frozen.len() / REST_PART {
            self.freeze();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frozen.len() == 0 && self.recent.len == 0
    }

    #[cold]
    fn freeze(&mut self) {
        // The table goes before the merge needs room.
        let recent = std::mem::take(&mut self.recent).into_frozen();
        self.frozen = if self.frozen.len() == 0 { recent } else { self.frozen.merge(&recent) };
    }
}

impl Bucket for Span {
    fn bytes(&self) -> usize {
        self.frozen.bytes() + self.recent.table.allocation_size() + self.recent.heap_bytes
    }
}

#[derive(Debug, Default)]
struct Recent {
    table: HashTable<(u64, Times<u32>)>,
    /// Times of all keys.
    len: usize,
    /// Beside the table itself.
    heap_bytes: usize,
}

impl Recent {
    #[inline]
    fn find(&self, key: u64) -> Option<&Times<u32>> {
        self.table.find(hash(key), |(known, _)| *known == key).map(|(_, times)| times)
    }

    #[inline]
    fn insert(&mut self, key: u64, time: u32) {
        let times = match self.table.entry(hash(key), |(known, _)| *known == key, |(known, _)| hash(*known)) {
            Entry::Occupied(entry) => &mut entry.into_mut().1,
            Entry::Vacant(room) => &mut room.insert((key, Times::default())).into_mut().1,
        };
        let before = times.heap_bytes();
        times.insert(time);
        self.heap_bytes = self.heap_bytes + times.heap_bytes() - before;
        self.len += 1;
    }

    fn into_frozen(self) -> Frozen {
        let mut order = self.table.iter().map(|(key, times)| (*key, times)).collect::<Vec<_>>();
        order.sort_unstable_by_key(|(key, _)| *key);
        let is_wide = order.iter().any(|(key, _)| key << 32 != 0);
        let mut frozen = Builder::new(order.len(), self.len, is_wide);
        for (key, times) in order {
            frozen.push(key, |all| times.append_to(all));
        }
        frozen.finish()
    }
}

/// A table looks at the lowest bits and at the 7 highest; a key may have its upper half only.
#[inline]
fn hash(key: u64) -> u64 {
    key ^ (key >> 32)
}
