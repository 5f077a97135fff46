use super::CardHead;
use super::markup::Block;
use crate::model::report::{ChampionReport, FoldReport, Span, TrainReport, Validation, Verdict};
use crate::model::{Metrics, Spread};

pub(super) const HOW_MEASURED: &str = "Out of fold: each row is judged by a model that learned only from rows older \
    than the label delay before its fold began; family, calibration and threshold were chosen on these. Test: the newest \
    rows, looked at once, after everything was chosen.";

pub(super) fn verdict(report: &TrainReport) -> Block {
    match &report.verdict {
        Verdict::Passed => Block::Text("Passed the gate.".to_owned()),
        Verdict::Refused { reasons } => {
            let reasons = reasons.iter().map(|reason| format!("Refused: {reason}"));
            Block::List(reasons.collect())
        }
    }
}

pub(super) fn facts(report: &TrainReport, head: &CardHead) -> Block {
    let mut items: Vec<String> = head.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut item = |name: &str, value: String| items.push(format!("{name}: {value}"));
    if let Some(champion) = &report.champion {
        item("Family", champion.family.to_string());
        item("Threshold", format!("{:.4}", champion.threshold));
        item("Settings", format!("`{}`", serde_json::to_string(&champion.settings).unwrap_or_default()));
    }
    item("Development", span(&report.data.development));
    item("Test", span(&report.data.test));
    item("Label delay", format!("{} h", report.settings.label_delay_hours));
    let gate = report.settings.gate;
    item("Gate", format!("precision ≥ {}, recall ≥ {}, F1 ≥ {}", gate.precision_min, gate.recall_min, gate.f1_min));
    item("Seed", report.settings.seed.to_string());
    Block::List(items)
}

pub(super) fn suspicions(report: &TrainReport) -> Block {
    let line = |of: &crate::model::Suspicion| {
        format!("`{}` alone ranks frauds with an AUC of {:.4}: it may be made from the label", of.feature, of.auc)
    };
    Block::List(report.suspicions.iter().map(line).collect())
}

pub(super) fn quality(report: &TrainReport, champion: &ChampionReport) -> Vec<Block> {
    let Some(best) = report.best() else { return Vec::new() };
    let (pooled, spread, test) = (&best.in_time.pooled, &best.in_time.spread, &champion.test);
    let row = |name: &str, out: Option<f64>, spread: Option<Spread>, test: Option<f64>| {
        let spread = spread.map_or_else(String::new, |of| format!("{:.4} ± {:.4}", of.mean, of.deviation));
        vec![name.to_owned(), number(out), spread, number(test)]
    };
    let rows = vec![
        row("Precision", Some(pooled.precision), Some(spread.precision), Some(test.precision)),
        row("Recall", Some(pooled.recall), Some(spread.recall), Some(test.recall)),
        row("F1", Some(pooled.f1), Some(spread.f1), Some(test.f1)),
        row("PR-AUC", pooled.average_precision, Some(spread.average_precision), test.average_precision),
        row("ROC-AUC", pooled.roc_auc, Some(spread.roc_auc), test.roc_auc),
        row("Brier", Some(pooled.brier), Some(spread.brier), Some(test.brier)),
        row("Log loss", Some(pooled.log_loss), Some(spread.log_loss), Some(test.log_loss)),
        row(
            &format!("Precision at the top {} cards a day", report.settings.top_cards),
            pooled.top_cards,
            None,
            test.top_cards,
        ),
    ];
    vec![table(&["Metric", "Out of fold", "Mean ± deviation of folds", "Test"], rows)]
}

pub(super) fn families(report: &TrainReport) -> Block {
    let rows = report.families.iter().map(|family| {
        let stratified = family.stratified.as_ref();
        let mut row = vec![family.name().to_string()];
        row.extend(short(&family.in_time.pooled));
        row.push(if family.passes { "passes" } else { "refused" }.to_owned());
        row.push(number(stratified.map(|of| of.pooled.f1)));
        row.push(number(stratified.and_then(|of| of.pooled.average_precision)));
        row
    });
    table(
        &["Family", "Precision", "Recall", "F1", "PR-AUC", "ROC-AUC", "Gate", "Stratified F1", "Stratified PR-AUC"],
        rows.collect(),
    )
}

pub(super) fn folds(report: &TrainReport) -> Vec<Block> {
    let Some(best) = report.best() else { return Vec::new() };
    let mut blocks = vec![of_folds(&best.in_time, "in time")];
    blocks.extend(best.stratified.as_ref().map(|validation| of_folds(validation, "stratified")));
    blocks
}

fn of_folds(validation: &Validation, kind: &str) -> Block {
    let row = |(place, fold): (usize, &FoldReport)| {
        let mut row = vec![format!("{} {kind}", place + 1), fold.train.rows.to_string(), span(&fold.test)];
        row.extend(short(&fold.metrics));
        row
    };
    table(
        &["Fold", "Learned from", "Tested on", "Precision", "Recall", "F1", "PR-AUC", "ROC-AUC"],
        validation.folds.iter().enumerate().map(row).collect(),
    )
}

pub(super) fn segments(champion: &ChampionReport) -> Vec<Block> {
    if champion.segments.is_empty() {
        return Vec::new();
    }
    let row = |of: &crate::model::SegmentReport| {
        let mut row = vec![format!("{}: {}", of.dimension, of.value)];
        for metrics in [&of.out_of_fold, &of.test] {
            match metrics {
                Some(of) => row.extend([of.rows.to_string(), of.positives.to_string(), number(Some(of.f1))]),
                None => row.extend(std::iter::repeat_n("–".to_owned(), 3)),
            }
        }
        row
    };
    let head = ["Segment", "Rows out of fold", "Frauds", "F1", "Rows of the test", "Frauds", "F1"];
    vec![Block::Heading("Segments"), table(&head, champion.segments.iter().map(row).collect())]
}

pub(super) fn importances(champion: &ChampionReport) -> Block {
    let row = |of: &crate::model::Importance| {
        vec![format!("`{}`", of.feature), format!("{:.5}", of.loss.mean), format!("{:.5}", of.loss.deviation)]
    };
    table(
        &["Feature", "Loss of average precision when shuffled", "Deviation"],
        champion.importances.iter().map(row).collect(),
    )
}

fn short(metrics: &Metrics) -> [String; 5] {
    let Metrics { precision, recall, f1, average_precision, roc_auc, .. } = metrics;
    [Some(*precision), Some(*recall), Some(*f1), *average_precision, *roc_auc].map(number)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> Block {
    Block::Table { head: head.iter().map(ToString::to_string).collect(), rows }
}

fn span(span: &Span) -> String {
    let percent = 100.0 * span.positives as f64 / span.rows.max(1) as f64;
    let (from, to) = (date(span.from_us), date(span.to_us));
    format!("{} rows, {} frauds ({percent:.2}%), {from} to {to}", span.rows, span.positives)
}

/// The day of an instant in UTC, as 2026-11-21.
fn date(us: i64) -> String {
    // Days to the civil calendar, by eras of 400 years that begin on 1 March.
    let days = us.div_euclid(86_400_000_000) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let at = |seconds: i64| date(seconds * 1_000_000);
        assert_eq!(at(0), "1970-01-01");
        assert_eq!(at(-1), "1969-12-31");
        assert_eq!(at(951_782_400), "2000-02-29");
        assert_eq!(at(1_795_219_200), "2026-11-21");
        assert_eq!(at(4_107_542_400), "2100-03-01");
    }
}
