//! The report of `assay drift`: what changed, for people.

use super::markup::{Block, html_page};
use super::svg::{Canvas, Ink};
use super::{CardHead, Plot};
use crate::model::drift::{Baseline, DayQuality, DriftSettings, Grain, Measured, SCORE, Status};

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct DriftCard<'a> {
    pub head: &'a CardHead,
    pub baseline: &'a Baseline,
    pub settings: &'a DriftSettings,
    pub measured: &'a [Measured],
    pub quality: &'a [DayQuality],
}

/// Features whose index is drawn over time, those that are off most.
const CURVES_MAX: usize = 8;
/// Features whose bins are drawn.
const HISTOGRAMS_MAX: usize = 12;

/// One HTML document that refers to nothing outside itself.
#[must_use]
pub fn drift_html(card: &DriftCard<'_>) -> String {
    let mut blocks = vec![Block::Title(card.head.title.clone())];
    blocks.push(Block::List(card.head.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect()));
    let ranked = ranked(card.measured);
    blocks.push(Block::Heading("Features"));
    blocks.push(Block::Text(format!(
        "PSI is the population stability index against the rows that the model learned from: {} or more is worth a look, {} or \
         more is to be acted on. JS is the Jensen-Shannon divergence in bits.",
        card.settings.psi_watch, card.settings.psi_act
    )));
    blocks.push(features(&ranked));
    if !ranked.is_empty() {
        blocks.push(Block::Heading("Over time"));
        blocks.extend(ranked.iter().take(CURVES_MAX).map(|worst| Block::Plot(over_time(card, worst))));
        blocks.push(Block::Heading("The worst window of each feature"));
        blocks.extend(ranked.iter().take(HISTOGRAMS_MAX).filter_map(|worst| bins(card, worst)).map(Block::Plot));
    }
    blocks.push(Block::Heading("Decisions and the labels that came since"));
    blocks.push(quality(card.quality));
    html_page(&card.head.title, &blocks)
}

/// The worst day or week of each feature, one that can be judged if there is any, the worst feature first.
fn ranked(measured: &[Measured]) -> Vec<&Measured> {
    let mut worst: Vec<&Measured> = Vec::new();
    for row in measured.iter().filter(|row| row.grain != Grain::Hour && row.psi.is_some()) {
        match worst.iter_mut().find(|known| known.feature == row.feature) {
            Some(known) => {
                if rank(row) > rank(known) {
                    *known = row;
                }
            }
            None => worst.push(row),
        }
    }
    worst.sort_by(|one, other| rank(other).partial_cmp(&rank(one)).unwrap_or(std::cmp::Ordering::Equal));
    worst
}

/// What is judged comes before what is not.
fn rank(row: &Measured) -> (bool, f64) {
    (matches!(row.status, Status::Stable | Status::Watch | Status::Act), row.psi.unwrap_or_default())
}

fn features(ranked: &[&Measured]) -> Block {
    let rows = ranked.iter().map(|row| {
        vec![
            format!("`{}`", row.feature),
            window(row),
            number(row.psi),
            number(row.jensen_shannon),
            number(row.psi_by_chance),
            row.rows.to_string(),
            row.status.as_str().replace('_', " "),
            row.largest_change.clone().unwrap_or_default(),
        ]
    });
    let head = ["Feature", "Worst window", "PSI", "JS", "PSI by chance", "Rows", "Status", "Largest change"];
    Block::Table { head: head.map(str::to_owned).to_vec(), rows: rows.collect() }
}

