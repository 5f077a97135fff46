//! A whole pipeline in one process: messages made by the generator, a scripted source, a clock that ticks when it is read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use assay::contract::{Contract, Decoder, Format, LocalSchemas};
use assay::domain::{Clock, EpochRecord, Header, MessageBatch, MessageBatchBuilder, Positions, schema};
use assay::generate::{Counts, GenerateSettings, Generator};
use assay::lake::{CompactionSettings, FileHistory, Lake, LakeSettings, Lease, Session, Table, open_session};
use assay::pipeline::{
    Compiled, EpochSettings, Layout, Maintenance, MessageFeed, PipelineError, Plan, Progress, Reach, Recall, RowScorer,
    StageSettings, Stages, Stream, Subject, Tables, Target, Verification, bronze_name, bronze_schema, next_positions,
    rebuild, refine_pending, verify,
};
use assay::refine::{Catalog, RefineSettings, functions};
use assay::source::{Polled, Source, SourceError};
use assay::telemetry::Metrics;
use assay::telemetry::traces::Traces;
use tokio::runtime::{Builder, Runtime};

pub const TOPIC: &str = "shop";
/// 2026-01-06T12:00:00Z: after every valid event that the tests make.
pub const NOON_US: i64 = 1_767_700_800_000_000;
/// Columns that tell when and in which epoch a row came: they follow from the cut.
///
/// Features of a merchant or device are among them: who came first is up to how partitions were interleaved.
const OF_THE_CUT: [&str; 9] = [
    schema::EPOCH,
    schema::INGESTED_AT,
    schema::PROCESSING_DATE,
    "merchant_count_24h",
    "merchant_amount_24h",
    "merchant_fraud_rate_30d",
    "device_count_24h",
    "device_amount_24h",
    "device_fraud_rate_30d",
];

pub static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));
static CONTRACT: LazyLock<Arc<Contract>> = LazyLock::new(|| Arc::new(Contract::embedded().expect("the contract")));
pub static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let bronze = bronze_name(CONTRACT.name());
    let catalog = Catalog::load(None, std::slice::from_ref(&bronze)).expect("the SQL files");
    Plan::new(catalog, bronze, bronze_schema(&CONTRACT)).expect("a plan")
});

static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let compiled = Compiled::new(&PLAN, &StageSettings::default(), [0, 0]).expect("SQL that can be run");
    compiled.layout(CONTRACT.evolved_columns())
});

pub fn wait_for<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Moves on a little whenever it is read, so that deadlines pass and two moments differ.
#[derive(Debug)]
pub struct Ticking(AtomicI64);

impl Ticking {
    pub fn at(now_us: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now_us)))
    }

    pub fn set(&self, now_us: i64) {
        self.0.store(now_us, Ordering::Relaxed);
    }
}

impl Clock for Ticking {
    fn now_us(&self) -> i64 {
        self.0.fetch_add(7, Ordering::Relaxed)
    }
}

/// A message as Kafka holds it.
#[derive(Debug, Clone)]
pub struct Msg {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Vec<u8>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

/// A dirty stream in which windows close, events are late and a day ends: about an hour for 600 messages.
pub fn dirty(seed: u64, events: u64) -> GenerateSettings {
    GenerateSettings {
        seed,
        events: Some(events),
        users: 25,
        merchants: 8,
        rate: 0.2,
        start_at: "2026-01-05T23:20:00Z".into(),
        duplicates: 0.06,
        late: 0.06,
        out_of_order: 0.1,
        malformed: 0.04,
        bad_rows: 0.05,
        unknown_payment: 0.02,
        v2: 0.3,
        fraud: 0.02,
        ..GenerateSettings::default()
    }
}

/// What the generator makes, with the offsets that Kafka would give.
pub fn generated(settings: GenerateSettings) -> (Vec<Msg>, Counts) {
    let mut generator = Generator::new(settings, 3).expect("settings that work");
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    let mut messages = Vec::new();
    for made in &mut generator {
        let end = ends.entry(made.partition).or_default();
        messages.push(Msg {
            partition: made.partition,
            offset: *end,
            timestamp_ms: made.timestamp_ms,
            headers: made.headers(),
            payload: made.payload().map(<[u8]>::to_vec),
            key: made.key,
        });
        // Kafka's offsets have gaps.
        *end += if *end % 50 == 17 { 3 } else { 1 };
    }
    (messages, generator.counts())
}

/// A transaction of version 1 (or 2, with a merchant id) in Confluent's wire format.
#[derive(Debug, Clone)]
pub struct Tx {
    pub id: String,
    pub user: i32,
    pub amount: f64,
    pub merchant: String,
    pub at: String,
    pub location: String,
    pub merchant_id: Option<Option<String>>,
}

impl Tx {
    pub fn new(id: &str, at: &str) -> Self {
        Self {
            id: id.into(),
            user: 7,
            amount: 12.5,
            merchant: "corner shop".into(),
            at: at.into(),
            location: "Lyon, France".into(),
            merchant_id: None,
        }
    }

    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0, if self.merchant_id.is_some() { 2 } else { 1 }];
        text(&mut out, &self.id);
        long(&mut out, i64::from(self.user));
        out.extend_from_slice(&self.amount.to_le_bytes());
        text(&mut out, &self.merchant);
        text(&mut out, &self.at);
        out.push(0);
        text(&mut out, "credit_card");
        text(&mut out, &self.location);
        text(&mut out, "device-1");
        match &self.merchant_id {
            Some(Some(id)) => {
                long(&mut out, 1);
                text(&mut out, id);
            }
            Some(None) => long(&mut out, 0),
            None => {}
        }
        out
    }
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(out: &mut Vec<u8>, value: &str) {
    long(out, value.len() as i64);
    out.extend_from_slice(value.as_bytes());
}

