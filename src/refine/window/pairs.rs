//! The distinct (group, value) pairs of one pane, for one `count(DISTINCT …)`.

use super::frozen::FrozenSet;
use super::packed::PackedSet;
use super::tags::{BLOCK, NONE};

/// Domains up to this many codes are held as a bitmap for every group.
const TINY_DOMAIN: usize = 128;
/// What a pair costs in a [`PackedSet`]; a group whose bitmap is cheaper gets one.
const PAIR_BYTES: usize = 6;
/// Pairs in the sparse set before it is looked at for the first time.
const FIRST_REVIEW: usize = 4096;
/// Sparse pairs that are frozen while more are expected, and the part of the frozen ones that they must be: it costs a
/// look into both sets from then on, so it is for the few sets that take most of the memory.
const FREEZE_MIN: usize = if cfg!(test) { 10_000 } else { 1 << 21 };
const FREEZE_SHARE: usize = 4;
/// Pairs at rest that are worth freezing, and the part of the frozen ones that they must be.
const REST_MIN: usize = if cfg!(test) { 4 } else { 4096 };
const REST_SHARE: usize = 16;

/// Pairs are sparse by default; groups with many values hold a bitmap over the codes instead.
#[derive(Debug)]
pub(super) struct PairSet {
    /// Sparse pairs that were there for long, in a third of the memory.
    frozen: Option<Frozen>,
    sparse: PackedSet,
    value_bits: u32,
    /// The sparse set is looked at again when it has this many pairs.
    review_at: usize,
    bitmaps: Bitmaps,
    /// Every group has the bitmap of its own number, and the sparse set is empty.
    tiny: bool,
}

/// Pairs at rest, with the packing of their time.
#[derive(Debug)]
struct Frozen {
    set: FrozenSet,
    value_bits: u32,
}

impl Frozen {
    #[inline]
    fn has(&self, group: u32, value: u32) -> bool {
        key(group, value, self.value_bits, self.set.bits()).is_some_and(|key| self.set.contains(key))
    }

    /// Whether the set's sparse pairs are packed as these are.
    fn is_like(&self, set: &PairSet) -> bool {
        self.value_bits == set.value_bits && self.set.bits() == set.sparse.bits()
    }
}

/// The group counts of a pane: `counts[group * stride]` is the number of its pairs here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts<'a> {
    pub counts: &'a [u32],
    pub stride: usize,
}

impl Counts<'_> {
    fn groups(&self) -> usize {
        self.counts.len() / self.stride
    }
}

impl PairSet {
    /// A set over values whose codes are below `domain`, as far as is known by now.
    pub fn new(domain: usize) -> Self {
        let tiny = domain <= TINY_DOMAIN;
        let sparse = PackedSet::new(63, 0);
        Self { frozen: None, sparse, value_bits: 32, review_at: FIRST_REVIEW, bitmaps: Bitmaps::new(domain), tiny }
    }

    /// A set that is expected to become what `other` is: growing to that size would cost as much as filling it.
    pub fn like(other: &Self, domain: usize) -> Self {
        let mut set = Self::new(domain);
        let expected = other.len().min(FREEZE_MIN);
        if !set.tiny && !other.tiny && expected >= FIRST_REVIEW {
            let value_bits = other.value_bits.max(bits(domain) + 1);
            let group_bits = other.sparse.bits().saturating_sub(other.value_bits);
            let packed = PackedSet::with_room(group_bits + value_bits, expected, expected);
            if packed.is_narrow() && group_bits + value_bits <= 63 {
                (set.sparse, set.value_bits) = (packed, value_bits);
            }
        }
        set
    }

    /// Sparse pairs.
    fn len(&self) -> usize {
        self.sparse.len() + self.frozen.as_ref().map_or(0, |frozen| frozen.set.len())
    }

