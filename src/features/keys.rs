use std::hash::Hasher;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int8Type, Int16Type, Int32Type, Int64Type};
use siphasher::sip::SipHasher13;

/// Makes keys of evenly spread numbers: whole numbers one to one, those of up to 32 bits within the upper half; texts
/// as a 64-bit hash. Secret, so that nobody can choose keys that meet.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    hash_key: [u8; 16],
    add: u64,
    multiply: u64,
}

impl Keys {
    pub(crate) fn new(hash_key: [u8; 16]) -> Self {
        let secret = |number: u8| {
            let mut hasher = SipHasher13::new_with_key(&hash_key);
            hasher.write(&[number]);
            hasher.finish()
        };
        Self { hash_key, add: secret(0), multiply: secret(1) | 1 }
    }

    pub(crate) fn can_be(kind: &DataType) -> bool {
        matches!(kind, DataType::Utf8 | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
    }

    /// One for each row; that of a NULL means nothing.
    pub(crate) fn of(&self, column: &ArrayRef) -> Vec<u64> {
        match column.data_type() {
            DataType::Int8 => {
                column.as_primitive::<Int8Type>().values().iter().map(|v| self.narrow((*v).into())).collect()
            }
            DataType::Int16 => {
                column.as_primitive::<Int16Type>().values().iter().map(|v| self.narrow((*v).into())).collect()
            }
            DataType::Int32 => column.as_primitive::<Int32Type>().values().iter().map(|v| self.narrow(*v)).collect(),
            DataType::Int64 => column.as_primitive::<Int64Type>().values().iter().map(|v| self.wide(*v)).collect(),
            _ => column.as_string::<i32>().iter().map(|text| self.hashed(text.unwrap_or_default())).collect(),
        }
    }

    /// Each step can be undone: no two numbers meet. The constants are those of lowbias32.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the lower halves of secrets are secrets")]
    fn narrow(&self, key: i32) -> u64 {
        let mut bits = (key.cast_unsigned() ^ self.add as u32).wrapping_mul(self.multiply as u32);
        bits = (bits ^ (bits >> 16)).wrapping_mul(0x7feb_352d);
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x846c_a68b);
        u64::from(bits ^ (bits >> 16)) << 32
    }

    /// The same; the constants are those of `SplitMix64`.
    #[inline]
    fn wide(&self, key: i64) -> u64 {
        let mut bits = (key.cast_unsigned() ^ self.add).wrapping_mul(self.multiply);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn hashed(&self, text: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ahash::AHashSet;
    use arrow::array::{Int8Array, Int64Array};

    use super::*;

    #[test]
    fn whole_numbers_never_meet() {
        for secret in [[0; 16], [3; 16], [255; 16]] {
            let keys = Keys::new(secret);
            let all = (i32::MIN..=i32::MAX).step_by(655_211).chain(-5_000..5_000).collect::<AHashSet<_>>();
            assert_eq!(all.iter().map(|key| keys.narrow(*key)).collect::<AHashSet<_>>().len(), all.len());
            let strided = all.iter().map(|key| keys.wide(i64::from(*key) << 32)).collect::<AHashSet<_>>();
            assert_eq!(strided.len(), all.len());
        }
    }

    #[test]
    fn numbers_in_sequence_are_spread_evenly() {
        let keys = Keys::new([3; 16]);
        let even = |keys: &[u64]| {
            let mut counts = [0_u32; 64];
            keys.iter().for_each(|key| counts[(key >> 58) as usize] += 1);
            // 1,000 each, give or take 6 standard deviations.
            counts.iter().all(|count| (810..1190).contains(count))
        };
        assert!(even(&(0..64_000).map(|key| keys.narrow(key)).collect::<Vec<_>>()));
        assert!(even(&(0..64_000).map(|key| keys.wide(key)).collect::<Vec<_>>()));
        assert!(even(&(0..64_000).map(|key| keys.wide(key << 40)).collect::<Vec<_>>()));
    }

    #[test]
    fn a_number_is_the_same_key_again() {
        let keys = Keys::new([3; 16]);
        let small: ArrayRef = Arc::new(Int8Array::from(vec![-1, 5, -1]));
        let found = keys.of(&small);
        assert_eq!((found[0], found[1] == found[0]), (found[2], false));
        assert_eq!(
            keys.of(&(Arc::new(Int64Array::from(vec![7, 7])) as ArrayRef)).windows(2).filter(|k| k[0] == k[1]).count(),
            1
        );
    }
}
