//! Sums of an entity by panes of event time, for long windows.

use super::columns::{Column, Inputs};
use super::plan::{Output, SUMS_MAX, Table};
use super::words::{Words, is_ascending, open_at};

/// Features over so many panes: those up to the one of `t`, or those before the one of `t - delay`.
#[derive(Debug)]
pub(super) struct PaneWindow {
    pub(super) panes: i64,
    pub(super) delay_us: Option<i64>,
    pub(super) outputs: Vec<Output>,
}

/// Count and sums by entity and pane. Only panes with a row take memory: 8 bytes and 8 for each measure.
#[derive(Debug)]
pub(super) struct Panes {
    grain_us: i64,
    measures: Vec<usize>,
    windows: Vec<PaneWindow>,
    /// For each entity its panes in order: number and count in one word, then the sums.
    entities: Words<u64>,
}

impl Panes {
    pub(super) fn new(grain_us: i64, measures: Vec<usize>, windows: Vec<PaneWindow>) -> Self {
        Self { grain_us, measures, windows, entities: Words::new() }
    }
}

const COUNT_MASK: u64 = u32::MAX as u64;

/// Numbers of panes in 32 bits, in order; with a minute a pane they last beyond the year 6000.
#[inline]
fn coded(pane: i64) -> u64 {
    u64::try_from(pane.saturating_add(1 << 31).clamp(0, i64::from(u32::MAX))).unwrap_or(0)
}

/// Where the panes from `number` on begin; the newest are looked at first.
#[inline]
fn place_of(panes: &[u64], stride: usize, number: u64) -> usize {
    let mut place = panes.len();
    while let Some(word) = place.checked_sub(stride).and_then(|before| panes.get(before)) {
        if word >> 32 < number {
            break;
        }
        place -= stride;
    }
    place
}

impl Table for Panes {
    #[inline]
    fn read(&self, entity: u32, row: usize, inputs: &Inputs, out: &mut [Column]) {
        let stride = self.stride();
        let panes = self.entities.get(entity);
        let at_us = inputs.times.value(row);
        for window in &self.windows {
            let end = match window.delay_us {
                None => at_us.div_euclid(self.grain_us) + 1,
                Some(delay_us) => at_us.saturating_sub(delay_us).div_euclid(self.grain_us),
            };
            let (first, end) = (coded(end - window.panes), coded(end));
            let mut count = 0_i64;
            let mut sums = [0_i64; SUMS_MAX];
            for pane in panes.chunks_exact(stride).rev() {
                let Some((word, rest)) = pane.split_first() else { break };
                if word >> 32 >= end {
                    continue;
                }
                if word >> 32 < first {
                    break;
                }
                count += i64::try_from(word & COUNT_MASK).unwrap_or(0);
                for (sum, number) in sums.iter_mut().zip(rest) {
                    *sum = sum.wrapping_add(number.cast_signed());
                }
            }
            window.outputs.iter().for_each(|output| output.put(row, count, &sums, out));
        }
    }

    #[inline]
    fn add(&mut self, entity: u32, row: usize, inputs: &Inputs) {
        let stride = self.stride();
        let number = coded(inputs.times.value(row).div_euclid(self.grain_us));
        self.entities.change(entity, |panes| {
            let place = place_of(panes, stride, number);
            let is_new = panes.get(place).is_none_or(|word| word >> 32 != number);
            if is_new {
                open_at(panes, place, stride);
            }
            let Some((word, sums)) = panes.get_mut(place..place + stride).and_then(<[u64]>::split_first_mut) else {
                return;
            };
            if is_new {
                *word = number << 32;
                sums.fill(0);
            }
            *word += u64::from(*word & COUNT_MASK != COUNT_MASK);
            for (sum, index) in sums.iter_mut().zip(&self.measures) {
                let number = inputs.measures.get(*index).and_then(|all| all.get(row)).copied().unwrap_or(0);
                *sum = sum.wrapping_add(number.cast_unsigned());
            }
        });
    }

    #[inline]
    fn touch(&self, entity: u32) -> u64 {
        self.entities.touch(entity)
    }

    fn grow(&mut self, entities: usize) {
        self.entities.grow(entities);
    }

    fn trim(&mut self, floor_us: i64) {
        let (stride, first) = (self.stride(), coded(floor_us.div_euclid(self.grain_us)));
        let is_gone = |pane: &&[u64]| pane.first().is_some_and(|word| word >> 32 < first);
        self.entities.trim(|panes| panes.chunks_exact(stride).take_while(is_gone).count() * stride);
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
        words.extend_from_slice(self.entities.get(entity));
    }

    fn restore(&mut self, entity: u32, words: &[u64]) -> bool {
        let numbers = words.chunks_exact(self.stride()).filter_map(|pane| pane.first()).map(|word| word >> 32);
        let fits = words.len().is_multiple_of(self.stride()) && is_ascending(numbers, |a, b| a < b);
        if fits {
            self.entities.put(entity, words.to_vec());
        }
        fits
    }

    fn stride(&self) -> usize {
        1 + self.measures.len()
    }
}