    pub fn bytes(&self) -> usize {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.bytes());
        frozen + self.sparse.bytes() + self.bitmaps.bytes()
    }

    /// Tells `found` the position of each pair that is in the set.
    pub fn find(&self, pairs: &[(u32, u32)], mut found: impl FnMut(usize)) {
        let mut mixed = [None; BLOCK];
        for (number, block) in pairs.chunks(BLOCK).enumerate() {
            let mut touched = 0;
            for (mixed, (group, value)) in mixed.iter_mut().zip(block) {
                *mixed = self.key(*group, *value).map(|key| self.sparse.mix(key));
                touched ^= mixed.map_or(0, |mixed| self.sparse.touch(mixed));
            }
            std::hint::black_box(touched);
            for (at, (group, value)) in block.iter().enumerate() {
                let is_in = match self.row_of(*group) {
                    Some(row) => self.bitmaps.has(row, *value),
                    None => {
                        mixed[at].is_some_and(|mixed| self.sparse.contains_mixed(mixed))
                            || self.frozen.as_ref().is_some_and(|frozen| frozen.has(*group, *value))
                    }
                };
                if is_in {
                    found(number * BLOCK + at);
                }
            }
        }
    }

    /// Adds pairs; `new` is told the position of each that was not there. Values of code 0 are NULL and left out.
    pub fn insert(&mut self, pairs: &[(u32, u32)], mut new: impl FnMut(usize)) {
        let mut mixed = [0_u64; BLOCK];
        let mut known = [false; BLOCK];
        for (number, block) in pairs.chunks(BLOCK).enumerate() {
            let greatest = block.iter().map(|pair| pair.1).max().unwrap_or(0);
            self.make_room(block, greatest);
            if !self.tiny {
                let mut touched = 0;
                for (mixed, (group, value)) in mixed.iter_mut().zip(block) {
                    *mixed = self.sparse.mix(u64::from(*group) << self.value_bits | u64::from(*value));
                    touched ^= self.sparse.touch(*mixed);
                }
                std::hint::black_box(touched);
                if let Some(frozen) = &self.frozen {
                    for (known, (group, value)) in known.iter_mut().zip(block) {
                        *known = frozen.has(*group, *value);
                    }
                }
            }
            for (at, (group, value)) in block.iter().enumerate() {
                if *value == 0 {
                    continue;
                }
                let is_new = match self.row_of(*group) {
                    Some(row) => self.bitmaps.insert(row, *value),
                    None => !known[at] && self.sparse.insert_mixed(mixed[at]),
                };
                if is_new {
                    new(number * BLOCK + at);
                }
            }
        }
    }

    /// Whether [`review`](Self::review) is due.
    pub fn needs_review(&self) -> bool {
        self.sparse.len() >= self.review_at
    }

    /// Gives bitmaps to the groups for which they are cheaper, and packs the rest as tightly as it goes.
    pub fn review(&mut self, counts: Counts<'_>, domain: usize) {
        self.bitmaps.widen(domain);
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.len());
        let freezes_at = FREEZE_MIN.max(frozen / FREEZE_SHARE);
        let freezes = !self.tiny && self.sparse.len() >= freezes_at;
        // Frozen pairs of a group go to its bitmap while they are passed over anyway.
        if (frozen == 0 || freezes) && self.promote(counts) {
            let (bitmaps, value_bits) = (&mut self.bitmaps, self.value_bits);
            self.sparse.retain(|key| bitmaps.leave(unpack(key, value_bits)));
        }
        let (group_bits, value_bits) = match &self.frozen {
            // As the frozen ones: a merge of the two is a pass over both then.
            Some(frozen) if frozen.is_like(self) => (frozen.set.bits() - frozen.value_bits, frozen.value_bits),
            _ => (bits(counts.groups()) + 1, bits(domain) + 1),
        };
        if self.needs_review()
            && self.sparse.is_worse_than(&PackedSet::new(group_bits + value_bits, self.sparse.len() * 2))
        {
            self.repack(group_bits, value_bits, self.sparse.len());
        }
        if freezes {
            self.freeze();
            self.sparse = PackedSet::new(self.sparse.bits(), freezes_at);
        }
        self.review_at = (self.sparse.len() * 2).max(FIRST_REVIEW);
        if self.sparse.len() < freezes_at {
            self.review_at = self.review_at.min(freezes_at);
        }
    }

    /// Whether any group got a bitmap.
    fn promote(&mut self, counts: Counts<'_>) -> bool {
        let (bitmap_bytes, before) = (self.bitmaps.stride * size_of::<u64>(), self.bitmaps.rows);
        for (group, count) in counts.counts.iter().step_by(counts.stride).enumerate() {
            if *count as usize * PAIR_BYTES > bitmap_bytes && self.bitmaps.row_of(group as u32).is_none() {
                self.bitmaps.add(group as u32);
            }
        }
        self.bitmaps.rows > before
    }

    /// No more than a few pairs are expected from now on: what is worth it is frozen.
    pub fn rest(&mut self, counts: Counts<'_>, domain: usize) {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.len());
        if self.sparse.len() > REST_MIN.max(frozen / REST_SHARE) {
            if frozen == 0 && !self.sparse.is_narrow() {
                let (group_bits, value_bits) = (bits(counts.groups()).max(1), bits(domain).max(1));
                let (bits, len) = (group_bits + value_bits, self.sparse.len());
                self.move_to(PackedSet::with_room(bits, len, len), value_bits);
            }
            self.freeze();
        }
    }

    /// Afterwards no pair is sparse, unless there are too many.
    fn freeze(&mut self) {
        if self.frozen.as_ref().is_some_and(|frozen| !frozen.is_like(self)) {
            self.thaw();
        }
        let (bitmaps, value_bits) = (&mut self.bitmaps, self.value_bits);
        let older = self.frozen.as_ref().map(|frozen| &frozen.set);
        if let Some(set) = FrozenSet::of(older, &self.sparse, |key| bitmaps.leave(unpack(key, value_bits))) {
            self.sparse = PackedSet::new(self.sparse.bits(), 0);
            self.frozen = Some(Frozen { set, value_bits });
        }
    }

    /// Puts the frozen pairs among the others.
    fn thaw(&mut self) {
        let Some(frozen) = self.frozen.take() else { return };
        let group_bits = (self.sparse.bits() - self.value_bits).max(frozen.set.bits() - frozen.value_bits);
        let value_bits = self.value_bits.max(frozen.value_bits);
        self.repack(group_bits, value_bits, self.sparse.len() + frozen.set.len());
        let (bitmaps, sparse, value_bits) = (&mut self.bitmaps, &mut self.sparse, self.value_bits);
        frozen.set.for_each(|key| {
            let (group, value) = unpack(key, frozen.value_bits);
            if bitmaps.leave((group, value)) {
                sparse.insert_mixed(sparse.mix(u64::from(group) << value_bits | u64::from(value)));
            }
        });
    }

    pub fn for_each(&self, mut visit: impl FnMut(u32, u32)) {
        if let Some(frozen) = &self.frozen {
            frozen.set.for_each(|key| {
                let (group, value) = unpack(key, frozen.value_bits);
                visit(group, value);
            });
        }
        let value_bits = self.value_bits;
        self.sparse.for_each(|key| {
            let (group, value) = unpack(key, value_bits);
            visit(group, value);
        });
        self.bitmaps.for_each(visit);
    }

    #[inline]
    fn row_of(&self, group: u32) -> Option<u32> {
        if self.tiny { ((group as usize) < self.bitmaps.rows).then_some(group) } else { self.bitmaps.row_of(group) }
    }

    /// `None` when no pair of these codes can be in the sparse set.
    fn key(&self, group: u32, value: u32) -> Option<u64> {
        key(group, value, self.value_bits, self.sparse.bits())
    }

    /// Makes the codes of a block fit the bitmaps and the packing.
    fn make_room(&mut self, block: &[(u32, u32)], greatest_value: u32) {
        if greatest_value as usize >= self.bitmaps.stride * 64 {
            if self.tiny && greatest_value as usize >= TINY_DOMAIN {
                self.leave_tiny();
            }
            if self.tiny || self.bitmaps.rows > 0 {
                self.bitmaps.widen(greatest_value as usize + 1);
            }
        }
        let greatest_group = block.iter().map(|pair| pair.0).max().unwrap_or(0);
        if self.tiny {
            self.bitmaps.add_until(greatest_group);
        } else if self.key(greatest_group, greatest_value).is_none() {
            let (group_bits, value_bits) =
                (bits(greatest_group as usize + 1) + 2, bits(greatest_value as usize + 1) + 1);
            self.repack(group_bits, value_bits, self.sparse.len());
        }
    }

    fn leave_tiny(&mut self) {
        self.tiny = false;
        let bitmaps = std::mem::replace(&mut self.bitmaps, Bitmaps::new(TINY_DOMAIN));
        let (sparse, value_bits) = (&mut self.sparse, self.value_bits);
        bitmaps.for_each(|group, value| {
            sparse.insert_mixed(sparse.mix(u64::from(group) << value_bits | u64::from(value)));
        });
    }

    /// Packs the sparse pairs anew, with room for so many of them; twice as many are expected.
    fn repack(&mut self, group_bits: u32, value_bits: u32, room: usize) {
        // Without 32-bit slots nothing is gained by fewer bits, and the widest packing never has to be left.
        let packed = PackedSet::with_room(group_bits + value_bits, room * 2, room);
        if packed.is_narrow() && group_bits + value_bits <= 63 {
            self.move_to(packed, value_bits);
        } else {
            self.move_to(PackedSet::with_room(63, room * 2, room), 32);
        }
    }

    fn move_to(&mut self, mut target: PackedSet, value_bits: u32) {
        let old_bits = std::mem::replace(&mut self.value_bits, value_bits);
        std::mem::replace(&mut self.sparse, PackedSet::new(63, 0)).drain(|key| {
            let (group, value) = unpack(key, old_bits);
            target.insert_mixed(target.mix(u64::from(group) << value_bits | u64::from(value)));
        });
        self.sparse = target;
    }
}

