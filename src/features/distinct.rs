//! Which different values an entity had, by panes of event time.

use std::collections::BTreeSet;

use super::columns::{Column, Inputs};
use super::plan::{BLOCK, RowKind, Rows, Table};
use super::words::is_ascending;

/// Pairs of value and pane by entity, eight bytes each: 44 bits of the value's hash and 20 of the pane's number, which
/// are a century of hours. That one of ten million values of an entity with twenty meets another has a chance of one in
/// 90,000.
#[derive(Debug)]
pub(super) struct Distinct {
    /// The column among the values of a batch.
    of: usize,
    grain_us: i64,
    panes: i64,
    /// The feature's column.
    column: usize,
    entities: Vec<Values>,
    bytes: usize,
}

#[derive(Debug)]
struct Values {
    pairs: Pairs,
    /// The newest pane that was asked for, and the different values of its window; so that a heavy entity is not counted
    /// anew for each row.
    counted: (i32, u32),
}

impl Default for Values {
    fn default() -> Self {
        Self { pairs: Pairs::Few(Vec::new()), counted: (NEVER, 0) }
    }
}

const NEVER: i32 = i32::MIN;

/// In order: all panes of a value stand together.
#[derive(Debug)]
enum Pairs {
    Few(Vec<u64>),
    Many(BTreeSet<u64>),
}

const FEW: usize = 512;
/// What a pair takes in a tree, about.
const TREE_BYTES: usize = 12;
const PANE_BITS: u32 = 20;
const PANE_MASK: u64 = (1 << PANE_BITS) - 1;

impl Pairs {
    fn bytes(&self) -> usize {
        match self {
            Self::Few(pairs) => pairs.capacity() * size_of::<u64>(),
            Self::Many(pairs) => pairs.len() * TREE_BYTES,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(pairs) => pairs.is_empty(),
            Self::Many(pairs) => pairs.is_empty(),
        }
    }

    fn insert(&mut self, pair: u64) -> bool {
        match self {
            Self::Few(pairs) => match pairs.binary_search(&pair) {
                Ok(_) => false,
                Err(place) if pairs.len() < FEW => {
                    pairs.insert(place, pair);
                    true
                }
                Err(_) => {
                    let mut many: BTreeSet<u64> = pairs.iter().copied().collect();
                    many.insert(pair);
                    *self = Self::Many(many);
                    true
                }
            },
            Self::Many(pairs) => pairs.insert(pair),
        }
    }

