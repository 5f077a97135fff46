use serde::{Deserialize, Serialize};

use crate::model::table::Cells;

/// Bins of numbers: enough to see a shift, few enough that an hour of rows fills them.
const NUMBER_BINS: usize = 10;
/// Values of text with a bin of their own, the most frequent; the rest share one.
const CATEGORY_BINS: usize = 20;

/// How cells are put into bins; the last bin is always that of missing ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Bins {
    /// Upper bounds, included and increasing; one more bin holds what lies above the last.
    Number { edges: Vec<f64> },
    /// False, true.
    Boolean,
    /// One bin per value, and one for all others.
    Category { values: Vec<String> },
}

/// How many rows fell into each bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    pub bins: Bins,
    pub counts: Vec<u64>,
}

impl Bins {
    /// Bins with about as many of the values each: their quantiles. A value that many rows share gets a bin of its own.
    #[must_use]
    pub fn of_numbers(mut values: Vec<f64>) -> Self {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let (Some(&lowest), Some(&highest)) = (values.first(), values.last()) else {
            return Self::Number { edges: Vec::new() };
        };
        let at = |part: usize| values.get((values.len() * part / NUMBER_BINS).saturating_sub(1)).copied();
        // The bin above the last edge is to hold something.
        let mut edges: Vec<f64> = (1..NUMBER_BINS).filter_map(at).filter(|edge| *edge < highest).collect();
        edges.dedup();
        if lowest >= highest {
            // One value alone: what lies below it and above it is told apart from it.
            edges = vec![lowest.next_down(), lowest];
        }
        Self::Number { edges }
    }

    /// Learned from some rows of a column; `None` when it holds nothing that can be learned from.
    #[must_use]
    pub fn of_cells(cells: &Cells, rows: &[usize]) -> Option<Self> {
        Some(match cells {
            Cells::Numbers(values) => {
                Self::of_numbers(rows.iter().filter_map(|&row| values.get(row).copied()).collect())
            }
            Cells::Booleans(_) => Self::Boolean,
            Cells::Texts(texts) => {
                let mut counts = vec![0_u64; texts.values.len()];
                for code in rows.iter().filter_map(|&row| texts.codes.get(row).copied().flatten()) {
                    if let Some(count) = counts.get_mut(code as usize) {
                        *count += 1;
                    }
                }
                let mut ranked: Vec<(u64, &String)> = counts.into_iter().zip(&texts.values).collect();
                ranked.retain(|(count, _)| *count > 0);
                ranked.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
                ranked.truncate(CATEGORY_BINS);
                let mut values: Vec<String> = ranked.into_iter().map(|(_, value)| value.clone()).collect();
                values.sort_unstable();
                Self::Category { values }
            }
            Cells::Times(_) | Cells::Other => return None,
        })
    }

    /// How many bins there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is always the bin of missing cells")]
    pub fn len(&self) -> usize {
        match self {
            Self::Number { edges } => edges.len() + 2,
            Self::Boolean => 3,
            Self::Category { values } => values.len() + 2,
        }
    }

    /// The bin of a number; NaN is missing.
    #[must_use]
    pub fn of_number(&self, value: f64) -> usize {
        match self {
            Self::Number { edges } if !value.is_nan() => edges.partition_point(|edge| *edge < value),
            _ => self.len() - 1,
        }
    }

