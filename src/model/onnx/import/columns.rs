//! What each feature of the model is made of: a column of an input, and what is done to it on its way.

use super::{attributes, malformed, refused};
use crate::model::OnnxError;
use crate::model::onnx::proto::{Dimension, GraphProto, NodeProto, ValueInfoProto, element};
use crate::model::tree::FEATURES_MAX;

/// All columns that are read, in the order of the inputs.
#[derive(Debug)]
pub struct Columns {
    /// Columns of all inputs together.
    pub width: usize,
    /// In the order of the model.
    pub features: Vec<Feature>,
}

/// One feature of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The place of its column.
    pub column: usize,
    /// What a missing one becomes, where an Imputer says so.
    pub fill: Option<f32>,
    /// What is taken off it and what it is multiplied by then, one step after the other.
    pub steps: Vec<(f32, f32)>,
}

impl Feature {
    /// The value that the model reads, in the arithmetic of single floats.
    pub fn value(&self, x: f32) -> f32 {
        self.steps.iter().fold(x, |x, (offset, factor)| (x - offset) * factor)
    }
}

/// Nodes between an input and the model.
const DEPTH_MAX: usize = 32;

pub fn columns(graph: &GraphProto, model: &NodeProto) -> Result<Columns, OnnxError> {
    let from = model.input.first().ok_or_else(|| malformed(model, "it has no input"))?;
    let inputs: Vec<&ValueInfoProto> = inputs(graph).take(FEATURES_MAX + 1).collect();
    if inputs.len() > FEATURES_MAX {
        return Err(OnnxError::TooLarge { what: "the number of inputs".to_owned(), max: FEATURES_MAX });
    }
    // Only one input may leave its width open: it is as wide as the model needs.
    let known: Vec<Option<usize>> = inputs.iter().map(|input| width(input)).collect();
    let mut starts = Vec::with_capacity(inputs.len());
    let mut end = 0_usize;
    for (input, known) in inputs.iter().zip(&known) {
        let width = match known {
            Some(width) => *width,
            None if inputs.len() == 1 => features_of(model),
            None => return Err(OnnxError::Input { input: input.name.clone(), found: "of no known width".to_owned() }),
        };
        if width == 0 {
            return Err(malformed(model, "it reads no features"));
        }
        starts.push((end, width));
        end = end.saturating_add(width);
        if end > FEATURES_MAX {
            return Err(OnnxError::TooLarge { what: "the number of features".to_owned(), max: FEATURES_MAX });
        }
    }
    let way = Way { graph, inputs: &inputs, starts: &starts };
    let features = way.back(from, DEPTH_MAX, true)?;
    let mut seen = vec![false; end];
    for feature in &features {
        if std::mem::replace(seen.get_mut(feature.column).ok_or_else(|| malformed(model, "no such column"))?, true) {
            return Err(refused(model, ": it reads a column twice"));
        }
    }
    Ok(Columns { width: end, features })
}

/// The names of the inputs, if each is one column.
pub fn single_inputs(graph: &GraphProto) -> Option<Vec<String>> {
    inputs(graph).map(|input| (width(input) == Some(1)).then(|| input.name.clone())).collect()
}

/// Constants may stand among the inputs too.
fn inputs(graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    graph.input.iter().filter(|input| !graph.initializer.iter().any(|of| of.name == input.name))
}

fn width(input: &ValueInfoProto) -> Option<usize> {
    let shape = input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    match (shape.dim.len(), &shape.dim.get(1)?.value) {
        (2, Some(Dimension::Value(width))) => usize::try_from(*width).ok().filter(|width| *width > 0),
        _ => None,
    }
}

/// As many as the model's own numbers speak of.
fn features_of(model: &NodeProto) -> usize {
    if model.op_type == "LinearClassifier" {
        let rows = attributes::numbers(model, "intercepts").map_or(1, |of| of.len()).max(1);
        return attributes::numbers(model, "coefficients").map_or(0, |of| of.len()) / rows;
    }
    let last = attributes::ints(model, "nodes_featureids").iter().max();
    last.and_then(|last| usize::try_from(*last).ok()).map_or(0, |last| last.saturating_add(1))
}

/// From the model back to the inputs.
struct Way<'a> {
    graph: &'a GraphProto,
    inputs: &'a [&'a ValueInfoProto],
    /// Where the columns of each input begin, and how many they are.
    starts: &'a [(usize, usize)],
}

