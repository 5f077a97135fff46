//! An exact set of integers that costs four to eight bytes a member.

/// Entries of one shard before the set is cut into more shards: its slots stay within a core's own cache.
const SHARD_ENTRIES: usize = 8192;
/// A remainder and its mark of presence fit a 32-bit slot.
const NARROW_BITS: u32 = 31;
/// Odd, so each has an inverse modulo every power of two.
const MULTIPLIERS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Spreads the integers of `bits` bits over each other, one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mixer {
    bits: u32,
    inverses: [u64; 2],
}

impl Mixer {
    fn new(bits: u32) -> Self {
        Self { bits, inverses: MULTIPLIERS.map(inverse) }
    }

    pub fn bits(&self) -> u32 {
        self.bits
    }

    #[inline]
    fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    #[inline]
    pub fn mix(&self, value: u64) -> u64 {
        let shift = self.bits.div_ceil(2);
        let once = value.wrapping_mul(MULTIPLIERS[0]) & self.mask();
        let twice = (once ^ (once >> shift)).wrapping_mul(MULTIPLIERS[1]) & self.mask();
        twice ^ (twice >> shift)
    }

    /// A shift by half the bits or more undoes itself.
    pub fn unmix(&self, mixed: u64) -> u64 {
        let shift = self.bits.div_ceil(2);
        let twice = (mixed ^ (mixed >> shift)).wrapping_mul(self.inverses[1]) & self.mask();
        (twice ^ (twice >> shift)).wrapping_mul(self.inverses[0]) & self.mask()
    }
}

/// Newton's iteration doubles the number of right bits.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |guess, _| guess.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(guess))))
}

/// A set of integers below `2^bits`.
///
/// The mixed integer's first bits choose a shard, and only the rest is stored: 32 bits wherever that is enough. Shards
/// grow one by one, so growing neither stalls nor doubles the memory.
#[derive(Debug)]
pub(super) struct PackedSet {
    mixer: Mixer,
    shard_bits: u32,
    len: usize,
    shards: Shards,
}

#[derive(Debug)]
enum Shards {
    Narrow(Vec<Shard<u32>>),
    Wide(Vec<Shard<u64>>),
}

impl PackedSet {
    /// A set for about `entries` integers of `bits` bits, 63 at most.
    pub fn new(bits: u32, entries: usize) -> Self {
        let bits = bits.clamp(2, 63);
        let by_entries = (entries / SHARD_ENTRIES).next_power_of_two().trailing_zeros();
        let narrow_from = bits.saturating_sub(NARROW_BITS);
        // More shards than entries need are worth it as long as each has some hundred.
        let narrow = narrow_from <= by_entries.max(entries.checked_ilog2().unwrap_or(0).saturating_sub(8));
        let shard_bits = (if narrow { by_entries.max(narrow_from) } else { by_entries }).min(bits - 1);
        let shards = if narrow { Shards::Narrow(shards(shard_bits)) } else { Shards::Wide(shards(shard_bits)) };
        Self { mixer: Mixer::new(bits), shard_bits, len: 0, shards }
    }

    /// As [`new`](Self::new), with room for the first `room` of the entries: it does not grow until there are more.
    ///
    /// To fill a set in the order of another one, room for all is needed: a shard that grows meanwhile has its entries
    /// crowded at its front.
    pub fn with_room(bits: u32, entries: usize, room: usize) -> Self {
        let mut set = Self::new(bits, entries);
        let slots = ((room >> set.shard_bits) + usize::from(room > 0)) * 11 / 8;
        match &mut set.shards {
            Shards::Narrow(shards) => shards.iter_mut().for_each(|shard| shard.slots = vec![0; slots]),
            Shards::Wide(shards) => shards.iter_mut().for_each(|shard| shard.slots = vec![0; slots]),
        }
        set
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether another set would take less memory for the same entries, or find them in fewer steps.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        (other.is_narrow() && !self.is_narrow()) || other.shard_bits > self.shard_bits
    }

    pub fn bits(&self) -> u32 {
        self.mixer.bits
    }

    pub fn mixer(&self) -> &Mixer {
        &self.mixer
    }

    pub fn is_narrow(&self) -> bool {
        matches!(self.shards, Shards::Narrow(_))
    }

