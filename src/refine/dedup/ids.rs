//! The ids of one span of event time: a set that takes nine to eleven bytes an id.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::refine::key_hash::KeyId;

/// Ids looked up at a time, so that their cache misses overlap.
pub(super) const BLOCK: usize = 64;
/// Ids of a span that is cut into shards. Below, the shards themselves would be what costs.
const SHARDED_FROM: usize = 16 * SHARDS;
const SHARD_BITS: u32 = 12;
const SHARDS: usize = 1 << SHARD_BITS;
/// Slots that are searched together: about a cache line.
const LINE: usize = 8;
/// The load at which a shard grows, as a fraction.
const LOAD_MAX: (usize, usize) = (7, 8);
/// The load of shards that are packed: a twelfth more ids may come late.
const LOAD_PACKED: (usize, usize) = (23, 25);

/// A set of ids.
///
/// - Few are kept whole, in a hash table.
/// - Many are cut into shards by 12 bits, and 64 further bits are kept: [`Growing`]. So 76 bits are compared, and in a
///   span of three million ids two different ones meet with a probability of 10^-10. At 5,000 events a second that is
///   one row in 300,000 years taken for a duplicate.
/// - Those of a span that is full are [`Packed`] into one allocation. When many more come after all, they grow again.
#[derive(Debug)]
pub(super) struct Ids {
    /// How many ids there will be, about: with room for them from the start, shards need not grow.
    expected: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Few(HashTable<KeyId>),
    Growing(Growing),
    Packed(Packed),
}

impl Ids {
    /// An empty set that makes room for `expected` ids as soon as it is clear that there are many.
    pub fn expecting(expected: usize) -> Self {
        Self { expected, state: State::Few(HashTable::new()) }
    }

    /// Takes ids in; `known` is told the position of each that was there already.
    pub fn insert(&mut self, ids: &[KeyId], mut known: impl FnMut(usize)) {
        let mut from = 0;
        while let State::Few(few) = &mut self.state {
            let Some(id) = ids.get(from) else { return };
            match few.entry(spread(id), |other| other == id, spread) {
                Entry::Occupied(_) => known(from),
                Entry::Vacant(room) => {
                    room.insert(*id);
                }
            }
            from += 1;
            if few.len() == SHARDED_FROM {
                self.state = State::Growing(Growing::of(few.iter().map(split), self.expected.max(few.len())));
            }
        }
        let mut parts = [Part::default(); BLOCK];
        for block in ids[from..].chunks(BLOCK) {
            let mut touched = 0;
            for (part, id) in parts.iter_mut().zip(block) {
                *part = split(id);
                touched ^= self.touch(*part);
            }
            std::hint::black_box(touched);
            let parts = &parts[..block.len()];
            if let State::Growing(growing) = &mut self.state {
                parts
                    .iter()
                    .enumerate()
                    .filter(|(_, part)| !growing.insert(**part))
                    .for_each(|(at, _)| known(from + at));
            } else {
                parts
                    .iter()
                    .enumerate()
                    .filter(|(_, part)| !self.insert_late(**part))
                    .for_each(|(at, _)| known(from + at));
            }
            from += block.len();
        }
    }

    /// Takes the room for more ids away when it is much, and says whether it was.
    pub fn pack(&mut self) -> bool {
        let State::Growing(growing) = &mut self.state else { return false };
        self.state = State::Packed(Packed::of(std::mem::take(growing)));
        true
    }

    pub fn len(&self) -> usize {
        match &self.state {
            State::Few(few) => few.len(),
            State::Growing(growing) => growing.len,
            State::Packed(packed) => packed.len,
        }
    }

    pub fn bytes(&self) -> usize {
        match &self.state {
            State::Few(few) => few.allocation_size(),
            State::Growing(growing) => growing.shards.len() * size_of::<Shard>() + growing.lines * size_of::<Line>(),
            State::Packed(packed) => {
                packed.ends.capacity() * size_of::<u32>() + packed.lines.capacity() * size_of::<Line>()
            }
        }
    }

    /// Reads the slots where the search will begin, which brings them into the cache.
    #[inline]
    fn touch(&self, part: Part) -> u64 {
        let lines = match &self.state {
            State::Few(_) => return 0,
            State::Growing(growing) => growing.shards[part.shard].lines.as_slice(),
            State::Packed(packed) => &packed.lines[packed.range(part.shard)],
        };
        // A line need not begin where one of the cache does.
        lines.get(home(lines.len(), part.rest)).map_or(0, |[first, .., last]| first ^ last)
    }

    /// Whether an id is new that comes when the span is packed.
    fn insert_late(&mut self, part: Part) -> bool {
        match &mut self.state {
            State::Few(_) => false,
            State::Growing(growing) => growing.insert(part),
            State::Packed(packed) => match packed.insert(part) {
                Ok(new) => new,
                Err(Full) => {
                    let mut growing = Growing::of(packed.parts(), packed.len);
                    let new = growing.insert(part);
                    self.state = State::Growing(growing);
                    new
                }
            },
        }
    }
}

/// An id as shards keep it.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    shard: usize,
    /// Not 0, which is an empty slot.
    rest: u64,
}

#[inline]
fn split(id: &KeyId) -> Part {
    let [.., last] = id;
    Part { shard: (last >> (u32::BITS - SHARD_BITS)) as usize, rest: spread(id).max(1) }
}

/// The id is a hash already.
#[inline]
fn spread(id: &KeyId) -> u64 {
    let [low, high, _] = *id;
    u64::from(low) | (u64::from(high) << 32)
}

