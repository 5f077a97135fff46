//! Restatements, compaction, checkpoints and clean-up, in the same single writer between epochs: it conflicts with nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tokio::task::JoinHandle;

use super::tables::{Tables, is_open};
use super::traced::RewriteTold;
use crate::domain::{Clock, Stint, TableName};
use crate::lake::{
    Commit, Compaction, CompactionSettings, DataFile, Encoder, Expiry, FileReader, LakeError, Revision, Table,
    successor, tidy,
};

/// With the first of so many checkpoints of a table, what is old goes.
const CLEANED_CHECKPOINTS: u64 = 10;

/// Files that are read, encoded and stored beside the stream, to take the place of others.
struct Rewrite {
    table: TableName,
    /// The epoch up to which restatements are in the files then; `None` for a compaction.
    restated: Option<i64>,
    began_us: i64,
    thread: JoinHandle<Result<Rewritten, LakeError>>,
}

/// What a commit is to put in the place of what. The files are stored.
#[derive(Default)]
struct Rewritten {
    removes: Vec<String>,
    files: Vec<DataFile>,
}

/// What keeps commits and reads flat in the number of epochs.
pub struct Maintenance {
    settings: CompactionSettings,
    history_s: u64,
    clock: Arc<dyn Clock>,
    /// One at a time, so that no two want the same files.
    rewrite: Option<Rewrite>,
    checkpoints: Vec<JoinHandle<()>>,
    /// Window tables whose turn for restatements has come, and when the last round began.
    owed: VecDeque<TableName>,
    restated_at_us: i64,
    /// Where the search for the next merge goes on, so that no table waits for ever.
    turn: usize,
    epochs: u64,
}

impl Maintenance {
    #[must_use]
    pub fn new(settings: CompactionSettings, history_s: u64, clock: Arc<dyn Clock>) -> Self {
        let restated_at_us = clock.now_us();
        Self {
            settings,
            history_s,
            clock,
            rewrite: None,
            checkpoints: Vec::new(),
            owed: VecDeque::new(),
            restated_at_us,
            turn: 0,
            epochs: 0,
        }
    }

    /// Commits a rewrite that is ready, starts the next, and writes checkpoints that are due.
    ///
    /// Nothing here may stop the stream: what fails is logged and tried again later.
    pub fn after_epoch(&mut self, tables: &mut Tables) {
        self.epochs += 1;
        self.settle(tables, false);
        if self.rewrite.is_none() {
            self.start(tables);
        }
        self.checkpoint(tables);
    }

    /// Waits for what is under way, and puts every restatement that waits into its files.
    pub fn finish(&mut self, tables: &mut Tables) {
        for task in self.checkpoints.drain(..) {
            // What went wrong in it is in the log.
            let _ = tables.handle().block_on(task);
        }
        self.settle(tables, true);
        let names: Vec<TableName> = tables.windows.iter().map(|table| table.name().clone()).collect();
        for name in names {
            self.rewrite = restatement(tables, &name, self.clock.now_us());
            self.settle(tables, true);
        }
    }

    /// Rewrites until nothing is left to rewrite.
    pub fn settle_all(&mut self, tables: &mut Tables) {
        self.finish(tables);
        loop {
            self.rewrite = self.compaction(tables);
            if self.rewrite.is_none() {
                return;
            }
            self.settle(tables, true);
        }
    }

    fn start(&mut self, tables: &Tables) {
        let now_us = self.clock.now_us();
        let interval_us = i64::try_from(self.settings.restate_interval_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        if self.owed.is_empty() && now_us.saturating_sub(self.restated_at_us) >= interval_us {
            self.owed.extend(tables.windows.iter().map(|table| table.name().clone()));
            self.restated_at_us = now_us;
        }
        while let Some(name) = self.owed.pop_front() {
            self.rewrite = restatement(tables, &name, now_us);
            if self.rewrite.is_some() {
                return;
            }
        }
        self.rewrite = self.compaction(tables);
    }

    fn compaction(&mut self, tables: &Tables) -> Option<Rewrite> {
        let all: Vec<&Table> = tables.all().collect();
        for step in 0..all.len() {
            let turn = (self.turn + step) % all.len();
            let table = all[turn];
            let Some(compaction) = Compaction::next(table, &self.settings, is_open) else { continue };
            self.turn = turn + 1;
            let reader = tables.reader(table);
            let encoder = table.encoder();
            let began_us = self.clock.now_us();
            let now_ms = began_us / 1000;
            let thread = tables.handle().spawn_blocking(move || {
                let files = compaction.merge(&encoder, &reader, now_ms)?.into_iter().collect();
                Ok(Rewritten { removes: compaction.inputs.into_iter().map(|input| input.path).collect(), files })
            });
            return Some(Rewrite { table: table.name().clone(), restated: None, began_us, thread });
        }
        None
    }

    fn settle(&mut self, tables: &mut Tables, wait: bool) {
        let Some(rewrite) = self.rewrite.take_if(|rewrite| wait || rewrite.thread.is_finished()) else { return };
        let Rewrite { table: name, restated, began_us, thread } = rewrite;
        let (handle, tracer) = (tables.handle().clone(), tables.tracer().clone());
        let epoch = Some(tables.ledger.last_epoch()).filter(|epoch| *epoch > 0);
        let is_restatement = restated.is_some();
        let mut told =
            RewriteTold { table: &name, is_restatement, began_us, removed: 0, added: 0, commit: None, epoch };
        let rewritten = match handle.block_on(thread) {
            Ok(Ok(rewritten)) => rewritten,
            Ok(Err(error)) => {
                tracer.rewritten(&told, Some(error.to_string()));
                return tracing::warn!(%error, table = %name, "a rewrite of files failed and will be tried again");
            }
            Err(_) => return tracing::error!(table = %name, "a rewrite of files stopped without a word"),
        };
        let Some(table) = tables.all_mut().find(|table| *table.name() == name) else { return };
        if rewritten.removes.iter().any(|path| table.file(path).is_none()) {
            return tracing::debug!(table = %name, "a rewrite of files was overtaken");
        }
        let committing_us = self.clock.now_us();
        let now_ms = committing_us / 1000;
        (told.removed, told.added) = (rewritten.removes.len(), rewritten.files.len());
        let commit = Commit {
            epoch: None,
            restated,
            adds: rewritten.files,
            removes: rewritten.removes,
            info: serde_json::json!({"maintenance": if restated.is_some() { "restatement" } else { "compaction" }}),
        };
        let committed = handle.block_on(table.commit(&commit, now_ms));
        told.commit = Some(Stint::new(committing_us, self.clock.now_us()));
        tracer.rewritten(&told, committed.as_ref().err().map(ToString::to_string));
        match (committed, restated) {
            (Ok(_), Some(through)) => tables.settled(&name, through),
            (Ok(_), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, table = %name, "rewritten files could not be committed; it will be tried again");
            }
        }
    }