    pub fn bytes(&self) -> usize {
        match &self.shards {
            Shards::Narrow(shards) => shards.iter().map(Shard::bytes).sum(),
            Shards::Wide(shards) => shards.iter().map(Shard::bytes).sum(),
        }
    }

    /// What [`insert_mixed`](Self::insert_mixed) and its like take; computed apart so that a block of rows can be mixed
    /// and touched before it is inserted.
    #[inline]
    pub fn mix(&self, value: u64) -> u64 {
        self.mixer.mix(value)
    }

    /// Reads the slot where the search will begin, which brings it into the cache.
    #[inline]
    pub fn touch(&self, mixed: u64) -> u64 {
        let (shard, rest) = self.split(mixed);
        match &self.shards {
            Shards::Narrow(shards) => shards[shard].touch(rest, self.rest_bits()),
            Shards::Wide(shards) => shards[shard].touch(rest, self.rest_bits()),
        }
    }

    #[inline]
    pub fn contains_mixed(&self, mixed: u64) -> bool {
        let (shard, rest) = self.split(mixed);
        match &self.shards {
            Shards::Narrow(shards) => shards[shard].contains(rest, self.rest_bits()),
            Shards::Wide(shards) => shards[shard].contains(rest, self.rest_bits()),
        }
    }

    /// Whether the integer is new.
    #[inline]
    pub fn insert_mixed(&mut self, mixed: u64) -> bool {
        let (shard, rest) = self.split(mixed);
        let rest_bits = self.rest_bits();
        let new = match &mut self.shards {
            Shards::Narrow(shards) => shards[shard].insert(rest, rest_bits),
            Shards::Wide(shards) => shards[shard].insert(rest, rest_bits),
        };
        self.len += usize::from(new);
        new
    }

    /// Gives every member to `keep` and drops those that it does not keep.
    pub fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        let (mixer, rest_bits) = (self.mixer, self.rest_bits());
        let mut keep = |shard: usize, rest: u64| keep(mixer.unmix((shard as u64) << rest_bits | rest));
        match &mut self.shards {
            Shards::Narrow(shards) => retain(shards, rest_bits, &mut keep),
            Shards::Wide(shards) => retain(shards, rest_bits, &mut keep),
        }
        self.len = match &self.shards {
            Shards::Narrow(shards) => shards.iter().map(|shard| shard.len).sum(),
            Shards::Wide(shards) => shards.iter().map(|shard| shard.len).sum(),
        };
    }

    pub fn for_each(&self, mut visit: impl FnMut(u64)) {
        let rest_bits = self.rest_bits();
        let mut visit = |shard: usize, rest: u64| visit(self.mixer.unmix((shard as u64) << rest_bits | rest));
        match &self.shards {
            Shards::Narrow(shards) => {
                shards.iter().enumerate().for_each(|(at, shard)| shard.for_each(|rest| visit(at, rest)))
            }
            Shards::Wide(shards) => {
                shards.iter().enumerate().for_each(|(at, shard)| shard.for_each(|rest| visit(at, rest)))
            }
        }
    }

    /// All members as they are mixed, in order.
    pub fn for_each_sorted(&self, mut visit: impl FnMut(u64)) {
        let rest_bits = self.rest_bits();
        let mut visit = |shard: usize, rest: u64| visit((shard as u64) << rest_bits | rest);
        match &self.shards {
            Shards::Narrow(shards) => {
                shards.iter().enumerate().for_each(|(at, shard)| shard.for_each_sorted(|rest| visit(at, rest)))
            }
            Shards::Wide(shards) => {
                shards.iter().enumerate().for_each(|(at, shard)| shard.for_each_sorted(|rest| visit(at, rest)))
            }
        }
    }

    /// Takes the members out, shard by shard, so that another set can be filled while this one shrinks.
    pub fn drain(self, mut visit: impl FnMut(u64)) {
        let (mixer, rest_bits) = (self.mixer, self.rest_bits());
        let mut visit = |shard: usize, rest: u64| visit(mixer.unmix((shard as u64) << rest_bits | rest));
        match self.shards {
            Shards::Narrow(shards) => {
                shards.into_iter().enumerate().for_each(|(at, shard)| shard.for_each(|rest| visit(at, rest)));
            }
            Shards::Wide(shards) => {
                shards.into_iter().enumerate().for_each(|(at, shard)| shard.for_each(|rest| visit(at, rest)));
            }
        }
    }

    #[inline]
    fn rest_bits(&self) -> u32 {
        self.mixer.bits - self.shard_bits
    }

    #[inline]
    fn split(&self, mixed: u64) -> (usize, u64) {
        let rest_bits = self.rest_bits();
        ((mixed >> rest_bits) as usize, mixed & (u64::MAX >> (64 - rest_bits)))
    }
}

