use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::avro::{Fault, Utf8Check, read_record};
use super::columns::Columns;
use super::definition::Contract;
use super::json::JsonReader;
use super::lookup::{Lookup, SchemaLookup};
use super::registry::RegistryError;
use super::resolve::{Plan, resolve};
use super::schema::Schema;
use crate::domain::{MessageBatch, Reason, Stage};

/// How the payload of a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Avro's binary encoding in Confluent's wire format: a byte 0, the schema id in four bytes, the record.
    #[default]
    Avro,
    /// One JSON object.
    Json,
}

/// A batch of messages as rows, and what could not become one: `rows.num_rows() + rejected.len()` messages in all.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The columns of [`Contract::arrow_schema`], in the order of the messages.
    pub rows: RecordBatch,
    /// The place in the batch of each row's message, ascending.
    pub message_of_row: Vec<u32>,
    /// The writer's schema of each row; `None` in JSON.
    pub schema_ids: Vec<Option<i32>>,
    /// Whether a row's writer knows a column of [`Contract::evolved_columns`].
    pub newest_version_rows: bool,
    /// In the order of the messages.
    pub rejected: Vec<Rejected>,
}

/// A message that cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the batch.
    pub message: u32,
    pub schema_id: Option<i32>,
    pub stage: Stage,
    pub reason: Reason,
    /// For people: what was found, and where in the payload.
    pub detail: String,
}

/// Turns batches of messages into rows of a contract. A bad message never costs its neighbours.
pub struct Decoder {
    contract: Arc<Contract>,
    format: Format,
    lookup: Box<dyn SchemaLookup + Send>,
    writers: HashMap<i32, Writer>,
    json: JsonReader,
    /// The average length of the last batch's strings, for the buffers of the next.
    row_bytes: Vec<usize>,
}

/// What is known of a schema id.
enum Writer {
    Readable(Plan),
    Incompatible(String),
}

const FRAME_BYTES: usize = 5;
/// Buffers for strings are reserved up to this size; larger ones grow.
const RESERVED_BYTES_MAX: usize = 64 << 20;

impl Decoder {
    #[must_use]
    pub fn new(contract: Arc<Contract>, format: Format, lookup: Box<dyn SchemaLookup + Send>) -> Self {
        let json = JsonReader::new(contract.fields());
        Self { contract, format, lookup, writers: HashMap::new(), json, row_bytes: Vec::new() }
    }

    /// Decodes a batch. May block while a schema id is looked up for the first time.
    ///
    /// A batch is taken to hold less than 2 GiB of each field; a message beyond that is rejected, not lost.
    ///
    /// # Errors
    /// When the schema lookup fails. Nothing has happened then: the same batch can be offered again.
    pub fn decode(&mut self, batch: &MessageBatch) -> Result<Decoded, RegistryError> {
        match self.format {
            Format::Avro => self.decode_avro(batch),
            Format::Json => Ok(self.decode_json(batch)),
        }
    }

    fn decode_avro(&mut self, batch: &MessageBatch) -> Result<Decoded, RegistryError> {
        let unknown = self.learn(batch)?;
        let rows = self.avro_rows(batch, &unknown, Utf8Check::Later);
        let row_bytes = rows.columns.row_bytes();
        let decoded = rows.finish(&self.contract).or_else(|_| {
            // A string that is not UTF-8 somewhere: find it, so that only its message is refused.
            self.avro_rows(batch, &unknown, Utf8Check::Each).finish(&self.contract)
        });
        self.row_bytes = row_bytes;
        #[expect(clippy::expect_used, reason = "every string has been checked")]
        Ok(decoded.expect("every string has been checked"))
    }

    /// Looks up the schema ids of a batch that are new; returns those that nobody knows.
    fn learn(&mut self, batch: &MessageBatch) -> Result<HashSet<i32>, RegistryError> {
        let mut unknown = HashSet::new();
        let mut last = None;
        for message in batch.iter() {
            let Ok((id, _)) = frame(message.payload) else { continue };
            if last.replace(id) == Some(id) || self.writers.contains_key(&id) || unknown.contains(&id) {
                continue;
            }
            match self.lookup.schema(id)? {
                Lookup::Found(json) => {
                    self.writers.insert(id, Writer::new(&json, &self.contract));
                }
                Lookup::Unknown => {
                    unknown.insert(id);
                }
            }
        }
        Ok(unknown)
    }

    fn avro_rows(&self, batch: &MessageBatch, unknown: &HashSet<i32>, check: Utf8Check) -> Rows {
        let mut rows = Rows::new(&self.contract, batch, &self.row_bytes);
        let mut last: Option<(i32, &Writer)> = None;
        for (at, message) in (0..).zip(batch.iter()) {
            let (id, payload) = match frame(message.payload) {
                Ok(frame) => frame,
                Err(fault) => {
                    rows.reject(at, None, Stage::Frame, fault);
                    continue;
                }
            };
            let writer = match last {
                Some((known, writer)) if known == id => Some(writer),
                _ => self.writers.get(&id),
            };
            match writer {
                Some(writer @ Writer::Readable(plan)) => {
                    last = Some((id, writer));
                    match read_record(plan, payload, FRAME_BYTES, check, &mut rows.columns) {
                        Ok(()) => rows.accept(at, Some(id), plan.evolved),
                        Err(fault) => {
                            // The first fault counts, also when it is a string that a batch of good ones checks late.
                            let first = read_record(plan, payload, FRAME_BYTES, Utf8Check::Each, &mut rows.columns);
                            let fault = first.err().unwrap_or(fault);
                            rows.reject(at, Some(id), stage_of(fault.reason), *fault);
                        }
                    }
                }
                Some(Writer::Incompatible(what)) => {
                    let fault = Fault { reason: Reason::IncompatibleSchema, detail: what.clone() };
                    rows.reject(at, Some(id), Stage::Frame, fault);
                }
                None => {
                    debug_assert!(unknown.contains(&id));
                    let detail = format!("no schema has the id {id}");
                    rows.reject(at, Some(id), Stage::Frame, Fault { reason: Reason::UnknownSchemaId, detail });
                }
            }
        }
        rows
    }

