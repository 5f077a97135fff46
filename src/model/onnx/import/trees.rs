//! Trees: their nodes come in lists in any order, and leave as ours do, children side by side after their parent.

mod node;
mod scores;

use std::collections::HashMap;

use super::columns::Feature;
use super::{Read, malformed, meaning};
use crate::model::onnx::proto::NodeProto;
use crate::model::table::{Encoding, FeatureColumn, FeatureKind};
use crate::model::tree::{FEATURES_MAX, NODES_MAX, Node, Trees};
use crate::model::{Boost, Forest, Model, OnnxError};
use node::{Key, Listed, Split, listed};
use scores::{Link, Scores, scores};

pub(super) use scores::classes;

pub fn read(read: &Read<'_>) -> Result<(Model, Encoding, &'static str), OnnxError> {
    let node = read.node;
    let trees = by_tree(node, listed(node, read.columns)?)?;
    let Scores { link, start, leaves, average } = scores(read)?;
    if !(start as f32).is_finite() {
        return Err(malformed(node, "its base value is not finite"));
    }
    let count = trees.len() as f64;
    // Ours is the mean over the trees where theirs is a sum, and the start is what the first tree says besides.
    let share = |tree: usize, sum: f64| match link {
        Link::LogOdds => sum * if average { count.recip() } else { 1.0 },
        Link::Probability => {
            let sum = if average { sum } else { sum * count };
            sum + if tree == 0 { start * count } else { 0.0 }
        }
    };
    let fills = Fills::of(read, &trees);
    let mut flat = Trees::new(fills.width);
    for (tree, listed) in trees.iter().enumerate() {
        let value = |at: usize| share(tree, leaves.get(&listed.key(at)).copied().unwrap_or(0.0));
        let (nodes, values) = laid(read, listed, &fills, &value)?;
        let values = values.into_iter().map(|value| leaf(node, link, tree, value)).collect::<Result<_, _>>()?;
        flat.push(nodes, values);
    }
    let model = match link {
        Link::LogOdds => Model::Boost(Boost::of(start as f32, flat)),
        Link::Probability => Model::Forest(Forest::of(flat)),
    };
    let missing = if read.columns.iter().any(|feature| feature.fill.is_some()) {
        "what its Imputer says"
    } else {
        "as each split says"
    };
    Ok((model, fills.encoding, missing))
}

/// A leaf of a mean of probabilities is one, but for the rounding of single floats.
fn leaf(node: &NodeProto, link: Link, tree: usize, value: f64) -> Result<f32, OnnxError> {
    const ROUNDING: f64 = 1e-5;
    let is_probability = (-ROUNDING..=1.0 + ROUNDING).contains(&value);
    if link == Link::Probability && !is_probability {
        let reason = format!("a leaf of tree {tree} makes {value} of a row, and a probability is within 0 and 1");
        return Err(meaning(node, reason));
    }
    let value = if link == Link::Probability { value.clamp(0.0, 1.0) } else { value } as f32;
    if value.is_finite() { Ok(value) } else { Err(malformed(node, format!("a leaf of tree {tree} is not finite"))) }
}

/// The nodes of one tree.
struct Tree {
    number: i64,
    ids: Vec<i64>,
    nodes: Vec<Listed>,
    root: usize,
    /// Of each split, the places of its children: rows with small values go to the first.
    children: Vec<[usize; 2]>,
}

impl Tree {
    fn key(&self, at: usize) -> (i64, i64) {
        (self.number, self.ids[at])
    }
}

/// Each tree by its number, in the order in which they are listed.
fn by_tree(node: &NodeProto, listed: Vec<(Key, Listed)>) -> Result<Vec<Tree>, OnnxError> {
    let mut places: HashMap<i64, usize> = HashMap::new();
    let mut trees: Vec<Tree> = Vec::new();
    for ((number, id), of) in listed {
        let place = *places.entry(number).or_insert(trees.len());
        if place == trees.len() {
            trees.push(Tree { number, ids: Vec::new(), nodes: Vec::new(), root: 0, children: Vec::new() });
        }
        trees[place].ids.push(id);
        trees[place].nodes.push(of);
    }
    if trees.is_empty() {
        return Err(malformed(node, "it has no trees"));
    }
    for tree in &mut trees {
        link(node, tree)?;
    }
    Ok(trees)
}

