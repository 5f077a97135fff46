use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, Float32Type, Int64Type, TimestampMicrosecondType};

use super::*;
use crate::contract::{Lookup, RegistryError, SchemaLookup};
use crate::domain::Stage;

/// A lookup that knows the schemas given, and is out of order for the first `outages` calls of id 2 and above.
struct Fixed {
    schemas: Vec<String>,
    outages: u32,
}

impl SchemaLookup for Fixed {
    fn schema(&mut self, id: i32) -> Result<Lookup, RegistryError> {
        if id >= 2 && self.outages > 0 {
            self.outages -= 1;
            return Err(RegistryError::Unavailable { url: "u".into(), attempts: 1, cause: "down".into() });
        }
        let found = usize::try_from(id - 1).ok().and_then(|at| self.schemas.get(at));
        Ok(found.map_or(Lookup::Unknown, |json| Lookup::Found(json.clone())))
    }
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"T","namespace":"n.s","fields":{fields}}}"#)
}

/// Decodes records of one writer's schema with a contract of one version.
fn resolve(reader: &str, writer: &str, records: &[Vec<u8>]) -> Decoded {
    let lookup = Fixed { schemas: vec![record(writer)], outages: 0 };
    let mut decoder = Decoder::new(contract(&[reader]), Format::Avro, Box::new(lookup));
    let payloads: Vec<_> = records.iter().map(|record| framed(1, record)).collect();
    let batch = batch(payloads.iter().map(|payload| Some(payload.as_slice())));
    let decoded = decoder.decode(&batch).unwrap();
    assert_conserved(&decoded, &batch);
    decoded
}

const ID_AND_SIZE: &str = r#"[{"name":"id","type":"string"},{"name":"size","type":"double"}]"#;

fn id_and_size(id: impl AsRef<[u8]>, size: f64) -> Vec<u8> {
    [string(id), size.to_le_bytes().to_vec()].concat()
}

#[test]
fn each_bad_message_has_its_reason_and_costs_no_neighbour() {
    let good = framed(1, &id_and_size("good", 1.0));
    let bads: Vec<(Option<Vec<u8>>, Reason, Stage)> = vec![
        (None, Reason::NullPayload, Stage::Frame),
        (Some(Vec::new()), Reason::ShortFrame, Stage::Frame),
        (Some(vec![0, 0, 0, 0]), Reason::ShortFrame, Stage::Frame),
        (Some(vec![b'{']), Reason::WrongMagic, Stage::Frame),
        (Some([&[1], &good[1..]].concat()), Reason::WrongMagic, Stage::Frame),
        (Some(framed(77, &id_and_size("x", 1.0))), Reason::UnknownSchemaId, Stage::Frame),
        (Some(framed(-1, &id_and_size("x", 1.0))), Reason::UnknownSchemaId, Stage::Frame),
        (Some(framed(1, &[])), Reason::Truncated, Stage::Decode),
        (Some(good[..good.len() - 1].to_vec()), Reason::Truncated, Stage::Decode),
        (Some(framed(1, &[8, b'a'])), Reason::Truncated, Stage::Decode),
        (Some([good.as_slice(), &[0]].concat()), Reason::TrailingBytes, Stage::Decode),
        (Some([good.as_slice(), &good[5..]].concat()), Reason::TrailingBytes, Stage::Decode),
        (Some(framed(1, &id_and_size([b'a', 0xff], 1.0))), Reason::InvalidUtf8, Stage::Decode),
        (Some(framed(1, &id_and_size([0xc3], 1.0))), Reason::InvalidUtf8, Stage::Decode),
        (Some(framed(1, &long(-2))), Reason::Malformed, Stage::Decode),
        (Some(framed(1, &long(i64::MAX))), Reason::Malformed, Stage::Decode),
        (Some(framed(1, &[0xff; 12])), Reason::Malformed, Stage::Decode),
    ];
    let contract = contract(&[ID_AND_SIZE]);
    let mut payloads = vec![Some(good.as_slice())];
    for (bad, ..) in &bads {
        payloads.extend([bad.as_deref(), Some(good.as_slice())]);
    }
    let batch = batch(payloads);
    let decoded = decoder(&contract, Format::Avro).decode(&batch).unwrap();
    assert_conserved(&decoded, &batch);
    assert_eq!(decoded.rows.num_rows(), bads.len() + 1);
    for row in 0..decoded.rows.num_rows() {
        assert_eq!((text(&decoded.rows, "id", row), double(&decoded.rows, "size", row)), (Some("good"), 1.0));
    }
    assert_eq!(decoded.rejected.len(), bads.len());
    for (rejected, (at, (_, reason, stage))) in decoded.rejected.iter().zip(bads.iter().enumerate()) {
        assert_eq!(
            (rejected.message as usize, rejected.reason, rejected.stage),
            (2 * at + 1, *reason, *stage),
            "{rejected:?}"
        );
        assert!(!rejected.detail.is_empty());
    }
    assert_eq!(decoded.rejected[6].schema_id, Some(-1));
    assert_eq!(decoded.rejected[0].schema_id, None);
    assert!(decoded.rejected[12].detail.contains("field `id` (byte 7)"), "{}", decoded.rejected[12].detail);
}

