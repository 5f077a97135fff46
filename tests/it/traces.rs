//! Epochs as OpenTelemetry's protocol tells them.

use std::collections::BTreeSet;
use std::sync::Arc;

use assay::domain::SystemClock;
use assay::pipeline::Target;
use assay::telemetry::Metrics;
use assay::telemetry::traces::proto::{AnyOf, ExportRequest, Span};
use assay::telemetry::traces::{EpochTraces, Exporter, SpanContext, TraceParts, TraceSettings, Traces};
use prost::Message;

use crate::fault::{FaultStore, Weather};
use crate::kit::{Cut, Lab, Msg, dirty, generated};

#[path = "../../src/telemetry/traces/receiver.rs"]
mod receiver;
use receiver::Receiver;

const EPOCH: usize = 150;

fn stream() -> Vec<Msg> {
    generated(dirty(3, 450)).0
}

fn traces(endpoint: String) -> (Traces, Exporter) {
    let clock = Arc::new(SystemClock);
    let settings = TraceSettings { endpoint, interval_ms: 5, ..TraceSettings::default() };
    let metrics = Arc::new(Metrics::new("test", clock.clone()).unwrap());
    let parts = TraceParts { metrics, clock, seed: [3; 16], resource: Vec::new() };
    let (traces, exporter) = Traces::start(&settings, parts).unwrap();
    (traces, exporter.unwrap())
}

/// What was told while `work` was done.
fn told(lab: &Lab, work: impl FnOnce(&Lab)) -> Vec<Span> {
    let receiver = Receiver::start();
    let (traces, exporter) = traces(receiver.url());
    work(&Lab { traces, ..lab.clone() });
    drop(exporter);
    let requests = receiver.received().into_iter().map(|got| ExportRequest::decode(&*got.body).unwrap());
    let spans: Vec<Span> = requests
        .flat_map(|request| request.resource_spans)
        .flat_map(|of| of.scope_spans)
        .flat_map(|of| of.spans)
        .collect();
    let ids: BTreeSet<_> = spans.iter().map(|span| (&span.trace_id, &span.span_id)).collect();
    assert_eq!(ids.len(), spans.len(), "a span was told twice");
    spans
}

fn root_of(lab: &Lab, epoch: i64) -> SpanContext {
    EpochTraces::of_lake(lab.open_lake().unwrap().hash_key()).of_epoch(epoch)
}

fn is(span: &Span, context: SpanContext) -> bool {
    span.trace_id == context.trace.0 && span.span_id == context.span.0
}

fn number(span: &Span, key: &str) -> i64 {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(AnyOf::Integer(number)) => number,
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

/// The children of the one root of an epoch, each within its time.
fn children<'a>(spans: &'a [Span], root: &Span) -> Vec<&'a Span> {
    let own: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == root.span_id).collect();
    for child in &own {
        assert_eq!(child.trace_id, root.trace_id, "{} is in another trace", child.name);
        assert!(
            root.start_time_unix_nano <= child.start_time_unix_nano
                && child.start_time_unix_nano <= child.end_time_unix_nano
                && child.end_time_unix_nano <= root.end_time_unix_nano,
            "{} is not within {}",
            child.name,
            root.name
        );
    }
    own
}

#[track_caller]
fn the_root<'a>(lab: &Lab, spans: &'a [Span], epoch: i64) -> &'a Span {
    let context = root_of(lab, epoch);
    let found: Vec<&Span> = spans.iter().filter(|span| is(span, context)).collect();
    assert_eq!(found.len(), 1, "epoch {epoch} has {} roots", found.len());
    found[0]
}

