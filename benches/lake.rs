//! Encoding rows as files, and committing them.

#[path = "common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;

use assay::lake::{Commit, Encoding, Lake, LakeSettings, Table, TableSpec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tokio::runtime::Runtime;

use common::{bronze, plan};

const ROWS: usize = 100_000;
const NOW_MS: i64 = 1_767_604_000_000;

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

criterion_group!(benches, lake);
criterion_main!(benches);
