use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::{OnlineMetrics, RoleMetrics, resident_memory_bytes};
use crate::domain::{Clock, EpochRecord, Partition, Reason, Stage, TableName};

/// Stages and commits: from a millisecond (one small file) to a minute (a store that struggles).
const WORK_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Freshness: fine around the second that a commit takes, coarse up to the hour of a backlog.
const FRESHNESS_BUCKETS: &[f64] =
    &[0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
/// Requests: from 50 µs (one transaction) to ten seconds (the limit of a request).
const REQUEST_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
const NO_WATERMARK: i64 = i64::MIN;

/// A metric could not be registered or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("a metric cannot be registered: {0}")]
    Register(#[source] prometheus::Error),
    #[error("the metrics cannot be written as text: {0}")]
    Encode(#[source] prometheus::Error),
}

/// The instruments of one pipeline, in a registry of their own.
///
/// Every method may be called from any thread and takes well under a microsecond; call them per batch, not per row.
pub struct Metrics {
    registry: Registry,
    clock: Arc<dyn Clock>,
    catalog: Vec<(String, String)>,
    messages: IntCounterVec,
    message_bytes: IntCounterVec,
    rows: IntCounterVec,
    rejected: IntCounterVec,
    quarantined: IntCounterVec,
    warned: IntCounterVec,
    duplicates: IntCounter,
    late_rows: IntCounter,
    restated_rows: IntCounterVec,
    epoch: IntGauge,
    epoch_seconds: HistogramVec,
    commit_seconds: HistogramVec,
    commit_failures: IntCounterVec,
    consumer_lag: IntGaugeVec,
    watermark_us: AtomicI64,
    watermark_lag: Gauge,
    freshness: Histogram,
    queue_depth: IntGaugeVec,
    queue_capacity: IntGaugeVec,
    cache_bytes: IntGaugeVec,
    panes_reloaded: IntGauge,
    /// Absent where the system does not tell: a zero would be a lie.
    resident_memory: Option<IntGauge>,
    source_connected: IntGauge,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    predictions: IntCounterVec,
    predictions_refused: IntCounterVec,
    predictions_degraded: IntCounter,
    roles: RoleMetrics,
    receipts: IntCounterVec,
    stream_scored: IntCounterVec,
    stream_score_seconds: Histogram,
    features_epoch: IntGauge,
    online: OnlineMetrics,
    sql_connections: IntGaugeVec,
    sql_statements: IntCounterVec,
    sql_errors: IntCounterVec,
    sql_rows: IntCounterVec,
    sql_seconds: HistogramVec,
    console_questions: IntCounterVec,
    console_seconds: HistogramVec,
    trace_spans: IntCounterVec,
}

impl Metrics {
    /// `version` becomes the label of `assay_build_info`; `clock` is what the watermark's lag is measured against.
    ///
    /// # Errors
    /// When a metric cannot be registered, which only two of the same name could cause.
    #[rustfmt::skip]
    pub fn new(version: &str, clock: Arc<dyn Clock>) -> Result<Self, MetricsError> {
        let mut make = Maker { registry: Registry::new(), catalog: Vec::new() };
        let build_info = make.gauges("assay_build_info", "Always 1; the label is the version of assay.", &["version"])?;
        build_info.with_label_values(&[version]).set(1);
        let resident_memory = match resident_memory_bytes() {
            Some(_) => Some(make.gauge("assay_resident_memory_bytes", "Physical memory in use, in bytes.")?),
            None => None,
        };
        let metrics = Self {
            messages: make.counters("assay_messages_total", "Messages read from the source.", &["topic"])?,
            message_bytes: make.counters("assay_message_bytes_total", "Bytes of keys and payloads read from the source.", &["topic"])?,
            rows: make.counters("assay_rows_total", "Rows added to a table by published epochs.", &["table"])?,
            rejected: make.counters("assay_rejected_total", "Messages that became dead letters.", &["stage", "reason"])?,
            quarantined: make.counters("assay_quarantined_total", "Rows that broke an expectation and went to quarantine; a row that breaks two counts under both.", &["expectation"])?,
            warned: make.counters("assay_warned_total", "Rows that broke an expectation and went on.", &["expectation"])?,
            duplicates: make.counter("assay_duplicates_total", "Rows left out because their key was known.")?,
            late_rows: make.counter("assay_late_rows_total", "Rows with an event time behind the watermark.")?,
            restated_rows: make.counters("assay_restated_rows_total", "Rows of closed windows written anew because of late rows.", &["table"])?,
            epoch: make.gauge("assay_epoch", "The number of the latest published epoch.")?,
            epoch_seconds: make.histograms("assay_epoch_seconds", "Seconds that a stage of an epoch took.", &["stage"])?,
            commit_seconds: make.histograms("assay_commit_seconds", "Seconds that a commit to a table took.", &["table"])?,
            commit_failures: make.counters("assay_commit_failures_total", "Commits to a table that failed, retried or not.", &["table"])?,
            consumer_lag: make.gauges("assay_consumer_lag", "Messages of a partition still to be read.", &["topic", "partition"])?,
            watermark_us: AtomicI64::new(NO_WATERMARK),
            watermark_lag: make.float_gauge("assay_watermark_lag_seconds", "Seconds from the watermark to now; NaN before the first valid row.")?,
            freshness: make.histogram("assay_freshness_seconds", "Seconds from an event's time of production to its committed gold.", FRESHNESS_BUCKETS)?,
            queue_depth: make.gauges("assay_queue_depth", "Items waiting in a bounded queue.", &["queue"])?,
            queue_capacity: make.gauges("assay_queue_capacity", "Items that a bounded queue can hold.", &["queue"])?,
            cache_bytes: make.gauges("assay_cache_bytes", "Memory of what a stage remembers of the past, estimated.", &["cache"])?,
            panes_reloaded: make.gauge("assay_window_panes_reloaded", "Panes of closed windows read from silver again for late rows, since the start.")?,
            resident_memory,
            source_connected: make.gauge("assay_source_connected", "1 while the source answers, else 0.")?,
            requests: make.counters("assay_requests_total", "Requests to score, by route and status.", &["route", "status"])?,
            request_seconds: make.request_histograms("assay_request_seconds", "Seconds from a request to score to its answer.", &["route"])?,
            predictions: make.counters("assay_predictions_total", "Transactions scored by request; the version is that of the model, `pinned` where a request named it, or `rules` where they decided alone.", &["version", "decision"])?,
            predictions_refused: make.counters("assay_predictions_refused_total", "Transactions of requests that do not fit the contract or break an expectation, by the first reason.", &["reason"])?,
            predictions_degraded: make.counter("assay_predictions_degraded_total", "Transactions scored by the rules alone, because the model or features were missing.")?,
            roles: RoleMetrics::make(&mut make)?,
            receipts: make.counters("assay_receipts_total", "Receipts of decisions: kept in gold.predictions, shed because too many waited, or lost because the process ended before the lake took them.", &["outcome"])?,
            stream_scored: make.counters("assay_stream_scored_total", "Transactions of the stream that were scored as they came, by who decided: the model, or the rules alone.", &["decided_by"])?,
            stream_score_seconds: make.histogram("assay_stream_score_seconds", "Seconds from the production of the oldest event of a micro-batch to its score, handed to the topic of predictions.", WORK_BUCKETS)?,
            features_epoch: make.gauge("assay_features_epoch", "The epoch of the lake that requests are scored with.")?,
            online: OnlineMetrics::make(&mut make)?,
            sql_connections: make.gauges("assay_sql_connections", "Connections of clients that ask in SQL, by how they speak: `postgres` or `flight`.", &["protocol"])?,
            sql_statements: make.counters("assay_sql_statements_total", "Queries of clients, by how they ended.", &["outcome", "protocol"])?,
            sql_errors: make.counters("assay_sql_errors_total", "Errors told to clients, by SQLSTATE.", &["protocol", "sqlstate"])?,
            sql_rows: make.counters("assay_sql_rows_total", "Rows sent to clients.", &["protocol"])?,
            sql_seconds: make.request_histograms("assay_sql_seconds", "Seconds from a query of a client to its last row.", &["outcome", "protocol"])?,
            console_questions: make.counters("assay_console_questions_total", "Questions of the console, by the view that asked and how they ended.", &["view", "outcome"])?,
            console_seconds: make.histograms_of("assay_console_seconds", "Seconds from a question of the console to its answer, with waiting for a turn.", &["view"], WORK_BUCKETS)?,
            trace_spans: make.counters("assay_trace_spans_total", "Spans of traces: sent, shed because too many waited, or lost because the receiver took none.", &["outcome"])?,
            registry: make.registry,
            catalog: make.catalog,
            clock,
        };
        Ok(metrics)
    }

    /// Name and help of every metric, also of those that have no value yet.
    #[must_use]
    pub fn catalog(&self) -> &[(String, String)] {
        &self.catalog
    }

    /// Everything in Prometheus text format 0.0.4; what depends on the time of asking is measured now.
    ///
    /// # Errors
    /// When the encoder refuses a metric.
    pub fn render(&self) -> Result<String, MetricsError> {
        self.watermark_lag.set(self.watermark_lag_seconds());
        if let (Some(gauge), Some(bytes)) = (&self.resident_memory, resident_memory_bytes()) {
            gauge.set(signed(bytes));
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encode)
    }

    /// A micro-batch was read: its messages, and the bytes of their keys and payloads.
    pub fn messages_read(&self, topic: &str, messages: u64, bytes: u64) {
        self.messages.with_label_values(&[topic]).inc_by(messages);
        self.message_bytes.with_label_values(&[topic]).inc_by(bytes);
    }

    /// Messages became dead letters.
    pub fn rejected(&self, stage: Stage, reason: Reason, messages: u64) {
        self.rejected.with_label_values(&[stage.as_str(), reason.as_str()]).inc_by(messages);
    }

    /// Rows broke this expectation and went to quarantine.
    pub fn quarantined(&self, expectation: &str, rows: u64) {
        self.quarantined.with_label_values(&[expectation]).inc_by(rows);
    }

    /// Rows broke this expectation and went on.
    pub fn warned(&self, expectation: &str, rows: u64) {
        self.warned.with_label_values(&[expectation]).inc_by(rows);
    }

    /// Rows of closed windows were written anew.
    pub fn restated(&self, table: &TableName, rows: u64) {
        self.restated_rows.with_label_values(&[table.to_string()]).inc_by(rows);
    }

    /// An epoch is complete: its number, rows by table, duplicates, late rows, stage times and watermark.
    ///
    /// What has labels that the record does not know (topics, reasons, expectations, restated tables) is counted by
    /// the other methods.
    pub fn epoch_published(&self, record: &EpochRecord) {
        self.epoch.set(record.epoch);
        for table in &record.tables {
            self.rows
                .with_label_values(&[table.table.to_string()])
                .inc_by(u64::try_from(table.rows_added).unwrap_or(0));
        }
        self.duplicates.inc_by(record.duplicates);
        self.late_rows.inc_by(record.late_rows);
        for time in &record.stages {
            self.stage_took(time.stage, Duration::from_micros(u64::try_from(time.micros).unwrap_or(0)));
        }
        if let Some(watermark_us) = record.watermark_us {
            self.set_watermark(watermark_us);
        }
    }

    /// The state that a start found in the lake: the latest complete epoch and its watermark.
    pub fn resumed_at(&self, epoch: i64, watermark_us: Option<i64>) {
        self.epoch.set(epoch);
        if let Some(watermark_us) = watermark_us {
            self.set_watermark(watermark_us);
        }
    }

    /// A stage that is not in an [`EpochRecord`] took this long.
    pub fn stage_took(&self, stage: &str, time: Duration) {
        self.epoch_seconds.with_label_values(&[stage]).observe(time.as_secs_f64());
    }

    /// A commit to a table succeeded after this long.
    pub fn committed(&self, table: &TableName, time: Duration) {
        self.commit_seconds.with_label_values(&[table.to_string()]).observe(time.as_secs_f64());
    }

    /// A commit to a table failed.
    pub fn commit_failed(&self, table: &TableName) {
        self.commit_failures.with_label_values(&[table.to_string()]).inc();
    }

    /// Messages of a partition still to be read.
    pub fn set_lag(&self, partition: &Partition, messages: i64) {
        let number = partition.partition.to_string();
        self.consumer_lag.with_label_values(&[&*partition.topic, &number]).set(messages);
    }

    /// The partition now belongs to another consumer, which tells its lag.
    pub fn forget_partition(&self, partition: &Partition) {
        let number = partition.partition.to_string();
        // It fails when the lag was never told, and then there is nothing to forget.
        let _ = self.consumer_lag.remove_label_values(&[&*partition.topic, &number]);
    }

    /// Microseconds since 1970, UTC.
    pub fn set_watermark(&self, watermark_us: i64) {
        self.watermark_us.store(watermark_us, Ordering::Relaxed);
    }

    /// Seconds from the production of events to their committed gold, of all events of an epoch or of a sample.
    pub fn fresh(&self, seconds: impl IntoIterator<Item = f64>) {
        let local = self.freshness.local();
        seconds.into_iter().for_each(|value| local.observe(value));
        local.flush();
    }

    /// Transactions of the stream were scored, by the model and by the rules alone.
    pub fn stream_scored(&self, by_model: u64, by_rules: u64) {
        for (decided_by, rows) in [("model", by_model), ("rules", by_rules)] {
            if rows > 0 {
                self.stream_scored.with_label_values(&[decided_by]).inc_by(rows);
            }
        }
    }

    /// Seconds from the production of the oldest event of a micro-batch to its score.
    pub fn stream_score_delay(&self, seconds: f64) {
        self.stream_score_seconds.observe(seconds);
    }

    /// Items waiting in a bounded queue, and how many it can hold.
    pub fn set_queue(&self, queue: &str, depth: usize, capacity: usize) {
        self.queue_depth.with_label_values(&[queue]).set(signed(depth as u64));
        self.queue_capacity.with_label_values(&[queue]).set(signed(capacity as u64));
    }

    /// Memory of what a stage remembers of the past.
    pub fn set_cache(&self, cache: &str, bytes: usize) {
        self.cache_bytes.with_label_values(&[cache]).set(signed(bytes as u64));
    }

    /// Panes of closed windows that were read from silver again for late rows, since the start.
    pub fn set_panes_reloaded(&self, panes: u64) {
        self.panes_reloaded.set(signed(panes));
    }

    pub fn set_source_connected(&self, connected: bool) {
        self.source_connected.set(i64::from(connected));
    }

    /// A request to score was answered.
    pub fn request_answered(&self, route: &str, status: &str, time: Duration) {
        self.requests.with_label_values(&[route, status]).inc();
        self.request_seconds.with_label_values(&[route]).observe(time.as_secs_f64());
    }

    /// Transactions were scored by this version of the model, by one that was `pinned`, or by the `rules`.
    pub fn predicted(&self, version: &str, decision: &str, transactions: u64) {
        self.predictions.with_label_values(&[version, decision]).inc_by(transactions);
    }

    /// Transactions of requests were refused.
    pub fn prediction_refused(&self, reason: &str, transactions: u64) {
        self.predictions_refused.with_label_values(&[reason]).inc_by(transactions);
    }

    /// Transactions were scored without the model or without all features.
    pub fn predictions_degraded(&self, transactions: u64) {
        self.predictions_degraded.inc_by(transactions);
    }

    /// The features in Redis.
    #[must_use]
    pub fn online(&self) -> &OnlineMetrics {
        &self.online
    }

    /// The versions of a model, by the roles that they answer in.
    #[must_use]
    pub fn roles(&self) -> &RoleMetrics {
        &self.roles
    }

    /// So many clients of this protocol are connected.
    pub fn set_sql_connections(&self, protocol: &str, connections: usize) {
        self.sql_connections.with_label_values(&[protocol]).set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// So many clients of this protocol came, or went.
    pub fn sql_connected(&self, protocol: &str, more: i64) {
        self.sql_connections.with_label_values(&[protocol]).add(more);
    }

    /// A query of a client ended.
    pub fn sql_statement(&self, protocol: &str, outcome: &str, rows: u64, time: Duration) {
        self.sql_statements.with_label_values(&[outcome, protocol]).inc();
        self.sql_rows.with_label_values(&[protocol]).inc_by(rows);
        self.sql_seconds.with_label_values(&[outcome, protocol]).observe(time.as_secs_f64());
    }

    /// A client was told of an error.
    pub fn sql_error(&self, protocol: &str, sqlstate: &str) {
        self.sql_errors.with_label_values(&[protocol, sqlstate]).inc();
    }

    /// A question of the console ended, within `time`.
    pub fn console_question(&self, view: &str, outcome: &str, time: Duration) {
        self.console_questions.with_label_values(&[view, outcome]).inc();
        self.console_seconds.with_label_values(&[view]).observe(time.as_secs_f64());
    }

    /// Receipts of decisions were kept, shed or lost.
    pub fn receipts(&self, outcome: &str, receipts: u64) {
        self.receipts.with_label_values(&[outcome]).inc_by(receipts);
    }

    /// How many receipts had this outcome so far.
    #[must_use]
    pub fn receipts_so_far(&self, outcome: &str) -> u64 {
        self.receipts.with_label_values(&[outcome]).get()
    }

    /// Spans of traces were sent, shed or lost.
    pub fn trace_spans(&self, outcome: &str, spans: u64) {
        if spans > 0 {
            self.trace_spans.with_label_values(&[outcome]).inc_by(spans);
        }
    }

    /// The epoch of the features that requests are scored with.
    pub fn set_features_epoch(&self, epoch: i64) {
        self.features_epoch.set(epoch);
    }

    #[allow(clippy::cast_precision_loss, reason = "a lag is far below 2^53 µs, which is 285 years")]
    fn watermark_lag_seconds(&self) -> f64 {
        match self.watermark_us.load(Ordering::Relaxed) {
            NO_WATERMARK => f64::NAN,
            watermark_us => self.clock.now_us().saturating_sub(watermark_us) as f64 / 1e6,
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("metrics", &self.catalog.len()).finish_non_exhaustive()
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) struct Maker {
    registry: Registry,
    catalog: Vec<(String, String)>,
}

impl Maker {
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.keep(IntCounter::new(name, help))
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.keep(IntGauge::new(name, help))
    }

    pub(super) fn float_gauge(&mut self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.keep(Gauge::new(name, help))
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    fn histograms(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        self.histograms_of(name, help, labels, WORK_BUCKETS)
    }

    pub(super) fn histograms_of(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    fn request_histograms(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        self.histograms_of(name, help, labels, REQUEST_BUCKETS)
    }

    fn keep<C: Collector + Clone + 'static>(&mut self, made: prometheus::Result<C>) -> Result<C, MetricsError> {
        let collector = made.map_err(MetricsError::Register)?;
        let described = collector.desc();
        self.catalog.extend(described.iter().map(|desc| (desc.fq_name.clone(), desc.help.clone())));
        self.registry.register(Box::new(collector.clone())).map_err(MetricsError::Register)?;
        Ok(collector)
    }
}
