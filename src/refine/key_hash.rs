use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::rows::lake_type;

/// The keyed hash of a key of one or several columns: NULL equals NULL, and the values stay apart.
///
/// SipHash with a key of 128 bits that the lake keeps to itself: nobody can make two ids meet on purpose. How often two
/// meet by chance is up to how many bits are kept.
#[derive(Debug, Clone)]
pub(super) struct KeyHash {
    key: [u8; 16],
    columns: Vec<(String, DataType)>,
}

/// The first 96 bits of the hash of a key.
pub(super) type KeyId = [u32; 3];

impl KeyHash {
    /// `None` names the first column whose type cannot be part of a key.
    pub(super) fn new(key: [u8; 16], columns: Vec<(String, DataType)>) -> Result<Self, String> {
        match columns.iter().find(|(_, kind)| !is_hashable(kind)) {
            Some((name, kind)) => Err(format!("the column `{name}` is a {kind}, which cannot be part of a key")),
            None => Ok(Self { key, columns }),
        }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The columns of the key in a batch, found by name and of the expected types.
    pub(super) fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, String> {
        let find = |(name, kind): &(String, DataType)| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("the column `{name}` is missing"))?;
            in_type(column, kind).map_err(|problem| format!("the column `{name}` {problem}"))
        };
        self.columns.iter().map(find).collect()
    }

    /// One id for each row, appended to `ids`.
    pub(super) fn ids(&self, columns: &[ArrayRef], rows: usize, ids: &mut Vec<KeyId>) {
        ids.reserve(rows);
        if let [column] = columns
            && let Some(texts) = column.as_string_opt::<i32>()
            && texts.null_count() == 0
        {
            // The common case, in a loop without branches on types.
            ids.extend(texts.iter().map(|text| self.id_of(|hasher| write_text(hasher, text.unwrap_or_default()))));
            return;
        }
        for row in 0..rows {
            ids.push(self.id_of(|hasher| columns.iter().for_each(|column| write_value(hasher, column, row))));
        }
    }

    #[inline]
    fn id_of(&self, write: impl FnOnce(&mut SipHasher13)) -> KeyId {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        write(&mut hasher);
        let hash = hasher.finish128();
        #[allow(clippy::cast_possible_truncation, reason = "the hash is cut to 96 bits")]
        [hash.h1 as u32, (hash.h1 >> 32) as u32, hash.h2 as u32]
    }
}

/// Batches from files may come with texts as views or dictionaries.
pub(super) fn in_type(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == kind {
        return Ok(Arc::clone(column));
    }
    match lake_type(column.data_type()) {
        Some(lake) if lake == *kind => cast(column, kind).map_err(|error| format!("cannot be read: {error}")),
        _ => Err(format!("is a {}, expected {kind}", column.data_type())),
    }
}

fn is_hashable(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8
            | DataType::Binary
            | DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Date32
            | DataType::Decimal128(_, _)
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

#[inline]
fn write_text(hasher: &mut SipHasher13, text: &str) {
    hasher.write(text.as_bytes());
    // Not a byte of UTF-8: it keeps neighbouring texts apart.
    hasher.write_u8(0xff);
}

fn write_value(hasher: &mut SipHasher13, column: &ArrayRef, row: usize) {
    if column.is_null(row) {
        return hasher.write_u8(0xfe);
    }
    hasher.write_u8(0xfd);
    match column.data_type() {
        DataType::Utf8 => write_text(hasher, column.as_string::<i32>().value(row)),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            hasher.write_u64(bytes.len() as u64);
            hasher.write(bytes);
        }
        DataType::Boolean => hasher.write_u8(u8::from(column.as_boolean().value(row))),
        DataType::Int8 => hasher.write_i8(column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => hasher.write_i16(column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => hasher.write_i32(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => hasher.write_i64(column.as_primitive::<Int64Type>().value(row)),
        // Adding zero makes one zero of two.
        DataType::Float32 => hasher.write_u32((column.as_primitive::<Float32Type>().value(row) + 0.0).to_bits()),
        DataType::Float64 => hasher.write_u64((column.as_primitive::<Float64Type>().value(row) + 0.0).to_bits()),
        DataType::Date32 => hasher.write_i32(column.as_primitive::<Date32Type>().value(row)),
        DataType::Decimal128(_, _) => hasher.write_i128(column.as_primitive::<Decimal128Type>().value(row)),
        DataType::Timestamp(_, _) => hasher.write_i64(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        // `new` lets no other type in.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn keys_differ_exactly_when_a_value_differs() {
        let columns =
            vec![("a".to_owned(), DataType::Utf8), ("b".to_owned(), DataType::Utf8), ("c".to_owned(), DataType::Int32)];
        let fields = columns.iter().map(|(name, kind)| Field::new(name, kind.clone(), true)).collect::<Vec<_>>();
        let a = StringArray::from(vec![Some("ab"), Some("a"), None, Some(""), Some("a"), Some("ab")]);
        let b = StringArray::from(vec![Some(""), Some("b"), Some("x"), Some("x"), Some("b"), Some("")]);
        let c = Int32Array::from(vec![Some(1), Some(1), Some(1), Some(1), None, Some(1)]);
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(a), Arc::new(b), Arc::new(c)]).unwrap();
        let hash = KeyHash::new([7; 16], columns).unwrap();
        let mut ids = Vec::new();
        hash.ids(&hash.columns(&batch).unwrap(), batch.num_rows(), &mut ids);
        assert_eq!(ids[0], ids[5]);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5);
    }

    #[test]
    fn the_hash_depends_on_the_key_of_the_lake() {
        let id = |key| KeyHash::new(key, vec![]).unwrap().id_of(|hasher| write_text(hasher, "t-1"));
        assert_ne!(id([0; 16]), id([1; 16]));
    }

    #[test]
    fn a_list_is_no_key() {
        let list = DataType::new_list(DataType::Utf8, true);
        assert!(KeyHash::new([0; 16], vec![("l".to_owned(), list)]).unwrap_err().contains("`l`"));
    }
}
