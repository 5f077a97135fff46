//! What is known of all users, or all merchants.

use ahash::{AHashMap, AHashSet};

use super::columns::{Column, Inputs};
use super::plan::{NOBODY, Planned, PlannedEntity, Rows, STRANGER, Table};
use super::state::{read, write};

/// Entities by their keys, numbered densely, and tables by these numbers.
#[derive(Debug)]
pub(super) struct Entities {
    /// The column among the values of a batch.
    value: usize,
    numbers: AHashMap<u64, u32>,
    /// Numbers of entities that were forgotten.
    free: Vec<u32>,
    tables: Vec<Covered>,
    /// Nobody else is known; `None` for no bound.
    only: Option<AHashSet<u64>>,
}

/// A table and what it holds of the past: every row with an event time from `floor_us` on, and no other.
#[derive(Debug)]
struct Covered {
    table: Box<dyn Table>,
    reach_us: i64,
    grain_us: i64,
    /// [`i64::MAX`] while nothing is loaded.
    floor_us: i64,
}

/// A span of event time.
pub(super) type Span = std::ops::Range<i64>;

/// So much more than needed is loaded, that not each row that is a little older asks again.
const SLACK_US_MIN: i64 = 3_600_000_000;
/// What is not needed is forgotten when it has become this part of the reach.
const SURPLUS: i64 = 4;

impl Covered {
    /// Where the past begins that a row at an instant needs.
    fn needs_from(&self, at_us: i64) -> i64 {
        self.align(at_us.saturating_sub(self.reach_us))
    }

    fn align(&self, at_us: i64) -> i64 {
        at_us.div_euclid(self.grain_us).saturating_mul(self.grain_us)
    }
}

impl Entities {
    pub(super) fn new(planned: PlannedEntity) -> Self {
        let covered = |planned: Planned| Covered {
            table: planned.table,
            reach_us: planned.reach_us,
            grain_us: planned.grain_us,
            floor_us: i64::MAX,
        };
        Self {
            value: planned.value,
            numbers: AHashMap::new(),
            free: Vec::new(),
            tables: planned.tables.into_iter().map(covered).collect(),
            only: None,
        }
    }

    /// Knows the entities of these rows and nobody else.
    pub(super) fn know_only(&mut self, inputs: &Inputs, rows: &[usize]) {
        let keys = inputs.values.get(self.value);
        self.only = keys.map(|keys| rows.iter().filter_map(|row| keys.get(*row)).collect());
    }

    /// From when on rows look back on what is held, or on what is before it by no more than `more_us`; everything while
    /// nothing is loaded.
    pub(super) fn reaches(&self, more_us: i64) -> i64 {
        let reaches = |covered: &Covered| match covered.floor_us {
            i64::MAX => i64::MIN,
            // Rounded up: what a row needs is rounded down to a pane.
            floor_us => floor_us.saturating_add(covered.reach_us + covered.grain_us).saturating_sub(more_us),
        };
        self.tables.iter().map(reaches).max().unwrap_or(i64::MIN)
    }

    /// What must be loaded before rows from `oldest_us` on may be looked at: from where to where, for each table.
    pub(super) fn lacking(&self, oldest_us: i64) -> Vec<Span> {
        let lacks = |covered: &Covered| {
            if covered.needs_from(oldest_us) >= covered.floor_us {
                return covered.floor_us..covered.floor_us;
            }
            let slack_us = (covered.reach_us / 8).max(SLACK_US_MIN);
            let from_us = covered.needs_from(oldest_us.saturating_sub(slack_us));
            from_us..covered.floor_us
        };
        self.tables.iter().map(lacks).collect()
    }

    /// Adds rows of the past, to each table those within its span.
    pub(super) fn load(&mut self, inputs: &Inputs, spans: &[Span]) {
        let numbers = self.numbers_of(inputs);
        for (covered, span) in self.tables.iter_mut().zip(spans).filter(|(_, span)| !span.is_empty()) {
            covered.table.add_all(&numbers, inputs, span);
        }
    }

    /// The rows of these spans are loaded.
    pub(super) fn loaded(&mut self, spans: &[Span]) {
        for (covered, span) in self.tables.iter_mut().zip(spans) {
            covered.floor_us = span.start.min(covered.floor_us);
        }
    }

    /// The values of each row from an instant on, and then the row itself, one after the other.
    pub(super) fn pass(&mut self, inputs: &Inputs, near_from_us: i64, out: &mut [Column]) {
        let entities = self.numbers_of(inputs);
        for covered in &mut self.tables {
            let rows = Rows { inputs, entities: &entities, near_from_us, floor_us: covered.floor_us };
            covered.table.pass(&rows, out);
        }
    }

