//! A list of words for each entity, and the memory that all of them take.

use std::ops::BitXor;

/// Lists by the dense numbers of entities. In each stand records of the same length, in the order of time.
#[derive(Debug)]
pub(super) struct Words<T> {
    entities: Vec<Vec<T>>,
    bytes: usize,
}

impl<T: Copy + Default + BitXor<Output = T>> Words<T> {
    pub(super) fn new() -> Self {
        Self { entities: Vec::new(), bytes: 0 }
    }

    #[inline]
    pub(super) fn get(&self, entity: u32) -> &[T] {
        self.entities.get(entity as usize).map_or(&[], Vec::as_slice)
    }

    /// Changes the list of an entity; of an entity that is not known, nothing.
    #[inline]
    pub(super) fn change(&mut self, entity: u32, change: impl FnOnce(&mut Vec<T>)) {
        let Some(words) = self.entities.get_mut(entity as usize) else { return };
        let before = words.capacity();
        change(words);
        self.bytes = self.bytes + words.capacity() * size_of::<T>() - before * size_of::<T>();
    }

    /// Something of both ends of a list, so that they are fetched from memory.
    #[inline]
    pub(super) fn touch(&self, entity: u32) -> T {
        let words = self.get(entity);
        words.first().copied().unwrap_or_default() ^ words.last().copied().unwrap_or_default()
    }

    pub(super) fn grow(&mut self, entities: usize) {
        if entities > self.entities.len() {
            self.entities.resize_with(entities, Vec::new);
        }
    }

    /// Drops the oldest words of each list, as many as `gone` says.
    pub(super) fn trim(&mut self, gone: impl Fn(&[T]) -> usize) {
        for words in &mut self.entities {
            let gone = gone(words);
            if gone > 0 {
                let before = words.capacity();
                words.drain(..gone);
                words.shrink_to(2 * words.len());
                self.bytes -= (before - words.capacity()) * size_of::<T>();
            }
        }
    }

    /// Puts a list in the place of that of an entity.
    pub(super) fn put(&mut self, entity: u32, list: Vec<T>) {
        self.change(entity, |words| *words = list);
    }

    pub(super) fn is_empty(&self, entity: u32) -> bool {
        self.get(entity).is_empty()
    }

    pub(super) fn clear(&mut self) {
        (self.entities, self.bytes) = (Vec::new(), 0);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.entities.capacity() * size_of::<Vec<T>>()
    }
}

/// Makes room for a record of `stride` words; what stands there is to be overwritten.
#[inline]
pub(super) fn open_at<T: Copy + Default>(words: &mut Vec<T>, place: usize, stride: usize) {
    let end = words.len();
    words.resize(end + stride, T::default());
    words.copy_within(place..end, place + stride);
}

/// Whether each is before the next one.
pub(super) fn is_ascending<T: Copy>(mut all: impl Iterator<Item = T>, before: impl Fn(T, T) -> bool) -> bool {
    let Some(mut last) = all.next() else { return true };
    all.all(|next| before(std::mem::replace(&mut last, next), next))
}
