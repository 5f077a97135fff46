//! The fuzz targets without a fuzzer: their own inputs, and thousands made of them by chance that is always the same.
//!
//! `FUZZ_CORPUS=fuzz/corpus cargo test --test fuzz` writes the inputs for a fuzzer to begin with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

#[path = "../fuzz/lib.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use targets::{TARGETS, Target};

#[test]
fn decode_avro() {
    drive("decode_avro", 4_000);
}

#[test]
fn decode_json() {
    drive("decode_json", 4_000);
}

#[test]
fn files() {
    drive("files", 2_000);
}

#[test]
fn onnx() {
    drive("onnx", 4_000);
}

#[test]
fn restatements() {
    drive("restatements", 2_000);
}

#[test]
fn settings() {
    drive("settings", 2_000);
}

#[test]
fn sql_file() {
    drive("sql_file", 300);
}

fn drive(name: &str, inputs: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = (target.seeds)();
    if let Some(corpus) = std::env::var_os("FUZZ_CORPUS") {
        let folder = Path::new(&corpus).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
    let mut random = SmallRng::seed_from_u64(1);
    seeds.iter().for_each(|seed| check(target, seed));
    for _ in 0..inputs {
        check(target, &mutated(&seeds, &mut random));
    }
}

fn check(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.check)(input))).is_err() {
        panic!("{} does not hold for b\"{}\"", target.name, input.escape_ascii());
    }
}

/// An input with some of its bytes overwritten, cut out, said again, or taken from another one.
fn mutated(seeds: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut input = seeds.choose(random).unwrap().clone();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=input.len());
        let end = (at + random.random_range(0..16)).min(input.len());
        match random.random_range(0..6) {
            0 => input.insert(at, random.random()),
            1 => input.insert(at, *b"\0\n\r\"',;(){}[]=-.0189\xff\x80".choose(random).unwrap()),
            2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            3 => drop(input.drain(at..end)),
            4 => {
                let said = input[at..end].to_vec();
                let to = random.random_range(0..=input.len());
                input.splice(to..to, said);
            }
            _ => {
                let other = seeds.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                let until = (from + random.random_range(0..32)).min(other.len());
                input.splice(at..end, other[from..until].iter().copied());
            }
        }
    }
    input
}
