//! What is known of an entity as bytes, for a memory that is shared.
//!
//! A byte tells the format. Then each table has the number of its words, and the words: each as the difference to the same
//! word of the record before, small for times in order. Both are whole numbers of seven bits a byte, the lowest first.

use super::plan::Table;

const FORMAT: u8 = 1;

/// Appends the state of an entity.
pub(super) fn write<'a>(tables: impl Iterator<Item = &'a dyn Table>, entity: u32, out: &mut Vec<u8>) {
    out.push(FORMAT);
    let mut words = Vec::new();
    for table in tables {
        words.clear();
        table.state(entity, &mut words);
        put(words.len() as u64, out);
        let stride = table.stride();
        for (at, word) in words.iter().enumerate() {
            let before = at.checked_sub(stride).and_then(|before| words.get(before)).copied().unwrap_or(0);
            let step = word.wrapping_sub(before).cast_signed();
            // Small steps in both directions become small numbers.
            put(((step << 1) ^ (step >> 63)).cast_unsigned(), out);
        }
    }
}

/// Has tables know of an entity what the bytes say.
///
/// # Errors
/// In words, when they are no state of these tables. Some of the tables may know it then.
pub(super) fn read<'a>(
    tables: impl Iterator<Item = &'a mut (dyn Table + 'static)>,
    entity: u32,
    state: &[u8],
) -> Result<(), String> {
    let Some((format, mut rest)) = state.split_first() else { return Err("the state is empty".to_owned()) };
    if *format != FORMAT {
        return Err(format!("the state is of format {format}, and {FORMAT} is known"));
    }
    let ends = || "the state ends early".to_owned();
    let mut words: Vec<u64> = Vec::new();
    for table in tables {
        let count = take(&mut rest).and_then(|count| usize::try_from(count).ok()).ok_or_else(ends)?;
        // Each word has a byte at least: what claims more is not even made room for.
        if count > rest.len() {
            return Err(ends());
        }
        words.clear();
        words.reserve(count);
        let stride = table.stride();
        for at in 0..count {
            let coded = take(&mut rest).ok_or_else(ends)?;
            let step = (coded >> 1) ^ (coded & 1).wrapping_neg();
            let before = at.checked_sub(stride).and_then(|before| words.get(before)).copied().unwrap_or(0);
            words.push(before.wrapping_add(step));
        }
        if !table.restore(entity, &words) {
            return Err("the state holds what cannot be: records that are cut, too many, or out of order".to_owned());
        }
    }
    if rest.is_empty() { Ok(()) } else { Err("the state goes on behind its end".to_owned()) }
}

fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && low > 1 {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
