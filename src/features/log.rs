//! Every event of an entity, for windows that are exact to the microsecond.

use super::columns::{Column, Inputs};
use super::plan::{Output, SUMS_MAX, Table};
use super::words::{Words, is_ascending, open_at};

/// Features over `(t - window, t]`.
#[derive(Debug)]
pub(super) struct LogWindow {
    pub(super) window_us: i64,
    pub(super) outputs: Vec<Output>,
}

/// Events by entity: event times in order, each with the sums of those before it. So a window is the difference of two
/// places, whatever lies between.
///
/// An event takes 8 bytes and 8 for each measure; it is inserted at the end when it comes in order, and otherwise moves
/// those that are newer.
#[derive(Debug)]
pub(super) struct Log {
    measures: Vec<usize>,
    windows: Vec<LogWindow>,
    /// For each entity, time and sums of each event; the last entry is no event and has the sums of all.
    entities: Words<i64>,
}

impl Log {
    pub(super) fn new(measures: Vec<usize>, windows: Vec<LogWindow>) -> Self {
        Self { measures, windows, entities: Words::new() }
    }
}

/// How many events are at or before `at`; the newest are looked at first.
#[inline]
fn rank(log: &[i64], stride: usize, at: i64) -> usize {
    let time = |index: usize| log.get(index * stride).copied().unwrap_or(i64::MAX);
    let events = (log.len() / stride).saturating_sub(1);
    if events == 0 || time(events - 1) <= at {
        return events;
    }
    let (mut low, mut high) = (0, events - 1);
    while low < high {
        let middle = usize::midpoint(low, high);
        if time(middle) <= at { low = middle + 1 } else { high = middle }
    }
    low
}

impl Table for Log {
    #[inline]
    fn read(&self, entity: u32, row: usize, inputs: &Inputs, out: &mut [Column]) {
        let stride = self.stride();
        let log = self.entities.get(entity);
        let at_us = inputs.times.value(row);
        let until = rank(log, stride, at_us);
        for window in &self.windows {
            let from = rank(log, stride, at_us.saturating_sub(window.window_us));
            let mut sums = [0_i64; SUMS_MAX];
            for (measure, sum) in (1..stride).zip(&mut sums) {
                let before = |place: usize| log.get(place * stride + measure).copied().unwrap_or(0);
                *sum = before(until).wrapping_sub(before(from));
            }
            let count = i64::try_from(until - from).unwrap_or(i64::MAX);
            window.outputs.iter().for_each(|output| output.put(row, count, &sums, out));
        }
    }

    #[inline]
    fn add(&mut self, entity: u32, row: usize, inputs: &Inputs) {
        let stride = self.stride();
        let at_us = inputs.times.value(row);
        let number = |index: &usize| inputs.measures.get(*index).and_then(|all| all.get(row)).copied().unwrap_or(0);
        self.entities.change(entity, |log| {
            if log.is_empty() {
                log.push(i64::MAX);
                log.resize(stride, 0);
            }
            let place = rank(log, stride, at_us) * stride;
            open_at(log, place, stride);
            if let Some(time) = log.get_mut(place) {
                *time = at_us;
            }
            for (slot, index) in self.measures.iter().enumerate() {
                let number = number(index);
                let later = log.iter_mut().skip(place + stride + 1 + slot).step_by(stride);
                later.for_each(|sum| *sum = sum.wrapping_add(number));
            }
        });
    }

    #[inline]
    fn touch(&self, entity: u32) -> u64 {
        self.entities.touch(entity).cast_unsigned()
    }

    fn grow(&mut self, entities: usize) {
        self.entities.grow(entities);
    }

    fn trim(&mut self, floor_us: i64) {
        let stride = self.stride();
        self.entities.trim(|log| {
            let gone = rank(log, stride, floor_us.saturating_sub(1)) * stride;
            // The entry of all sums does not stand alone.
            if gone + stride == log.len() { log.len() } else { gone }
        });
    }

    fn is_empty(&self, entity: u32) -> bool {
        self.entities.is_empty(entity)
    }

    fn clear(&mut self) {
        self.entities.clear();
    }

    fn bytes(&self) -> usize {
        self.entities.bytes()
    }

    fn state(&self, entity: u32, words: &mut Vec<u64>) {
        words.extend(self.entities.get(entity).iter().map(|word| word.cast_unsigned()));
    }

    fn restore(&mut self, entity: u32, words: &[u64]) -> bool {
        let stride = self.stride();
        let log: Vec<i64> = words.iter().map(|word| word.cast_signed()).collect();
        let times = log.chunks_exact(stride).filter_map(|event| event.first().copied());
        let ends = log.is_empty() || log.len() > stride && times.clone().next_back() == Some(i64::MAX);
        let fits = log.len().is_multiple_of(stride) && ends && is_ascending(times, |a, b| a <= b);
        if fits {
            self.entities.put(entity, log);
        }
        fits
    }

    fn stride(&self) -> usize {
        1 + self.measures.len()
    }
}
