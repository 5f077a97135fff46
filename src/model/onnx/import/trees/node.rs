//! Nodes as the lists of an operator give them.

use super::super::columns::Feature;
use super::super::{attributes, malformed, refused};
use crate::model::OnnxError;
use crate::model::onnx::proto::NodeProto;

#[derive(Debug, Clone, PartialEq)]
pub enum Listed {
    Leaf,
    Split(Split),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Of the model.
    pub feature: usize,
    /// The greatest number, as it stands in the column, that goes the way of small ones.
    pub threshold: f32,
    /// Whether a missing one goes that way too.
    pub missing_is_low: bool,
    /// The numbers of the nodes for small values and for the others.
    pub children: [i64; 2],
}

impl Listed {
    pub fn split(&self) -> Option<&Split> {
        if let Self::Split(split) = self { Some(split) } else { None }
    }
}

/// The numbers of a tree and of a node in it.
pub type Key = (i64, i64);

pub fn listed(node: &NodeProto, columns: &[Feature]) -> Result<Vec<(Key, Listed)>, OnnxError> {
    let ints = |name| attributes::ints(node, name);
    let (trees, ids) = (ints("nodes_treeids"), ints("nodes_nodeids"));
    let (features, modes) = (ints("nodes_featureids"), attributes::texts(node, "nodes_modes"));
    let (yes, no) = (ints("nodes_truenodeids"), ints("nodes_falsenodeids"));
    let tracks = ints("nodes_missing_value_tracks_true");
    let values = attributes::numbers(node, "nodes_values")?;
    let count = trees.len();
    let lengths = [ids.len(), features.len(), modes.len(), yes.len(), no.len(), values.len()];
    if lengths.iter().any(|length| *length != count) || !(tracks.is_empty() || tracks.len() == count) {
        return Err(malformed(node, "its lists of nodes are not of one length"));
    }
    (0..count)
        .map(|at| {
            let listed = match modes[at] {
                "LEAF" => Listed::Leaf,
                mode => {
                    let mode = Mode::of(mode).ok_or_else(|| refused(node, &format!(": it has nodes of {mode}")))?;
                    let feature = usize::try_from(features[at]).ok().filter(|feature| *feature < columns.len());
                    let feature = feature.ok_or_else(|| malformed(node, "a node asks a feature that is not there"))?;
                    if values[at].is_nan() {
                        return Err(malformed(node, "the threshold of a node is no number"));
                    }
                    let missing_is_yes = tracks.get(at).is_some_and(|track| *track != 0);
                    let small_is_yes = mode.small_is_yes();
                    Listed::Split(Split {
                        feature,
                        threshold: greatest(|x| {
                            mode.is_yes(f64::from(columns[feature].value(x)), values[at]) == small_is_yes
                        }),
                        missing_is_low: missing_is_yes == small_is_yes,
                        children: if small_is_yes { [yes[at], no[at]] } else { [no[at], yes[at]] },
                    })
                }
            };
            Ok(((trees[at], ids[at]), listed))
        })
        .collect()
}

/// How a node asks.
#[derive(Debug, Clone, Copy)]
enum Mode {
    AtMost,
    Below,
    AtLeast,
    Above,
}

impl Mode {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "BRANCH_LEQ" => Self::AtMost,
            "BRANCH_LT" => Self::Below,
            "BRANCH_GTE" => Self::AtLeast,
            "BRANCH_GT" => Self::Above,
            _ => return None,
        })
    }

    fn is_yes(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::AtMost => value <= threshold,
            Self::Below => value < threshold,
            Self::AtLeast => value >= threshold,
            Self::Above => value > threshold,
        }
    }

    const fn small_is_yes(self) -> bool {
        matches!(self, Self::AtMost | Self::Below)
    }
}

/// The greatest finite float that `is_low`, which holds up to some number and for none above it; the least float of all
/// when it holds for none. Found by halving, so that it is exact whatever rounding stands between: a threshold of double
/// precision, a Scaler, `<` in the place of `<=`.
fn greatest(is_low: impl Fn(f32) -> bool) -> f32 {
    let (mut low, mut high) = (place(f32::MIN), place(f32::MAX));
    if is_low(f32::MAX) {
        return f32::MAX;
    }
    // It holds at `low`, or nowhere; not at `high`.
    while i64::from(high) - i64::from(low) > 1 {
        let middle = i32::midpoint(low, high);
        if is_low(at(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(low)
}

/// The place of a finite float among all, in their order.
const fn place(x: f32) -> i32 {
    let bits = x.to_bits().cast_signed();
    if bits < 0 { i32::MIN - bits } else { bits }
}

const fn at(place: i32) -> f32 {
    f32::from_bits(if place < 0 { i32::MIN - place } else { place }.cast_unsigned())
}
