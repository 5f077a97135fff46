//! Encoding rows as files, and committing them.

#![allow(clippy::expect_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::RecordBatch;
use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::domain::Stint;
use assay::generate::{Batches, GenerateSettings, Generator};
use assay::lake::{Commit, Encoding, Lake, LakeSettings, Table, TableSpec};
use assay::pipeline::{Plan, arrived, bronze_name, bronze_schema, seal};
use assay::refine::Catalog;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tokio::runtime::Runtime;

const ROWS: usize = 100_000;
const NOW_MS: i64 = 1_767_604_000_000;
const NOW_US: i64 = NOW_MS * 1000;

fn lake(criterion: &mut Criterion) {
    let plan = plan();
    let rows = bronze(&plan, ROWS);
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = LakeSettings { location: folder.path().display().to_string(), ..LakeSettings::default() };
    let lake = runtime.block_on(Lake::open(&settings, "bench", true)).expect("a new lake");
    let spec = TableSpec {
        name: plan.bronze.clone(),
        schema: Arc::clone(&plan.bronze_schema),
        later: Vec::new(),
        partition_by: vec![assay::domain::schema::PROCESSING_DATE.to_owned()],
        about: "Rows of a bench.".to_owned(),
        encoding: Encoding::default(),
    };
    let mut table = runtime.block_on(Table::open(&lake, spec, NOW_MS)).expect("a new table");
    let mut group = criterion.benchmark_group("lake");
    group.throughput(Throughput::Elements(rows.num_rows() as u64));
    let encoder = table.encoder();
    group.bench_function("encode bronze", |bencher| {
        bencher.iter(|| encoder.encode(black_box(std::slice::from_ref(&rows)), "bench", NOW_MS));
    });
    group.throughput(Throughput::Elements(1));
    let small = rows.slice(0, 500);
    let mut epoch = 0;
    group.bench_function("encode and commit 500 rows", |bencher| {
        bencher.iter(|| {
            epoch += 1;
            let files = encoder.encode(std::slice::from_ref(&small), &format!("e{epoch:012}"), NOW_MS).expect("files");
            let adds = files.iter().map(|encoded| encoded.file.clone()).collect();
            let commit = Commit { epoch: Some(epoch), adds, info: json!({"epoch": epoch}), ..Commit::default() };
            runtime.block_on(async {
                table.store_files(&files).await.expect("a folder takes files");
                table.commit(&commit, NOW_MS).await.expect("the only writer")
            })
        });
    });
    group.finish();
}

/// The built-in tables.
fn plan() -> Plan {
    let contract = Contract::embedded().expect("the contract is tested");
    let bronze = bronze_name(contract.name());
    let catalog = Catalog::load(None, std::slice::from_ref(&bronze)).expect("the tables are tested");
    Plan::new(catalog, bronze, bronze_schema(&contract)).expect("the tables are tested")
}

/// Bronze rows of the generator's first messages: a few messages fewer, because some cannot be decoded.
fn bronze(plan: &Plan, messages: usize) -> RecordBatch {
    let contract = Arc::new(Contract::embedded().expect("the contract is tested"));
    let lookup = Box::new(LocalSchemas::new(Arc::clone(&contract)));
    let mut decoder = Decoder::new(contract, Format::Avro, lookup);
    let settings = GenerateSettings { users: 1_000_000, rate: 5_000.0, events: None, ..GenerateSettings::default() };
    let generator = Generator::new(settings, 4).expect("settings that work");
    let batch = Batches::new(generator, "bench").next(messages).expect("a stream without end");
    let decoded = decoder.decode(&batch).expect("local schemas answer");
    let arrived = arrived(&batch, decoded, NOW_US, Stint::new(NOW_US, NOW_US));
    seal(&arrived.contract, &arrived.provenance, NOW_US, 1, &plan.bronze_schema).expect("bronze takes its contract")
}

criterion_group!(benches, lake);
criterion_main!(benches);
