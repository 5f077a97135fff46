//! From a table to samples: which column is the label, the time, the card, and what is left to learn from.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{CATEGORIES_MAX, Cells, Column, Encoding, FeatureColumn, Table, TableError};
use crate::model::drift::{ColumnBaseline, Histogram};
use crate::model::folds::newest;
use crate::model::{Samples, Segmentation};

/// What the columns of a table are for. All others are features.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// Booleans, or numbers 0 and 1.
    pub label: String,
    /// When the row happened: a time, or a number since 1970 in seconds (milliseconds from 1e11, microseconds from
    /// 1e14 on). Without one, the rows are in the order of time.
    pub time: Option<String>,
    /// Whose row it is, for the precision among the top cards of a day; no feature.
    pub card: Option<String>,
    /// By which quality is reported; features too.
    pub segments: Vec<String>,
}

/// How rows were put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Time,
    Rows,
}

/// A table that can be learned from.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub samples: Samples,
    pub encoding: Encoding,
    /// Of the rows that are learned from, in the order of the encoding.
    pub baseline: Vec<ColumnBaseline>,
    pub cards: Option<Vec<u64>>,
    pub segments: Vec<Segmentation>,
    pub order: Order,
    /// Columns that are no features, and why.
    pub left_out: Vec<(String, String)>,
}

/// Makes samples of a table. The rules of its features are learned from the rows before the newest `test_share` and a
/// gap of `gap_us` alone, so that nothing of the test is known to the model.
///
/// # Errors
/// For a column that is not there, a cell that cannot be what its column is for, and a table without features.
pub fn prepare(table: &Table, roles: &Roles, gap_us: i64, test_share: f64) -> Result<Prepared, TableError> {
    let Told { labels, times_us, order, cards, segments } = told(table, roles)?;
    let gap_us = if order == Order::Rows { 0 } else { gap_us };
    let learned_from = newest(&times_us, gap_us, test_share)?.train;
    let is_feature = |column: &&Column| {
        let name = Some(&column.name);
        column.name != roles.label && roles.time.as_ref() != name && roles.card.as_ref() != name
    };
    let columns: Vec<&Column> = table.columns.iter().filter(is_feature).collect();
    let (encoding, left_out) = Encoding::learn(table, &columns, &learned_from)?;
    if encoding.columns.is_empty() {
        let reasons: Vec<String> = left_out.iter().map(|(name, reason)| format!("`{name}` is {reason}")).collect();
        let left_out = if reasons.is_empty() { "the table has the label alone".to_owned() } else { reasons.join(", ") };
        return Err(TableError::NoFeatures { left_out });
    }
    let histogram = |feature: &FeatureColumn| {
        let column = columns.iter().find(|column| column.name == feature.column)?;
        let histogram = Histogram::of_cells(&column.cells, &learned_from)?;
        Some(ColumnBaseline { column: column.name.clone(), histogram })
    };
    let baseline = encoding.columns.iter().filter_map(histogram).collect();
    let samples = Samples::from_columns(encoding.encode(table)?, labels, times_us)?;
    Ok(Prepared { samples, encoding, baseline, cards, segments, order, left_out })
}

/// Makes samples of a table by rules that are given: those of a model that was learned elsewhere. What later rows are
/// compared with is all of these.
///
/// # Errors
/// As [`prepare`], and for a column that the rules do not fit.
pub fn prepare_as(table: &Table, roles: &Roles, encoding: &Encoding) -> Result<Prepared, TableError> {
    let Told { labels, times_us, order, cards, segments } = told(table, roles)?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let mut baseline = Vec::with_capacity(encoding.columns.len());
    for FeatureColumn { column, .. } in &encoding.columns {
        if *column == roles.label {
            return Err(TableError::TwoRoles { column: column.clone(), one: "the label", other: "a feature" });
        }
        let found = table.column(column, "that the model reads")?;
        let histogram = Histogram::of_cells(&found.cells, &rows).ok_or_else(|| TableError::Type {
            file: table.files.first().map_or_else(String::new, |file| file.path.clone()),
            column: column.clone(),
            found: found.cells.kind().to_string(),
            must_be: "a number, and not missing in every row".to_owned(),
        })?;
        baseline.push(ColumnBaseline { column: column.clone(), histogram });
    }
    let samples = Samples::from_columns(encoding.encode(table)?, labels, times_us)?;
    let encoding = encoding.clone();
    Ok(Prepared { samples, encoding, baseline, cards, segments, order, left_out: Vec::new() })
}

/// What the columns say that are no features.
struct Told {
    labels: Vec<bool>,
    times_us: Vec<i64>,
    order: Order,
    cards: Option<Vec<u64>>,
    segments: Vec<Segmentation>,
}