/// The index by day as a curve, by hour as dots; both thresholds as lines.
fn over_time(card: &DriftCard<'_>, worst: &Measured) -> Plot {
    let rows: Vec<&Measured> = card.measured.iter().filter(|row| row.feature == worst.feature).collect();
    let from = rows.iter().map(|row| row.window.from_us).min().unwrap_or_default();
    let to = rows.iter().map(|row| row.window.to_us).max().unwrap_or_default().max(from + 1);
    let drawn = |row: &&&Measured| row.psi.is_some() && row.status != Status::FewRows;
    let highest = rows.iter().filter(drawn).filter_map(|row| row.psi).fold(2.0 * card.settings.psi_act, f64::max);
    let place = |row: &Measured| {
        let middle = i64::midpoint(row.window.from_us, row.window.to_us);
        [(middle - from) as f64 / (to - from) as f64, row.psi.unwrap_or_default() / highest]
    };
    let mut canvas = Canvas::new(&worst.feature, false);
    let ticks = [0.0, 0.5, 1.0].map(|share| (share, format!("{:.2}", share * highest)));
    let days = [(0.0, from), (1.0, to)].map(|(share, at)| (share, day(at)));
    canvas.axes("event time", &days, "PSI", &ticks);
    for (threshold, ink) in [(card.settings.psi_watch, Ink::Faint), (card.settings.psi_act, Ink::Second)] {
        let y = threshold / highest;
        canvas.curve(&[[0.0, y], [1.0, y]], ink, true);
    }
    let of = |grain: Grain| rows.iter().filter(drawn).filter(move |row| row.grain == grain).map(|row| place(row));
    of(Grain::Hour).for_each(|dot| canvas.dot(dot, 1.5, Ink::Faint));
    canvas.curve(&of(Grain::Day).collect::<Vec<_>>(), Ink::First, false);
    of(Grain::Day).for_each(|dot| canvas.dot(dot, 3.0, Ink::First));
    Plot { name: "over_time", title: title(&worst.feature), svg: canvas.finish() }
}

/// Figures carry the feature's name in the drawing.
fn title(feature: &str) -> &'static str {
    if feature == SCORE { "The score" } else { "A feature" }
}

/// Shares of rows in each bin, before and now.
fn bins(card: &DriftCard<'_>, worst: &Measured) -> Option<Plot> {
    let columns = card.baseline.columns.iter().find(|of| of.column == worst.feature).map(|of| &of.histogram);
    let of = columns.or_else(|| (worst.feature == SCORE).then_some(&card.baseline.score))?;
    let share =
        |counts: &[u64], bin: usize| *counts.get(bin).unwrap_or(&0) as f64 / counts.iter().sum::<u64>().max(1) as f64;
    let bins = of.bins.len();
    let highest = (0..bins).map(|bin| share(&of.counts, bin).max(share(&worst.counts, bin))).fold(0.01, f64::max);
    let slot = 1.0 / bins as f64;
    let middle = |bin: usize| 1.0 - (bin as f64 + 0.5) * slot;
    let short = |text: String| {
        if text.chars().count() <= 22 { text } else { text.chars().take(21).chain(['…']).collect() }
    };
    let labels: Vec<(f64, String)> = (0..bins).map(|bin| (middle(bin), short(of.bins.label(bin)))).collect();
    let ticks = [0.0, 0.5, 1.0].map(|place| (place, format!("{:.0}%", 100.0 * place * highest)));
    let mut canvas = Canvas::new(&format!("{}, {}", worst.feature, window(worst)), true);
    canvas.axes(&format!("{}: share of rows", worst.feature), &ticks, "", &labels);
    for bin in 0..bins {
        let y = middle(bin);
        canvas.bar([0.0, y], [share(&of.counts, bin) / highest, y + 0.4 * slot], Ink::First);
        canvas.bar([0.0, y - 0.4 * slot], [share(&worst.counts, bin) / highest, y], Ink::Second);
    }
    canvas.legend(&[(Ink::First, "learned from"), (Ink::Second, "then")], [0.6, 0.12]);
    Some(Plot { name: "bins", title: title(&worst.feature), svg: canvas.finish() })
}

fn quality(days: &[DayQuality]) -> Block {
    if days.is_empty() {
        return Block::Text("No day yet whose labels have arrived and that the model did not learn from.".to_owned());
    }
    let rows = days.iter().map(|of| {
        let (mut row, rates) = (vec![day(of.day.from_us)], of.rates());
        match &of.metrics {
            Some(of) => {
                row.extend([of.rows.to_string(), of.positives.to_string()]);
                row.extend(rates.into_iter().chain([of.average_precision, of.roc_auc]).map(number));
            }
            None => row.extend(std::iter::repeat_n("–".to_owned(), 7)),
        }
        row
    });
    let head = ["Day", "Rows", "Frauds", "Precision", "Recall", "F1", "PR-AUC", "ROC-AUC"];
    Block::Table { head: head.map(str::to_owned).to_vec(), rows: rows.collect() }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

fn window(of: &Measured) -> String {
    if of.grain == Grain::Week { format!("week from {}", day(of.window.from_us)) } else { day(of.window.from_us) }
}

fn day(at_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(at_us).map_or_else(String::new, |at| at.format("%Y-%m-%d").to_string())
}
