//! Tables of records beside the epochs, `ml.*` and `gold.predictions`: what jobs find out and services decide, put there
//! while the lake's one writer works.
//!
//! They have several writers and no epochs, so no lock and no ledger either: each commit carries a Delta `txn` of an
//! application of their own (`<pipeline>/records`) with the next number. The conditional put of a commit decides who comes
//! first; who comes second reads the table anew and puts its rows over what stands there then. The tables of the pipeline are
//! never touched.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Version;
use object_store::path::Path;
use serde_json::json;
use tokio::runtime::Handle;

use super::commit::Commit;
use super::data_file::{DataFile, Encoding};
use super::encoder::Encoder;
use super::error::LakeError;
use super::reader::FileReader;
use super::rewrite::Revision;
use super::root::Lake;
use super::table::{Table, TableSpec};
use super::tidy::{Expiry, tidy};
use crate::domain::{Layer, TableName};

/// With so many files, all of them become one.
const FILES_MAX: usize = 32;
/// Files below are merged when there are [`FILES_MAX`] of them.
const SMALL_BYTES: i64 = 16 << 20;
/// Each attempt that fails is another writer's success; so many writers there are not.
const ATTEMPTS: usize = 32;

/// What a table of records is.
#[derive(Debug, Clone)]
pub struct RecordSpec {
    /// Of the layer `ml`.
    pub name: TableName,
    pub schema: SchemaRef,
    /// Tells rows apart: one with the same key takes the place of the one that stands there.
    pub key: Vec<String>,
    pub about: String,
}

/// What became of rows that were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// They stood there already, to the bit.
    Unchanged,
    Written {
        version: u64,
    },
}

/// Puts rows into a table of records, which is made when it is missing: those whose key stands there replace it. The same
/// rows again change nothing.
///
/// # Errors
/// When the store does not answer, or the rows do not fit the table; nothing is visible then.
pub async fn put_records(lake: &Lake, spec: &RecordSpec, rows: RecordBatch, now_ms: i64) -> Result<Put, LakeError> {
    for _ in 0..ATTEMPTS {
        match attempt(lake, spec, &rows, now_ms).await {
            // Somebody else was first.
            Err(LakeError::Fenced { .. }) => {}
            done => return done,
        }
    }
    let cause = format!("other writers came first {ATTEMPTS} times");
    Err(LakeError::store(&spec.name, "committing", cause))
}

async fn attempt(lake: &Lake, spec: &RecordSpec, rows: &RecordBatch, now_ms: i64) -> Result<Put, LakeError> {
    let table_spec = TableSpec {
        name: spec.name.clone(),
        schema: SchemaRef::clone(&spec.schema),
        later: Vec::new(),
        partition_by: Vec::new(),
        about: spec.about.clone(),
        encoding: Encoding::default(),
    };
    let mut table = Table::open_as(lake, table_spec, &app_id(lake), now_ms).await?;
    let reader = FileReader::new(&table, Handle::current());
    let files: Vec<DataFile> = table.files().cloned().collect();
    let (wanted, key) = (rows.clone(), spec.key.clone());
    let changes = tokio::task::spawn_blocking(move || changes(&reader, &files, &wanted, &key));
    let Changes { removes, rows } =
        changes.await.map_err(|error| LakeError::store(&spec.name, "merging rows", error))??;
    if removes.is_empty() && rows.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(Put::Unchanged);
    }
    let number = table.epoch() + 1;
    let version = commit(&mut table, number, &rows, removes, &Encoding::default(), now_ms).await?;
    tidy_at_times(lake, &table, number, version).await;
    Ok(Put::Written { version })
}

/// Appends rows to a table of records that grows, which is made when it is missing. Small files become larger ones by and by.
///
/// The table stays open in between: while nobody else writes it, an append costs the same however many came before.
pub struct RecordAppender {
    lake: Lake,
    spec: TableSpec,
    /// As it was after the last append.
    table: Option<Table>,
}

impl RecordAppender {
    #[must_use]
    pub const fn new(lake: Lake, spec: TableSpec) -> Self {
        Self { lake, spec, table: None }
    }

