use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Schema, TimeUnit, TimestampMicrosecondType};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::*;
use crate::domain::Reason;

fn contract() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("user_id", DataType::Int32, false),
        Field::new("amount", DataType::Float64, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path: PathBuf = self.0.path().join(name);
        if name.ends_with(".gz") {
            let mut encoder = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap();
        } else {
            fs::write(&path, content).unwrap();
        }
        path.to_str().unwrap().to_owned()
    }
}

fn open(url: &str, resume_at: i64) -> Result<FileReader, SourceError> {
    FileReader::open(url, &contract(), &FileOptions::default(), resume_at)
}

/// All rows as text with their lines, and all rejects as (line, reason, payload).
type Loaded = (Vec<(i64, String)>, Vec<(i64, Reason, String)>);

fn load(reader: &mut FileReader, max_rows: usize) -> Loaded {
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    let mut next = 0;
    while let Some(batch) = reader.next_batch(max_rows).unwrap() {
        let FileBatch::Rows(parsed) = batch else { panic!("messages") };
        assert_eq!(parsed.rows.num_rows(), parsed.lines.len());
        let range = parsed.ranges[&Partition::new(reader.identity().clone(), 0)];
        assert_eq!(range.messages as usize, parsed.lines.len() + parsed.rejected.len());
        assert!(range.messages as usize <= max_rows && range.first >= next);
        next = range.next;
        for (row, line) in parsed.lines.iter().enumerate() {
            let cells = parsed.rows.columns().iter().map(|column| {
                if column.is_null(row) {
                    "null".to_owned()
                } else {
                    arrow::util::display::array_value_to_string(column, row).unwrap()
                }
            });
            rows.push((*line, cells.collect::<Vec<_>>().join("|")));
        }
        for letter in parsed.rejected {
            assert_eq!((&letter.topic, letter.partition), (reader.identity(), 0));
            let number = letter.offset.to_string();
            assert!(letter.detail.contains(&format!(" {number}:")), "{}", letter.detail);
            rejected.push((
                letter.offset,
                letter.reason,
                String::from_utf8_lossy(&letter.payload.unwrap()).into_owned(),
            ));
        }
    }
    (rows, rejected)
}

const DIRTY: &[u8] = b"\xef\xbb\xbfID, user_id ,extra,AMOUNT,note\r\n\
a,1,x,2.5,plain\r\n\
\"b\"\"q\",2,x,,\"two\nlines, and a comma\"\r\n\
\r\n\
c,3.0,x,NaN,\r\n\
d,,x,1,no user\r\n\
e,abc,x,1,bad user\r\n\
f,5,x,1\r\n\
g,6,x,1,caf\xe9\r\n\
h,99999999999,x,1,too large\r\n\
,7,x,-0.5,\"caf\xc3\xa9\"";

fn expected() -> Loaded {
    // The second record takes lines 3 and 4, line 5 is blank.
    let rows =
        [(2, "a|1|2.5|plain"), (3, "b\"q|2|null|two\nlines, and a comma"), (6, "c|3|NaN|null"), (12, "|7|-0.5|café")];
    let rejected = [
        (7, Reason::MissingField, "d,,x,1,no user"),
        (8, Reason::WrongType, "e,abc,x,1,bad user"),
        (9, Reason::ColumnCount, "f,5,x,1"),
        (10, Reason::InvalidUtf8, "g,6,x,1,caf\u{fffd}"),
        (11, Reason::WrongType, "h,99999999999,x,1,too large"),
    ];
    let rows = rows.map(|(line, text)| (line, text.to_owned())).to_vec();
    (rows, rejected.map(|(line, reason, text)| (line, reason, text.to_owned())).to_vec())
}

#[test]
fn csv_rows_and_dead_letters_have_their_lines() {
    let folder = Folder::new();
    for name in ["t.csv", "t.csv.gz", "t.gz"] {
        let url = folder.file(name, DIRTY);
        for max_rows in [1, 2, 1_000] {
            let mut reader = open(&url, 0).unwrap();
            assert_eq!(load(&mut reader, max_rows), expected(), "{name} by {max_rows}");
            let progress = reader.progress();
            assert_eq!(progress.bytes_read, progress.bytes_total);
            assert_eq!(progress.bytes_total, fs::metadata(&url).unwrap().len());
        }
    }
}

