use std::io::Write;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

fn read(paths: &[&String]) -> Result<Table, TableError> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).clone()).collect();
    Table::read(&paths, &Wanted::AllBut(&[]))
}

fn kinds(table: &Table) -> Vec<(&str, Kind)> {
    table.columns.iter().map(|column| (column.name.as_str(), column.cells.kind())).collect()
}

/// A missing number is NaN, which equals nothing.
fn assert_same(one: &Table, other: &Table, rows: usize) {
    assert_eq!(kinds(one), kinds(other));
    for (one, other) in one.columns.iter().zip(&other.columns) {
        for row in 0..rows {
            assert_eq!(one.cells.text(row), other.cells.text(row), "{} {row}", one.name);
        }
    }
}

const SMALL: &str = "amount,night,at,country,note,fraud\n\
                     1.5,true,2026-01-01 00:00:00,DE,,0\n\
                     -2e3,FALSE,2026-01-02T00:00:00Z,,,1\n\
                     NA,,2026-01-03,FR,,0\n\
                     7,true,2026-01-04T01:00:00+01:00,DE,,0\n";

#[test]
fn a_column_is_what_all_its_cells_are() {
    let folder = Folder::new();
    let table = read(&[&folder.file("a.csv", SMALL.as_bytes())]).unwrap();
    let expected = [
        ("amount", Kind::Number),
        ("night", Kind::Boolean),
        ("at", Kind::Time),
        ("country", Kind::Text),
        ("note", Kind::Other),
        ("fraud", Kind::Number),
    ];
    assert_eq!(kinds(&table), expected);
    let Cells::Times(times) = &table.columns[2].cells else { panic!("times") };
    let day = 86_400_000_000;
    let first = times[0].unwrap();
    assert_eq!(*times, [Some(first), Some(first + day), Some(first + 2 * day), Some(first + 3 * day)]);
    assert_eq!(first, 1_767_225_600_000_000);
}