#[test]
fn each_epoch_is_one_trace_with_its_stages_and_the_figures_of_the_ledger() {
    let folder = tempfile::TempDir::new().unwrap();
    let lab = Lab::at(folder.path().display().to_string());
    let spans = told(&lab, |lab| lab.run(&stream(), &Cut { sizes: vec![50], messages_max: EPOCH as u64 }).unwrap());
    let records = lab.records();
    assert_eq!(records.len(), 3);
    assert_eq!(spans.iter().filter(|span| span.name == "epoch").count(), 3);
    for record in &records {
        let root = the_root(&lab, &spans, record.epoch);
        assert!(root.parent_span_id.is_empty() && root.status.is_none(), "{root:?}");
        assert_eq!(number(root, "assay.epoch"), record.epoch);
        assert_eq!(number(root, "assay.messages"), record.messages as i64);
        assert_eq!(number(root, "assay.silver_rows"), record.silver_rows as i64);
        assert_eq!(root.events.len(), record.ranges.len());
        let children = children(&spans, root);
        let names: BTreeSet<&str> = children.iter().map(|child| child.name.as_str()).collect();
        assert_eq!(names.len(), children.len(), "{names:?}");
        for stage in ["fetch", "decode", "silver", "scores", "windows", "encode", "store"] {
            assert!(names.contains(stage), "no {stage} in {names:?}");
        }
        for stage in record.stages.iter().filter(|stage| stage.stage != "commit") {
            let span = children.iter().find(|child| child.name == stage.stage).unwrap();
            assert_eq!(number(span, "assay.busy_us"), stage.micros, "{}", stage.stage);
        }
        for table in record.tables.iter().filter(|table| table.rows_added > 0) {
            let name = format!("commit {}", table.table);
            let commit = children.iter().find(|child| child.name == name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(number(commit, "assay.rows_added"), table.rows_added);
            assert_eq!(number(commit, "assay.table.version"), table.version);
        }
        assert!(names.contains("commit ops.epochs"));
    }
    // What is told changes nothing.
    lab.assert_verified();
}

#[test]
fn the_root_is_told_by_whoever_completes_the_epoch() {
    let folder = tempfile::TempDir::new().unwrap();
    let lab = Lab::at(folder.path().display().to_string());
    let ingested = told(&lab, |lab| lab.ingest(&stream(), &Cut::every(EPOCH)).unwrap());
    assert_eq!(ingested.iter().filter(|span| span.name == "ingest").count(), 3);
    assert!(ingested.iter().all(|span| span.name != "epoch"));
    let refined = told(&lab, |lab| assert_eq!(lab.refine(u64::MAX).unwrap(), 3));
    let whole = [ingested, refined].concat();
    for record in lab.records() {
        let root = the_root(&lab, &whole, record.epoch);
        let names: Vec<&str> = children(&whole, root).iter().map(|child| child.name.as_str()).collect();
        assert!(names.contains(&"ingest") && names.contains(&"silver") && !names.contains(&"fetch"), "{names:?}");
        let ingest = whole.iter().find(|span| span.name == "ingest" && span.trace_id == root.trace_id).unwrap();
        let names: Vec<&str> = children(&whole, ingest).iter().map(|child| child.name.as_str()).collect();
        assert!(names.contains(&"fetch") && names.contains(&"commit bronze.transactions"), "{names:?}");
    }
}

#[test]
fn an_epoch_that_fails_is_told_as_an_error_and_then_once_whole() {
    let store = FaultStore::named("traces");
    let lab = Lab::at("fault://traces/lake");
    lab.run(&stream()[..EPOCH], &Cut::every(EPOCH)).unwrap();
    store.set(Weather::Death { puts: 12, lands: false });
    let failed = told(&lab, |lab| drop(lab.run(&stream(), &Cut::every(EPOCH)).unwrap_err()));
    store.set(Weather::Fine);
    let errors: Vec<&Span> = failed.iter().filter(|span| span.name == "epoch" && span.status.is_some()).collect();
    assert!(!errors.is_empty(), "{:?}", failed.iter().map(|span| &span.name).collect::<Vec<_>>());
    for error in errors {
        let status = error.status.clone().unwrap();
        assert!(status.code == 2 && !status.message.is_empty(), "{status:?}");
        let epoch = number(error, "assay.epoch");
        assert!(!is(error, root_of(&lab, epoch)) && error.trace_id == root_of(&lab, epoch).trace.0);
        children(&failed, error);
    }
    let whole = told(&lab, |lab| lab.run(&stream(), &Cut::every(EPOCH)).unwrap());
    for record in lab.records().iter().filter(|record| record.epoch > 1) {
        assert!(the_root(&lab, &[failed.clone(), whole.clone()].concat(), record.epoch).status.is_none());
    }
}

#[test]
fn a_rebuild_is_a_trace_and_a_rewrite_is_linked_to_its_epoch() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut lab = Lab::at(folder.path().display().to_string());
    lab.compaction.fan_in = 2;
    let spans = told(&lab, |lab| lab.run(&stream(), &Cut::every(50)).unwrap());
    let roots: Vec<SpanContext> = lab.records().iter().map(|record| root_of(&lab, record.epoch)).collect();
    let rewrites: Vec<&Span> =
        spans.iter().filter(|span| ["compaction", "restatement"].contains(&span.name.as_str())).collect();
    assert!(!rewrites.is_empty());
    for rewrite in rewrites {
        assert!(rewrite.parent_span_id.is_empty() && rewrite.links.len() == 1, "{rewrite:?}");
        let link = &rewrite.links[0];
        assert!(roots.iter().any(|root| root.trace.0 == *link.trace_id && root.span.0 == *link.span_id));
        assert!(roots.iter().all(|root| root.trace.0 != *rewrite.trace_id));
    }
    let spans = told(&lab, |lab| drop(lab.rebuild(Target::Gold).unwrap()));
    let last = lab.records().pop().unwrap();
    let root = the_root(&lab, &spans, last.epoch);
    let names: Vec<&str> = children(&spans, root).iter().map(|child| child.name.as_str()).collect();
    assert!(names.contains(&"recompute") && names.contains(&"commit ops.epochs"), "{names:?}");
}

#[test]
fn a_receiver_that_is_gone_changes_no_table() {
    let (folder, other) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let plain = Lab::at(folder.path().display().to_string());
    plain.run(&stream(), &Cut::every(EPOCH)).unwrap();
    let gone = Receiver::start().url();
    let (traces, exporter) = traces(gone);
    let lab = Lab { traces, ..Lab::at(other.path().display().to_string()) };
    lab.run(&stream(), &Cut::every(EPOCH)).unwrap();
    drop(exporter);
    lab.contents().assert_equals(&plain.contents(), "with a receiver that is gone");
}