    fn decode_json(&mut self, batch: &MessageBatch) -> Decoded {
        let mut rows = Rows::new(&self.contract, batch, &self.row_bytes);
        for (at, message) in (0..).zip(batch.iter()) {
            let Some(payload) = message.payload else {
                rows.reject(at, None, Stage::Frame, null_payload());
                continue;
            };
            match self.json.read(payload, &mut rows.columns) {
                Ok(evolved) => rows.accept(at, None, evolved),
                Err(fault) => rows.reject(at, None, Stage::Decode, *fault),
            }
        }
        self.row_bytes = rows.columns.row_bytes();
        #[expect(clippy::expect_used, reason = "the whole text has been checked")]
        rows.finish(&self.contract).expect("the whole text has been checked")
    }
}

impl Writer {
    fn new(json: &str, contract: &Contract) -> Self {
        let plan =
            serde_json::from_str(json).map_err(|cause| format!("the schema is not JSON: {cause}")).and_then(|json| {
                let schema = Schema::parse(&json).map_err(|problem| problem.to_string())?;
                resolve(schema, contract.records(), contract.fields()).map_err(|problem| problem.to_string())
            });
        match plan {
            Ok(plan) => Self::Readable(plan),
            Err(what) => Self::Incompatible(format!("cannot be read as contract `{}`: {what}", contract.name())),
        }
    }
}

/// The schema id, and the whole payload.
fn frame(payload: Option<&[u8]>) -> Result<(i32, &[u8]), Fault> {
    let payload = payload.ok_or_else(null_payload)?;
    if let Some(magic) = payload.first().filter(|magic| **magic != 0) {
        let detail = format!("the first byte is {magic}, not 0");
        return Err(Fault { reason: Reason::WrongMagic, detail });
    }
    let Some([_, id @ ..]) = payload.first_chunk::<FRAME_BYTES>() else {
        let detail = format!("{} bytes are fewer than the {FRAME_BYTES} of magic byte and schema id", payload.len());
        return Err(Fault { reason: Reason::ShortFrame, detail });
    };
    Ok((i32::from_be_bytes(*id), payload))
}

fn null_payload() -> Fault {
    Fault { reason: Reason::NullPayload, detail: "the message has no payload".to_owned() }
}

const fn stage_of(reason: Reason) -> Stage {
    if matches!(reason, Reason::IncompatibleSchema) { Stage::Frame } else { Stage::Decode }
}

/// A batch on its way.
struct Rows {
    columns: Columns,
    message_of_row: Vec<u32>,
    schema_ids: Vec<Option<i32>>,
    newest_version_rows: bool,
    rejected: Vec<Rejected>,
}

impl Rows {
    fn new(contract: &Contract, batch: &MessageBatch, row_bytes: &[usize]) -> Self {
        let rows = batch.len();
        let each_max = RESERVED_BYTES_MAX.min(batch.bytes()) / rows.max(1);
        let row_bytes: Vec<_> = row_bytes.iter().map(|bytes| *bytes.min(&each_max)).collect();
        Self {
            columns: Columns::new(contract.fields(), rows, &row_bytes),
            message_of_row: Vec::with_capacity(rows),
            schema_ids: Vec::with_capacity(rows),
            newest_version_rows: false,
            rejected: Vec::new(),
        }
    }

    #[inline]
    fn accept(&mut self, message: u32, schema_id: Option<i32>, evolved: bool) {
        self.message_of_row.push(message);
        self.schema_ids.push(schema_id);
        self.newest_version_rows |= evolved;
    }

    #[cold]
    fn reject(&mut self, message: u32, schema_id: Option<i32>, stage: Stage, fault: Fault) {
        self.columns.truncate(self.message_of_row.len());
        let Fault { reason, detail } = fault;
        self.rejected.push(Rejected { message, schema_id, stage, reason, detail });
    }

    fn finish(self, contract: &Contract) -> Result<Decoded, ArrowError> {
        let Self { columns, message_of_row, schema_ids, newest_version_rows, rejected } = self;
        let arrays: Vec<ArrayRef> = columns.finish(contract.fields())?;
        let options = RecordBatchOptions::new().with_row_count(Some(message_of_row.len()));
        let rows = RecordBatch::try_new_with_options(contract.arrow_schema(), arrays, &options)?;
        Ok(Decoded { rows, message_of_row, schema_ids, newest_version_rows, rejected })
    }
}
