//! Errors as gRPC tells them.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::serve::sql::failure::{Failure, state};

/// Bytes of a message as it travels: in a header, percent-encoded. Clients bound those, some all of them at 8 KiB.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let parts = [failure.message(), failure.shown(), failure.hint().unwrap_or_default()];
        let text = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("\n");
        let text = match end_of(&text) {
            Some(end) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        };
        let mut status = Self::new(code_of(&failure), text);
        status.metadata_mut().insert("sqlstate", MetadataValue::from_static(failure.code()));
        status
    }
}

/// Where a text is cut that is too long.
fn end_of(text: &str) -> Option<usize> {
    let mut bytes = 0;
    let mut is_too_long = |character: char| {
        let is_plain =
            matches!(character, '!'..='~') && !matches!(character, '%' | '"' | '#' | '<' | '>' | '`' | '?' | '{' | '}');
        bytes += if is_plain { 1 } else { 3 * character.len_utf8() };
        bytes > MESSAGE_BYTES_MAX
    };
    text.char_indices().find(|(_, character)| is_too_long(*character)).map(|(end, _)| end)
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
        assert_eq!(status.message().chars().count(), MESSAGE_BYTES_MAX / 6 + 1);
        let status = Status::from(Failure::new(state::SYNTAX, "u".repeat(5000)));
        assert_eq!(status.message().chars().count(), MESSAGE_BYTES_MAX + 1);
        let status = Status::from(Failure::new(state::SYNTAX, format!("x{}", " {".repeat(5000))));
        assert_eq!(status.message().chars().count(), 1 + (MESSAGE_BYTES_MAX - 1) / 3 + 1);
        let status = Status::from(Failure::new(state::SYNTAX, "ü".repeat(600)));
        assert_eq!(status.message(), "ü".repeat(600));
    }
}
