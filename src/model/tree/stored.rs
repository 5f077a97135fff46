//! Trees as they are written: numbers as base64 of their little-endian bytes, so that every bit comes back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::trees::{NODES_MAX, Node, Trees};
use crate::model::ModelError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    width: usize,
    /// The number of nodes of each tree.
    sizes: Vec<usize>,
    /// `f32`, by node.
    thresholds: String,
    /// `u32`, by node: ten bits of feature, then 22 bits of the left child within the tree.
    links: String,
    /// `f32`, by node.
    values: String,
}

impl Serialize for Trees {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = || self.nodes.iter().map(|node| node.parts());
        let stored = Stored {
            width: self.width,
            sizes: self.starts.windows(2).map(|bounds| bounds[1] - bounds[0]).collect(),
            thresholds: encode(parts().map(|(threshold, _)| threshold.to_bits())),
            links: encode(parts().map(|(_, link)| link)),
            values: encode(self.values.iter().map(|value| value.to_bits())),
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Stored::deserialize(deserializer)?.check().map_err(de::Error::custom)
    }
}

impl Stored {
    /// Whatever was read, a walk must end in a leaf and ask for no feature that is not there.
    fn check(self) -> Result<Trees, ModelError> {
        let refuse = |reason: String| ModelError::Artifact { reason };
        let (thresholds, links, values) = (decode(&self.thresholds)?, decode(&self.links)?, decode(&self.values)?);
        let total = self.sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size));
        if total != Some(links.len()) || thresholds.len() != links.len() || values.len() != links.len() {
            return Err(refuse("its numbers of nodes, thresholds and values differ".to_owned()));
        }
        if self.sizes.is_empty() || self.width == 0 {
            return Err(refuse("it has no trees or no features".to_owned()));
        }
        let mut trees = Trees::new(self.width);
        let mut parts = thresholds.into_iter().zip(links).zip(values);
        for (tree, &size) in self.sizes.iter().enumerate() {
            let (nodes, values): (Vec<Node>, Vec<f32>) = parts
                .by_ref()
                .take(size)
                .map(|((threshold, link), value)| {
                    (Node::from_parts(f32::from_bits(threshold), link), f32::from_bits(value))
                })
                .unzip();
            if let Some(node) = broken(&nodes, &values, self.width) {
                return Err(refuse(format!("node {node} of tree {tree} leads nowhere")));
            }
            trees.push(nodes, values);
        }
        Ok(trees)
    }
}

/// Children come after their parent, so no walk can go in a circle, and have one parent, so it is a tree that all walks agree on.
fn broken(nodes: &[Node], values: &[f32], width: usize) -> Option<usize> {
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Some(0);
    }
    let mut has_parent = vec![false; nodes.len()];
    let mut sound = |(index, (node, value)): (usize, (&Node, &f32))| {
        let (left, threshold) = (node.left(), node.parts().0);
        let is_leaf = *node == Node::leaf(index);
        let is_split = threshold.is_finite() && node.feature() < width && left > index && left + 1 < nodes.len();
        let mut is_new = |child: usize| !std::mem::replace(&mut has_parent[child], true);
        value.is_finite() && (is_leaf || (is_split && is_new(left) && is_new(left + 1)))
    };
    nodes.iter().zip(values).enumerate().position(|entry| !sound(entry))
}

fn encode(words: impl Iterator<Item = u32>) -> String {
    STANDARD.encode(words.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
}

fn decode(text: &str) -> Result<Vec<u32>, ModelError> {
    let bytes = STANDARD.decode(text).map_err(|error| ModelError::Artifact { reason: error.to_string() })?;
    let (words, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() {
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    } else {
        Err(ModelError::Artifact { reason: "a column of numbers is cut off".to_owned() })
    }
}

#[cfg(test)]
mod tests;
