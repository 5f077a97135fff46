use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

/// How a table's Parquet files are written.
#[derive(Debug, Clone)]
pub struct Encoding {
    pub row_group_rows: usize,
    /// Encodes a little at a time, and leaves the core to whoever needs it in between: of tables that are written beside
    /// requests.
    pub gives_way: bool,
}

impl Default for Encoding {
    fn default() -> Self {
        Self { row_group_rows: 256 * 1024, gives_way: false }
    }
}

/// Who gives way encodes so many rows, or compresses a page of so many bytes, in one go: about 100 µs.
const PIECE_ROWS: usize = 16;
const PIECE_BYTES: usize = 32 << 10;

/// Rows that say whether the values of a column repeat.
const SAMPLE_ROWS: usize = 512;

impl Encoding {
    fn properties(&self, batches: &[RecordBatch]) -> WriterProperties {
        let mut builder = WriterProperties::builder()
            // zstd-1 halves the bytes of lz4 for a tenth more CPU; higher levels save nothing here.
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
            .set_max_row_group_row_count(Some(self.row_group_rows))
            .set_statistics_enabled(EnabledStatistics::Chunk);
        if self.gives_way {
            builder = builder.set_data_page_size_limit(PIECE_BYTES).set_dictionary_page_size_limit(PIECE_BYTES);
        }
        let Some(sample) = batches.iter().max_by_key(|batch| batch.num_rows()) else { return builder.build() };
        let sample = sample.slice(0, sample.num_rows().min(SAMPLE_ROWS));
        for (field, values) in sample.schema().fields().iter().zip(sample.columns()) {
            let path = ColumnPath::from(field.name().as_str());
            let kind = field.data_type();
            self.give_way();
            if !has_bounds(kind) {
                // Rows are in the order of arrival: the least and greatest text of a file rule out nothing.
                builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
            if !kind.is_nested() && hardly_repeats(values) {
                builder = builder.set_column_dictionary_enabled(path.clone(), false);
                if matches!(kind, DataType::Int32 | DataType::Int64 | DataType::Timestamp(..)) {
                    builder = builder.set_column_encoding(path, parquet::basic::Encoding::DELTA_BINARY_PACKED);
                }
            }
        }
        builder.build()
    }

    fn give_way(&self) {
        if self.gives_way {
            std::thread::yield_now();
        }
    }
}

/// Whether a dictionary would be built only to be thrown away.
fn hardly_repeats(values: &ArrayRef) -> bool {
    if values.len() < SAMPLE_ROWS / 8 {
        return false;
    }
    let field = SortField::new(values.data_type().clone());
    let rows = RowConverter::new(vec![field]).and_then(|converter| converter.convert_columns(&[Arc::clone(values)]));
    rows.is_ok_and(|rows| rows.iter().collect::<HashSet<_>>().len() * 2 > values.len())
}

/// Whether Delta's statistics of a file have bounds for the type.
fn has_bounds(kind: &DataType) -> bool {
    bound(kind, 0, false).is_some()
}

/// A Parquet file of a table, as its log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the table.
    pub path: String,
    pub size: i64,
    pub rows: i64,
    pub partition: BTreeMap<String, Option<String>>,
    /// Smallest and largest value of integer, date and timestamp columns (days or microseconds).
    pub ranges: BTreeMap<String, (i64, i64)>,
    pub stats: String,
    pub modified_ms: i64,
}

impl DataFile {
    /// Whether the file may hold a value of `column` in `[from, to)`.
    #[must_use]
    pub fn may_contain(&self, column: &str, from: i64, to: i64) -> bool {
        self.ranges.get(column).is_none_or(|(min, max)| *max >= from && *min < to)
    }

    pub(super) fn add(&self, data_change: bool) -> Add {
        Add {
            path: self.path.clone(),
            partition_values: self.partition.clone().into_iter().collect(),
            size: self.size,
            modification_time: self.modified_ms,
            data_change,
            stats: Some(self.stats.clone()),
            ..Add::default()
        }
    }
}

/// The value of each partition column.
pub(super) type Partition = BTreeMap<String, Option<String>>;

