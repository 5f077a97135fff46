//! Texts by code: eight bytes each beside the text itself.

use super::growth::{next_size, push};

/// Texts lie in chunks of this size, so that nothing is copied when there are more.
const CHUNK_BITS: u32 = 20;
const CHUNK_BYTES: usize = 1 << CHUNK_BITS;
const LEN_BITS: u32 = 24;
/// Lengths that do not fit stand before the text.
const LONG: usize = (1 << LEN_BITS) - 1;
const LONG_BYTES: usize = size_of::<u64>();

/// Texts by code. Code 0 has the empty text.
#[derive(Debug)]
pub(super) struct Texts {
    spans: Vec<Span>,
    chunks: Vec<Vec<u8>>,
}

/// Where a text is: 20 bits of a chunk's number, 20 of the place in it, 24 of the length.
///
/// A terabyte of text is more than any memory; a number that did not fit would be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(u64);

impl Texts {
    pub fn new() -> Self {
        Self { spans: vec![Span(0)], chunks: vec![Vec::new()] }
    }

    /// Codes that have been given out.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| size_of::<Vec<u8>>() + chunk.capacity()).sum();
        chunks + self.spans.capacity() * size_of::<Span>()
    }

    #[inline]
    pub fn get(&self, code: u32) -> &[u8] {
        let (chunk, start, len) = self.spans[code as usize].parts();
        let text = &self.chunks[chunk][start..];
        if len < LONG { &text[..len] } else { long(text) }
    }

    /// The new code of a text.
    pub fn push(&mut self, text: &[u8]) -> u32 {
        let span = self.write(text);
        push(&mut self.spans, span);
        (self.spans.len() - 1) as u32
    }

    /// Gives a code another text. What it had before stays in memory until the next [`compact`](Self::compact).
    pub fn set(&mut self, code: u32, text: &[u8]) {
        self.spans[code as usize] = self.write(text);
    }

    /// Keeps the texts of `kept`, which are in order, and frees the memory of all others. There are no codes after the
    /// last of them any more; those between have the empty text.
    pub fn compact(&mut self, kept: &[u32]) {
        let last = kept.last().copied().unwrap_or(0) as usize;
        let mut compact = Self { spans: vec![Span(0); last + 1], chunks: vec![Vec::new()] };
        for code in kept {
            compact.set(*code, self.get(*code));
        }
        *self = compact;
    }

    fn write(&mut self, text: &[u8]) -> Span {
        let prefix = (text.len() as u64).to_le_bytes();
        let prefix = if text.len() < LONG { &[][..] } else { &prefix[..] };
        let size = prefix.len() + text.len();
        let chunk = self.chunk_with_room(size);
        let into = &mut self.chunks[chunk];
        if into.capacity() - into.len() < size {
            let next = next_size(into.capacity(), 1).min(CHUNK_BYTES).max(into.len() + size);
            into.reserve_exact(next - into.len());
        }
        let start = into.len();
        into.extend_from_slice(prefix);
        into.extend_from_slice(text);
        Span::new(chunk, start, text.len())
    }

    /// The last chunk, or a new one when the text does not fit in its rest. One that is longer than a chunk has a chunk
    /// of its own.
    fn chunk_with_room(&mut self, size: usize) -> usize {
        let used = self.chunks.last().map_or(CHUNK_BYTES, Vec::len);
        if used > 0 && used + size > CHUNK_BYTES {
            // The first one grew in steps; the next are likely to be filled.
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES.max(size)));
        }
        self.chunks.len() - 1
    }
}

impl Span {
    fn new(chunk: usize, start: usize, len: usize) -> Self {
        let place = (chunk << CHUNK_BITS | start) as u64;
        Self(place << LEN_BITS | len.min(LONG) as u64)
    }

    #[inline]
    fn parts(self) -> (usize, usize, usize) {
        let place = (self.0 >> LEN_BITS) as usize;
        (place >> CHUNK_BITS, place & (CHUNK_BYTES - 1), self.0 as usize & LONG)
    }
}

#[cold]
fn long(text: &[u8]) -> &[u8] {
    let Some((len, text)) = text.split_first_chunk::<LONG_BYTES>() else { return &[] };
    &text[..u64::from_le_bytes(*len) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_kept_and_compacted() {
        let lengths =
            [0, 1, 15, CHUNK_BYTES - 20, 30, CHUNK_BYTES, 3, 0, 3 * CHUNK_BYTES, LONG - 1, LONG, 7, LONG + 5, 1];
        let text = |at: usize| vec![b'a' + at as u8; lengths[at]];
        let mut texts = Texts::new();
        for at in 0..lengths.len() {
            assert_eq!(texts.push(&text(at)), at as u32 + 1);
        }
        let all = texts.bytes();
        assert!(all < lengths.iter().sum::<usize>() + 6 * CHUNK_BYTES, "{all} bytes");
        assert!((0..lengths.len()).all(|at| texts.get(at as u32 + 1) == text(at)));
        assert_eq!(texts.get(0), b"");
        let kept = (0..lengths.len() as u32).filter(|at| at % 2 == 0).map(|at| at + 1).collect::<Vec<_>>();
        texts.compact(&kept);
        assert_eq!(texts.len(), lengths.len());
        for at in 0..texts.len() - 1 {
            let expected = if at % 2 == 0 { text(at) } else { Vec::new() };
            assert_eq!(texts.get(at as u32 + 1), expected);
        }
        assert!(texts.bytes() < all);
        texts.set(2, b"again");
        assert_eq!((texts.get(2), texts.get(3)), (&b"again"[..], text(2).as_slice()));
        texts.compact(&[]);
        assert_eq!((texts.len(), texts.bytes()), (1, size_of::<Vec<u8>>() + size_of::<Span>()));
    }
}