/// Payloads as messages of one partition.
pub fn messages(payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<Msg> {
    let message = |(offset, payload)| Msg {
        partition: 0,
        offset,
        timestamp_ms: NOON_US / 1000,
        key: b"7".to_vec(),
        payload: Some(payload),
        headers: Vec::new(),
    };
    (0..).zip(payloads).map(message).collect()
}

fn batch(messages: &[Msg]) -> MessageBatch {
    let mut builder = MessageBatchBuilder::default();
    for m in messages {
        let at = Some(m.timestamp_ms);
        builder.push(TOPIC, m.partition, m.offset, at, Some(&m.key), m.payload.as_deref(), m.headers.clone());
    }
    builder.finish()
}

/// Hands out micro-batches one by one; a hook is called before each.
struct Script {
    batches: VecDeque<MessageBatch>,
    before_each: Box<dyn FnMut() + Send>,
}

impl Source for Script {
    fn poll(&mut self, _: Duration) -> Result<Polled, SourceError> {
        (self.before_each)();
        Ok(self.batches.pop_front().map_or(Polled::End, Polled::Batch))
    }
}

/// How a stream is cut: micro-batches of these sizes, over and over, and an epoch once it has so many messages.
#[derive(Debug, Clone)]
pub struct Cut {
    pub sizes: Vec<usize>,
    pub messages_max: u64,
}

impl Cut {
    /// Each micro-batch is an epoch.
    pub fn every(size: usize) -> Self {
        Self::epochs(&[size])
    }

    pub fn epochs(sizes: &[usize]) -> Self {
        Self { sizes: sizes.to_vec(), messages_max: 1 }
    }

    fn apply(&self, messages: &[Msg]) -> VecDeque<MessageBatch> {
        let mut rest = messages;
        let mut batches = VecDeque::new();
        for size in self.sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*size).clamp(1, rest.len()));
            batches.push_back(batch(head));
            rest = tail;
        }
        batches
    }
}

/// One lake and how it is worked on.
#[derive(Clone)]
pub struct Lab {
    pub lake: LakeSettings,
    pub clock: Arc<dyn Clock>,
    pub epoch: EpochSettings,
    pub stages: StageSettings,
    pub compaction: CompactionSettings,
    pub traces: Traces,
}

/// A pipeline that is ready to write.
pub struct Ready {
    pub stages: Stages,
    pub tables: Tables,
    pub metrics: Arc<Metrics>,
    _lease: Lease,
}

impl Lab {
    pub fn at(location: impl Into<String>) -> Self {
        // Only the number of messages cuts an epoch, so that a test knows its epochs.
        let epoch =
            EpochSettings { interval_ms: 1 << 40, messages_max: 1, store_patience_s: 0, ..EpochSettings::default() };
        Self {
            lake: LakeSettings { location: location.into(), ..LakeSettings::default() },
            clock: Ticking::at(NOON_US),
            stages: StageSettings { lateness_us: epoch.lateness_us(), ahead_rows: 40, ..StageSettings::default() },
            epoch,
            compaction: CompactionSettings::default(),
            traces: Traces::default(),
        }
    }

    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Caches so small that the past is read again and again.
    pub fn forgetful(mut self) -> Self {
        self.stages.refine = RefineSettings { dedup_bytes_max: 1, trailing_bytes_max: 1, ..RefineSettings::default() };
        self.stages.windows.closed_bytes_max = 1;
        self
    }