/// The pair as one integer of `bits` bits; `None` when it has more.
#[inline]
fn key(group: u32, value: u32, value_bits: u32, bits: u32) -> Option<u64> {
    let key = u64::from(group) << value_bits | u64::from(value);
    (u64::from(value) >> value_bits == 0 && key >> bits == 0).then_some(key)
}

fn unpack(key: u64, value_bits: u32) -> (u32, u32) {
    ((key >> value_bits) as u32, (key & ((1 << value_bits) - 1)) as u32)
}

/// The bits that number `count` things.
fn bits(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}

/// One bitmap over all value codes for each of some groups.
#[derive(Debug)]
struct Bitmaps {
    /// Words of one bitmap.
    stride: usize,
    rows: usize,
    /// `1 << chunk_bits` bitmaps each, so that growing copies little.
    chunks: Vec<Vec<u64>>,
    chunk_bits: u32,
    /// The row of each group, and the group of each row.
    row_of: Vec<u32>,
    group_of: Vec<u32>,
}

impl Bitmaps {
    fn new(domain: usize) -> Self {
        let stride = domain.div_ceil(64).max(1);
        // About 64 KiB a chunk.
        let chunk_bits = (8192 / stride).max(1).ilog2();
        Self { stride, rows: 0, chunks: Vec::new(), chunk_bits, row_of: Vec::new(), group_of: Vec::new() }
    }

