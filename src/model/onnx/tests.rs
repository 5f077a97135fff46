use super::graph::{int, ints, tensor};
use super::proto::{
    AttributeProto, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, element,
};
use super::*;
use crate::model::table::FeatureKind;
use crate::model::{Classifier, FamilyName};
use prost::Message;

fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { name: name.into(), floats: floats.to_vec(), kind: 6, ..AttributeProto::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: Some(value.into()), kind: 3, ..AttributeProto::default() }
}

fn modes(modes: &[&str]) -> AttributeProto {
    super::graph::texts("nodes_modes", modes.iter().copied())
}

fn node(operator: &str, input: &str, output: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: vec![input.into()],
        output: output.iter().map(ToString::to_string).collect(),
        op_type: operator.into(),
        domain: graph::ML_DOMAIN.into(),
        attribute,
        ..NodeProto::default()
    }
}

fn input(name: &str, kind: i32, width: i64) -> ValueInfoProto {
    let dim = [Dimension::Param("N".into()), Dimension::Value(width)];
    let shape = TensorShapeProto { dim: dim.into_iter().map(|of| DimensionProto { value: Some(of) }).collect() };
    let tensor_type = TensorTypeProto { elem_type: kind, shape: Some(shape) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type) });
    ValueInfoProto { name: name.into(), r#type, doc_string: String::new() }
}

fn file(nodes: Vec<NodeProto>, inputs: Vec<ValueInfoProto>, names: &str) -> ModelProto {
    let metadata = StringStringEntryProto { key: "feature_names".into(), value: names.into() };
    ModelProto {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(GraphProto { node: nodes, input: inputs, ..GraphProto::default() }),
        metadata_props: vec![metadata],
        ..ModelProto::default()
    }
}

/// One tree: x asks first, then y on the far side, whose missing ones go the other way.
fn tree(mode: &str, post: &str) -> NodeProto {
    let attributes = vec![
        ints("nodes_treeids", vec![0; 5]),
        ints("nodes_nodeids", vec![0, 1, 2, 3, 4]),
        ints("nodes_featureids", vec![0, 0, 1, 0, 0]),
        floats("nodes_values", &[1.5, 0.0, -2.0, 0.0, 0.0]),
        modes(&[mode, "LEAF", mode, "LEAF", "LEAF"]),
        ints("nodes_truenodeids", vec![1, 0, 3, 0, 0]),
        ints("nodes_falsenodeids", vec![2, 0, 4, 0, 0]),
        ints("nodes_missing_value_tracks_true", vec![0, 0, 1, 0, 0]),
        ints("class_treeids", vec![0; 3]),
        ints("class_nodeids", vec![1, 3, 4]),
        ints("class_ids", vec![0; 3]),
        floats("class_weights", &[0.125, 0.25, 0.5]),
        ints("classlabels_int64s", vec![0, 1]),
        text("post_transform", post),
    ];
    node("TreeEnsembleClassifier", "rows", &["label", "p"], attributes)
}

fn bytes_of(model: &NodeProto) -> Vec<u8> {
    file(vec![model.clone()], vec![input("rows", element::FLOAT, 2)], "x, y").encode_to_vec()
}

fn read(bytes: &[u8]) -> Result<Imported, OnnxError> {
    import(bytes, None, &|_| false)
}

/// The probability of a row with cells that may be missing.
fn says(of: &Imported, cells: [Option<f32>; 2]) -> f64 {
    let mut row = Vec::new();
    for (column, cell) in of.encoding.columns.iter().zip(cells) {
        row.extend(column.kind.fills().into_iter().map(|fill| cell.unwrap_or(fill)));
    }
    of.model.probability(&row)
}

#[test]
fn each_way_of_asking_goes_the_same_way_at_above_and_below_the_threshold() {
    let above = 1.5_f32.next_up();
    // The first branch gives 0.125; of x at the threshold, above it, missing.
    let ways = [
        ("BRANCH_LEQ", [true, false, false]),
        ("BRANCH_LT", [false, false, false]),
        ("BRANCH_GTE", [true, true, false]),
        ("BRANCH_GT", [false, true, false]),
    ];
    for (mode, first) in ways {
        let read = read(&bytes_of(&tree(mode, "NONE"))).unwrap();
        for (x, is_first) in [Some(1.5), Some(above), None].into_iter().zip(first) {
            assert_eq!(says(&read, [x, Some(9.0)]) == 0.125, is_first, "{mode} {x:?}");
        }
        // The missing y goes to the first branch of its node, whatever is asked there.
        let x = if mode.contains('L') { Some(2.0) } else { Some(1.0) };
        assert_eq!(says(&read, [x, None]), 0.25, "{mode}");
        assert_eq!(read.encoding.features(), ["x", "y"]);
    }
}

