use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, Float32Type, Int64Type, TimestampMicrosecondType};

use super::*;
use crate::domain::Stage;

const FIELDS: &str = r#"[{"name":"id","type":"string"},{"name":"n","type":"int"},{"name":"size","type":"double"},
    {"name":"ok","type":"boolean"},{"name":"note","type":["null","string"],"default":null}]"#;

fn decode_with(fields: &str, texts: &[&[u8]]) -> Decoded {
    let batch = batch(texts.iter().map(|text| Some(*text)));
    let decoded = decoder(&contract(&[fields]), Format::Json).decode(&batch).unwrap();
    assert_conserved(&decoded, &batch);
    decoded
}

const GOOD: &str = r#"{"id":"a","n":1,"size":2.5,"ok":true,"note":"x"}"#;

/// The reason for one text among good neighbours, which must come through; `None` when it is a row.
fn judge(text: impl AsRef<[u8]>) -> Option<Reason> {
    let decoded = decode_with(FIELDS, &[GOOD.as_bytes(), text.as_ref(), GOOD.as_bytes()]);
    let last = decoded.rows.num_rows() - 1;
    for row in [0, last] {
        let rows = &decoded.rows;
        let found =
            (text_of(rows, "id", row), int(rows, "n", row), double(rows, "size", row), text_of(rows, "note", row));
        assert_eq!(found, (Some("a"), 1, 2.5, Some("x")));
        assert!(boolean(rows, "ok", row));
    }
    assert!(decoded.rejected.iter().all(|rejected| rejected.message == 1 && rejected.stage == Stage::Decode));
    decoded.rejected.first().map(|rejected| rejected.reason)
}

use super::text as text_of;

/// `GOOD` with other text for one value.
fn with(field: &str, value: &str) -> String {
    let values = [("id", "\"a\""), ("n", "1"), ("size", "2.5"), ("ok", "true"), ("note", "\"x\"")];
    let pairs = values.map(|(name, good)| format!("\"{name}\":{}", if name == field { value } else { good }));
    format!("{{{}}}", pairs.join(","))
}

#[test]
fn fields_come_by_name_in_any_order_and_unknown_ones_are_ignored() {
    let decoded = decode_with(FIELDS, &[
        br#" { "ok" : false , "deep":{"a":[1,{"b":"]}"},[]],"c":{}}, "size":-3 ,"n":-0,"x":null,"id":"\u0041\ud83d\ude00\n\/","y":1e999 } "#,
        r#"{"id":"é😀 ","n":2147483647,"size":1e300,"ok":true,"note":null,"":[]}"#.as_bytes(),
    ]);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    assert_eq!(text_of(&decoded.rows, "id", 0), Some("A😀\n/"));
    assert_eq!((int(&decoded.rows, "n", 0), double(&decoded.rows, "size", 0)), (0, -3.0));
    assert_eq!((text_of(&decoded.rows, "note", 0), text_of(&decoded.rows, "note", 1)), (None, None));
    assert_eq!((int(&decoded.rows, "n", 1), double(&decoded.rows, "size", 1)), (i32::MAX, 1e300));
    assert_eq!(decoded.schema_ids, [None, None]);
}

#[test]
fn what_is_not_one_object_is_invalid() {
    for text in [
        "",
        " ",
        "null",
        "1",
        "\"a\"",
        "[]",
        "[{}]",
        "{",
        "{]",
        "}",
        "nul",
        "{\"id\"}",
        "{\"id\":}",
        "{\"id\":\"a\",}",
        "{,}",
        "{id:1}",
        "{'id':'a'}",
        "\u{feff}{}",
        "{\"x\":01}",
        "{\"x\":1.}",
        "{\"x\":.5}",
        "{\"x\":+1}",
        "{\"x\":-}",
        "{\"x\":1e}",
        "{\"x\":0x1}",
        "{\"x\":tru}",
        "{\"x\":\"\\x\"}",
        "{\"x\":\"\\u12\"}",
        "{\"x\":\"\\u+123\"}",
        "{\"x\":\"\\ud800\"}",
        "{\"x\":\"\\udc00\"}",
        "{\"x\":\"\\ud800\\u0041\"}",
        "{\"x\":\"\n\"}",
        "{\"x\":\"",
        "{\"x\":[1,]}",
        "{\"x\":[1 2]}",
        "{\"x\":{\"a\"}}",
        "{\"x\":[}",
    ] {
        assert_eq!(judge(text), Some(Reason::InvalidJson), "{text}");
    }
    for tail in ["{}", "x", ",", "\0", GOOD] {
        assert_eq!(judge(format!("{GOOD}{tail}")), Some(Reason::InvalidJson), "{tail}");
    }
    for literal in ["NaN", "Infinity", "-Infinity", "nan"] {
        assert_eq!(judge(with("size", literal)), Some(Reason::InvalidJson), "{literal}");
    }
    assert_eq!(judge(GOOD.replace("\"n\":1", "\"n\":1,\"n\":2")), Some(Reason::InvalidJson), "which one is meant?");
    assert_eq!(judge(with("n", "\"wrong\"").replace('}', "")), Some(Reason::InvalidJson), "worse than a wrong type");
}