    pub fn open_lake(&self) -> Result<Lake, PipelineError> {
        Ok(wait_for(Lake::open(&self.lake, "it", true))?)
    }

    fn compiled(&self, lake: &Lake) -> Result<Compiled, PipelineError> {
        Compiled::new(&PLAN, &self.stages, lake.hash_key())
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::new(Metrics::new("test", Arc::clone(&self.clock)).expect("metrics"))
    }

    /// Tables without a lease, as a process sees them that starts.
    pub fn tables(&self, lake: &Lake) -> Result<Tables, PipelineError> {
        self.tables_counted(lake, self.metrics())
    }

    fn tables_counted(&self, lake: &Lake, metrics: Arc<Metrics>) -> Result<Tables, PipelineError> {
        let mut tables = wait_for(Tables::open(lake, &LAYOUT, Arc::clone(&self.clock), metrics))?;
        tables.trace(self.traces.clone());
        Ok(tables)
    }

    /// As a job starts: lease, tables, what an interrupted rebuild left, memory of the past.
    pub fn ready(&self) -> Result<Ready, PipelineError> {
        let lake = self.open_lake()?;
        let lease = Lease::acquire(&lake)?;
        let metrics = self.metrics();
        let mut tables = self.tables_counted(&lake, Arc::clone(&metrics))?;
        tables.resume()?;
        let last = tables.ledger.last_epoch();
        let mut history = FileHistory::new(tables.reader(&tables.silver), PLAN.event_time());
        let files =
            tables.silver.files().filter(|file| file.ranges.get("epoch").is_none_or(|(first, _)| *first <= last));
        history.written(last, files.cloned().collect::<Vec<_>>());
        let watermark = tables.ledger.get(last)?.and_then(|record| record.watermark_us);
        let stages = self.compiled(&lake)?.with_history(history, watermark, Arc::clone(&self.clock));
        Ok(Ready { stages, tables, metrics, _lease: lease })
    }

    /// `assay refine`, up to so many epochs.
    pub fn refine(&self, epochs: u64) -> Result<u64, PipelineError> {
        let mut ready = self.ready()?;
        ready.stages.warm_up()?;
        self.refine_in(&mut ready, epochs)
    }

    fn refine_in(&self, ready: &mut Ready, epochs: u64) -> Result<u64, PipelineError> {
        let patience = Duration::from_secs(self.epoch.store_patience_s);
        let mut maintenance = self.maintenance();
        let mut left = epochs;
        let refined = refine_pending(&mut ready.tables, &mut ready.stages, patience, &ready.metrics, |_, tables| {
            maintenance.after_epoch(tables);
            left -= 1;
            left > 0
        })?;
        maintenance.finish(&mut ready.tables);
        Ok(refined)
    }

