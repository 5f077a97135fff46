//! Rows that come one by one, made into features: the rules of [`Encoding`], compiled for the columns of
//! Arrow batches.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::parquet::kind_of;
use super::{Encoding, FeatureKind, Kind};

/// The rules of a model's features for columns of known types, in the order of [`Encoding::columns`].
#[derive(Debug, Clone)]
pub struct RowEncoder {
    columns: Vec<Rule>,
    width: usize,
}

#[derive(Debug, Clone)]
struct Rule {
    kind: FeatureKind,
    tells_missing: bool,
    /// The first of its features.
    at: usize,
}

/// Features of rows, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Rows × width; a row is contiguous.
    pub values: Vec<f32>,
    /// The first column of each row that holds a number beyond ±3.4e38, which is no feature.
    pub refused: Vec<(usize, usize)>,
}

impl RowEncoder {
    /// # Errors
    /// In words, when a column is not of the kind that the model learned.
    pub fn new(encoding: &Encoding, types: &[DataType]) -> Result<Self, String> {
        let mut columns = Vec::with_capacity(types.len());
        let mut width = 0;
        for (feature, found) in encoding.columns.iter().zip(types) {
            let learned = match feature.kind {
                FeatureKind::Number { .. } | FeatureKind::NumberTwice => Kind::Number,
                FeatureKind::Boolean => Kind::Boolean,
                FeatureKind::Category { .. } => Kind::Text,
            };
            if kind_of(found) != learned {
                return Err(format!("the column `{}` is a {found}, and the model learned {learned}", feature.column));
            }
            columns.push(Rule { kind: feature.kind.clone(), tells_missing: feature.tells_missing, at: width });
            width += match &feature.kind {
                FeatureKind::Number { .. } | FeatureKind::Boolean => 1,
                FeatureKind::NumberTwice => 2,
                FeatureKind::Category { values } => values.len(),
            } + usize::from(feature.tells_missing);
        }
        if columns.len() != encoding.columns.len() {
            return Err(format!("{} columns where the model reads {}", types.len(), encoding.columns.len()));
        }
        Ok(Self { columns, width })
    }

    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which column, by its place in the encoding, a feature is made of.
    #[must_use]
    pub fn column_of(&self, feature: usize) -> usize {
        self.columns.partition_point(|rule| rule.at <= feature).saturating_sub(1)
    }

    /// Features of `rows` rows of the columns, each of the type given to [`RowEncoder::new`].
    ///
    /// # Errors
    /// In words, when a column has another type.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<Encoded, String> {
        let mut encoded = Encoded { values: vec![0.0; rows * self.width], refused: Vec::new() };
        for (number, (rule, column)) in self.columns.iter().zip(columns).enumerate() {
            if column.len() != rows {
                return Err(format!("a column of {} rows where there are {rows}", column.len()));
            }
            rule.encode(number, column, self.width, &mut encoded)?;
        }
        encoded.refused.sort_unstable();
        encoded.refused.dedup_by_key(|(row, _)| *row);
        Ok(encoded)
    }
}

impl Rule {
    fn encode(&self, number: usize, column: &ArrayRef, width: usize, into: &mut Encoded) -> Result<(), String> {
        let Encoded { values: into, refused } = into;
        let is_null = |row: usize| column.is_null(row);
        match &self.kind {
            FeatureKind::Number { missing } => {
                self.encode_numbers(number, column, width, &[*missing], into, refused)?;
            }
            FeatureKind::NumberTwice => {
                self.encode_numbers(number, column, width, &[f32::MIN, f32::MAX], into, refused)?;
            }
            FeatureKind::Boolean => {
                let flags = column.as_boolean_opt().ok_or("not booleans")?;
                for (cells, value) in into.chunks_exact_mut(width.max(1)).zip(flags.iter()) {
                    if let (Some(cell), Some(true)) = (cells.get_mut(self.at), value) {
                        *cell = 1.0;
                    }
                    self.tell(cells, value.is_none(), 1);
                }
            }
            FeatureKind::Category { values } => {
                let texts = as_type(column, &DataType::Utf8)?;
                let texts = texts.as_string_opt::<i32>().ok_or("not texts")?;
                for (row, cells) in into.chunks_exact_mut(width.max(1)).enumerate() {
                    let missing = is_null(row);
                    // Values are sorted.
                    let place =
                        if missing { None } else { values.binary_search_by(|v| v.as_str().cmp(texts.value(row))).ok() };
                    if let Some(cell) = place.and_then(|place| cells.get_mut(self.at + place)) {
                        *cell = 1.0;
                    }
                    self.tell(cells, missing, values.len());
                }
            }
        }
        Ok(())
    }