    fn bytes(&self) -> usize {
        let words: usize = self.chunks.iter().map(Vec::capacity).sum();
        words * size_of::<u64>() + (self.row_of.capacity() + self.group_of.capacity()) * size_of::<u32>()
    }

    #[inline]
    fn row_of(&self, group: u32) -> Option<u32> {
        self.row_of.get(group as usize).copied().filter(|row| *row != NONE)
    }

    fn add(&mut self, group: u32) {
        let at = group as usize;
        if at >= self.row_of.len() {
            self.row_of.resize(at + 1, NONE);
        }
        self.row_of[at] = self.rows as u32;
        self.group_of.push(group);
        self.add_row();
    }

    /// Rows up to and with this one, whose groups have their number.
    fn add_until(&mut self, row: u32) {
        while self.rows <= row as usize {
            self.add_row();
        }
    }

    fn add_row(&mut self) {
        let words = self.stride << self.chunk_bits;
        if self.rows >> self.chunk_bits == self.chunks.len() {
            self.chunks.push(Vec::new());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            if chunk.capacity() == 0 && self.rows > 0 {
                chunk.reserve_exact(words);
            }
            chunk.resize(chunk.len() + self.stride, 0);
        }
        self.rows += 1;
    }

    #[inline]
    fn place(&self, row: u32, value: u32) -> (usize, usize) {
        let row = row as usize;
        let within = row & ((1 << self.chunk_bits) - 1);
        (row >> self.chunk_bits, within * self.stride + value as usize / 64)
    }

    #[inline]
    fn insert(&mut self, row: u32, value: u32) -> bool {
        let (chunk, word) = self.place(row, value);
        let word = &mut self.chunks[chunk][word];
        let before = *word;
        *word |= 1 << (value % 64);
        *word != before
    }

    fn has(&self, row: u32, value: u32) -> bool {
        if value as usize >= self.stride * 64 {
            return false;
        }
        let (chunk, word) = self.place(row, value);
        self.chunks[chunk][word] >> (value % 64) & 1 == 1
    }

    /// Takes the pair in if its group has a bitmap; says whether it must be kept elsewhere.
    fn leave(&mut self, (group, value): (u32, u32)) -> bool {
        let row = self.row_of(group);
        if let Some(row) = row {
            self.insert(row, value);
        }
        row.is_none()
    }

    /// Makes room for codes below `domain`.
    fn widen(&mut self, domain: usize) {
        let needed = domain.div_ceil(64);
        if needed <= self.stride {
            return;
        }
        let stride = if self.rows == 0 { needed } else { needed + needed / 4 };
        let mut wider = Self::new(stride * 64);
        wider.add_until_count(self.rows);
        for row in 0..self.rows as u32 {
            let ((from_chunk, from), (to_chunk, to)) = (self.place(row, 0), wider.place(row, 0));
            wider.chunks[to_chunk][to..to + self.stride]
                .copy_from_slice(&self.chunks[from_chunk][from..from + self.stride]);
        }
        wider.row_of = std::mem::take(&mut self.row_of);
        wider.group_of = std::mem::take(&mut self.group_of);
        *self = wider;
    }

    fn add_until_count(&mut self, rows: usize) {
        while self.rows < rows {
            self.add_row();
        }
    }

    fn for_each(&self, mut visit: impl FnMut(u32, u32)) {
        for row in 0..self.rows as u32 {
            let group = self.group_of.get(row as usize).copied().unwrap_or(row);
            let (chunk, from) = self.place(row, 0);
            for (at, word) in self.chunks[chunk][from..from + self.stride].iter().enumerate() {
                let mut rest = *word;
                while rest != 0 {
                    visit(group, (at * 64) as u32 + rest.trailing_zeros());
                    rest &= rest - 1;
                }
            }
        }
    }
}
