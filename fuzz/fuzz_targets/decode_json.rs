//! `cargo +nightly fuzz run decode_json`: any bytes as a JSON message between two good ones, held against serde_json.
#![no_main]

use std::sync::Arc;

use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::domain::{MessageBatchBuilder, Reason};
use libfuzzer_sys::fuzz_target;

const SCHEMA: &str = r#"{"type":"record","name":"T","fields":[
    {"name":"a","type":["null","string"]},{"name":"b","type":["null","double"]},{"name":"c","type":["null","long"]}]}"#;

fuzz_target!(|data: &[u8]| {
    let contract = Contract::parse("t", vec![("t.v1.avsc".to_owned(), SCHEMA.to_owned())]).expect("a good schema");
    let contract = Arc::new(contract);
    let mut builder = MessageBatchBuilder::default();
    for (offset, payload) in (0..).zip([b"{\"c\":1}".as_slice(), data, b"{\"c\":1}"]) {
        builder.push("t", 0, offset, None, None, Some(payload), Vec::new());
    }
    let mut decoder = Decoder::new(contract.clone(), Format::Json, Box::new(LocalSchemas::new(contract)));
    let decoded = decoder.decode(&builder.finish()).expect("nothing is looked up");
    assert_eq!(decoded.rows.num_rows() + decoded.rejected.len(), 3);
    assert_eq!((decoded.message_of_row.first(), decoded.message_of_row.last()), (Some(&0), Some(&2)));
    let invalid = decoded.rejected.iter().any(|rejected| rejected.reason == Reason::InvalidJson);
    // What another implementation reads as an object may hold a field twice, which is ours to refuse.
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(data).is_ok();
    assert!(!(object && invalid) || decoded.rejected[0].detail.contains("twice"));
});
