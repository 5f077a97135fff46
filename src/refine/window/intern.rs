//! Values to dense codes, shared by all tables of an engine. Code 0 is NULL.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringBuilder};
use arrow::datatypes::DataType;

use super::growth::push;
use super::numbers::{self, Numbers};
use super::tags::{BLOCK, NONE, TagTable, tag_of_bytes, tag_of_integer};
use super::texts::Texts;

/// The codes of the values of one expression.
#[derive(Debug)]
pub(super) struct Interner {
    values: Values,
    table: TagTable,
    /// Codes that no window uses any more, to be given out again.
    free: Vec<u32>,
    kind: DataType,
}

#[derive(Debug)]
enum Values {
    /// By code; the entry of NULL is not looked at.
    Integers(Vec<i128>),
    Small(Vec<i64>),
    Text(Texts),
}

impl Interner {
    /// An interner for values of `kind`, or `None` when values of that type are no keys.
    pub fn new(kind: &DataType) -> Option<Self> {
        let values = match kind {
            DataType::Utf8 => Values::Text(Texts::new()),
            DataType::Boolean => Values::Small(vec![0]),
            kind if numbers::fits_i64(kind) => Values::Small(vec![0]),
            kind if numbers::fits_i128(kind) => Values::Integers(vec![0]),
            _ => return None,
        };
        Some(Self { values, table: TagTable::default(), free: Vec::new(), kind: kind.clone() })
    }

    /// All codes are below this.
    pub fn domain(&self) -> usize {
        match &self.values {
            Values::Integers(values) => values.len(),
            Values::Small(values) => values.len(),
            Values::Text(texts) => texts.len(),
        }
    }

    /// Codes that stand for a value.
    pub fn used(&self) -> usize {
        self.domain() - self.free.len()
    }

