//! From decoded messages to bronze rows and dead letters: the contract's columns and where each row comes from.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Date32Array, Int32Array, Int32Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, StructBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::contract::Decoded;
use crate::domain::{DeadLetter, Header, Message, MessageBatch, Ranges, Stint, schema};

const DAY_US: i64 = 86_400_000_000;

/// What one micro-batch of the source became. The epoch is not known yet: [`seal`] adds it.
#[derive(Debug)]
pub struct Arrived {
    /// The contract's columns.
    pub contract: RecordBatch,
    /// The columns of provenance but for the epoch, in their order.
    pub provenance: Provenance,
    pub dead_letters: Vec<DeadLetter>,
    pub ranges: Ranges,
    pub messages: u64,
    pub bytes: u64,
    /// Whether a row was written with a later version of the contract.
    pub evolved: bool,
    pub ingested_at_us: i64,
    /// When the source got some of the messages (one in 64), for freshness.
    pub source_at_us: Vec<i64>,
    /// When it was fetched from a broker; `None` where it is of a file.
    pub fetch: Option<Stint>,
    /// When it was decoded, and of a file also when it was read.
    pub decode: Stint,
}

/// The columns that say where each row comes from.
#[derive(Debug, Default)]
pub struct Provenance {
    columns: Vec<ArrayRef>,
}

/// Columns of provenance under construction.
struct ProvenanceBuilder {
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    at: TimestampMicrosecondBuilder,
    key: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
    schema_id: Int32Builder,
}