/// Two halves of one character in two rows are UTF-8 together, but not alone.
#[test]
fn strings_are_checked_one_by_one_across_rows() {
    let decoded =
        resolve(ID_AND_SIZE, ID_AND_SIZE, &[id_and_size([0xc3], 1.0), id_and_size([0xa9], 2.0), id_and_size("é", 3.0)]);
    assert_eq!(reasons(&decoded), [(0, Reason::InvalidUtf8), (1, Reason::InvalidUtf8)]);
    assert_eq!(text(&decoded.rows, "id", 0), Some("é"));
}

/// Whether the strings of a batch are checked as they come depends on the batch; the reason must not.
#[test]
fn a_message_with_two_faults_is_refused_for_the_first_whatever_its_neighbours_are() {
    let two_faults = [string([0xff]), vec![1, 2, 3]].concat();
    let refused = |records: &[Vec<u8>]| {
        let mut rejected = resolve(ID_AND_SIZE, ID_AND_SIZE, records).rejected.remove(0);
        rejected.message = 0;
        rejected
    };
    let alone = refused(std::slice::from_ref(&two_faults));
    assert_eq!(alone.reason, Reason::InvalidUtf8);
    assert_eq!(refused(&[id_and_size("good", 1.0), two_faults.clone()]), alone);
    assert_eq!(refused(&[two_faults, id_and_size([0xff], 1.0)]), alone);
}

#[test]
fn extreme_values_pass_untouched() {
    let long_text = "€".repeat(350_000);
    let texts = ["", "\0", "a\0b", "😀👩‍👩‍👧", &long_text];
    let sizes = [
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        -0.0,
        f64::MIN_POSITIVE / 2.0,
        f64::from_bits(0x7ff0_0000_0000_0001),
    ];
    let records: Vec<_> =
        sizes.iter().enumerate().map(|(at, size)| id_and_size(texts[at % texts.len()], *size)).collect();
    let decoded = resolve(ID_AND_SIZE, ID_AND_SIZE, &records);
    assert!(decoded.rejected.is_empty());
    for (at, size) in sizes.iter().enumerate() {
        assert_eq!(double(&decoded.rows, "size", at).to_bits(), size.to_bits());
        assert_eq!(text(&decoded.rows, "id", at), Some(texts[at % texts.len()]));
    }
}

#[test]
fn an_empty_batch_gives_no_rows() {
    let decoded = decoder(&contract(&[ID_AND_SIZE]), Format::Avro).decode(&batch([])).unwrap();
    assert_eq!((decoded.rows.num_rows(), decoded.rows.num_columns(), decoded.newest_version_rows), (0, 2, false));
}

