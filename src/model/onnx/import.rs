//! Models that other tools trained, as skl2onnx and onnxmltools write them: trees or a line, and the columns they read.

mod attributes;
mod columns;
mod flow;
mod line;
mod trees;

use prost::Message;

use super::OnnxError;
use super::proto::{GraphProto, ModelProto, NodeProto};
use crate::model::Model;
use crate::model::table::Encoding;
use columns::columns;
use flow::Flow;

/// A model from elsewhere, and the columns that it reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    pub model: Model,
    pub encoding: Encoding,
    /// The tool that wrote the file, with its version.
    pub producer: String,
    /// The operator that is the model.
    pub operator: String,
    /// What a missing number counts as.
    pub missing: &'static str,
}

/// Reads the bytes of an ONNX file. Features are called as `names` says, else as the file does; `is_boolean` tells which
/// columns hold true and false.
///
/// # Errors
/// When the bytes are no ONNX file, or hold anything but a model that would say the same here: the operator is named.
pub fn import(
    bytes: &[u8],
    names: Option<&[String]>,
    is_boolean: &dyn Fn(&str) -> bool,
) -> Result<Imported, OnnxError> {
    let file = ModelProto::decode(bytes).map_err(|cause| OnnxError::Unreadable { cause: cause.to_string() })?;
    let graph = file.graph.as_ref().ok_or_else(|| OnnxError::Unreadable { cause: "it has no graph".to_owned() })?;
    let model = model_node(graph)?;
    let flow = Flow::of(graph, model)?;
    let columns = columns(graph, model)?;
    let names = called(&file, graph, columns.width, names)?;
    let producer = format!("{} {}", file.producer_name, file.producer_version).trim().to_owned();
    let read = Read { node: model, flow: &flow, columns: &columns.features, names: &names, is_boolean };
    let (model, encoding, missing) =
        if model.op_type == "LinearClassifier" { line::read(&read)? } else { trees::read(&read)? };
    Ok(Imported { model, encoding, producer, operator: read.node.op_type.clone(), missing })
}

/// What is known when the model's own node is read.
struct Read<'a> {
    node: &'a NodeProto,
    flow: &'a Flow,
    /// Of each feature of the node.
    columns: &'a [columns::Feature],
    /// Of each column.
    names: &'a [String],
    is_boolean: &'a dyn Fn(&str) -> bool,
}

/// A model of trees is one node: so many are no model of ours, and to look through them would take too long.
const NODES_MAX: usize = 4_096;
const MODELS: [&str; 3] = ["TreeEnsembleClassifier", "TreeEnsembleRegressor", "LinearClassifier"];

fn model_node(graph: &GraphProto) -> Result<&NodeProto, OnnxError> {
    let names: usize = graph.node.iter().map(|node| node.input.len() + node.output.len()).sum();
    let lists = [graph.node.len(), graph.initializer.len(), graph.input.len()];
    if lists.iter().any(|length| *length > NODES_MAX) || names > 4 * NODES_MAX {
        return Err(OnnxError::TooLarge { what: "the number of operators".to_owned(), max: NODES_MAX });
    }
    let mut found = graph.node.iter().filter(|node| MODELS.contains(&node.op_type.as_str()));
    match (found.next(), found.next()) {
        (Some(model), None) => Ok(model),
        (Some(_), Some(more)) => Err(refused(more, ": it is the second model in this file")),
        (None, _) => {
            let mut operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
            operators.sort_unstable();
            operators.dedup();
            operators.truncate(20);
            Err(OnnxError::NoModel { operators: operators.join(", ") })
        }
    }
}

fn refused(node: &NodeProto, reason: &str) -> OnnxError {
    let operator = if node.domain.is_empty() || node.domain == super::graph::ML_DOMAIN {
        node.op_type.clone()
    } else {
        format!("{}.{}", node.domain, node.op_type)
    };
    let place = if node.name.is_empty() { String::new() } else { format!(" (`{}`)", node.name) };
    OnnxError::Operator { operator, place, reason: reason.to_owned() }
}

fn malformed(node: &NodeProto, reason: impl Into<String>) -> OnnxError {
    OnnxError::Malformed { operator: node.op_type.clone(), reason: reason.into() }
}

fn meaning(node: &NodeProto, reason: impl Into<String>) -> OnnxError {
    OnnxError::Meaning { operator: node.op_type.clone(), reason: reason.into() }
}

/// The names of the columns: those given, those of the metadata, or those of inputs of one column each.
fn called(
    file: &ModelProto,
    graph: &GraphProto,
    width: usize,
    given: Option<&[String]>,
) -> Result<Vec<String>, OnnxError> {
    let (names, by) = if let Some(given) = given {
        (given.to_vec(), "--features")
    } else if let Some(names) = of_metadata(file) {
        (names, "the file's metadata")
    } else if let Some(inputs) = columns::single_inputs(graph).filter(|inputs| inputs.len() > 1 || width == 1) {
        (inputs, "the file's inputs")
    } else {
        return Err(OnnxError::Unnamed { features: width });
    };
    if names.len() != width {
        return Err(OnnxError::NamedOtherwise { given: names.len(), by, features: width });
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(OnnxError::NamedTwice { name: pair[0].clone() }),
        None => Ok(names),
    }
}

/// A list in JSON, or names separated by commas.
fn of_metadata(file: &ModelProto) -> Option<Vec<String>> {
    const KEYS: [&str; 3] = ["feature_names", "features", "assay.features"];
    let entry = KEYS.iter().find_map(|key| file.metadata_props.iter().find(|entry| entry.key == *key))?;
    let by_commas = || entry.value.split(',').map(|name| name.trim().to_owned()).collect();
    Some(serde_json::from_str(&entry.value).unwrap_or_else(|_| by_commas()))
}
