use ndarray::{Array2, ArrayView1, ArrayView2, ShapeBuilder};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::ModelError;

/// What is done to a feature before it is centred and divided by its standard deviation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Nothing.
    Standard,
    /// x ↦ sign(x) ln(1 + |x|): amounts and counts have long tails that a line cannot follow.
    #[default]
    SignedLog,
}

/// Makes features comparable: mean 0 and standard deviation 1 on the rows that it was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Scaler {
    scaling: Scaling,
    centres: Vec<f64>,
    /// One over the standard deviation; 0 for a feature that does not vary, which then says nothing.
    factors: Vec<f64>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    scaling: Scaling,
    centres: Vec<f64>,
    factors: Vec<f64>,
}

impl Scaler {
    /// And the scaled rows, column by column in memory.
    pub(super) fn fit(records: ArrayView2<'_, f32>, scaling: Scaling) -> Result<(Self, Array2<f64>), ModelError> {
        let (rows, width) = records.dim();
        let mut values = vec![0.0; rows * width];
        let (centres, factors) = values
            .par_chunks_mut(rows.max(1))
            .enumerate()
            .map(|(feature, column)| fit_column(column, records.column(feature), scaling))
            .unzip();
        let scaled = Array2::from_shape_vec((rows, width).f(), values)
            .map_err(|error| ModelError::Linfa { reason: error.to_string() })?;
        Ok((Self { scaling, centres, factors }, scaled))
    }

    #[must_use]
    pub fn width(&self) -> usize {
        self.centres.len()
    }

    #[must_use]
    pub const fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// What is taken off each feature.
    #[must_use]
    pub fn centres(&self) -> &[f64] {
        &self.centres
    }

    /// What each feature is multiplied by then.
    #[must_use]
    pub fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// One that takes features as they are, but for a centre and a factor.
    pub(in crate::model) const fn of(centres: Vec<f64>, factors: Vec<f64>) -> Self {
        Self { scaling: Scaling::Standard, centres, factors }
    }

    /// The scaled value of a feature, by its number.
    #[must_use]
    pub fn scale(&self, feature: usize, x: f32) -> f64 {
        (self.scaling.of(x) - self.centres[feature]) * self.factors[feature]
    }
}

/// Fills `to` and returns the centre and the factor.
fn fit_column(to: &mut [f64], from: ArrayView1<'_, f32>, scaling: Scaling) -> (f64, f64) {
    let rows = to.len().max(1) as f64;
    to.iter_mut().zip(from).for_each(|(to, &x)| *to = scaling.of(x));
    let centre = to.iter().sum::<f64>() / rows;
    let deviation = (to.iter().map(|x| (x - centre) * (x - centre)).sum::<f64>() / rows).sqrt();
    // Rounding leaves a trace of variance in a constant column.
    let factor = if deviation > 1e-9 * (1.0 + centre.abs()) { deviation.recip() } else { 0.0 };
    to.iter_mut().for_each(|x| *x = (*x - centre) * factor);
    (centre, factor)
}

impl Scaling {
    fn of(self, x: f32) -> f64 {
        let x = f64::from(x);
        match self {
            Self::Standard => x,
            Self::SignedLog => x.abs().ln_1p().copysign(x),
        }
    }
}

impl TryFrom<Stored> for Scaler {
    type Error = ModelError;

    fn try_from(stored: Stored) -> Result<Self, ModelError> {
        let Stored { scaling, centres, factors } = stored;
        if centres.len() != factors.len() || !centres.iter().chain(&factors).all(|value| value.is_finite()) {
            return Err(ModelError::Artifact {
                reason: "a scaler needs a finite centre and factor per feature".to_owned(),
            });
        }
        Ok(Self { scaling, centres, factors })
    }
}

impl From<Scaler> for Stored {
    fn from(scaler: Scaler) -> Self {
        Self { scaling: scaler.scaling, centres: scaler.centres, factors: scaler.factors }
    }
}
