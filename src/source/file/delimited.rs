//! CSV to columns, with the raw bytes of every record at hand for the dead letters.

use std::collections::BTreeMap;
use std::io::{self, Read};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use csv::ByteRecord;

use super::bytes::Input;
use super::cells::{Column, Value, map_columns};
use super::{Origin, ParsedRows, ranges_of};
use crate::domain::{DeadLetter, Reason, Stage};
use crate::source::SourceError;

/// A record beyond this is a quote left open rather than data.
const RECORD_MAX: usize = 64 << 20;
const BUFFER: usize = 1 << 18;

pub(super) struct Delimited {
    reader: csv::Reader<Tee>,
    record: ByteRecord,
    origin: Origin,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The cell of each column.
    cells: Vec<Option<usize>>,
    width: usize,
    /// Lines that ended in `\r` alone: the reader counts those that end in `\n`.
    returns: u64,
    /// Whether the last record ended in `\r`, of which a `\n` may be the second half.
    after_return: bool,
}

impl Delimited {
    pub(super) fn open(
        input: &Input,
        origin: Origin,
        schema: &SchemaRef,
        aliases: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, SourceError> {
        let tee = Tee { inner: input.stream()?, kept: Vec::new(), base: 0 };
        let reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(BUFFER).from_reader(tee);
        let mut rows = Self {
            reader,
            record: ByteRecord::new(),
            columns: Column::all(schema)?,
            schema: schema.clone(),
            cells: Vec::new(),
            width: 0,
            returns: 0,
            after_return: false,
            origin,
        };
        rows.read_record()?;
        let names: Vec<String> =
            rows.record.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
        rows.width = names.len();
        rows.cells = map_columns(&rows.origin.url, &names, schema, aliases)?;
        Ok(rows)
    }

    pub(super) fn next_batch(&mut self, max_rows: usize) -> Result<Option<ParsedRows>, SourceError> {
        let (mut lines, mut rejected) = (Vec::with_capacity(max_rows.min(1 << 16)), Vec::new());
        let (mut first, mut last) = (None, 0);
        while lines.len() + rejected.len() < max_rows {
            let Some(line) = self.read_record()? else { break };
            if line < self.origin.resume_at {
                continue;
            }
            first.get_or_insert(line);
            last = line;
            match parse(&self.record, self.width, &self.cells, &mut self.columns) {
                Ok(()) => lines.push(line),
                Err((reason, detail)) => rejected.push(self.dead_letter(line, reason, &detail)),
            }
        }
        let Some(first) = first else { return Ok(None) };
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|cause| self.error(&cause))?;
        let ranges = ranges_of(&self.origin.identity, first, last, lines.len() + rejected.len());
        Ok(Some(ParsedRows { rows, lines, rejected, ranges }))
    }

    /// Reads the next record and returns the line on which it starts; `None` at the end.
    fn read_record(&mut self) -> Result<Option<i64>, SourceError> {
        let (start, line) = (self.reader.position().byte(), self.reader.position().line());
        self.reader.get_mut().forget_before(start);
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if is_too_large(&error) => {
                return Err(SourceError::RecordTooLarge { url: self.origin.url.clone(), line, max_bytes: RECORD_MAX });
            }
            Err(error) => return Err(self.error(&error)),
        }
        // The end of the line before, when it had two characters, and blank lines belong to no record.
        let (mut feeds, mut returns, mut open) = (0, 0, self.after_return);
        let raw = self.raw(start);
        for byte in raw {
            match byte {
                b'\n' => (feeds, open) = (feeds + 1, false),
                b'\r' => (returns, open) = (returns + u64::from(open), true),
                _ => break,
            }
        }
        let after_return = raw.last() == Some(&b'\r');
        self.returns += returns + u64::from(open);
        self.after_return = after_return;
        Ok(Some(i64::try_from(line + feeds + self.returns).unwrap_or(i64::MAX)))
    }

    /// The bytes from `start` up to where the reader is.
    fn raw(&self, start: u64) -> &[u8] {
        self.reader.get_ref().slice(start, self.reader.position().byte())
    }

    fn dead_letter(&self, line: i64, reason: Reason, detail: &str) -> DeadLetter {
        let start = self.record.position().map_or(0, csv::Position::byte);
        let raw = self.raw(start);
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let from = raw.iter().position(|byte| !is_end(byte)).unwrap_or(raw.len());
        let to = raw.iter().rposition(|byte| !is_end(byte)).map_or(from, |last| last + 1);
        DeadLetter {
            topic: self.origin.identity.clone(),
            partition: 0,
            offset: line,
            timestamp_ms: None,
            key: None,
            payload: Some(raw.get(from..to).unwrap_or_default().to_vec()),
            headers: Vec::new(),
            schema_id: None,
            stage: Stage::Parse,
            reason,
            detail: format!("{}, line {line}: {detail}", self.origin.url),
        }
    }

    fn error(&self, cause: &dyn std::fmt::Display) -> SourceError {
        SourceError::File { url: self.origin.url.clone(), action: "read", cause: cause.to_string() }
    }
}

/// Appends the record to all columns, or to none.
fn parse(
    record: &ByteRecord,
    width: usize,
    cells: &[Option<usize>],
    columns: &mut [Column],
) -> Result<(), (Reason, String)> {
    const INLINE: usize = 32;
    if record.len() != width {
        return Err((Reason::ColumnCount, format!("{} columns, the header has {width}", record.len())));
    }
    let whole = str::from_utf8(record.as_slice()).ok();
    let mut inline = [Value::Null; INLINE];
    let mut spilled;
    let values = match inline.get_mut(..columns.len()) {
        Some(values) => values,
        None => {
            spilled = vec![Value::Null; columns.len()];
            spilled.as_mut_slice()
        }
    };
    for ((column, cell), value) in columns.iter().zip(cells).zip(values.iter_mut()) {
        let Some(place) = *cell else { continue };
        // Each cell is checked by itself: together two halves of a character would pass.
        let text = record.range(place).and_then(|range| whole?.get(range)).ok_or_else(|| invalid_utf8(record))?;
        *value = column.parse(text)?;
    }
    for (column, value) in columns.iter_mut().zip(values) {
        column.append(*value);
    }
    Ok(())
}

fn invalid_utf8(record: &ByteRecord) -> (Reason, String) {
    let bad = record.iter().position(|cell| str::from_utf8(cell).is_err()).unwrap_or(0);
    (Reason::InvalidUtf8, format!("column {} is not UTF-8", bad + 1))
}

/// Passes bytes on and keeps those of the record at hand.
struct Tee {
    inner: Box<dyn Read + Send>,
    kept: Vec<u8>,
    /// The place in the file of the first byte kept.
    base: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("a record of more than {RECORD_MAX} bytes")]
struct TooLarge;

impl Tee {
    /// Bytes are moved only now and then, so that each costs next to nothing.
    fn forget_before(&mut self, place: u64) {
        let count = usize::try_from(place.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.kept.len());
        if count >= BUFFER * 2 {
            self.kept.drain(..count);
            self.base += count as u64;
        }
    }

    fn slice(&self, from: u64, to: u64) -> &[u8] {
        let place = |at: u64| usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.kept.get(place(from)..place(to)).unwrap_or_default()
    }
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.kept.len() > RECORD_MAX + BUFFER * 4 {
            return Err(io::Error::other(TooLarge));
        }
        let count = self.inner.read(buffer)?;
        self.kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

fn is_too_large(error: &csv::Error) -> bool {
    match error.kind() {
        csv::ErrorKind::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()),
        _ => false,
    }
}