    /// Each table's turn comes at another epoch, so that no epoch pays for all.
    fn checkpoint(&mut self, tables: &Tables) {
        self.checkpoints.retain(|task| !task.is_finished());
        let every = self.settings.checkpoint_versions.max(1);
        for (index, table) in tables.all().enumerate() {
            if (self.epochs + index as u64 * 7).is_multiple_of(every) {
                let (log, name) = (table.log(), table.name().clone());
                let version = table.version();
                let is_clean_due = self.epochs % (every * CLEANED_CHECKPOINTS) < every;
                let expiry = is_clean_due.then(|| self.expiry(tables, table));
                let task = tables.handle().spawn(async move {
                    if let Err(error) = tidy(&log, &name, version, expiry).await {
                        tracing::warn!(%error, table = %name, "a checkpoint failed and will be tried again");
                    }
                });
                self.checkpoints.push(task);
            }
        }
    }

    /// What may go of a table: nothing that the newest complete epoch needs, nor what says how to complete the next ones.
    fn expiry(&self, tables: &Tables, table: &Table) -> Expiry {
        let named = tables.ledger.get(tables.ledger.last_epoch()).map(|record| {
            let tables = record.map(|record| record.tables).unwrap_or_default();
            let entry = tables.into_iter().find(|entry| entry.table == *table.name());
            entry.and_then(|entry| u64::try_from(entry.version).ok())
        });
        let keep = match named {
            // The ledger does not name itself, and is read as it is now.
            _ if table.name() == tables.ledger.table().name() => table.version(),
            Ok(version) => version.unwrap_or(0),
            Err(error) => {
                tracing::warn!(%error, table = %table.name(), "all entries of its log are kept");
                0
            }
        };
        Expiry { history_s: self.history_s, keep }
    }
}

/// Puts the restatements that wait for a table into its files.
fn restatement(tables: &Tables, name: &TableName, began_us: i64) -> Option<Rewrite> {
    let now_ms = began_us / 1000;
    let table = tables.windows.iter().find(|table| table.name() == name)?;
    let waiting = tables.waiting(name);
    let through = waiting.iter().map(|(epoch, _)| *epoch).max()?;
    let rows: Vec<_> = waiting.iter().map(|(_, rows)| rows.clone()).collect();
    let files: Vec<DataFile> = table.files().filter(|file| !is_open(file)).cloned().collect();
    let (reader, encoder, key) = (tables.reader(table), table.encoder(), tables.key(name).to_vec());
    let thread =
        tables.handle().spawn_blocking(move || restate(&rows, through, &key, &files, &reader, &encoder, now_ms));
    Some(Rewrite { table: name.clone(), restated: Some(through), began_us, thread })
}

fn restate(
    rows: &[RecordBatch],
    through: i64,
    key: &[String],
    files: &[DataFile],
    reader: &FileReader,
    encoder: &Encoder,
    now_ms: i64,
) -> Result<Rewritten, LakeError> {
    let mut rewritten = Rewritten::default();
    let Some(revision) = Revision::new(rows, key).map_err(|e| LakeError::read(reader.table(), e))? else {
        return Ok(rewritten);
    };
    let store = |rows: &[RecordBatch], name: &str, files: &mut Vec<DataFile>| {
        for encoded in encoder.encode(rows, name, now_ms)? {
            reader.store(&encoded)?;
            files.push(encoded.file);
        }
        Ok::<_, LakeError>(())
    };
    let new = revision.apply(reader, files.iter(), |file, rows| {
        rewritten.removes.push(file.path.clone());
        store(&rows, &successor(file, "r"), &mut rewritten.files)
    })?;
    store(&[new], &format!("e{through:012}-r-{}", uuid::Uuid::new_v4().simple()), &mut rewritten.files)?;
    Ok(rewritten)
}
