//! The past of a lake as Redis holds it, for requests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use tokio::runtime::Handle;
use tokio::time::error::Elapsed;

use super::layout::{Layout, Names, Place, hash_key};
use super::store::{Held, Link};
use super::{OnlineError, OnlineSettings};
use crate::domain::{Clock, TableName};
use crate::features::Features;
use crate::lake::{Lake, LakeSettings};
use crate::pipeline::Plan;
use crate::scoring::{Added, FeatureSource, Standing};
use crate::telemetry::Metrics;

/// Asks Redis about the entities of requests.
///
/// A thread of its own [looks after](Self::follow) the connection. Requests use the one that is there: without one they
/// wait for nothing. One that fails, or is late a few times in a row, is given up until the thread has another.
pub struct OnlineReader {
    settings: OnlineSettings,
    place: LakeSettings,
    pipeline: String,
    handle: Handle,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    layout: Layout,
    /// Opened by the first look that finds it.
    opened: Mutex<Option<Opened>>,
    link: Mutex<Result<Link, String>>,
    late: AtomicU32,
    generation: AtomicU64,
    epoch: AtomicI64,
    published_at_us: AtomicI64,
    /// Memories for the states of a request, empty.
    free: Mutex<Vec<Vec<Features>>>,
}

#[derive(Clone)]
struct Opened {
    names: Names,
    lake_key: [u64; 2],
}

/// Answers in a row that are late before the connection is given up.
const LATE_MAX: u32 = 3;
/// States that Redis is asked for at a time: it answers nobody else meanwhile.
const ASKED: usize = 256;
/// The marker moves once a second, or less.
const MOVES_MAX: usize = 3;
/// Memories kept for the next request.
const FREE_MAX: usize = 16;
/// How long the thread that looks after the connection waits.
const LOOK: Duration = Duration::from_secs(2);

impl OnlineReader {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When a setting or a declaration cannot be used.
    pub fn new(
        (place, pipeline, plan): (&LakeSettings, &str, &Plan),
        settings: &OnlineSettings,
        (handle, clock, metrics): (Handle, Arc<dyn Clock>, Arc<Metrics>),
    ) -> Result<Self, OnlineError> {
        settings.address()?;
        Ok(Self {
            settings: settings.clone(),
            place: place.clone(),
            pipeline: pipeline.to_owned(),
            handle,
            clock,
            metrics,
            layout: Layout::new(plan)?,
            opened: Mutex::default(),
            link: Mutex::new(Err("Redis was not reached yet".to_owned())),
            late: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            epoch: AtomicI64::new(0),
            published_at_us: AtomicI64::new(0),
            free: Mutex::default(),
        })
    }

    /// Connects where there is no connection, and looks up to which epoch Redis knows the lake. Blocking: call it from a
    /// thread outside of the runtime.
    ///
    /// # Errors
    /// When the lake is not there, or Redis does not answer or holds nothing of it; requests are answered without a past.
    pub fn follow(&self) -> Result<i64, OnlineError> {
        let Opened { names, .. } = self.open()?;
        let known = locked(&self.link).as_ref().ok().cloned();
        let looked = self.handle.block_on(async {
            let link = match known {
                Some(link) => link,
                None => Link::connect(&self.settings).await?,
            };
            let late = |_| OnlineError::Connect {
                place: link.place.clone(),
                cause: format!("there is no answer within {} s", LOOK.as_secs()),
            };
            let held = tokio::time::timeout(LOOK, link.held(&names)).await.map_err(late)??;
            Ok::<_, OnlineError>((link, held))
        });
        match looked {
            Ok((link, held)) => {
                *locked(&self.link) = Ok(link.clone());
                self.late.store(0, Ordering::Relaxed);
                let Some(held) = held else {
                    self.epoch.store(0, Ordering::Relaxed);
                    return Err(OnlineError::Connect { place: link.place, cause: NOTHING.to_owned() });
                };
                self.seen(held);
                Ok(held.epoch)
            }
            Err(error) => {
                *locked(&self.link) = Err(error.to_string());
                Err(error)
            }
        }
    }

