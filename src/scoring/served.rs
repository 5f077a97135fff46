//! A model of the registry, made ready to be asked.

use std::borrow::Cow;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::ScoringPipeline;
use super::pipeline::Followed;
use crate::domain::TableName;
use crate::model::registry::{MODEL_FILE, Manifest, ModelName, Registry, RegistryError, Version};
use crate::model::table::{Encoded, RowEncoder};
use crate::model::{Classifier, Contributions, TrainedModel};

/// A verified model whose columns are found in the tables that a request is refined into.
#[derive(Debug)]
pub struct Served {
    pub name: ModelName,
    pub version: Version,
    pub manifest: Manifest,
    /// Of the file of the model, in hexadecimal.
    pub blake3: String,
    model: TrainedModel,
    encoder: RowEncoder,
    columns: Vec<Column>,
}

/// Where a column that the model reads is found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Silver(usize),
    /// Of the tables that follow from silver, by number.
    Following(usize, usize),
}

/// What a model says of rows.
#[derive(Debug)]
pub struct Answers {
    pub encoded: Encoded,
    pub probabilities: Vec<f64>,
    /// Of each row, once [`Served::contribute`] was asked for them.
    contributions: Vec<Contributions>,
}

/// Why a version is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// The registry cannot be read now; the version may be as good as ever.
    #[error("{0}")]
    Unreadable(String),
    /// It does not verify, or cannot be asked about transactions.
    #[error("{0}")]
    Unusable(String),
}

impl From<String> for NotServed {
    fn from(problem: String) -> Self {
        Self::Unusable(problem)
    }
}

impl From<RegistryError> for NotServed {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Io { .. } => Self::Unreadable(error.to_string()),
            error => Self::Unusable(error.to_string()),
        }
    }
}

impl From<NotServed> for String {
    fn from(error: NotServed) -> Self {
        error.to_string()
    }
}

/// Why a model cannot be asked, or not about all rows.
pub type Unanswered = String;

impl Served {
    /// Loads and verifies a version, and finds its columns.
    ///
    /// # Errors
    /// When it cannot be read, does not verify, has no model, or reads a column that requests do not have.
    pub fn load(
        registry: &Registry,
        name: &ModelName,
        version: &Version,
        pipeline: &ScoringPipeline,
    ) -> Result<Self, NotServed> {
        let stored = registry.load(name, version)?;
        let manifest = stored.manifest;
        let model = stored.model.ok_or_else(|| format!("{name}@{version} has no model: its rows were refused"))?;
        let mut columns = Vec::new();
        let mut types = Vec::new();
        for (column, _) in manifest.encoding.wanted() {
            let (found, kind) = find(&manifest, &column, pipeline)?;
            columns.push(found);
            types.push(kind);
        }
        let encoder = RowEncoder::new(&manifest.encoding, &types)
            .map_err(|problem| format!("{name}@{version} cannot be asked about transactions: {problem}"))?;
        if encoder.width() != model.width() {
            let (reads, gives) = (model.width(), encoder.width());
            return Err(format!("{name}@{version} reads {reads} features, and its rules give {gives}").into());
        }
        let blake3 = manifest.files.get(MODEL_FILE).map(|sum| sum.blake3.clone()).unwrap_or_default();
        Ok(Self { name: name.clone(), version: version.clone(), manifest, blake3, model, encoder, columns })
    }

