//! The command line. Each job is one file: thin arguments and a `run`.
#![allow(dead_code, unused_imports, reason = "the jobs that use these modules join them when the branches meet")]

mod exit;
mod sql;
mod ui;

fn main() {}
