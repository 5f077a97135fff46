//! What leaves say: which of their weights are those of fraud, and how their sum becomes a probability.

use std::collections::HashMap;

use super::super::{Read, attributes, malformed, meaning};
use crate::model::OnnxError;
use crate::model::onnx::proto::NodeProto;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The sum is a probability.
    Probability,
    /// The sum is ln(p / (1 - p)).
    LogOdds,
}

pub struct Scores {
    pub link: Link,
    /// What is added once.
    pub start: f64,
    /// By the numbers of tree and node.
    pub leaves: HashMap<(i64, i64), f64>,
    /// Whether the sum is divided by the number of trees.
    pub average: bool,
}

pub fn scores(read: &Read<'_>) -> Result<Scores, OnnxError> {
    if read.node.op_type == "TreeEnsembleRegressor" { of_regressor(read) } else { of_classifier(read) }
}

/// How many classes a classifier knows.
pub fn classes(node: &NodeProto) -> Result<usize, OnnxError> {
    let count = ["classlabels_int64s", "classlabels_ints"].iter().map(|name| attributes::ints(node, name).len());
    let texts = ["classlabels_strings"].iter().map(|name| attributes::texts(node, name).len());
    match count.chain(texts).max() {
        Some(2) => Ok(2),
        found => Err(meaning(node, format!("it tells {} classes apart, and two are needed", found.unwrap_or(0)))),
    }
}

fn of_classifier(read: &Read<'_>) -> Result<Scores, OnnxError> {
    let node = read.node;
    classes(node)?;
    let ids = attributes::ints(node, "class_ids");
    let base = attributes::numbers(node, "base_values")?;
    let post = attributes::text(node, "post_transform").unwrap_or("NONE");
    if let Some(id) = ids.iter().find(|id| !(0..2).contains(*id)) {
        return Err(malformed(node, format!("it has a weight for class {id} of two")));
    }
    let both = ids.contains(&0) && ids.contains(&1);
    // With weights for one class only they are those of the second, whichever number they bear.
    let weight = |id: i64| match (both, post) {
        (true, "SOFTMAX") => {
            if id == 1 {
                1.0
            } else {
                -1.0
            }
        }
        (true, _) => {
            if id == 1 {
                1.0
            } else {
                0.0
            }
        }
        (false, _) => 1.0,
    };
    let alone = usize::from(base.len() == 2);
    let base = |at: usize| base.get(at).copied().unwrap_or(0.0);
    let (link, start) = match (post, both) {
        ("NONE", true) => (Link::Probability, base(1)),
        ("NONE", false) => (Link::Probability, base(alone)),
        ("LOGISTIC", true) if read.flow.normalised => {
            return Err(meaning(
                node,
                "two classes that were learned apart, one against the rest, are no sum of trees",
            ));
        }
        ("LOGISTIC", true) => (Link::LogOdds, base(1)),
        ("LOGISTIC", false) => (Link::LogOdds, base(alone)),
        ("SOFTMAX", true) => (Link::LogOdds, base(1) - base(0)),
        (post, _) => return Err(meaning(node, format!("post_transform {post} is not known here"))),
    };
    let leaves = leaves(node, ["class_treeids", "class_nodeids", "class_ids", "class_weights"], weight)?;
    Ok(Scores { link, start, leaves, average: false })
}

fn of_regressor(read: &Read<'_>) -> Result<Scores, OnnxError> {
    let node = read.node;
    if attributes::int(node, "n_targets").unwrap_or(1) != 1 {
        return Err(meaning(node, "it has more than one target"));
    }
    let average = match attributes::text(node, "aggregate_function").unwrap_or("SUM") {
        "SUM" => false,
        "AVERAGE" => true,
        other => return Err(meaning(node, format!("aggregate_function {other} is not known here"))),
    };
    let post = attributes::text(node, "post_transform").unwrap_or("NONE");
    let link = match (post, read.flow.sigmoid) {
        ("NONE", false) => Link::Probability,
        ("NONE", true) | ("LOGISTIC", false) => Link::LogOdds,
        (post, _) => return Err(meaning(node, format!("post_transform {post} is not known here"))),
    };
    let start = attributes::numbers(node, "base_values")?.first().copied().unwrap_or(0.0);
    let leaves = leaves(node, ["target_treeids", "target_nodeids", "target_ids", "target_weights"], |_| 1.0)?;
    Ok(Scores { link, start, leaves, average })
}

fn leaves(
    node: &NodeProto,
    [trees, nodes, ids, weights]: [&str; 4],
    weight: impl Fn(i64) -> f64,
) -> Result<HashMap<(i64, i64), f64>, OnnxError> {
    let (trees, nodes, ids) =
        (attributes::ints(node, trees), attributes::ints(node, nodes), attributes::ints(node, ids));
    let weights = attributes::numbers(node, weights)?;
    if [nodes.len(), ids.len(), weights.len()].iter().any(|length| *length != trees.len()) {
        return Err(malformed(node, "its lists of leaves are not of one length"));
    }
    let mut leaves = HashMap::with_capacity(trees.len());
    for (((tree, node), id), value) in trees.iter().zip(nodes).zip(ids).zip(weights) {
        *leaves.entry((*tree, *node)).or_insert(0.0) += value * weight(*id);
    }
    Ok(leaves)
}