/// A part of a set: open addressing with linear probing, in the order of the remainders.
#[derive(Debug)]
struct Shard<S> {
    /// The remainder plus one; 0 is empty.
    slots: Vec<S>,
    len: usize,
}

trait Slot: Copy + Ord + Default {
    fn of(rest: u64) -> Self;
    fn rest(self) -> u64;
}

impl Slot for u32 {
    #[inline]
    fn of(rest: u64) -> Self {
        rest as u32 + 1
    }
    #[inline]
    fn rest(self) -> u64 {
        u64::from(self) - 1
    }
}

impl Slot for u64 {
    #[inline]
    fn of(rest: u64) -> Self {
        rest + 1
    }
    #[inline]
    fn rest(self) -> u64 {
        self - 1
    }
}

fn shards<S>(bits: u32) -> Vec<Shard<S>> {
    (0..1_usize << bits).map(|_| Shard { slots: Vec::new(), len: 0 }).collect()
}

fn retain<S: Slot>(shards: &mut [Shard<S>], rest_bits: u32, keep: &mut impl FnMut(usize, u64) -> bool) {
    for (at, shard) in shards.iter_mut().enumerate() {
        let mut kept = Vec::with_capacity(shard.len);
        shard.for_each(|rest| {
            if keep(at, rest) {
                kept.push(rest);
            }
        });
        if kept.len() < shard.len {
            *shard = Shard { slots: vec![S::default(); kept.len() * 3 / 2], len: 0 };
            for rest in kept {
                shard.insert(rest, rest_bits);
            }
        }
    }
}

impl<S: Slot> Shard<S> {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.slots.capacity() * size_of::<S>()
    }

    #[inline]
    fn position(&self, rest: u64, rest_bits: u32) -> usize {
        let fraction = if rest_bits > 32 { rest >> (rest_bits - 32) } else { rest << (32 - rest_bits) };
        ((fraction * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn touch(&self, rest: u64, rest_bits: u32) -> u64 {
        self.slots.get(self.position(rest, rest_bits)).map_or(0, |slot| u64::from(*slot == S::default()))
    }

    #[inline]
    fn contains(&self, rest: u64, rest_bits: u32) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let slot = S::of(rest);
        let mut position = self.position(rest, rest_bits);
        loop {
            let found = self.slots[position];
            if found == slot || found == S::default() {
                return found == slot;
            }
            position += 1;
            if position == self.slots.len() {
                position = 0;
            }
        }
    }

    #[inline]
    fn insert(&mut self, rest: u64, rest_bits: u32) -> bool {
        if (self.len + 1) * 5 > self.slots.len() * 4 {
            self.grow(rest_bits);
        }
        let slot = S::of(rest);
        let mut position = self.position(rest, rest_bits);
        loop {
            let found = self.slots[position];
            if found == slot {
                return false;
            }
            if found == S::default() {
                self.slots[position] = slot;
                self.len += 1;
                return true;
            }
            position += 1;
            if position == self.slots.len() {
                position = 0;
            }
        }
    }

    #[cold]
    fn grow(&mut self, rest_bits: u32) {
        let size = (self.slots.len() * 3 / 2).max(8);
        let old = std::mem::replace(self, Self { slots: vec![S::default(); size], len: 0 });
        old.for_each(|rest| {
            self.insert(rest, rest_bits);
        });
    }

    fn for_each(&self, mut visit: impl FnMut(u64)) {
        self.slots.iter().filter(|slot| **slot != S::default()).for_each(|slot| visit(slot.rest()));
    }

    /// The slots are in order but for those that had to move on.
    fn for_each_sorted(&self, mut visit: impl FnMut(u64)) {
        let mut slots = self.slots.iter().copied().filter(|slot| *slot != S::default()).collect::<Vec<_>>();
        slots.sort_unstable();
        slots.into_iter().for_each(|slot| visit(slot.rest()));
    }
}
