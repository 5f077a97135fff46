//! Writes what is new in a lake to Redis.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Handle;

use super::layout::{Layout, Names, Place, hash_key};
use super::memory::{Memory, News};
use super::store::{Held, Link, Written};
use super::{OnlineError, OnlineSettings};
use crate::domain::{Clock, TableName};
use crate::lake::{EpochLedger, Lake, LakeSettings};
use crate::pipeline::Plan;
use crate::telemetry::Metrics;

/// Which lake is fed from.
#[derive(Debug, Clone, Copy)]
pub struct FedLake<'a> {
    pub place: &'a LakeSettings,
    pub pipeline: &'a str,
    pub plan: &'a Plan,
    /// Columns that the tables may lack yet.
    pub evolved: &'a [String],
    /// How far back requests may ask, in seconds of event time.
    pub horizon_s: u32,
}

/// Follows a lake and writes to Redis. One at a time feeds a lake; it may be killed at any instruction.
pub struct Feeder {
    settings: OnlineSettings,
    place: LakeSettings,
    pipeline: String,
    /// Of silver: its name, the columns that it may lack yet, and what it is partitioned by.
    silver: (TableName, Vec<String>, Vec<String>),
    horizon_us: i64,
    handle: Handle,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    layout: Arc<Layout>,
    /// Who it is, for others.
    id: String,
    lake: Option<(Lake, Names)>,
    memory: Option<Memory>,
    link: Option<Link>,
    swept_at_us: Option<i64>,
}

/// What a step brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fed {
    pub epoch: i64,
    pub generation: u64,
    /// States that were written; those that stood there already are none.
    pub states: u64,
    /// Whether it was a generation of its own: the first, after a rebuild of the lake, or by command.
    pub anew: bool,
}

/// What was removed from Redis, in keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    pub keys: u64,
}

/// What Redis holds of a lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub redis: String,
    pub lake: String,
    pub definitions: String,
    /// `None` when nothing answers.
    pub generation: Option<u64>,
    /// 0 when nothing answers.
    pub epoch: i64,
    pub published_at_us: Option<i64>,
    pub newest_epoch: i64,
    /// Epochs that Redis does not hold yet.
    pub behind: i64,
    /// States of the generation that answers.
    pub states: u64,
    /// Other keys of the lake: of other generations or definitions.
    pub others: u64,
    /// Who feeds now.
    pub feeder: Option<String>,
}

/// A write is no longer than this, or one state.
const WRITE_BYTES: usize = 1 << 20;
/// States of which nothing matters any more are looked for so often.
const SWEEP_US: i64 = 3_600_000_000;

impl Feeder {
    /// Looks at nothing yet. `id` tells it from other feeders.
    ///
    /// # Errors
    /// When a setting or a declaration cannot be used.
    pub fn new(
        fed: FedLake<'_>,
        settings: &OnlineSettings,
        (handle, clock, metrics): (Handle, Arc<dyn Clock>, Arc<Metrics>),
        id: String,
    ) -> Result<Self, OnlineError> {
        settings.address()?;
        let FedLake { place, pipeline, plan, evolved, horizon_s } = fed;
        let layout = Arc::new(Layout::new(plan)?);
        if layout.tables.is_empty() {
            return Err(OnlineError::NoFeatures);
        }
        Ok(Self {
            settings: settings.clone(),
            place: place.clone(),
            pipeline: pipeline.to_owned(),
            silver: (plan.silver.table.clone(), evolved.to_vec(), plan.silver.partition_by.clone()),
            horizon_us: i64::from(horizon_s) * 1_000_000,
            handle,
            clock,
            metrics,
            layout,
            id,
            lake: None,
            memory: None,
            link: None,
            swept_at_us: None,
        })
    }

    /// Brings Redis to the newest epoch of the lake. Blocking: call it from a thread outside of the runtime.
    ///
    /// # Errors
    /// When the lake cannot be read or Redis not be written, or somebody else feeds it; the next step goes on.
    pub fn step(&mut self) -> Result<Fed, OnlineError> {
        self.guarded(|feeder| feeder.feed(false))
    }

    /// Writes everything anew and removes all else that Redis has of this lake, whoever feeds it. Requests are answered from
    /// what was there until all is written; with `wipe`, from nothing. Blocking, as [`Feeder::step`].
    ///
    /// # Errors
    /// As [`Feeder::step`].
    pub fn rebuild(&mut self, wipe: bool) -> Result<(Fed, Removed), OnlineError> {
        self.guarded(|feeder| {
            let (link, names) = feeder.linked()?;
            feeder.handle.block_on(async {
                link.check_policy().await?;
                link.depose(&names, &feeder.id).await
            })?;
            let mut keys = 0;
            if wipe {
                // Without the marker nobody takes what is still there for all there is.
                keys = feeder.handle.block_on(link.remove(&names, &feeder.id, &[names.marker()]))?;
                keys += feeder.remove(names.own(), |key| is_fixed(&names, key))?;
            }
            let fed = feeder.feed(true)?;
            keys += feeder.remove_others(names.own(), fed.generation)?;
            keys += feeder.remove_unfed()?;
            Ok((fed, Removed { keys }))
        })
    }

