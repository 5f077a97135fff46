//! A linear model: one weight per feature, for features that a Scaler may have centred.

use super::columns::Feature;
use super::{Read, attributes, malformed, meaning};
use crate::model::logistic::Scaler;
use crate::model::onnx::proto::NodeProto;
use crate::model::table::{Encoding, FeatureColumn, FeatureKind};
use crate::model::{Logistic, Model, OnnxError};

pub fn read(read: &Read<'_>) -> Result<(Model, Encoding, &'static str), OnnxError> {
    let node = read.node;
    let width = read.columns.len();
    let (weights, intercept) = row_of_positives(read, width)?;
    let (mut centres, mut factors) = (Vec::with_capacity(width), Vec::with_capacity(width));
    for feature in read.columns {
        let (centre, factor) = combined(feature);
        centres.push(centre);
        factors.push(factor);
    }
    // Beyond this no line was ever fitted, and a sum of such terms is no number.
    let is_wild = |value: &f64| value.is_nan() || value.abs() > 1e30;
    if centres.iter().chain(&factors).chain(&weights).chain([&intercept]).any(is_wild)
        || factors.iter().zip(&weights).any(|(factor, weight)| is_wild(&(factor * weight)))
    {
        return Err(malformed(node, "a coefficient, or what its feature is scaled by, is beyond all bounds"));
    }
    let scaled = read.columns.iter().any(|feature| !feature.steps.is_empty());
    let imputed = read.columns.iter().any(|feature| feature.fill.is_some());
    let columns = read.columns.iter().zip(&centres).map(|(feature, centre)| {
        let column = read.names[feature.column].clone();
        // Without a word on missing ones, the mean that the Scaler knows adds nothing to the log-odds.
        let missing = feature.fill.unwrap_or(*centre as f32);
        let kind = if (read.is_boolean)(&column) { FeatureKind::Boolean } else { FeatureKind::Number { missing } };
        FeatureColumn { column, kind, tells_missing: false }
    });
    let encoding = Encoding { columns: columns.collect() };
    let line = Logistic::of(Scaler::of(centres, factors), intercept, weights)
        .map_err(|error| malformed(node, error.to_string()))?;
    let missing = match (imputed, scaled) {
        (true, _) => "what its Imputer says",
        (false, true) => "the mean of its Scaler, since the file says nothing of missing ones",
        (false, false) => "0, since the file says nothing of missing ones",
    };
    Ok((Model::Logistic(line), encoding, missing))
}

/// All steps of a feature in one: x ↦ (x - centre) · factor.
fn combined(feature: &Feature) -> (f64, f64) {
    feature.steps.iter().fold((0.0, 1.0), |(centre, factor), &(offset, scale)| {
        (centre + f64::from(offset) / factor, factor * f64::from(scale))
    })
}

/// Weights and intercept of the log-odds of the second class.
fn row_of_positives(read: &Read<'_>, width: usize) -> Result<(Vec<f64>, f64), OnnxError> {
    let node = read.node;
    let (coefficients, intercepts) =
        (attributes::numbers(node, "coefficients")?, attributes::numbers(node, "intercepts")?);
    let classes = super::trees::classes(node)?;
    let rows: Vec<&[f64]> = coefficients.chunks(width.max(1)).collect();
    let is_whole = coefficients.len() == width * rows.len() && intercepts.len() == rows.len();
    if classes != 2 || !(1..=2).contains(&rows.len()) || !is_whole {
        let found = format!("{} coefficients and {} intercepts", coefficients.len(), intercepts.len());
        return Err(malformed(node, format!("{found} for {classes} classes and {width} features")));
    }
    let (weights, intercept) = (rows[rows.len() - 1].to_vec(), intercepts[rows.len() - 1]);
    match (post_transform(node), rows.len()) {
        ("LOGISTIC", 1) => Ok((weights, intercept)),
        // Divided by their sum, the scores of both are what they were only where they are one already.
        ("LOGISTIC", _) if !read.flow.normalised || is_mirrored(&rows, &intercepts) => Ok((weights, intercept)),
        ("LOGISTIC", _) => Err(meaning(node, "two classes that were learned apart, one against the rest, are no line")),
        ("SOFTMAX", 2) => {
            let of_positives = weights.iter().zip(rows[0]).map(|(one, other)| one - other).collect();
            Ok((of_positives, intercept - intercepts[0]))
        }
        (other, _) => Err(meaning(
            node,
            format!(
                "with post_transform {other} it gives scores, not probabilities: export one that has predict_proba"
            ),
        )),
    }
}

#[allow(clippy::float_cmp, reason = "exporters negate the very same number")]
fn is_mirrored(rows: &[&[f64]], intercepts: &[f64]) -> bool {
    rows[0].iter().zip(rows[1]).all(|(one, other)| *one == -*other) && intercepts[0] == -intercepts[1]
}

fn post_transform(node: &NodeProto) -> &str {
    attributes::text(node, "post_transform").unwrap_or("NONE")
}
