use super::Segmentation;
use crate::model::calibration::{self, ChosenCalibration};
use crate::model::metrics::{brier, log_loss};
use crate::model::report::{FoldReport, MetricSpread, SegmentReport, Span, Validation};
use crate::model::validation::OutOfFold;
use crate::model::{Fold, Gate, Metrics, ModelError, Ranking, Threshold, top_card_precision};

/// A family's predictions out of fold, calibrated and judged.
pub(super) struct Evaluated {
    pub(super) out: OutOfFold,
    pub(super) calibration: ChosenCalibration,
    /// By the calibration that will be served, so that the threshold means the same there.
    pub(super) probabilities: Vec<f64>,
    pub(super) threshold: f64,
    pub(super) passes: bool,
    pub(super) validation: Validation,
}

/// What is known of all rows of the samples.
pub(super) struct Keys<'a> {
    pub(super) labels: &'a [bool],
    pub(super) times_us: &'a [i64],
    pub(super) cards: Option<&'a [u64]>,
    pub(super) top_cards: usize,
}

const DAY_US: i64 = 86_400_000_000;

impl Keys<'_> {
    /// `probabilities` has one entry for each of `rows`.
    pub(super) fn metrics(&self, rows: &[usize], probabilities: &[f64], threshold: f64) -> Result<Metrics, ModelError> {
        let labels = self.labels(rows);
        let top_cards = self.cards.and_then(|cards| {
            let cards: Vec<u64> = rows.iter().map(|&row| cards[row]).collect();
            let days: Vec<i64> = rows.iter().map(|&row| self.times_us[row].div_euclid(DAY_US)).collect();
            top_card_precision(probabilities, &labels, &cards, &days, self.top_cards)
        });
        Ok(Metrics::of(probabilities, &labels, threshold)?.with_top_cards(top_cards))
    }

    fn labels(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().map(|&row| self.labels[row]).collect()
    }

    fn span(&self, rows: &[usize]) -> Span {
        Span::of(rows, self.labels, self.times_us)
    }
}

/// Calibrates, chooses the threshold, and measures all folds together and each.
pub(super) fn evaluate(out: OutOfFold, folds: &[Fold], keys: &Keys<'_>, gate: &Gate) -> Result<Evaluated, ModelError> {
    let labels = keys.labels(&out.rows);
    let calibration = calibration::choose(&out.scores, &labels, &out.folds)?;
    let probabilities = calibration.calibration.apply_all(&out.scores);
    let chosen = Threshold::choose(&Ranking::new(&probabilities, &labels)?, gate)
        .ok_or(ModelError::Empty { what: "predictions out of fold" })?;
    // Errors of probabilities are those of a calibration that did not see the fold; decisions do not depend on it.
    let measured = |places: std::ops::Range<usize>| -> Result<Metrics, ModelError> {
        let unseen = &calibration.probabilities[places.clone()];
        let metrics = keys.metrics(&out.rows[places.clone()], &probabilities[places.clone()], chosen.score)?;
        let labels = &labels[places];
        Ok(Metrics { brier: brier(unseen, labels), log_loss: log_loss(unseen, labels), ..metrics })
    };
    let mut reports = Vec::with_capacity(folds.len());
    let mut from = 0;
    for fold in folds {
        let to = from + fold.test.len();
        let metrics = measured(from..to)?;
        reports.push(FoldReport { train: keys.span(&fold.train), test: keys.span(&fold.test), metrics });
        from = to;
    }
    let validation =
        Validation { pooled: measured(0..out.rows.len())?, spread: MetricSpread::of(&reports), folds: reports };
    Ok(Evaluated { threshold: chosen.score, passes: chosen.passes, probabilities, validation, calibration, out })
}

/// Segments beyond this number of a dimension, by rows, are left out of the report.
const SEGMENTS_MAX: usize = 50;

/// The quality by segment, the largest of each dimension first.
pub(super) fn segments(
    segmentations: &[Segmentation],
    keys: &Keys<'_>,
    evaluated: &Evaluated,
    (test_rows, test_probabilities): (&[usize], &[f64]),
) -> Result<Vec<SegmentReport>, ModelError> {
    let mut reports = Vec::new();
    for segmentation in segmentations {
        let of_folds = by_code(segmentation, &evaluated.out.rows);
        let of_test = by_code(segmentation, test_rows);
        let mut codes: Vec<usize> = (0..segmentation.values.len()).collect();
        let rows = |code: &usize| of_folds[*code].len() + of_test[*code].len();
        codes.retain(|code| rows(code) > 0);
        codes.sort_by_key(|code| std::cmp::Reverse(rows(code)));
        for code in codes.into_iter().take(SEGMENTS_MAX) {
            let measured = |places: &[usize], rows: &[usize], probabilities: &[f64]| {
                let rows: Vec<usize> = places.iter().map(|&place| rows[place]).collect();
                let probabilities: Vec<f64> = places.iter().map(|&place| probabilities[place]).collect();
                (!rows.is_empty()).then(|| keys.metrics(&rows, &probabilities, evaluated.threshold)).transpose()
            };
            reports.push(SegmentReport {
                dimension: segmentation.dimension.clone(),
                value: segmentation.values[code].clone(),
                out_of_fold: measured(&of_folds[code], &evaluated.out.rows, &evaluated.probabilities)?,
                test: measured(&of_test[code], test_rows, test_probabilities)?,
            });
        }
    }
    Ok(reports)
}

/// The places in `rows` of each value; rows with a code beyond the values belong to none.
fn by_code(segmentation: &Segmentation, rows: &[usize]) -> Vec<Vec<usize>> {
    let mut places = vec![Vec::new(); segmentation.values.len()];
    for (place, &row) in rows.iter().enumerate() {
        if let Some(of_code) = places.get_mut(segmentation.codes[row] as usize) {
            of_code.push(place);
        }
    }
    places
}