    pub fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.compaction, self.lake.history_s, Arc::clone(&self.clock))
    }

    /// `assay run` over what is left of `messages`.
    pub fn run(&self, messages: &[Msg], cut: &Cut) -> Result<(), PipelineError> {
        self.stream(messages, cut, Reach::Gold, || {})
    }

    /// `assay ingest`.
    pub fn ingest(&self, messages: &[Msg], cut: &Cut) -> Result<(), PipelineError> {
        self.stream(messages, cut, Reach::Bronze, || {})
    }

    pub fn stream(
        &self,
        messages: &[Msg],
        cut: &Cut,
        reach: Reach,
        before_each: impl FnMut() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let mut ready = self.ready()?;
        if reach == Reach::Gold {
            self.refine_in(&mut ready, u64::MAX)?;
            ready.stages.warm_up()?;
        }
        self.stream_in(ready, messages, cut, reach, before_each)
    }

    /// Streams with what was opened before.
    pub fn stream_in(
        &self,
        ready: Ready,
        messages: &[Msg],
        cut: &Cut,
        reach: Reach,
        before_each: impl FnMut() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let next = next_positions(&ready.tables)?;
        let source = Script { batches: cut.apply(&unread(messages, &next)), before_each: Box::new(before_each) };
        let decoder =
            Decoder::new(Arc::clone(&CONTRACT), Format::Avro, Box::new(LocalSchemas::new(Arc::clone(&CONTRACT))));
        let feed = MessageFeed::new(source, decoder, Arc::clone(&self.clock), Arc::clone(&ready.metrics));
        let stop = AtomicBool::new(false);
        let stream = Stream {
            stages: ready.stages,
            tables: ready.tables,
            next,
            settings: EpochSettings { messages_max: cut.messages_max, ..self.epoch.clone() },
            clock: Arc::clone(&self.clock),
            metrics: ready.metrics,
            progress: Arc::new(Progress::new()),
            stop: &stop,
            reach,
            maintenance: self.maintenance(),
            on_durable: Box::new(|_| {}),
        };
        stream.run(feed)?;
        Ok(())
    }

    /// `assay rebuild`.
    pub fn rebuild(&self, target: Target) -> Result<EpochRecord, PipelineError> {
        self.rebuild_asking(target, None)
    }

    /// With a model.
    pub fn rebuild_asking(
        &self,
        target: Target,
        scorer: Option<Box<dyn RowScorer>>,
    ) -> Result<EpochRecord, PipelineError> {
        let lake = self.open_lake()?;
        let _lease = Lease::acquire(&lake)?;
        let mut tables = self.tables(&lake)?;
        tables.resume()?;
        let history = FileHistory::new(tables.reader(&tables.silver), PLAN.event_time());
        let mut stages = self.compiled(&lake)?.with_history(history, None, Arc::clone(&self.clock));
        if let Some(scorer) = scorer {
            stages.ask(scorer);
        }
        rebuild(&mut tables, stages, target, &self.clock, &self.metrics(), &Progress::new())
    }

    pub fn session(&self, epoch: Option<i64>) -> Session {
        let lake = self.open_lake().expect("a lake");
        let session = wait_for(open_session(&lake, epoch, NOON_US / 1000, None)).expect("a session");
        functions::register(&session.context, &PLAN.catalog.references);
        session
    }

    /// The rows of a query, as text.
    pub fn sql(&self, query: &str) -> Vec<String> {
        sql_in(&self.session(None), query)
    }

    pub fn verify(&self) -> Verification {
        self.verify_up_to(None)
    }

    /// With Kafka's end offsets.
    pub fn verify_up_to(&self, ends: Option<&Positions>) -> Verification {
        self.verify_with(ends, None)
    }

    /// With what can ask a model once more.
    pub fn verify_with(&self, ends: Option<&Positions>, recall: Option<&Recall<'_>>) -> Verification {
        self.verify_in(&self.session(None), ends, recall)
    }

    /// With the tables of this session.
    pub fn verify_in(&self, session: &Session, ends: Option<&Positions>, recall: Option<&Recall<'_>>) -> Verification {
        let lake = self.open_lake().expect("a lake");
        let tables = self.tables(&lake).expect("tables");
        let subject = Subject { plan: &PLAN, settings: &self.stages, hash_key: lake.hash_key(), ends, recall };
        verify(&tables, &session.context, &subject, |_| {}).expect("a verification")
    }

    #[track_caller]
    pub fn assert_verified(&self) {
        let found = self.verify().findings;
        assert!(found.is_empty(), "assay verify finds {found:#?}");
    }

    pub fn records(&self) -> Vec<EpochRecord> {
        let lake = self.open_lake().expect("a lake");
        self.tables(&lake).expect("tables").ledger.scan(0, i64::MAX).expect("the ledger")
    }

    /// What stands in the lake, whoever reads it.
    pub fn contents(&self) -> Contents {
        let lake = self.open_lake().expect("a lake");
        let tables = self.tables(&lake).expect("tables");
        let all = tables.all().filter(|table| !table.name().to_string().starts_with("ops."));
        Contents {
            tables: all.map(|table| (table.name().to_string(), lines(&tables, table, &OF_THE_CUT))).collect(),
            restatements: lines(&tables, &tables.restatements, &["restated_at"]),
            places: places(&tables),
        }
    }

    /// One table with every column but those named.
    pub fn lines(&self, name: &str, without: &[&str]) -> Vec<String> {
        let lake = self.open_lake().expect("a lake");
        let tables = self.tables(&lake).expect("tables");
        let table = tables.all().find(|table| table.name().to_string() == name).expect("such a table");
        lines(&tables, table, without)
    }
}

