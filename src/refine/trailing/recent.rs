use std::hint::black_box;

use super::super::times::Times;
use super::frozen::{Builder, Frozen};

/// Instants by key that takes more of them. Keys stand in ascending order in a table with gaps, each at the place that
/// its upper half says or behind it: one cache line to look a key up, and one pass to grow or to freeze.
///
/// Keys must be spread evenly over 64 bits, or over the upper 32 of them.
#[derive(Debug, Default)]
pub(super) struct Recent {
    slots: Vec<Slot>,
    /// Places by the upper half; slots behind them take what has no room there.
    places: usize,
    keys: usize,
    len: usize,
    /// Beside the table itself.
    heap_bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    key: u64,
    /// None in a gap.
    times: Times<u32>,
}

/// The table grows when it is filled to 3/4, to 3/5.
const GROW_AT: (usize, usize) = (3, 4);
const GROW_TO: (usize, usize) = (3, 5);
const PLACES_MIN: usize = 16;

impl Recent {
    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<&Times<u32>> {
        let slots = self.slots.get(self.place(key)..)?;
        let slot = slots.iter().find(|slot| slot.key >= key || slot.times.is_empty())?;
        (slot.key == key && !slot.times.is_empty()).then_some(&slot.times)
    }

    #[inline]
    pub(super) fn insert(&mut self, key: u64, time: u32) {
        let at = self.slot_of(key);
        let Some(Slot { times, .. }) = self.slots.get_mut(at) else { return };
        let before = times.heap_bytes();
        times.insert(time);
        self.heap_bytes = self.heap_bytes + times.heap_bytes() - before;
        self.len += 1;
    }

    /// Has the slots of these keys fetched, before one after the other is needed.
    #[inline]
    pub(super) fn touch(&self, keys: impl Iterator<Item = u64>) {
        let slots = keys.filter_map(|key| self.slots.get(self.place(key)));
        black_box(slots.fold(0, |all, slot| all ^ slot.key));
    }

    /// Room for keys, three quarters of which can be filled.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Gives keys this many places.
    #[cold]
    pub(super) fn grow(&mut self, places: usize) {
        self.places = places.max(PLACES_MIN);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); self.places]);
        let mut next = 0;
        for slot in old.into_iter().filter(|slot| !slot.times.is_empty()) {
            let at = self.place(slot.key).max(next);
            if at == self.slots.len() {
                self.extend();
            }
            if let Some(gap) = self.slots.get_mut(at) {
                *gap = slot;
            }
            next = at + 1;
        }
    }

    /// Instants of all keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.heap_bytes
    }

    pub(super) fn into_frozen(self) -> Frozen {
        let held = || self.slots.iter().filter(|slot| !slot.times.is_empty());
        let is_wide = held().any(|slot| slot.key << 32 != 0);
        let mut frozen = Builder::new(self.keys, self.len, is_wide);
        for slot in held() {
            frozen.push(slot.key, |all| slot.times.append_to(all));
        }
        frozen.finish()
    }

    /// Ascending with the key.
    #[inline]
    fn place(&self, key: u64) -> usize {
        (((key >> 32) * self.places as u64) >> 32) as usize
    }

    /// The slot of the key, made if there is none.
    #[inline]
    fn slot_of(&mut self, key: u64) -> usize {
        let from = self.place(key);
        let slots = self.slots.get(from..).unwrap_or_default();
        let at = slots
            .iter()
            .position(|slot| slot.key >= key || slot.times.is_empty())
            .map_or(self.slots.len(), |n| from + n);
        if self.slots.get(at).is_some_and(|slot| slot.key == key && !slot.times.is_empty()) {
            at
        } else {
            self.make_room(key, at)
        }
    }

    fn make_room(&mut self, key: u64, at: usize) -> usize {
        if self.keys * GROW_AT.1 >= self.places * GROW_AT.0 {
            self.grow(self.keys * GROW_TO.1 / GROW_TO.0);
            return self.slot_of(key);
        }
        self.keys += 1;
        let rest = self.slots.get(at..).unwrap_or_default();
        let gap = rest.iter().position(|slot| slot.times.is_empty()).map_or(self.slots.len(), |n| at + n);
        if gap == self.slots.len() {
            self.extend();
        }
        if let Some(moved) = self.slots.get_mut(at..=gap) {
            moved.rotate_right(1);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.key = key;
        }
        at
    }

    /// A few more slots behind the last place: rarely needed, and not to be doubled for.
    #[cold]
    fn extend(&mut self) {
        let len = self.slots.len() + PLACES_MIN;
        self.slots.reserve_exact(PLACES_MIN);
        self.slots.resize(len, Slot::default());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_holds_what_came(
            // Keys that crowd at both ends, and others.
            events in prop::collection::vec((prop_oneof![0_u64..20, u64::MAX - 20..=u64::MAX, any::<u64>(), (0_u64..50).prop_map(|n| n << 58)], 0_u32..9), 0..300),
            absent in any::<u64>(),
        ) {
            let mut recent = Recent::default();
            let mut model = BTreeMap::<u64, Vec<u32>>::new();
            for (key, time) in &events {
                recent.insert(*key, *time);
                model.entry(*key).or_default().push(*time);
            }
            prop_assert_eq!(recent.len(), events.len());
            for (key, times) in &mut model {
                times.sort_unstable();
                let found = recent.find(*key).unwrap();
                for at in 0..9 {
                    prop_assert_eq!(found.rank(at), times.iter().filter(|time| **time <= at).count());
                }
            }
            for key in model.keys().map(|key| key ^ 32).chain([absent, 0, u64::MAX]).filter(|key| !model.contains_key(key)) {
                prop_assert!(recent.find(key).is_none());
            }
            let frozen = recent.into_frozen();
            prop_assert_eq!(frozen.len(), events.len());
            for (key, times) in &model {
                prop_assert_eq!(frozen.find(*key, frozen.bucket(*key)), &times[..]);
            }
        }
    }

    #[test]
    fn evenly_spread_keys_take_less_than_60_bytes_each() {
        let mut recent = Recent::default();
        for number in 1..10_000_u64 {
            recent.insert((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) << 32, 7);
            assert!(number < 1_000 || recent.bytes() < 60 * number as usize, "{number} keys: {}", recent.bytes());
        }
    }
}
