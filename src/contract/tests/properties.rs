use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Transaction {
    texts: [String; 6],
    user_id: i32,
    amount: f64,
    is_fraud: bool,
    /// `None` is version 1.
    merchant_id: Option<Option<String>>,
}

#[derive(Debug, Clone)]
enum Harm {
    None,
    Null,
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Magic(u8),
    Id(i32),
    NotUtf8,
    Overwrite(Vec<(prop::sample::Index, u8)>),
}

impl Transaction {
    fn avro(&self, schemas: &[Schema; 2]) -> Vec<u8> {
        let [transaction_id, merchant, timestamp, payment_method, location, device_id] =
            self.texts.clone().map(Value::String);
        let mut fields = vec![
            ("transaction_id".to_owned(), transaction_id),
            ("user_id".to_owned(), Value::Int(self.user_id)),
            ("amount".to_owned(), Value::Double(self.amount)),
            ("merchant".to_owned(), merchant),
            ("timestamp".to_owned(), timestamp),
            ("is_fraud".to_owned(), Value::Boolean(self.is_fraud)),
            ("payment_method".to_owned(), payment_method),
            ("location".to_owned(), location),
            ("device_id".to_owned(), device_id),
        ];
        if let Some(merchant_id) = &self.merchant_id {
            let value = match merchant_id {
                None => Value::Union(0, Box::new(Value::Null)),
                Some(text) => Value::Union(1, Box::new(Value::String(text.clone()))),
            };
            fields.push(("merchant_id".to_owned(), value));
        }
        let version = usize::from(self.merchant_id.is_some());
        framed(version as i32 + 1, &to_avro_datum(&schemas[version], Value::Record(fields)).unwrap())
    }
}

/// The payload after the harm, and the reason that it must be refused for, as far as that is certain.
fn harmed(payload: Vec<u8>, harm: &Harm) -> (Option<Vec<u8>>, Option<Reason>) {
    let mut payload = payload;
    let reason = match harm {
        Harm::None => None,
        Harm::Null => return (None, Some(Reason::NullPayload)),
        Harm::Cut(at) => {
            let at = at.index(payload.len());
            payload.truncate(at);
            Some(if at < 5 { Reason::ShortFrame } else { Reason::Truncated })
        }
        Harm::Append(bytes) => {
            payload.extend_from_slice(bytes);
            Some(Reason::TrailingBytes)
        }
        Harm::Magic(magic) => {
            payload[0] = *magic;
            Some(Reason::WrongMagic)
        }
        Harm::Id(id) => {
            payload[1..5].copy_from_slice(&id.to_be_bytes());
            Some(Reason::UnknownSchemaId)
        }
        Harm::NotUtf8 => {
            // The transaction id begins with a letter of our own, after its length.
            let at = payload.iter().skip(5).position(|byte| *byte == b'T').unwrap() + 5;
            payload[at] = 0xff;
            Some(Reason::InvalidUtf8)
        }
        Harm::Overwrite(changes) => {
            for (at, byte) in changes {
                let at = at.index(payload.len());
                payload[at] = *byte;
            }
            None
        }
    };
    (Some(payload), reason)
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let texts = prop::array::uniform6("\\PC{0,12}|[a-z]{0,300}|\0");
    let merchant_id = prop::option::of(prop::option::of("\\PC{0,8}"));
    let amount = prop_oneof![any::<f64>(), any::<u64>().prop_map(f64::from_bits)];
    (texts, any::<i32>(), amount, any::<bool>(), merchant_id).prop_map(
        |(mut texts, user_id, amount, is_fraud, merchant_id)| {
            // No length byte may look like the first letter of the id.
            texts[0] = format!("T{}", texts[0].chars().take(6).collect::<String>());
            Transaction { texts, user_id, amount, is_fraud, merchant_id }
        },
    )
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        8 => Just(Harm::None),
        1 => Just(Harm::Null),
        1 => any::<prop::sample::Index>().prop_map(Harm::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Harm::Append),
        1 => (1..=u8::MAX).prop_map(Harm::Magic),
        1 => prop_oneof![i32::MIN..1, 3..=i32::MAX].prop_map(Harm::Id),
        1 => Just(Harm::NotUtf8),
        2 => prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6).prop_map(Harm::Overwrite),
    ]
}