impl ProvenanceBuilder {
    fn with_capacity(rows: usize) -> Self {
        let fields = schema::header_fields();
        let element =
            arrow::datatypes::Field::new("element", arrow::datatypes::DataType::Struct(fields.clone()), false);
        let pair = StructBuilder::new(fields, vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
        Self {
            topic: StringBuilder::with_capacity(rows, rows * 24),
            partition: Int32Builder::with_capacity(rows),
            offset: Int64Builder::with_capacity(rows),
            at: TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"),
            key: BinaryBuilder::with_capacity(rows, rows * 8),
            headers: ListBuilder::new(pair).with_field(element),
            schema_id: Int32Builder::with_capacity(rows),
        }
    }

    fn push(&mut self, message: &Message<'_>, schema_id: Option<i32>) {
        self.topic.append_value(message.topic.as_ref());
        self.partition.append_value(message.partition);
        self.offset.append_value(message.offset);
        self.at.append_option(message.timestamp_ms.map(|at| at.saturating_mul(1000)));
        self.key.append_option(message.key);
        self.push_headers(message.headers);
        self.schema_id.append_option(schema_id);
    }

    fn push_headers(&mut self, headers: &[Header]) {
        if headers.is_empty() {
            self.headers.append_null();
            return;
        }
        for header in headers {
            let pair = self.headers.values();
            if let Some(name) = pair.field_builder::<StringBuilder>(0) {
                name.append_value(&header.name);
            }
            if let Some(value) = pair.field_builder::<BinaryBuilder>(1) {
                value.append_option(header.value.as_deref());
            }
            pair.append(true);
        }
        self.headers.append(true);
    }

    fn finish(mut self) -> Provenance {
        Provenance {
            columns: vec![
                Arc::new(self.topic.finish()),
                Arc::new(self.partition.finish()),
                Arc::new(self.offset.finish()),
                Arc::new(self.at.finish()),
                Arc::new(self.key.finish()),
                Arc::new(self.headers.finish()),
                Arc::new(self.schema_id.finish()),
            ],
        }
    }
}

/// Joins what the decoder made with where it came from.
#[must_use]
pub fn arrived(batch: &MessageBatch, decoded: Decoded, ingested_at_us: i64, decode: Stint) -> Arrived {
    let mut provenance = ProvenanceBuilder::with_capacity(decoded.message_of_row.len());
    for (message, schema_id) in decoded.message_of_row.iter().zip(&decoded.schema_ids) {
        provenance.push(&batch.get(*message as usize), *schema_id);
    }
    let dead_letters = decoded
        .rejected
        .into_iter()
        .map(|rejected| {
            let message = batch.get(rejected.message as usize);
            DeadLetter {
                topic: Arc::clone(message.topic),
                partition: message.partition,
                offset: message.offset,
                timestamp_ms: message.timestamp_ms,
                key: message.key.map(<[u8]>::to_vec),
                payload: message.payload.map(<[u8]>::to_vec),
                headers: message.headers.to_vec(),
                schema_id: rejected.schema_id,
                stage: rejected.stage,
                reason: rejected.reason,
                detail: rejected.detail,
            }
        })
        .collect();
    Arrived {
        contract: decoded.rows,
        provenance: provenance.finish(),
        dead_letters,
        ranges: batch.ranges(),
        messages: batch.len() as u64,
        bytes: batch.bytes() as u64,
        evolved: decoded.newest_version_rows,
        ingested_at_us,
        source_at_us: batch.iter().step_by(64).filter_map(|message| Some(message.timestamp_ms? * 1000)).collect(),
        fetch: None,
        decode,
    }
}

/// Provenance of rows of a file: the line is the offset, and there is no key, header or schema id.
#[must_use]
pub fn file_provenance(topic: &str, lines: &[i64]) -> Provenance {
    let mut builder = ProvenanceBuilder::with_capacity(lines.len());
    let topic: Arc<str> = topic.into();
    for line in lines {
        let message = Message {
            topic: &topic,
            partition: 0,
            offset: *line,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: &[],
        };
        builder.push(&message, None);
    }
    builder.finish()
}

/// Makes bronze rows: the contract's columns, provenance, and the epoch.
///
/// # Errors
/// When the columns do not fit `bronze` (the schema of the table).
pub fn seal(
    contract: &RecordBatch,
    provenance: &Provenance,
    ingested_at_us: i64,
    epoch: i64,
    bronze: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let mut columns = contract.columns().to_vec();
    columns.extend(sealed(&provenance.columns, contract.num_rows(), ingested_at_us, epoch)?);
    RecordBatch::try_new(Arc::clone(bronze), columns)
}

fn sealed(columns: &[ArrayRef], rows: usize, ingested_at_us: i64, epoch: i64) -> Result<Vec<ArrayRef>, ArrowError> {
    let day = i32::try_from(ingested_at_us.div_euclid(DAY_US))
        .map_err(|_| ArrowError::InvalidArgumentError(format!("the clock says {ingested_at_us} microseconds")))?;
    let mut columns = columns.to_vec();
    columns.push(Arc::new(TimestampMicrosecondArray::from_value(ingested_at_us, rows).with_timezone("UTC")));
    columns.push(Arc::new(Int64Array::from_value(epoch, rows)));
    columns.push(Arc::new(Date32Array::from_value(day, rows)));
    Ok(columns)
}

/// Makes the rows of `bronze.dead_letters`.
///
/// # Errors
/// When Arrow refuses the columns.
pub fn dead_letter_rows(letters: &[DeadLetter], ingested_at_us: i64, epoch: i64) -> Result<RecordBatch, ArrowError> {
    let mut payload = BinaryBuilder::new();
    let mut provenance = ProvenanceBuilder::with_capacity(letters.len());
    let [mut stage, mut reason, mut detail] = [StringBuilder::new(), StringBuilder::new(), StringBuilder::new()];
    for letter in letters {
        payload.append_option(letter.payload.as_deref());
        let message = Message {
            topic: &letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            timestamp_ms: letter.timestamp_ms,
            key: letter.key.as_deref(),
            payload: None,
            headers: &letter.headers,
        };
        provenance.push(&message, letter.schema_id);
        stage.append_value(letter.stage.as_str());
        reason.append_value(letter.reason.as_str());
        detail.append_value(&letter.detail);
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(payload.finish())];
    columns.extend(sealed(&provenance.finish().columns, letters.len(), ingested_at_us, epoch)?);
    columns.extend([stage, reason, detail].map(|mut column| Arc::new(column.finish()) as ArrayRef));
    RecordBatch::try_new(schema::dead_letters(), columns)
}

/// The partition and offset of each row, for skipping what is stored already.
#[must_use]
pub fn offsets_of(batch: &RecordBatch) -> Option<(&Int32Array, &Int64Array)> {
    let partitions = batch.column_by_name(schema::SOURCE_PARTITION)?.as_any().downcast_ref()?;
    let offsets = batch.column_by_name(schema::SOURCE_OFFSET)?.as_any().downcast_ref()?;
    Some((partitions, offsets))
}
