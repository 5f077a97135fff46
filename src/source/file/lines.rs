//! JSON lines, handed on as messages.

use std::io::{self, BufRead, BufReader, Read};

use super::Origin;
use super::bytes::Input;
use crate::domain::{MessageBatch, MessageBatchBuilder};
use crate::source::SourceError;

/// What is kept of a longer line, which cannot be a row anyway.
const LINE_MAX: usize = 16 << 20;
/// A batch ends after so many bytes, however few lines they are.
const BATCH_BYTES: usize = 32 << 20;

pub(super) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: i64,
    origin: Origin,
}

impl Lines {
    pub(super) fn open(input: &Input, origin: Origin) -> Result<Self, SourceError> {
        let reader = BufReader::with_capacity(1 << 18, input.stream()?);
        Ok(Self { reader, line: Vec::new(), number: 0, origin })
    }

    /// Blank lines are no messages.
    pub(super) fn next_batch(&mut self, max_rows: usize) -> Result<Option<MessageBatch>, SourceError> {
        let mut batch = MessageBatchBuilder::with_capacity(max_rows.min(1 << 16), 0);
        while batch.len() < max_rows && batch.bytes() < BATCH_BYTES {
            let more = self.read_line().map_err(|cause| SourceError::File {
                url: self.origin.url.clone(),
                action: "read",
                cause: format!("after line {}: {cause}", self.number),
            })?;
            if !more {
                break;
            }
            let bom: &[u8] = if self.number == 1 { b"\xef\xbb\xbf" } else { b"" };
            let line = self.line.strip_prefix(bom).unwrap_or(&self.line).trim_ascii();
            if !line.is_empty() && self.number >= self.origin.resume_at {
                batch.push(&self.origin.identity, 0, self.number, None, None, Some(line), Vec::new());
            }
        }
        Ok((!batch.is_empty()).then(|| batch.finish()))
    }

    /// Reads a line without its end, at most [`LINE_MAX`] bytes of it; false at the end of the file.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let mut any = false;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                self.number += i64::from(any);
                return Ok(any);
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let room = LINE_MAX - self.line.len();
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            self.line.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                self.number += 1;
                return Ok(true);
            }
        }
    }
}