fn assert_same(rows: &RecordBatch, row: usize, expected: &Value) {
    let Value::Record(fields) = expected else { panic!("not a record") };
    assert_eq!(fields.len(), rows.num_columns());
    for (at, (name, value)) in fields.iter().enumerate() {
        assert_eq!(rows.schema().field(at).name(), name);
        let column = rows.column(at);
        let value = if let Value::Union(_, value) = value { value } else { value };
        match value {
            Value::Null => assert!(column.is_null(row), "{name}"),
            Value::String(text) => assert_eq!(column.as_string::<i32>().value(row), text, "{name}"),
            Value::Int(number) => assert_eq!(column.as_primitive::<Int32Type>().value(row), *number, "{name}"),
            Value::Double(number) => {
                assert_eq!(column.as_primitive::<Float64Type>().value(row).to_bits(), number.to_bits(), "{name}");
            }
            Value::Boolean(flag) => assert_eq!(column.as_boolean().value(row), *flag, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(column.is_null(row), matches!(value, Value::Null));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Held against another implementation of Avro, over both versions and every sort of harm.
    #[test]
    fn good_neighbours_of_bad_messages_are_decoded_exactly(
        messages in prop::collection::vec((transaction(), harm()), 0..40),
    ) {
        let contract = Arc::new(Contract::embedded().unwrap());
        let schemas = [1, 2].map(|version| Schema::parse_str(contract.version(version).unwrap()).unwrap());
        let harmed: Vec<_> = messages.iter().map(|(message, harm)| harmed(message.avro(&schemas), harm)).collect();
        let batch = batch(harmed.iter().map(|(payload, _)| payload.as_deref()));
        let decoded = decoder(&contract, Format::Avro).decode(&batch).unwrap();
        assert_conserved(&decoded, &batch);

        let mut evolved = false;
        for (row, at) in decoded.message_of_row.iter().enumerate() {
            let (payload, reason) = &harmed[*at as usize];
            prop_assert_eq!(*reason, None, "message {} is a row", at);
            let payload = payload.as_ref().unwrap();
            let id = i32::from_be_bytes(payload[1..5].try_into().unwrap());
            prop_assert_eq!(decoded.schema_ids[row], Some(id));
            evolved |= id == 2;
            // Whatever was overwritten: a row is what the other implementation reads from the same bytes.
            let mut rest = &payload[5..];
            let expected = from_avro_datum(&schemas[id as usize - 1], &mut rest, Some(&schemas[1])).unwrap();
            prop_assert!(rest.is_empty());
            assert_same(&decoded.rows, row, &expected);
        }
        prop_assert_eq!(decoded.newest_version_rows, evolved);
        for rejected in &decoded.rejected {
            let (_, harm) = &messages[rejected.message as usize];
            prop_assert!(!matches!(harm, Harm::None), "{:?}", rejected);
            if let Some(reason) = harmed[rejected.message as usize].1 {
                prop_assert_eq!(rejected.reason, reason, "{:?}", rejected);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(
        payloads in prop::collection::vec((prop::option::of(prop::collection::vec(any::<u8>(), 0..60)), 0..3), 0..20),
    ) {
        let contract = Arc::new(Contract::embedded().unwrap());
        let framed: Vec<_> = payloads.iter().map(|(payload, id)| payload.as_ref().map(|bytes| framed(*id, bytes))).collect();
        let avro = batch(framed.iter().map(Option::as_deref));
        assert_conserved(&decoder(&contract, Format::Avro).decode(&avro).unwrap(), &avro);
        let json = batch(payloads.iter().map(|(payload, _)| payload.as_deref()));
        assert_conserved(&decoder(&contract, Format::Json).decode(&json).unwrap(), &json);
    }

    /// Numbers keep every bit and strings every character on their way through JSON.
    #[test]
    fn json_values_come_back_exactly(
        rows in prop::collection::vec((".*", any::<i32>(), any::<f64>(), any::<bool>(), prop::option::of("\\PC*")), 1..20),
    ) {
        let contract = contract(&[r#"[{"name":"s","type":"string"},{"name":"i","type":"int"},{"name":"d","type":"double"},
            {"name":"b","type":"boolean"},{"name":"o","type":["null","string"]}]"#]);
        let finite = |d: &f64| if d.is_finite() { *d } else { 0.5 };
        let texts: Vec<String> = rows.iter().map(|(s, i, d, b, o)| {
            format!(r#"{{"s":{},"i":{i},"d":{:e},"b":{b},"o":{}}}"#, serde_json::json!(s), finite(d), serde_json::json!(o))
        }).collect();
        let batch = batch(texts.iter().map(|text| Some(text.as_bytes())));
        let decoded = decoder(&contract, Format::Json).decode(&batch).unwrap();
        prop_assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        for (at, (s, i, d, b, o)) in rows.iter().enumerate() {
            prop_assert_eq!(text(&decoded.rows, "s", at), Some(s.as_str()));
            prop_assert_eq!(int(&decoded.rows, "i", at), *i);
            prop_assert_eq!(double(&decoded.rows, "d", at).to_bits(), finite(d).to_bits());
            prop_assert_eq!(boolean(&decoded.rows, "b", at), *b);
            prop_assert_eq!(text(&decoded.rows, "o", at), o.as_deref());
        }
    }

    /// What is JSON and what is not is held against another implementation.
    #[test]
    fn json_is_refused_exactly_when_it_is_none(
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(&br#"{}[]",:\ue+-.019 tfn"#[..]), any::<bool>()), 0..5),
    ) {
        let contract = contract(&[r#"[{"name":"a","type":["null","string"]},{"name":"b","type":["null","double"]}]"#]);
        let mut text = br#"{"a":"x\u0041\n","b":-12.5e1,"c":[true,null,{"d":[]}],"e":{"f":{},"g":0}}"#.to_vec();
        for (at, byte, insert) in changes {
            let at = at.index(text.len());
            if insert { text.insert(at, byte) } else { text[at] = byte }
        }
        let judged: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(&text);
        let decoded = decoder(&contract, Format::Json).decode(&batch([Some(&*text)])).unwrap();
        let refused = decoded.rejected.first().filter(|rejected| rejected.reason == Reason::InvalidJson);
        let shown = String::from_utf8_lossy(&text);
        match judged {
            // Numbers beyond a double are JSON, though the other implementation cannot hold them.
            Err(cause) if cause.to_string().contains("out of range") => {}
            Err(cause) => prop_assert!(refused.is_some(), "{} is none: {}", shown, cause),
            Ok(_) => prop_assert!(refused.is_none_or(|refused| refused.detail.contains("twice")), "{} is: {:?}", shown, refused),
        }
    }
}