/// Where a file belongs, relative to its table.
pub(super) fn file_path(partition: &Partition, name: &str) -> String {
    let folder: String = partition
        .iter()
        .map(|(column, value)| format!("{column}={}/", value.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__")))
        .collect();
    format!("{folder}{name}.parquet")
}

/// A file that is encoded and waits to be stored.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub file: DataFile,
    pub bytes: Bytes,
}

/// A Parquet file that is encoded batch by batch.
pub(super) struct FileWriter {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    gives_way: bool,
    rows: usize,
    /// Of each column.
    nulls: Vec<usize>,
    /// Bytes that were taken.
    taken: usize,
}

impl FileWriter {
    /// `sample` says which columns repeat their values.
    pub fn new(schema: &SchemaRef, sample: &[RecordBatch], encoding: &Encoding) -> Result<Self, String> {
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(encoding.properties(sample)));
        Ok(Self {
            schema: Arc::clone(schema),
            writer: writer.map_err(|e| e.to_string())?,
            gives_way: encoding.gives_way,
            rows: 0,
            nulls: vec![0; schema.fields().len()],
            taken: 0,
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        self.rows += batch.num_rows();
        self.nulls.iter_mut().zip(batch.columns()).for_each(|(nulls, column)| *nulls += column.null_count());
        if !self.gives_way {
            return self.writer.write(batch).map_err(|e| e.to_string());
        }
        for from in (0..batch.num_rows()).step_by(PIECE_ROWS) {
            let piece = batch.slice(from, PIECE_ROWS.min(batch.num_rows() - from));
            self.writer.write(&piece).map_err(|e| e.to_string())?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The row groups that are whole and were not taken yet.
    pub fn take(&mut self) -> Bytes {
        let bytes = std::mem::take(self.writer.inner_mut());
        self.taken += bytes.len();
        Bytes::from(bytes)
    }

    /// Ends the file of these values of the partition columns; the bytes are those that were not taken.
    pub fn finish(mut self, partition: Partition, name: &str, now_ms: i64) -> Result<Encoded, String> {
        let metadata = self.writer.finish().map_err(|e| e.to_string())?;
        let bytes = self.take();
        let rows = i64::try_from(self.rows).map_err(|e| e.to_string())?;
        let (stats, ranges) = statistics(&metadata, &self.schema, &self.nulls, rows);
        let size = i64::try_from(self.taken).map_err(|e| e.to_string())?;
        let path = file_path(&partition, name);
        Ok(Encoded { file: DataFile { path, size, rows, partition, ranges, stats, modified_ms: now_ms }, bytes })
    }
}

/// Delta's statistics of a file: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics>.
///
/// Bounds of integers, dates and timestamps only: those are what our pruning and that of other readers use.
fn statistics(
    metadata: &ParquetMetaData,
    schema: &Schema,
    nulls: &[usize],
    rows: i64,
) -> (String, BTreeMap<String, (i64, i64)>) {
    let names = schema.fields().iter().map(|field| field.name());
    let nulls: BTreeMap<&String, usize> = names.zip(nulls.iter().copied()).collect();
    let mut bounds: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut incomplete = Vec::new();
    for group in metadata.row_groups() {
        for chunk in group.columns() {
            let path = chunk.column_path();
            let [name] = path.parts() else { continue };
            let Some(found) = chunk.statistics() else {
                incomplete.push(name.clone());
                continue;
            };
            if found.null_count_opt().is_some_and(|nulls| i64::try_from(nulls) == Ok(chunk.num_values())) {
                continue;
            }
            let range = match found {
                Statistics::Int32(found) => {
                    found.min_opt().zip(found.max_opt()).map(|(a, b)| (i64::from(*a), i64::from(*b)))
                }
                Statistics::Int64(found) => found.min_opt().zip(found.max_opt()).map(|(a, b)| (*a, *b)),
                _ => None,
            };
            match range {
                Some((min, max)) => {
                    bounds
                        .entry(name.clone())
                        .and_modify(|known| *known = (known.0.min(min), known.1.max(max)))
                        .or_insert((min, max));
                }
                None => incomplete.push(name.clone()),
            }
        }
    }
    for name in incomplete {
        bounds.remove(&name);
    }
    let (mut min_values, mut max_values) = (Map::new(), Map::new());
    bounds.retain(|name, (min, max)| {
        let Ok(field) = schema.field_with_name(name) else { return false };
        match (bound(field.data_type(), *min, false), bound(field.data_type(), *max, true)) {
            (Some(low), Some(high)) => {
                min_values.insert(name.clone(), low);
                max_values.insert(name.clone(), high);
                true
            }
            _ => false,
        }
    });
    let stats = json!({
        "numRecords": rows, "minValues": min_values, "maxValues": max_values, "nullCount": nulls,
    });
    (stats.to_string(), bounds)
}

fn bound(kind: &DataType, value: i64, upper: bool) -> Option<Value> {
    match kind {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(json!(value)),
        DataType::Date32 => {
            let day = chrono::DateTime::from_timestamp(value.checked_mul(86_400)?, 0)?;
            Some(json!(day.format("%Y-%m-%d").to_string()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            // Statistics have milliseconds: the upper bound is rounded up so that it stays one.
            let millis = if upper {
                value.div_euclid(1000) + i64::from(value.rem_euclid(1000) > 0)
            } else {
                value.div_euclid(1000)
            };
            let at = chrono::DateTime::from_timestamp_millis(millis)?;
            Some(json!(at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
        }
        _ => None,
    }
}

/// Reads the bounds back from a file's statistics.
pub(super) fn ranges_of(stats: &str, schema: &Schema) -> (i64, BTreeMap<String, (i64, i64)>) {
    let Ok(Value::Object(stats)) = serde_json::from_str::<Value>(stats) else { return (0, BTreeMap::new()) };
    let rows = stats.get("numRecords").and_then(Value::as_i64).unwrap_or(0);
    let side = |key: &str, name: &str, kind: &DataType| -> Option<i64> {
        let value = stats.get(key)?.get(name)?;
        match kind {
            DataType::Date32 => {
                let day = chrono::NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
                Some(day.signed_duration_since(chrono::NaiveDate::default()).num_days())
            }
            DataType::Timestamp(..) => {
                Some(chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok()?.timestamp_micros())
            }
            _ => value.as_i64(),
        }
    };
    let ranges = schema
        .fields()
        .iter()
        .filter_map(|field| {
            let (name, kind) = (field.name(), field.data_type());
            Some((name.clone(), (side("minValues", name, kind)?, side("maxValues", name, kind)?)))
        })
        .collect();
    (rows, ranges)
}
