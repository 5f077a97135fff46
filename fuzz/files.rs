//! Any bytes as a file: CSV, the same compressed, JSON lines, Parquet. The first byte says which, the second how to read.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Once};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use assay::domain::{DeadLetter, schema};
use assay::source::{FileBatch, FileFormat, FileOptions, FileReader, SourceError};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

pub fn check(data: &[u8]) {
    // libFuzzer's hook ends the process also at a panic that is caught, as those of the Parquet reader are.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| drop(std::panic::take_hook()));
    let [kind, how, content @ ..] = data else { return };
    let few = usize::from(how % 8) + 1;
    match KINDS[usize::from(*kind) % KINDS.len()] {
        Kind::Csv => drop(check_rows("f.csv", content, few)),
        Kind::Beneath => {
            let content = [HEADER.as_bytes(), GOOD.as_bytes(), content].concat();
            let read = check_rows("f.csv", &content, few).expect("a good header");
            assert_eq!(read.rows.first(), Some(good_row()), "a good record above a bad one");
        }
        Kind::Compressed => drop(check_rows("f.csv.gz", content, few)),
        Kind::Lines => check_lines(content, few),
        Kind::Parquet => drop(check_rows("f.parquet", content, few)),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let number = |wanted: Kind| KINDS.iter().position(|kind| *kind == wanted).expect("all kinds") as u8;
    let with = |kind: Kind, content: &[u8]| [&[number(kind), 1], content].concat();
    let second = "\"a \"\"b\"\"\r\nc\",2,,1e3,0.1,0,2026-01-05T08:00:00+01:00,2026-01-05,-1.5\r\n";
    let csv = format!("{HEADER}{GOOD}{second}\n short,1\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, csv.as_bytes()).expect("memory");
    vec![
        with(Kind::Csv, csv.as_bytes()),
        with(Kind::Csv, b"id,n\nx,1\ny,2\rz,3\n"),
        with(Kind::Beneath, second.as_bytes()),
        with(Kind::Compressed, &gzip.finish().expect("memory")),
        with(Kind::Lines, b"\xef\xbb\xbf{\"a\":1}\r\n\n  {}  \nx"),
        with(Kind::Parquet, &parquet()),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Csv,
    /// CSV under a good header and a good record.
    Beneath,
    Compressed,
    Lines,
    Parquet,
}

const KINDS: [Kind; 5] = [Kind::Csv, Kind::Beneath, Kind::Compressed, Kind::Lines, Kind::Parquet];
const HEADER: &str = "id,n,long,double,float,flag,at,on,amount\n";
const GOOD: &str = "good,1,2,3.5,4.5,true,2026-01-05T08:00:00Z,2026-01-05,6.78\n";
const MANY: usize = 10_000;

fn contract() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("n", DataType::Int32, false),
        Field::new("long", DataType::Int64, true),
        Field::new("double", DataType::Float64, true),
        Field::new("float", DataType::Float32, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("at", schema::timestamp(), true),
        Field::new("on", DataType::Date32, true),
        Field::new("amount", DataType::Decimal128(18, 2), true),
    ]))
}

/// What a file holds, up to its first fault.
#[derive(Debug, Default)]
struct Read {
    rows: Vec<(i64, RecordBatch)>,
    rejected: Vec<DeadLetter>,
    fault: Option<SourceError>,
}

fn good_row() -> &'static (i64, RecordBatch) {
    static ROW: LazyLock<(i64, RecordBatch)> =
        LazyLock::new(|| read("f.csv", format!("{HEADER}{GOOD}").as_bytes(), MANY, 0).unwrap().rows.remove(0));
    &ROW
}

/// `None` when the file is refused as a whole.
fn check_rows(name: &str, content: &[u8], few: usize) -> Option<Read> {
    let all = read(name, content, MANY, 0).ok()?;
    let mut lines =
        all.rows.iter().map(|row| row.0).chain(all.rejected.iter().map(|letter| letter.offset)).collect::<Vec<_>>();
    lines.sort_unstable();
    assert!(lines.iter().all(|line| *line > 0), "lines are counted from 1");
    assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "two records of one line are one position: {lines:?}");
    let by_few = read(name, content, few, 0).unwrap();
    if all.fault.is_some() {
        assert!(by_few.fault.is_some());
        return Some(all);
    }
    assert_eq!((&by_few.rows, &by_few.rejected), (&all.rows, &all.rejected), "by {few}");
    if let Some(from) = lines.get(lines.len() / 2) {
        let resumed = read(name, content, few, *from).unwrap();
        assert!(resumed.rows.iter().eq(all.rows.iter().filter(|row| row.0 >= *from)), "from line {from}");
        assert!(resumed.rejected.iter().eq(all.rejected.iter().filter(|letter| letter.offset >= *from)));
    }
    Some(all)
}

/// Every line that is not blank is one message.
fn check_lines(content: &[u8], few: usize) {
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let lines = (1..).zip(text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii));
    let expected = lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| (number, line.to_vec()));
    let expected = expected.collect::<Vec<(i64, Vec<u8>)>>();
    let mut reader = open("f.jsonl", content, 0).expect("any file has lines");
    let mut found = Vec::new();
    while let Some(FileBatch::Messages(batch)) = reader.next_batch(few).expect("it can be read") {
        assert!((1..=few).contains(&batch.len()));
        found.extend(batch.iter().map(|message| (message.offset, message.payload.unwrap_or_default().to_vec())));
    }
    assert_eq!(found, expected);
}

fn read(name: &str, content: &[u8], max_rows: usize, resume_at: i64) -> Result<Read, SourceError> {
    let mut reader = open(name, content, resume_at)?;
    let mut read = Read::default();
    loop {
        let parsed = match reader.next_batch(max_rows) {
            Ok(Some(FileBatch::Rows(parsed))) => parsed,
            Ok(Some(FileBatch::Messages(_))) => panic!("rows were asked for"),
            Ok(None) => return Ok(read),
            Err(fault) => {
                read.fault = Some(fault);
                return Ok(read);
            }
        };
        let count = parsed.lines.len() + parsed.rejected.len();
        assert!((1..=max_rows).contains(&count));
        assert_eq!(parsed.rows.num_rows(), parsed.lines.len());
        assert_eq!(parsed.ranges.values().map(|range| range.messages).sum::<u64>(), count as u64);
        read.rows.extend((0..).zip(parsed.lines).map(|(row, line)| (line, parsed.rows.slice(row, 1))));
        read.rejected.extend(parsed.rejected);
    }
}

fn open(name: &str, content: &[u8], resume_at: i64) -> Result<FileReader, SourceError> {
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    let path: PathBuf = FOLDER.with(|folder| folder.path().join(name));
    std::fs::write(&path, content).expect("a temporary file");
    let url = path.to_str().expect("a plain path");
    let format = FileFormat::of_name(name);
    FileReader::open(url, &contract(), &FileOptions { format, ..FileOptions::default() }, resume_at)
}

fn parquet() -> Vec<u8> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
        ("n", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("memory");
    writer.write(&batch).expect("memory");
    writer.close().expect("memory");
    file
}
