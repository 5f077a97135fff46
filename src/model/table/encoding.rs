//! How columns become features: the rules are learned once, stored beside the model, and applied to every row alike.

use serde::{Deserialize, Serialize};

use super::{Cells, Column, Kind, Table, TableError};

/// A column of text with more values is no category.
pub const CATEGORIES_MAX: usize = 64;

/// The columns that a model reads, in its order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    pub columns: Vec<FeatureColumn>,
}

/// A column and the features that it gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureColumn {
    pub column: String,
    pub kind: FeatureKind,
    /// Whether a feature of its own says that the cell is missing: where a row that was learned from lacked it.
    pub tells_missing: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FeatureKind {
    /// As it is; a missing one becomes the median of the rows that were learned from.
    Number { missing: f32 },
    /// In two features: a missing one lies below all numbers in the first, and above all in the second. For trees of
    /// other tools, which send missing ones left at one split and right at another.
    NumberTwice,
    /// 1 for true; a missing one is 0.
    Boolean,
    /// One feature per value, 1 where it is this one. A missing one, and one that was never learned, is 0 in all.
    Category { values: Vec<String> },
}

impl Encoding {
    /// Learns the rules from some of the rows. Columns that cannot be features come back with the reason.
    ///
    /// # Errors
    /// For a cell in a column of numbers that is none.
    pub(super) fn learn(
        table: &Table,
        columns: &[&Column],
        rows: &[usize],
    ) -> Result<(Self, Vec<(String, String)>), TableError> {
        let (mut learned, mut left_out) = (Self::default(), Vec::new());
        for column in columns {
            match learn_column(table, column, rows)? {
                Ok(feature) => learned.columns.push(feature),
                Err(reason) => left_out.push((column.name.clone(), reason)),
            }
        }
        Ok((learned, left_out))
    }

    /// The names of the features, in the model's order.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        self.columns.iter().flat_map(FeatureColumn::features).collect()
    }

    /// The columns that a table needs to be scored.
    #[must_use]
    pub fn wanted(&self) -> Vec<(String, Kind)> {
        let kind = |column: &FeatureColumn| match column.kind {
            FeatureKind::Number { .. } | FeatureKind::NumberTwice => Kind::Number,
            FeatureKind::Boolean => Kind::Boolean,
            FeatureKind::Category { .. } => Kind::Text,
        };
        self.columns.iter().map(|column| (column.column.clone(), kind(column))).collect()
    }

    /// One vector per feature.
    ///
    /// # Errors
    /// When a column is absent or another kind, or a number is too large.
    pub fn encode(&self, table: &Table) -> Result<Vec<(String, Vec<f32>)>, TableError> {
        let mut encoded = Vec::new();
        for feature in &self.columns {
            let column = table.column(&feature.column, "that the model reads")?;
            feature.encode(table, column, &mut encoded)?;
        }
        Ok(encoded)
    }

    /// A hash of names, kinds and rules: two models that read the same features have the same.
    #[must_use]
    pub fn hash(&self) -> String {
        // A list of plain values cannot fail to be written; were it so, the hash would be of nothing and match nothing.
        blake3::hash(&serde_json::to_vec(self).unwrap_or_default()).to_hex().to_string()
    }
}

impl FeatureKind {
    /// Of a column of numbers: what a missing one becomes in each of its features.
    #[must_use]
    pub(in crate::model) fn fills(&self) -> Vec<f32> {
        match self {
            Self::Number { missing } => vec![*missing],
            Self::NumberTwice => vec![f32::MIN, f32::MAX],
            Self::Boolean | Self::Category { .. } => Vec::new(),
        }
    }
}

impl FeatureColumn {
    fn features(&self) -> Vec<String> {
        let mut names = match &self.kind {
            FeatureKind::Number { .. } | FeatureKind::Boolean => vec![self.column.clone()],
            FeatureKind::NumberTwice => vec![self.column.clone(), format!("{} (missing is high)", self.column)],
            FeatureKind::Category { values } => values.iter().map(|value| format!("{}={value}", self.column)).collect(),
        };
        if self.tells_missing {
            names.push(format!("{} is missing", self.column));
        }
        names
    }