#[test]
fn nesting_is_bounded_but_not_by_the_stack() {
    let nested = |depth: usize| GOOD.replace('{', &format!("{{\"deep\":{}{},", "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(judge(nested(128)), None);
    assert_eq!(judge(nested(129)), Some(Reason::InvalidJson));
    assert_eq!(judge(nested(1_000_000)), Some(Reason::InvalidJson));
}

#[test]
fn missing_null_and_wrong_values_are_told_apart() {
    assert_eq!(judge("{}"), Some(Reason::MissingField));
    assert_eq!(judge(GOOD.replace("\"n\":1,", "")), Some(Reason::MissingField));
    assert_eq!(judge(GOOD.replace(",\"note\":\"x\"", "")), None);
    for (field, value, expected) in [
        ("id", "null", Some(Reason::MissingField)),
        ("note", "null", None),
        ("id", "1", Some(Reason::WrongType)),
        ("id", "{}", Some(Reason::WrongType)),
        ("note", "[1,2]", Some(Reason::WrongType)),
        ("n", "\"1\"", Some(Reason::WrongType)),
        ("n", "1.0", Some(Reason::WrongType)),
        ("n", "1e2", Some(Reason::WrongType)),
        ("n", "2147483648", Some(Reason::WrongType)),
        ("n", "-2147483648", None),
        ("n", "99999999999999999999999999", Some(Reason::WrongType)),
        ("size", "7", None),
        ("size", "123456789012345678901234567890", None),
        ("size", "1e400", Some(Reason::WrongType)),
        ("size", "-1e400", Some(Reason::WrongType)),
        ("size", "1e-400", None),
        ("size", "\"NaN\"", Some(Reason::WrongType)),
        ("ok", "1", Some(Reason::WrongType)),
        ("ok", "\"true\"", Some(Reason::WrongType)),
    ] {
        assert_eq!(judge(with(field, value)), expected, "{field} {value}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_wherever_they_stand() {
    for bad in [&b"\xff"[..], b"{\"id\":\"\xc3\x28\"}", b"{\"\xed\xa0\x80\":1}"] {
        assert_eq!(judge(bad), Some(Reason::InvalidUtf8));
    }
}

#[test]
fn null_payloads_are_refused_at_the_frame() {
    let decoded = decoder(&contract(&[FIELDS]), Format::Json).decode(&batch([None, Some(GOOD.as_bytes())])).unwrap();
    assert_eq!(reasons(&decoded), [(0, Reason::NullPayload)]);
    assert_eq!((decoded.rejected[0].stage, decoded.message_of_row), (Stage::Frame, vec![1]));
}

#[test]
fn every_kind_has_a_json_form() {
    let fields = r#"[{"name":"l","type":"long"},{"name":"f","type":"float"},{"name":"b","type":"bytes"},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
        {"name":"d","type":{"type":"int","logicalType":"date"}},
        {"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"us","type":{"type":"long","logicalType":"timestamp-micros"}}]"#;
    let row = |l: &str, f: &str, b: &str, e: &str, d: &str, ms: &str, us: &str| {
        format!(r#"{{"l":{l},"f":{f},"b":{b},"e":{e},"d":{d},"ms":{ms},"us":{us}}}"#)
    };
    let max = i64::MAX.to_string();
    let texts = [
        row(&max, "0.1", r#""\u0000ÿ""#, r#""Y""#, "-1", "-2", &max),
        row("0", "1e39", r#""""#, r#""X""#, "0", "0", "0"),
        row("0", "1", r#""Ā""#, r#""X""#, "0", "0", "0"),
        row("0", "1", r#""""#, r#""Z""#, "0", "0", "0"),
        row("0", "1", r#""""#, r#""X""#, "0", &max, "0"),
        row("0", "1", r#""""#, r#""X""#, r#""1970-01-32""#, "0", "0"),
        row(
            "0",
            "1",
            r#""""#,
            r#""X""#,
            r#""1970-01-02""#,
            r#""1970-01-01T01:00:00.0015+01:00""#,
            r#""1969-12-31T23:59:59Z""#,
        ),
    ];
    let texts: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
    let decoded = decode_with(fields, &texts);
    assert_eq!(reasons(&decoded), [1, 2, 3, 4, 5].map(|at| (at, Reason::WrongType)));
    let rows = &decoded.rows;
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values()[..], [i64::MAX, 0]);
    assert_eq!(rows.column(1).as_primitive::<Float32Type>().value(0), 0.1);
    assert_eq!(rows.column(2).as_binary::<i32>().value(0), [0, 0xff]);
    assert_eq!(text_of(rows, "e", 0), Some("Y"));
    assert_eq!(rows.column(4).as_primitive::<Date32Type>().values()[..], [-1, 1]);
    assert_eq!(rows.column(5).as_primitive::<TimestampMicrosecondType>().values()[..], [-2_000, 1_500]);
    assert_eq!(rows.column(6).as_primitive::<TimestampMicrosecondType>().values()[..], [i64::MAX, -1_000_000]);
}

#[test]
fn older_messages_get_the_defaults_and_newer_ones_are_noticed() {
    let contract = contract(&[
        r#"[{"name":"a","type":"int"}]"#,
        r#"[{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null,"aliases":["Bee"]},{"name":"c","type":"string","default":"web"}]"#,
    ]);
    let mut decoder = decoder(&contract, Format::Json);
    let mut decode = |text: &str| {
        let decoded = decoder.decode(&batch([Some(text.as_bytes())])).unwrap();
        (
            text_of(&decoded.rows, "b", 0).map(str::to_owned),
            text_of(&decoded.rows, "c", 0).map(str::to_owned),
            decoded.newest_version_rows,
        )
    };
    assert_eq!(decode(r#"{"a":1}"#), (None, Some("web".into()), false));
    assert_eq!(decode(r#"{"a":1,"b":null}"#), (None, Some("web".into()), true));
    assert_eq!(decode(r#"{"Bee":"x","a":1,"c":""}"#), (Some("x".into()), Some(String::new()), true));
}
