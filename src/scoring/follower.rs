//! The past of a lake that somebody else writes, held in memory: trailing counts and features, brought up to each new epoch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use tokio::runtime::Handle;

use super::{Added, FeatureSource, ScoringSettings, Standing};
use crate::domain::{Clock, EpochKind, History, HistoryError, TableName, schema};
use crate::features::Features;
use crate::lake::{
    Encoding, EpochLedger, FileHistory, FileReader, Lake, LakeError, LakeSettings, RangeFilter, Table, TableSpec,
    require_tables,
};
use crate::pipeline::Plan;
use crate::refine::{RefineSettings, RowsTable, SqlFileError, TableDef, TrailingCount};

/// Follows a lake from a thread of its own; requests read what is in memory.
pub struct LakeFollower {
    place: LakeSettings,
    pipeline: String,
    /// Opened by the first look that finds it.
    lake: Mutex<Option<Lake>>,
    handle: Handle,
    clock: Arc<dyn Clock>,
    silver: TableSpec,
    /// Those that follow from silver row by row.
    tables: Vec<TableDef>,
    refine: RefineSettings,
    hash_key: [u8; 16],
    event_time: String,
    /// Of silver: what counts are made of.
    columns: Vec<String>,
    widest_us: i64,
    horizon_us: i64,
    state: Mutex<State>,
    /// Whether rows of an epoch are being taken into the state.
    is_taking_in: AtomicBool,
    epoch: AtomicI64,
    published_at_us: AtomicI64,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<TableName, Kept>,
    history: Option<FileHistory>,
    /// Older instants are not held.
    floor_us: i64,
    /// The newest row that was taken in.
    newest_us: i64,
}

/// What is kept for the rows of a table.
struct Kept {
    counts: Vec<TrailingCount>,
    features: Option<Features>,
}

impl Kept {
    fn bytes(&self) -> usize {
        let features = self.features.as_ref().map_or(0, Features::bytes);
        self.counts.iter().map(TrailingCount::bytes).sum::<usize>() + features
    }

    /// In the order of the header.
    fn added(&mut self, silver: &RecordBatch, history: &dyn History) -> Result<Vec<ArrayRef>, HistoryError> {
        let counts = self.counts.iter_mut().map(|count| count.count_apart(silver, history));
        let mut columns =
            counts.map(|told| told.map(|told| Arc::new(told) as ArrayRef)).collect::<Result<Vec<_>, _>>()?;
        if let Some(features) = &self.features {
            columns.extend(features.lookup(silver)?);
        }
        Ok(columns)
    }
}

impl State {
    /// Has the past of instants in `[from, to]` loaded, as far as it is not: asking about an instant loads it.
    fn warm(&mut self, follower: &LakeFollower, from_us: i64, to_us: i64) -> Result<(), HistoryError> {
        let Some(history) = &self.history else { return Ok(()) };
        let step = (follower.widest_us / 2).clamp(60_000_000, 1_800_000_000);
        // The newest first: what nobody asked for since time went on by some spans is forgotten.
        let mut at = to_us;
        loop {
            let asked = follower.asked(at)?;
            for count in self.kept.values_mut().flat_map(|kept| &mut kept.counts) {
                count.count_apart(&asked, history)?;
            }
            if at <= from_us {
                break;
            }
            at = at.saturating_sub(step).max(from_us);
        }
        Ok(())
    }
}

/// Which lake is followed.
#[derive(Debug, Clone, Copy)]
pub struct FollowedLake<'a> {
    pub place: &'a LakeSettings,
    pub pipeline: &'a str,
    pub plan: &'a Plan,
    /// Columns that the tables may lack yet.
    pub evolved: &'a [String],
    /// Keys are held in memory as a hash under it.
    pub hash_key: [u8; 16],
}

/// What a look at the lake brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    Unchanged,
    /// The lake has no complete epoch yet.
    Empty,
    /// The epoch that is held now.
    To(i64),
}

const NO_TIME: i64 = i64::MIN;