    /// Appends rows; files are encoded as `encoding` says.
    ///
    /// # Errors
    /// When the store does not answer, or the rows do not fit the table; nothing is visible then.
    pub async fn append(
        &mut self,
        rows: &[RecordBatch],
        encoding: &Encoding,
        now_ms: i64,
    ) -> Result<Version, LakeError> {
        for _ in 0..ATTEMPTS {
            // What goes wrong leaves no table: the next attempt reads it anew.
            let mut table = match self.table.take() {
                Some(table) if table.is_newest().await? => table,
                _ => Table::open_as(&self.lake, self.spec.clone(), &app_id(&self.lake), now_ms).await?,
            };
            match append(&self.lake, &mut table, rows, encoding, now_ms).await {
                Ok(version) => {
                    self.table = Some(table);
                    return Ok(version);
                }
                // Somebody else was first.
                Err(LakeError::Fenced { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let cause = format!("other writers came first {ATTEMPTS} times");
        Err(LakeError::store(&self.spec.name, "committing", cause))
    }
}

async fn append(
    lake: &Lake,
    table: &mut Table,
    rows: &[RecordBatch],
    encoding: &Encoding,
    now_ms: i64,
) -> Result<Version, LakeError> {
    let small: Vec<DataFile> = table.files().filter(|file| file.size < SMALL_BYTES).cloned().collect();
    let (mut rows, mut removes) = (rows.to_vec(), Vec::new());
    if small.len() >= FILES_MAX {
        let reader = FileReader::new(table, Handle::current());
        let paths = small.iter().map(|file| file.path.clone()).collect();
        let read = tokio::task::spawn_blocking(move || {
            small.iter().map(|file| reader.read(file, &reader.columns(), None)).collect::<Result<Vec<_>, _>>()
        });
        let read = read.await.map_err(|error| LakeError::store(table.name(), "merging files", error))??;
        rows.splice(0..0, read.into_iter().flatten());
        removes = paths;
    }
    let number = table.epoch() + 1;
    let version = commit(table, number, &rows, removes, encoding, now_ms).await?;
    tidy_at_times(lake, table, number, version).await;
    Ok(version)
}

async fn commit(
    table: &mut Table,
    number: i64,
    rows: &[RecordBatch],
    removes: Vec<String>,
    encoding: &Encoding,
    now_ms: i64,
) -> Result<Version, LakeError> {
    let name = format!("r{number:012}-{}", uuid::Uuid::new_v4().simple());
    let encoder = Encoder { encoding: encoding.clone(), ..table.encoder() };
    let stored = encoder.encode(rows, &name, now_ms)?;
    table.store_files(&stored).await?;
    let commit = Commit {
        epoch: Some(number),
        adds: stored.into_iter().map(|encoded| encoded.file).collect(),
        removes,
        info: json!({"kind": "records", "rows": rows.iter().map(RecordBatch::num_rows).sum::<usize>()}),
        ..Commit::default()
    };
    Ok(table.commit(&commit, now_ms).await?.version())
}

async fn tidy_at_times(lake: &Lake, table: &Table, number: i64, version: Version) {
    let expiry = Expiry { history_s: lake.history_s(), keep: version };
    if number % FILES_MAX as i64 == 0
        && let Err(error) = tidy(&table.log(), table.name(), version, Some(expiry)).await
    {
        // The rows are there; the next round of tidying may go better.
        tracing::warn!(table = %table.name(), %error, "the table was not tidied");
    }
}

/// Of the transactions of tables of records.
fn app_id(lake: &Lake) -> String {
    format!("{}/records", lake.pipeline())
}

struct Changes {
    removes: Vec<String>,
    /// In the place of the files that go, and new ones.
    rows: Vec<RecordBatch>,
}

/// Blocking.
fn changes(reader: &FileReader, files: &[DataFile], rows: &RecordBatch, key: &[String]) -> Result<Changes, LakeError> {
    let error = |e: arrow::error::ArrowError| LakeError::read(reader.table(), e);
    let mut changes = Changes { removes: Vec::new(), rows: Vec::new() };
    let Some(revision) = Revision::new(std::slice::from_ref(rows), key).map_err(error)? else { return Ok(changes) };
    let new = revision.apply(reader, files.iter(), |file, revised| {
        let schema = reader.schema();
        let before = concat_batches(schema, &reader.read(file, &reader.columns(), None)?).map_err(error)?;
        if before != concat_batches(schema, &revised).map_err(error)? {
            changes.removes.push(file.path.clone());
            changes.rows.extend(revised);
        }
        Ok::<_, LakeError>(())
    })?;
    changes.rows.push(new);
    let added = changes.rows.iter().any(|batch| batch.num_rows() > 0);
    if added && files.len() - changes.removes.len() >= FILES_MAX {
        for file in files.iter().filter(|file| !changes.removes.contains(&file.path)).collect::<Vec<_>>() {
            changes.rows.extend(reader.read(file, &reader.columns(), None)?);
            changes.removes.push(file.path.clone());
        }
    }
    Ok(changes)
}

/// What was decided by request, and on what grounds.
#[must_use]
pub fn predictions_table() -> TableName {
    TableName::new(Layer::Gold, "predictions")
}

/// The tables of records that the lake has, for readers.
pub(super) async fn record_tables(lake: &Lake) -> Result<Vec<TableName>, LakeError> {
    let layer = Layer::Ml.as_str();
    let found = lake.store()?.list_with_delimiter(Some(&Path::from(layer))).await;
    let found = found.map_err(|e| LakeError::Root { action: format!("listing {layer}"), cause: e.to_string() })?;
    let names = found.common_prefixes.iter().filter_map(|path| path.filename());
    let mut names: Vec<TableName> = names.filter_map(|name| format!("{layer}.{name}").parse().ok()).collect();
    names.push(predictions_table());
    let missing = super::presence::missing_tables(lake, &names).await?;
    Ok(names.into_iter().filter(|name| !missing.contains(name)).collect())
}

#[cfg(test)]
mod tests;
