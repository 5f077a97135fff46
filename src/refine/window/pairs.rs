//! The distinct (group, value) pairs of one pane, for one `count(DISTINCT …)`.

use super::packed::PackedSet;
use super::tags::{BLOCK, NONE};

/// Domains up to this many codes are held as a bitmap for every group.
const TINY_DOMAIN: usize = 128;
/// What a pair costs in a [`PackedSet`]; a group whose bitmap is cheaper gets one.
const PAIR_BYTES: usize = 6;
/// Pairs in the sparse set before it is looked at for the first time.
const FIRST_REVIEW: usize = 4096;

/// Pairs are sparse by default; groups with many values hold a bitmap over the codes instead.
#[derive(Debug)]
pub(super) struct PairSet {
    sparse: PackedSet,
    value_bits: u32,
    /// The sparse set is looked at again when it has this many pairs.
    review_at: usize,
    bitmaps: Bitmaps,
    /// Every group has the bitmap of its own number, and the sparse set is empty.
    tiny: bool,
}

/// The group counts of a pane: `counts[group * stride]` is the number of its pairs here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts<'a> {
    pub counts: &'a [u32],
    pub stride: usize,
}

impl PairSet {
    /// A set over values whose codes are below `domain`, as far as is known by now.
    pub fn new(domain: usize) -> Self {
        let tiny = domain <= TINY_DOMAIN;
        let sparse = PackedSet::new(63, 0);
        Self { sparse, value_bits: 32, review_at: FIRST_REVIEW, bitmaps: Bitmaps::new(domain), tiny }
    }

    /// A set that is expected to become what `other` is: growing to that size would cost as much as filling it.
    pub fn like(other: &Self, domain: usize) -> Self {
        let mut set = Self::new(domain);
        if !set.tiny && !other.tiny && other.sparse.len() >= FIRST_REVIEW {
            let value_bits = other.value_bits.max(bits(domain) + 1);
            let group_bits = other.sparse.bits().saturating_sub(other.value_bits);
            let packed = PackedSet::with_room(group_bits + value_bits, other.sparse.len());
            if packed.is_narrow() && group_bits + value_bits <= 63 {
                (set.sparse, set.value_bits) = (packed, value_bits);
            }
        }
        set
    }

    pub fn bytes(&self) -> usize {
        self.sparse.bytes() + self.bitmaps.bytes()
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
                    None => mixed[at].is_some_and(|mixed| self.sparse.contains_mixed(mixed)),
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
            }
            for (at, (group, value)) in block.iter().enumerate() {
                if *value == 0 {
                    continue;
                }
                let is_new = match self.row_of(*group) {
                    Some(row) => self.bitmaps.insert(row, *value),
                    None => self.sparse.insert_mixed(mixed[at]),
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
        let bitmap_bytes = self.bitmaps.stride * size_of::<u64>();
        let mut promoted = false;
        for (group, count) in counts.counts.iter().step_by(counts.stride).enumerate() {
            if *count as usize * PAIR_BYTES > bitmap_bytes && self.bitmaps.row_of(group as u32).is_none() {
                self.bitmaps.add(group as u32);
                promoted = true;
            }
        }
        if promoted {
            let (bitmaps, value_bits) = (&mut self.bitmaps, self.value_bits);
            self.sparse.retain(|key| {
                let (group, value) = unpack(key, value_bits);
                match bitmaps.row_of(group) {
                    Some(row) => {
                        bitmaps.insert(row, value);
                        false
                    }
                    None => true,
                }
            });
        }
        let groups = counts.counts.len() / counts.stride;
        let (group_bits, value_bits) = (bits(groups) + 1, bits(domain) + 1);
        if self.needs_review()
            && self.sparse.is_worse_than(&PackedSet::new(group_bits + value_bits, self.sparse.len() * 2))
        {
            self.repack(group_bits, value_bits);
        }
        self.review_at = (self.sparse.len() * 2).max(FIRST_REVIEW);
    }

    pub fn for_each(&self, mut visit: impl FnMut(u32, u32)) {
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

    /// `None` when no pair of these codes can be in the set.
    fn key(&self, group: u32, value: u32) -> Option<u64> {
        let key = u64::from(group) << self.value_bits | u64::from(value);
        let fits = bits(value as usize + 1) <= self.value_bits && key >> self.sparse.bits() == 0;
        fits.then_some(key)
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
            self.repack(bits(greatest_group as usize + 1) + 2, bits(greatest_value as usize + 1) + 1);
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

    fn repack(&mut self, group_bits: u32, value_bits: u32) {
        // Without 32-bit slots nothing is gained by fewer bits, and the widest packing never has to be left.
        let packed = PackedSet::new(group_bits + value_bits, self.sparse.len() * 2);
        let (mut target, value_bits) = if packed.is_narrow() && group_bits + value_bits <= 63 {
            (packed, value_bits)
        } else {
            (PackedSet::new(63, self.sparse.len() * 2), 32)
        };
        let old_bits = std::mem::replace(&mut self.value_bits, value_bits);
        std::mem::replace(&mut self.sparse, PackedSet::new(63, 0)).drain(|key| {
            let (group, value) = unpack(key, old_bits);
            target.insert_mixed(target.mix(u64::from(group) << value_bits | u64::from(value)));
        });
        self.sparse = target;
    }
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
