//! Decoding messages of the transactions contract to Arrow, in rows per second on one core.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench or test ends at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;

use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::domain::{MessageBatch, MessageBatchBuilder};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: u32 = 10_000;

fn decode(criterion: &mut Criterion) {
    let contract = Arc::new(Contract::embedded().expect("the contract is tested"));
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(ROWS.into()));
    let cases = [
        ("avro v1", Format::Avro, batch(|row| avro(row, 1))),
        ("avro v1 and v2 in turns", Format::Avro, batch(|row| avro(row, 1 + row % 2))),
        ("avro, one in 1000 not UTF-8", Format::Avro, batch(|row| harmed(row, avro(row, 1)))),
        ("json", Format::Json, batch(json)),
    ];
    for (name, format, batch) in cases {
        let lookup = Box::new(LocalSchemas::new(contract.clone()));
        let mut decoder = Decoder::new(contract.clone(), format, lookup);
        group.bench_function(name, |bencher| bencher.iter(|| decoder.decode(black_box(&batch))));
    }
    group.finish();
}

fn batch(payload: impl Fn(u32) -> Vec<u8>) -> MessageBatch {
    let mut builder = MessageBatchBuilder::default();
    for row in 0..ROWS {
        builder.push("transactions", 0, row.into(), None, None, Some(&payload(row)), Vec::new());
    }
    builder.finish()
}

fn texts(row: u32) -> [String; 6] {
    [
        format!("{:08x}-7a31-4f6e-9c55-{:012x}", row.wrapping_mul(2_654_435_761), row),
        format!("merchant_{}", row % 2_000),
        format!("2026-03-01T12:{:02}:{:02}.250Z", row / 60 % 60, row % 60),
        ["credit_card", "paypal", "crypto"][row as usize % 3].to_owned(),
        "Amsterdam, Netherlands".to_owned(),
        format!("device_{}", row % 5_000),
    ]
}

fn avro(row: u32, version: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(version.to_be_bytes());
    let [id, merchant, at, method, location, device] = texts(row);
    string(&mut bytes, &id);
    long(&mut bytes, u64::from(row % 100_000));
    bytes.extend((f64::from(row) * 0.37).to_le_bytes());
    string(&mut bytes, &merchant);
    string(&mut bytes, &at);
    bytes.push(u8::from(row.is_multiple_of(50)));
    for text in [method, location, device] {
        string(&mut bytes, &text);
    }
    if version == 2 {
        long(&mut bytes, 1);
        string(&mut bytes, &format!("m{}", row % 2_000));
    }
    bytes
}

fn harmed(row: u32, mut payload: Vec<u8>) -> Vec<u8> {
    if row.is_multiple_of(1_000) {
        payload[8] = 0xff;
    }
    payload
}

fn json(row: u32) -> Vec<u8> {
    let [id, merchant, at, method, location, device] = texts(row);
    let (user, amount, fraud) = (row % 100_000, f64::from(row) * 0.37, row.is_multiple_of(50));
    format!(
        r#"{{"transaction_id":"{id}","user_id":{user},"amount":{amount:.2},"merchant":"{merchant}","timestamp":"{at}","is_fraud":{fraud},"payment_method":"{method}","location":"{location}","device_id":"{device}"}}"#
    )
    .into_bytes()
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    long(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// A number that is not negative, in Avro's variable-length form.
fn long(bytes: &mut Vec<u8>, value: u64) {
    let mut raw = value << 1;
    while raw >= 0x80 {
        bytes.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    bytes.push(raw as u8);
}

criterion_group!(benches, decode);
criterion_main!(benches);
