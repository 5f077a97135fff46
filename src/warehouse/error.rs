use tokio_postgres::error::ErrorPosition;

use crate::domain::Reaction;
use crate::lake::LakeError;
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

    #[error("{file}: the lake cannot answer it: {cause}")]
    Query { file: String, cause: String },

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
            Self::Query { .. } | Self::Busy { .. } | Self::Moved { .. } => Reaction::Retry,
            Self::Connect { code, .. } | Self::Postgres { code, .. } => of_code(code.as_deref()),
            Self::Checks { .. } => Reaction::Refused,
            Self::Setting { .. }
            | Self::Sql(_)
            | Self::Drift { .. }
            | Self::ForeignPipeline { .. }
            | Self::Rewound { .. }
            | Self::Until { .. } => Reaction::Correct,
        }
    }

    pub(super) fn of(action: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |error| {
            let (code, cause) = told(&error);
            Self::Postgres { action: action.into(), code, cause }
        }
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
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        return (None, text);
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
}
