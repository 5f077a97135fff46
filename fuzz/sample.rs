//! Generated messages, and the tables that follow from them.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::domain::{History, HistoryError, Layer, MessageBatch, Stint, TableName, schema};
use assay::generate::{Batches, GenerateSettings, Generator};
use assay::pipeline::{arrived, seal};
use assay::refine::{Catalog, RefineSettings, Refiner};

/// Some two hours of transactions.
pub const EVENTS: u64 = 64;
const INGESTED_AT_US: i64 = 1_767_610_800_000_000;

pub fn contract() -> Arc<Contract> {
    static CONTRACT: LazyLock<Arc<Contract>> =
        LazyLock::new(|| Arc::new(Contract::embedded().expect("the contract is tested")));
    CONTRACT.clone()
}

pub fn messages(json: bool) -> MessageBatch {
    let settings = GenerateSettings {
        events: Some(EVENTS),
        users: 8,
        merchants: 4,
        rate: 0.01,
        malformed: 0.1,
        bad_rows: 0.1,
        duplicates: 0.1,
        json: if json { 1.0 } else { 0.0 },
        ..GenerateSettings::default()
    };
    let generator = Generator::new(settings, 1).expect("settings that work");
    Batches::new(generator, "t").next(EVENTS as usize).expect("messages")
}

pub fn bronze() -> &'static RecordBatch {
    static BRONZE: LazyLock<RecordBatch> = LazyLock::new(|| {
        let (contract, messages) = (contract(), messages(false));
        let lookup = LocalSchemas::new(contract.clone());
        let mut decoder = Decoder::new(contract.clone(), Format::Avro, Box::new(lookup));
        let decoded = decoder.decode(&messages).expect("nothing is looked up");
        let arrived = arrived(&messages, decoded, INGESTED_AT_US, Stint::new(INGESTED_AT_US, INGESTED_AT_US));
        let bronze = schema::bronze(&contract.arrow_schema());
        seal(&arrived.contract, &arrived.provenance, INGESTED_AT_US, 1, &bronze).expect("columns of bronze")
    });
    &BRONZE
}

/// The built-in tables.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        Catalog::load(None, &[TableName::new(Layer::Bronze, "transactions")]).expect("the catalog is tested")
    });
    &CATALOG
}

pub fn silver() -> &'static RecordBatch {
    static SILVER: LazyLock<RecordBatch> = LazyLock::new(|| {
        let def = &catalog().tables[0];
        let settings = RefineSettings::default();
        let refiner = Refiner::new(def, &bronze().schema(), &catalog().references, &settings, [1; 16]);
        refiner.expect("a tested table").refine(bronze(), &NoHistory).expect("good rows").silver
    });
    &SILVER
}

/// What is refined comes whole, so there is no past.
pub struct NoHistory;

impl History for NoHistory {
    fn scan(&self, _: i64, _: i64, _: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        Ok(Vec::new())
    }

    fn may_contain(&self, _: i64, _: i64) -> bool {
        false
    }
}