    /// Adds the cells of a column to `counts`, for each row to those that `of_row` names.
    ///
    /// # Errors
    /// In words, when the column is of another kind.
    pub(super) fn tally(&self, cells: &Cells, mut add: impl FnMut(usize, usize)) -> Result<(), String> {
        let missing = self.len() - 1;
        match (self, cells) {
            (Self::Number { .. }, Cells::Numbers(values)) => {
                values.iter().enumerate().for_each(|(row, value)| add(row, self.of_number(*value)));
            }
            (Self::Boolean, Cells::Booleans(values)) => {
                values.iter().enumerate().for_each(|(row, value)| add(row, value.map_or(missing, usize::from)));
            }
            (Self::Category { values }, Cells::Texts(texts)) => {
                // Values are sorted; each text is looked up once.
                let bin_of = |text: &String| values.binary_search(text).unwrap_or(values.len());
                let bins: Vec<usize> = texts.values.iter().map(bin_of).collect();
                let bin =
                    |code: &Option<u32>| code.and_then(|code| bins.get(code as usize).copied()).unwrap_or(missing);
                texts.codes.iter().enumerate().for_each(|(row, code)| add(row, bin(code)));
            }
            (_, found) => return Err(format!("it is {}, and the model learned something else", found.kind())),
        }
        Ok(())
    }

    /// What a bin holds, for people.
    #[must_use]
    pub fn label(&self, bin: usize) -> String {
        if bin + 1 >= self.len() {
            return "missing".to_owned();
        }
        match self {
            Self::Number { edges } => match (bin.checked_sub(1).and_then(|before| edges.get(before)), edges.get(bin)) {
                (None, Some(to)) => format!("{} or less", number(*to)),
                (Some(from), Some(to)) if from.next_up() >= *to => number(*to),
                (Some(from), Some(to)) => format!("above {} to {}", number(*from), number(*to)),
                (Some(from), None) => format!("above {}", number(*from)),
                (None, None) => "a number".to_owned(),
            },
            Self::Boolean => (if bin == 0 { "false" } else { "true" }).to_owned(),
            Self::Category { values } => {
                values.get(bin).map_or_else(|| "other values".to_owned(), |value| format!("`{value}`"))
            }
        }
    }

    /// What is wrong with bins that were read.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let sound = match self {
            Self::Number { edges } => {
                edges.iter().all(|edge| edge.is_finite()) && edges.windows(2).all(|pair| pair[0] < pair[1])
            }
            Self::Boolean => true,
            Self::Category { values } => values.windows(2).all(|pair| pair[0] < pair[1]),
        };
        (!sound).then_some("its bins are not in order")
    }
}

impl Histogram {
    /// Learns the bins from some rows of a column and counts these.
    #[must_use]
    pub fn of_cells(cells: &Cells, rows: &[usize]) -> Option<Self> {
        let bins = Bins::of_cells(cells, rows)?;
        let mut of_rows = vec![0; rows_of(cells)];
        bins.tally(cells, |row, bin| of_rows[row] = bin).ok()?;
        let mut counts = vec![0; bins.len()];
        rows.iter().filter_map(|&row| of_rows.get(row)).for_each(|&bin| counts[bin] += 1);
        Some(Self { bins, counts })
    }

    /// Learns the bins from numbers and counts them.
    #[must_use]
    pub fn of_numbers(values: &[f64]) -> Self {
        let bins = Bins::of_numbers(values.to_vec());
        let mut counts = vec![0; bins.len()];
        values.iter().for_each(|value| counts[bins.of_number(*value)] += 1);
        Self { bins, counts }
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn problem(&self) -> Option<&'static str> {
        let fits = self.counts.len() == self.bins.len();
        self.bins.problem().or_else(|| (!fits).then_some("its counts are not those of its bins"))
    }
}

fn rows_of(cells: &Cells) -> usize {
    match cells {
        Cells::Numbers(values) => values.len(),
        Cells::Booleans(values) => values.len(),
        Cells::Times(values) => values.len(),
        Cells::Texts(texts) => texts.codes.len(),
        Cells::Other => 0,
    }
}

/// Four significant digits.
fn number(value: f64) -> String {
    let digits = 3 - value.abs().max(1e-12).log10().floor().clamp(-12.0, 3.0) as i32;
    let text = format!("{value:.0$}", usize::try_from(digits).unwrap_or(0));
    match text.split_once('.') {
        Some((whole, part)) => {
            let part = part.trim_end_matches('0');
            if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
        }
        None => text,
    }
}

#[cfg(test)]
mod tests;
