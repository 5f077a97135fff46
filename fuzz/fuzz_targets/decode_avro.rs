//! `cargo +nightly fuzz run decode_avro`: any bytes as an Avro message of either version, and any text as a schema.
//!
//! The message stands between two good ones, which must come through.
#![no_main]

use std::sync::Arc;

use assay::contract::{Contract, Decoder, Format, Lookup, RegistryError, SchemaLookup};
use assay::domain::MessageBatchBuilder;
use libfuzzer_sys::fuzz_target;

/// Ids 1 and 2 are the versions of the contract, id 3 is the input itself.
struct Schemas(Arc<Contract>, String);

impl SchemaLookup for Schemas {
    fn schema(&mut self, id: i32) -> Result<Lookup, RegistryError> {
        let known = usize::try_from(id).ok().and_then(|id| self.0.version(id));
        Ok(match (id, known) {
            (_, Some(json)) => Lookup::Found(json.to_owned()),
            (3, None) => Lookup::Found(self.1.clone()),
            _ => Lookup::Unknown,
        })
    }
}

/// Version 1: empty strings, zeros and false.
const GOOD: [u8; 21] = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fuzz_target!(|data: &[u8]| {
    let contract = Arc::new(Contract::embedded().expect("the contract is tested"));
    let schema = String::from_utf8_lossy(data).into_owned();
    let messages: Vec<Vec<u8>> = [1, 2, 3].iter().map(|id| [&[0, 0, 0, 0, *id], data].concat()).collect();
    let mut builder = MessageBatchBuilder::default();
    let all = [&GOOD[..], data, &messages[0], &messages[1], &messages[2], &GOOD[..]];
    for (offset, payload) in (0..).zip(all) {
        builder.push("t", 0, offset, None, None, Some(payload), Vec::new());
    }
    let mut decoder = Decoder::new(contract.clone(), Format::Avro, Box::new(Schemas(contract, schema)));
    let decoded = decoder.decode(&builder.finish()).expect("the lookup never fails");
    assert_eq!(decoded.rows.num_rows() + decoded.rejected.len(), all.len());
    assert_eq!((decoded.message_of_row.first(), decoded.message_of_row.last()), (Some(&0), Some(&5)));
});
