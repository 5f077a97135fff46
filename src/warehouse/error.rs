use datafusion::common::DataFusionError;
use tokio_postgres::error::ErrorPosition;

use crate::domain::{Reaction, with_causes};
use crate::lake::LakeError;
use crate::query::{Explained, Names};
use crate::refine::SqlFileError;

/// Why the warehouse is not what the lake is.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    #[error("warehouse.{key} {cause}")]
    Setting { key: &'static str, cause: String },

    #[error(transparent)]
    Sql(#[from] SqlFileError),

    #[error(transparent)]
    Lake(#[from] LakeError),

    #[error("{file}: the lake cannot answer it: {}", fault.cause)]
    Query { file: String, fault: QueryFault },

    #[error("the warehouse at {place} cannot be reached: {cause}")]
    Connect { place: String, code: Option<String>, cause: String },

    #[error("the warehouse: {action} failed{}: {cause}", shown(code.as_deref()))]
    Postgres { action: String, code: Option<String>, cause: String },

    #[error("the warehouse at {place} is being loaded by {holder}; wait for it, or end it")]
    Busy { place: String, holder: String },

    #[error(
        "the tables of {schema} are not what the files say:\n{diff}\nPut it right in one of three ways: correct the file; run \
         `assay warehouse --migrate`, which adds columns that may be NULL; or run `assay warehouse --full`, which drops \
         these tables and fills them anew"
    )]
    Drift { schema: String, diff: String },

    #[error(
        "{user} cannot load {schema}:\n{told}\nRun the job as the owner, make {user} a member of the owner's role (GRANT owner TO \
         {user}), or give another warehouse.schema"
    )]
    NotOurs { schema: String, user: String, told: String },

    #[error("the lake has no complete epoch yet, so there is nothing to load; the warehouse is left as it is")]
    NoEpoch,

    #[error(
        "the connection to the warehouse moves between sessions of the server, as behind a pooler in transaction mode \
         (pgbouncer): locks and settings of a session do not hold there, and nothing of this step was kept. Give the server's \
         own address, or a pool with pool_mode = session"
    )]
    Pooled,

    #[error(
        "--until {until} is before epoch {rebuild}, a rebuild: rows of the epochs up to {until} are read as it left them. Use \
         --until {rebuild} or a later epoch, or --full with it"
    )]
    UntilRebuild { until: i64, rebuild: i64 },

    #[error(
        "{schema} was loaded from the pipeline `{found}`, and this lake is of `{wanted}`; nothing was changed. Give another \
         warehouse.schema"
    )]
    ForeignPipeline { schema: String, found: String, wanted: String },

    #[error(
        "{schema} holds epoch {stored}, and {cause}: the lake was taken back, or is another one. Nothing was changed. `assay \
         warehouse --full` makes the warehouse what the lake is now"
    )]
    Rewound { schema: String, stored: i64, cause: String },

    #[error(
        "--until {until} is before epoch {stored}, which {schema} holds: rows are never taken back. Use --full with it"
    )]
    Until { schema: String, until: i64, stored: i64 },

    #[error("{schema} moved to another epoch while this run was loading it; nothing of this step was kept. Try again")]
    Moved { schema: String },

    #[error(
        "{count} of the warehouse's checks do not hold, so the rows of epochs {from} to {to} were not kept:\n{told}"
    )]
    Checks { count: usize, from: i64, to: i64, told: String },
}

impl WarehouseError {
    /// What to do about it.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Lake(error) => error.reaction(),
            Self::Query { fault, .. } if fault.is_usage => Reaction::Correct,
            Self::Query { .. } | Self::Busy { .. } | Self::Moved { .. } | Self::NoEpoch => Reaction::Retry,
            Self::Connect { code, .. } | Self::Postgres { code, .. } => of_code(code.as_deref()),
            Self::Checks { .. } => Reaction::Refused,
            Self::Setting { .. }
            | Self::Sql(_)
            | Self::Drift { .. }
            | Self::ForeignPipeline { .. }
            | Self::Rewound { .. }
            | Self::NotOurs { .. }
            | Self::Pooled
            | Self::UntilRebuild { .. }
            | Self::Until { .. } => Reaction::Correct,
        }
    }

    /// With what to do about rows that PostgreSQL has no place for.
    #[must_use]
    pub(super) fn advised(self) -> Self {
        let advice = |code: &str| match code {
            "54000" => Some(
                "an entry of an index holds 2,704 bytes. Leave such rows out in the file of the table, with WHERE \
                 octet_length(column) <= 2600 for the texts of its key and indexes, or shorten them there",
            ),
            "23505" => Some(
                "the key of the file does not tell these rows apart. Texts that differ only in a NUL and a U+FFFD are one text \
                 in PostgreSQL: leave one of them out in the file of the table",
            ),
            _ => None,
        };
        match self {
            Self::Postgres { action, code: Some(code), cause } => {
                let cause = advice(&code).map_or_else(|| cause.clone(), |advice| format!("{cause}; {advice}"));
                Self::Postgres { action, code: Some(code), cause }
            }
            other => other,
        }
    }

    pub(super) fn of(action: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |error| {
            let (code, cause) = told(&error);
            Self::Postgres { action: action.into(), code, cause }
        }
    }
}

