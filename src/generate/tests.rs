use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum};
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

use super::*;

const FIELDS: &str = r#"{"name":"transaction_id","type":"string"},{"name":"user_id","type":"int"},
    {"name":"amount","type":"double"},{"name":"merchant","type":"string"},{"name":"timestamp","type":"string"},
    {"name":"is_fraud","type":"boolean"},{"name":"payment_method","type":"string"},{"name":"location","type":"string"},
    {"name":"device_id","type":"string"}"#;

fn schema(version: u32) -> Schema {
    let merchant_id = r#",{"name":"merchant_id","type":["null","string"],"default":null}"#;
    let more = if version == 2 { merchant_id } else { "" };
    Schema::parse_str(&format!(r#"{{"type":"record","name":"Transaction","fields":[{FIELDS}{more}]}}"#)).unwrap()
}

fn settings(events: u64) -> GenerateSettings {
    GenerateSettings { events: Some(events), users: 5_000, merchants: 300, rate: 20.0, ..GenerateSettings::default() }
}

/// The fields of a record, or why it is none: the strict reading that a contract demands.
fn decode(payload: Option<&[u8]>, schemas: &BTreeMap<u32, Schema>) -> Result<BTreeMap<String, Value>, &'static str> {
    let payload = payload.ok_or("null_payload")?;
    let (frame, mut body) = payload.split_at_checked(5).ok_or("empty")?;
    if frame[0] != 0 {
        return Err("wrong_magic");
    }
    let id = u32::from_be_bytes(frame[1..].try_into().unwrap());
    let schema = schemas.get(&id).ok_or("unknown_schema_id")?;
    match from_avro_datum(schema, &mut body, None) {
        Ok(Value::Record(fields)) if body.is_empty() => Ok(fields.into_iter().collect()),
        Ok(_) => Err("trailing_bytes"),
        Err(error) if format!("{error:?}").to_lowercase().contains("utf") => Err("invalid_utf8"),
        Err(_) => Err("truncated"),
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_every_machine() {
    let settings = GenerateSettings { json: 0.1, malformed: 0.05, ..settings(20_000) };
    let mut hasher = SipHasher13::new();
    let mut message = Generated::default();
    let mut generator = Generator::new(settings.clone(), 4).unwrap();
    while generator.next_into(&mut message) {
        hasher.write_i32(message.partition);
        hasher.write_i64(message.timestamp_ms);
        hasher.write(&message.key);
        hasher.write(message.payload().unwrap_or(b"null"));
        hasher.write(message.scenario.unwrap_or("").as_bytes());
    }
    assert_eq!(hasher.finish(), GOLDEN, "the stream of a seed has changed");

    let again: Vec<Generated> = Generator::new(settings.clone(), 4).unwrap().collect();
    assert_eq!(again, Generator::new(settings.clone(), 4).unwrap().collect::<Vec<_>>());
    let other = GenerateSettings { seed: settings.seed + 1, ..settings };
    assert_ne!(again[0].payload, Generator::new(other, 4).unwrap().next().unwrap().payload);
}
const GOLDEN: u64 = 16_819_880_116_723_732_267;

#[test]
fn every_message_is_what_the_counts_say() {
    let schemas = BTreeMap::from([(1, schema(1)), (2, schema(2))]);
    let settings = GenerateSettings { malformed: 0.02, bad_rows: 0.02, duplicates: 0.02, ..settings(60_000) };
    let mut generator = Generator::new(settings, 3).unwrap();
    let (mut malformed, mut bad_rows, mut fraud) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut ids, mut duplicates, mut v2) = (BTreeSet::new(), 0, 0);
    let (mut amounts, mut frauds): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut partitions = BTreeMap::new();
    let mut message = Generated::default();
    while generator.next_into(&mut message) {
        let partition = partitions.entry(message.key.clone()).or_insert(message.partition);
        assert_eq!(*partition, message.partition, "a user in two partitions");
        let record = match decode(message.payload(), &schemas) {
            Ok(record) => record,
            Err(reason) => {
                *malformed.entry(reason).or_default() += 1;
                continue;
            }
        };
        v2 += u64::from(record.contains_key("merchant_id"));
        let text = |name: &str| match &record[name] {
            Value::String(text) => text.clone(),
            other => panic!("{name}: {other:?}"),
        };
        let (Value::Double(amount), Value::Int(user), Value::Boolean(is_fraud)) =
            (&record["amount"], &record["user_id"], &record["is_fraud"])
        else {
            panic!("{record:?}")
        };
        assert_eq!(user.to_string().as_bytes(), message.key);
        assert!((1..=5_000).contains(user));
        assert_eq!(*is_fraud, message.scenario.is_some());
        assert_eq!(message.headers().len(), usize::from(*is_fraud));
        let at_us = chrono::DateTime::parse_from_rfc3339(&text("timestamp")).map(|time| time.timestamp_micros());
        let broken = match (text("transaction_id").as_str(), *amount, at_us) {
            ("", ..) => Some("empty_id"),
            (_, amount, _) if amount.is_nan() => Some("nan_amount"),
            (_, amount, _) if amount < 0.0 => Some("negative_amount"),
            (_, 0.0, _) => Some("zero_amount"),
            (_, amount, _) if amount > 1e6 => Some("huge_amount"),
            (_, _, Err(_)) => Some("unparsable_timestamp"),
            (_, _, Ok(at_us)) if at_us > generator.clock_us() => Some("far_future"),
            _ => None,
        };
        if let Some(broken) = broken {
            *bad_rows.entry(broken).or_default() += 1;
        } else if !ids.insert(text("transaction_id")) {
            duplicates += 1;
        } else {
            assert!(text("location").contains(", "));
            assert_eq!(*amount, (amount * 100.0).round() / 100.0);
            if *is_fraud {
                frauds.push(*amount)
            } else {
                amounts.push(*amount)
            }
            if let Some(scenario) = message.scenario {
                *fraud.entry(scenario).or_default() += 1;
            }
        }
    }
    let counts = generator.counts();
    assert_eq!(malformed, counts.malformed);
    assert_eq!(bad_rows, counts.bad_rows);
    assert_eq!(fraud, counts.fraud);
    assert_eq!(duplicates, counts.duplicates);
    assert_eq!(ids.len() as u64, counts.valid);
    // Version 2 is counted for malformed messages too, which cannot be looked into.
    assert!(v2 <= counts.v2 && counts.v2 - v2 <= malformed.values().sum());
    let dirt = counts.malformed.values().sum::<u64>() + counts.bad_rows.values().sum::<u64>();
    assert_eq!(counts.messages, counts.valid + counts.duplicates + dirt);
    assert_eq!((malformed.len(), bad_rows.len(), fraud.len()), (7, 7, 4), "every kind occurs");

    let mean = |amounts: &[f64]| amounts.iter().sum::<f64>() / amounts.len() as f64;
    assert!(mean(&frauds) > 3.0 * mean(&amounts), "{} against {}", mean(&frauds), mean(&amounts));
    let small = frauds.iter().filter(|amount| **amount < mean(&amounts)).count();
    assert!(small * 20 > frauds.len(), "some fraud hides among ordinary amounts: {small} of {}", frauds.len());
}

#[test]
fn shares_are_as_set() {
    let settings = GenerateSettings { json: 0.3, ..settings(200_000) };
    let mut generator = Generator::new(settings.clone(), 1).unwrap();
    let mut message = Generated::default();
    while generator.next_into(&mut message) {}
    let counts = generator.counts();
    let near = |name: &str, count: u64, share: f64| {
        let found = count as f64 / 200_000.0;
        assert!((found - share).abs() < 0.15 * share + 2e-4, "{name}: {found} instead of {share}");
    };
    near("duplicates", counts.duplicates, settings.duplicates);
    near("late", counts.late, settings.late);
    near("out_of_order", counts.out_of_order, settings.out_of_order);
    near("malformed", counts.malformed.values().sum(), settings.malformed);
    near("bad_rows", counts.bad_rows.values().sum(), settings.bad_rows);
    near("unknown_payment", counts.unknown_payment, settings.unknown_payment);
    near("v2", counts.v2, settings.v2);
    near("json", counts.json, settings.json);
    near("fraud", counts.fraud.values().sum(), settings.fraud);
    // From 8:00 on, 200,000 events at 20 a second on average are nearly three hours, in the busy part of the day.
    let passed_s = (generator.clock_us() - settings.start_us().unwrap()) / 1_000_000;
    assert!((7_000..10_500).contains(&passed_s), "{passed_s}");
}

#[test]
fn clean_settings_give_a_clean_stream() {
    let clean = GenerateSettings {
        duplicates: 0.0,
        late: 0.0,
        out_of_order: 0.0,
        malformed: 0.0,
        bad_rows: 0.0,
        unknown_payment: 0.0,
        v2: 0.0,
        fraud: 0.0,
        json: 1.0,
        ..settings(5_000)
    };
    let mut last = String::new();
    let mut generator = Generator::new(clean, 1).unwrap();
    for message in generator.by_ref() {
        let object: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 9);
        let at = object["timestamp"].as_str().unwrap();
        let at = chrono::DateTime::parse_from_rfc3339(at).unwrap().to_utc();
        let delay_ms = message.timestamp_ms - at.timestamp_millis();
        assert!((5..246).contains(&delay_ms), "{delay_ms}");
        let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        assert!(at >= last, "events in order");
        last = at;
    }
    assert_eq!(generator.counts(), Counts { messages: 5_000, valid: 5_000, json: 5_000, ..Counts::default() });
}

#[test]
fn traffic_is_skewed_but_no_user_is_a_machine() {
    let mut users: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for message in Generator::new(settings(100_000), 1).unwrap() {
        *users.entry(message.key).or_default() += 1;
    }
    let mut by_user: Vec<u32> = users.into_values().collect();
    by_user.sort_unstable();
    let top: u32 = by_user.iter().rev().take(250).sum();
    assert!((15_000..27_000).contains(&top), "5% of the users: {top} of 100,000");
    assert!(*by_user.last().unwrap() < 200, "20 is the mean: {:?}", by_user.last());
}

#[test]
fn files_hold_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    let settings = GenerateSettings { malformed: 0.01, ..settings(3_000) };
    let csv = folder.path().join("t.csv");
    let counts = write_file(&csv, OutputFormat::Csv, &settings).unwrap();
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(&csv).unwrap();
    let rows: Vec<csv::ByteRecord> = reader.byte_records().map(Result::unwrap).collect();
    assert_eq!(rows.len() as u64, counts.messages);
    let uneven = rows.iter().filter(|row| row.len() != 10).count() as u64;
    assert!(uneven > 0 && uneven <= counts.malformed.values().sum());

    let lines = folder.path().join("t.jsonl.gz");
    assert_eq!(write_file(&lines, OutputFormat::JsonLines, &settings).unwrap().valid, counts.valid);
    let mut text = Vec::new();
    let file = std::fs::File::open(&lines).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    let good =
        text.split(|byte| *byte == b'\n').filter(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok());
    assert_eq!(good.count() as u64, counts.messages - counts.malformed.values().sum::<u64>());

    let parquet = folder.path().join("t.parquet");
    let counts = write_file(&parquet, OutputFormat::Parquet, &settings).unwrap();
    assert!(counts.malformed.is_empty());
    let file = std::fs::File::open(&parquet).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1_000).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3_000);
}

