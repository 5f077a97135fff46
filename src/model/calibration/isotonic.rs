use serde::{Deserialize, Serialize};

/// Straight lines between the centres of blocks of scores, each with its observed share of positives.
///
/// The blocks are those of the increasing step function that fits best (pool adjacent violators). Lines in place of
/// steps keep rows apart that the model told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Knots", into = "Knots")]
pub struct Isotonic {
    /// Strictly increasing, from 0 to 1.
    scores: Vec<f64>,
    /// Strictly increasing, one per score.
    probabilities: Vec<f64>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Knots {
    scores: Vec<f64>,
    probabilities: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Block {
    rows: f64,
    positives: f64,
    scores: f64,
}

impl Block {
    fn share(&self) -> f64 {
        self.positives / self.rows
    }

    /// The share, kept half a row away from 0 and 1.
    fn share_within(&self) -> f64 {
        self.positives.clamp(0.5, (self.rows - 0.5).max(0.5)) / self.rows.max(1.0)
    }

    fn with(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            positives: self.positives + other.positives,
            scores: self.scores + other.scores,
        }
    }
}

impl Isotonic {
    pub(super) fn fit(scores: &[f64], labels: &[bool]) -> Self {
        let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
        rows.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
        let mut blocks: Vec<Block> = Vec::new();
        #[allow(clippy::float_cmp, reason = "only the same number is a tie")]
        for tied in rows.chunk_by(|(one, _), (other, _)| one == other) {
            let count = tied.len() as f64;
            let positives = tied.iter().filter(|(_, label)| *label).count() as f64;
            let mut block = Block { rows: count, positives, scores: count * tied[0].0 };
            while let Some(below) = blocks.pop_if(|below| below.share() >= block.share()) {
                block = below.with(block);
            }
            blocks.push(block);
        }
        Self::through(&blocks)
    }

    /// The lowest block may hold no positives and the highest no negatives; each gets half a row of them, since nothing
    /// is impossible for not having been seen.
    fn through(blocks: &[Block]) -> Self {
        let mut knots: Vec<(f64, f64)> =
            blocks.iter().map(|block| (block.scores / block.rows, block.share_within())).collect();
        if let [first, second, ..] = knots.as_mut_slice() {
            first.1 = first.1.min(second.1 / 2.0);
        }
        if let [.., previous, last] = knots.as_mut_slice() {
            let highest = blocks.last().filter(|block| block.positives >= block.rows);
            last.1 = highest.map_or(last.1, |_| last.1.max(f64::midpoint(previous.1, 1.0)));
        }
        let (lowest, highest) = (knots[0], knots[knots.len() - 1]);
        if lowest.0 > 0.0 {
            knots.insert(0, (0.0, lowest.1 / 2.0));
        }
        if highest.0 < 1.0 {
            knots.push((1.0, f64::midpoint(highest.1, 1.0)));
        }
        // Centres of neighbouring blocks can round to the same number.
        knots.dedup_by(|next, kept| next.0 <= kept.0 || next.1 <= kept.1);
        let (scores, probabilities) = knots.into_iter().unzip();
        Self { scores, probabilities }
    }

    /// Scores and their probabilities, both rising; between two of them the line is straight.
    #[must_use]
    pub fn knots(&self) -> (&[f64], &[f64]) {
        (&self.scores, &self.probabilities)
    }

    pub(super) fn apply(&self, score: f64) -> f64 {
        let above = self.scores.partition_point(|&knot| knot <= score);
        if above == 0 {
            return self.probabilities[0];
        }
        let below = above - 1;
        let Some(&next) = self.scores.get(above) else { return self.probabilities[below] };
        let share = (score - self.scores[below]) / (next - self.scores[below]);
        self.probabilities[below] + share * (self.probabilities[above] - self.probabilities[below])
    }
}

impl TryFrom<Knots> for Isotonic {
    type Error = &'static str;

    fn try_from(knots: Knots) -> Result<Self, Self::Error> {
        let rises = |values: &[f64]| values.windows(2).all(|pair| pair[0] < pair[1]);
        let within = |values: &[f64]| values.iter().all(|value| (0.0..=1.0).contains(value));
        if knots.scores.is_empty() || knots.scores.len() != knots.probabilities.len() {
            return Err("the knots of a calibration must be as many scores as probabilities, and some");
        }
        if !rises(&knots.scores) || !rises(&knots.probabilities) || !within(&knots.probabilities) {
            return Err("the knots of a calibration must rise, within 0 and 1");
        }
        Ok(Self { scores: knots.scores, probabilities: knots.probabilities })
    }
}

impl From<Isotonic> for Knots {
    fn from(isotonic: Isotonic) -> Self {
        Self { scores: isotonic.scores, probabilities: isotonic.probabilities }
    }
}
