//! What a node says, by name and kind.

use super::malformed;
use crate::model::OnnxError;
use crate::model::onnx::proto::{AttributeProto, NodeProto, TensorProto, element};

fn find<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// What may be absent is empty.
pub fn ints<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    find(node, name).map_or(&[], |attribute| &attribute.ints)
}

pub fn int(node: &NodeProto, name: &str) -> Option<i64> {
    find(node, name)?.i
}

pub fn float(node: &NodeProto, name: &str) -> Option<f32> {
    find(node, name)?.f
}

pub fn text<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    std::str::from_utf8(find(node, name)?.s.as_deref()?).ok()
}

pub fn texts<'a>(node: &'a NodeProto, name: &str) -> Vec<&'a str> {
    let all = find(node, name).map_or(&[][..], |attribute| &attribute.strings);
    all.iter().map(|text| std::str::from_utf8(text).unwrap_or("")).collect()
}

/// Numbers as floats, or as a tensor under the name with `_as_tensor`.
pub fn numbers(node: &NodeProto, name: &str) -> Result<Vec<f64>, OnnxError> {
    let tensor = find(node, &format!("{name}_as_tensor")).and_then(|attribute| attribute.t.as_ref());
    match tensor {
        Some(tensor) => of_tensor(tensor).ok_or_else(|| malformed(node, format!("`{name}_as_tensor` is no numbers"))),
        None => Ok(find(node, name).map_or(&[][..], |of| &of.floats).iter().map(|&value| f64::from(value)).collect()),
    }
}

/// The numbers of a tensor, if it holds its own and they are as many as its shape says.
pub fn of_tensor(tensor: &TensorProto) -> Option<Vec<f64>> {
    if tensor.data_location != 0 {
        return None;
    }
    let raw = tensor.raw_data.as_slice();
    let values: Vec<f64> = match (tensor.data_type, raw.is_empty()) {
        (element::FLOAT, true) => tensor.float_data.iter().map(|&value| f64::from(value)).collect(),
        (element::DOUBLE, true) => tensor.double_data.clone(),
        (element::INT64, true) => tensor.int64_data.iter().map(|&value| value as f64).collect(),
        (element::INT32, true) => tensor.int32_data.iter().map(|&value| f64::from(value)).collect(),
        (element::FLOAT, false) => words(raw, |word| f64::from(f32::from_le_bytes(word)))?,
        (element::DOUBLE, false) => words(raw, f64::from_le_bytes)?,
        (element::INT64, false) => words(raw, |word| i64::from_le_bytes(word) as f64)?,
        (element::INT32, false) => words(raw, |word| f64::from(i32::from_le_bytes(word)))?,
        _ => return None,
    };
    let size = tensor.dims.iter().try_fold(1_usize, |size, &dim| size.checked_mul(usize::try_from(dim).ok()?));
    (size == Some(values.len())).then_some(values)
}

fn words<const N: usize>(raw: &[u8], number: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
    let (words, rest) = raw.as_chunks::<N>();
    rest.is_empty().then(|| words.iter().map(|word| number(*word)).collect())
}
