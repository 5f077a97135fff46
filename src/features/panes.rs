//! Sums of an entity by panes of event time, for long windows.

use super::columns::{Column, Inputs};
use super::plan::{Output, SUMS_MAX, Table};

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
    entities: Vec<Vec<u64>>,
    bytes: usize,
}

impl Panes {
    pub(super) fn new(grain_us: i64, measures: Vec<usize>, windows: Vec<PaneWindow>) -> Self {
        Self { grain_us, measures, windows, entities: Vec::new(), bytes: 0 }
    }

    fn stride(&self) -> usize {
        1 + self.measures.len()
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
        let panes = self.entities.get(entity as usize).map_or(&[][..], Vec::as_slice);
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
        let Some(panes) = self.entities.get_mut(entity as usize) else { return };
        let number = coded(inputs.times.value(row).div_euclid(self.grain_us));
        let place = place_of(panes, stride, number);
        if panes.get(place).is_none_or(|word| word >> 32 != number) {
            let before = panes.capacity();
            let grown = panes.len() + stride;
            panes.resize(grown, 0);
            panes.copy_within(place..grown - stride, place + stride);
            for word in panes.iter_mut().skip(place).take(stride) {
                *word = 0;
            }
            if let Some(word) = panes.get_mut(place) {
                *word = number << 32;
            }
            self.bytes += (panes.capacity() - before) * size_of::<u64>();
        }
        let Some((word, rest)) = panes.get_mut(place..place + stride).and_then(<[u64]>::split_first_mut) else {
            return;
        };
        *word += u64::from(*word & COUNT_MASK != COUNT_MASK);
        for (sum, index) in rest.iter_mut().zip(&self.measures) {
            let number = inputs.measures.get(*index).and_then(|all| all.get(row)).copied().unwrap_or(0);
            *sum = sum.wrapping_add(number.cast_unsigned());
        }
    }

    #[inline]
    fn touch(&self, entity: u32) -> u64 {
        let ends = |words: &Vec<u64>| words.first().unwrap_or(&0) ^ words.last().unwrap_or(&0);
        self.entities.get(entity as usize).map_or(0, ends)
    }

    fn grow(&mut self, entities: usize) {
        if entities > self.entities.len() {
            self.entities.resize_with(entities, Vec::new);
        }
    }

    fn trim(&mut self, floor_us: i64) {
        let (stride, first) = (self.stride(), coded(floor_us.div_euclid(self.grain_us)));
        for panes in &mut self.entities {
            let gone = panes.chunks_exact(stride).take_while(|pane| pane.first().is_some_and(|w| w >> 32 < first));
            let gone = gone.count() * stride;
            if gone == 0 {
                continue;
            }
            let before = panes.capacity();
            panes.drain(..gone);
            panes.shrink_to(2 * panes.len());
            self.bytes -= (before - panes.capacity()) * size_of::<u64>();
        }
    }

    fn is_empty(&self, entity: u32) -> bool {
        self.entities.get(entity as usize).is_none_or(Vec::is_empty)
    }

    fn clear(&mut self) {
        (self.entities, self.bytes) = (Vec::new(), 0);
    }

    fn bytes(&self) -> usize {
        self.bytes + self.entities.capacity() * size_of::<Vec<u64>>()
    }
}
