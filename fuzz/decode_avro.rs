//! Any bytes as a message in the wire format and as a record of either version; any text as the schema of a writer.

use std::sync::Arc;

use assay::contract::{Contract, Decoder, Format, Lookup, RegistryError, SchemaLookup};
use assay::domain::Reason;

use super::decoding::decode_each;
use super::sample;

/// A schema and a record, with a byte between them that is in no text; without it, all is both.
pub fn check(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == SEPARATOR);
    let (schema, record) = end.map_or((data, data), |end| (&data[..end], &data[end + 1..]));
    let schema = String::from_utf8_lossy(schema).into_owned();
    let contract = sample::contract();
    let mut decoder = Decoder::new(contract.clone(), Format::Avro, Box::new(Schemas(contract, schema)));
    let framed = [1, 2, FOREIGN].map(|id| frame(id, record));
    let (first, last) = (frame(1, &record_of(1)), frame(2, &record_of(2)));
    let decoded = decode_each(&mut decoder, &[&first, data, &framed[0], &framed[1], &framed[2], &last]);
    assert_eq!((decoded.message_of_row.first(), decoded.message_of_row.last()), (Some(&0), Some(&5)));
    let reason = decoded.rejected.iter().find(|rejected| rejected.message == 1).map(|rejected| rejected.reason);
    match data {
        [1..=255, ..] => assert_eq!(reason, Some(Reason::WrongMagic)),
        [] | [0] | [0, _] | [0, _, _] | [0, _, _, _] => assert_eq!(reason, Some(Reason::ShortFrame)),
        [_, 0, 0, 0, 1..=3, ..] => assert_ne!(reason, Some(Reason::UnknownSchemaId)),
        _ => assert_eq!(reason, Some(Reason::UnknownSchemaId)),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let messages = sample::messages(false);
    let payloads = messages.iter().filter_map(|message| message.payload).take(12);
    let mut seeds: Vec<Vec<u8>> = payloads.map(<[u8]>::to_vec).collect();
    seeds.extend([1, 2].map(record_of));
    let own = sample::contract().version(2).unwrap_or_default().to_owned();
    let narrow = FIELDS.map(|(name, ty)| format!(r#"{{"name":"{name}","type":{ty}}}"#)).join(",");
    let foreign = format!(r#"{{"type":"record","name":"Transaction","fields":[{narrow}]}}"#);
    let skipped = foreign.replace("transaction_id", "id\",\"aliases\":[\"x\"],\"default\":\"");
    for schema in [own, foreign, skipped] {
        seeds.push([schema.as_bytes(), &[SEPARATOR], &record_of(2)].concat());
    }
    seeds
}

/// In UTF-8 it is nowhere.
const SEPARATOR: u8 = 0xff;
/// The id of the schema that the input brings.
const FOREIGN: u8 = 3;

/// The contract as somebody else might write it: with nested values that it does not know, unions, and other numbers.
const FIELDS: [(&str, &str); 12] = [
    ("transaction_id", r#""string""#),
    ("user_id", r#"["null","int"]"#),
    ("tags", r#"{"type":"map","values":{"type":"array","items":["null","long","T"]}}"#),
    ("place", r#"{"type":"record","name":"T","fields":[{"name":"t","type":["null","T"]}]}"#),
    ("amount", r#""float""#),
    ("merchant", r#"["string","null"]"#),
    ("timestamp", r#""bytes""#),
    ("is_fraud", r#"["boolean"]"#),
    ("payment_method", r#""string""#),
    ("location", r#""string""#),
    ("digest", r#"{"type":"fixed","name":"F","size":2}"#),
    ("device_id", r#""string""#),
];

struct Schemas(Arc<Contract>, String);

impl SchemaLookup for Schemas {
    fn schema(&mut self, id: i32) -> Result<Lookup, RegistryError> {
        let known = usize::try_from(id).ok().and_then(|id| self.0.version(id));
        Ok(match known {
            Some(json) => Lookup::Found(json.to_owned()),
            None if id == i32::from(FOREIGN) => Lookup::Found(self.1.clone()),
            None => Lookup::Unknown,
        })
    }
}

fn frame(id: u8, record: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, id], record].concat()
}

/// A good record of a version of the contract.
fn record_of(version: u8) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8 * 2], text.as_bytes()].concat();
    let mut record = [
        text("T1"),
        vec![84],
        19.99_f64.to_le_bytes().to_vec(),
        text("Müller"),
        text("2026-01-05T08:00:00Z"),
        vec![1],
        text("paypal"),
        text("Bern, Switzerland"),
        text("d-1"),
    ]
    .concat();
    if version == 2 {
        record.push(2);
        record.extend(text("m-7"));
    }
    record
}
