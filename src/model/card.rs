//! The model card: what a run found, for people. Markdown, or one HTML file with its plots inside.

mod drift;
mod markup;
mod plots;
mod svg;
mod text;

use super::report::TrainReport;
pub use drift::{DriftCard, drift_html};
use markup::{Block, html_page, markdown_page};

/// A plot as an SVG document of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// For a file name: lower case, words joined by underscores.
    pub name: &'static str,
    pub title: &'static str,
    /// UTF-8, with its own colours for light and dark.
    pub svg: String,
}

/// What the report does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CardHead {
    pub title: String,
    /// Name and value, for instance version, epoch and code version; shown in this order.
    pub facts: Vec<(String, String)>,
}

/// The plots of the champion; none when nothing was fitted.
#[must_use]
pub fn plots(report: &TrainReport) -> Vec<Plot> {
    report.champion.as_ref().map(plots::all).unwrap_or_default()
}

/// The card as Markdown; plots are linked as `<folder><name>.svg`.
#[must_use]
pub fn markdown(report: &TrainReport, head: &CardHead, folder: &str) -> String {
    markdown_page(&blocks(report, head), folder)
}

/// The card as one HTML document that refers to nothing outside itself.
#[must_use]
pub fn html(report: &TrainReport, head: &CardHead) -> String {
    html_page(&head.title, &blocks(report, head))
}

fn blocks(report: &TrainReport, head: &CardHead) -> Vec<Block> {
    let mut blocks = vec![Block::Title(head.title.clone()), text::verdict(report), text::facts(report, head)];
    if !report.suspicions.is_empty() {
        blocks.push(Block::Heading("Suspicious features"));
        blocks.push(text::suspicions(report));
    }
    if let Some(champion) = &report.champion {
        blocks.push(Block::Heading("Quality"));
        blocks.push(Block::Text(text::HOW_MEASURED.to_owned()));
        blocks.extend(text::quality(report, champion));
        blocks.push(Block::Heading("Families"));
        blocks.push(text::families(report));
        blocks.push(Block::Heading("Folds"));
        blocks.extend(text::folds(report));
        blocks.push(Block::Heading("Plots"));
        blocks.extend(plots(report).into_iter().map(Block::Plot));
        blocks.extend(text::segments(champion));
        blocks.push(Block::Heading("Importances"));
        blocks.push(text::importances(champion));
    }
    blocks.push(Block::Heading("Features"));
    blocks
        .push(Block::Text(report.data.features.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")));
    blocks
}

#[cfg(test)]
mod tests;
