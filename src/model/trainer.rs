//! From labelled rows to the best model of several families, and to a verdict on it.

mod evaluation;

use serde::{Deserialize, Serialize};

use super::calibration::Calibrated;
use super::folds::{newest, stratified};
use super::inspection::{FoldRole, GateMetric, inspect};
use super::report::{ChampionReport, DataSummary, FamilyReport, Span, TrainReport, Verdict};
use super::search::{Found, SearchSettings, search};
use super::validation::{OutOfFold, out_of_fold};
use super::{
    Classifier, Contributions, Curves, FamilyName, Fold, Gate, ImportanceSettings, InspectionSettings, Model,
    ModelError, Refusal, Samples, Scale, TimeFolds, permutation_importance,
};
use evaluation::{Evaluated, Keys, evaluate, segments};

/// How to train; the default suits a weekly run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Families that compete.
    pub families: Vec<FamilyName>,
    /// The share of the rows, the newest, that is tested once at the end.
    pub test_share: f64,
    /// How long a label takes to arrive, in hours: a gap of this length is kept before every test.
    pub label_delay_hours: u32,
    pub folds: TimeFolds,
    /// Folds drawn by chance, reported beside; 0 leaves them out.
    pub stratified_folds: usize,
    pub gate: Gate,
    pub inspection: InspectionSettings,
    pub search: SearchSettings,
    pub importance: ImportanceSettings,
    /// Cards that can be looked into each day.
    pub top_cards: usize,
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            families: FamilyName::ALL.to_vec(),
            test_share: 0.15,
            label_delay_hours: 7 * 24,
            folds: TimeFolds::default(),
            stratified_folds: 0,
            gate: Gate::default(),
            inspection: InspectionSettings::default(),
            search: SearchSettings::default(),
            importance: ImportanceSettings::default(),
            top_cards: 100,
            seed: 0,
        }
    }
}

/// Labelled rows and what they are grouped by.
#[derive(Debug, Clone, Copy)]
pub struct TrainData<'a> {
    pub samples: &'a Samples,
    /// A key of the card (or user) of each row, for the precision among the top cards of a day.
    pub cards: Option<&'a [u64]>,
    pub segments: &'a [Segmentation],
}

/// Which value of a dimension each row has, for instance its country.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segmentation {
    pub dimension: String,
    pub values: Vec<String>,
    /// One per row: the place of its value in `values`.
    pub codes: Vec<u32>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub family: Option<FamilyName>,
    pub done: usize,
    pub of: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Inspect,
    Search,
    FoldsInTime,
    StratifiedFolds,
    LastFit,
    Importance,
}

/// A model ready to serve: its probabilities are calibrated, and fraud is what reaches the threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedModel {
    pub features: Vec<String>,
    pub threshold: f64,
    pub calibrated: Calibrated<Model>,
}

impl Classifier for TrainedModel {
    fn width(&self) -> usize {
        self.calibrated.width()
    }

    fn probability(&self, row: &[f32]) -> f64 {
        self.calibrated.probability(row)
    }

    fn probabilities(&self, records: ndarray::ArrayView2<'_, f32>) -> ndarray::Array1<f64> {
        self.calibrated.probabilities(records)
    }

    fn contributions(&self, row: &[f32]) -> Contributions {
        self.calibrated.contributions(row)
    }

    fn contributions_of(&self, rows: &[f32]) -> Vec<Contributions> {
        self.calibrated.contributions_of(rows)
    }

