//! What a pipeline writes: the tables that it has, and what one epoch brings to them.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::ahead::Intakes;
use crate::domain::{EpochKind, Positions, Ranges, Stint, TableName, Timeline};
use crate::refine::window::TableChanges;

/// A table to be, as the SQL files define it.
#[derive(Debug, Clone)]
pub struct Derived {
    pub name: TableName,
    pub schema: SchemaRef,
    pub partition_by: Vec<String>,
    pub key: Vec<String>,
    pub about: String,
}

/// What the lake of one pipeline consists of.
#[derive(Debug, Clone)]
pub struct Layout {
    pub bronze: TableName,
    pub bronze_schema: SchemaRef,
    /// Columns that version 1 of the contract lacks.
    pub evolved: Vec<String>,
    pub silver: Derived,
    pub quarantine: Option<TableName>,
    pub rows: Vec<Derived>,
    pub windows: Vec<Derived>,
}

/// Everything that one epoch brings, ready to be written.
#[derive(Debug, Default)]
pub struct EpochWork {
    pub epoch: i64,
    /// The number under which its rows are of the past until they are written: the epoch; of a rebuild, the chunk.
    pub past: i64,
    pub kind: Option<EpochKind>,
    pub started_at_us: i64,
    pub ranges: Ranges,
    /// The next offset of every partition that the pipeline knows.
    pub next: Positions,
    pub messages: u64,
    pub dead_letters: u64,
    pub bronze_rows: u64,
    pub bronze: Vec<RecordBatch>,
    pub dead: Vec<RecordBatch>,
    pub silver: Vec<RecordBatch>,
    pub quarantine: Vec<RecordBatch>,
    /// One list for each of [`Layout::rows`].
    pub rows: Vec<Vec<RecordBatch>>,
    pub changes: Vec<TableChanges>,
    /// Rows that come before those above, and are being encoded.
    pub intakes: Intakes,
    pub duplicates: u64,
    pub late_rows: u64,
    pub warned_rows: u64,
    pub watermark_us: Option<i64>,
    /// Whether a row of a later version of the contract has come.
    pub evolved: bool,
    pub stages: Timeline,
    /// When its messages were fetched; of files there is no such thing.
    pub fetch: Option<Stint>,
    /// Newest and oldest moment at which the source got a message, for freshness.
    pub source_at_us: Vec<i64>,
    /// Bronze is written already: the epoch is being refined from it.
    pub bronze_done: bool,
    /// Only bronze and dead letters are wanted: `assay ingest`.
    pub bronze_only: bool,
    /// Versions at the epoch of tables that have later epochs already.
    pub versions: BTreeMap<TableName, u64>,
}