#[test]
fn a_column_whose_missing_ones_go_both_ways_becomes_two_features() {
    let mut both = tree("BRANCH_LEQ", "LOGISTIC");
    for attribute in &mut both.attribute {
        if attribute.name == "nodes_featureids" {
            attribute.ints = vec![0; 5];
        }
    }
    let read = read(&bytes_of(&both)).unwrap();
    assert_eq!(read.encoding.columns[0].kind, FeatureKind::NumberTwice);
    assert_eq!(read.encoding.features(), ["x", "x (missing is high)", "y"]);
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    for (x, leaf) in [(Some(1.5), 0.125), (Some(1.6), 0.5), (Some(-3.0), 0.125), (None, 0.25)] {
        assert_eq!(says(&read, [x, None]), sigmoid(leaf), "{x:?}");
    }
    assert_eq!(read.model.name(), FamilyName::Boost);
    // And in the form in which it is kept.
    let kept: crate::model::Model = serde_json::from_str(&serde_json::to_string(&read.model).unwrap()).unwrap();
    let encoding = serde_json::from_str(&serde_json::to_string(&read.encoding).unwrap()).unwrap();
    let kept = Imported { model: kept, encoding, ..read.clone() };
    assert_eq!(kept, read);
}

#[test]
fn a_scaler_before_trees_moves_no_row_across_a_split() {
    let scaler = node("Scaler", "rows", &["scaled"], vec![floats("offset", &[0.1, 0.0]), floats("scale", &[0.3, 1.0])]);
    let mut model = tree("BRANCH_LEQ", "NONE");
    model.input = vec!["scaled".into()];
    let bytes = file(vec![scaler, model], vec![input("rows", element::FLOAT, 2)], "[\"x\", \"y\"]").encode_to_vec();
    let read = read(&bytes).unwrap();
    let mut x = 5.099_f32;
    let (mut firsts, mut others) = (0, 0);
    while x < 5.101 {
        let is_first = (x - 0.1) * 0.3 <= 1.5;
        assert_eq!(says(&read, [Some(x), Some(9.0)]) == 0.125, is_first, "{x}");
        if is_first {
            firsts += 1
        } else {
            others += 1
        }
        x = x.next_up();
    }
    assert!(firsts > 100 && others > 100, "{firsts} {others}");
}

#[test]
fn a_line_is_what_its_weights_say() {
    let scaler = node("Scaler", "rows", &["scaled"], vec![floats("offset", &[2.0, 0.0]), floats("scale", &[0.5, 4.0])]);
    let line = vec![
        floats("coefficients", &[-1.0, 0.5, 1.0, -0.5]),
        floats("intercepts", &[-0.25, 0.25]),
        ints("classlabels_ints", vec![0, 1]),
        text("post_transform", "LOGISTIC"),
    ];
    let line = node("LinearClassifier", "scaled", &["label", "p"], line);
    let normal = node("Normalizer", "p", &["q"], vec![text("norm", "L1")]);
    let nodes = vec![scaler, line, normal];
    let read = read(&file(nodes, vec![input("rows", element::FLOAT, 2)], "x,y").encode_to_vec()).unwrap();
    let z = 0.25 + (3.0 - 2.0) * 0.5 - 0.5 * 4.0 * 0.75;
    assert!((says(&read, [Some(3.0), Some(0.75)]) - 1.0 / (1.0 + f64::exp(-z))).abs() < 1e-12);
    // A missing one is the mean: it adds nothing.
    assert_eq!(says(&read, [None, Some(0.75)]), says(&read, [Some(2.0), Some(0.75)]));
}