pub fn sql_in(session: &Session, query: &str) -> Vec<String> {
    let batches = wait_for(async { session.context.sql(query).await?.collect().await });
    let batches = batches.unwrap_or_else(|error| panic!("{query}: {error}"));
    batches.iter().flat_map(|rows| text_of(rows, &[])).collect()
}

fn unread(messages: &[Msg], next: &Positions) -> Vec<Msg> {
    let reached = |partition: i32| next.get(&assay::domain::Partition::new(TOPIC, partition)).copied().unwrap_or(0);
    messages.iter().filter(|m| m.offset >= reached(m.partition)).cloned().collect()
}

/// The rows of a lake as sorted lines of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Every table but those of `ops`, without the columns that follow from the cut.
    tables: BTreeMap<String, Vec<String>>,
    /// `ops.restatements` but for the time: follows from the cut as well.
    pub restatements: Vec<String>,
    /// Partition and offset of every row of bronze and the dead letters.
    places: Vec<(i32, i64)>,
}

impl Contents {
    /// Every message stands once in bronze and the dead letters together.
    #[track_caller]
    pub fn assert_complete(&self, messages: &[Msg]) {
        let found = &self.places;
        let mut wanted: Vec<(i32, i64)> = messages.iter().map(|m| (m.partition, m.offset)).collect();
        wanted.sort_unstable();
        let lost: Vec<_> = wanted.iter().filter(|place| !found.contains(place)).collect();
        let doubled: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        assert!(
            lost.is_empty() && doubled.is_empty() && found.len() == wanted.len(),
            "lost {lost:?}, doubled {doubled:?}"
        );
    }

    /// Equal row for row; says which rows differ.
    #[track_caller]
    pub fn assert_equals(&self, wanted: &Self, what: &str) {
        for (table, wanted) in &wanted.tables {
            let found = &self.tables[table];
            if found == wanted {
                continue;
            }
            let surplus: Vec<_> = found.iter().filter(|row| !wanted.contains(row)).take(3).collect();
            let missing: Vec<_> = wanted.iter().filter(|row| !found.contains(row)).take(3).collect();
            let (is, should) = (found.len(), wanted.len());
            panic!("{what}: {table} has {is} rows for {should}; it has {surplus:#?} and lacks {missing:#?}");
        }
        assert_eq!(self.tables.len(), wanted.tables.len(), "{what}: tables");
    }

    pub fn rows(&self, table: &str) -> usize {
        self.tables[table].len()
    }
}

fn places(tables: &Tables) -> Vec<(i32, i64)> {
    let columns = [schema::SOURCE_PARTITION, schema::SOURCE_OFFSET];
    let mut found = Vec::new();
    for table in [&tables.bronze, &tables.dead_letters] {
        for file in table.files() {
            for rows in tables.reader(table).read(file, &columns, None).expect("rows") {
                let offsets = rows.column(1).as_primitive::<Int64Type>().values();
                found.extend(
                    rows.column(0).as_primitive::<Int32Type>().values().iter().copied().zip(offsets.iter().copied()),
                );
            }
        }
    }
    found.sort_unstable();
    found
}

fn lines(tables: &Tables, table: &Table, without: &[&str]) -> Vec<String> {
    let reader = tables.reader(table);
    let mut lines = Vec::new();
    for file in table.files() {
        for rows in reader.read(file, &reader.columns(), None).expect("rows") {
            lines.extend(text_of(&rows, without));
        }
    }
    lines.sort_unstable();
    lines
}

fn text_of(rows: &RecordBatch, without: &[&str]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let schema = rows.schema();
    let kept =
        schema.fields().iter().zip(rows.columns()).filter(|(field, _)| !without.contains(&field.name().as_str()));
    let columns: Vec<_> =
        kept.map(|(_, column)| ArrayFormatter::try_new(column.as_ref(), &options).expect("a column as text")).collect();
    let line = |row: usize| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..rows.num_rows()).map(line).collect()
}

/// The size of the next cut, from a seed.
pub fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below.max(1)
    }
}

/// The JSON that a job printed.
#[track_caller]
pub fn printed(output: &std::process::Output, code: i32) -> serde_json::Value {
    let told = said(output, code);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// What a job said on its way to an exit code.
#[track_caller]
pub fn said(output: &std::process::Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}
