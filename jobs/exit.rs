//! How a job ends: the codes that schedulers see, and the errors that choose among them.

use std::process::ExitCode;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Something went wrong that may go right the next time.
    Failed = 1,
    /// A bad argument, query, setting or contract: the same call will fail again.
    Usage = 2,
    /// The job did its work, and the data did not pass.
    Refused = 3,
}

impl Exit {
    /// What an error means, wherever in its chain a [`Refused`] or [`UsageError`] is.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if error.downcast_ref::<Refused>().is_some() || error.chain().any(|cause| cause.is::<Refused>()) {
            return Self::Refused;
        }
        if error.downcast_ref::<UsageError>().is_some() || error.chain().any(|cause| cause.is::<UsageError>()) {
            return Self::Usage;
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The data did not pass a gate or a verification. Exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The user asked for something that cannot be. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_kind_of_an_error_survives_its_context() {
        let refused: Result<(), _> = Err(Refused("3 rows are missing".to_owned()));
        assert_eq!(Exit::of(&refused.context("verify").unwrap_err()), Exit::Refused);
        let usage: anyhow::Result<()> = Err(UsageError("no such table".to_owned()).into());
        assert_eq!(Exit::of(&usage.context("sql").context("job").unwrap_err()), Exit::Usage);
        assert_eq!(Exit::of(&anyhow::anyhow!("the broker is away")), Exit::Failed);
        assert_eq!([Exit::Done as u8, Exit::Failed as u8, Exit::Usage as u8, Exit::Refused as u8], [0, 1, 2, 3]);
    }
}
