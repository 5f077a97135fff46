use super::measured::Protocol;
use crate::lake::LakeError;
use crate::query::{Explained, Names, Place, SqlTextError, TooLarge, caret};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};

/// SQLSTATE codes.
#[rustfmt::skip]
pub(in crate::serve) mod state {
    pub const AMBIGUOUS: &str = "42702";
    pub const CANCELED: &str = "57014";
    pub const CANT_CHANGE: &str = "55P02";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    pub const CHANGED_RESULT: &str = "0A000";
    pub const DATA: &str = "22000";
    pub const DIVISION_BY_ZERO: &str = "22012";
    pub const FAILED_TRANSACTION: &str = "25P02";
    pub const INTERNAL: &str = "XX000";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const INVALID_TEXT: &str = "22P02";
    pub const INVALID_VALUE: &str = "22023";
    pub const IO: &str = "58030";
    pub const LIMIT_EXCEEDED: &str = "54000";
    pub const NO_ACTIVE_TRANSACTION: &str = "25P01";
    pub const NOT_SUPPORTED: &str = "0A000";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const OUT_OF_RANGE: &str = "22003";
    pub const PERMISSION: &str = "42501";
    pub const PROTOCOL: &str = "08P01";
    pub const READ_ONLY: &str = "25006";
    pub const SYNTAX: &str = "42601";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const UNDEFINED_FUNCTION: &str = "42883";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const WRONG: &str = "42000";
}

/// What a client is told of a statement that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) struct Failure {
    code: &'static str,
    message: String,
    hint: String,
    /// Characters from the start of the query string, from 1.
    position: Option<usize>,
    /// The line of the query with that place.
    shown: String,
    fatal: bool,
    /// Time was up.
    overdue: bool,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: String::new(),
            position: None,
            shown: String::new(),
            fatal: false,
            overdue: false,
        }
    }

    /// Ends the connection.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::new(code, message) }
    }

    /// A statement was stopped because somebody said so.
    pub fn cancelled() -> Self {
        Self::new(state::CANCELED, "canceling statement due to user request")
    }

    /// A statement was stopped because it took too long.
    pub fn overdue(protocol: Protocol) -> Self {
        let hint = format!("ask for less, or raise {}.statement_timeout_ms", protocol.as_str());
        let canceled = Self::new(state::CANCELED, "canceling statement due to statement timeout");
        Self { overdue: true, ..canceled.with_hint(&hint) }
    }

    /// The answer is larger than it may be.
    pub fn too_many_rows(rows_max: u64, protocol: Protocol) -> Self {
        let failure = Self::new(state::LIMIT_EXCEEDED, format!("the answer has more than {rows_max} rows"));
        let raise = format!("raise {}.rows_max", protocol.as_str());
        failure.with_hint(&format!("add LIMIT or a condition, {raise}, or write a file with `assay sql`"))
    }

    pub fn with_hint(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.hint);
        self
    }

    fn at(mut self, sql: &str, place: Option<Place>) -> Self {
        self.position = place.map(|place| offset(sql, place));
        self.shown = place.map(|place| caret(sql, place)).unwrap_or_default();
        self
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hint(&self) -> Option<&str> {
        Some(self.hint.as_str()).filter(|hint| !hint.is_empty())
    }

    /// Characters from the start of the query string, from 1.
    pub fn position(&self) -> Option<usize> {
        self.position
    }

    /// The line of the query with a caret where the fault is; empty where that is not known.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    pub fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// An error of the engine, for the one who wrote `sql`.
    pub fn of_engine(error: &DataFusionError, sql: &str, names: &Names, planning: bool) -> Self {
        if let Some(LakeError::Epoch(_)) = lake_error(error) {
            return Self::new(state::INVALID_VALUE, error.strip_backtrace());
        }
        let explained = Explained::new(error, sql, names, planning);
        let hint = match explained.did_you_mean.as_slice() {
            [] => String::new(),
            names => format!("Did you mean {}?", names.join(" or ")),
        };
        let code = code_of(error.find_root(), planning);
        if code == state::READ_ONLY {
            return Self::new(code, "cannot execute this in a read-only transaction").with_hint(&explained.message);
        }
        Self::new(code, explained.message).with_hint(&hint).at(sql, explained.place)
    }

    pub fn of_text(error: &SqlTextError, sql: &str) -> Self {
        let (line, column) = error.position();
        Self::new(state::SYNTAX, error.to_string()).at(sql, Some(Place { line, column, width: 1 }))
    }

    pub fn of_lake(error: &LakeError) -> Self {
        let code = match error {
            LakeError::Epoch(_) => state::INVALID_VALUE,
            LakeError::NoLake { .. } | LakeError::Missing { .. } => state::CANNOT_CONNECT_NOW,
            _ => state::IO,
        };
        Self::new(code, error.to_string())
    }
}

fn lake_error(error: &DataFusionError) -> Option<&LakeError> {
    match error.find_root() {
        DataFusionError::External(cause) => cause.downcast_ref(),
        _ => None,
    }
}

fn code_of(error: &DataFusionError, planning: bool) -> &'static str {
    match error {
        DataFusionError::SQL(..) => state::SYNTAX,
        DataFusionError::SchemaError(schema, _) => match **schema {
            SchemaError::FieldNotFound { .. } => state::UNDEFINED_COLUMN,
            SchemaError::AmbiguousReference { .. } => state::AMBIGUOUS,
            _ => state::WRONG,
        },
        DataFusionError::Plan(text) => match text {
            text if text.starts_with("table '") && text.contains("not found") => state::UNDEFINED_TABLE,
            text if text.starts_with("Invalid function '") => state::UNDEFINED_FUNCTION,
            text if ["DDL", "DML", "Statement"]
                .iter()
                .any(|kind| text.starts_with(&format!("{kind} not supported"))) =>
            {
                state::READ_ONLY
            }
            _ => state::WRONG,
        },
        // WITH … INSERT, which the engine has no plan for.
        DataFusionError::NotImplemented(text)
            if ["INSERT", "UPDATE", "DELETE", "MERGE"]
                .iter()
                .any(|word| text.starts_with(&format!("Query {word} "))) =>
        {
            state::READ_ONLY
        }
        DataFusionError::NotImplemented(_) => state::NOT_SUPPORTED,
        DataFusionError::ResourcesExhausted(_) => state::OUT_OF_MEMORY,
        DataFusionError::ArrowError(cause, _) => of_value(cause),
        DataFusionError::Execution(_) if planning => state::WRONG,
        DataFusionError::Execution(_) => state::DATA,
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => state::IO,
        DataFusionError::External(cause) if cause.is::<TooLarge>() => state::LIMIT_EXCEEDED,
        DataFusionError::External(_) if !planning => state::IO,
        _ => state::INTERNAL,
    }
}

fn of_value(error: &ArrowError) -> &'static str {
    match error {
        ArrowError::DivideByZero => state::DIVISION_BY_ZERO,
        ArrowError::CastError(_) | ArrowError::ParseError(_) => state::INVALID_TEXT,
        ArrowError::ArithmeticOverflow(_) => state::OUT_OF_RANGE,
        ArrowError::ComputeError(_) | ArrowError::InvalidArgumentError(_) => state::DATA,
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => code_of(inner.find_root(), false),
            None => state::INTERNAL,
        },
        _ => state::INTERNAL,
    }
}

fn offset(sql: &str, place: Place) -> usize {
    let line = usize::try_from(place.line).unwrap_or(1).saturating_sub(1);
    let before: usize = sql.split('\n').take(line).map(|line| line.chars().count() + 1).sum();
    before + usize::try_from(place.column).unwrap_or(1).max(1)
}
