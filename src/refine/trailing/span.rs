use std::hint::black_box;

use super::super::buckets::Bucket;
use super::frozen::{Ends, Frozen, within};
use super::recent::Recent;

/// The event times of one span, by key: most of them frozen, the recent ones in a table that takes more.
///
/// Times are microseconds since the start of the span. Keys must be spread evenly over 64 bits, or over the upper 32 of
/// them.
#[derive(Debug, Default)]
pub(super) struct Span {
    frozen: Frozen,
    recent: Recent,
}

/// How many times of the key are in `(after, until]`, or from the very first one without `after`?
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) row: usize,
    pub(super) key: u64,
    pub(super) after: Option<u32>,
    pub(super) until: u32,
}

/// Keys looked up together: while one waits for memory, so do the others.
const TOGETHER: usize = 32;
/// Times that are not frozen, at most: this part of the frozen ones, or so many. Each takes two to thirteen times as much
/// memory as a frozen one. Growing by a quarter, a frozen one is copied five times in all: about 50 ns.
const RECENT_PART: usize = 4;
const RECENT_MIN: usize = if cfg!(test) { 8 } else { 1 << 20 };
/// Memory of the recent times, as a part of that of the frozen ones, that is left when a span is [packed](Span::pack).
const REST_PART: usize = 8;

impl Span {
    /// Gives each question to `take` with its answer, in their order.
    #[inline]
    pub(super) fn count(&self, asked: &[Asked], mut take: impl FnMut(&Asked, usize)) {
        for asked in asked.chunks(TOGETHER) {
            self.recent.touch(asked.iter().map(|asked| asked.key));
            let mut buckets = [Ends::default(); TOGETHER];
            for (bucket, asked) in buckets.iter_mut().zip(asked) {
                *bucket = self.frozen.bucket(asked.key);
            }
            let mut found: [&[u32]; TOGETHER] = [&[]; TOGETHER];
            for ((times, bucket), asked) in found.iter_mut().zip(buckets).zip(asked) {
                *times = self.frozen.find(asked.key, bucket);
            }
            black_box(found.iter().filter_map(|times| times.last()).fold(0, |all, time| all ^ time));
            for (times, asked) in found.iter().zip(asked) {
                let Asked { key, after, until, .. } = *asked;
                let recent = self.recent.find(key);
                let recent = recent.map_or(0, |times| times.rank(until) - after.map_or(0, |after| times.rank(after)));
                take(asked, within(times, after, until) + recent);
            }
        }
    }

    /// Takes in times with their keys.
    pub(super) fn extend(&mut self, events: &[(u64, u32)]) {
        for events in events.chunks(TOGETHER) {
            self.recent.touch(events.iter().map(|(key, _)| *key));
            events.iter().for_each(|(key, time)| self.recent.insert(*key, *time));
            if self.recent.len() > RECENT_MIN.max(self.frozen.len() / RECENT_PART) {
                let places = self.recent.places();
                self.freeze();
                // Nearly as many are to come: to grow from nothing would cost more.
                self.recent.grow(places * 4 / 5);
            }
        }
    }

    /// Freezes the recent times too, unless they are few: for a span that most rows have left behind.
    pub(super) fn pack(&mut self) {
        if self.recent.bytes() > self.frozen.bytes() / REST_PART {
            self.freeze();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frozen.len() == 0 && self.recent.len() == 0
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
        self.frozen.bytes() + self.recent.bytes()
    }
}