/// Finds children and root: one node without a parent, and one parent for every other.
fn link(node: &NodeProto, tree: &mut Tree) -> Result<(), OnnxError> {
    let wrong = |reason: &str| malformed(node, format!("tree {}: {reason}", tree.number));
    let mut at: HashMap<i64, usize> = HashMap::with_capacity(tree.ids.len());
    for (place, id) in tree.ids.iter().enumerate() {
        if at.insert(*id, place).is_some() {
            return Err(wrong("two nodes have the same number"));
        }
    }
    let mut has_parent = vec![false; tree.ids.len()];
    let mut children = Vec::with_capacity(tree.ids.len());
    for of in &tree.nodes {
        let Listed::Split(split) = of else {
            children.push([0; 2]);
            continue;
        };
        let mut pair = [0; 2];
        for (place, id) in pair.iter_mut().zip(split.children) {
            *place = *at.get(&id).ok_or_else(|| wrong("a node leads to one that is not there"))?;
            if std::mem::replace(&mut has_parent[*place], true) {
                return Err(wrong("two nodes lead to the same one"));
            }
        }
        children.push(pair);
    }
    let mut roots = has_parent.iter().enumerate().filter(|(_, has)| !**has).map(|(place, _)| place);
    match (roots.next(), roots.next()) {
        (Some(root), None) => tree.root = root,
        _ => return Err(wrong("it has no root, or two")),
    }
    tree.children = children;
    Ok(())
}

/// What stands for a missing number, for each column of the model.
struct Fills {
    encoding: Encoding,
    /// Of each column the first of its features.
    firsts: Vec<usize>,
    width: usize,
}

impl Fills {
    /// Where an Imputer spoke or a column is true and false, that holds. Else a missing one is the least or the greatest
    /// number, as the splits send it, and both where they do not agree.
    fn of(read: &Read<'_>, trees: &[Tree]) -> Self {
        let mut ways = vec![[false; 2]; read.columns.len()];
        for split in trees.iter().flat_map(|tree| &tree.nodes).filter_map(Listed::split) {
            ways[split.feature][usize::from(!split.missing_is_low)] = true;
        }
        let (mut columns, mut firsts, mut width) = (Vec::new(), Vec::new(), 0);
        for (Feature { column, fill, .. }, ways) in read.columns.iter().zip(ways) {
            let column = read.names[*column].clone();
            let kind = match (fill, ways) {
                (Some(missing), _) => FeatureKind::Number { missing: *missing },
                _ if (read.is_boolean)(&column) => FeatureKind::Boolean,
                (None, [true, true]) => FeatureKind::NumberTwice,
                (None, [true, false]) => FeatureKind::Number { missing: f32::MIN },
                (None, [false, true]) => FeatureKind::Number { missing: f32::MAX },
                (None, [false, false]) => FeatureKind::Number { missing: 0.0 },
            };
            firsts.push(width);
            width += if kind == FeatureKind::NumberTwice { 2 } else { 1 };
            columns.push(FeatureColumn { column, kind, tells_missing: false });
        }
        Self { encoding: Encoding { columns }, firsts, width }
    }

    /// The feature that a split asks, and its threshold: one that no number goes above keeps missing ones out all the same.
    fn ask(&self, split: &Split) -> (usize, f32) {
        let first = self.firsts[split.feature];
        let high = match self.encoding.columns[split.feature].kind {
            FeatureKind::NumberTwice => !split.missing_is_low,
            FeatureKind::Number { missing } => missing == f32::MAX,
            FeatureKind::Boolean | FeatureKind::Category { .. } => false,
        };
        let is_twice = self.encoding.columns[split.feature].kind == FeatureKind::NumberTwice;
        let threshold = if high { split.threshold.min(f32::MAX.next_down()) } else { split.threshold };
        (first + usize::from(is_twice && high), threshold)
    }
}

/// A tree in our order, with the value of each leaf; an inner node has the mean of its two, since how many rows went where
/// is not told.
fn laid(
    read: &Read<'_>,
    tree: &Tree,
    fills: &Fills,
    value: &dyn Fn(usize) -> f64,
) -> Result<(Vec<Node>, Vec<f64>), OnnxError> {
    let too_large = |what: String, max| OnnxError::TooLarge { what, max };
    if fills.width > FEATURES_MAX {
        return Err(too_large("the number of features".to_owned(), FEATURES_MAX));
    }
    // The places in the file, in our order: children are side by side after their parent.
    let mut order = vec![tree.root];
    let mut nodes = Vec::with_capacity(tree.ids.len());
    let mut values = Vec::with_capacity(tree.ids.len());
    let mut at = 0;
    while let Some(&place) = order.get(at) {
        match &tree.nodes[place] {
            Listed::Leaf => {
                nodes.push(Node::leaf(at));
                values.push(value(place));
            }
            Listed::Split(split) => {
                let (feature, threshold) = fills.ask(split);
                let node = Node::split(feature, threshold, order.len());
                nodes.push(node.ok_or_else(|| too_large(format!("tree {}", tree.number), NODES_MAX))?);
                values.push(0.0);
                order.extend(tree.children[place]);
            }
        }
        at += 1;
    }
    if order.len() != tree.ids.len() {
        return Err(malformed(read.node, format!("tree {}: a part of it hangs on nothing", tree.number)));
    }
    for at in (0..nodes.len()).rev() {
        if nodes[at] != Node::leaf(at) {
            let left = nodes[at].left();
            values[at] = f64::midpoint(values[left], values[left + 1]);
        }
    }
    Ok((nodes, values))
}