    fn scale(&self) -> Scale {
        self.calibrated.scale()
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    pub report: TrainReport,
    /// The best model, also when the gate refused it; absent when the samples were refused.
    pub model: Option<TrainedModel>,
    /// What it says of all rows that came after those it learned from, labels or not yet: the test, and the gap before it.
    /// Empty without a model.
    pub unseen: Vec<f64>,
}

/// Trains all families, chooses among them on predictions out of fold in time, and tests the best one once.
///
/// A family that passes the gate comes before one that does not, then the better F1 counts, then the order of
/// `families`. The same data and settings give the same bits, whatever the number of threads.
///
/// # Errors
/// When lengths or settings are wrong, the rows span too little time for the folds and gaps, or a fit fails. Samples
/// and models that are not good enough are no error, but a [`Verdict::Refused`].
pub fn train(
    settings: &TrainSettings,
    data: &TrainData<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Trained, ModelError> {
    let run = Run::new(settings, data, progress)?;
    progress(Progress { stage: Stage::Inspect, family: None, done: 0, of: 1 });
    let found = inspect(&data.samples.select(&run.split.train)?, &settings.inspection);
    let mut report = TrainReport {
        settings: settings.clone(),
        data: run.summary(),
        suspicions: found.suspicions,
        families: Vec::new(),
        champion: None,
        verdict: Verdict::Passed,
    };
    let refusals: Vec<Refusal> = found.refusals.into_iter().chain(run.one_class_folds()).collect();
    if !refusals.is_empty() {
        report.verdict = Verdict::of(refusals);
        return Ok(Trained { report, model: None, unseen: Vec::new() });
    }
    let competed = search(&settings.families, data.samples, &run.folds[0], &settings.search, settings.seed, progress)
        .and_then(|founds| run.compete(&founds, &mut report).map(|evaluated| (founds, evaluated)));
    let (founds, evaluated) = match competed {
        Err(ModelError::OneClass { rows, label }) => {
            report.verdict = Verdict::of(vec![Refusal::OneClassPart { rows, label }]);
            return Ok(Trained { report, model: None, unseen: Vec::new() });
        }
        competed => competed?,
    };
    let best = best(&report.families).ok_or(ModelError::Empty { what: "families" })?;
    let family = &report.families[best];
    report.verdict = Verdict::of(gate_refusals(&settings.gate, &family.in_time.pooled));
    let (model, unseen) = run.finish(&founds[best], &evaluated[best], &mut report)?;
    Ok(Trained { report, model: Some(model), unseen })
}

/// What stays the same through a run.
struct Run<'a> {
    settings: &'a TrainSettings,
    data: &'a TrainData<'a>,
    progress: &'a (dyn Fn(Progress) + Sync),
    labels: Vec<bool>,
    /// Development rows, in the order of time, and test rows.
    split: Fold,
    /// Within the development rows.
    folds: Vec<Fold>,
}

impl<'a> Run<'a> {
    fn new(
        settings: &'a TrainSettings,
        data: &'a TrainData<'a>,
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, ModelError> {
        let samples = data.samples;
        let length = |what, found| {
            let expected = samples.rows();
            if found == expected { Ok(()) } else { Err(ModelError::Length { what, expected, found }) }
        };
        length("the card keys", data.cards.map_or(samples.rows(), <[u64]>::len))?;
        for segmentation in data.segments {
            length("the codes of a segmentation", segmentation.codes.len())?;
        }
        if settings.families.is_empty() {
            return Err(ModelError::Empty { what: "families" });
        }
        let gap_us = i64::from(settings.label_delay_hours) * 3_600_000_000;
        let split = newest(samples.times_us(), gap_us, settings.test_share)?;
        let times: Vec<i64> = split.train.iter().map(|&row| samples.times_us()[row]).collect();
        let folds = global(settings.folds.split(&times, gap_us)?, &split.train);
        Ok(Self { settings, data, progress, labels: samples.labels().to_vec(), split, folds })
    }

    fn summary(&self) -> DataSummary {
        DataSummary {
            features: self.data.samples.features().to_vec(),
            development: self.span(&self.split.train),
            test: self.span(&self.split.test),
        }
    }

    /// Rows that came after all that are learned from.
    fn after_development(&self) -> Vec<usize> {
        let times = self.data.samples.times_us();
        let last = self.split.train.iter().map(|&row| times[row]).max();
        (0..times.len()).filter(|&row| last.is_none_or(|last| times[row] > last)).collect()
    }

    fn span(&self, rows: &[usize]) -> Span {
        Span::of(rows, &self.labels, self.data.samples.times_us())
    }

    fn one_class_folds(&self) -> Vec<Refusal> {
        let one_class = |rows: &[usize]| rows.iter().all(|&row| self.labels[row] == self.labels[rows[0]]);
        let sides =
            self.folds.iter().enumerate().flat_map(|(fold, rows)| {
                [(fold, FoldRole::LearnFrom, &rows.train), (fold, FoldRole::TestOn, &rows.test)]
            });
        sides
            .filter(|(_, _, rows)| one_class(rows))
            .map(|(fold, role, _)| Refusal::OneClassFold { fold, role })
            .collect()
    }

    fn keys(&self) -> Keys<'_> {
        Keys {
            labels: &self.labels,
            times_us: self.data.samples.times_us(),
            cards: self.data.cards,
            top_cards: self.settings.top_cards,
        }
    }