fn told(table: &Table, roles: &Roles) -> Result<Told, TableError> {
    check_roles(roles)?;
    let labels = labels(table, table.column(&roles.label, "to take labels from")?)?;
    let (times_us, order) = match &roles.time {
        Some(name) => (times(table, table.column(name, "to take times from")?)?, Order::Time),
        None => ((0..labels.len()).map(|row| i64::try_from(row).unwrap_or(i64::MAX)).collect(), Order::Rows),
    };
    let cards = roles.card.as_ref().map(|name| table.column(name, "to take cards from").map(card_keys)).transpose()?;
    let mut segments = Vec::new();
    for name in &roles.segments {
        segments.push(segmentation(table.column(name, "to report by")?, table.rows())?);
    }
    Ok(Told { labels, times_us, order, cards, segments })
}

fn check_roles(roles: &Roles) -> Result<(), TableError> {
    let mut taken: Vec<(&str, &'static str)> = vec![(&roles.label, "the label")];
    let single = [(&roles.time, "the time"), (&roles.card, "the card")];
    let more = single.iter().filter_map(|(name, role)| name.as_deref().map(|name| (name, *role)));
    for (name, role) in more.chain(roles.segments.iter().map(|name| (name.as_str(), "a segment"))) {
        if let Some((_, one)) = taken.iter().find(|(other, _)| *other == name) {
            return Err(TableError::TwoRoles { column: name.to_owned(), one, other: role });
        }
        taken.push((name, role));
    }
    Ok(())
}

fn labels(table: &Table, column: &Column) -> Result<Vec<bool>, TableError> {
    let must_be = "0 or 1, or true or false: every row needs a label";
    let refused = |row: usize| {
        let found = column.cells.text(row).map_or_else(|| "missing".to_owned(), |text| format!("`{text}`"));
        table.cell_error(row, &column.name, &found, must_be)
    };
    (0..table.rows()).map(|row| label(&column.cells, row).ok_or_else(|| refused(row))).collect()
}

fn label(cells: &Cells, row: usize) -> Option<bool> {
    match cells {
        Cells::Booleans(values) => values.get(row).copied().flatten(),
        Cells::Numbers(values) => match values.get(row) {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => None,
        },
        // Files that quote their labels.
        Cells::Texts(texts) => match texts.get(row) {
            Some("0") => Some(false),
            Some("1") => Some(true),
            text => text.and_then(super::boolean),
        },
        Cells::Times(_) | Cells::Other => None,
    }
}

impl Table {
    /// The label of a row, where there is one.
    #[must_use]
    pub fn label(&self, name: &str, row: usize) -> Option<bool> {
        label(&self.columns.iter().find(|column| column.name == name)?.cells, row)
    }
}

fn times(table: &Table, column: &Column) -> Result<Vec<i64>, TableError> {
    let at = |row: usize| match &column.cells {
        Cells::Times(values) => values.get(row).copied().flatten(),
        Cells::Numbers(values) => values.get(row).copied().and_then(since_1970),
        _ => None,
    };
    let refused = |row: usize| {
        let found = column.cells.text(row).map_or_else(|| "missing".to_owned(), |text| format!("`{text}`"));
        table.cell_error(row, &column.name, &found, "a time in ISO 8601, or a number since 1970: every row needs one")
    };
    (0..table.rows()).map(|row| at(row).ok_or_else(|| refused(row))).collect()
}

fn since_1970(value: f64) -> Option<i64> {
    let scale = match value.abs() {
        size if size >= 1e14 => 1.0,
        size if size >= 1e11 => 1e3,
        _ => 1e6,
    };
    let micros = value * scale;
    (micros.abs() < 9e18).then_some(micros as i64)
}

/// Numbers in the order in which the cards first come. Rows without one are one card.
fn card_keys(column: &Column) -> Vec<u64> {
    let mut keys: HashMap<Option<String>, u64> = HashMap::new();
    let rows = match &column.cells {
        Cells::Numbers(values) => values.len(),
        Cells::Booleans(values) => values.len(),
        Cells::Times(values) => values.len(),
        Cells::Texts(texts) => texts.codes.len(),
        Cells::Other => 0,
    };
    (0..rows)
        .map(|row| {
            let next = keys.len() as u64;
            *keys.entry(column.cells.text(row)).or_insert(next)
        })
        .collect()
}

fn segmentation(column: &Column, rows: usize) -> Result<Segmentation, TableError> {
    let mut places: HashMap<String, u32> = HashMap::new();
    let mut values = Vec::new();
    let mut codes = Vec::with_capacity(rows);
    for row in 0..rows {
        let value = column.cells.text(row).unwrap_or_else(|| "(missing)".to_owned());
        let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
        codes.push(*places.entry(value.clone()).or_insert_with(|| {
            values.push(value);
            next
        }));
    }
    if values.len() > CATEGORIES_MAX {
        let (column, found) = (column.name.clone(), values.len());
        return Err(TableError::TooManySegments { column, found, max: CATEGORIES_MAX });
    }
    Ok(Segmentation { dimension: column.name.clone(), values, codes })
}
