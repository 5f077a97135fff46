//! The whole pipeline as a library, on lakes in memory and in temporary folders. Needs no services.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

mod conservation;
mod console;
mod crash;
mod drift;
mod fault;
mod flight;
mod kit;
mod listening;
mod rebuilding;
mod replaying;
mod serving;
mod sql;
mod standing;
mod streamed;
mod traces;
mod training;
mod values;
mod verifying;
mod warehouse;
