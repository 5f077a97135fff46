use std::fs;

use arrow::datatypes::DataType;

use super::*;
use crate::contract::ContractError;

fn refusal(versions: &[&str]) -> String {
    let record = |fields: &&str| format!("{{\"type\":\"record\",\"name\":\"T\",\"fields\":\n{fields}}}");
    let files = versions.iter().zip(1..).map(|(fields, number)| (format!("t.v{number}.avsc"), record(fields)));
    Contract::parse("t", files.collect()).unwrap_err().to_string()
}

#[test]
fn the_embedded_contract_has_the_columns_of_both_versions() {
    let contract = Contract::embedded().unwrap();
    let schema = contract.arrow_schema();
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.data_type().clone(), field.is_nullable()))
        .collect();
    assert_eq!(
        columns,
        [
            ("transaction_id", DataType::Utf8, false),
            ("user_id", DataType::Int32, false),
            ("amount", DataType::Float64, false),
            ("merchant", DataType::Utf8, false),
            ("timestamp", DataType::Utf8, false),
            ("is_fraud", DataType::Boolean, false),
            ("payment_method", DataType::Utf8, false),
            ("location", DataType::Utf8, false),
            ("device_id", DataType::Utf8, false),
            ("merchant_id", DataType::Utf8, true),
        ]
    );
    assert_eq!(contract.evolved_columns(), ["merchant_id"]);
    assert_eq!(contract.versions(), 2);
    assert!(contract.version(0).is_none() && contract.version(3).is_none());
    assert!(!contract.version(1).unwrap().contains("merchant_id\","));
}