#[test]
fn a_load_goes_on_at_any_line_where_it_was_killed() {
    let folder = Folder::new();
    let url = folder.file("t.csv", DIRTY);
    let (rows, rejected) = expected();
    for resume_at in 0..=13 {
        let later = load(&mut open(&url, resume_at).unwrap(), 3);
        let rows: Vec<_> = rows.iter().filter(|(line, _)| *line >= resume_at).cloned().collect();
        let rejected: Vec<_> = rejected.iter().filter(|(line, ..)| *line >= resume_at).cloned().collect();
        assert_eq!(later, (rows, rejected), "from {resume_at}");
    }
}

/// The line is the position: two records on one would be one position, and a load that goes on would lose the second.
#[test]
fn a_carriage_return_alone_ends_a_line_too() {
    let folder = Folder::new();
    let url = folder.file("t.csv", b"id,user_id\ra,1\rb,2\n\rc,3\r\n\rd,x\r\r\ne,5\r\n");
    let (rows, rejected) = load(&mut open(&url, 0).unwrap(), 100);
    let line = |line, id: &str, user: i32| (line, format!("{id}|{user}|null|null"));
    assert_eq!(rows, [line(2, "a", 1), line(3, "b", 2), line(5, "c", 3), line(9, "e", 5)]);
    assert_eq!(rejected, [(7, Reason::WrongType, "d,x".to_owned())]);
    assert_eq!(load(&mut open(&url, 3).unwrap(), 1).0, rows[1..]);
}

#[test]
fn the_identity_follows_the_content() {
    let folder = Folder::new();
    let identity = |url: &str| IdentifiedFile::find(url, &FileOptions::default()).unwrap().identity().to_string();
    let first = identity(&folder.file("t.csv", b"id,user_id\na,1\n"));
    assert!(first.starts_with("file:t.csv#") && first.len() == "file:t.csv#".len() + 16, "{first}");
    assert_eq!(first, identity(&folder.file("t.csv", b"id,user_id\na,1\n")));
    assert_ne!(first, identity(&folder.file("t.csv", b"id,user_id\na,2\n")));
    let url = url::Url::from_file_path(folder.0.path().join("t.csv")).unwrap();
    assert!(identity(url.as_str()).starts_with("file:t.csv#"));
}

#[test]
fn headers_that_do_not_fit_are_refused_with_the_column() {
    let folder = Folder::new();
    let error = |content: &[u8]| open(&folder.file("t.csv", content), 0).err().unwrap().to_string();
    let missing = error(b"id,amount\n");
    assert!(missing.contains("`user_id`") && missing.contains("id, amount"), "{missing}");
    assert!(error(b"id,user_id,USER_ID\n").contains("twice"));
    assert!(error(b"").contains("`id`"));
    assert!(open("/no/such/file.csv", 0).is_err());
    assert!(matches!(open("t.xlsx", 0), Err(SourceError::UnknownFormat { .. })));

    let options = FileOptions {
        aliases: BTreeMap::from([("user_id".to_owned(), vec!["customer".to_owned()])]),
        ..FileOptions::default()
    };
    let url = folder.file("t.csv", b"Customer,ID\n4,a\n");
    let mut reader = FileReader::open(&url, &contract(), &options, 0).unwrap();
    assert_eq!(load(&mut reader, 10).0, [(2, "a|4|null|null".to_owned())]);
}

#[test]
fn an_open_quote_does_not_take_the_memory_of_the_machine() {
    let folder = Folder::new();
    let mut content = b"id,user_id\na,1\n\"b,2\n".to_vec();
    content.resize(70 << 20, b'x');
    let mut reader = open(&folder.file("t.csv", &content), 0).unwrap();
    let error = (0..2).find_map(|_| reader.next_batch(1).err()).unwrap();
    assert!(matches!(error, SourceError::RecordTooLarge { line: 3, .. }), "{error}");
}