    fn encode(&self, table: &Table, column: &Column, into: &mut Vec<(String, Vec<f32>)>) -> Result<(), TableError> {
        let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
        let mut vectors: Vec<Vec<f32>> = match (&self.kind, &column.cells) {
            (FeatureKind::Number { .. } | FeatureKind::NumberTwice, Cells::Numbers(values)) => {
                let as_feature = |missing: f32, (row, &value): (usize, &f64)| {
                    let narrow = if value.is_nan() { missing } else { value as f32 };
                    if narrow.is_finite() {
                        return Ok(narrow);
                    }
                    Err(table.cell_error(row, &column.name, &value.to_string(), "a number within ±3.4e38"))
                };
                let with = |missing: &f32| values.iter().enumerate().map(|cell| as_feature(*missing, cell)).collect();
                self.kind.fills().iter().map(with).collect::<Result<_, _>>()?
            }
            (FeatureKind::Boolean, Cells::Booleans(values)) => {
                vec![values.iter().map(|value| flag(*value == Some(true))).collect()]
            }
            (FeatureKind::Category { values }, Cells::Texts(texts)) => {
                let code_of = |value: &String| texts.values.iter().position(|text| text == value);
                let one_hot = |code: Option<usize>| {
                    let is = |cell: &Option<u32>| flag(cell.is_some() && cell.map(|cell| cell as usize) == code);
                    texts.codes.iter().map(is).collect()
                };
                values.iter().map(|value| one_hot(code_of(value))).collect()
            }
            (_, cells) => {
                let file = table.files.first().map_or_else(String::new, |file| file.path.clone());
                let (column, found) = (self.column.clone(), cells.kind().to_string());
                return Err(TableError::Type { file, column, found, must_be: "what the model learned".into() });
            }
        };
        if self.tells_missing {
            vectors.push((0..table.rows()).map(|row| flag(is_missing(&column.cells, row))).collect());
        }
        into.extend(self.features().into_iter().zip(vectors));
        Ok(())
    }
}

/// The feature, or why there is none.
fn learn_column(table: &Table, column: &Column, rows: &[usize]) -> Result<Result<FeatureColumn, String>, TableError> {
    let seen: Vec<usize> = rows.iter().copied().filter(|&row| !is_missing(&column.cells, row)).collect();
    let kind = match &column.cells {
        Cells::Other => return Ok(Err("nothing that can be learned from".into())),
        Cells::Times(_) => return Ok(Err("a time".into())),
        _ if seen.is_empty() => return Ok(Err("no value in the rows that are learned from".into())),
        Cells::Numbers(values) => {
            let missing = median(seen.iter().filter_map(|&row| values.get(row).copied()).collect());
            FeatureKind::Number { missing }
        }
        Cells::Booleans(_) => FeatureKind::Boolean,
        Cells::Texts(texts) => {
            if let Some(row) = column.odd_row {
                let (file, at) = table.place(row);
                let value = texts.get(row).unwrap_or_default().to_owned();
                return Err(TableError::Mixed { file, row: at, column: column.name.clone(), value });
            }
            if texts.values.len() > CATEGORIES_MAX {
                let reason = format!("text of {} values, more than {CATEGORIES_MAX}", texts.values.len());
                return Ok(Err(reason));
            }
            let mut values: Vec<String> = seen.iter().filter_map(|&row| texts.get(row)).map(str::to_owned).collect();
            values.sort_unstable();
            values.dedup();
            FeatureKind::Category { values }
        }
    };
    Ok(Ok(FeatureColumn { column: column.name.clone(), kind, tells_missing: seen.len() < rows.len() }))
}

fn is_missing(cells: &Cells, row: usize) -> bool {
    match cells {
        Cells::Numbers(values) => values.get(row).is_none_or(|value| value.is_nan()),
        Cells::Booleans(values) => values.get(row).is_none_or(Option::is_none),
        Cells::Times(values) => values.get(row).is_none_or(Option::is_none),
        Cells::Texts(texts) => texts.get(row).is_none(),
        Cells::Other => true,
    }
}

/// The lower of the two in the middle.
fn median(mut values: Vec<f64>) -> f32 {
    let middle = values.len().saturating_sub(1) / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1 as f32
}
