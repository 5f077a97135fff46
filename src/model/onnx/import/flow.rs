//! What becomes of the model's result: nothing may change it but what is understood, or the import would say another thing.

use super::{attributes, refused};
use crate::model::OnnxError;
use crate::model::onnx::proto::{GraphProto, NodeProto};

/// What follows the model, as far as it changes the probability.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The result is made a probability by a node of its own.
    pub sigmoid: bool,
    /// The scores of both classes are divided by their sum.
    pub normalised: bool,
}

impl Flow {
    /// Follows the probability to the outputs of the graph. The label's way is not followed: a threshold of ours decides.
    pub fn of(graph: &GraphProto, model: &NodeProto) -> Result<Self, OnnxError> {
        let result = if model.op_type.ends_with("Regressor") { 0 } else { 1 };
        let mut flow = Self::default();
        let mut waiting: Vec<&str> = model.output.get(result).map(String::as_str).into_iter().collect();
        let mut steps = 0;
        while let Some(name) = waiting.pop() {
            for node in graph.node.iter().filter(|node| !name.is_empty() && node.input.iter().any(|of| of == name)) {
                steps += 1;
                if steps > graph.node.len() {
                    return Err(refused(node, ": the graph goes in circles"));
                }
                match node.op_type.as_str() {
                    "ZipMap" | "Cast" | "Identity" | "Reshape" | "Squeeze" | "Flatten" => {}
                    "Normalizer" if matches!(attributes::text(node, "norm"), Some("L1")) => flow.normalised = true,
                    "Sigmoid" if result == 0 && !flow.sigmoid => flow.sigmoid = true,
                    _ => return Err(refused(node, " after the model: it changes the probability")),
                }
                waiting.extend(node.output.iter().map(String::as_str));
            }
        }
        Ok(flow)
    }
}