#[test]
fn typed_cells() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("flag", DataType::Boolean, true),
        Field::new("long", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("day", DataType::Date32, true),
        Field::new("price", DataType::Decimal128(18, 2), true),
    ]));
    let folder = Folder::new();
    let url = folder.file(
        "t.csv",
        b"flag,long,at,day,price\nTRUE,-9000000000,2026-01-05T08:00:00.5+02:00,2026-01-05,12.34\n0, 7 ,2026-01-05 08:00:00,,\nmaybe,1,,,\n",
    );
    let mut reader = FileReader::open(&url, &schema, &FileOptions::default(), 0).unwrap();
    let Some(FileBatch::Rows(parsed)) = reader.next_batch(10).unwrap() else { panic!() };
    assert_eq!(parsed.rows.column(0).as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(false)]);
    assert_eq!(parsed.rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[-9_000_000_000, 7]);
    let at = parsed.rows.column(2).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.values(), &[1_767_592_800_500_000, 1_767_600_000_000_000]);
    assert_eq!(parsed.rows.column(3).as_primitive::<arrow::datatypes::Date32Type>().value(0), 20_458);
    assert_eq!(parsed.rows.column(4).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 1_234);
    assert_eq!(parsed.rejected.len(), 1);
    assert!(parsed.rejected[0].detail.ends_with("line 4: column `flag`: `maybe` is not a boolean"));
}

#[test]
fn json_lines_are_messages_with_line_numbers() {
    let folder = Folder::new();
    let content = b"\xef\xbb\xbf{\"id\":1}\r\n\n  \n{\"id\":2}\nnot json\n{\"id\":3}";
    for name in ["t.jsonl", "t.ndjson.gz"] {
        let url = folder.file(name, content);
        for (resume_at, from) in [(0, 0), (2, 1), (5, 2), (7, 4)] {
            let mut reader = open(&url, resume_at).unwrap();
            let mut seen = Vec::new();
            while let Some(batch) = reader.next_batch(2).unwrap() {
                let FileBatch::Messages(messages) = &batch else { panic!("rows") };
                assert!(batch.ranges().keys().all(|partition| partition.topic == *reader.identity()));
                seen.extend(messages.iter().map(|message| (message.offset, message.payload.unwrap().to_vec())));
            }
            let all = [(1, "{\"id\":1}"), (4, "{\"id\":2}"), (5, "not json"), (6, "{\"id\":3}")];
            let expected: Vec<_> = all[from..].iter().map(|(line, text)| (*line, text.as_bytes().to_vec())).collect();
            assert_eq!(seen, expected, "{name} from {resume_at}");
        }
    }
}

fn parquet(folder: &Folder) -> String {
    let schema = Arc::new(Schema::new(vec![
        Field::new("Amount", DataType::Utf8, true),
        Field::new("other", DataType::Utf8, true),
        Field::new("user_id", DataType::Int64, true),
        Field::new("id", DataType::Utf8, true),
    ]));
    let rows = 20_000;
    let amounts: StringArray =
        (0..rows).map(|row| Some(if row == 9 { "much".to_owned() } else { format!("{row}.5") })).collect();
    let users: Int64Array =
        (0..rows).map(|row| if row == 3 { None } else { Some(if row == 4 { 1 << 40 } else { row }) }).collect();
    let ids: StringArray = (0..rows).map(|row| Some(format!("r{row}"))).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(amounts), Arc::new(StringArray::new_null(rows as usize)), Arc::new(users), Arc::new(ids)];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let path = folder.0.path().join("t.parquet");
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn parquet_is_cast_to_the_contract() {
    let folder = Folder::new();
    let url = parquet(&folder);
    let (rows, rejected) = load(&mut open(&url, 0).unwrap(), 7_000);
    assert_eq!(rows.len(), 19_997);
    assert_eq!(rows[0], (1, "r0|0|0.5|null".to_owned()));
    assert_eq!(rows[19_996], (20_000, "r19999|19999|19999.5|null".to_owned()));
    let reasons: Vec<_> = rejected.iter().map(|(row, reason, _)| (*row, *reason)).collect();
    assert_eq!(reasons, [(4, Reason::MissingField), (5, Reason::WrongType), (10, Reason::WrongType)]);
    assert_eq!(rejected[2].2, r#"{"Amount":"much","user_id":9,"id":"r9"}"#);

    let (later, rejected) = load(&mut open(&url, 9_001).unwrap(), 100_000);
    assert!(rejected.is_empty());
    assert_eq!((later.len(), later[0].0), (11_000, 9_001));
    assert!(load(&mut open(&url, 20_001).unwrap(), 10).0.is_empty());
}

#[test]
fn a_damaged_parquet_file_is_refused_and_ends_nothing() {
    let folder = Folder::new();
    let good = fs::read(parquet(&folder)).unwrap();
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = good.clone();
        change(&mut content);
        let read = open(&folder.file(name, &content), 0).and_then(|mut reader| {
            while reader.next_batch(7_000)?.is_some() {}
            Ok(())
        });
        let error = read.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("read as Parquet"), "{error}");
    };
    // The schema that Arrow adds, of which its reader believes every byte.
    let schema = good.windows(5).position(|bytes| bytes == b"/////").unwrap();
    damaged("schema.parquet", &|content| content[schema + 8..schema + 40].fill(b'/'));
    // Metadata that reach to before the file begins.
    damaged("long.parquet", &|content| {
        let length = content.len() - 8;
        content[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    });
    damaged("cut.parquet", &|content| drop(content.drain(4..2_000)));
}

