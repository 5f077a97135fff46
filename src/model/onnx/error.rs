use thiserror::Error;

/// Why a model cannot be written as ONNX, or an ONNX file cannot become a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OnnxError {
    #[error("this is no ONNX file that can be read: {cause}")]
    Unreadable { cause: String },

    /// `place` is the node's own name, which exporters make up.
    #[error(
        "the operator `{operator}`{place} cannot be taken in{reason}; assay imports one TreeEnsembleClassifier, \
         TreeEnsembleRegressor or LinearClassifier of two classes, with Scaler, Imputer, Concat and Cast before it"
    )]
    Operator { operator: String, place: String, reason: String },

    #[error("there is no model in this file: it has the operators {operators}")]
    NoModel { operators: String },

    #[error("{operator}: {reason}; the file is damaged or was cut by hand: export it again")]
    Malformed { operator: String, reason: String },

    #[error("{operator}: {reason}")]
    Meaning { operator: String, reason: String },

    #[error("the input `{input}` is {found}, and features are single floats: export the model with float inputs")]
    Input { input: String, found: String },

    #[error("the file does not name its {features} features: name them in order with --features, separated by commas")]
    Unnamed { features: usize },

    #[error("{given} features are named by {by}, and the model reads {features}")]
    NamedOtherwise { given: usize, by: &'static str, features: usize },

    #[error("the feature `{name}` is named twice")]
    NamedTwice { name: String },

    #[error("{what} is too large: at most {max} are held")]
    TooLarge { what: String, max: usize },

    #[error("the column `{column}` cannot be an input of a graph by that name; rename it and train again")]
    ColumnName { column: String },

    #[error("the metadata cannot be written as JSON: {cause}")]
    Json { cause: String },
}