impl LakeFollower {
    /// Looks at nothing before [`LakeFollower::follow`]; the lake need not be there yet.
    ///
    /// # Errors
    /// When the SQL of silver or a count does not fit.
    pub fn new(
        followed: FollowedLake<'_>,
        refine: &RefineSettings,
        settings: &ScoringSettings,
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SqlFileError> {
        let FollowedLake { place, pipeline, plan, evolved, hash_key } = followed;
        let silver = RowsTable::compile(&plan.silver, &plan.bronze_schema, &plan.catalog.references)?;
        let schema: &SchemaRef = silver.schema();
        let event_time = plan.event_time().to_owned();
        let (mut columns, mut widest_us) = (vec![event_time.clone()], 0);
        for def in &plan.rows {
            for trailing in &def.trailing {
                let time = def.event_time.as_deref().unwrap_or(&event_time);
                widest_us = widest_us.max(trailing.window_us);
                for column in [trailing.key.as_str(), time] {
                    if !columns.iter().any(|known| known == column) {
                        columns.push(column.to_owned());
                    }
                }
            }
        }
        let spec = TableSpec {
            name: plan.silver.table.clone(),
            schema: Arc::clone(schema),
            later: evolved.iter().filter(|column| schema.field_with_name(column).is_ok()).cloned().collect(),
            partition_by: plan.silver.partition_by.clone(),
            about: plan.silver.about.clone(),
            encoding: Encoding::default(),
        };
        let mut follower = Self {
            tables: plan.rows.clone(),
            refine: refine.clone(),
            hash_key,
            place: place.clone(),
            pipeline: pipeline.to_owned(),
            lake: Mutex::new(None),
            handle,
            clock,
            silver: spec,
            event_time,
            columns,
            widest_us,
            horizon_us: i64::from(settings.horizon_s) * 1_000_000,
            state: Mutex::default(),
            is_taking_in: AtomicBool::new(false),
            epoch: AtomicI64::new(0),
            published_at_us: AtomicI64::new(NO_TIME),
        };
        // What does not fit is told at the start.
        for features in follower.fresh()?.values().filter_map(|kept| kept.features.as_ref()) {
            for column in features.reads() {
                if !follower.columns.contains(&column) {
                    follower.columns.push(column);
                }
            }
        }
        Ok(follower)
    }

    /// Looks for newer epochs and takes their rows in. Blocking: call it from a thread outside of the runtime.
    ///
    /// # Errors
    /// When the lake cannot be read; what is held stays as it was, or is loaded anew by the next call.
    pub fn follow(&self) -> Result<Followed, LakeError> {
        let now_ms = self.clock.now_us() / 1000;
        let lake = self.opened()?;
        let ledger = self.handle.block_on(async {
            require_tables(&lake, &[EpochLedger::table_name(), self.silver.name.clone()]).await?;
            EpochLedger::open(&lake, now_ms).await
        })?;
        let (held, last) = (self.epoch.load(Ordering::Relaxed), ledger.last_epoch());
        if last == 0 {
            return Ok(Followed::Empty);
        }
        if last == held {
            return Ok(Followed::Unchanged);
        }
        let records = ledger.scan(if held == 0 { last } else { held + 1 }, last + 1)?;
        let Some(record) = records.last() else { return Ok(Followed::Unchanged) };
        let table = self.handle.block_on(Table::open(&lake, self.silver.clone(), now_ms))?;
        let reader = FileReader::new(&table, self.handle.clone());
        let is_anew = held == 0 || records.iter().any(|record| record.kind == EpochKind::Rebuild);
        let result = if is_anew {
            let newest = table.files().filter_map(|file| file.ranges.get(&self.event_time)).map(|(_, max)| *max).max();
            self.load(&table, reader, last, newest)
        } else {
            self.take_in(&table, &reader, held, last)
        };
        if let Err(error) = result {
            // Some counts may have the rows and some may not: all of it is read again.
            self.epoch.store(0, Ordering::Relaxed);
            return Err(error);
        }
        self.published_at_us.store(record.published_at_us, Ordering::Relaxed);
        self.epoch.store(last, Ordering::Relaxed);
        Ok(Followed::To(last))
    }

    /// Holds the past of an instant as it was known to an epoch, whatever came later. Blocking, as [`Self::follow`].
    ///
    /// # Errors
    /// When the lake cannot be read, or has no such epoch.
    pub fn hold(&self, epoch: i64, at_us: i64) -> Result<(), LakeError> {
        let now_ms = self.clock.now_us() / 1000;
        let lake = self.opened()?;
        let ledger = self.handle.block_on(EpochLedger::open(&lake, now_ms))?;
        let record = ledger.get(epoch)?;
        let record = record.ok_or_else(|| LakeError::Epoch(format!("the lake has no epoch {epoch}")))?;
        let table = self.handle.block_on(Table::open(&lake, self.silver.clone(), now_ms))?;
        let reader = FileReader::new(&table, self.handle.clone());
        self.load(&table, reader, epoch, Some(at_us))?;
        self.published_at_us.store(record.published_at_us, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    /// The key of the lake's identifier hashes, once the lake was found.
    #[must_use]
    pub fn lake_key(&self) -> Option<[u64; 2]> {
        self.lake.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Lake::hash_key)
    }

    /// Memory that counts and features hold, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.state().kept.values().map(Kept::bytes).sum()
    }

    fn opened(&self) -> Result<Lake, LakeError> {
        let mut lake = self.lake.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lake) = &*lake {
            return Ok(lake.clone());
        }
        let found = self.handle.block_on(Lake::open(&self.place, &self.pipeline, false))?;
        Ok(lake.insert(found).clone())
    }

