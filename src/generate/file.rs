//! The same stream as a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCompression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::event::{BadRow, CSV_HEADER, Event, device, location, merchant, payment, uuid};
use super::{Counts, Fault, GenerateError, GenerateSettings, Generator};

/// The formats of [`write_file`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// With a header line.
    Csv,
    JsonLines,
    /// Cannot hold malformed messages: there are none in it.
    Parquet,
}

const ROWS_PER_BATCH: usize = 16_384;

/// Writes all events to a file of the contract's fields; a name that ends in `.gz` compresses CSV and JSON lines.
///
/// Labels by scenario are not in files. Malformed messages become malformed lines.
///
/// # Errors
/// [`GenerateError`] when a setting cannot work, the stream has no end, or the file cannot be written.
pub fn write_file(path: &Path, format: OutputFormat, settings: &GenerateSettings) -> Result<Counts, GenerateError> {
    let mut settings = settings.clone();
    if settings.events.is_none() {
        let cause = "a file needs a number of events".to_owned();
        return Err(GenerateError::Setting { key: "events", cause });
    }
    settings.json = 0.0;
    if format == OutputFormat::Parquet {
        settings.malformed = 0.0;
    }
    let mut generator = Generator::new(settings, 1)?;
    let error = |cause: io::Error| GenerateError::Write { path: path.display().to_string(), cause: cause.to_string() };
    let file = File::create(path).map_err(error)?;
    match format {
        OutputFormat::Parquet => write_parquet(&mut generator, file).map_err(error)?,
        _ if path.extension().is_some_and(|extension| extension == "gz") => {
            let mut writer = GzEncoder::new(BufWriter::new(file), Compression::default());
            write_lines(&mut generator, format, &mut writer).map_err(error)?;
            writer.finish().and_then(|mut inner| inner.flush()).map_err(error)?;
        }
        _ => {
            let mut writer = BufWriter::with_capacity(1 << 18, file);
            write_lines(&mut generator, format, &mut writer).and_then(|()| writer.flush()).map_err(error)?;
        }
    }
    Ok(generator.counts())
}

fn write_lines(generator: &mut Generator, format: OutputFormat, out: &mut impl Write) -> io::Result<()> {
    if format == OutputFormat::Csv {
        out.write_all(CSV_HEADER.as_bytes())?;
    }
    let mut line = Vec::with_capacity(512);
    while let Some((event, fault)) = generator.plan() {
        line.clear();
        let merchant_at = if format == OutputFormat::Csv {
            generator.writer.csv(&event, &generator.world, &mut line)
        } else {
            generator.writer.json(&event, &generator.world, &mut line)
        };
        if let Some(fault) = fault {
            break_line(fault, format, merchant_at, &mut line);
        }
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

/// A line can be broken in fewer ways than a message.
fn break_line(fault: Fault, format: OutputFormat, merchant_at: usize, line: &mut Vec<u8>) {
    match (fault, format) {
        (Fault::InvalidUtf8, _) => {
            if let Some(byte) = line.get_mut(merchant_at) {
                *byte = 0xff;
            }
        }
        (Fault::TrailingBytes, OutputFormat::Csv) => line.extend_from_slice(b",left,over"),
        (Fault::TrailingBytes, _) => line.extend_from_slice(b"} left over"),
        (Fault::WrongMagic | Fault::UnknownSchemaId, OutputFormat::Csv) => {
            // A user id that is no number.
            if let Some(comma) = line.iter().position(|byte| *byte == b',') {
                line.insert(comma + 1, b'x');
            }
        }
        (_, OutputFormat::Csv) => line.truncate(merchant_at),
        _ => line.truncate(line.len() * 2 / 3),
    }
}

fn write_parquet(generator: &mut Generator, file: File) -> io::Result<()> {
    let level = ZstdLevel::try_new(1).map_err(io::Error::other)?;
    let properties = WriterProperties::builder().set_compression(ParquetCompression::ZSTD(level)).build();
    let schema = parquet_schema();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(io::Error::other)?;
    loop {
        let rows = parquet_rows(generator, &schema).map_err(io::Error::other)?;
        if rows.num_rows() == 0 {
            writer.close().map_err(io::Error::other)?;
            return Ok(());
        }
        writer.write(&rows).map_err(io::Error::other)?;
    }
}

fn parquet_schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, name == "merchant_id");
    Arc::new(Schema::new(vec![
        field("transaction_id", DataType::Utf8),
        field("user_id", DataType::Int32),
        field("amount", DataType::Float64),
        field("merchant", DataType::Utf8),
        field("timestamp", DataType::Utf8),
        field("is_fraud", DataType::Boolean),
        field("payment_method", DataType::Utf8),
        field("location", DataType::Utf8),
        field("device_id", DataType::Utf8),
        field("merchant_id", DataType::Utf8),
    ]))
}

fn parquet_rows(generator: &mut Generator, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = || StringBuilder::with_capacity(ROWS_PER_BATCH, ROWS_PER_BATCH * 24);
    let (mut ids, mut merchants, mut stamps, mut payments) = (text(), text(), text(), text());
    let (mut locations, mut devices, mut merchant_ids) = (text(), text(), text());
    let (mut users, mut amounts, mut frauds) = (Int32Builder::new(), Float64Builder::new(), BooleanBuilder::new());
    let mut buffer = Vec::with_capacity(64);
    while users.values_slice().len() < ROWS_PER_BATCH {
        let Some((event, _)) = generator.plan() else { break };
        let (name, merchant_id) = merchant(&event, &generator.world);
        ids.append_value(transaction_id(&event, &mut buffer));
        users.append_value(i32::try_from(event.user).unwrap_or(i32::MAX));
        amounts.append_value(event.amount);
        merchants.append_value(name);
        locations.append_value(location(&event, &generator.world));
        merchant_ids.append_option((event.v2 && event.merchant_id).then_some(merchant_id));
        stamps.append_value(str::from_utf8(generator.writer.timestamp(&event)).unwrap_or_default());
        frauds.append_value(event.scenario.is_some());
        payments.append_value(payment(&event));
        buffer.clear();
        device(event.device, &mut buffer);
        devices.append_value(str::from_utf8(&buffer).unwrap_or_default());
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.finish()),
        Arc::new(users.finish()),
        Arc::new(amounts.finish()),
        Arc::new(merchants.finish()),
        Arc::new(stamps.finish()),
        Arc::new(frauds.finish()),
        Arc::new(payments.finish()),
        Arc::new(locations.finish()),
        Arc::new(devices.finish()),
        Arc::new(merchant_ids.finish()),
    ];
    RecordBatch::try_new(schema.clone(), columns)
}

fn transaction_id<'a>(event: &Event, buffer: &'a mut Vec<u8>) -> &'a str {
    buffer.clear();
    if event.broken != Some(BadRow::EmptyId) {
        uuid(event.id, buffer);
    }
    str::from_utf8(buffer).unwrap_or_default()
}
