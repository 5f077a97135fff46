/// Instants in ascending order, repeats included, that tell how many of them are not after an instant.
///
/// Most keys have a few: those stand in the value itself. The rare heavy one costs O(log n) at any order of arrival.
#[derive(Debug, Clone)]
pub(super) enum Times<T> {
    Few { len: u8, at: [T; FEW] },
    Many(Vec<T>),
    Heavy(Box<Chunks<T>>),
}

const FEW: usize = 3;
/// Beyond it, moving the tail of a vector for a late row costs more than the tree.
const CHUNK: usize = 1024;

impl<T: Copy + Ord + Default> Default for Times<T> {
    fn default() -> Self {
        Self::Few { len: 0, at: [T::default(); FEW] }
    }
}

impl<T: Copy + Ord + Default> Times<T> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few { len: 0, .. })
    }

    /// How many are at or before `at`.
    #[inline]
    pub(super) fn rank(&self, at: T) -> usize {
        match self {
            Self::Few { len, at: times } => times.iter().take(usize::from(*len)).filter(|time| **time <= at).count(),
            Self::Many(times) => rank_in(times, at),
            Self::Heavy(chunks) => chunks.rank(at),
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, time: T) {
        match self {
            Self::Few { len, at } => {
                let count = usize::from(*len);
                let place = at.iter().take(count).filter(|known| **known <= time).count();
                if count < FEW {
                    at.copy_within(place..count, place + 1);
                    if let Some(slot) = at.get_mut(place) {
                        *slot = time;
                    }
                    *len += 1;
                } else {
                    let mut times = Vec::with_capacity(2 * FEW);
                    times.extend_from_slice(at);
                    times.insert(place, time);
                    *self = Self::Many(times);
                }
            }
            Self::Many(times) if times.len() < CHUNK => insert_in(times, time),
            Self::Many(times) => {
                let mut chunks = Chunks { chunks: vec![std::mem::take(times)], sums: vec![] };
                chunks.index();
                chunks.insert(time);
                *self = Self::Heavy(Box::new(chunks));
            }
            Self::Heavy(chunks) => chunks.insert(time),
        }
    }

    /// All of them, in ascending order.
    #[inline]
    pub(super) fn append_to(&self, all: &mut Vec<T>) {
        match self {
            Self::Few { len, at } => all.extend(at.iter().take(usize::from(*len))),
            Self::Many(times) => all.extend_from_slice(times),
            Self::Heavy(chunks) => chunks.chunks.iter().for_each(|chunk| all.extend_from_slice(chunk)),
        }
    }

    /// Memory beside the value itself, about; constant time.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        // What an allocator adds to a piece of memory.
        const PIECE: usize = 16;
        match self {
            Self::Few { .. } => 0,
            Self::Many(times) => times.capacity() * size_of::<T>() + PIECE,
            Self::Heavy(chunks) => chunks.chunks.len() * (CHUNK * size_of::<T>() + PIECE + size_of::<Vec<T>>() + 4),
        }
    }
}

/// A sorted sequence in pieces, with a Fenwick tree over their lengths.
#[derive(Debug, Clone)]
pub(super) struct Chunks<T> {
    /// None is empty.
    chunks: Vec<Vec<T>>,
    sums: Vec<u32>,
}

impl<T: Copy + Ord> Chunks<T> {
    /// The last chunk that begins at or before `at`; the first one if none does.
    fn find(&self, at: T) -> usize {
        self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| *first <= at)).saturating_sub(1)
    }

    fn rank(&self, at: T) -> usize {
        let index = self.find(at);
        let mut before = 0;
        let mut node = index;
        while node > 0 {
            before += self.sums.get(node - 1).copied().unwrap_or(0) as usize;
            node &= node - 1;
        }
        before + self.chunks.get(index).map_or(0, |chunk| rank_in(chunk, at))
    }

    fn insert(&mut self, time: T) {
        let index = self.find(time);
        let is_last = index + 1 == self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(index) else { return };
        if chunk.len() < CHUNK {
            insert_in(chunk, time);
            let mut node = index + 1;
            while let Some(sum) = self.sums.get_mut(node - 1) {
                *sum += 1;
                node += node & node.wrapping_neg();
            }
            return;
        }
        if is_last && chunk.last().is_some_and(|last| *last <= time) {
            // Arrivals in order leave full chunks behind.
            let mut fresh = Vec::with_capacity(CHUNK);
            fresh.push(time);
            self.chunks.push(fresh);
        } else {
            let mut upper = Vec::with_capacity(CHUNK);
            upper.extend(chunk.drain(CHUNK / 2..));
            let lower_is_right = upper.first().is_some_and(|first| time < *first);
            insert_in(if lower_is_right { chunk } else { &mut upper }, time);
            self.chunks.insert(index + 1, upper);
        }
        self.index();
    }

    /// Once every half a chunk of insertions, at the cost of one pass over the chunks.
    fn index(&mut self) {
        self.sums.clear();
        self.sums.extend(self.chunks.iter().map(|chunk| u32::try_from(chunk.len()).unwrap_or(u32::MAX)));
        for node in 1..=self.sums.len() {
            let parent = node + (node & node.wrapping_neg());
            let sum = self.sums.get(node - 1).copied().unwrap_or(0);
            if let Some(above) = self.sums.get_mut(parent - 1) {
                *above += sum;
            }
        }
    }
}

/// How many of them, in ascending order, are at or before `at`.
#[inline]
pub(super) fn rank_in<T: Copy + Ord>(times: &[T], at: T) -> usize {
    match times.last() {
        Some(last) if *last <= at => times.len(),
        _ => times.partition_point(|time| *time <= at),
    }
}

#[inline]
fn insert_in<T: Copy + Ord>(times: &mut Vec<T>, time: T) {
    match times.last() {
        Some(last) if *last > time => times.insert(rank_in(times, time), time),
        _ => times.push(time),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_times_take_no_memory_of_their_own() {
        assert_eq!(size_of::<Times<u32>>(), 24);
    }

    fn appended(times: &Times<u32>) -> Vec<u32> {
        let mut all = Vec::new();
        times.append_to(&mut all);
        all
    }

    proptest! {
        #[test]
        fn ranks_equal_a_plain_count(times in prop::collection::vec(0_u32..50, 0..12)) {
            let mut sorted = Times::default();
            for (index, time) in times.iter().enumerate() {
                sorted.insert(*time);
                for at in 0..50 {
                    let count = times[..=index].iter().filter(|time| **time <= at).count();
                    prop_assert_eq!(sorted.rank(at), count);
                }
            }
            prop_assert_eq!(appended(&sorted), { let mut times = times; times.sort_unstable(); times });
        }

        #[test]
        fn heavy_keys_count_right_in_any_order(seed in any::<u64>(), size in 1_000_usize..9_000, spread in prop::sample::select(vec![3_u64, 1_000, 1 << 31])) {
            let mut sorted = Times::default();
            let mut all = Vec::new();
            let mut state = seed | 1;
            for index in 0..size {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // A third in order, the rest anywhere.
                let time = if index % 3 == 0 { u32::MAX / 2 + index as u32 } else { ((state >> 33) % spread) as u32 };
                sorted.insert(time);
                all.push(time);
            }
            for at in all.iter().step_by(97).chain(&[0, u32::MAX]) {
                prop_assert_eq!(sorted.rank(*at), all.iter().filter(|time| *time <= at).count());
            }
            all.sort_unstable();
            prop_assert_eq!(appended(&sorted), all);
        }
    }
}
