use serde::{Deserialize, Serialize};

/// A straight line in log-odds: p ↦ σ(slope · ln(p / (1 - p)) + shift).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platt {
    /// Above 0.
    slope: f64,
    shift: f64,
}

/// Newton's method doubles the digits each step; from a fair start it needs 5 to 10.
const STEPS_MAX: usize = 50;
/// Scores of exactly 0 or 1 have no finite log-odds.
pub const EDGE: f64 = 1e-9;

impl Platt {
    /// By the greatest likelihood, with Platt's soft targets so that separable scores stay finite. None when the line
    /// would not rise (scores that tell nothing, or the contrary), or one class is absent.
    pub(super) fn fit(scores: &[f64], labels: &[bool]) -> Option<Self> {
        let positives = labels.iter().filter(|&&label| label).count() as f64;
        let negatives = labels.len() as f64 - positives;
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let targets = [1.0 / (negatives + 2.0), (positives + 1.0) / (positives + 2.0)];
        let rows: Vec<(f64, f64)> =
            scores.iter().zip(labels).map(|(&score, &label)| (log_odds(score), targets[usize::from(label)])).collect();
        let mut line = Self { slope: 1.0, shift: 0.0 };
        let mut loss = line.loss(&rows);
        for _ in 0..STEPS_MAX {
            let Some((slope, shift)) = line.newton(&rows) else { break };
            let mut share = 1.0;
            let next = loop {
                let next = Self { slope: line.slope - share * slope, shift: line.shift - share * shift };
                if next.loss(&rows) <= loss {
                    break Some(next);
                }
                share /= 2.0;
                if share < 1e-6 {
                    break None;
                }
            };
            let Some(next) = next else { break };
            let gained = loss - next.loss(&rows);
            (line, loss) = (next, loss - gained);
            if gained <= 1e-12 * loss {
                break;
            }
        }
        (line.slope > 0.0 && line.slope.is_finite() && line.shift.is_finite()).then_some(line)
    }

    /// Slope and shift.
    #[must_use]
    pub const fn line(&self) -> (f64, f64) {
        (self.slope, self.shift)
    }

    pub(super) fn apply(&self, score: f64) -> f64 {
        sigmoid(self.slope * log_odds(score) + self.shift)
    }

    fn loss(&self, rows: &[(f64, f64)]) -> f64 {
        rows.iter()
            .map(|&(x, target)| {
                let z = self.slope * x + self.shift;
                // ln(1 + e^z) - target z, without overflow.
                z.max(0.0) + (-z.abs()).exp().ln_1p() - target * z
            })
            .sum()
    }

    /// The step by the inverse of the second derivatives; None when they are singular.
    fn newton(&self, rows: &[(f64, f64)]) -> Option<(f64, f64)> {
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(x, target) in rows {
            let p = sigmoid(self.slope * x + self.shift);
            let (gradient, weight) = (p - target, p * (1.0 - p));
            g0 += gradient * x;
            g1 += gradient;
            h00 += weight * x * x;
            h01 += weight * x;
            h11 += weight;
        }
        let determinant = h00 * h11 - h01 * h01;
        (determinant > 1e-12 * h00 * h11)
            .then(|| ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant))
    }
}

fn log_odds(score: f64) -> f64 {
    let p = score.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}