#[test]
fn compressed_split_and_columnar_files_hold_the_same_table() {
    let folder = Folder::new();
    let plain = read(&[&folder.file("a.csv", SMALL.as_bytes())]).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(SMALL.as_bytes()).unwrap();
    assert_same(&read(&[&folder.file("a.csv.gz", &packed.finish().unwrap())]).unwrap(), &plain, 4);

    let (header, rows) = SMALL.split_once('\n').unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    let one = folder.file("1.csv", format!("{header}\n{}\n", lines[..1].join("\n")).as_bytes());
    let two = folder.file("2.csv", format!("{header}\n{}\n", lines[1..].join("\n")).as_bytes());
    let split = read(&[&one, &two]).unwrap();
    assert_same(&split, &plain, 4);
    assert_eq!(split.place(0), (one, 1));
    assert_eq!(split.place(3), (two, 3));

    let times = [0, 1, 2, 3].map(|day| Some(1_767_225_600_000_000_i64 + day * 86_400_000_000));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("amount", Arc::new(Float64Array::from(vec![Some(1.5), Some(-2e3), None, Some(7.0)]))),
        ("night", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))),
        ("country", Arc::new(StringArray::from(vec![Some("DE"), None, Some("FR"), Some("DE")]))),
        ("fraud", Arc::new(Float64Array::from(vec![0.0, 1.0, 0.0, 0.0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let path = folder.file("a.parquet", b"");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let columnar = read(&[&path]).unwrap();
    for column in &columnar.columns {
        let same = plain.column(&column.name, "").unwrap();
        for row in 0..4 {
            assert_eq!(column.cells.text(row), same.cells.text(row), "{} {row}", column.name);
        }
    }
}

#[test]
fn errors_name_file_row_and_column() {
    let folder = Folder::new();
    let error = |name: &str, text: &str, roles: &Roles| {
        let path = folder.file(name, text.as_bytes());
        let table = read(&[&path]);
        let prepared = table.and_then(|table| prepare(&table, roles, 0, 0.5));
        prepared.unwrap_err().to_string().replace(&path, name)
    };
    let roles = Roles { label: "fraud".into(), ..Roles::default() };
    for (name, text, expected) in [
        ("ragged.csv", "a,fraud\n1,0\n2\n", "`ragged.csv`, row 2: 1 cells where the header has 2"),
        ("label.csv", "a,fraud\n1,0\n2,maybe\n", "`label.csv`, row 2, column `fraud`: `maybe`, but must be 0 or 1"),
        ("empty.csv", "a,fraud\n1,\n2,1\n", "`empty.csv`, row 1, column `fraud`: missing, but must be 0 or 1"),
        ("mixed.csv", "a,fraud\n1,0\n2,1\nx,0\n3,1\n", "`mixed.csv`, row 3, column `a`: `x` is no number"),
        ("large.csv", "a,fraud\n1,0\n2,1\n1e300,0\n", "`large.csv`, row 3, column `a`: 1"),
        ("twice.csv", "a,a,fraud\n1,1,0\n", "`twice.csv` has the column `a` twice"),
        ("none.csv", "a,fraud\n", "none.csv: there are no rows"),
        ("label2.csv", "a,frauds\n1,0\n", "there is no column `fraud` to take labels from; did you mean `frauds`?"),
        ("alone.csv", "at,fraud\n2026-01-01,0\n2026-01-02,1\n", "no column is left to learn from: `at` is a time"),
    ] {
        let error = error(name, text, &roles);
        assert!(error.starts_with(expected), "{error}");
    }
    let timed = Roles { time: Some("at".into()), ..roles.clone() };
    let missing = error("time.csv", "a,at,fraud\n1,2026-01-01,0\n2,,1\n", &timed);
    assert!(missing.starts_with("`time.csv`, row 2, column `at`: missing, but must be a time"), "{missing}");
    let twice = Roles { time: Some("fraud".into()), ..roles };
    let two = error("two.csv", "a,fraud\n1,0\n2,1\n", &twice);
    assert!(two.starts_with("the column `fraud` is asked for as the label and as the time"), "{two}");
}

#[test]
fn a_file_without_the_columns_of_the_first_is_refused() {
    let folder = Folder::new();
    let one = folder.file("1.csv", b"a,fraud\n1,0\n");
    let less = folder.file("less.csv", b"fraud\n1\n");
    let more = folder.file("more.csv", b"fraud,a,b\n1,2,3\n");
    let error = read(&[&one, &less]).unwrap_err().to_string();
    assert!(error.contains("less.csv` has no column `a`, which"), "{error}");
    let error = read(&[&one, &more]).unwrap_err().to_string();
    assert!(error.contains("1.csv` has no column `b`, which"), "{error}");
    let ignored = Table::read(&[one.clone(), more], &Wanted::AllBut(&["b".into()])).unwrap_err().to_string();
    assert!(ignored.contains("no column `b` to ignore"), "{ignored}");
    assert!(matches!(read(&[&folder.file("a.txt", b"")]), Err(TableError::UnknownFormat { .. })));
}

#[test]
fn the_rules_come_from_the_rows_before_the_test_alone() {
    let folder = Folder::new();
    // The last two of four rows are the test: they alone have XX, and their numbers would move the median.
    let text = "amount,count,night,country,id,fraud\n\
                1,5,true,DE,a,0\n\
                3,,false,,b,1\n\
                100,6,,XX,c,0\n\
                NA,7,true,DE,d,1\n";
    let table = read(&[&folder.file("a.csv", text.as_bytes())]).unwrap();
    let roles = Roles { label: "fraud".into(), card: Some("id".into()), segments: vec!["country".into()], time: None };
    let prepared = prepare(&table, &roles, 1_000_000, 0.5).unwrap();
    let column = |column: &str, kind, tells_missing| FeatureColumn { column: column.into(), kind, tells_missing };
    assert_eq!(
        prepared.encoding.columns,
        [
            column("amount", FeatureKind::Number { missing: 1.0 }, false),
            column("count", FeatureKind::Number { missing: 5.0 }, true),
            column("night", FeatureKind::Boolean, false),
            column("country", FeatureKind::Category { values: vec!["DE".into()] }, true),
        ]
    );
    let samples = &prepared.samples;
    let expected = ["amount", "count", "count is missing", "night", "country=DE", "country is missing"];
    assert_eq!(samples.features(), expected);
    let rows: Vec<Vec<f32>> = samples.records().rows().into_iter().map(|row| row.to_vec()).collect();
    assert_eq!(
        rows,
        [
            [1.0, 5.0, 0.0, 1.0, 1.0, 0.0],
            [3.0, 5.0, 1.0, 0.0, 0.0, 1.0],
            [100.0, 6.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, 7.0, 0.0, 1.0, 1.0, 0.0],
        ]
    );
    assert_eq!(samples.labels().to_vec(), [false, true, false, true]);
    assert_eq!((prepared.order, samples.times_us()), (Order::Rows, &[0, 1, 2, 3][..]));
    assert_eq!(prepared.cards, Some(vec![0, 1, 2, 3]));
    assert_eq!(prepared.segments[0].values, ["DE", "(missing)", "XX"]);
    assert_eq!(prepared.segments[0].codes, [0, 1, 2, 0]);
}

#[test]
fn a_stored_rule_reads_a_new_table_as_it_read_the_first() {
    let folder = Folder::new();
    let text = "amount,code,fraud\n1,7,0\n3,8,1\n5,7,0\n2,9,1\n";
    let table = read(&[&folder.file("a.csv", text.as_bytes())]).unwrap();
    let roles = Roles { label: "fraud".into(), ..Roles::default() };
    let encoding = prepare(&table, &roles, 0, 0.5).unwrap().encoding;
    let stored: Encoding = serde_json::from_str(&serde_json::to_string(&encoding).unwrap()).unwrap();
    assert_eq!(stored.hash(), encoding.hash());
    // Another order, more columns, a missing cell.
    let path = folder.file("b.csv", b"code,other,amount\n7,x,1\n,y,3\n");
    let again = Table::read(std::slice::from_ref(&path), &Wanted::These(&stored.wanted())).unwrap();
    let expected = [("amount".to_owned(), vec![1.0, 3.0]), ("code".to_owned(), vec![7.0, 7.0])];
    assert_eq!(stored.encode(&again).unwrap(), expected);
    let path = folder.file("c.csv", b"code,amount\n7,1\nmany,3\n");
    let error = Table::read(&[path], &Wanted::These(&stored.wanted())).unwrap_err().to_string();
    assert!(error.contains("c.csv`, row 2, column `code`: `many`, but must be a number"), "{error}");
    let path = folder.file("d.csv", b"code\n7\n");
    let error = Table::read(&[path], &Wanted::These(&stored.wanted())).unwrap_err().to_string();
    assert!(error.ends_with("d.csv` has no column `amount`, which the model has"), "{error}");
}

#[test]
fn text_of_many_values_is_left_out_and_times_in_numbers_are_read_by_their_size() {
    let folder = Folder::new();
    let rows: String = (0..100)
        .map(|row| format!("{},user{row},{},{}\n", row % 7, 1_767_225_600_000_i64 + row, u8::from(row % 3 == 0)))
        .collect();
    let path = folder.file("a.csv", format!("amount,user,at,fraud\n{rows}").as_bytes());
    let table = read(&[&path]).unwrap();
    let roles = Roles { label: "fraud".into(), time: Some("at".into()), ..Roles::default() };
    let prepared = prepare(&table, &roles, 0, 0.2).unwrap();
    assert_eq!(prepared.left_out, [("user".to_owned(), "text of 100 values, more than 64".to_owned())]);
    assert_eq!(prepared.samples.times_us()[1], 1_767_225_600_001_000);
    let by_user = Roles { segments: vec!["user".into()], ..roles };
    let error = prepare(&table, &by_user, 0, 0.2).unwrap_err().to_string();
    assert!(error.starts_with("the column `user` has 100 different values"), "{error}");
}
