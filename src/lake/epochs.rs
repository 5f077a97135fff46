use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::columns::conform;
use super::commit::{Commit, Outcome};
use super::error::LakeError;
use super::reader::FileReader;
use super::root::Lake;
use super::table::{Table, TableSpec};
use crate::domain::{
    EpochKind, EpochRecord, Layer, OffsetRange, Partition, Ranges, StageTime, TableName, TableVersion, schema,
};

/// `ops.epochs`: the ledger of complete epochs, one row each.
#[derive(Debug)]
pub struct EpochLedger {
    table: Table,
    handle: Handle,
}

#[derive(Serialize, Deserialize)]
struct Row {
    epoch: i64,
    kind: String,
    started_at: i64,
    published_at: i64,
    watermark_at: Option<i64>,
    messages: i64,
    bronze_rows: i64,
    dead_letters: i64,
    silver_rows: i64,
    duplicates: i64,
    quarantined: i64,
    late_rows: i64,
    restated_rows: i64,
    warned_rows: i64,
    offsets: Vec<OffsetRow>,
    tables: Vec<TableRow>,
    stages: Vec<StageRow>,
}

#[derive(Serialize, Deserialize)]
struct OffsetRow {
    topic: String,
    partition: i32,
    first_offset: i64,
    next_offset: i64,
    messages: i64,
}

#[derive(Serialize, Deserialize)]
struct TableRow {
    table: String,
    version: i64,
    rows_added: i64,
}

#[derive(Serialize, Deserialize)]
struct StageRow {
    stage: String,
    micros: i64,
}

const COUNTS: [&str; 9] = [
    "messages",
    "bronze_rows",
    "dead_letters",
    "silver_rows",
    "duplicates",
    "quarantined",
    "late_rows",
    "restated_rows",
    "warned_rows",
];
const STAMPS: [&str; 3] = ["started_at", "published_at", "watermark_at"];

impl EpochLedger {
    #[must_use]
    pub fn table_name() -> TableName {
        TableName::new(Layer::Ops, "epochs")
    }

    /// # Errors
    /// As [`Table::open`].
    pub async fn open(lake: &Lake, now_ms: i64) -> Result<Self, LakeError> {
        let spec = TableSpec {
            name: Self::table_name(),
            schema: ledger_schema(),
            later: Vec::new(),
            partition_by: Vec::new(),
            about: "One row for each complete epoch: offsets read, rows of each layer, table versions, timings.".into(),
            encoding: super::data_file::Encoding::default(),
        };
        Ok(Self { table: Table::open(lake, spec, now_ms).await?, handle: Handle::current() })
    }

    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Number of the last complete epoch; 0 when there is none.
    #[must_use]
    pub fn last_epoch(&self) -> i64 {
        self.table.epoch()
    }

    /// The record of one epoch.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn get(&self, epoch: i64) -> Result<Option<EpochRecord>, LakeError> {
        Ok(self.scan(epoch, epoch + 1)?.pop())
    }

    /// The records of epochs in `[from, to)`, in order. Blocking.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn scan(&self, from: i64, to: i64) -> Result<Vec<EpochRecord>, LakeError> {
        let mut records = Vec::new();
        self.fold(from, to, |record| records.push(record))?;
        records.sort_by_key(|record| record.epoch);
        Ok(records)
    }

    /// Hands over the records of epochs in `[from, to)` in any order, and holds those of one batch of one file at a time.
    /// Blocking.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn fold(&self, from: i64, to: i64, mut each: impl FnMut(EpochRecord)) -> Result<(), LakeError> {
        let reader = FileReader::new(&self.table, self.handle.clone());
        let failed = |cause: String| LakeError::read(self.table.name(), cause);
        for file in self.table.files().filter(|file| file.may_contain("epoch", from, to)) {
            for batch in reader.open(file, &reader.columns(), None)? {
                let batch = batch.map_err(|error| failed(error.to_string()))?;
                let records = records_of(&batch).map_err(failed)?.into_iter();
                records.filter(|record| record.epoch >= from && record.epoch < to).for_each(&mut each);
            }
        }
        Ok(())
    }

    /// Publishes an epoch: from now on readers see it.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub async fn publish(&mut self, record: &EpochRecord, now_ms: i64) -> Result<Outcome, LakeError> {
        let batch = batch_of(record).map_err(|cause| LakeError::Schema { table: self.table.name().clone(), cause })?;
        let name = format!("e{:012}-{}", record.epoch, uuid::Uuid::new_v4().simple());
        let files = self.table.encoder().encode(&[batch], &name, now_ms)?;
        self.table.store_files(&files).await?;
        let commit = Commit {
            epoch: Some(record.epoch),
            adds: files.into_iter().map(|encoded| encoded.file).collect(),
            ..Commit::default()
        };
        self.table.commit(&commit, now_ms).await
    }
}

fn ledger_schema() -> SchemaRef {
    let mut fields = vec![Field::new("epoch", DataType::Int64, false), Field::new("kind", DataType::Utf8, false)];
    fields.extend(STAMPS.map(|name| Field::new(name, schema::timestamp(), name == "watermark_at")));
    fields.extend(COUNTS.map(|name| Field::new(name, DataType::Int64, false)));
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let list = |name: &str, fields: Vec<Field>| {
        let item = Field::new("element", DataType::Struct(Fields::from(fields)), false);
        Field::new(name, DataType::List(Arc::new(item)), false)
    };
    fields.push(list(
        "offsets",
        vec![
            text("topic"),
            Field::new("partition", DataType::Int32, false),
            number("first_offset"),
            number("next_offset"),
            number("messages"),
        ],
    ));
    fields.push(list("tables", vec![text("table"), number("version"), number("rows_added")]));
    fields.push(list("stages", vec![text("stage"), number("micros")]));
    Arc::new(Schema::new(fields))
}

