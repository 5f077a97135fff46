//! The newest events of an entity.

use super::columns::{Column, Inputs};
use super::plan::Table;
use super::words::{Words, is_ascending, open_at};

#[derive(Debug, Clone, Copy)]
pub(super) enum RecentTake {
    SecondsSincePrevious,
    /// Of the value at this place.
    Seen(usize),
    MismatchRate(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RecentOutput {
    pub(super) column: usize,
    pub(super) window_us: i64,
    pub(super) take: RecentTake,
}

/// The `last` events with the newest event times, and one more to tell where they end. An event takes 8 bytes and 8 for
/// each two of its values, of which 32 bits of a hash are held.
#[derive(Debug)]
pub(super) struct Recent {
    last: usize,
    /// The columns among the values of a batch.
    values: Vec<usize>,
    outputs: Vec<RecentOutput>,
    /// For each entity its events in order, time and values.
    entities: Words<i64>,
}

impl Recent {
    pub(super) fn new(last: usize, values: Vec<usize>, outputs: Vec<RecentOutput>) -> Self {
        Self { last, values, outputs, entities: Words::new() }
    }

    #[inline]
    fn value(&self, slot: usize, row: usize, inputs: &Inputs) -> u32 {
        // NULL is a value like another one.
        let hash = self.values.get(slot).and_then(|of| inputs.values.get(*of)).and_then(|values| values.get(row));
        hash.map_or(0, |hash| u32::try_from(hash >> 32).unwrap_or(0))
    }
}

#[inline]
fn half(event: &[i64], slot: usize) -> u32 {
    let word = event.get(1 + slot / 2).copied().unwrap_or(0).cast_unsigned();
    let bits = if slot.is_multiple_of(2) { word >> 32 } else { word & u64::from(u32::MAX) };
    u32::try_from(bits).unwrap_or(0)
}

impl Table for Recent {
    #[inline]
    fn read(&self, entity: u32, row: usize, inputs: &Inputs, out: &mut [Column]) {
        let stride = self.stride();
        let events = self.entities.get(entity);
        let at_us = inputs.times.value(row);
        // With one more than the last, those that share its time are not surely the newest.
        let is_full = events.len() > self.last * stride;
        let bound_us = if is_full { events.first().copied().unwrap_or(i64::MIN) } else { i64::MIN };
        for output in &self.outputs {
            let after_us = bound_us.max(at_us.saturating_sub(output.window_us));
            let newest = events.chunks_exact(stride).rev();
            let newest = newest.take_while(|event| event.first().is_some_and(|time| *time > after_us));
            let Some(column) = out.get_mut(output.column) else { continue };
            match output.take {
                RecentTake::SecondsSincePrevious => {
                    let previous = newest.filter_map(|event| event.first()).find(|time| **time <= at_us);
                    if let Some(previous) = previous {
                        #[allow(clippy::cast_precision_loss, reason = "a window is far below 2^53 microseconds")]
                        column.set_real(row, (at_us - previous) as f64 / 1e6);
                    }
                }
                RecentTake::Seen(slot) => {
                    let value = self.value(slot, row, inputs);
                    let seen = newest.map(|event| half(event, slot)).any(|known| known == value);
                    column.set(row, i64::from(seen));
                }
                RecentTake::MismatchRate(slot) => {
                    let value = self.value(slot, row, inputs);
                    let (mut events, mut others) = (0_u32, 0_u32);
                    for event in newest {
                        events += 1;
                        others += u32::from(half(event, slot) != value);
                    }
                    if events > 0 {
                        column.set_real(row, f64::from(others) / f64::from(events));
                    }
                }
            }
        }
    }

    #[inline]
    fn add(&mut self, entity: u32, row: usize, inputs: &Inputs) {
        let stride = self.stride();
        let mut words = [0_u64; WORDS_MAX];
        for slot in 0..self.values.len() {
            let shift = if slot.is_multiple_of(2) { 32 } else { 0 };
            if let Some(word) = words.get_mut(slot / 2) {
                *word |= u64::from(self.value(slot, row, inputs)) << shift;
            }
        }
        let full = (self.last + 1) * stride;
        let at_us = inputs.times.value(row);
        self.entities.change(entity, |events| {
            let older = events.chunks_exact(stride).rev();
            let newer = older.take_while(|event| event.first().is_some_and(|time| *time > at_us)).count();
            let mut place = events.len() - newer * stride;
            if events.len() == full {
                let Some(moved) = place.checked_sub(stride) else { return };
                events.copy_within(stride..place, 0);
                place = moved;
            } else {
                open_at(events, place, stride);
            }
            if let Some((time, rest)) = events.get_mut(place..place + stride).and_then(<[i64]>::split_first_mut) {
                *time = at_us;
                rest.iter_mut().zip(words).for_each(|(slot, word)| *slot = word.cast_signed());
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
        let is_gone = |event: &&[i64]| event.first().is_some_and(|time| *time < floor_us);
        self.entities.trim(|events| events.chunks_exact(stride).take_while(is_gone).count() * stride);
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
        let events: Vec<i64> = words.iter().map(|word| word.cast_signed()).collect();
        let times = events.chunks_exact(stride).filter_map(|event| event.first().copied());
        let fits = events.len().is_multiple_of(stride)
            && events.len() <= (self.last + 1) * stride
            && is_ascending(times, |a, b| a <= b);
        if fits {
            self.entities.put(entity, events);
        }
        fits
    }

    fn stride(&self) -> usize {
        1 + self.values.len().div_ceil(2)
    }
}

/// More values of the last events than 16 are refused.
pub(super) const VALUES_MAX: usize = 16;
const WORDS_MAX: usize = VALUES_MAX / 2;