    /// The pairs of the value that `pair` is of, and others.
    fn of_value(&self, pair: u64) -> impl Iterator<Item = u64> {
        let (from, to) = (pair & !PANE_MASK, pair | PANE_MASK);
        let (few, many) = match self {
            Self::Few(pairs) => {
                let start = pairs.partition_point(|known| *known < from);
                let end = pairs.partition_point(|known| *known <= to);
                (pairs.get(start..end), None)
            }
            Self::Many(pairs) => (None, Some(pairs.range(from..=to))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }

    fn all(&self) -> impl Iterator<Item = u64> {
        let (few, many) = match self {
            Self::Few(pairs) => (Some(pairs), None),
            Self::Many(pairs) => (None, Some(pairs)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }

    /// Whether something was dropped.
    fn retain(&mut self, keep: impl Fn(u64) -> bool) -> bool {
        match self {
            Self::Few(pairs) => {
                let before = pairs.len();
                pairs.retain(|pair| keep(*pair));
                let dropped = pairs.len() < before;
                if dropped {
                    pairs.shrink_to(2 * pairs.len());
                }
                dropped
            }
            Self::Many(pairs) => {
                let before = pairs.len();
                pairs.retain(|pair| keep(*pair));
                let dropped = pairs.len() < before;
                if pairs.len() < FEW / 2 {
                    *self = Self::Few(pairs.iter().copied().collect());
                }
                dropped
            }
        }
    }
}

impl Distinct {
    pub(super) fn new(of: usize, grain_us: i64, panes: i64, column: usize) -> Self {
        Self { of, grain_us, panes, column, entities: Vec::new(), bytes: 0 }
    }

    /// With an hour a pane, they last for 200,000 years.
    #[inline]
    fn pane(&self, row: usize, inputs: &Inputs) -> i32 {
        i32::try_from(inputs.times.value(row).div_euclid(self.grain_us)).unwrap_or(i32::MAX)
    }

    /// Whether the pane of a pair lies in the window that ends with a pane.
    #[inline]
    fn is_within(&self, pair: u64, last: i32) -> bool {
        // Numbers of panes are cut to 20 bits, and differences of them too.
        let back = i64::from(last).cast_unsigned().wrapping_sub(pair) & PANE_MASK;
        back < self.panes.cast_unsigned()
    }

    fn count(&self, values: &Values, last: i32) -> u32 {
        if values.counted.0 == last {
            return values.counted.1;
        }
        let (mut count, mut counted) = (0, None);
        for pair in values.pairs.all() {
            let value = pair >> PANE_BITS;
            if counted != Some(value) && self.is_within(pair, last) {
                (count, counted) = (count + 1, Some(value));
            }
        }
        count
    }
}

#[inline]
fn pair_of(hash: u64, pane: i32) -> u64 {
    (hash & !PANE_MASK) | (i64::from(pane).cast_unsigned() & PANE_MASK)
}

impl Table for Distinct {
    fn read(&self, entity: u32, row: usize, inputs: &Inputs, out: &mut [Column]) {
        let last = self.pane(row, inputs);
        let count = self.entities.get(entity as usize).map_or(0, |values| self.count(values, last));
        if let Some(column) = out.get_mut(self.column) {
            column.set(row, i64::from(count));
        }
    }

    fn add(&mut self, entity: u32, row: usize, inputs: &Inputs) {
        let Some(hash) = inputs.values.get(self.of).and_then(|values| values.get(row)) else { return };
        let pane = self.pane(row, inputs);
        let pair = pair_of(hash, pane);
        let Some(values) = self.entities.get(entity as usize) else { return };
        let last = values.counted.0;
        let is_new = last != NEVER
            && self.is_within(pair, last)
            && !values.pairs.of_value(pair).any(|known| self.is_within(known, last));
        let Some(values) = self.entities.get_mut(entity as usize) else { return };
        let before = values.pairs.bytes();
        if values.pairs.insert(pair) {
            values.counted.1 += u32::from(is_new);
            self.bytes = self.bytes + values.pairs.bytes() - before;
        }
    }

    #[inline]
    fn touch(&self, entity: u32) -> u64 {
        self.entities.get(entity as usize).map_or(0, |values| match &values.pairs {
            Pairs::Few(pairs) => pairs.first().unwrap_or(&0) ^ pairs.last().unwrap_or(&0),
            Pairs::Many(_) => 0,
        })
    }

    fn grow(&mut self, entities: usize) {
        if entities > self.entities.len() {
            self.entities.resize_with(entities, Values::default);
        }
    }

    fn trim(&mut self, floor_us: i64) {
        let first = floor_us.div_euclid(self.grain_us).cast_unsigned();
        for values in &mut self.entities {
            let before = values.pairs.bytes();
            // Half of what 20 bits tell apart lies behind, half ahead.
            let is_kept = |pair: u64| pair.wrapping_sub(first) & PANE_MASK <= PANE_MASK / 2;
            if values.pairs.retain(is_kept) {
                values.counted = (NEVER, 0);
                self.bytes = self.bytes + values.pairs.bytes() - before;
            }
        }
    }

    fn is_empty(&self, entity: u32) -> bool {
        self.entities.get(entity as usize).is_none_or(|values| values.pairs.is_empty())
    }

    fn clear(&mut self) {
        (self.entities, self.bytes) = (Vec::new(), 0);
    }

    fn bytes(&self) -> usize {
        self.bytes + self.entities.capacity() * size_of::<Values>()
    }

    fn state(&self, entity: u32, words: &mut Vec<u64>) {
        words.extend(self.entities.get(entity as usize).into_iter().flat_map(|values| values.pairs.all()));
    }

    fn restore(&mut self, entity: u32, words: &[u64]) -> bool {
        let fits = is_ascending(words.iter(), |a, b| a < b);
        if let (true, Some(values)) = (fits, self.entities.get_mut(entity as usize)) {
            let before = values.pairs.bytes();
            let few = words.len() <= FEW;
            let pairs = if few { Pairs::Few(words.to_vec()) } else { Pairs::Many(words.iter().copied().collect()) };
            *values = Values { pairs, counted: (NEVER, 0) };
            self.bytes = self.bytes + values.pairs.bytes() - before;
        }
        fits
    }

    fn stride(&self) -> usize {
        1
    }

    fn pass(&mut self, rows: &Rows<'_>, out: &mut [Column]) {
        for (block, entities) in rows.entities.chunks(BLOCK).enumerate() {
            self.fetch(entities);
            for (row, entity) in (block * BLOCK..).zip(entities) {
                let kind = rows.kind(row, *entity);
                if kind == RowKind::Near {
                    let last = self.pane(row, rows.inputs);
                    let count = self.entities.get(*entity as usize).map_or(0, |values| self.count(values, last));
                    if let Some(values) = self.entities.get_mut(*entity as usize)
                        && last >= values.counted.0
                    {
                        values.counted = (last, count);
                    }
                    if let Some(column) = out.get_mut(self.column) {
                        column.set(row, i64::from(count));
                    }
                }
                if kind != RowKind::Nothing {
                    self.add(*entity, row, rows.inputs);
                }
            }
        }
    }
}