    /// Fills the report's families, in the order of `founds`.
    fn compete(&self, founds: &[Found], report: &mut TrainReport) -> Result<Vec<Evaluated>, ModelError> {
        let samples = self.data.samples;
        let families: Vec<_> = founds.iter().map(|found| found.family.clone()).collect();
        let validate = |folds: &[Fold], stage| -> Result<Vec<Evaluated>, ModelError> {
            let predicted = out_of_fold(&families, samples, folds, self.progress, stage)?;
            let evaluate = |out: OutOfFold| evaluate(out, folds, &self.keys(), &self.settings.gate);
            predicted.into_iter().map(evaluate).collect()
        };
        let in_time = validate(&self.folds, Stage::FoldsInTime)?;
        let mut stratified_ones = Vec::new();
        if self.settings.stratified_folds > 0 {
            let times: Vec<i64> = self.split.train.iter().map(|&row| samples.times_us()[row]).collect();
            let labels: Vec<bool> = self.split.train.iter().map(|&row| self.labels[row]).collect();
            let folds = stratified(&times, &labels, self.settings.stratified_folds, self.settings.seed)?;
            stratified_ones = validate(&global(folds, &self.split.train), Stage::StratifiedFolds)?;
        }
        let mut stratified_ones = stratified_ones.into_iter();
        report.families = founds
            .iter()
            .zip(&in_time)
            .map(|(found, evaluated)| FamilyReport {
                settings: found.family.clone(),
                trials: found.trials.clone(),
                calibration_trials: evaluated.calibration.trials.clone(),
                passes: evaluated.passes,
                in_time: evaluated.validation.clone(),
                stratified: stratified_ones.next().map(|evaluated| evaluated.validation),
            })
            .collect();
        Ok(in_time)
    }

    /// Fits the best family on all development rows and tests it; what it says of all later rows comes beside.
    fn finish(
        &self,
        found: &Found,
        evaluated: &Evaluated,
        report: &mut TrainReport,
    ) -> Result<(TrainedModel, Vec<f64>), ModelError> {
        let samples = self.data.samples;
        let name = found.family.name();
        (self.progress)(Progress { stage: Stage::LastFit, family: Some(name), done: 0, of: 1 });
        let settings = found.family.for_all_rows(&evaluated.out.models);
        let model = settings.fit(&samples.select(&self.split.train)?)?;
        let calibration = evaluated.calibration.calibration.clone();
        let trained = TrainedModel {
            features: samples.features().to_vec(),
            threshold: evaluated.threshold,
            calibrated: Calibrated { model, calibration: calibration.clone() },
        };
        let probabilities = trained.probabilities(samples.select(&self.split.test)?.records()).to_vec();
        let test_labels: Vec<bool> = self.split.test.iter().map(|&row| self.labels[row]).collect();
        let keys = self.keys();
        let test = keys.metrics(&self.split.test, &probabilities, evaluated.threshold)?;
        (self.progress)(Progress { stage: Stage::Importance, family: Some(name), done: 0, of: 1 });
        let importances = match (evaluated.out.models.last(), self.folds.last()) {
            (Some(model), Some(fold)) => {
                let rows = samples.select(&fold.test)?;
                permutation_importance(model, &rows, &self.settings.importance, self.settings.seed)?
            }
            _ => Vec::new(),
        };
        let out_labels: Vec<bool> = evaluated.out.rows.iter().map(|&row| self.labels[row]).collect();
        let tested = (self.split.test.as_slice(), probabilities.as_slice());
        report.champion = Some(ChampionReport {
            family: name,
            settings,
            calibration,
            threshold: evaluated.threshold,
            test,
            out_of_fold_curves: Curves::of(&evaluated.probabilities, &out_labels)?,
            test_curves: Curves::of(&probabilities, &test_labels)?,
            importances,
            segments: segments(self.data.segments, &keys, evaluated, tested)?,
        });
        let unseen = samples.select(&self.after_development())?;
        let unseen = trained.probabilities(unseen.records()).to_vec();
        Ok((trained, unseen))
    }
}

/// Folds of some rows, with the numbers of all rows.
fn global(folds: Vec<Fold>, rows: &[usize]) -> Vec<Fold> {
    let map = |places: Vec<usize>| places.into_iter().map(|place| rows[place]).collect();
    folds.into_iter().map(|fold| Fold { train: map(fold.train), test: map(fold.test) }).collect()
}

/// The first of equals.
fn best(families: &[FamilyReport]) -> Option<usize> {
    let worth = |place: &usize| (families[*place].passes, families[*place].in_time.pooled.f1);
    (0..families.len()).rev().max_by(|one, other| {
        let ((passes, f1), (other_passes, other_f1)) = (worth(one), worth(other));
        passes.cmp(&other_passes).then(f1.total_cmp(&other_f1))
    })
}

pub(super) fn gate_refusals(gate: &Gate, pooled: &super::Metrics) -> Vec<Refusal> {
    [
        (GateMetric::Precision, pooled.precision, gate.precision_min),
        (GateMetric::Recall, pooled.recall, gate.recall_min),
        (GateMetric::F1, pooled.f1, gate.f1_min),
    ]
    .into_iter()
    .filter(|(_, found, min)| found < min)
    .map(|(metric, found, min)| Refusal::Gate { metric, found, min })
    .collect()
}

#[cfg(test)]
mod tests;
