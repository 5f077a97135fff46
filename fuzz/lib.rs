//! What must hold whatever the input is: the bodies of the fuzz targets, each with the inputs to begin with.
//!
//! `fuzz_targets/` hands them to libFuzzer. `tests/fuzz.rs` is made of this file too and needs no other compiler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fuzz target ends at the first surprise")]

mod decoding;
mod sample;

pub mod decode_avro;
pub mod decode_json;
pub mod files;
pub mod onnx;
pub mod restatements;
pub mod settings;
pub mod sql_file;

/// A decoder under test.
pub struct Target {
    pub name: &'static str,
    /// Panics when something does not hold for these bytes.
    pub check: fn(&[u8]),
    /// Inputs that reach far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: [Target; 7] = [
    Target { name: "decode_avro", check: decode_avro::check, seeds: decode_avro::seeds },
    Target { name: "decode_json", check: decode_json::check, seeds: decode_json::seeds },
    Target { name: "files", check: files::check, seeds: files::seeds },
    Target { name: "onnx", check: onnx::check, seeds: onnx::seeds },
    Target { name: "restatements", check: restatements::check, seeds: restatements::seeds },
    Target { name: "settings", check: settings::check, seeds: settings::seeds },
    Target { name: "sql_file", check: sql_file::check, seeds: sql_file::seeds },
];
