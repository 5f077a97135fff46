//! The hash table under interners and groups: it holds 32-bit tags and dense indices, the keys stay with the caller.

use super::growth::next_size;

/// Multiplier of the folding hash; any odd number with well spread bits will do.
const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;
const SMALLEST: usize = 16;
/// The greatest load, as a fraction.
const LOAD_MAX: (usize, usize) = (2, 3);
/// Rows looked up at a time, so that their cache misses overlap.
pub(super) const BLOCK: usize = 128;
/// "No index": indices stay below it.
pub(super) const NONE: u32 = u32::MAX;

/// Open addressing with linear probing. The position follows from the tag alone and rises with it: growing never looks
/// at keys, and copies from front to back. It grows by a quarter, for with millions of entries doubling would cost more
/// memory than what it saves in copies is worth.
#[derive(Debug, Default)]
pub(super) struct TagTable {
    /// `tag << 32 | index + 1`; 0 is empty.
    slots: Vec<u64>,
    len: usize,
}

impl TagTable {
    pub fn with_capacity(entries: usize) -> Self {
        let (part, whole) = LOAD_MAX;
        Self { slots: vec![0; (entries * whole / part + 1).max(SMALLEST)], len: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// The first index stored under `tag`: a candidate that the caller has yet to compare, or [`NONE`].
    #[inline]
    pub fn candidate(&self, tag: u32) -> u32 {
        self.find(tag, |_| true)
    }

    /// The index under `tag` that `same` accepts, or [`NONE`].
    #[inline]
    pub fn find(&self, tag: u32, mut same: impl FnMut(u32) -> bool) -> u32 {
        if self.slots.is_empty() {
            return NONE;
        }
        let mut position = self.position(tag);
        loop {
            let slot = self.slots[position];
            if slot == 0 {
                return NONE;
            }
            if (slot >> 32) as u32 == tag {
                let index = (slot as u32) - 1;
                if same(index) {
                    return index;
                }
            }
            position = self.after(position);
        }
    }

    /// Adds an index that is not in the table.
    pub fn insert(&mut self, tag: u32, index: u32) {
        let (part, whole) = LOAD_MAX;
        if (self.len + 1) * whole > self.slots.len() * part {
            self.grow();
        }
        self.place((u64::from(tag) << 32) | u64::from(index + 1));
        self.len += 1;
    }

    fn place(&mut self, slot: u64) {
        let mut position = self.position((slot >> 32) as u32);
        while self.slots[position] != 0 {
            position = self.after(position);
        }
        self.slots[position] = slot;
    }

    #[inline]
    fn position(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, position: usize) -> usize {
        if position + 1 == self.slots.len() { 0 } else { position + 1 }
    }

    #[cold]
    fn grow(&mut self) {
        let size = next_size(self.slots.len(), size_of::<u64>()).max(SMALLEST);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            self.place(slot);
        }
    }
}

/// Multiplies to 128 bits and folds the halves together.
#[inline]
pub(super) fn fold(left: u64, right: u64) -> u64 {
    let wide = u128::from(left) * u128::from(right);
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[inline]
pub(super) fn tag_of_integer(value: i64) -> u32 {
    (fold(value as u64 ^ FOLD, FOLD | 1) >> 32) as u32
}

#[inline]
pub(super) fn tag_of_codes(codes: impl Iterator<Item = u32>) -> u32 {
    let hash = codes.fold(FOLD, |hash, code| fold(hash ^ u64::from(code), 0xd6e8_feb8_6659_fd93));
    (fold(hash, FOLD) >> 32) as u32
}

/// Up to 16 bytes are two loads; longer strings are folded 16 bytes at a time.
#[inline]
pub(super) fn tag_of_bytes(bytes: &[u8]) -> u32 {
    let mut hash = FOLD ^ (bytes.len() as u64);
    let mut rest = bytes;
    while rest.len() > 16 {
        hash = fold(hash ^ word(rest), word(&rest[8..]) ^ 0xa076_1d64_78bd_642f);
        rest = &rest[16..];
    }
    let (first, last) = match rest.len() {
        0 => (0, 0),
        1..4 => (u64::from(rest[0]) | u64::from(rest[rest.len() / 2]) << 8 | u64::from(rest[rest.len() - 1]) << 16, 0),
        4..8 => (half(rest), half(&rest[rest.len() - 4..])),
        _ => (word(rest), word(&rest[rest.len() - 8..])),
    };
    hash = fold(hash ^ first, last ^ 0xe703_7ed1_a0b4_28db);
    (fold(hash, FOLD) >> 32) as u32
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[inline]
fn half(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from(u32::from_le_bytes(*chunk)))
}
