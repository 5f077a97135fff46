use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use proptest::prelude::*;

use super::*;
use crate::model::table::{Table, TableFile};

fn cells(column: ArrayRef) -> Cells {
    let file = TableFile { path: "t".into(), bytes: 0, blake3: String::new(), rows: 0 };
    let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
    Table::of_batches(file, &[batch], |_| true).unwrap().columns.remove(0).cells
}

fn numbers(values: &[Option<f64>]) -> Cells {
    cells(Arc::new(values.iter().copied().collect::<Float64Array>()))
}

fn all(cells: &Cells) -> Histogram {
    Histogram::of_cells(cells, &(0..rows_of(cells)).collect::<Vec<_>>()).unwrap()
}

#[test]
fn numbers_are_cut_into_tenths_and_what_lies_outside_has_a_place() {
    let of = all(&numbers(&(1..=100).map(|value| Some(f64::from(value))).chain([None, None]).collect::<Vec<_>>()));
    assert_eq!(of.bins, Bins::Number { edges: (1..10).map(|tenth| f64::from(tenth) * 10.0).collect() });
    assert_eq!(of.counts, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 2]);
    let bin = |value: f64| of.bins.of_number(value);
    assert_eq!([bin(-5.0), bin(10.0), bin(10.1), bin(1e9), bin(f64::INFINITY), bin(f64::NAN)], [0, 0, 1, 9, 9, 10]);
    assert_eq!([0, 4, 9, 10].map(|bin| of.bins.label(bin)), ["10 or less", "above 40 to 50", "above 90", "missing"]);
}

#[test]
fn values_that_many_rows_share_keep_a_bin() {
    let mostly_zero: Vec<Option<f64>> = (0..1_000).map(|row| Some(if row % 100 == 0 { 25.0 } else { 0.0 })).collect();
    let of = all(&numbers(&mostly_zero));
    assert_eq!((of.bins, of.counts), (Bins::Number { edges: vec![0.0] }, vec![990, 10, 0]));
    // One value alone: another one on either side is told from it.
    let constant = all(&numbers(&[Some(3.0); 50]));
    assert_eq!(constant.counts, [0, 50, 0, 0]);
    assert_eq!([2.9, 3.0, 3.1].map(|value| constant.bins.of_number(value)), [0, 1, 2]);
    assert_eq!(constant.bins.label(1), "3");
    let none = all(&numbers(&[None, None]));
    assert_eq!((none.counts, none.bins.of_number(7.0)), (vec![0, 2], 0));
}

#[test]
fn categories_are_bounded_and_new_ones_are_seen() {
    // v00 stands once, v01 twice and so on: the rarest of 26 share the bin of others.
    let texts = (0..26).flat_map(|value| std::iter::repeat_n(Some(format!("v{value:02}")), value + 1));
    let of = all(&cells(Arc::new(texts.chain([None, None, None]).collect::<StringArray>())));
    let Bins::Category { values } = &of.bins else { panic!("no categories") };
    assert_eq!((values.len(), values[0].as_str(), values[19].as_str()), (20, "v06", "v25"));
    assert_eq!((of.counts[0], of.counts[20], of.counts[21]), (7, 1 + 2 + 3 + 4 + 5 + 6, 3));
    let mut counts = vec![0; of.bins.len()];
    let new = cells(Arc::new(StringArray::from(vec![Some("v25"), Some("unheard of"), None])));
    of.bins.tally(&new, |_, bin| counts[bin] += 1).unwrap();
    assert_eq!((counts[19], counts[20], counts[21]), (1, 1, 1));
    assert_eq!([19, 20, 21].map(|bin| of.bins.label(bin)), ["`v25`", "other values", "missing"]);
}

#[test]
fn another_kind_of_column_is_refused() {
    let flags = cells(Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])));
    let of = all(&flags);
    assert_eq!(of.counts, [1, 2, 1]);
    assert!(of.bins.tally(&numbers(&[Some(1.0)]), |_, _| {}).unwrap_err().contains("a number"));
    assert!(Histogram { counts: vec![1], ..of }.problem().is_some());
    let unordered = Histogram { bins: Bins::Number { edges: vec![2.0, 1.0] }, counts: vec![0; 4] };
    assert!(unordered.problem().is_some());
}

#[test]
fn figures_are_short() {
    let shown = [0.0, 3.0, 43.578, 1234.5678, 0.009_512, -2.5, 12_345_678.9].map(number);
    assert_eq!(shown, ["0", "3", "43.58", "1235", "0.009512", "-2.5", "12345679"]);
}

proptest! {
    #[test]
    fn the_order_of_rows_does_not_count(
        mut values in prop::collection::vec(prop::option::of(-50_i32..50), 1..200), turn in any::<prop::sample::Index>(),
    ) {
        let histogram = |values: &[Option<i32>]| {
            all(&numbers(&values.iter().map(|value| value.map(f64::from)).collect::<Vec<_>>()))
        };
        let before = histogram(&values);
        prop_assert_eq!(before.rows(), values.len() as u64);
        prop_assert!(before.counts.len() <= NUMBER_BINS + 2 && before.problem().is_none());
        let turn = turn.index(values.len());
        values.rotate_left(turn);
        values.reverse();
        prop_assert_eq!(histogram(&values), before);
    }
}
