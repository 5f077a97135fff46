//! Any bytes as a JSON message between two good ones, held against another implementation of JSON.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use assay::contract::{Contract, Decoded, Decoder, Format, LocalSchemas};
use assay::domain::Reason;
use serde_json::{Map, Value};

use super::decoding::decode_each;
use super::sample;

pub fn check(data: &[u8]) {
    check_values(data);
    let contract = sample::contract();
    let mut decoder = Decoder::new(contract.clone(), Format::Json, Box::new(LocalSchemas::new(contract)));
    decode_each(&mut decoder, &[data, b"{}", data]);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let messages = sample::messages(true);
    let mut seeds: Vec<Vec<u8>> =
        messages.iter().filter_map(|message| message.payload).take(8).map(<[u8]>::to_vec).collect();
    seeds.extend(
        [
            r#"{"a":"x","b":-1.5e3,"c":7}"#,
            r#" {"b": 0.1e-7 , "a" : "\u00e4\ud83d\ude00\n\"\\/", "x": [[{}, {"y": [true, false, null]}], 1], "c": -9 } "#,
            r#"{"a":null,"a":null}"#,
            r#"{"kind":"two","on":"2026-01-05","at":"2026-01-05T08:00:00.5+01:00","raw":"\u00ff","f":1e38}"#,
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    seeds
}

const SCHEMA: &str = r#"{"type":"record","name":"T","fields":[
    {"name":"a","type":["null","string"]},{"name":"b","type":["null","double"]},{"name":"c","type":["null","long"]},
    {"name":"kind","type":["null",{"type":"enum","name":"K","symbols":["one","two"]}]},
    {"name":"on","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
    {"name":"raw","type":["null","bytes"]},{"name":"f","type":["null","float"]}]}"#;
const GOOD: &[u8] = br#"{"c":1,"a":"good"}"#;

/// Over fields that may all be absent, so that most objects are rows.
fn check_values(data: &[u8]) {
    static CONTRACT: LazyLock<Arc<Contract>> = LazyLock::new(|| {
        Arc::new(Contract::parse("t", vec![("t.v1.avsc".to_owned(), SCHEMA.to_owned())]).expect("a good schema"))
    });
    let contract = CONTRACT.clone();
    let mut decoder = Decoder::new(contract.clone(), Format::Json, Box::new(LocalSchemas::new(contract)));
    let decoded = decode_each(&mut decoder, &[GOOD, data, GOOD]);
    assert_eq!((decoded.message_of_row.first(), decoded.message_of_row.last()), (Some(&0), Some(&2)));
    let object = serde_json::from_slice::<Map<String, Value>>(data);
    match decoded.rejected.first() {
        None => {
            // It may refuse numbers beyond a double, also where nobody asks for them.
            if let Ok(object) = object {
                check_row(&decoded, &object);
            }
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok(), "a row from what is no JSON");
        }
        Some(rejected) => {
            // A field that is there twice is ours to refuse.
            let broken = matches!(rejected.reason, Reason::InvalidJson | Reason::InvalidUtf8);
            assert!(!(broken && object.is_ok()) || rejected.detail.contains("twice"), "{}", rejected.detail);
        }
    }
}

fn check_row(decoded: &Decoded, object: &Map<String, Value>) {
    let [a, b, c] = ["a", "b", "c"].map(|name| decoded.rows.column_by_name(name).expect("a field").slice(1, 1));
    let value = |name: &str| object.get(name).unwrap_or(&Value::Null);
    assert_eq!(a.is_valid(0).then(|| a.as_string::<i32>().value(0)), value("a").as_str());
    assert_eq!(b.is_null(0), value("b").is_null());
    if let Some(expected) = value("b").as_f64() {
        let found = b.as_primitive::<Float64Type>().value(0);
        // It is a last digit off now and then.
        assert!((found - expected).abs() <= expected.abs() * 1e-15, "{found} is not {expected}");
    }
    assert_eq!(c.is_null(0), value("c").is_null());
    if let Some(expected) = value("c").as_i64() {
        assert_eq!(c.as_primitive::<Int64Type>().value(0), expected);
    }
}