    /// A transaction whose probability reaches it is called fraud.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.model.threshold
    }

    /// The names of the features, in the model's order.
    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.manifest.features
    }

    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.encoder.width()
    }

    /// Why not all is known that the model reads of a row; `None` when it is.
    #[must_use]
    pub fn lacks<'a>(&self, following: &'a [Followed], row: usize) -> Option<&'a str> {
        self.columns.iter().find_map(|column| match column {
            Column::Following(table, _) => following.get(*table).and_then(|table| table.lacks(row)),
            Column::Silver(_) => None,
        })
    }

    /// Asks the model about rows of silver and of the tables that follow from it.
    ///
    /// # Errors
    /// In words, when a column cannot be told.
    pub fn ask(&self, silver: &RecordBatch, following: &[Followed]) -> Result<Answers, Unanswered> {
        let rows = silver.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let (batch, index) = match column {
                Column::Silver(index) => (Some(silver), *index),
                Column::Following(table, index) => (following.get(*table).map(|table| &table.rows), *index),
            };
            let found = batch.and_then(|batch| batch.columns().get(index));
            columns.push(ArrayRef::clone(found.ok_or("a column that the model reads is gone")?));
        }
        let encoded = self.encoder.encode(&columns, rows)?;
        let probabilities = match encoded.values.chunks_exact(self.width().max(1)) {
            rows if rows.len() == 1 => rows.map(|row| self.model.probability(row)).collect(),
            _ => {
                let shape = (rows, self.width());
                let records = ndarray::ArrayView2::from_shape(shape, &encoded.values).map_err(|e| e.to_string())?;
                self.model.probabilities(records).to_vec()
            }
        };
        Ok(Answers { encoded, probabilities, contributions: Vec::new() })
    }

    /// Finds the contributions of all rows that were answered: each tree comes into the cache once for them.
    pub(super) fn contribute(&self, answers: &mut Answers) {
        answers.contributions = self.model.contributions_of(&answers.encoded.values);
    }

    /// What moved the answer for a row most, the strongest first: the feature, its value, and what it adds on the scale
    /// of the model before calibration.
    #[must_use]
    pub fn contributions(&self, answers: &Answers, row: usize, most: usize) -> Vec<(usize, f32, f64)> {
        let values = answers.encoded.values.chunks_exact(self.width().max(1)).nth(row);
        let Some(row_values) = values else { return Vec::new() };
        let parts = match answers.contributions.get(row) {
            Some(parts) => Cow::Borrowed(parts),
            None => Cow::Owned(self.model.contributions(row_values)),
        };
        let mut ranked: Vec<(usize, f32, f64)> = row_values
            .iter()
            .zip(&parts.features)
            .enumerate()
            .map(|(feature, (value, part))| (feature, *value, *part))
            .collect();
        ranked.retain(|(_, _, part)| *part != 0.0);
        ranked.sort_by(|one, other| other.2.abs().total_cmp(&one.2.abs()).then(one.0.cmp(&other.0)));
        ranked.truncate(most);
        ranked
    }

    /// A version that looks for its columns where there are none.
    #[cfg(test)]
    pub fn broken(mut self) -> Self {
        self.columns.fill(Column::Silver(usize::MAX));
        self
    }

    /// The scale of [`Served::contributions`].
    #[must_use]
    pub fn scale(&self) -> crate::model::Scale {
        self.model.scale()
    }
}

fn find(manifest: &Manifest, column: &str, pipeline: &ScoringPipeline) -> Result<(Column, DataType), String> {
    let in_schema = |schema: &SchemaRef, name: &str| {
        let (index, field) = schema.column_with_name(name)?;
        Some((index, field.data_type().clone()))
    };
    let (silver, silver_schema) = pipeline.silver();
    let in_table = |table: &TableName, name: &str| -> Option<(Column, DataType)> {
        if table == silver {
            return in_schema(silver_schema, name).map(|(index, kind)| (Column::Silver(index), kind));
        }
        let (number, (_, schema)) = pipeline.tables().enumerate().find(|(_, (known, _))| *known == table)?;
        in_schema(schema, name).map(|(index, kind)| (Column::Following(number, index), kind))
    };
    let source = manifest.data.lake.iter().flat_map(|lake| &lake.columns).find(|known| known.column == column);
    let found = match source {
        Some(known) => known.table.parse().ok().and_then(|table: TableName| in_table(&table, &known.of)),
        // Trained on a table of the user's own: its columns go by their names.
        None => in_table(silver, column).or_else(|| pipeline.tables().find_map(|(table, _)| in_table(table, column))),
    };
    found.ok_or_else(|| {
        let place = source.map_or_else(|| column.to_owned(), |known| format!("{}.{}", known.table, known.of));
        format!("{}@{} reads {place}, which requests do not have", manifest.name, manifest.version)
    })
}
