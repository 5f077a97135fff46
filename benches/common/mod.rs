//! Generated rows for the benches.

use std::sync::Arc;

use arrow::array::RecordBatch;
use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::generate::{Batches, GenerateSettings, Generator};
use assay::pipeline::{Plan, arrived, bronze_name, bronze_schema, seal};
use assay::refine::Catalog;

const NOW_US: i64 = 1_767_604_000_000_000;

/// The built-in tables.
pub fn plan() -> Plan {
    let contract = Contract::embedded().expect("the contract is tested");
    let bronze = bronze_name(contract.name());
    let catalog = Catalog::load(None, std::slice::from_ref(&bronze)).expect("the tables are tested");
    Plan::new(catalog, bronze, bronze_schema(&contract)).expect("the tables are tested")
}

/// Bronze rows of the generator's first messages: a few messages fewer, because some cannot be decoded.
pub fn bronze(plan: &Plan, messages: usize) -> RecordBatch {
    let contract = Arc::new(Contract::embedded().expect("the contract is tested"));
    let lookup = Box::new(LocalSchemas::new(Arc::clone(&contract)));
    let mut decoder = Decoder::new(contract, Format::Avro, lookup);
    let settings = GenerateSettings { users: 1_000_000, rate: 5_000.0, events: None, ..GenerateSettings::default() };
    let generator = Generator::new(settings, 4).expect("settings that work");
    let batch = Batches::new(generator, "bench").next(messages).expect("a stream without end");
    let decoded = decoder.decode(&batch).expect("local schemas answer");
    let arrived = arrived(&batch, decoded, NOW_US, 0);
    seal(&arrived.contract, &arrived.provenance, NOW_US, 1, &plan.bronze_schema).expect("bronze takes its contract")
}