#[test]
fn versions_may_change_from_message_to_message() {
    let contract = contract(&[
        r#"[{"name":"a","type":"int"}]"#,
        r#"[{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null},{"name":"c","type":"string","default":"web"}]"#,
    ]);
    let v1 = framed(1, &long(1));
    let v2 = framed(2, &[long(2), long(1), string("B"), string("app")].concat());
    let null = framed(2, &[long(3), long(0), string("")].concat());
    let mut decoder = decoder(&contract, Format::Avro);
    let mixed = batch([Some(v1.as_slice()), Some(&v2), Some(&v1), Some(&null)]);
    let decoded = decoder.decode(&mixed).unwrap();
    assert_conserved(&decoded, &mixed);
    let rows: Vec<_> = (0..4)
        .map(|row| (int(&decoded.rows, "a", row), text(&decoded.rows, "b", row), text(&decoded.rows, "c", row)))
        .collect();
    assert_eq!(
        rows,
        [(1, None, Some("web")), (2, Some("B"), Some("app")), (1, None, Some("web")), (3, None, Some(""))]
    );
    assert_eq!(decoded.schema_ids, [Some(1), Some(2), Some(1), Some(2)]);
    assert!(decoded.newest_version_rows);

    let old = decoder.decode(&batch([Some(v1.as_slice()), Some(&v1)])).unwrap();
    assert!(!old.newest_version_rows);
    let refused = decoder.decode(&batch([Some(v1.as_slice()), Some(&v2[..8])])).unwrap();
    assert!(!refused.newest_version_rows, "a refused message is no row");
}

