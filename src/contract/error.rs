use std::fmt;
use std::io;
use std::path::PathBuf;

/// A contract that cannot be used, with the file and, where there is one, the line.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    #[error("contract `{name}` is not in {folder}: write its Avro schema to {folder}/{name}.v1.avsc", folder = folder.display())]
    Missing { folder: PathBuf, name: String },

    #[error("{path} could not be read: {cause}", path = path.display())]
    Unreadable { path: PathBuf, cause: io::Error },

    #[error("{file} is not named for a version: name it {name}.v<n>.avsc, with n counted from 1")]
    FileName { file: String, name: String },

    #[error(
        "contract `{name}` has a version {found} but no version {expected}: add {name}.v{expected}.avsc, or renumber"
    )]
    Gap { name: String, expected: u32, found: u32 },

    #[error("{file}:{line}:{column}: not JSON: {cause}")]
    Syntax { file: String, line: usize, column: usize, cause: String },

    #[error("{file}:{line}: {problem}")]
    Invalid { file: String, line: usize, problem: Box<Problem> },

    /// Rows of an earlier version could not be read with this one.
    #[error("{file}:{line}: cannot read what {earlier} wrote: {problem}")]
    Incompatible { file: String, line: usize, earlier: String, problem: Box<Problem> },
}

/// What is wrong with a schema, where in it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field concerned; `None` when it is the schema as a whole.
    pub field: Option<String>,
    pub what: String,
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: None, what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn at(mut self, field: &str) -> Self {
        self.field.get_or_insert_with(|| field.to_owned());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "field `{field}`: ")?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}
