//! Vectors that grow by a quarter: with a million groups, doubling would hold twice the memory that they need.

/// Below so many bytes a vector doubles: it is copied less often, and what it wastes does not matter.
const DOUBLES_UNTIL_BYTES: usize = 1 << 14;

/// Makes a vector `len` long with copies of `value`. One that is longer already stays as it is.
pub(super) fn grow_to<T: Clone>(values: &mut Vec<T>, len: usize, value: T) {
    if len > values.len() {
        make_room(values, len);
        values.resize(len, value);
    }
}

#[inline]
pub(super) fn push<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        make_room(values, values.len() + 1);
    }
    values.push(value);
}

#[inline]
pub(super) fn extend<T: Copy>(values: &mut Vec<T>, more: &[T]) {
    make_room(values, values.len() + more.len());
    values.extend_from_slice(more);
}

#[inline]
fn make_room<T>(values: &mut Vec<T>, len: usize) {
    if len > values.capacity() {
        let next = next_size(values.capacity(), size_of::<T>()).max(len);
        values.reserve_exact(next - values.len());
    }
}

/// The size after `len` for things of `bytes` each.
pub(super) fn next_size(len: usize, bytes: usize) -> usize {
    let more = if len * bytes < DOUBLES_UNTIL_BYTES { len } else { len / 4 };
    (len + more).max(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_quarter_is_spare_and_copies_stay_few() {
        let (mut pushed, mut resized, mut extended) = (Vec::new(), Vec::new(), Vec::new());
        let mut copies = 0;
        for number in 0..300_000_u64 {
            let before = pushed.capacity();
            push(&mut pushed, number);
            copies += usize::from(pushed.capacity() != before);
            grow_to(&mut resized, pushed.len(), number);
            extend(&mut extended, &[number]);
            let len = pushed.len();
            for values in [&pushed, &resized, &extended] {
                assert_eq!(values.last(), Some(&number));
                let spare = values.capacity() - len;
                assert!(
                    spare <= len.max(4) / 4 || values.capacity() * 8 <= 2 * DOUBLES_UNTIL_BYTES,
                    "{spare} of {len}"
                );
            }
        }
        assert!(copies < 40, "{copies} copies");
        assert_eq!(pushed, resized);
        assert_eq!(pushed, extended);
        grow_to(&mut resized, 7, 0);
        assert_eq!(resized, extended, "it grows only");
        let mut jump = vec![0_u8; 1];
        grow_to(&mut jump, 1_000_000, 1);
        assert_eq!((jump.len(), jump.capacity(), jump[0], jump[999_999]), (1_000_000, 1_000_000, 0, 1));
    }
}