#[test]
fn a_folder_is_read_in_the_order_of_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, fields: &str| {
        fs::write(folder.path().join(file), format!(r#"{{"type":"record","name":"T","fields":[{fields}]}}"#)).unwrap();
    };
    let base = r#"{"name":"a","type":"int"}"#;
    let mut fields = base.to_owned();
    for version in 1..=10 {
        write(&format!("t.v{version}.avsc"), &fields);
        fields = format!(r#"{fields},{{"name":"f{version}","type":"int","default":{version}}}"#);
    }
    write("tt.v1.avsc", base);
    fs::write(folder.path().join("t.md"), "not a schema").unwrap();
    let contract = Contract::load(folder.path(), "t").unwrap();
    assert_eq!(contract.versions(), 10);
    assert_eq!(contract.evolved_columns().len(), 9);
    assert!(contract.arrow_schema().field_with_name("f9").unwrap().is_nullable(), "added later, so older rows lack it");

    fs::remove_file(folder.path().join("t.v4.avsc")).unwrap();
    let gap = Contract::load(folder.path(), "t").unwrap_err();
    assert!(matches!(gap, ContractError::Gap { expected: 4, found: 5, .. }), "{gap}");
    write("t.v04.avsc", base);
    let named = Contract::load(folder.path(), "t").unwrap_err();
    assert!(matches!(named, ContractError::FileName { .. }), "{named}");
    let missing = Contract::load(folder.path(), "u").unwrap_err().to_string();
    assert!(missing.contains("u.v1.avsc"), "{missing}");
    assert!(matches!(Contract::load(&folder.path().join("no"), "t"), Err(ContractError::Unreadable { .. })));
}

#[test]
fn a_version_that_cannot_read_an_earlier_one_is_refused_with_file_line_and_field() {
    let a = r#"[{"name":"a","type":"int"}]"#;
    let added = refusal(&[a, "[{\"name\":\"a\",\"type\":\"int\"},\n{\"name\":\"b\",\"type\":\"int\"}]"]);
    assert!(added.starts_with("t.v2.avsc:3: cannot read what t.v1.avsc wrote: field `b`"), "{added}");
    assert!(added.contains("default"), "{added}");
    for (v1, v2) in [
        (r#"[{"name":"a","type":"long"}]"#, a),
        (r#"[{"name":"a","type":"string"}]"#, a),
        (r#"[{"name":"a","type":["null","int"]}]"#, a),
        (
            r#"[{"name":"a","type":{"type":"int","logicalType":"date"}}]"#,
            r#"[{"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}}]"#,
        ),
        (
            r#"[{"name":"a","type":{"type":"enum","name":"E","symbols":["X","Y"]}}]"#,
            r#"[{"name":"a","type":{"type":"enum","name":"E","symbols":["X"]}}]"#,
        ),
    ] {
        let error = refusal(&[v1, v2]);
        assert!(error.starts_with("t.v2.avsc:2: cannot read") && error.contains("field `a`"), "{error}");
    }
    // Version 3 reads 2, but not 1: every earlier version counts.
    let skipped = refusal(&[
        r#"[{"name":"a","type":"int"}]"#,
        r#"[{"name":"a","type":"int"},{"name":"b","type":"int","default":1}]"#,
        r#"[{"name":"a","type":"int"},{"name":"b","type":"int"}]"#,
    ]);
    assert!(skipped.starts_with("t.v3.avsc:2: cannot read what t.v1.avsc wrote"), "{skipped}");
}

#[test]
fn widening_and_renaming_by_alias_are_allowed() {
    let contract = contract(&[
        r#"[{"name":"a","type":"int"},{"name":"old","type":"string"},{"name":"gone","type":"long"}]"#,
        r#"[{"name":"a","type":["null","double"]},{"name":"new","type":"string","aliases":["old","Older Name"]}]"#,
    ]);
    assert_eq!(contract.aliases("new"), ["old", "Older Name"]);
    assert_eq!(contract.aliases("a"), [""; 0]);
    assert_eq!(contract.evolved_columns(), ["new"]);
    assert_eq!(contract.arrow_schema().field(0).data_type(), &DataType::Float64);
}

#[test]
fn names_that_tables_already_have_are_refused() {
    for name in ["epoch", "Source_Offset", "schema_id", "broken_expectations", "window_start"] {
        let error = refusal(&[&format!(r#"[{{"name":"{name}","type":"int"}}]"#)]);
        assert!(error.starts_with(&format!("t.v1.avsc:2: field `{name}`")) && error.contains("rename"), "{error}");
    }
    let case = refusal(&[r#"[{"name":"a","type":"int"},{"name":"A","type":"int"}]"#]);
    assert!(case.contains("only in case"), "{case}");
    let alias = refusal(&[r#"[{"name":"a","type":"int"},{"name":"b","aliases":["a"],"type":"int"}]"#]);
    assert!(alias.contains("also names"), "{alias}");
}

#[test]
fn types_that_cannot_be_columns_are_refused() {
    for ty in [
        r#""null""#,
        r#"["null"]"#,
        r#"["int","string"]"#,
        r#"["null","int","string"]"#,
        r#"{"type":"array","items":"int"}"#,
        r#"{"type":"map","values":"int"}"#,
        r#"{"type":"fixed","name":"F","size":4}"#,
        r#"{"type":"record","name":"R","fields":[]}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":9}"#,
        r#"{"type":"int","logicalType":"time-millis"}"#,
        r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
    ] {
        let error = refusal(&[&format!(r#"[{{"name":"x","type":{ty}}}]"#)]);
        assert!(error.contains("field `x`") && error.contains("cannot be a column"), "{ty}: {error}");
    }
}

#[test]
fn schemas_that_are_no_avro_are_refused() {
    for (fields, expected) in [
        (r#"[{"name":"a","type":"integer"}]"#, "`integer` is not an Avro type"),
        (r#"[{"name":"a","type":"int"},{"name":"a","type":"int"}]"#, "declared twice"),
        (r#"[{"name":"1a","type":"int"}]"#, "is not a field name"),
        (r#"[{"name":"a"}]"#, "without `type`"),
        (r#"[{"name":"a","type":"int","default":"1"}]"#, "the default \"1\" is no int"),
        (r#"[{"name":"a","type":"int","default":2147483648}]"#, "the default 2147483648 is no int"),
        (r#"[{"name":"a","type":"int","default":null}]"#, "the default null is no int"),
        (r#"[{"name":"a","type":{"type":"enum","name":"E","symbols":["X","X"]}}]"#, "twice"),
        (r#"[{"name":"a","type":{"type":"enum","name":"E","symbols":["X"],"default":"Z"}}]"#, "no symbol"),
        ("[]", "no fields"),
        ("3", "no `fields`"),
    ] {
        let error = refusal(&[fields]);
        assert!(error.contains(expected), "{fields}: {error}");
    }
    let parse = |json: &str| Contract::parse("t", vec![("f.avsc".into(), json.into())]).unwrap_err().to_string();
    assert!(parse("{\n \"type\": }").starts_with("f.avsc:2:"), "{}", parse("{\n \"type\": }"));
    assert!(parse(r#""int""#).contains("a contract is a record"));
    assert!(matches!(Contract::parse("t", Vec::new()), Err(ContractError::Missing { .. })));
}