#[test]
fn an_object_store_gives_the_same_rows() {
    let folder = Folder::new();
    let local = parquet(&folder);
    let content: Vec<u8> = std::iter::once("id,user_id\n".to_owned())
        .chain((0..900_000).map(|row| format!("row-{row},{row}\n")))
        .collect::<String>()
        .into_bytes();
    let csv = folder.file("large.csv", &content);
    assert!(content.len() > 12 << 20, "several pieces: {}", content.len());
    for url in [local, csv] {
        let (mut here, mut there) = (open(&url, 0).unwrap(), open_remotely(&url));
        assert_eq!(here.identity(), there.identity());
        let count = |reader: &mut FileReader| {
            let (mut rows, mut sum) = (0, 0_i64);
            while let Some(batch) = reader.next_batch(50_000).unwrap() {
                let FileBatch::Rows(parsed) = batch else { panic!("messages") };
                rows += parsed.rows.num_rows() + parsed.rejected.len();
                let users: &Int32Array = parsed.rows.column(1).as_primitive::<Int32Type>();
                let _: &Float64Array = parsed.rows.column(2).as_primitive::<Float64Type>();
                sum += users.values().iter().map(|user| i64::from(*user)).sum::<i64>();
            }
            (rows, sum)
        };
        assert_eq!(count(&mut here), count(&mut there));
        assert_eq!(here.progress().bytes_total, there.progress().bytes_total);
    }
}

/// Through the object store's client, which a path of this machine does not use otherwise.
fn open_remotely(path: &str) -> FileReader {
    let url = url::Url::from_file_path(path).unwrap();
    let options = FileOptions::default();
    let input = Input::through_store(&url).unwrap();
    let identity = input.identity().unwrap().into();
    let format = FileFormat::of_name(path).unwrap();
    IdentifiedFile { input: Arc::new(input), identity, format }.read(&contract(), &options, 0).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_cells_survive_csv(rows in prop::collection::vec((".{0,12}", any::<i32>(), prop::option::of(any::<f64>()), "[a-z\r\n\",é]{1,9}"), 1..20)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["id", "user_id", "amount", "note"]).unwrap();
        for (id, user, amount, note) in &rows {
            let amount = amount.map(|amount| amount.to_string()).unwrap_or_default();
            writer.write_record([id.as_str(), &user.to_string(), &amount, note]).unwrap();
        }
        let folder = Folder::new();
        let url = folder.file("t.csv", &writer.into_inner().unwrap());
        let mut reader = open(&url, 0).unwrap();
        let Some(FileBatch::Rows(parsed)) = reader.next_batch(100).unwrap() else { panic!("no rows") };
        prop_assert!(parsed.rejected.is_empty());
        prop_assert_eq!(parsed.rows.num_rows(), rows.len());
        prop_assert!(parsed.lines.is_sorted_by(|one, next| one < next));
        for (index, (id, user, amount, note)) in rows.iter().enumerate() {
            prop_assert_eq!(parsed.rows.column(0).as_string::<i32>().value(index), id);
            prop_assert_eq!(parsed.rows.column(1).as_primitive::<Int32Type>().value(index), *user);
            let amounts = parsed.rows.column(2).as_primitive::<Float64Type>();
            prop_assert_eq!(amounts.is_valid(index), amount.is_some());
            if let Some(amount) = amount {
                prop_assert!(amounts.value(index) == *amount || amount.is_nan());
            }
            prop_assert_eq!(parsed.rows.column(3).as_string::<i32>().value(index), note);
        }
    }
}
