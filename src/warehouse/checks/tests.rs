use super::*;

fn parse(header: &str) -> Result<CheckFile, SqlFileError> {
    let text = SqlText { name: "c".into(), file: "checks/c.sql".into(), text: header.into(), built_in: false };
    CheckFile::parse(&text)
}

#[test]
fn a_list_and_a_query_are_told_apart() {
    let listed = parse(
        "-- table = \"t\"\n-- about = \"x\"\n-- checks = [{ check = \"not_null\", columns = [\"a\", \"b\"], severity = \"warn\" }]\n",
    );
    let listed = listed.unwrap();
    let names: Vec<_> = listed.checks.iter().map(|check| (check.name.as_str(), check.severity)).collect();
    assert_eq!(names, [("t.a.not_null", Severity::Warn), ("t.b.not_null", Severity::Warn)]);
    let query = parse("-- table = \"t\"\n-- about = \"x\"\n\nSELECT 1;\n").unwrap();
    assert_eq!(query.checks[0].name, "c");
    assert_eq!(query.checks[0].kind, CheckKind::Query("\nSELECT 1".into()));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let told = |header: &str| parse(header).unwrap_err().to_string();
    let head = "-- table = \"t\"\n-- about = \"x\"\n";
    let of = |check: &str| told(&format!("{head}-- checks = [\n--   {{ {check} }},\n-- ]\n"));
    assert!(of("check = \"unik\", columns = [\"a\"]").starts_with("checks/c.sql:4: check `unik` is not one of"));
    assert!(of("check = \"unique\", column = \"a\"").contains("takes `columns`"));
    assert!(of("check = \"unique\", columns = [\"a; DROP\"]").contains("no name"));
    assert!(of("check = \"unique\", columns = [\"a\"], severity = \"fatal\"").contains("warn, error"));
    assert!(told(head).contains("checks nothing"));
    assert!(
        told(&format!("{head}-- checks = [{{ check = \"unique\", columns = [\"a\"] }}]\nSELECT 1"))
            .contains("not both")
    );
}

#[test]
fn a_value_cannot_leave_its_text() {
    let kind = CheckKind::Accepted { column: "a".into(), values: vec!["it's".into()] };
    let text = SqlText {
        name: "t".into(),
        file: "warehouse/t.sql".into(),
        text: "-- table = \"t\"\n-- mode = \"kept\"\n-- about = \"x\"\n-- key = [\"a\"]\n-- columns = [{ name = \"a\", type = \"text\", not_null = true, about = \"x\" }]\n".into(),
        built_in: false,
    };
    assert!(kind.failing(&TableFile::parse(&text).unwrap(), false).contains("NOT IN ('it''s')"));
}
