//! Compaction, checkpoints and clean-up, in the same single writer between epochs: it conflicts with nothing.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::tables::{Tables, is_open};
use crate::domain::{Clock, TableName};
use crate::lake::{Commit, Compaction, CompactionSettings, Encoded, LakeError, Table, tidy};

/// A merge that is read and encoded beside the stream.
struct Merge {
    table: TableName,
    compaction: Compaction,
    thread: JoinHandle<Result<Vec<Encoded>, LakeError>>,
}

/// What keeps commits and reads flat in the number of epochs.
pub struct Maintenance {
    settings: CompactionSettings,
    history_s: u64,
    clock: Arc<dyn Clock>,
    merge: Option<Merge>,
    /// Where the search for the next merge goes on, so that no table waits for ever.
    turn: usize,
    epochs: u64,
}

impl Maintenance {
    #[must_use]
    pub fn new(settings: CompactionSettings, history_s: u64, clock: Arc<dyn Clock>) -> Self {
        Self { settings, history_s, clock, merge: None, turn: 0, epochs: 0 }
    }

    /// Commits a merge that is ready, starts the next, and writes checkpoints that are due.
    ///
    /// Nothing here may stop the stream: what fails is logged and tried again later.
    pub fn after_epoch(&mut self, tables: &mut Tables) {
        self.epochs += 1;
        self.settle(tables, false);
        if self.merge.is_none() {
            self.start(tables);
        }
        self.checkpoint(tables);
    }

    /// Waits for a merge under way.
    pub fn finish(&mut self, tables: &mut Tables) {
        self.settle(tables, true);
    }

    /// Merges until nothing is left to merge.
    pub fn settle_all(&mut self, tables: &mut Tables) {
        loop {
            self.settle(tables, true);
            self.start(tables);
            if self.merge.is_none() {
                return;
            }
        }
    }

    fn start(&mut self, tables: &Tables) {
        let all: Vec<&Table> = tables.all().collect();
        for step in 0..all.len() {
            let turn = (self.turn + step) % all.len();
            let table = all[turn];
            let Some(compaction) = Compaction::next(table, &self.settings, is_open) else { continue };
            self.turn = turn + 1;
            let reader = tables.reader(table);
            let spec = table.encoder();
            let job = compaction.clone();
            let now_ms = self.clock.now_us() / 1000;
            let thread = std::thread::spawn(move || job.merge(&spec, &reader, now_ms));
            self.merge = Some(Merge { table: table.name().clone(), compaction, thread });
            return;
        }
    }

    fn settle(&mut self, tables: &mut Tables, wait: bool) {
        let Some(merge) = self.merge.take_if(|merge| wait || merge.thread.is_finished()) else { return };
        let Merge { table: name, compaction, thread } = merge;
        let encoded = match thread.join() {
            Ok(Ok(encoded)) => encoded,
            Ok(Err(error)) => {
                return tracing::warn!(%error, table = %name, "a compaction failed and will be tried again");
            }
            Err(_) => return tracing::error!(table = %name, "a compaction stopped without a word"),
        };
        let handle = tables.handle().clone();
        let Some(table) = tables.all_mut().find(|table| *table.name() == name) else { return };
        if compaction.inputs.iter().any(|input| table.file(&input.path).is_none()) {
            return tracing::debug!(table = %name, "a compaction was overtaken by a restatement");
        }
        let now_ms = self.clock.now_us() / 1000;
        let commit = Commit {
            epoch: None,
            adds: encoded.iter().map(|encoded| encoded.file.clone()).collect(),
            removes: compaction.inputs.iter().map(|input| input.path.clone()).collect(),
            info: serde_json::json!({"maintenance": "compaction"}),
        };
        let done = handle.block_on(async {
            table.store_files(&encoded).await?;
            table.commit(&commit, now_ms).await
        });
        if let Err(error) = done {
            tracing::warn!(%error, table = %name, "a compaction could not be committed and will be tried again");
        }
    }

    /// Each table's turn comes at another epoch, so that no epoch pays for all.
    fn checkpoint(&mut self, tables: &Tables) {
        let every = self.settings.checkpoint_versions.max(1);
        for (index, table) in tables.all().enumerate() {
            if (self.epochs + index as u64 * 7).is_multiple_of(every) {
                let (log, name) = (table.log(), table.name().clone());
                let version = table.version();
                let history_s = self.history_s;
                let clean = self.epochs % (every * 10) < every;
                tables.handle().spawn(async move {
                    if let Err(error) = tidy(&log, &name, version, history_s, clean).await {
                        tracing::warn!(%error, table = %name, "a checkpoint failed and will be tried again");
                    }
                });
            }
        }
    }
}
