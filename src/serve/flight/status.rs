//! Errors as gRPC tells them.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::serve::sql::failure::{Failure, state};

/// Characters of a message. It travels in a header, and clients bound those.
const MESSAGE_MAX: usize = 2000;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let parts = [failure.message(), failure.shown(), failure.hint().unwrap_or_default()];
        let text = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("\n");
        let text = match text.char_indices().nth(MESSAGE_MAX) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        };
        let mut status = Self::new(code_of(&failure), text);
        status.metadata_mut().insert("sqlstate", MetadataValue::from_static(failure.code()));
        status
    }
}

fn code_of(failure: &Failure) -> Code {
    match failure.code() {
        state::CANCELED if failure.is_overdue() => Code::DeadlineExceeded,
        state::CANCELED => Code::Cancelled,
        state::PERMISSION => Code::PermissionDenied,
        // Wrong whatever the state; and ADBC's driver knows no other code for that.
        state::READ_ONLY => Code::InvalidArgument,
        state::NOT_SUPPORTED => Code::Unimplemented,
        state::CANNOT_CONNECT_NOW => Code::Unavailable,
        state::INTERNAL => Code::Internal,
        code => match code.get(..2) {
            Some("22" | "42" | "08") => Code::InvalidArgument,
            Some("25" | "55") => Code::FailedPrecondition,
            Some("28") => Code::Unauthenticated,
            Some("53" | "54") => Code::ResourceExhausted,
            Some("58") => Code::Unavailable,
            _ => Code::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_what_to_do_by_the_code() {
        for (code, expected) in [
            (state::SYNTAX, Code::InvalidArgument),
            (state::UNDEFINED_TABLE, Code::InvalidArgument),
            (state::DIVISION_BY_ZERO, Code::InvalidArgument),
            (state::PERMISSION, Code::PermissionDenied),
            (state::INVALID_PASSWORD, Code::Unauthenticated),
            (state::READ_ONLY, Code::InvalidArgument),
            (state::OUT_OF_MEMORY, Code::ResourceExhausted),
            (state::LIMIT_EXCEEDED, Code::ResourceExhausted),
            (state::CANCELED, Code::Cancelled),
            (state::CANNOT_CONNECT_NOW, Code::Unavailable),
            (state::INTERNAL, Code::Internal),
        ] {
            let status = Status::from(Failure::new(code, "what").with_hint("do this"));
            assert_eq!((status.code(), status.message()), (expected, "what\ndo this"), "{code}");
            assert_eq!(status.metadata().get("sqlstate").unwrap(), code);
        }
        let overdue = Status::from(Failure::overdue(crate::serve::sql::measured::Protocol::Flight));
        assert_eq!(overdue.code(), Code::DeadlineExceeded);
        assert!(overdue.message().contains("flight.statement_timeout_ms"), "{overdue}");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let status = Status::from(Failure::new(state::SYNTAX, "ü".repeat(5000)));
        assert_eq!(status.message().chars().count(), MESSAGE_MAX + 1);
    }
}