    pub fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Integers(values) => values.capacity() * size_of::<i128>(),
            Values::Small(values) => values.capacity() * size_of::<i64>(),
            Values::Text(texts) => texts.bytes(),
        };
        values + self.table.bytes() + self.free.capacity() * size_of::<u32>()
    }

    /// The codes of all values of `array`, which is of this interner's type.
    pub fn encode(&mut self, array: &ArrayRef) -> Vec<u32> {
        let mut codes = vec![0; array.len()];
        match self.kind {
            DataType::Utf8 => self.encode_text(array, &mut codes),
            DataType::Boolean => {
                let flags = array.as_boolean();
                let values = (0..flags.len()).map(|row| i64::from(flags.value(row))).collect::<Vec<_>>();
                self.encode_small(&values, array, &mut codes);
            }
            _ => match numbers::numbers(array) {
                Some(Numbers::Narrow(values)) => self.encode_small(&values, array, &mut codes),
                Some(Numbers::Wide(values)) => self.encode_wide(&values, array, &mut codes),
                None => {}
            },
        }
        codes
    }

    fn encode_small(&mut self, values: &[i64], array: &ArrayRef, codes: &mut [u32]) {
        let Values::Small(known) = &mut self.values else { return };
        let mut tags = [0_u32; BLOCK];
        for from in (0..values.len()).step_by(BLOCK) {
            let block = &values[from..values.len().min(from + BLOCK)];
            let codes = &mut codes[from..from + block.len()];
            for ((tag, value), code) in tags.iter_mut().zip(block).zip(codes.iter_mut()) {
                *tag = tag_of_integer(*value);
                *code = self.table.candidate(*tag);
            }
            for (at, (value, code)) in block.iter().zip(codes).enumerate() {
                if *code != NONE && known[*code as usize] == *value {
                    if array.is_null(from + at) {
                        *code = 0;
                    }
                    continue;
                }
                *code = if array.is_null(from + at) {
                    0
                } else {
                    intern(known, &mut self.table, &mut self.free, tags[at], *value)
                };
            }
        }
    }

    fn encode_wide(&mut self, values: &[i128], array: &ArrayRef, codes: &mut [u32]) {
        let Values::Integers(known) = &mut self.values else { return };
        for (row, (value, code)) in values.iter().zip(codes).enumerate() {
            if array.is_valid(row) {
                let tag = tag_of_integer((*value as i64) ^ ((*value >> 64) as i64).rotate_left(17));
                *code = intern(known, &mut self.table, &mut self.free, tag, *value);
            }
        }
    }

    fn encode_text(&mut self, array: &ArrayRef, codes: &mut [u32]) {
        let strings = array.as_string::<i32>();
        let data = strings.value_data();
        let offsets = strings.value_offsets();
        let text = |row: usize| &data[offsets[row] as usize..offsets[row + 1] as usize];
        let Values::Text(texts) = &mut self.values else { return };
        let mut tags = [0_u32; BLOCK];
        for from in (0..strings.len()).step_by(BLOCK) {
            let until = strings.len().min(from + BLOCK);
            for row in from..until {
                tags[row - from] = tag_of_bytes(text(row));
                codes[row] = self.table.candidate(tags[row - from]);
            }
            for row in from..until {
                let value = text(row);
                if codes[row] != NONE && texts.get(codes[row]) == value && strings.is_valid(row) {
                    continue;
                }
                if strings.is_null(row) {
                    codes[row] = 0;
                    continue;
                }
                let tag = tags[row - from];
                let mut code = self.table.find(tag, |code| texts.get(code) == value);
                if code == NONE {
                    code = match self.free.pop() {
                        Some(code) => {
                            texts.set(code, value);
                            code
                        }
                        None => texts.push(value),
                    };
                    self.table.insert(tag, code);
                }
                codes[row] = code;
            }
        }
    }

    /// Orders values; NULL comes first.
    pub fn compare(&self, left: u32, right: u32) -> Ordering {
        if left == right || left == 0 || right == 0 {
            return left.cmp(&right);
        }
        match &self.values {
            Values::Integers(values) => values[left as usize].cmp(&values[right as usize]),
            Values::Small(values) => values[left as usize].cmp(&values[right as usize]),
            Values::Text(texts) => texts.get(left).cmp(texts.get(right)),
        }
    }

    /// A number that orders as [`compare`](Self::compare) does wherever it differs.
    pub fn prefix(&self, code: u32) -> u64 {
        if code == 0 {
            return 0;
        }
        match &self.values {
            Values::Integers(values) => ((values[code as usize] >> 64) as i64 as u64) ^ (1 << 63),
            Values::Small(values) => (values[code as usize] as u64) ^ (1 << 63),
            Values::Text(texts) => {
                let text = texts.get(code);
                let mut prefix = [0; 8];
                let len = text.len().min(8);
                prefix[..len].copy_from_slice(&text[..len]);
                u64::from_be_bytes(prefix)
            }
        }
    }

    pub fn decode(&self, codes: &[u32]) -> ArrayRef {
        match &self.values {
            Values::Text(texts) => {
                let size = codes.iter().map(|code| texts.get(*code).len()).sum();
                let mut strings = StringBuilder::with_capacity(codes.len(), size);
                for code in codes {
                    // The bytes came out of a string array, so they are UTF-8.
                    let text = (*code != 0).then(|| std::str::from_utf8(texts.get(*code)).unwrap_or_default());
                    strings.append_option(text);
                }
                std::sync::Arc::new(strings.finish())
            }
            Values::Small(values) if self.kind == DataType::Boolean => {
                let flags = codes.iter().map(|code| (*code != 0).then(|| values[*code as usize] != 0));
                std::sync::Arc::new(flags.collect::<BooleanArray>())
            }
            Values::Small(values) => {
                let values = codes.iter().map(|code| (*code != 0).then(|| i128::from(values[*code as usize])));
                numbers::array(&self.kind, values)
            }
            Values::Integers(values) => {
                let values = codes.iter().map(|code| (*code != 0).then(|| values[*code as usize]));
                numbers::array(&self.kind, values)
            }
        }
    }

    /// Frees every code that `live` does not have, and the memory of its value; the others keep theirs. Returns how many
    /// are left.
    pub fn sweep(&mut self, live: &Marks) -> usize {
        let domain = self.domain();
        self.free.clear();
        let kept = (1..domain as u32).filter(|code| live.has(*code)).collect::<Vec<_>>();
        let greatest = kept.last().copied().unwrap_or(0) as usize;
        // The least is given out first: so the greatest go out of use some day, and the domain shrinks.
        self.free.extend((1..=greatest as u32).rev().filter(|code| !live.has(*code)));
        self.table = TagTable::with_capacity(kept.len());
        match &mut self.values {
            Values::Integers(values) => {
                values.truncate(greatest + 1);
                values.shrink_to_fit();
                for code in &kept {
                    let value = values[*code as usize];
                    self.table.insert(tag_of_integer((value as i64) ^ ((value >> 64) as i64).rotate_left(17)), *code);
                }
            }
            Values::Small(values) => {
                values.truncate(greatest + 1);
                values.shrink_to_fit();
                for code in &kept {
                    self.table.insert(tag_of_integer(values[*code as usize]), *code);
                }
            }
            Values::Text(texts) => {
                texts.compact(&kept);
                for code in &kept {
                    self.table.insert(tag_of_bytes(texts.get(*code)), *code);
                }
            }
        }
        kept.len()
    }
}

fn intern<T: Copy + PartialEq>(
    values: &mut Vec<T>,
    table: &mut TagTable,
    free: &mut Vec<u32>,
    tag: u32,
    value: T,
) -> u32 {
    let code = table.find(tag, |code| values[code as usize] == value);
    if code != NONE {
        return code;
    }
    let code = store(values, free, value);
    table.insert(tag, code);
    code
}

fn store<T>(values: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(code) => {
            values[code as usize] = value;
            code
        }
        None => {
            push(values, value);
            (values.len() - 1) as u32
        }
    }
}

/// The codes of one interner that are in use.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
}

impl Marks {
    #[inline]
    pub fn set(&mut self, code: u32) {
        let word = code as usize / 64;
        if word >= self.words.len() {
            self.words.resize((word + 1).next_power_of_two(), 0);
        }
        self.words[word] |= 1 << (code % 64);
    }

    pub fn has(&self, code: u32) -> bool {
        self.words.get(code as usize / 64).is_some_and(|word| word >> (code % 64) & 1 == 1)
    }
}
