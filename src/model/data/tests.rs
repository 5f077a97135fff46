use linfa::Dataset;
use ndarray::{Array1, Ix1, ShapeBuilder, arr1, arr2};

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn three_rows() -> Samples {
    let records = arr2(&[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]);
    Samples::new(names(&["a", "b"]), records, arr1(&[true, false, true]), vec![5, 6, 7]).unwrap()
}

#[test]
fn columns_are_contiguous_whatever_the_layout_given() {
    let samples = three_rows();
    assert_eq!(samples.records().column(1).as_slice(), Some(&[10.0, 20.0, 30.0][..]));
    let columns = vec![("a".to_owned(), vec![1.0, 2.0, 3.0]), ("b".to_owned(), vec![10.0, 20.0, 30.0])];
    assert_eq!(Samples::from_columns(columns, vec![true, false, true], vec![5, 6, 7]).unwrap(), samples);
}

#[test]
fn rows_are_selected_with_their_label_and_time() {
    let selected = three_rows().select(&[2, 0, 2]).unwrap();
    assert_eq!(selected.records(), arr2(&[[3.0, 30.0], [1.0, 10.0], [3.0, 30.0]]));
    assert_eq!((selected.labels(), selected.times_us()), (arr1(&[true, true, true]).view(), &[7, 5, 7][..]));
    assert_eq!(selected.records().column(0).as_slice(), Some(&[3.0, 1.0, 3.0][..]));
    assert_eq!(three_rows().select(&[3]), Err(ModelError::RowOutOfRange { row: 3, rows: 3 }));
}

#[test]
fn the_linfa_dataset_shares_the_buffer() {
    let samples = three_rows();
    let pointer = samples.records().as_ptr();
    assert_eq!(samples.dataset().records().as_ptr(), pointer);
    let owned: Dataset<f32, bool, Ix1> = samples.into();
    assert_eq!(owned.records().as_ptr(), pointer);
    assert_eq!(owned.feature_names(), ["a", "b"]);
}

#[test]
fn what_cannot_be_learned_from_is_refused_by_name() {
    let build = |features: &[&str], value: f32, labels: usize| {
        let mut records = ndarray::Array2::zeros((4, 2).f());
        records[[2, 1]] = value;
        Samples::new(names(features), records, Array1::from_elem(labels, false), vec![0; 4])
    };
    for value in [f32::INFINITY, f32::NEG_INFINITY] {
        let refused = ModelError::NotFinite { feature: "b".to_owned(), row: 2, value };
        assert_eq!(build(&["a", "b"], value, 4), Err(refused));
    }
    assert!(
        matches!(build(&["a", "b"], f32::NAN, 4), Err(ModelError::NotFinite { row: 2, feature, .. }) if feature == "b")
    );
    assert_eq!(build(&["a", "a"], 0.0, 4), Err(ModelError::DuplicateFeature { name: "a".to_owned() }));
    assert!(matches!(build(&["a"], 0.0, 4), Err(ModelError::Length { expected: 2, found: 1, .. })));
    assert!(matches!(build(&["a", "b"], 0.0, 3), Err(ModelError::Length { expected: 4, found: 3, .. })));
    assert!(build(&["a", "b"], 0.0, 4).is_ok());
}
