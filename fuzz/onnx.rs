//! Any bytes as an ONNX file: what is taken in is a model that gives probabilities, and is read back as it was kept.

use assay::model::onnx::import;
use assay::model::{Classifier, Model};

/// A file of a few bytes must not become a model that is asked about gigabytes.
const WIDTH_MAX: usize = 1_024;

pub fn check(data: &[u8]) {
    let Ok(imported) = import(data, None, &|name| name.len() % 3 == 2) else { return };
    let width = imported.model.width();
    assert_eq!(imported.encoding.features().len(), width);
    assert!((1..=WIDTH_MAX).contains(&width));
    let kept = serde_json::to_string(&imported.model).expect("it is written");
    let read: Model = serde_json::from_str(&kept).expect("it is read");
    assert!(read == imported.model);
    for x in [0.0, -0.0, 1.5, f32::MIN, f32::MAX, f32::MIN_POSITIVE, -7.25] {
        let probability = imported.model.probability(&vec![x; width]);
        assert!((0.0..=1.0).contains(&probability), "{probability}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let files = [tree(b"NONE"), tree(b"LOGISTIC"), line()].map(|node| file(&node));
    for bytes in &files {
        import(bytes, None, &|_| false).expect("what is changed by chance begins as a model");
    }
    files.into_iter().chain([vec![]]).collect()
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A field of bytes, by its number.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    varint(number << 3 | 2, &mut all);
    varint(bytes.len() as u64, &mut all);
    all.extend(bytes);
    all
}

fn number(number: u64, value: u64) -> Vec<u8> {
    let mut all = Vec::new();
    varint(number << 3, &mut all);
    varint(value, &mut all);
    all
}

/// An attribute: its name, and what it holds in the field of that number.
fn attribute(name: &str, holds: &[u8]) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), holds.to_vec()].concat())
}

fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    attribute(name, &values.iter().flat_map(|value| number(8, *value)).collect::<Vec<_>>())
}

fn floats(name: &str, values: &[f32]) -> Vec<u8> {
    attribute(name, &field(7, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()))
}

fn node(operator: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let ends = [field(1, b"x"), field(2, b"label"), field(2, b"p"), field(4, operator.as_bytes())];
    [ends.concat(), attributes.concat()].concat()
}

fn tree(post: &[u8]) -> Vec<u8> {
    let modes: Vec<u8> = ["BRANCH_LT", "LEAF", "LEAF"].iter().flat_map(|mode| field(9, mode.as_bytes())).collect();
    node(
        "TreeEnsembleClassifier",
        &[
            ints("nodes_treeids", &[0; 3]),
            ints("nodes_nodeids", &[0, 1, 2]),
            ints("nodes_featureids", &[1, 0, 0]),
            floats("nodes_values", &[0.5, 0.0, 0.0]),
            attribute("nodes_modes", &modes),
            ints("nodes_truenodeids", &[1, 0, 0]),
            ints("nodes_falsenodeids", &[2, 0, 0]),
            ints("nodes_missing_value_tracks_true", &[1, 0, 0]),
            ints("class_treeids", &[0; 2]),
            ints("class_nodeids", &[1, 2]),
            ints("class_ids", &[0; 2]),
            floats("class_weights", &[0.25, 0.75]),
            ints("classlabels_int64s", &[0, 1]),
            attribute("post_transform", &field(4, post)),
        ],
    )
}

fn line() -> Vec<u8> {
    node(
        "LinearClassifier",
        &[
            floats("coefficients", &[-1.0, 2.0, 1.0, -2.0]),
            floats("intercepts", &[-0.5, 0.5]),
            ints("classlabels_ints", &[0, 1]),
            attribute("post_transform", &field(4, b"LOGISTIC")),
        ],
    )
}

/// Two features of an input of single floats, called a and b.
fn file(node: &[u8]) -> Vec<u8> {
    let dim = |value| field(1, &number(1, value));
    let shape = field(2, &[field(1, &field(2, b"N")), dim(2)].concat());
    let kind = field(1, &[number(1, 1), shape].concat());
    let input = field(11, &[field(1, b"x"), field(2, &kind)].concat());
    let graph = field(7, &[field(1, node), input].concat());
    let names = field(14, &[field(1, b"feature_names"), field(2, b"a,b")].concat());
    [number(1, 8), graph, names].concat()
}
