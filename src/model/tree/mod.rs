//! The tree core that the forest and the booster share: bins, splits, and flat trees to predict with.

mod bins;
mod growing;
mod stored;
#[cfg(test)]
pub(super) mod testing;
mod trees;

use ndarray::{ArrayView1, ArrayView2};

use super::ModelError;
pub(super) use bins::{BinSettings, Bins, Column, Cuts};
pub(super) use growing::{Growing, partition};
pub(super) use trees::{FEATURES_MAX, NODES_MAX, Node, Trees};

/// What every family of trees asks of its training rows.
pub(super) fn check_training(records: ArrayView2<'_, f32>, labels: ArrayView1<'_, bool>) -> Result<(), ModelError> {
    /// Rows are numbered in 32 bits, and sums over them must fit as well.
    const ROWS_MAX: usize = 1 << 30;
    let (rows, width) = records.dim();
    if labels.len() != rows {
        return Err(ModelError::Length { what: "the column of labels", expected: rows, found: labels.len() });
    }
    if rows == 0 || width == 0 {
        return Err(ModelError::Empty { what: if rows == 0 { "rows" } else { "features" } });
    }
    if rows > ROWS_MAX || width > trees::FEATURES_MAX {
        return Err(ModelError::TooLarge {
            rows,
            features: width,
            rows_max: ROWS_MAX,
            features_max: trees::FEATURES_MAX,
        });
    }
    for (feature, column) in records.columns().into_iter().enumerate() {
        if let Some((row, &value)) = column.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(ModelError::NotFinite { feature: format!("number {feature}"), row, value });
        }
    }
    match labels.iter().filter(|&&label| label).count() {
        positives if positives == 0 || positives == rows => {
            Err(ModelError::OneClass { rows, label: positives == rows })
        }
        _ => Ok(()),
    }
}
