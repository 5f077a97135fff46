use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Date32Array, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;
use crate::domain::Layer;

fn encoder() -> Encoder {
    Encoder {
        table: TableName::new(Layer::Silver, "rows"),
        schema: Arc::new(Schema::new(vec![
            Field::new("number", DataType::Int64, false),
            Field::new("day", DataType::Date32, true),
        ])),
        partition_by: vec!["day".into()],
        encoding: super::super::Encoding::default(),
    }
}

/// Rows that are numbered on, of three days and of none.
fn rows(from: i64, count: i64, days: i32) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(from..from + count);
    let day = |number: i64| i32::try_from(number % 4).ok().map(|day| day % days).filter(|day| *day != 3);
    let days: Date32Array = (from..from + count).map(day).collect();
    RecordBatch::try_new(Arc::clone(&encoder().schema), vec![Arc::new(numbers), Arc::new(days)]).unwrap()
}

/// What stands in the files, by path and in order; the log's count of rows must agree.
fn contents(files: Vec<Encoded>) -> BTreeMap<String, Vec<i64>> {
    let numbers = |encoded: Encoded| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(encoded.bytes.clone()).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let rows = concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(rows.num_columns(), 1, "a partition column stands in the log only");
        assert_eq!(encoded.file.size, encoded.bytes.len() as i64);
        assert_eq!(encoded.file.rows, rows.num_rows() as i64);
        let numbers = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let bounds = (*numbers.iter().min().unwrap(), *numbers.iter().max().unwrap());
        assert_eq!(encoded.file.ranges.get("number"), Some(&bounds));
        (encoded.file.path, numbers)
    };
    files.into_iter().map(numbers).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Sizes on both sides of those at which a file is begun and at which the one who brings rows encodes them; whoever
    /// encodes them a little at a time writes the same.
    #[test]
    fn any_cut_gives_the_files_that_all_rows_at_once_give(
        sizes in prop::collection::vec(prop_oneof![0..50_i64, 0..30_000_i64], 0..8),
        last in 0..20_000_i64,
        days in 1..5_i32,
        gives_way in any::<bool>(),
    ) {
        let mut piecemeal = encoder();
        piecemeal.encoding.gives_way = gives_way;
        let mut intake = piecemeal.intake();
        let (mut all, mut from) = (Vec::new(), 0);
        for size in sizes {
            let batches = vec![rows(from, size / 3, days), rows(from + size / 3, size - size / 3, days)];
            all.extend(batches.clone());
            intake.push(batches);
            from += size;
        }
        prop_assert_eq!(intake.rows(), from as u64);
        all.push(rows(from, last, days));
        let in_parts = contents(intake.finish(vec![rows(from, last, days)], "file", 0).unwrap());
        prop_assert_eq!(in_parts.values().map(|rows| rows.len() as i64).sum::<i64>(), from + last);
        prop_assert_eq!(in_parts, contents(encoder().encode(&all, "file", 0).unwrap()));
    }
}

#[test]
fn rows_that_do_not_fit_are_told_at_the_end() {
    let mut intake = encoder().intake();
    let foreign = Schema::new(vec![Field::new("other", DataType::Int64, false)]);
    let foreign = RecordBatch::try_new(Arc::new(foreign), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    intake.push(vec![rows(0, 5, 2)]);
    intake.push(vec![foreign]);
    intake.push(vec![rows(5, 5, 2)]);
    let told = intake.finish(Vec::new(), "file", 0).unwrap_err().to_string();
    assert!(told.contains("silver.rows") && told.contains("number"), "{told}");
}