    /// The key of the lake's identifier hashes, once the lake was found.
    #[must_use]
    pub fn lake_key(&self) -> Option<[u64; 2]> {
        locked(&self.opened).as_ref().map(|opened| opened.lake_key)
    }

    fn open(&self) -> Result<Opened, OnlineError> {
        if let Some(opened) = &*locked(&self.opened) {
            return Ok(opened.clone());
        }
        let lake = self.handle.block_on(Lake::open(&self.place, &self.pipeline, false))?;
        let names = Names::new(&self.settings.prefix, &lake.id(), &self.layout.definitions);
        let opened = Opened { names, lake_key: lake.hash_key() };
        Ok(locked(&self.opened).insert(opened).clone())
    }

    fn seen(&self, held: Held) {
        self.generation.store(held.generation, Ordering::Relaxed);
        self.epoch.store(held.epoch, Ordering::Relaxed);
        self.published_at_us.store(held.published_at_us, Ordering::Relaxed);
    }

    /// What Redis knows of rows, computed.
    fn known(&self, silver: &RecordBatch) -> Result<Known, String> {
        let opened = locked(&self.opened).clone().ok_or("the lake was not found yet")?;
        let free = locked(&self.free).pop();
        let mut memories = match free {
            Some(memories) => memories,
            None => self.layout.memories(hash_key(opened.lake_key)).map_err(|error| error.to_string())?,
        };
        let known = self.ask(&opened.names, &mut memories, silver);
        memories.iter_mut().for_each(Features::forget);
        let mut free = locked(&self.free);
        if free.len() < FREE_MAX {
            free.push(memories);
        }
        known
    }

    fn ask(&self, names: &Names, memories: &mut [Features], silver: &RecordBatch) -> Result<Known, String> {
        let mut places = Vec::new();
        for (table, memory) in memories.iter().enumerate() {
            for (kind, keys) in memory.keys(silver).map_err(|error| error.cause)?.into_iter().enumerate() {
                places.extend(keys.into_iter().flatten().map(|entity| Place { table, kind, entity }));
            }
        }
        places.sort_unstable();
        places.dedup();
        let (held, states) = self.fetch(names, &places)?;
        for (place, state) in places.iter().zip(&states).filter(|(_, state)| !state.is_empty()) {
            let memory = memories.get_mut(place.table).ok_or("there is no such table")?;
            memory
                .restore(place.kind, place.entity, state)
                .map_err(|problem| format!("Redis holds what is no state ({problem}): run `assay online rebuild`"))?;
        }
        let mut tables = BTreeMap::new();
        for (table, memory) in self.layout.tables.iter().zip(memories) {
            tables.insert(table.name.clone(), table.added(memory, silver).map_err(|error| error.cause)?);
        }
        let times = silver
            .column_by_name(&self.layout.event_time)
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or("rows without an event time")?;
        let is_old = |row: usize| times.is_valid(row) && times.value(row) < held.floor_us;
        let is_any = (0..times.len()).any(is_old);
        let unknown = if is_any { (0..times.len()).map(is_old).collect() } else { Vec::new() };
        Ok(Known { tables, unknown, standing: standing(held.epoch, held.published_at_us) })
    }

    /// The states of entities at one moment. Blocking: for a thread that may, or one of a runtime that can hand its other
    /// tasks on.
    fn fetch(&self, names: &Names, places: &[Place]) -> Result<(Held, Vec<Vec<u8>>), String> {
        let link = locked(&self.link).clone()?;
        let began_us = self.clock.now_us();
        let asked = self.ask_in_parts(&link, names, places);
        let told = tokio::task::block_in_place(|| self.handle.block_on(asked));
        let took_us = u64::try_from(self.clock.now_us().saturating_sub(began_us)).unwrap_or(0);
        let tell = |outcome: &str| self.metrics.online().asked(outcome, Duration::from_micros(took_us));
        match told {
            Ok(Ok(Some((held, states)))) if states.len() == places.len() => {
                tell("answered");
                self.late.store(0, Ordering::Relaxed);
                self.seen(held);
                Ok((held, states))
            }
            Ok(Ok(Some(_))) => {
                tell("failed");
                Err("Redis is being written anew more than once at a time".to_owned())
            }
            Ok(Ok(None)) => {
                tell("empty");
                self.epoch.store(0, Ordering::Relaxed);
                Err(NOTHING.to_owned())
            }
            Ok(Err(error)) => {
                tell("failed");
                self.give_up(error.to_string());
                Err(error.to_string())
            }
            Err(_) => {
                tell("late");
                let late = format!("Redis did not answer within {} ms", self.settings.timeout_ms);
                // A batch asks for much, and its being late says little.
                let is_small = places.len() <= ASKED;
                if is_small && self.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE_MAX {
                    self.give_up(late.clone());
                }
                Err(late)
            }
        }
    }