#[test]
fn numbers_are_promoted_by_avros_rules() {
    let types = ["int", "long", "float", "double"];
    let encoded = [long(7), long(7), 7f32.to_le_bytes().to_vec(), 7f64.to_le_bytes().to_vec()];
    for (from, written) in types.iter().enumerate() {
        for (to, read) in types.iter().enumerate() {
            let field = |ty: &str| format!(r#"[{{"name":"a","type":"{ty}"}}]"#);
            let decoded = resolve(&field(read), &field(written), &[encoded[from].clone()]);
            if to < from {
                assert_eq!(reasons(&decoded), [(0, Reason::IncompatibleSchema)], "{written} to {read}");
                continue;
            }
            let column = decoded.rows.column(0);
            let value = match *read {
                "int" => f64::from(column.as_primitive::<Int32Type>().value(0)),
                "long" => column.as_primitive::<Int64Type>().value(0) as f64,
                "float" => f64::from(column.as_primitive::<Float32Type>().value(0)),
                _ => column.as_primitive::<Float64Type>().value(0),
            };
            assert_eq!(value, 7.0, "{written} to {read}");
        }
    }
}

#[test]
fn ints_and_booleans_out_of_range_are_malformed() {
    let fields = r#"[{"name":"a","type":"int"},{"name":"b","type":"boolean"},{"name":"c","type":["null","int"]}]"#;
    let row = |a: i64, b: u8, c: &[u8]| [long(a), vec![b], c.to_vec()].concat();
    let decoded = resolve(
        fields,
        fields,
        &[
            row(i64::from(i32::MAX), 1, &[0]),
            row(i64::from(i32::MAX) + 1, 1, &[0]),
            row(i64::from(i32::MIN) - 1, 1, &[0]),
            row(0, 2, &[0]),
            row(0, 0, &long(2)),
            row(0, 0, &long(-1)),
            row(i64::from(i32::MIN), 0, &[2, 8]),
            // The same numbers in more bytes than they need are still those numbers.
            [&[0x80, 0x00, 0, 0x82, 0x00, 0x88, 0x00][..]].concat(),
        ],
    );
    assert_eq!(reasons(&decoded), [1, 2, 3, 4, 5].map(|at| (at, Reason::Malformed)));
    let rows: Vec<_> = (0..3).map(|row| (int(&decoded.rows, "a", row), boolean(&decoded.rows, "b", row))).collect();
    assert_eq!(rows, [(i32::MAX, true), (i32::MIN, false), (0, false)]);
    let nullable = decoded.rows.column(2).as_primitive::<Int32Type>();
    assert_eq!(nullable.iter().collect::<Vec<_>>(), [None, Some(4), Some(4)]);
}

#[test]
fn logical_types_enums_and_bytes_become_their_columns() {
    let fields = r#"[
        {"name":"d","type":{"type":"int","logicalType":"date"}},
        {"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"us","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
        {"name":"b","type":["bytes","null"]}]"#;
    let row = |ms: i64, symbol: i64| {
        [long(-1), long(ms), long(1), long(5), long(symbol), long(0), string([0xff, 0])].concat()
    };
    let decoded = resolve(fields, fields, &[row(-2, 1), row(i64::MAX, 0), row(0, 2), row(0, -1)]);
    assert_eq!(reasons(&decoded), [1, 2, 3].map(|at| (at, Reason::Malformed)));
    assert_eq!(decoded.rows.column(0).as_primitive::<Date32Type>().value(0), -1);
    assert_eq!(decoded.rows.column(1).as_primitive::<TimestampMicrosecondType>().value(0), -2_000);
    assert_eq!(decoded.rows.column(2).as_primitive::<TimestampMicrosecondType>().value(0), 5);
    assert_eq!(text(&decoded.rows, "e", 0), Some("Y"));
    assert_eq!(decoded.rows.column(4).as_binary::<i32>().value(0), [0xff, 0]);
}

#[test]
fn the_writers_unit_of_time_counts() {
    let field = |logical: &str| format!(r#"[{{"name":"at","type":{{"type":"long","logicalType":"{logical}"}}}}]"#);
    let (millis, micros, plain) =
        (field("timestamp-millis"), field("timestamp-micros"), r#"[{"name":"at","type":"long"}]"#);
    for (reader, writer, expected) in
        [(&*millis, &*micros, 3), (&micros, &millis, 3_000), (&millis, plain, 3_000), (&micros, plain, 3)]
    {
        let decoded = resolve(reader, writer, &[long(3)]);
        assert_eq!(decoded.rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0), expected);
    }
    let nanos = resolve(&micros, &field("timestamp-nanos"), &[long(3)]);
    assert_eq!(reasons(&nanos), [(0, Reason::IncompatibleSchema)]);
}

#[test]
fn enums_are_matched_by_symbol() {
    let field = |symbols: &str| format!(r#"[{{"name":"e","type":{{"type":"enum","name":"E","symbols":{symbols}}}}}]"#);
    let written = field(r#"["B","A","C"]"#);
    let decoded = resolve(&field(r#"["A","B"]"#), &written, &[long(0), long(1), long(2)]);
    assert_eq!(reasons(&decoded), [(2, Reason::IncompatibleSchema)]);
    assert_eq!((text(&decoded.rows, "e", 0), text(&decoded.rows, "e", 1)), (Some("B"), Some("A")));
    let with_default = field(r#"["A","B"],"default":"A""#);
    let decoded = resolve(&with_default, &written, &[long(2)]);
    assert_eq!(text(&decoded.rows, "e", 0), Some("A"));
}

#[test]
fn a_null_for_a_required_field_costs_only_its_own_message() {
    let decoded = resolve(
        r#"[{"name":"a","type":"double"}]"#,
        r#"[{"name":"a","type":["null","int","string","double"]}]"#,
        &[
            long(0),
            [long(1), long(4)].concat(),
            [long(2), string("4")].concat(),
            [long(3), 4.5f64.to_le_bytes().to_vec()].concat(),
        ],
    );
    assert_eq!(reasons(&decoded), [(0, Reason::MissingField), (2, Reason::IncompatibleSchema)]);
    assert_eq!((double(&decoded.rows, "a", 0), double(&decoded.rows, "a", 1)), (4.0, 4.5));
}

#[test]
fn fields_that_the_contract_lacks_are_passed_over() {
    let writer = r#"[
        {"name":"n","type":"null"},
        {"name":"list","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
            {"name":"f","type":{"type":"fixed","name":"F","size":3}},
            {"name":"next","type":["null","Item"]},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}}]}}},
        {"name":"a","type":"int"},
        {"name":"map","type":{"type":"map","values":["float","double","boolean","long","bytes"]}}]"#;
    let leaf = [b"abc".to_vec(), long(0), long(0)].concat();
    let item = [b"abc".to_vec(), long(1), leaf.clone(), long(0)].concat();
    let list = [long(2), item.clone(), leaf.clone(), long(-1), long(leaf.len() as i64), leaf.clone(), long(0)].concat();
    let map = [long(2), string("k"), long(0), vec![0; 4], string("l"), long(4), string([0xff]), long(0)].concat();
    let good = [list.clone(), long(9), map.clone()].concat();
    let endless_nulls = [long(0), long(9), long(i64::MAX), string("k"), long(0)].concat();
    let mut deep = long(1);
    for _ in 0..100 {
        deep.extend([b"abc".to_vec(), long(1)].concat());
    }
    let decoded = resolve(r#"[{"name":"a","type":"int"}]"#, writer, &[good.clone(), endless_nulls, deep, good]);
    assert_eq!(reasons(&decoded), [(1, Reason::Truncated), (2, Reason::Malformed)]);
    assert_eq!((int(&decoded.rows, "a", 0), int(&decoded.rows, "a", 1)), (9, 9));

    let nulls = r#"[{"name":"x","type":{"type":"array","items":"null"}},{"name":"a","type":"int"}]"#;
    let decoded = resolve(
        r#"[{"name":"a","type":"int"}]"#,
        nulls,
        &[[long(i64::MAX), long(0), long(1)].concat(), [long(3), long(0), long(1)].concat()],
    );
    assert_eq!(reasons(&decoded), [(0, Reason::Malformed)]);
}

#[test]
fn schemas_that_cannot_be_read_as_the_contract_are_incompatible() {
    for schema in [
        r#"{"type":"record","name":"Other","fields":[{"name":"a","type":"int"}]}"#.to_owned(),
        record(r#"[{"name":"b","type":"int"}]"#),
        record(r#"[{"name":"a","type":"string"}]"#),
        record(r#"[{"name":"a","type":"null"}]"#),
        r#""int""#.to_owned(),
        r#"{"type":"object"}"#.to_owned(),
        "syntax = proto3".to_owned(),
    ] {
        let lookup = Fixed { schemas: vec![record(r#"[{"name":"a","type":"int"}]"#), schema.clone()], outages: 0 };
        let mut decoder = Decoder::new(contract(&[r#"[{"name":"a","type":"int"}]"#]), Format::Avro, Box::new(lookup));
        let decoded = decoder.decode(&batch([Some(&*framed(2, &long(1))), Some(&*framed(1, &long(1)))])).unwrap();
        assert_eq!(reasons(&decoded), [(0, Reason::IncompatibleSchema)], "{schema}");
        assert_eq!((decoded.rejected[0].schema_id, decoded.rejected[0].stage), (Some(2), Stage::Frame));
        assert_eq!(decoded.rows.num_rows(), 1);
    }
}

#[test]
fn after_an_outage_the_same_batch_can_be_offered_again() {
    let fields = r#"[{"name":"a","type":"int"}]"#;
    let lookup = Fixed { schemas: vec![record(fields), record(fields)], outages: 2 };
    let mut decoder = Decoder::new(contract(&[fields]), Format::Avro, Box::new(lookup));
    let payloads = [framed(1, &long(1)), framed(2, &long(2)), framed(3, &long(3)), framed(1, &long(4))];
    let batch = batch(payloads.iter().map(|payload| Some(payload.as_slice())));
    for _ in 0..2 {
        assert!(decoder.decode(&batch).unwrap_err().is_transient());
    }
    let decoded = decoder.decode(&batch).unwrap();
    assert_conserved(&decoded, &batch);
    assert_eq!((0..3).map(|row| int(&decoded.rows, "a", row)).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(reasons(&decoded), [(2, Reason::UnknownSchemaId)]);
}

#[test]
fn an_alias_reads_the_old_name_of_a_field() {
    let reader = r#"[{"name":"new","aliases":["old"],"type":"int"}]"#;
    let decoded = resolve(reader, r#"[{"name":"old","type":"int"}]"#, &[long(5)]);
    assert_eq!(int(&decoded.rows, "new", 0), 5);
    let both =
        resolve(reader, r#"[{"name":"old","type":"int"},{"name":"new","type":"int"}]"#, &[[long(5), long(6)].concat()]);
    assert_eq!(int(&both.rows, "new", 0), 6, "a name goes before an alias");
}

#[test]
fn a_number_may_have_64_bits_and_not_one_more() {
    let fields = r#"[{"name":"a","type":"long"}]"#;
    let tenth = |byte: u8| [vec![0xff; 9], vec![byte]].concat();
    let decoded = resolve(fields, fields, &[tenth(1), tenth(2), tenth(0x81), long(i64::MAX), vec![0x80; 9]]);
    assert_eq!(reasons(&decoded), [(1, Reason::Malformed), (2, Reason::Malformed), (4, Reason::Truncated)]);
    assert_eq!(decoded.rows.column(0).as_primitive::<Int64Type>().values()[..], [i64::MIN, i64::MAX]);
}
