//! The trace of an epoch: its root, and below it a span for each stage and each commit.

use std::fmt::Display;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};

use super::error::PipelineError;
use super::work::EpochWork;
use crate::domain::{Clock, EpochKind, EpochRecord, Ranges, Stint, TableName, Timeline};
use crate::lake::EpochLedger;
use crate::telemetry::traces::{EpochTraces, Event, Kind, Span, SpanContext, Traces, Value};

/// Partitions, or files, that a trace names.
const PARTITIONS_MAX: usize = 64;

/// Tells what epochs took. Clones share everything; where traces are off it does nothing.
#[derive(Clone)]
pub struct EpochTracer {
    traces: Traces,
    epochs: EpochTraces,
    clock: Arc<dyn Clock>,
}

/// What is known of an epoch before it is written.
pub(super) struct Outline {
    epoch: i64,
    kind: EpochKind,
    is_recovered: bool,
    is_bronze_only: bool,
    began_us: i64,
    fetch: Option<Stint>,
    stages: Timeline,
    ranges: Ranges,
    messages: u64,
    bronze_rows: u64,
}

/// What the writer did, and when.
#[derive(Default)]
pub(super) struct Writing {
    pub stages: Timeline,
    pub commits: Vec<Committed>,
    /// What was tried again, and when.
    pub retries: Vec<(i64, String)>,
}

/// One commit to a table.
pub(super) struct Committed {
    pub table: TableName,
    pub stint: Stint,
    pub version: u64,
    pub rows: i64,
}

impl EpochTracer {
    /// Tells nobody.
    pub(super) fn off(epochs: EpochTraces, clock: Arc<dyn Clock>) -> Self {
        Self { traces: Traces::default(), epochs, clock }
    }

    pub(super) fn tell(&mut self, traces: Traces) {
        traces.follow_lake(self.epochs);
        self.traces = traces;
    }

    /// For lines of the log that are written while it is entered; nothing where traces are off.
    pub(super) fn log_span(&self, epoch: i64) -> tracing::Span {
        if !self.traces.is_on() {
            return tracing::Span::none();
        }
        let SpanContext { trace, span } = self.epochs.of_epoch(epoch);
        tracing::error_span!("epoch", epoch, trace_id = %trace, span_id = %span)
    }

    /// `None` where traces are off.
    pub(super) fn outline(&self, work: &EpochWork) -> Option<Outline> {
        self.traces.is_on().then(|| Outline {
            epoch: work.epoch,
            kind: work.kind.unwrap_or_default(),
            is_recovered: work.bronze_done,
            is_bronze_only: work.bronze_only,
            began_us: work.started_at_us,
            fetch: work.fetch,
            stages: work.stages.clone(),
            ranges: work.ranges.clone(),
            messages: work.messages,
            bronze_rows: work.bronze_rows,
        })
    }

    /// An epoch came to nothing before it was written. What another thread said already is not said again.
    pub(super) fn failed(&self, work: &EpochWork, error: &PipelineError) {
        if let Some(outline) = self.outline(work) {
            self.gave_up(outline, error);
        }
    }

    /// As [`Self::failed`], of an epoch that was handed on meanwhile.
    pub(super) fn gave_up(&self, outline: Outline, error: &PipelineError) {
        if !matches!(error, PipelineError::Thread(_)) {
            self.not_written(outline, &Writing::default(), error);
        }
    }

    /// An epoch could not be written.
    pub(super) fn not_written(&self, outline: Outline, writing: &Writing, error: &dyn Display) {
        // Not the root: the epoch is still to come, and may be cut in another way.
        let Some(context) = self.traces.new_span(self.epochs.of_epoch(outline.epoch).trace) else { return };
        let ended_us = self.clock.now_us();
        let root = outline.root(context, "epoch", ended_us).failed(Some(error.to_string()));
        self.send(root, &outline, writing);
    }

    /// An epoch was written.
    pub(super) fn written(&self, outline: Outline, writing: &Writing, record: &EpochRecord) {
        let root = self.epochs.of_epoch(outline.epoch);
        let ended_us = self.clock.now_us();
        let told = if outline.is_bronze_only {
            // Who makes silver and gold of it tells the root.
            let Some(context) = self.traces.new_span(root.trace) else { return };
            outline.root(context, "ingest", ended_us).child_of(root.span)
        } else {
            let mut told = outline.root(root, "epoch", ended_us);
            told.attributes.extend(counts(record));
            told
        };
        self.send(told, &outline, writing);
    }

    fn send(&self, mut root: Span, outline: &Outline, writing: &Writing) {
        let child = |name: String, stint: Stint| {
            let context = self.traces.new_span(root.context.trace)?;
            let span = Span::new(context, name, stint.began_us, stint.ended_us).child_of(root.context.span);
            let span = span.with("assay.busy_us", stint.busy_us);
            Some(if stint.times > 1 { span.with("assay.times", stint.times) } else { span })
        };
        let fetch = outline.fetch.and_then(|stint| child("fetch".to_owned(), stint));
        let fetch = fetch.map(|span| outline.of_broker(span));
        let stages = outline.stages.iter().chain(writing.stages.iter());
        let stages = stages.filter_map(|(stage, stint)| child(stage.to_owned(), stint));
        let commits = writing.commits.iter().filter_map(|commit| {
            let span = child(format!("commit {}", commit.table), commit.stint)?;
            Some(
                span.with("db.system.name", "delta_lake")
                    .with("db.operation.name", "commit")
                    .with("db.collection.name", commit.table.to_string())
                    .with("assay.table.version", commit.version)
                    .with("assay.rows_added", commit.rows),
            )
        });
        let mut children: Vec<Span> = fetch.into_iter().chain(stages).chain(commits).collect();
        if outline.is_bronze_only {
            // The root is told later, and begins at the instant that bronze holds: nothing of it may be earlier.
            for child in &mut children {
                child.began_us = child.began_us.max(root.began_us);
                child.ended_us = child.ended_us.max(root.began_us);
            }
        }
        // Messages are fetched before the first of them begins the epoch, and clocks may be set back.
        root.began_us = children.iter().map(|span| span.began_us).fold(root.began_us, i64::min);
        root.ended_us = children.iter().map(|span| span.ended_us).fold(root.ended_us, i64::max);
        for (at_us, error) in &writing.retries {
            let attributes = vec![("exception.message", Value::from(error.clone()))];
            root.events.push(Event { name: "retry", at_us: *at_us, attributes });
        }
        self.traces.send(std::iter::once(root).chain(children).collect());
    }

