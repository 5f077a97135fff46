/// How whoever started a job should react to its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The same call may succeed later.
    Retry,
    /// Settings, SQL or contract must be corrected first.
    Correct,
    /// The data does not pass.
    Refused,
}