    /// What Redis holds. Blocking, as [`Feeder::step`].
    ///
    /// # Errors
    /// When the lake or Redis cannot be read.
    pub fn status(&mut self) -> Result<Status, OnlineError> {
        let (link, names) = self.linked()?;
        let lake = self.opened()?.0;
        let now_ms = self.clock.now_us() / 1000;
        let newest_epoch = self.handle.block_on(EpochLedger::open(&lake, now_ms))?.last_epoch();
        let (held, feeder) = self
            .handle
            .block_on(async { Ok::<_, OnlineError>((link.held(&names).await?, link.feeder(&names).await?)) })?;
        let own = held.map(|held| names.generation(held.generation));
        let (mut states, mut others) = (0, 0);
        self.pages(&names.lake, |key| {
            let is_state = |own: &String| key.starts_with(own);
            match (own.as_ref().is_some_and(is_state), is_fixed(&names, key)) {
                (true, _) => states += 1,
                (false, false) => others += 1,
                (false, true) => {}
            }
        })?;
        let epoch = held.map_or(0, |held| held.epoch);
        Ok(Status {
            redis: link.place,
            lake: lake.location(),
            definitions: self.layout.definitions.clone(),
            generation: held.map(|held| held.generation),
            epoch,
            published_at_us: held.map(|held| held.published_at_us),
            newest_epoch,
            behind: (newest_epoch - epoch).max(0),
            states,
            others,
            feeder,
        })
    }

    /// Lets another one feed.
    pub fn release(&mut self) {
        if let (Some(link), Some((_, names))) = (&self.link, &self.lake) {
            // Or it expires.
            let _ = self.handle.block_on(link.release(names, &self.id));
        }
    }

