//! A tree while it grows.

use super::bins::{Bins, Column, Cuts};
use super::trees::Node;
use crate::model::ModelError;

/// Nodes in the order of their making: children stand in pairs, after their parent.
#[derive(Debug, Default)]
pub struct Growing {
    nodes: Vec<Node>,
    splits: Vec<Option<Split>>,
    values: Vec<f32>,
    covers: Vec<f64>,
}

/// Rows whose bin is at most `bin` go to the node `left`, the others to the one after it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    feature: usize,
    bin: usize,
    left: usize,
}

impl Growing {
    /// A root that is still a leaf.
    pub fn new(value: f32, cover: f64) -> Self {
        let mut tree = Self::default();
        tree.push(value, cover);
        tree
    }

    /// The two new leaves, left and right, each with its value and the weight of the rows in it.
    ///
    /// # Errors
    /// When the tree grows beyond four million nodes.
    pub fn split(
        &mut self,
        node: usize,
        (feature, bin): (usize, usize),
        cuts: &Cuts,
        children: [(f32, f64); 2],
    ) -> Result<usize, ModelError> {
        let left = self.nodes.len();
        self.nodes[node] = Node::split(feature, cuts.threshold(feature, bin), left).ok_or(ModelError::Parameter {
            family: "tree",
            parameter: "max_depth",
            value: "too deep".to_owned(),
            must_be: "such that a tree stays under 4 million nodes",
        })?;
        self.splits[node] = Some(Split { feature, bin, left });
        for (value, cover) in children {
            self.push(value, cover);
        }
        Ok(left)
    }

    /// The leaf of a row that did not take part in the growing.
    pub fn leaf(&self, bins: &Bins, row: usize) -> usize {
        let mut at = 0;
        while let Some(split) = self.splits[at] {
            at = split.left + usize::from(bins.column(split.feature).at(row) > split.bin);
        }
        at
    }

    pub fn value(&self, node: usize) -> f32 {
        self.values[node]
    }

    /// Nodes and values; inner nodes get the mean of what is below them.
    pub fn finish(mut self) -> (Vec<Node>, Vec<f32>) {
        let mut means: Vec<f64> = self.values.iter().map(|&value| f64::from(value)).collect();
        for node in (0..self.splits.len()).rev() {
            if let Some(Split { left, .. }) = self.splits[node] {
                let (a, b) = (self.covers[left], self.covers[left + 1]);
                let share = if a + b > 0.0 { a / (a + b) } else { 0.5 };
                means[node] = share * means[left] + (1.0 - share) * means[left + 1];
                self.values[node] = means[node] as f32;
            }
        }
        (self.nodes, self.values)
    }

    fn push(&mut self, value: f32, cover: f64) {
        self.nodes.push(Node::leaf(self.nodes.len()));
        self.splits.push(None);
        self.values.push(value);
        self.covers.push(cover);
    }
}

/// Moves the items whose bin is at most `bin` to the front, and keeps the order on both sides. Returns their number.
/// `spare` is at least as long as `items`.
pub fn partition<T: Copy>(
    items: &mut [T],
    spare: &mut [T],
    column: &Column,
    bin: usize,
    row: impl Fn(T) -> usize,
) -> usize {
    match column {
        Column::Narrow(bins) => divide(items, spare, |item| bins[row(item)] as usize <= bin),
        Column::Wide(bins) => divide(items, spare, |item| bins[row(item)] as usize <= bin),
    }
}

/// Without a branch on the answer, which no processor could foresee.
fn divide<T: Copy>(items: &mut [T], spare: &mut [T], is_left: impl Fn(T) -> bool) -> usize {
    let spare = &mut spare[..items.len()];
    let (mut left, mut right) = (0, 0);
    for at in 0..items.len() {
        let item = items[at];
        let goes_left = is_left(item);
        items[left] = item;
        spare[right] = item;
        left += usize::from(goes_left);
        right += usize::from(!goes_left);
    }
    items[left..].copy_from_slice(&spare[..right]);
    left
}