    /// Begins anew with the files of the table, up to the instant `newest`.
    fn load(&self, table: &Table, reader: FileReader, epoch: i64, newest: Option<i64>) -> Result<(), LakeError> {
        let mut history = FileHistory::new(reader, self.event_time.clone());
        history.reached(epoch, table.files().cloned());
        // Beside what is held, which goes on answering until all of it is there.
        let unfit = |error: SqlFileError| LakeError::read(table.name(), error);
        let kept = self.fresh().map_err(unfit)?;
        let mut state = State { kept, history: Some(history), floor_us: NO_TIME, newest_us: NO_TIME };
        if let Some(newest) = newest {
            (state.newest_us, state.floor_us) = (newest, newest.saturating_sub(self.horizon_us));
            let from_us = state.floor_us;
            let error = |error: HistoryError| LakeError::read(table.name(), error.cause);
            state.warm(self, from_us, newest).map_err(error)?;
            let State { kept, history, .. } = &mut state;
            if let Some(history) = history {
                for features in kept.values_mut().filter_map(|kept| kept.features.as_mut()) {
                    features.hold(from_us, history).map_err(error)?;
                }
            }
        }
        let before = std::mem::replace(&mut *self.state(), state);
        // It may be large: whoever asks does not wait for that.
        drop(before);
        Ok(())
    }

    fn fresh(&self) -> Result<BTreeMap<TableName, Kept>, SqlFileError> {
        let mut kept = BTreeMap::new();
        for def in &self.tables {
            let time = def.event_time.as_deref().unwrap_or(&self.event_time);
            let of_table = def.trailing.iter().map(|trailing| {
                let count = TrailingCount::new(trailing, &self.silver.schema, time, &self.refine, self.hash_key);
                count.map_err(|problem| SqlFileError::new(&def.file, 1, problem))
            });
            let counts = of_table.collect::<Result<Vec<_>, _>>()?;
            let features = match def.features.as_slice() {
                [] => None,
                declared => {
                    let features = Features::new(declared, &self.silver.schema, time, self.hash_key);
                    Some(features.map_err(|problem| SqlFileError::new(&def.file, 1, problem))?)
                }
            };
            kept.insert(def.table.clone(), Kept { counts, features });
        }
        Ok(kept)
    }

    /// Adds the rows of epochs after `held`.
    fn take_in(&self, table: &Table, reader: &FileReader, held: i64, last: i64) -> Result<(), LakeError> {
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut new = Vec::new();
        for file in table.files().filter(|file| file.may_contain(schema::EPOCH, held + 1, last + 1)) {
            let range = RangeFilter { column: schema::EPOCH.to_owned(), from: held + 1, to: last + 1 };
            new.extend(reader.read(file, &columns, Some(range))?);
        }
        let error = |error: HistoryError| LakeError::read(table.name(), error.cause);
        let _taking = Taking::begin(&self.is_taking_in);
        let mut state = self.state();
        let newest = new.iter().filter_map(|batch| newest_of(batch, &self.event_time)).max();
        if let Some(newest) = newest {
            state.newest_us = state.newest_us.max(newest);
            state.floor_us = state.floor_us.max(newest.saturating_sub(self.horizon_us));
            // Rows are only taken into what is loaded already, and a request loads nothing. What is loaded is asked for
            // too, so that it is not forgotten.
            let (from_us, to_us) = (state.floor_us, state.newest_us);
            state.warm(self, from_us, to_us).map_err(error)?;
        }
        let State { kept, history, floor_us, .. } = &mut *state;
        for batch in &new {
            for count in kept.values_mut().flat_map(|kept| &mut kept.counts) {
                count.record(batch).map_err(error)?;
            }
        }
        if let (Some(history), Some(first)) = (&history, new.first()) {
            // As one batch: the history has none of them yet.
            let all = concat_batches(&first.schema(), &new).map_err(|error| LakeError::read(table.name(), error))?;
            for features in kept.values_mut().filter_map(|kept| kept.features.as_mut()) {
                features.hold(*floor_us, history).map_err(error)?;
                features.compute(&all, history).map_err(error)?;
            }
        }
        if let Some(history) = history {
            history.reached(last, table.files().cloned());
        }
        Ok(())
    }

