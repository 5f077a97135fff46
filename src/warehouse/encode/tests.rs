use std::sync::Arc;

use arrow::array::{ListBuilder, StringBuilder, StringViewArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use postgres_types::{FromSql, Type};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;

/// The fields of each row, by PostgreSQL's description of the format.
fn rows(bytes: &[u8], fields: usize) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        (taken.to_vec(), left.is_empty())
    };
    let mut rows = Vec::new();
    loop {
        let (count, mut is_end) = take(2);
        assert_eq!(usize::from(u16::from_be_bytes(count.try_into().unwrap())), fields);
        let mut row = Vec::new();
        for _ in 0..fields {
            let (length, end) = take(4);
            is_end = end;
            let length = i32::from_be_bytes(length.try_into().unwrap());
            row.push((length >= 0).then(|| {
                let (value, end) = take(usize::try_from(length).unwrap());
                is_end = end;
                value
            }));
        }
        rows.push(row);
        if is_end {
            return rows;
        }
    }
}

fn encoded(column: ArrayRef) -> (Vec<Option<Vec<u8>>>, u64) {
    let kind = Kind::of(column.data_type()).unwrap();
    let schema = Schema::new(vec![Field::new("c", column.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
    let encoded = Encoder::new(vec![kind], &[]).encode(&batch).unwrap();
    assert_eq!(encoded.rows, batch.num_rows() as u64);
    (rows(&encoded.bytes, 1).into_iter().map(|mut row| row.remove(0)).collect(), encoded.adjusted)
}

/// As the client that others wrote reads it.
fn read<T: for<'a> FromSql<'a>>(value: &[u8], kind: &Type) -> T {
    assert!(T::accepts(kind));
    T::from_sql(kind, value).unwrap()
}

fn numeric(value: i128, precision: u8, scale: i8) -> Decimal {
    let array = Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap();
    let (found, _) = encoded(Arc::new(array));
    read(found[0].as_ref().unwrap(), &Type::NUMERIC)
}

/// The value of the wire's groups, in units of the last digit after the point: nothing of the encoder is in it.
fn by_the_book(bytes: &[u8]) -> (i128, u16) {
    let word = |at: usize| i16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
    let (count, weight, sign, scale) = (word(0), word(1), word(2) as u16, word(3) as u16);
    assert_eq!(bytes.len(), 8 + 2 * usize::try_from(count).unwrap());
    let mut value: i128 = 0;
    for index in 0..count {
        let group = word(4 + usize::try_from(index).unwrap());
        assert!((0..10_000).contains(&group));
        assert!(group != 0 || (index > 0 && index < count - 1), "a group of 0 at an end");
        // Of 10^(4 × (weight − index) + scale).
        let power = 4 * (i32::from(weight) - i32::from(index)) + i32::from(scale);
        if power >= 0 {
            value += i128::from(group) * 10_i128.pow(power.unsigned_abs());
        } else {
            let by = 10_i128.pow(power.unsigned_abs());
            assert_eq!(i128::from(group) % by, 0, "digits beyond the scale");
            value += i128::from(group) / by;
        }
    }
    (if sign == 0x4000 { -value } else { value }, scale)
}

proptest! {
    #[test]
    fn money_is_exact(value in -999_999_999_999_999_999_i128..=999_999_999_999_999_999) {
        prop_assert_eq!(numeric(value, 18, 2), Decimal::from_i128_with_scale(value, 2));
    }

    #[test]
    fn any_decimal_is_what_the_format_says(digits in "[0-9]{1,38}", negative: bool, scale in 0_i8..=38) {
        let value: i128 = digits.parse().unwrap();
        let value = if negative { -value } else { value };
        let array = Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap();
        let (found, _) = encoded(Arc::new(array));
        prop_assert_eq!(by_the_book(found[0].as_ref().unwrap()), (value, u16::from(scale.unsigned_abs())));
    }

    #[test]
    fn texts_and_nulls_come_back(texts in proptest::collection::vec(proptest::option::of(".{0,20}"), 1..20)) {
        let (found, adjusted) = encoded(Arc::new(StringArray::from(texts.clone())));
        let nul = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('\0'));
        prop_assert_eq!(adjusted, texts.iter().filter(|text| nul(text)).count() as u64);
        let found: Vec<Option<String>> =
            found.iter().map(|value| value.as_ref().map(|value| read(value, &Type::TEXT))).collect();
        let wanted: Vec<Option<String>> =
            texts.iter().map(|text| text.as_ref().map(|text| text.replace('\0', "\u{fffd}"))).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn numbers_come_back(ints: Vec<i64>, doubles: Vec<f64>) {
        prop_assume!(!ints.is_empty() && !doubles.is_empty());
        let (found, _) = encoded(Arc::new(Int64Array::from(ints.clone())));
        let found: Vec<i64> = found.iter().map(|value| read(value.as_ref().unwrap(), &Type::INT8)).collect();
        prop_assert_eq!(found, ints);
        let (found, _) = encoded(Arc::new(Float64Array::from(doubles.clone())));
        let found: Vec<u64> =
            found.iter().map(|value| read::<f64>(value.as_ref().unwrap(), &Type::FLOAT8).to_bits()).collect();
        prop_assert_eq!(found, doubles.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn instants_come_back(at_us in -60_000_000_000_000_000_i64..60_000_000_000_000_000) {
        let (found, adjusted) = encoded(Arc::new(TimestampMicrosecondArray::from(vec![at_us]).with_timezone("UTC")));
        // postgres-types counts from 1970, in whole microseconds, only through SystemTime.
        let found: std::time::SystemTime = read(found[0].as_ref().unwrap(), &Type::TIMESTAMPTZ);
        let since = |by: u64| std::time::Duration::from_micros(by);
        let wanted = if at_us >= 0 {
            std::time::UNIX_EPOCH + since(at_us.unsigned_abs())
        } else {
            std::time::UNIX_EPOCH - since(at_us.unsigned_abs())
        };
        prop_assert_eq!((found, adjusted), (wanted, 0));
    }
}

#[test]
fn decimals_at_the_edges() {
    for (value, scale) in [
        (0, 2),
        (1, 2),
        (-1, 2),
        (10_000, 4),
        (9_999, 4),
        (1_000_000, 0),
        (100, 2),
        (5, 7),
        (i128::from(u64::MAX) + 1, 9),
    ] {
        assert_eq!(numeric(value, 38, scale), Decimal::from_i128_with_scale(value, u32::from(scale.unsigned_abs())));
    }
}

#[test]
fn what_is_beyond_the_calendar_is_infinite_and_counted() {
    let instants = TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX, 0]).with_timezone("UTC");
    let (found, adjusted) = encoded(Arc::new(instants));
    let found: Vec<i64> = found.iter().map(|value| read(value.as_ref().unwrap(), &Type::INT8)).collect();
    // The last instant of the lake lies before the last one of PostgreSQL.
    assert_eq!((found, adjusted), (vec![i64::MIN, i64::MAX - 946_684_800_000_000, -946_684_800_000_000], 1));
    let (found, adjusted) = encoded(Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX, 10_957])));
    let found: Vec<i32> = found.iter().map(|value| read(value.as_ref().unwrap(), &Type::INT4)).collect();
    assert_eq!((found, adjusted), (vec![i32::MIN, i32::MAX, 0], 2));
}