    /// The states of one moment, part by part: each within the time that one request waits, and all anew when the marker moved
    /// meanwhile. Without states when it moved too often.
    async fn ask_in_parts(
        &self,
        link: &Link,
        names: &Names,
        places: &[Place],
    ) -> Result<Result<Option<(Held, Vec<Vec<u8>>)>, OnlineError>, Elapsed> {
        let timeout = Duration::from_millis(self.settings.timeout_ms);
        let parts = if places.is_empty() { vec![places] } else { places.chunks(ASKED).collect() };
        let mut generation = self.generation.load(Ordering::Relaxed);
        let mut moved = None;
        for _ in 0..MOVES_MAX {
            let mut states = Vec::with_capacity(places.len());
            let mut first: Option<Held> = None;
            for part in &parts {
                let (held, told) = match tokio::time::timeout(timeout, link.read(names, generation, part)).await? {
                    Ok(Some(told)) => told,
                    other => return Ok(other),
                };
                if held.generation != generation || *first.get_or_insert(held) != held {
                    (generation, moved) = (held.generation, Some(held));
                    first = None;
                    break;
                }
                states.extend(told);
            }
            if let Some(held) = first {
                return Ok(Ok(Some((held, states))));
            }
        }
        Ok(Ok(moved.map(|held| (held, Vec::new()))))
    }

    fn give_up(&self, cause: String) {
        let mut link = locked(&self.link);
        if link.is_ok() {
            tracing::warn!(cause, "Redis is asked no more until it answers again; the rules decide");
            *link = Err(cause);
        }
    }
}

impl FeatureSource for OnlineReader {
    fn added(&self, table: &TableName, silver: &RecordBatch) -> Result<Added, String> {
        self.known(silver)?.added(table, silver)
    }

    fn fetch(&self, silver: &RecordBatch) -> Option<Box<dyn FeatureSource>> {
        if self.layout.tables.is_empty() || silver.num_rows() == 0 {
            return None;
        }
        Some(match self.known(silver) {
            Ok(known) => Box::new(known),
            Err(cause) => Box::new(Unknown { cause, standing: self.standing() }),
        })
    }

    fn waits(&self) -> bool {
        true
    }

    fn standing(&self) -> Standing {
        standing(self.epoch.load(Ordering::Relaxed), self.published_at_us.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for OnlineReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnlineReader").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

const NOTHING: &str = "Redis holds nothing of this lake and these definitions: run `assay online feed` beside it";

/// What was known of some rows.
struct Known {
    tables: BTreeMap<TableName, Vec<arrow::array::ArrayRef>>,
    unknown: Vec<bool>,
    standing: Standing,
}

impl FeatureSource for Known {
    fn added(&self, table: &TableName, _: &RecordBatch) -> Result<Added, String> {
        let columns = self.tables.get(table).cloned().ok_or_else(|| format!("nothing is kept for {table}"))?;
        Ok(Added { columns, unknown: self.unknown.clone() })
    }

    fn standing(&self) -> Standing {
        self.standing
    }
}

/// That nothing was known of some rows.
struct Unknown {
    cause: String,
    standing: Standing,
}

impl FeatureSource for Unknown {
    fn added(&self, _: &TableName, _: &RecordBatch) -> Result<Added, String> {
        Err(self.cause.clone())
    }

    fn standing(&self) -> Standing {
        self.standing
    }
}

fn standing(epoch: i64, published_at_us: i64) -> Standing {
    Standing { epoch, published_at_us: (epoch > 0).then_some(published_at_us) }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
