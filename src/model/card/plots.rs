use super::Plot;
use super::svg::{Canvas, Ink, unit_ticks};
use crate::model::report::ChampionReport;
use crate::model::{Confusion, Curves};

pub(super) fn all(champion: &ChampionReport) -> Vec<Plot> {
    let plot = |name, title, draw: &dyn Fn(&mut Canvas), wide_left| {
        let mut canvas = Canvas::new(title, wide_left);
        draw(&mut canvas);
        Plot { name, title, svg: canvas.finish() }
    };
    vec![
        plot("precision_recall", "Precision and recall", &|canvas| precision_recall(canvas, champion), false),
        plot("roc", "ROC curve", &|canvas| roc(canvas, champion), false),
        plot("calibration", "Calibration", &|canvas| calibration(canvas, champion), false),
        plot("confusion", "Confusion on the test", &|canvas| confusion(canvas, &champion.test.confusion), true),
        plot("importances", "Permutation importance", &|canvas| importances(canvas, champion), true),
        plot("scores", "Scores of the test", &|canvas| scores(canvas, &champion.test_curves), false),
    ]
}

const BOTH: [(Ink, &str); 2] = [(Ink::First, "out of fold"), (Ink::Second, "test")];

fn precision_recall(canvas: &mut Canvas, champion: &ChampionReport) {
    canvas.axes("recall", &unit_ticks(), "precision", &unit_ticks());
    canvas.curve(&champion.out_of_fold_curves.precision_recall, Ink::First, false);
    canvas.curve(&champion.test_curves.precision_recall, Ink::Second, false);
    canvas.dot([champion.test.recall, champion.test.precision], 4.0, Ink::Second);
    canvas.legend(&BOTH, [0.04, 0.1]);
}

fn roc(canvas: &mut Canvas, champion: &ChampionReport) {
    canvas.axes("false positive rate", &unit_ticks(), "true positive rate", &unit_ticks());
    canvas.curve(&[[0.0, 0.0], [1.0, 1.0]], Ink::Faint, true);
    canvas.curve(&champion.out_of_fold_curves.roc, Ink::First, false);
    canvas.curve(&champion.test_curves.roc, Ink::Second, false);
    canvas.legend(&BOTH, [0.62, 0.1]);
}

/// Dots grow with the logarithm of their rows.
fn calibration(canvas: &mut Canvas, champion: &ChampionReport) {
    canvas.axes("predicted probability", &unit_ticks(), "share of fraud", &unit_ticks());
    canvas.curve(&[[0.0, 0.0], [1.0, 1.0]], Ink::Faint, true);
    for (curves, ink) in [(&champion.out_of_fold_curves, Ink::First), (&champion.test_curves, Ink::Second)] {
        for bin in &curves.calibration {
            canvas.dot([bin.predicted, bin.observed], 2.0 + (bin.rows as f64).log10(), ink);
        }
    }
    canvas.legend(&BOTH, [0.04, 0.93]);
}

fn confusion(canvas: &mut Canvas, counts: &Confusion) {
    let middle = [(0.25, "called honest".to_owned()), (0.75, "called fraud".to_owned())];
    let rows = [(0.75, "honest".to_owned()), (0.25, "fraud".to_owned())];
    canvas.labels(&middle, &rows);
    let honest = counts.true_negatives + counts.false_positives;
    let frauds = counts.true_positives + counts.false_negatives;
    let cells = [
        ([0.0, 0.5], counts.true_negatives, honest),
        ([0.5, 0.5], counts.false_positives, honest),
        ([0.0, 0.0], counts.false_negatives, frauds),
        ([0.5, 0.0], counts.true_positives, frauds),
    ];
    for ([x, y], count, of) in cells {
        let share = count as f64 / of.max(1) as f64;
        canvas.cell([x, y], [x + 0.5, y + 0.5], share, [&count.to_string(), &format!("{:.2}%", 100.0 * share)]);
    }
}

const IMPORTANCES_MAX: usize = 15;
/// Longer names are cut: the table has them whole.
const NAME_LENGTH_MAX: usize = 22;

fn importances(canvas: &mut Canvas, champion: &ChampionReport) {
    let shown = &champion.importances[..champion.importances.len().min(IMPORTANCES_MAX)];
    let largest = shown.first().map_or(0.0, |of| of.loss.mean).max(f64::MIN_POSITIVE);
    let slot = 1.0 / shown.len().max(1) as f64;
    let middle = |place: usize| 1.0 - (place as f64 + 0.5) * slot;
    let names: Vec<(f64, String)> =
        shown.iter().enumerate().map(|(place, of)| (middle(place), shortened(&of.feature))).collect();
    let ticks: Vec<(f64, String)> =
        [0.0, 0.5, 1.0].into_iter().map(|place| (place, format!("{:.3}", place * largest))).collect();
    canvas.axes("loss of average precision", &ticks, "", &names);
    for (place, of) in shown.iter().enumerate() {
        let (y, half) = (middle(place), 0.35 * slot);
        canvas.bar([0.0, y - half], [of.loss.mean.max(0.0) / largest, y + half], Ink::First);
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LENGTH_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_LENGTH_MAX - 1).chain(['…']).collect()
}

/// Rows on a logarithmic axis: honest ones are a hundred times as many.
fn scores(canvas: &mut Canvas, curves: &Curves) {
    let histogram = &curves.histogram;
    let most = histogram.positives.iter().chain(&histogram.negatives).copied().max().unwrap_or(1).max(9);
    let decades = ((most + 1) as f64).log10().ceil().max(1.0);
    let height = |count: u64| ((count + 1) as f64).log10() / decades;
    let mut ticks = vec![(0.0, "0".to_owned())];
    ticks.extend((0..=decades as u32).map(|decade| (height(10_u64.pow(decade)), 10_u64.pow(decade).to_string())));
    ticks.retain(|(place, _)| *place <= 1.0);
    canvas.axes("fraud probability", &unit_ticks(), "rows", &ticks);
    let slot = 1.0 / histogram.positives.len().max(1) as f64;
    for (place, (&positives, &negatives)) in histogram.positives.iter().zip(&histogram.negatives).enumerate() {
        let from = place as f64 * slot;
        canvas.bar([from, 0.0], [from + 0.5 * slot, height(negatives)], Ink::First);
        canvas.bar([from + 0.5 * slot, 0.0], [from + slot, height(positives)], Ink::Second);
    }
    canvas.legend(&[(Ink::First, "honest"), (Ink::Second, "fraud")], [0.45, 0.93]);
}
