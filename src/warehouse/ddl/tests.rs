use super::*;
use crate::refine::SqlText;
use crate::warehouse::file::TableFile;

fn table(header: &str, kinds: &[&str]) -> Table {
    let text = SqlText {
        name: "t".into(),
        file: "warehouse/t.sql".into(),
        text: format!("{header}\nSELECT 1 FROM silver.transactions"),
        built_in: false,
    };
    let file = TableFile::parse(&text).unwrap();
    let of = |(def, kind): (&crate::warehouse::file::ColumnDef, &&str)| Column {
        name: def.name.clone(),
        kind: (*kind).to_owned(),
        not_null: def.not_null,
        about: def.about.clone(),
    };
    let columns = file.columns.iter().zip(kinds).map(of).collect();
    Table { file, columns, kinds: Vec::new() }
}

fn fact() -> Table {
    let header = "-- table = \"t\"\n-- mode = \"rows\"\n-- about = \"It's t.\"\n-- key = [\"id\"]\n\
        -- indexes = [{ columns = [\"epoch\"], using = \"brin\" }]\n\
        -- columns = [{ name = \"id\", not_null = true, about = \"a\" }, { name = \"note\", about = \"b\" }, { name = \"epoch\", not_null = true, about = \"c\" }]";
    table(header, &["text", "text", "bigint"])
}

fn standing(columns: &[(&str, &str, bool)]) -> Standing {
    let columns = columns.iter().map(|(name, kind, not_null)| ((*name).to_owned(), (*kind).to_owned(), *not_null));
    Standing { columns: columns.collect(), key: vec!["id".to_owned()], is_ours: true, ..Standing::default() }
}

#[test]
fn a_table_is_what_its_file_says() {
    let table = fact();
    assert_eq!(
        table.create(),
        "CREATE TABLE \"t\" (\"id\" text COLLATE \"C\" NOT NULL, \"note\" text COLLATE \"C\", \"epoch\" bigint NOT NULL)"
    );
    assert_eq!(table.create_indexes(), ["CREATE INDEX IF NOT EXISTS \"t_epoch_brin\" ON \"t\" USING brin (\"epoch\")"]);
    assert!(table.comments().starts_with("COMMENT ON TABLE \"t\" IS 'It''s t.';"));
    assert!(table.copy("\"t\"", true).ends_with("(\"id\", \"note\", \"epoch\") FROM STDIN (FORMAT binary, FREEZE)"));
}

#[test]
fn a_dimension_is_merged_column_by_column() {
    let header = "-- table = \"t\"\n-- mode = \"upsert\"\n-- about = \"t\"\n-- key = [\"id\"]\n\
        -- columns = [{ name = \"id\", not_null = true, about = \"a\" }, { name = \"seen\", merge = \"least\", about = \"b\" }, \
        { name = \"count\", merge = \"sum\", about = \"b\" }, { name = \"epoch\", not_null = true, merge = \"greatest\", about = \"c\" }]";
    let sql = table(header, &["integer", "date", "bigint", "bigint"]).merge("\"n\"");
    assert!(
        sql.contains("ON CONFLICT (\"id\") DO UPDATE SET \"seen\" = least(stored.\"seen\", excluded.\"seen\")"),
        "{sql}"
    );
    assert!(sql.contains("\"count\" = coalesce(stored.\"count\" + excluded.\"count\""), "{sql}");
}

#[test]
fn every_difference_is_told() {
    let same = standing(&[("epoch", "bigint", true), ("id", "text", true), ("note", "text", false)]);
    assert_eq!(drift(&fact(), &same).lines, Vec::<String>::new());
    let other = standing(&[("id", "integer", true), ("epoch", "bigint", false), ("town", "text", true)]);
    let found = drift(&fact(), &other);
    assert_eq!(
        found.lines,
        [
            "~ id text NOT NULL: id integer NOT NULL in the warehouse",
            "+ note text: in the file, not in the warehouse",
            "~ epoch bigint NOT NULL: epoch bigint in the warehouse",
            "- town text NOT NULL: in the warehouse, not in the file",
        ]
    );
    assert!(!found.is_simple);
}

#[test]
fn another_key_is_a_difference() {
    let same = standing(&[("epoch", "bigint", true), ("id", "text", true), ("note", "text", false)]);
    for (key, told) in [
        (vec!["id".to_owned(), "epoch".to_owned()], "~ key (id): key (id, epoch) in the warehouse"),
        (Vec::new(), "~ key (id): no key in the warehouse"),
    ] {
        let found = drift(&fact(), &Standing { key, ..same.clone() });
        assert_eq!((found.lines, found.is_simple), (vec![told.to_owned()], false));
    }
}

#[test]
fn only_a_new_column_that_may_be_null_is_added_without_more() {
    let lacks_note = drift(&fact(), &standing(&[("id", "text", true), ("epoch", "bigint", true)]));
    assert!(lacks_note.is_simple);
    assert_eq!(add_columns(&fact(), &lacks_note.added), "ALTER TABLE \"t\" ADD COLUMN \"note\" text COLLATE \"C\";");
    let lacks_epoch = drift(&fact(), &standing(&[("id", "text", true), ("note", "text", false)]));
    assert!(!lacks_epoch.is_simple);
}