#[test]
fn streams_that_begin_at_different_times_share_no_transaction() {
    let ids = |start_at: &str| -> BTreeSet<(u64, u64)> {
        let settings =
            GenerateSettings { start_at: start_at.to_owned(), events: Some(2_000), ..GenerateSettings::default() };
        let mut generator = Generator::new(settings, 1).unwrap();
        std::iter::from_fn(|| generator.plan()).map(|(event, _)| event.id).collect()
    };
    let usual = ids("2026-01-05T08:00:00Z");
    assert_eq!(usual, ids("2026-01-05T08:00:00Z"));
    assert!(usual.is_disjoint(&ids("2026-01-05T08:00:01Z")));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let refused = |settings: GenerateSettings, key: &str| {
        let error = Generator::new(settings, 1).err().unwrap().to_string();
        assert!(error.starts_with(&format!("generate.{key}:")), "{error}");
    };
    let default = GenerateSettings::default;
    refused(GenerateSettings { users: 0, ..default() }, "users");
    refused(GenerateSettings { rate: f64::NAN, ..default() }, "rate");
    refused(GenerateSettings { late: -0.1, ..default() }, "late");
    refused(GenerateSettings { start_at: "today".to_owned(), ..default() }, "start_at");
    refused(GenerateSettings { duplicates: 0.6, malformed: 0.6, ..default() }, "duplicates, malformed and bad_rows");
    assert!(Generator::new(default(), 0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_valid_settings_conserve_messages(
        seed: u64, users in 1_u32..50, merchants in 1_u32..30, partitions in 1_u32..9,
        duplicates in 0.0..0.4_f64, malformed in 0.0..0.3_f64, bad_rows in 0.0..0.3_f64, fraud in 0.0..0.5_f64, json in 0.0..1.0_f64,
    ) {
        let settings = GenerateSettings {
            seed, users, merchants, duplicates, malformed, bad_rows, fraud, json, ..settings(400)
        };
        let mut generator = Generator::new(settings, partitions).unwrap();
        let messages: Vec<Generated> = generator.by_ref().collect();
        prop_assert_eq!(messages.len(), 400);
        prop_assert!(messages.iter().all(|message| message.partition < i32::try_from(partitions).unwrap()));
        let counts = generator.counts();
        let dirt = counts.malformed.values().sum::<u64>() + counts.bad_rows.values().sum::<u64>();
        prop_assert_eq!(counts.messages, counts.valid + counts.duplicates + dirt);
    }
}