#[test]
fn what_cannot_be_taken_in_is_named() {
    let refused = |bytes: &[u8], words: &str| {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(words), "{error} does not say {words}");
    };
    let model = tree("BRANCH_LEQ", "NONE");
    let with = |name: &str, change: &dyn Fn(&mut AttributeProto)| {
        let mut model = model.clone();
        model.attribute.iter_mut().filter(|of| of.name == name).for_each(change);
        bytes_of(&model)
    };
    let rows = || vec![input("rows", element::FLOAT, 2)];
    refused(b"not onnx", "no ONNX file");
    refused(&[], "no graph");
    refused(&file(vec![node("Conv", "rows", &["y"], vec![])], rows(), "x,y").encode_to_vec(), "Conv");
    let after = node("Mul", "p", &["q"], vec![]);
    refused(&file(vec![model.clone(), after], rows(), "x,y").encode_to_vec(), "after the model");
    let before = NodeProto { input: vec!["raw".into()], ..node("Tanh", "raw", &["rows"], vec![]) };
    let raw = vec![input("raw", element::FLOAT, 2)];
    refused(&file(vec![before, model.clone()], raw, "x,y").encode_to_vec(), "before the model");
    refused(&file(vec![model.clone(), model.clone()], rows(), "x,y").encode_to_vec(), "second model");
    refused(&file(vec![model.clone()], vec![input("rows", element::DOUBLE, 2)], "x,y").encode_to_vec(), "doubles");
    refused(&file(vec![model.clone()], rows(), "x").encode_to_vec(), "1 features are named");
    refused(&file(vec![model.clone()], rows(), "x,x").encode_to_vec(), "named twice");
    refused(&with("nodes_modes", &|of| of.strings[0] = b"BRANCH_EQ".to_vec()), "BRANCH_EQ");
    refused(&with("classlabels_int64s", &|of| of.ints.push(2)), "3 classes");
    refused(&with("class_weights", &|of| of.floats[1] = 1.5), "within 0 and 1");
    refused(&with("post_transform", &|of| of.s = Some(b"PROBIT".to_vec())), "PROBIT");
    refused(&with("nodes_featureids", &|of| of.ints[0] = 7), "not there");
    refused(&with("nodes_values", &|of| of.floats[0] = f32::NAN), "no number");
    refused(&with("nodes_truenodeids", &|of| of.ints[2] = 0), "hangs on nothing");
    refused(&with("nodes_truenodeids", &|of| of.ints[2] = 1), "same one");
    refused(&with("nodes_truenodeids", &|of| of.ints[2] = 9), "not there");
    refused(&with("nodes_modes", &|of| of.strings.truncate(3)), "one length");
}

#[test]
fn numbers_of_another_file_or_shape_are_refused() {
    let of = |tensor_of: TensorProto| {
        let mut model = tree("BRANCH_LEQ", "NONE");
        model.attribute.retain(|of| of.name != "nodes_values");
        model.attribute.push(tensor("nodes_values_as_tensor", tensor_of));
        read(&bytes_of(&model))
    };
    let right = super::graph::doubles(&[5], &[1.5, 0.0, -2.0, 0.0, 0.0]);
    assert_eq!(of(right.clone()).unwrap(), read(&bytes_of(&tree("BRANCH_LEQ", "NONE"))).unwrap());
    assert!(of(TensorProto { data_location: 1, ..right.clone() }).is_err());
    assert!(of(TensorProto { dims: vec![i64::MAX, i64::MAX], ..right.clone() }).is_err());
    assert!(of(TensorProto { dims: vec![-5], ..right.clone() }).is_err());
    assert!(of(TensorProto { raw_data: right.raw_data[..39].to_vec(), ..right }).is_err());
}

#[test]
fn a_cast_and_columns_of_their_own_are_read() {
    let cast = |from: &str| node("Cast", from, &[&format!("{from}_f")], vec![int("to", 1)]);
    let mut together = node("Concat", "x_f", &["rows"], vec![int("axis", 1)]);
    together.input.push("y_f".into());
    let nodes = vec![cast("x"), cast("y"), together, tree("BRANCH_LEQ", "NONE")];
    let mut of = file(nodes, vec![input("x", element::INT64, 1), input("y", element::DOUBLE, 1)], "");
    of.metadata_props.clear();
    assert_eq!(read(&of.encode_to_vec()).unwrap().encoding.features(), ["x", "y"]);
}