    /// A row of nobody, to ask with.
    fn asked(&self, at_us: i64) -> Result<RecordBatch, HistoryError> {
        let unfit = |cause: String| HistoryError { table: self.silver.name.to_string(), cause };
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for name in &self.columns {
            let field = self.silver.schema.field_with_name(name).map_err(|error| unfit(error.to_string()))?;
            columns.push(if *field.data_type() == schema::timestamp() {
                Arc::new(TimestampMicrosecondArray::from_value(at_us, 1).with_timezone("UTC"))
            } else {
                let zero = Int64Array::from_value(0, 1);
                arrow::compute::cast(&zero, field.data_type()).map_err(|error| unfit(error.to_string()))?
            });
            fields.push(field.clone());
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| unfit(error.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeatureSource for LakeFollower {
    fn added(&self, table: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        let times = silver
            .column_by_name(&self.event_time)
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or("rows without an event time")?;
        let mut state = self.state();
        let State { kept, history, floor_us, .. } = &mut *state;
        let history = history.as_ref().ok_or("the past of the lake is not loaded yet")?;
        let Some(kept) = kept.get_mut(table) else { return Err(format!("nothing is kept for {table}")) };
        let in_memory = InMemory(history);
        let is_held = |at: Option<i64>| at.is_none_or(|at| at >= *floor_us);
        if times.iter().all(is_held) {
            let columns = kept.added(silver, &in_memory).map_err(|error| error.cause)?;
            return Ok(Added { columns, unknown: Vec::new() });
        }
        let held: BooleanArray = times.iter().map(|at| Some(is_held(at))).collect();
        let asked = filter_record_batch(silver, &held).map_err(|error| error.to_string())?;
        let told = kept.added(&asked, &in_memory).map_err(|error| error.cause)?;
        let places = places(&held);
        let columns = told.iter().map(|told| take(told, &places, None)).collect::<Result<_, _>>();
        let columns = columns.map_err(|error| error.to_string())?;
        Ok(Added { columns, unknown: held.values().iter().map(|held| !held).collect() })
    }

    fn waits(&self) -> bool {
        self.is_taking_in.load(Ordering::Relaxed)
    }

    fn standing(&self) -> Standing {
        let published_at_us = self.published_at_us.load(Ordering::Relaxed);
        Standing {
            epoch: self.epoch.load(Ordering::Relaxed),
            published_at_us: (published_at_us != NO_TIME).then_some(published_at_us),
        }
    }
}

impl std::fmt::Debug for LakeFollower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeFollower").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Says so while it is there.
struct Taking<'a>(&'a AtomicBool);

impl<'a> Taking<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The past as far as no disk is needed for it: a request does not wait for one.
struct InMemory<'a>(&'a FileHistory);

impl History for InMemory<'_> {
    fn scan(&self, _: i64, _: i64, _: &[&str]) -> Result<Vec<RecordBatch>, HistoryError> {
        let cause = "the past of the transaction is not held in memory".to_owned();
        Err(HistoryError { table: "silver".to_owned(), cause })
    }

    fn may_contain(&self, from_us: i64, to_us: i64) -> bool {
        self.0.may_contain(from_us, to_us)
    }
}

fn newest_of(batch: &RecordBatch, event_time: &str) -> Option<i64> {
    arrow::compute::max(batch.column_by_name(event_time)?.as_primitive_opt::<TimestampMicrosecondType>()?)
}

/// For each row where it is among those that are held; NULL when it is not.
fn places(held: &BooleanArray) -> UInt32Array {
    let mut next = 0;
    let place = |is_held: bool| {
        is_held.then(|| {
            next += 1;
            next - 1
        })
    };
    held.values().iter().map(place).collect()
}