impl Way<'_> {
    /// `single`: whether the values are single floats from here on; a Cast may make them so.
    fn back(&self, name: &str, depth: usize, single: bool) -> Result<Vec<Feature>, OnnxError> {
        if let Some(at) = self.inputs.iter().position(|input| input.name == name) {
            return self.input(at, single);
        }
        let node = self.graph.node.iter().find(|node| node.output.iter().any(|output| output == name));
        let node = node.ok_or_else(|| OnnxError::Unreadable { cause: format!("nothing gives `{name}`") })?;
        let from = node.input.first().ok_or_else(|| malformed(node, "it has no input"))?;
        let Some(depth) = depth.checked_sub(1) else { return Err(refused(node, ": too many nodes before the model")) };
        match node.op_type.as_str() {
            "Identity" => self.back(from, depth, single),
            "Cast" => match attributes::int(node, "to") {
                Some(to) if to == i64::from(element::FLOAT) => self.back(from, depth, false),
                _ => Err(refused(node, ": features are single floats, and it makes something else of them")),
            },
            "Concat" if matches!(attributes::int(node, "axis"), Some(1 | -1)) => {
                let mut all = Vec::new();
                for from in &node.input {
                    all.extend(self.back(from, depth, single)?);
                    if all.len() > FEATURES_MAX {
                        return Err(refused(node, ": too many features"));
                    }
                }
                Ok(all)
            }
            "ArrayFeatureExtractor" | "Gather" => self.picked(node, from, depth, single),
            "Scaler" => self.scaled(node, from, depth, single),
            "Imputer" => self.imputed(node, from, depth, single),
            _ => Err(refused(node, " before the model")),
        }
    }

    fn input(&self, at: usize, single: bool) -> Result<Vec<Feature>, OnnxError> {
        let input = self.inputs[at];
        let kind = input.r#type.as_ref().and_then(|of| of.tensor_type.as_ref()).map_or(0, |of| of.elem_type);
        let is_number = matches!(kind, element::INT32 | element::INT64 | element::BOOL | element::DOUBLE);
        if kind != element::FLOAT && (single || !is_number) {
            let found = match kind {
                element::DOUBLE => "a tensor of doubles".to_owned(),
                element::STRING => "a tensor of texts".to_owned(),
                other => format!("a tensor of the kind {other}"),
            };
            return Err(OnnxError::Input { input: input.name.clone(), found });
        }
        let (start, width) = self.starts[at];
        Ok((start..start + width).map(|column| Feature { column, fill: None, steps: Vec::new() }).collect())
    }

    fn picked(&self, node: &NodeProto, from: &str, depth: usize, single: bool) -> Result<Vec<Feature>, OnnxError> {
        if node.op_type == "Gather" && !matches!(attributes::int(node, "axis"), Some(1 | -1)) {
            return Err(refused(node, " along rows"));
        }
        let all = self.back(from, depth, single)?;
        let places = node.input.get(1).and_then(|name| self.graph.initializer.iter().find(|of| of.name == *name));
        let places =
            places.and_then(attributes::of_tensor).ok_or_else(|| refused(node, ": its places are not fixed"))?;
        let pick = |place: f64| {
            let at = if place < 0.0 { place + all.len() as f64 } else { place };
            let found = if at >= 0.0 { all.get(at as usize).cloned() } else { None };
            found.ok_or_else(|| malformed(node, format!("there is no column {place}")))
        };
        if places.is_empty() || places.len() > FEATURES_MAX {
            return Err(malformed(node, "it picks no columns, or too many"));
        }
        places.into_iter().map(pick).collect()
    }

    fn scaled(&self, node: &NodeProto, from: &str, depth: usize, single: bool) -> Result<Vec<Feature>, OnnxError> {
        // A Scaler gives single floats, whatever it reads.
        let mut all = self.back(from, depth, single)?;
        let of = |name: &str, absent: f32| -> Result<Vec<f32>, OnnxError> {
            let values: Vec<f32> = attributes::numbers(node, name)?.into_iter().map(|value| value as f32).collect();
            match values.len() {
                0 => Ok(vec![absent; all.len()]),
                1 => Ok(vec![values[0]; all.len()]),
                size if size == all.len() => Ok(values),
                size => Err(malformed(node, format!("{size} numbers of `{name}` for {} features", all.len()))),
            }
        };
        let (offsets, factors) = (of("offset", 0.0)?, of("scale", 1.0)?);
        for (feature, step) in all.iter_mut().zip(offsets.into_iter().zip(factors)) {
            if !step.0.is_finite() || !step.1.is_finite() || step.1 <= 0.0 {
                return Err(malformed(node, "an offset is not finite, or a scale not above 0"));
            }
            feature.steps.push(step);
        }
        Ok(all)
    }

    fn imputed(&self, node: &NodeProto, from: &str, depth: usize, single: bool) -> Result<Vec<Feature>, OnnxError> {
        let mut all = self.back(from, depth, single)?;
        if !attributes::float(node, "replaced_value_float").is_some_and(f32::is_nan) {
            return Err(refused(node, ": it fills in for another value than NaN"));
        }
        if all.iter().any(|feature| !feature.steps.is_empty() || feature.fill.is_some()) {
            return Err(refused(node, " after another change of the features"));
        }
        let fills = attributes::numbers(node, "imputed_value_floats")?;
        if fills.is_empty() || (fills.len() != 1 && fills.len() != all.len()) {
            return Err(malformed(node, format!("{} values for {} features", fills.len(), all.len())));
        }
        for (at, feature) in all.iter_mut().enumerate() {
            let fill = fills[if fills.len() == 1 { 0 } else { at }] as f32;
            if !fill.is_finite() {
                return Err(malformed(node, "a value is not finite"));
            }
            feature.fill = Some(fill);
        }
        Ok(all)
    }
}