/// Why the lake did not answer a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFault {
    pub cause: String,
    /// The query is wrong, or asks what its rows do not allow: another attempt ends the same way.
    pub is_usage: bool,
}

impl QueryFault {
    /// Of assay or of the machine.
    pub(super) fn internal(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), is_usage: false }
    }

    pub(super) fn of(error: &DataFusionError, sql: &str) -> Self {
        // What an expression cannot compute of a row, it cannot compute of it tomorrow.
        let explained = Explained::new(error, sql, &Names::default(), true);
        Self { cause: explained.render(sql), is_usage: explained.is_usage }
    }
}

/// By the class of the code: what a new attempt may pass, what must be corrected, and rows that break a constraint.
fn of_code(code: Option<&str>) -> Reaction {
    match code.and_then(|code| code.get(..2)) {
        // Rows that are too large for an index (54), or stand twice in one merge (21), come again at each attempt.
        Some("21" | "22" | "23" | "54") => Reaction::Refused,
        Some("28" | "3D" | "3F" | "42" | "0A" | "2B") => Reaction::Correct,
        _ => Reaction::Retry,
    }
}

fn shown(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

/// The code of an error, and the error in words: what the server said, or what happened to the connection.
pub(super) fn told(error: &tokio_postgres::Error) -> (Option<String>, String) {
    let Some(said) = error.as_db_error() else {
        return (None, with_causes(error));
    };
    let more = [said.detail(), said.hint(), said.where_()].into_iter().flatten().map(|more| format!("; {more}"));
    let text = std::iter::once(said.message().to_owned()).chain(more).collect::<String>();
    (Some(said.code().code().to_owned()), text)
}

/// The character of the statement at which the server saw the fault, from 1.
pub(super) fn position(error: &tokio_postgres::Error) -> Option<usize> {
    match error.as_db_error()?.position()? {
        ErrorPosition::Original(at) => usize::try_from(*at).ok(),
        ErrorPosition::Internal { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_to_do() {
        let of = |code: Option<&str>| {
            WarehouseError::Postgres { action: "COPY".into(), code: code.map(Into::into), cause: "x".into() }.reaction()
        };
        for code in [None, Some("40001"), Some("40P01"), Some("57P01"), Some("53300"), Some("08006")] {
            assert_eq!(of(code), Reaction::Retry, "{code:?}");
        }
        assert_eq!(of(Some("42501")), Reaction::Correct);
        assert_eq!(of(Some("28P01")), Reaction::Correct);
        assert_eq!(of(Some("23505")), Reaction::Refused);
    }

    #[test]
    fn a_query_that_is_wrong_is_not_tried_again_and_a_store_that_fails_is() {
        let reaction = |error: DataFusionError| {
            WarehouseError::Query { file: "t.sql".into(), fault: QueryFault::of(&error, "SELECT 1 / x FROM t") }
                .reaction()
        };
        let arrow = |error| DataFusionError::ArrowError(Box::new(error), None);
        for error in [
            arrow(arrow::error::ArrowError::DivideByZero),
            arrow(arrow::error::ArrowError::CastError("'x' is no INT".into())),
            DataFusionError::Execution("repeat wants a number".into()),
            DataFusionError::Plan("no column".into()),
        ] {
            assert_eq!(reaction(error), Reaction::Correct);
        }
        for error in [
            DataFusionError::IoError(std::io::Error::other("disk")),
            DataFusionError::ResourcesExhausted("memory".into()),
            arrow(arrow::error::ArrowError::IoError("disk".into(), std::io::Error::other("disk"))),
            DataFusionError::External("the store does not answer".into()),
        ] {
            assert_eq!(reaction(error), Reaction::Retry);
        }
    }

    #[test]
    fn a_row_without_a_place_says_what_to_do() {
        let of = |code: &str| {
            WarehouseError::Postgres { action: "to copy".into(), code: Some(code.into()), cause: "x".into() }
                .advised()
                .to_string()
        };
        assert!(of("54000").contains("octet_length") && of("23505").contains("U+FFFD"));
        assert!(of("40001").ends_with("x"));
    }
}
