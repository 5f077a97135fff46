//! The groups of one pane: composite keys of codes to dense indices.

use super::growth::{extend, grow_to};
use super::tags::{BLOCK, NONE, TagTable, tag_of_codes};

/// Keys of `parts` codes each, in the order in which they were first seen.
#[derive(Debug)]
pub(super) struct Groups {
    parts: usize,
    len: usize,
    /// `parts` codes for each group.
    keys: Vec<u32>,
    index: Index,
}

#[derive(Debug)]
enum Index {
    /// One part: the group of each code, [`NONE`] where there is none.
    Direct(Vec<u32>),
    Hashed(TagTable),
}

impl Groups {
    pub fn new(parts: usize) -> Self {
        Self { parts, len: 0, keys: Vec::new(), index: Index::Hashed(TagTable::default()) }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn key(&self, group: u32) -> &[u32] {
        let from = group as usize * self.parts;
        &self.keys[from..from + self.parts]
    }

    /// Every code in the keys, with the number of its part.
    pub fn codes(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.keys.iter().enumerate().map(|(at, code)| (at % self.parts, *code))
    }

    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Direct(groups) => groups.capacity() * size_of::<u32>(),
            Index::Hashed(table) => table.bytes(),
        };
        index + self.keys.capacity() * size_of::<u32>()
    }

    /// The group with this key, or [`NONE`].
    #[inline]
    pub fn find(&self, key: &[u32]) -> u32 {
        match (&self.index, key) {
            (Index::Direct(groups), [code]) => groups.get(*code as usize).copied().unwrap_or(NONE),
            (Index::Hashed(table), _) => table.find(tag_of_codes(key.iter().copied()), |group| self.key(group) == key),
            (Index::Direct(_), _) => NONE,
        }
    }

    /// The group with this key, and whether it is new.
    pub fn insert(&mut self, key: &[u32]) -> (u32, bool) {
        let group = self.find(key);
        if group != NONE { (group, false) } else { (self.add(key), true) }
    }

    /// Writes the group of each of `rows` to `groups`; `columns` are the parts of the key.
    pub fn assign(&mut self, columns: &[&[u32]], rows: &[u32], groups: &mut Vec<u32>) {
        groups.clear();
        groups.reserve(rows.len());
        match columns {
            [] => {
                if self.len == 0 && !rows.is_empty() {
                    self.add(&[]);
                }
                groups.resize(rows.len(), 0);
            }
            [codes] => self.assign_single(codes, rows, groups),
            _ => self.assign_composite(columns, rows, groups),
        }
    }

    fn assign_single(&mut self, codes: &[u32], rows: &[u32], groups: &mut Vec<u32>) {
        for block in rows.chunks(BLOCK) {
            let from = groups.len();
            groups.extend(block.iter().map(|row| self.find(&codes[*row as usize..][..1])));
            for (at, row) in block.iter().enumerate() {
                if groups[from + at] == NONE {
                    groups[from + at] = self.insert(&codes[*row as usize..][..1]).0;
                }
            }
        }
    }

    fn assign_composite(&mut self, columns: &[&[u32]], rows: &[u32], groups: &mut Vec<u32>) {
        let mut tags = [0_u32; BLOCK];
        let mut key = vec![0_u32; self.parts];
        for block in rows.chunks(BLOCK) {
            let from = groups.len();
            for (tag, row) in tags.iter_mut().zip(block) {
                *tag = tag_of_codes(columns.iter().map(|codes| codes[*row as usize]));
            }
            let Index::Hashed(table) = &self.index else { continue };
            groups.extend(tags.iter().take(block.len()).map(|tag| table.candidate(*tag)));
            for (at, row) in block.iter().enumerate() {
                let group = groups[from + at];
                let same = group != NONE
                    && self.key(group).iter().zip(columns).all(|(part, codes)| *part == codes[*row as usize]);
                if !same {
                    for (part, codes) in key.iter_mut().zip(columns) {
                        *part = codes[*row as usize];
                    }
                    groups[from + at] = self.insert(&key).0;
                }
            }
        }
    }

    fn add(&mut self, key: &[u32]) -> u32 {
        let group = self.len as u32;
        extend(&mut self.keys, key);
        self.len += 1;
        match (&mut self.index, key) {
            (Index::Direct(groups), [code]) => set(groups, *code, group),
            (Index::Hashed(table), _) => table.insert(tag_of_codes(key.iter().copied()), group),
            (Index::Direct(_), _) => {}
        }
        if self.parts == 1 && self.len.is_power_of_two() && matches!(self.index, Index::Hashed(_)) {
            self.index_directly_if_dense();
        }
        group
    }

    /// A direct index costs 4 bytes for each code up to the greatest, a hashed one about 12 for each group.
    fn index_directly_if_dense(&mut self) {
        let greatest = self.keys.iter().copied().max().unwrap_or(0) as usize;
        if greatest < self.len * 3 + 256 {
            let mut groups = vec![NONE; greatest + 1];
            for (group, code) in self.keys.iter().enumerate() {
                set(&mut groups, *code, group as u32);
            }
            self.index = Index::Direct(groups);
        }
    }
}

fn set(groups: &mut Vec<u32>, code: u32, group: u32) {
    let at = code as usize;
    grow_to(groups, at + 1, NONE);
    groups[at] = group;
}
