use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::sigmoid;

/// Finishes a fit by Newton's method on all rows, from a start that is near.
///
/// The loss is Σ -ln p(label) + l2 / 2 · Σ weight². The last entry of the line is the intercept, without a penalty.
pub(super) struct Newton<'a> {
    pub(super) rows: ArrayView2<'a, f64>,
    pub(super) labels: &'a [bool],
    pub(super) l2: f64,
}

/// Small enough for the cache, large enough for products of matrices to be fast. Sums are taken block by block in their
/// order, so that the number of threads changes no bit.
const BLOCK_ROWS: usize = 2048;
/// Each step doubles the digits; more than a handful means that the start was far.
const STEPS_MAX: usize = 25;

/// The loss and its derivatives at some line.
struct Derivatives {
    loss: f64,
    gradient: Array1<f64>,
    curvature: Array2<f64>,
}

impl Newton<'_> {
    /// Stops when a step would lower the mean loss by less than `tolerance`.
    pub(super) fn finish(&self, start: Array1<f64>, tolerance: f64) -> Array1<f64> {
        let enough = tolerance * self.labels.len() as f64;
        let mut line = start;
        let mut here = self.derivatives(&line);
        for _ in 0..STEPS_MAX {
            let Some(step) = solve(here.curvature.clone(), &here.gradient) else { break };
            // Half of it is what the step gains where the loss is a parabola.
            let expected = step.dot(&here.gradient);
            if expected.is_nan() || expected <= enough {
                break;
            }
            let tried = (0..10).map(|halvings| &line - &(&step * 0.5_f64.powi(halvings)));
            let better = tried.map(|next| (self.derivatives(&next), next)).find(|(there, _)| there.loss < here.loss);
            let Some((there, next)) = better else { break };
            (here, line) = (there, next);
        }
        line
    }

    fn derivatives(&self, line: &Array1<f64>) -> Derivatives {
        let width = self.rows.ncols();
        let blocks: Vec<usize> = (0..self.labels.len()).step_by(BLOCK_ROWS).collect();
        let parts: Vec<Derivatives> = blocks.into_par_iter().map(|from| self.block(from, line)).collect();
        let mut sum = Derivatives {
            loss: 0.0,
            gradient: Array1::zeros(width + 1),
            curvature: Array2::zeros((width + 1, width + 1)),
        };
        for part in parts {
            sum.loss += part.loss;
            sum.gradient += &part.gradient;
            sum.curvature += &part.curvature;
        }
        for feature in 0..width {
            sum.loss += 0.5 * self.l2 * line[feature] * line[feature];
            sum.gradient[feature] += self.l2 * line[feature];
            sum.curvature[[feature, feature]] += self.l2;
        }
        sum
    }

    fn block(&self, from: usize, line: &Array1<f64>) -> Derivatives {
        let width = self.rows.ncols();
        let to = self.labels.len().min(from + BLOCK_ROWS);
        let rows = self.rows.slice(s![from..to, ..]);
        let mut loss = 0.0;
        let mut z = Array1::from_elem(to - from, line[width]);
        for (column, &weight) in rows.axis_iter(Axis(1)).zip(line) {
            z.scaled_add(weight, &column);
        }
        let mut residuals = z.clone();
        let mut weights = z;
        for ((residual, weight), &label) in residuals.iter_mut().zip(&mut weights).zip(&self.labels[from..to]) {
            let z = *residual;
            let p = sigmoid(z);
            // ln(1 + e^z) - label z, without overflow.
            loss += z.max(0.0) + (-z.abs()).exp().ln_1p() - if label { z } else { 0.0 };
            *residual = p - f64::from(u8::from(label));
            *weight = p * (1.0 - p);
        }
        let mut weighted = rows.to_owned();
        weighted.axis_iter_mut(Axis(1)).for_each(|mut column| column *= &weights);
        let mut gradient = Array1::from_elem(width + 1, residuals.sum());
        let mut curvature = Array2::from_elem((width + 1, width + 1), weights.sum());
        for (feature, column) in rows.axis_iter(Axis(1)).enumerate() {
            gradient[feature] = column.dot(&residuals);
            let with_intercept = column.dot(&weights);
            curvature[[feature, width]] = with_intercept;
            curvature[[width, feature]] = with_intercept;
        }
        curvature.slice_mut(s![..width, ..width]).assign(&rows.t().dot(&weighted));
        Derivatives { loss, gradient, curvature }
    }
}

/// A x = b for a symmetric positive A, by Cholesky's decomposition; None when A is not positive.
fn solve(mut a: Array2<f64>, b: &Array1<f64>) -> Option<Array1<f64>> {
    let n = b.len();
    // A feature that does not vary has no curvature; it has no gradient either, and stays where it is.
    let ridge = 1e-12 * (0..n).map(|i| a[[i, i]]).fold(f64::MIN_POSITIVE, f64::max);
    for i in 0..n {
        a[[i, i]] += ridge;
        for j in 0..=i {
            let sum = a[[i, j]] - (0..j).map(|k| a[[i, k]] * a[[j, k]]).sum::<f64>();
            if i == j {
                if sum.is_nan() || sum <= 0.0 {
                    return None;
                }
                a[[i, i]] = sum.sqrt();
            } else {
                a[[i, j]] = sum / a[[j, j]];
            }
        }
    }
    let mut x = b.clone();
    for i in 0..n {
        let sum = x[i] - (0..i).map(|k| a[[i, k]] * x[k]).sum::<f64>();
        x[i] = sum / a[[i, i]];
    }
    for i in (0..n).rev() {
        let sum = x[i] - (i + 1..n).map(|k| a[[k, i]] * x[k]).sum::<f64>();
        x[i] = sum / a[[i, i]];
    }
    x.iter().all(|value| value.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use ndarray::{arr1, arr2};

    use super::*;

    #[test]
    fn equations_are_solved_by_hand() {
        // 4x + 2y = 10, 2x + 3y = 11: x = 1, y = 3.
        let x = solve(arr2(&[[4.0, 2.0], [2.0, 3.0]]), &arr1(&[10.0, 11.0])).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-9 && (x[1] - 3.0).abs() < 1e-9, "{x}");
        assert_eq!(solve(arr2(&[[1.0, 2.0], [2.0, 1.0]]), &arr1(&[1.0, 1.0])), None);
    }

    #[test]
    fn one_feature_of_two_values_has_the_log_odds_of_each() {
        // At 0: 1 of 4 is positive, at 1: 3 of 4. Intercept ln(1/3), weight ln(3) - ln(1/3).
        let rows = arr2(&[[0.0], [0.0], [0.0], [0.0], [1.0], [1.0], [1.0], [1.0]]);
        let labels = [true, false, false, false, true, true, true, false];
        let newton = Newton { rows: rows.view(), labels: &labels, l2: 0.0 };
        let line = newton.finish(arr1(&[0.0, 0.0]), 1e-14);
        assert!((line[1] - (1.0_f64 / 3.0).ln()).abs() < 1e-6 && (line[0] - 9.0_f64.ln()).abs() < 1e-6, "{line}");
        // With a penalty the gradient of the loss is held by it: Σ (p - label) x + l2 w = 0.
        let line = Newton { l2: 2.0, ..newton }.finish(arr1(&[0.0, 0.0]), 1e-14);
        let slope = 4.0 * sigmoid(line[0] + line[1]) - 3.0 + 2.0 * line[0];
        assert!(slope.abs() < 1e-6, "{line} {slope}");
    }
}