/// Shards that grow one by one, so growing neither stalls nor doubles the memory.
#[derive(Debug, Default)]
struct Growing {
    shards: Vec<Shard>,
    len: usize,
    /// Of all shards.
    lines: usize,
}

#[derive(Debug, Default, Clone)]
struct Shard {
    lines: Vec<Line>,
    len: usize,
}

impl Growing {
    /// With room for `expected` ids.
    fn of(parts: impl Iterator<Item = Part>, expected: usize) -> Self {
        // Shards differ by chance; a little more is enough for nearly all.
        let each = size_class(lines_for(expected / SHARDS + expected / SHARDS / 32 + 1, LOAD_MAX));
        let shard = || Shard { lines: vec![[0; LINE]; each], len: 0 };
        let mut growing = Self { shards: (0..SHARDS).map(|_| shard()).collect(), len: 0, lines: each * SHARDS };
        parts.for_each(|part| {
            growing.insert(part);
        });
        growing
    }

    /// Whether the id is new.
    #[inline]
    fn insert(&mut self, part: Part) -> bool {
        let shard = &mut self.shards[part.shard];
        if shard.len * LOAD_MAX.1 >= shard.lines.len() * LINE * LOAD_MAX.0 {
            self.lines += shard.grow();
        }
        // There is an empty slot now.
        let new = insert(&mut shard.lines, part.rest).unwrap_or(false);
        shard.len += usize::from(new);
        self.len += usize::from(new);
        new
    }
}

impl Shard {
    /// Returns the lines that are added.
    #[cold]
    fn grow(&mut self) -> usize {
        let size = size_class(self.lines.len() + 1);
        let old = std::mem::replace(&mut self.lines, vec![[0; LINE]; size]);
        fill(&mut self.lines, &old);
        size - old.len()
    }
}

/// All shards in one allocation, each as large as it has to be.
#[derive(Debug)]
struct Packed {
    lines: Vec<Line>,
    /// Where the lines of each shard end.
    ends: Vec<u32>,
    len: usize,
}

impl Packed {
    fn of(growing: Growing) -> Self {
        let mut end = 0;
        let sizes = growing.shards.iter().map(|shard| lines_for(shard.len, LOAD_PACKED));
        let ends = sizes.map(|lines| {
            end += lines as u32;
            end
        });
        let ends = ends.collect();
        let mut packed = Self { lines: vec![[0; LINE]; end as usize], ends, len: growing.len };
        // Taken shard by shard, so that one set shrinks while the other is filled.
        for (number, shard) in growing.shards.into_iter().enumerate() {
            let range = packed.range(number);
            fill(&mut packed.lines[range], &shard.lines);
        }
        packed
    }

    /// Whether the id is new, unless its shard is full.
    fn insert(&mut self, part: Part) -> Result<bool, Full> {
        let range = self.range(part.shard);
        let new = insert(&mut self.lines[range], part.rest)?;
        self.len += usize::from(new);
        Ok(new)
    }

    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        (0..SHARDS).flat_map(|shard| present(&self.lines[self.range(shard)]).map(move |rest| Part { shard, rest }))
    }

    #[inline]
    fn range(&self, shard: usize) -> std::ops::Range<usize> {
        let from = if shard == 0 { 0 } else { self.ends[shard - 1] };
        from as usize..self.ends[shard] as usize
    }
}

/// Some ids of a shard, from the first slot on; 0 is empty.
type Line = [u64; LINE];

#[derive(Debug)]
struct Full;

/// Whether an id is new among the lines of a shard: open addressing by lines, in the order of the ids.
///
/// A line is looked at whole, without branches that depend on where an id lies.
#[inline]
fn insert(lines: &mut [Line], rest: u64) -> Result<bool, Full> {
    let mut at = home(lines.len(), rest);
    for _ in 0..lines.len() {
        let line = &mut lines[at];
        if line.iter().fold(false, |known, slot| known | (*slot == rest)) {
            return Ok(false);
        }
        let used: usize = line.iter().map(|slot| usize::from(*slot != 0)).sum();
        if let Some(slot) = line.get_mut(used) {
            *slot = rest;
            return Ok(true);
        }
        at += 1;
        if at == lines.len() {
            at = 0;
        }
    }
    Err(Full)
}

/// Puts the ids of `from` where [`insert`] would, into empty lines with room for all.
fn fill(lines: &mut [Line], from: &[Line]) {
    let mut used = vec![0_u8; lines.len()];
    for rest in from.iter().flat_map(|line| line.iter().copied().take_while(|rest| *rest != 0)) {
        let mut at = home(lines.len(), rest);
        while usize::from(used[at]) == LINE {
            at = if at + 1 == lines.len() { 0 } else { at + 1 };
        }
        lines[at][usize::from(used[at])] = rest;
        used[at] += 1;
    }
}

#[inline]
fn home(lines: usize, rest: u64) -> usize {
    (((rest >> 32) * lines as u64) >> 32) as usize
}

fn present(lines: &[Line]) -> impl Iterator<Item = u64> + '_ {
    lines.iter().flatten().copied().filter(|rest| *rest != 0)
}

fn lines_for(ids: usize, (part, whole): (usize, usize)) -> usize {
    (ids * whole).div_ceil(LINE * part)
}

/// The least number of lines from `lines` on that fills what allocators give: four sizes from one power of two to the
/// next, less something for their own use.
fn size_class(lines: usize) -> usize {
    let size = lines + 1;
    size.next_multiple_of(1 << size.ilog2().saturating_sub(2)) - 1
}

#[cfg(test)]
mod tests;
