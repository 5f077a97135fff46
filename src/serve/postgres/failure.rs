use pgwire::error::{ErrorInfo, PgWireError};

pub(super) use crate::serve::sql::failure::{Failure, state};

impl From<Failure> for PgWireError {
    fn from(failure: Failure) -> Self {
        let severity = if failure.is_fatal() { "FATAL" } else { "ERROR" };
        let mut info = ErrorInfo::new(severity.to_owned(), failure.code().to_owned(), failure.message().to_owned());
        info.severity_nonlocalized = Some(severity.to_owned());
        info.hint = failure.hint().map(str::to_owned);
        info.position = failure.position().map(|position| position.to_string());
        Self::UserError(Box::new(info))
    }
}