    /// A feature for each of `fills`, which stands where the number is missing.
    fn encode_numbers(
        &self,
        number: usize,
        column: &ArrayRef,
        width: usize,
        fills: &[f32],
        into: &mut [f32],
        refused: &mut Vec<(usize, usize)>,
    ) -> Result<(), String> {
        let numbers = as_type(column, &DataType::Float64)?;
        let numbers = numbers.as_primitive_opt::<Float64Type>().ok_or("not numbers")?;
        for (row, (cells, value)) in into.chunks_exact_mut(width.max(1)).zip(numbers.iter()).enumerate() {
            let known = value.filter(|value| !value.is_nan()).map(|value| value as f32);
            for (at, fill) in fills.iter().enumerate() {
                let narrow = known.unwrap_or(*fill);
                if !narrow.is_finite() {
                    refused.push((row, number));
                } else if let Some(cell) = cells.get_mut(self.at + at) {
                    *cell = narrow;
                }
            }
            self.tell(cells, known.is_none(), fills.len());
        }
        Ok(())
    }

    fn tell(&self, cells: &mut [f32], missing: bool, after: usize) {
        if self.tells_missing
            && let Some(cell) = cells.get_mut(self.at + after)
        {
            *cell = f32::from(u8::from(missing));
        }
    }
}

fn as_type(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == kind {
        return Ok(ArrayRef::clone(column));
    }
    cast(column, kind).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray};
    use proptest::prelude::*;

    use super::super::{FeatureColumn, Table, TableFile};
    use super::*;

    fn encoding(tells: [bool; 4]) -> Encoding {
        let category = FeatureKind::Category { values: vec!["a".into(), "b".into(), "ü".into()] };
        let kinds = [
            ("amount", FeatureKind::Number { missing: 7.25 }),
            ("method", category),
            ("flag", FeatureKind::Boolean),
            ("hour", FeatureKind::Number { missing: 3.0 }),
        ];
        let columns = kinds.into_iter().zip(tells).map(|((column, kind), tells_missing)| FeatureColumn {
            column: column.to_owned(),
            kind,
            tells_missing,
        });
        Encoding { columns: columns.collect() }
    }

    proptest! {
        #[test]
        fn rows_are_encoded_as_tables_are(
            cells in prop::collection::vec(
                (any::<Option<i64>>(), prop::option::of("[abü]{1}|x"), any::<Option<bool>>(), any::<Option<i32>>()), 1..40),
            tells in any::<[bool; 4]>(),
        ) {
            let amounts: Decimal128Array = cells.iter().map(|row| row.0.map(|v| i128::from(v / 100))).collect();
            let columns: Vec<(&str, ArrayRef, bool)> = vec![
                ("amount", Arc::new(amounts.with_precision_and_scale(18, 2).unwrap()), true),
                ("method", Arc::new(cells.iter().map(|row| row.1.clone()).collect::<StringArray>()), true),
                ("flag", Arc::new(cells.iter().map(|row| row.2).collect::<BooleanArray>()), true),
                ("hour", Arc::new(cells.iter().map(|row| row.3).collect::<Int32Array>()), true),
            ];
            let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            let file = TableFile { path: "t".into(), bytes: 0, blake3: String::new(), rows: 0 };
            let table = Table::of_batches(file, std::slice::from_ref(&batch), |_| true).unwrap();
            let encoding = encoding(tells);
            let expected = encoding.encode(&table).unwrap();
            let types: Vec<DataType> = batch.columns().iter().map(|column| column.data_type().clone()).collect();
            let encoder = RowEncoder::new(&encoding, &types).unwrap();
            prop_assert_eq!(encoder.width(), expected.len());
            let encoded = encoder.encode(batch.columns(), cells.len()).unwrap();
            prop_assert!(encoded.refused.is_empty());
            for (feature, (name, values)) in expected.iter().enumerate() {
                prop_assert!(name.starts_with(&encoding.columns[encoder.column_of(feature)].column), "{}", name);
                for (row, value) in values.iter().enumerate() {
                    prop_assert_eq!(encoded.values[row * encoder.width() + feature], *value);
                }
            }
        }
    }

    #[test]
    fn another_kind_is_refused_in_words() {
        let types = [DataType::Utf8, DataType::Utf8, DataType::Boolean, DataType::Int32];
        let error = RowEncoder::new(&encoding([false; 4]), &types).unwrap_err();
        assert!(error.contains("`amount`") && error.contains("a number"), "{error}");
    }
}