    /// The values that each row would get, and nothing else.
    pub(super) fn read(&self, inputs: &Inputs, out: &mut [Column]) {
        let Some(keys) = inputs.values.get(self.value) else { return };
        for row in (0..inputs.len()).filter(|row| inputs.is_timed(*row)) {
            let Some(key) = keys.get(row) else { continue };
            let number = self.numbers.get(&key).copied().unwrap_or(STRANGER);
            for covered in &self.tables {
                covered.table.read(number, row, inputs, out);
            }
        }
    }

    /// Forgets what no row from `oldest_us` on needs, once it is worth it.
    pub(super) fn trim(&mut self, oldest_us: i64) {
        let mut has_forgotten = false;
        for covered in &mut self.tables {
            let floor_us = covered.needs_from(oldest_us);
            let surplus_us = floor_us.saturating_sub(covered.floor_us);
            if covered.floor_us == i64::MAX || surplus_us < (covered.reach_us / SURPLUS).max(covered.grain_us) {
                continue;
            }
            covered.table.trim(floor_us);
            covered.floor_us = floor_us;
            has_forgotten = true;
        }
        if has_forgotten {
            let (tables, free) = (&self.tables, &mut self.free);
            self.numbers.retain(|_, number| {
                let is_known = tables.iter().any(|covered| !covered.table.is_empty(*number));
                if !is_known {
                    free.push(*number);
                }
                is_known
            });
        }
    }

    /// The longest that a table looks back, and the pane that it is rounded to.
    pub(super) fn reach_us(&self) -> i64 {
        self.tables.iter().map(|covered| covered.reach_us.saturating_add(covered.grain_us)).max().unwrap_or(0)
    }

    /// The key of each row's entity; none where it has none, or no event time.
    pub(super) fn keys(&self, inputs: &Inputs) -> Vec<Option<u64>> {
        let Some(keys) = inputs.values.get(self.value) else { return vec![None; inputs.len()] };
        (0..inputs.len()).map(|row| keys.get(row).filter(|_| inputs.is_timed(row))).collect()
    }

    /// The keys of all that are known.
    pub(super) fn known(&self) -> impl Iterator<Item = u64> {
        self.numbers.keys().copied()
    }

    /// What is known of an entity.
    pub(super) fn state(&self, key: u64, out: &mut Vec<u8>) {
        let number = self.numbers.get(&key).copied().unwrap_or(STRANGER);
        write(self.tables.iter().map(|covered| covered.table.as_ref()), number, out);
    }

    /// Knows of an entity what [`state`](Self::state) said.
    ///
    /// # Errors
    /// In words, when that is no state of these tables; nothing is known of the entity then.
    pub(super) fn restore(&mut self, key: u64, state: &[u8]) -> Result<(), String> {
        let next = u32::try_from(self.numbers.len() + self.free.len()).unwrap_or(NOBODY);
        let number = *self.numbers.entry(key).or_insert_with(|| self.free.pop().unwrap_or(next));
        let entities = self.numbers.len() + self.free.len();
        self.tables.iter_mut().for_each(|covered| covered.table.grow(entities));
        let restored = read(self.tables.iter_mut().map(|covered| covered.table.as_mut()), number, state);
        if restored.is_err() {
            self.tables.iter_mut().for_each(|covered| _ = covered.table.restore(number, &[]));
        }
        restored
    }

    pub(super) fn forget(&mut self) {
        self.numbers = AHashMap::new();
        self.free = Vec::new();
        for covered in &mut self.tables {
            covered.table.clear();
            covered.floor_us = i64::MAX;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn bytes(&self) -> usize {
        // A key, a number and a byte of the table; at most seven of eight places are taken.
        let numbers = self.numbers.capacity() * 19 + self.free.capacity() * size_of::<u32>();
        numbers + self.tables.iter().map(|covered| covered.table.bytes()).sum::<usize>()
    }

    /// The number of each row's entity; new ones get one.
    fn numbers_of(&mut self, inputs: &Inputs) -> Vec<u32> {
        let Some(keys) = inputs.values.get(self.value) else { return vec![NOBODY; inputs.len()] };
        let is_wanted = |key: &u64| self.only.as_ref().is_none_or(|only| only.contains(key));
        let key_of = |row: usize| keys.get(row).filter(|_| inputs.is_timed(row)).filter(is_wanted);
        // Those that are known first, in a loop that changes nothing, so that its waits for memory overlap.
        let known = |row: usize| key_of(row).map_or(NOBODY, |key| *self.numbers.get(&key).unwrap_or(&STRANGER));
        let mut numbers: Vec<u32> = (0..inputs.len()).map(known).collect();
        for (row, number) in numbers.iter_mut().enumerate().filter(|(_, number)| **number == STRANGER) {
            let next = u32::try_from(self.numbers.len() + self.free.len()).unwrap_or(NOBODY);
            if let Some(key) = keys.get(row) {
                *number = *self.numbers.entry(key).or_insert_with(|| self.free.pop().unwrap_or(next));
            }
        }
        let entities = self.numbers.len() + self.free.len();
        self.tables.iter_mut().for_each(|covered| covered.table.grow(entities));
        numbers
    }
}