    /// Files of a table were rewritten beside the stream: a trace of its own, linked to the epoch after which it was
    /// committed.
    pub(super) fn rewritten(&self, rewrite: &RewriteTold<'_>, error: Option<String>) {
        let Some(context) = self.traces.new_root() else { return };
        let name = if rewrite.is_restatement { "restatement" } else { "compaction" };
        let mut root = Span::new(context, name, rewrite.began_us, self.clock.now_us())
            .with("db.system.name", "delta_lake")
            .with("db.collection.name", rewrite.table.to_string())
            .with("assay.files.removed", rewrite.removed)
            .with("assay.files.added", rewrite.added)
            .failed(error);
        root.links = rewrite.epoch.into_iter().map(|epoch| self.epochs.of_epoch(epoch)).collect();
        let commit = rewrite.commit.and_then(|stint| {
            let context = self.traces.new_span(context.trace)?;
            let name = format!("commit {}", rewrite.table);
            Some(Span::new(context, name, stint.began_us, stint.ended_us).child_of(root.context.span))
        });
        self.traces.send(std::iter::once(root).chain(commit).collect());
    }

    /// A rebuild became an epoch: its stages and commits.
    pub(super) fn rebuilt(&self, record: &EpochRecord, writing: &Writing) {
        let outline = self.traces.is_on().then(|| Outline {
            epoch: record.epoch,
            kind: record.kind,
            is_recovered: false,
            is_bronze_only: false,
            began_us: record.started_at_us,
            fetch: None,
            stages: Timeline::default(),
            ranges: Ranges::new(),
            messages: 0,
            bronze_rows: 0,
        });
        if let Some(outline) = outline {
            self.written(outline, writing, record);
        }
    }
}

/// What is told of a rewrite.
pub(super) struct RewriteTold<'a> {
    pub table: &'a TableName,
    pub is_restatement: bool,
    pub began_us: i64,
    pub removed: usize,
    pub added: usize,
    pub commit: Option<Stint>,
    pub epoch: Option<i64>,
}

impl Outline {
    fn root(&self, context: SpanContext, name: &'static str, ended_us: i64) -> Span {
        let mut root = Span::new(context, name, self.began_us, ended_us)
            .with("assay.epoch", self.epoch)
            .with("assay.epoch.kind", self.kind.as_str())
            .with("assay.messages", self.messages)
            .with("assay.bronze_rows", self.bronze_rows);
        if self.is_recovered {
            root = root.with("assay.epoch.is_recovered", true);
        }
        let read = self.ranges.iter().take(PARTITIONS_MAX).map(|(partition, range)| Event {
            name: "read",
            at_us: self.began_us,
            attributes: vec![
                ("messaging.destination.name", partition.topic.to_string().into()),
                ("messaging.destination.partition.id", partition.partition.to_string().into()),
                ("assay.offset.first", range.first.into()),
                ("assay.offset.next", range.next.into()),
                ("assay.messages", range.messages.into()),
            ],
        });
        root.events = read.collect();
        root.events_dropped = u32::try_from(self.ranges.len() - root.events.len()).unwrap_or(u32::MAX);
        root
    }

    fn of_broker(&self, fetch: Span) -> Span {
        let fetch = fetch
            .of_kind(Kind::Consumer)
            .with("messaging.system", "kafka")
            .with("messaging.operation.name", "poll")
            .with("messaging.operation.type", "receive")
            .with("messaging.batch.message_count", self.messages);
        let mut topics = self.ranges.keys().map(|partition| &partition.topic);
        match topics.next() {
            Some(topic) if topics.all(|other| other == topic) => {
                fetch.with("messaging.destination.name", topic.to_string())
            }
            _ => fetch,
        }
    }
}

/// What the ledger says of an epoch.
fn counts(record: &EpochRecord) -> Vec<(&'static str, Value)> {
    let mut counts = vec![
        ("assay.dead_letters", record.dead_letters.into()),
        ("assay.silver_rows", record.silver_rows.into()),
        ("assay.duplicates", record.duplicates.into()),
        ("assay.quarantined", record.quarantined.into()),
        ("assay.late_rows", record.late_rows.into()),
        ("assay.restated_rows", record.restated_rows.into()),
    ];
    let watermark = record.watermark_us.and_then(DateTime::from_timestamp_micros);
    counts.extend(watermark.map(|at| ("assay.watermark", at.to_rfc3339_opts(SecondsFormat::Micros, true).into())));
    counts
}

/// The commit that makes an epoch complete.
pub(super) fn of_ledger(stint: Stint, version: u64) -> Committed {
    Committed { table: EpochLedger::table_name(), stint, version, rows: 1 }
}