#[test]
fn lists_are_arrays() {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("a"), None, Some("c\0")]);
    lists.append_null();
    lists.append_value(Vec::<Option<&str>>::new());
    lists.append_value([Some("d")]);
    let (found, adjusted) = encoded(Arc::new(lists.finish()));
    let found: Vec<Option<Vec<Option<String>>>> =
        found.iter().map(|value| value.as_ref().map(|value| read(value, &Type::TEXT_ARRAY))).collect();
    let text = |text: &str| Some(text.to_owned());
    let wanted = vec![Some(vec![text("a"), None, text("c\u{fffd}")]), None, Some(vec![]), Some(vec![text("d")])];
    assert_eq!((found, adjusted), (wanted, 1));
}

#[test]
fn other_forms_of_a_type_are_brought_to_one() {
    let (found, _) = encoded(Arc::new(StringViewArray::from(vec!["a long text that is not inlined", "b"])));
    assert_eq!(found[1].as_deref(), Some(b"b".as_slice()));
    let (found, _) = encoded(Arc::new(UInt64Array::from(vec![u64::MAX])));
    assert_eq!(read::<Decimal>(found[0].as_ref().unwrap(), &Type::NUMERIC), Decimal::from(u64::MAX));
    let (found, _) = encoded(Arc::new(BooleanArray::from(vec![Some(true), None])));
    assert_eq!(found, [Some(vec![1]), None]);
    assert!(Kind::of(&DataType::Decimal128(10, -2)).unwrap_err().contains("cast it"));
}

#[test]
fn constants_stand_at_the_end_of_each_row() {
    let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int32, true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![Some(7), None]))]).unwrap();
    let encoder = Encoder::new(vec![Kind::Integer], &[b"0123456789abcdef", b"full"]);
    let found = rows(&encoder.encode(&batch).unwrap().bytes, 3);
    assert_eq!(found[0][0].as_deref(), Some([0, 0, 0, 7].as_slice()));
    assert_eq!(found[1], [None, Some(b"0123456789abcdef".to_vec()), Some(b"full".to_vec())]);
}
