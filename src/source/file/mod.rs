//! CSV, JSON lines and Parquet, from this machine or an object store, in constant memory.
//!
//! A file is a partition of its own: topic = its identity (name and content hash), partition 0, offset = line or row number,
//! counted from 1. So a file that is loaded twice reads nothing the second time, and an interrupted load goes on where it was.

mod bytes;
mod cells;
mod columnar;
mod delimited;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use self::bytes::Input;
use self::columnar::Columnar;
use self::delimited::Delimited;
use self::lines::Lines;
use super::SourceError;
use crate::domain::{DeadLetter, MessageBatch, OffsetRange, Partition, Ranges};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated, with a header line.
    Csv,
    /// One JSON object a line.
    JsonLines,
    Parquet,
}

/// How to read files.
#[derive(Debug, Clone, Default)]
pub struct FileOptions {
    /// Instead of what the name says.
    pub format: Option<FileFormat>,
    /// Other names of a field of the contract, as its Avro aliases have them.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Options of the object store: keys, region, endpoint.
    pub store: BTreeMap<String, String>,
}

/// A bounded run of a file.
#[derive(Debug)]
pub enum FileBatch {
    /// JSON lines, not looked into: they take the way of JSON messages, with the file as the topic and the line as the offset.
    Messages(MessageBatch),
    Rows(ParsedRows),
}

impl FileBatch {
    /// What this batch covers of the file.
    #[must_use]
    pub fn ranges(&self) -> Ranges {
        match self {
            Self::Messages(messages) => messages.ranges(),
            Self::Rows(rows) => rows.ranges.clone(),
        }
    }
}

/// Rows of a file in the contract's columns, and those that cannot be rows.
#[derive(Debug)]
pub struct ParsedRows {
    /// The columns of the contract, in its order and with its types.
    pub rows: RecordBatch,
    /// The line (Parquet: the row) of each row, counted from 1.
    pub lines: Vec<i64>,
    pub rejected: Vec<DeadLetter>,
    pub ranges: Ranges,
}

/// How far a file has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of the file as it is stored, compressed or not.
    pub bytes_read: u64,
    pub bytes_total: u64,
}

/// Reads one file from front to back.
pub struct FileReader {
    input: Arc<Input>,
    identity: Arc<str>,
    format: FileFormat,
    rows: Rows,
}

enum Rows {
    Delimited(Box<Delimited>),
    Lines(Box<Lines>),
    Columnar(Box<Columnar>),
}

/// What the formats need to know of the file.
#[derive(Clone)]
struct Origin {
    url: String,
    identity: Arc<str>,
    /// The first line that is wanted.
    resume_at: i64,
}

/// A file whose identity is known, not opened for its rows yet.
pub struct IdentifiedFile {
    input: Arc<Input>,
    identity: Arc<str>,
    format: FileFormat,
}

impl IdentifiedFile {
    /// Finds `url` (a path, or a URL of an object store) and reads it once for its identity.
    ///
    /// # Errors
    /// [`SourceError::File`] when it cannot be read, [`SourceError::UnknownFormat`] when its name tells no format.
    pub fn find(url: &str, options: &FileOptions) -> Result<Self, SourceError> {
        let unknown = || SourceError::UnknownFormat { url: url.to_owned() };
        let format = options.format.or_else(|| FileFormat::of_name(url)).ok_or_else(unknown)?;
        let input = Input::find(url, &options.store)?;
        let identity = input.identity()?.into();
        Ok(Self { input: Arc::new(input), identity, format })
    }

    /// `file:<name>#<16 hexadecimal digits of a hash of the content>`.
    #[must_use]
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// Bytes of the file as it is stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.input.progress().bytes_total
    }

    /// Where the lake keeps the file's position.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition::new(self.identity.clone(), 0)
    }

    /// Whether its header or its schema gives what the contract needs; its rows are not read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check(&self, contract: &SchemaRef, options: &FileOptions) -> Result<(), SourceError> {
        let input = Arc::new(Input::find(self.input.url(), &options.store)?);
        Self { input, identity: Arc::clone(&self.identity), format: self.format }.read(contract, options, 0).map(drop)
    }

    /// Reads from the line `resume_at` on (the position that the lake has; 0 for a new file).
    ///
    /// # Errors
    /// When the header or the schema does not give what the contract needs.
    pub fn read(self, contract: &SchemaRef, options: &FileOptions, resume_at: i64) -> Result<FileReader, SourceError> {
        let Self { input, identity, format } = self;
        let origin = Origin { url: input.url().to_owned(), identity: identity.clone(), resume_at };
        let rows = match format {
            FileFormat::Csv => Rows::Delimited(Box::new(Delimited::open(&input, origin, contract, &options.aliases)?)),
            FileFormat::JsonLines => Rows::Lines(Box::new(Lines::open(&input, origin)?)),
            FileFormat::Parquet => {
                Rows::Columnar(Box::new(Columnar::open(&input, origin, contract, &options.aliases)?))
            }
        };
        Ok(FileReader { input, identity, format, rows })
    }
}

impl FileReader {
    /// [`IdentifiedFile::find`] and [`IdentifiedFile::read`] in one, where the position is known without the identity.
    ///
    /// # Errors
    /// As those two.
    pub fn open(url: &str, contract: &SchemaRef, options: &FileOptions, resume_at: i64) -> Result<Self, SourceError> {
        IdentifiedFile::find(url, options)?.read(contract, options, resume_at)
    }

    #[must_use]
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    #[must_use]
    pub const fn format(&self) -> FileFormat {
        self.format
    }

    /// The next rows, at most `max_rows` with the rejected ones; `None` at the end.
    ///
    /// # Errors
    /// [`SourceError::File`] when the file cannot be read on, [`SourceError::RecordTooLarge`] for a record without an end.
    pub fn next_batch(&mut self, max_rows: usize) -> Result<Option<FileBatch>, SourceError> {
        let max_rows = max_rows.max(1);
        match &mut self.rows {
            Rows::Delimited(rows) => Ok(rows.next_batch(max_rows)?.map(FileBatch::Rows)),
            Rows::Lines(rows) => Ok(rows.next_batch(max_rows)?.map(FileBatch::Messages)),
            Rows::Columnar(rows) => Ok(rows.next_batch(max_rows)?.map(FileBatch::Rows)),
        }
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        self.input.progress()
    }
}

impl FileFormat {
    /// By the end of the name; a plain `.gz` is CSV.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz");
        let ends = |end: &str| plain.unwrap_or(&name).ends_with(end);
        if ends(".jsonl") || ends(".ndjson") {
            Some(Self::JsonLines)
        } else if name.ends_with(".parquet") {
            Some(Self::Parquet)
        } else {
            (ends(".csv") || plain.is_some()).then_some(Self::Csv)
        }
    }
}

/// The lines from the first to the last one seen.
fn ranges_of(identity: &Arc<str>, first: i64, last: i64, messages: usize) -> Ranges {
    let range = OffsetRange { first, next: last + 1, messages: messages as u64 };
    Ranges::from([(Partition::new(identity.clone(), 0), range)])
}