    /// Who it is to others.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, OnlineError>) -> Result<T, OnlineError> {
        let result = work(self);
        if let Err(OnlineError::Redis { .. } | OnlineError::Connect { .. }) = result {
            self.link = None;
        }
        result
    }

    fn feed(&mut self, anew: bool) -> Result<Fed, OnlineError> {
        let (link, names) = self.linked()?;
        let held = self.handle.block_on(async {
            link.lease(&names, &self.id).await?;
            link.held(&names).await
        })?;
        let from = held.filter(|_| !anew).map_or(0, |held| held.epoch);
        let (lake, _) = self.opened()?;
        let now_us = self.clock.now_us();
        let memory = self.memory()?;
        let news = memory.follow(&lake, from, now_us / 1000)?;
        let bytes = memory.bytes();
        // The lake may have taken longer to read than a feeder that says nothing is waited for: somebody else may have fed.
        let now = self.handle.block_on(async {
            if anew {
                link.depose(&names, &self.id).await?;
            } else {
                link.lease(&names, &self.id).await?;
            }
            link.held(&names).await
        })?;
        if now != held && !anew {
            return Err(OnlineError::Fenced);
        }
        self.metrics.set_cache("online", bytes);
        let fed = match (news, held) {
            (None, held) => {
                let generation = held.map_or(0, |held| held.generation);
                Fed { epoch: from, generation, states: 0, anew: false }
            }
            (Some(news), held) => self.write(&link, &names, news, held)?,
        };
        self.metrics.online().fed(fed.epoch, fed.states);
        let is_due = self.swept_at_us.is_none_or(|at| now_us.saturating_sub(at) >= SWEEP_US);
        if is_due {
            self.sweep(&link, &names)?;
            self.swept_at_us = Some(now_us);
        }
        Ok(fed)
    }

    fn write(&self, link: &Link, names: &Names, news: News, held: Option<Held>) -> Result<Fed, OnlineError> {
        let Some(memory) = &self.memory else { return Err(OnlineError::NoEpoch) };
        let anew = news.changed.is_none();
        let places = news.changed.unwrap_or_else(|| memory.all());
        let (generation, complete, floor_us) = match held {
            Some(held) if !anew => (held.generation, held.epoch, news.floor_us.max(held.floor_us)),
            held => {
                self.handle.block_on(link.check_policy())?;
                // What earlier tries left would pile up, and nobody reads it.
                self.remove_others(names.own(), held.map_or(0, |held| held.generation))?;
                (self.handle.block_on(link.next_generation(names))?, 0, news.floor_us)
            }
        };
        let of = Written { generation, epoch: news.epoch, complete, until_us: news.until_us };
        let mut states = 0;
        let (mut batch, mut bytes): (Vec<(Place, Vec<u8>)>, usize) = (Vec::new(), 0);
        for place in places {
            let state = memory.state(place);
            if !batch.is_empty() && (batch.len() >= self.settings.batch || bytes + state.len() > WRITE_BYTES) {
                states += self.handle.block_on(link.write(names, &self.id, of, &batch))?;
                (batch, bytes) = (Vec::new(), 0);
            }
            bytes += state.len();
            batch.push((place, state));
        }
        if !batch.is_empty() {
            states += self.handle.block_on(link.write(names, &self.id, of, &batch))?;
        }
        let held = Held { generation, epoch: news.epoch, published_at_us: news.published_at_us, floor_us };
        self.handle.block_on(link.mark(names, &self.id, held))?;
        if anew {
            self.remove_others(names.own(), generation)?;
        }
        Ok(Fed { epoch: news.epoch, generation, states, anew })
    }

    /// Removes what begins so, but for a generation and what all of them share.
    fn remove_others(&self, begin: &str, generation: u64) -> Result<u64, OnlineError> {
        let Some((_, names)) = &self.lake else { return Ok(0) };
        let own = names.generation(generation);
        self.remove(begin, |key| key.starts_with(&own) || is_fixed(names, key))
    }

    /// Removes what other definitions left that nobody feeds: the marker first, so that nobody takes what is still there for
    /// all there is.
    fn remove_unfed(&self) -> Result<u64, OnlineError> {
        let (Some(link), Some((_, names))) = (&self.link, &self.lake) else { return Ok(0) };
        let (mut fed, mut markers) = (BTreeSet::from([names.own().to_owned()]), Vec::new());
        self.pages(&names.lake, |key| {
            if let Some(own) = key.strip_suffix("feeder") {
                fed.insert(own.to_owned());
            } else if key.ends_with(":marker") {
                markers.push(key.to_owned());
            }
        })?;
        let is_fed = |key: &str| fed.iter().any(|own| key.starts_with(own));
        markers.retain(|marker| !is_fed(marker));
        let removed = self.handle.block_on(link.remove(names, &self.id, &markers))?;
        Ok(removed + self.remove(&names.lake, |key| is_fed(key) || key.ends_with(":generations"))?)
    }

    /// Removes what begins so, but for what is kept; stays the feeder all the while, or removes nothing more.
    fn remove(&self, begin: &str, keep: impl Fn(&str) -> bool) -> Result<u64, OnlineError> {
        let (Some(link), Some((_, names))) = (&self.link, &self.lake) else { return Ok(0) };
        let (mut cursor, mut removed) = ("0".to_owned(), 0);
        loop {
            let (next, keys) = self.handle.block_on(link.page(begin, &cursor))?;
            let gone: Vec<String> = keys.into_iter().filter(|key| !keep(key)).collect();
            removed += self.handle.block_on(link.remove(names, &self.id, &gone))?;
            if next == "0" {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    /// Shows each key that begins so. One may be shown twice.
    fn pages(&self, begin: &str, mut show: impl FnMut(&str)) -> Result<(), OnlineError> {
        let Some(link) = &self.link else { return Ok(()) };
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = self.handle.block_on(link.page(begin, &cursor))?;
            keys.iter().for_each(|key| show(key));
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Removes states of which nothing matters any more, and those of generations that were never seen.
    fn sweep(&self, link: &Link, names: &Names) -> Result<(), OnlineError> {
        self.handle.block_on(link.check_policy())?;
        let Some(held) = self.handle.block_on(link.held(names))? else { return Ok(()) };
        let own = names.generation(held.generation);
        let mut removed = self.remove_others(names.own(), held.generation)?;
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = self.handle.block_on(link.page(&own, &cursor))?;
            removed += self.handle.block_on(link.sweep(names, &self.id, held.floor_us, &keys))?;
            if next == "0" {
                break;
            }
            cursor = next;
        }
        if removed > 0 {
            tracing::info!(removed, "states of which nothing matters any more are removed");
        }
        self.metrics.online().removed(removed);
        Ok(())
    }

    fn memory(&mut self) -> Result<&mut Memory, OnlineError> {
        let key = hash_key(self.opened()?.0.hash_key());
        match self.memory.take() {
            Some(memory) => Ok(self.memory.insert(memory)),
            None => {
                let (name, later, partition_by) = self.silver.clone();
                let keys = (key, self.horizon_us);
                let layout = Arc::clone(&self.layout);
                let memory = Memory::new(layout, name, later, partition_by, keys, self.handle.clone())?;
                Ok(self.memory.insert(memory))
            }
        }
    }

    fn opened(&mut self) -> Result<(Lake, Names), OnlineError> {
        if let Some(opened) = &self.lake {
            return Ok(opened.clone());
        }
        let lake = self.handle.block_on(Lake::open(&self.place, &self.pipeline, false))?;
        let names = Names::new(&self.settings.prefix, &lake.id(), &self.layout.definitions);
        Ok(self.lake.insert((lake, names)).clone())
    }

    fn linked(&mut self) -> Result<(Link, Names), OnlineError> {
        let (_, names) = self.opened()?;
        if let Some(link) = &self.link {
            return Ok((link.clone(), names));
        }
        let link = self.handle.block_on(Link::connect(&self.settings))?;
        Ok((self.link.insert(link).clone(), names))
    }
}

impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether a key is none of a generation.
fn is_fixed(names: &Names, key: &str) -> bool {
    key == names.marker() || key == names.feeder() || key == names.generations()
}