/// The same columns with timestamps as numbers: the form in which rows pass through serde.
fn plain_schema() -> SchemaRef {
    let plain = ledger_schema()
        .fields()
        .iter()
        .map(|field| {
            let stamp = STAMPS.contains(&field.name().as_str());
            if stamp { field.as_ref().clone().with_data_type(DataType::Int64) } else { field.as_ref().clone() }
        })
        .collect::<Vec<_>>();
    Arc::new(Schema::new(plain))
}

fn batch_of(record: &EpochRecord) -> Result<RecordBatch, String> {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let row = Row {
        epoch: record.epoch,
        kind: record.kind.as_str().into(),
        started_at: record.started_at_us,
        published_at: record.published_at_us,
        watermark_at: record.watermark_us,
        messages: count(record.messages),
        bronze_rows: count(record.bronze_rows),
        dead_letters: count(record.dead_letters),
        silver_rows: count(record.silver_rows),
        duplicates: count(record.duplicates),
        quarantined: count(record.quarantined),
        late_rows: count(record.late_rows),
        restated_rows: count(record.restated_rows),
        warned_rows: count(record.warned_rows),
        offsets: record
            .ranges
            .iter()
            .map(|(partition, range)| OffsetRow {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                first_offset: range.first,
                next_offset: range.next,
                messages: count(range.messages),
            })
            .collect(),
        tables: record
            .tables
            .iter()
            .map(|table| TableRow {
                table: table.table.to_string(),
                version: table.version,
                rows_added: table.rows_added,
            })
            .collect(),
        stages: record.stages.iter().map(|time| StageRow { stage: time.stage.into(), micros: time.micros }).collect(),
    };
    let mut decoder = ReaderBuilder::new(plain_schema()).build_decoder().map_err(|e| e.to_string())?;
    decoder.serialize(&[row]).map_err(|e| e.to_string())?;
    let plain = decoder.flush().map_err(|e| e.to_string())?.ok_or("no row was encoded")?;
    conform(&plain, &ledger_schema())
}

fn records_of(batch: &RecordBatch) -> Result<Vec<EpochRecord>, String> {
    let plain = conform(batch, &plain_schema())?;
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(Vec::new());
    writer.write(&plain).and_then(|()| writer.finish()).map_err(|e| e.to_string())?;
    writer
        .into_inner()
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Row>(line).map_err(|e| e.to_string()).and_then(record_of))
        .collect()
}

fn record_of(row: Row) -> Result<EpochRecord, String> {
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    let kind = match row.kind.as_str() {
        "stream" => EpochKind::Stream,
        "rebuild" => EpochKind::Rebuild,
        other => return Err(format!("epoch {} is of the unknown kind `{other}`", row.epoch)),
    };
    let ranges: Ranges = row
        .offsets
        .iter()
        .map(|offset| {
            let range =
                OffsetRange { first: offset.first_offset, next: offset.next_offset, messages: count(offset.messages) };
            (Partition::new(offset.topic.as_str(), offset.partition), range)
        })
        .collect();
    let tables = row
        .tables
        .iter()
        .map(|table| {
            let name = table.table.parse().map_err(|e| format!("epoch {}: {e}", row.epoch))?;
            Ok(TableVersion { table: name, version: table.version, rows_added: table.rows_added })
        })
        .collect::<Result<_, String>>()?;
    Ok(EpochRecord {
        epoch: row.epoch,
        kind,
        started_at_us: row.started_at,
        published_at_us: row.published_at,
        watermark_us: row.watermark_at,
        ranges,
        messages: count(row.messages),
        bronze_rows: count(row.bronze_rows),
        dead_letters: count(row.dead_letters),
        silver_rows: count(row.silver_rows),
        duplicates: count(row.duplicates),
        quarantined: count(row.quarantined),
        late_rows: count(row.late_rows),
        restated_rows: count(row.restated_rows),
        warned_rows: count(row.warned_rows),
        tables,
        stages: row.stages.iter().map(|time| StageTime { stage: leak(&time.stage), micros: time.micros }).collect(),
    })
}

/// Stage names are a closed set; an unknown one (a later version's) reads as `other`.
fn leak(stage: &str) -> &'static str {
    crate::domain::STAGES.iter().copied().find(|known| *known == stage).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_row() {
        let range = OffsetRange { first: 3, next: 9, messages: 5 };
        let record = EpochRecord {
            epoch: 7,
            kind: EpochKind::Stream,
            started_at_us: 1_700_000_000_000_000,
            published_at_us: 1_700_000_001_234_567,
            watermark_us: None,
            ranges: [(Partition::new("t", 2), range)].into_iter().collect(),
            messages: 5,
            bronze_rows: 4,
            dead_letters: 1,
            silver_rows: 2,
            duplicates: 1,
            quarantined: 1,
            late_rows: 0,
            restated_rows: 0,
            warned_rows: 1,
            tables: vec![TableVersion { table: EpochLedger::table_name(), version: 4, rows_added: 2 }],
            stages: vec![StageTime { stage: "decode", micros: 12 }],
        };
        let batch = batch_of(&record).expect("a row");
        assert_eq!(records_of(&batch), Ok(vec![record]));
    }
}
