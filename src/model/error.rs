use thiserror::Error;

/// Why samples were refused, or a model could not be fitted, evaluated or read.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A column of the samples is not as long as the others.
    #[error("{what} has {found} entries where {expected} are needed: give one per row (or per feature)")]
    Length { what: &'static str, expected: usize, found: usize },

    /// Absent values are encoded by the caller, for instance as -1.
    #[error("feature `{feature}` is {value} in row {row}: encode absent values as a number, for instance -1")]
    NotFinite { feature: String, row: usize, value: f32 },

    #[error("feature `{name}` stands twice: rename or drop one of them")]
    DuplicateFeature { name: String },

    #[error("there are no {what}: nothing can be learned or measured")]
    Empty { what: &'static str },

    #[error("row {row} was asked for, but there are {rows} rows")]
    RowOutOfRange { row: usize, rows: usize },

    /// Nothing can be told apart when all labels are the same.
    #[error("all {rows} labels are {label}: give samples of both classes")]
    OneClass { rows: usize, label: bool },

    #[error("{family}: `{parameter}` is {value}, but must be {must_be}")]
    Parameter { family: &'static str, parameter: &'static str, value: String, must_be: &'static str },

    #[error(
        "{rows} rows of {features} features are too many: take at most {rows_max} rows and {features_max} features"
    )]
    TooLarge { rows: usize, features: usize, rows_max: usize, features_max: usize },

    /// A model reads rows of exactly the features that it was fitted on, in their order.
    #[error("the model reads {expected} features, but the rows have {found}")]
    FeatureCount { expected: usize, found: usize },

    #[error("the score of row {row} is {value}: scores must be finite, and probabilities within 0 and 1")]
    Score { row: usize, value: f64 },

    /// `fold` counts from 0.
    #[error("fold {fold}: {reason}")]
    Fold { fold: usize, reason: &'static str },

    /// A stored model that cannot be what was written.
    #[error("the stored model is not usable: {reason}; take another version or train again")]
    Artifact { reason: String },

    /// What linfa itself reports.
    #[error("linfa: {reason}")]
    Linfa { reason: String },
}

impl From<linfa::Error> for ModelError {
    fn from(error: linfa::Error) -> Self {
        Self::Linfa { reason: error.to_string() }
    }
}
