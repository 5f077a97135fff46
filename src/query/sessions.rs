use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use tokio::sync::{Mutex, OnceCell};

use crate::domain::Clock;
use crate::lake::{EpochLedger, Lake, LakeError, LakeSettings, Session, open_session, require_tables};

/// Sessions of complete epochs for many readers at once: those of one epoch share what was opened.
///
/// The lake need not be there yet.
pub struct Sessions {
    place: LakeSettings,
    pipeline: String,
    clock: Arc<dyn Clock>,
    runtime: Arc<RuntimeEnv>,
    fresh_us: i64,
    /// How long the newest is taken for the newest, whatever came meanwhile.
    lasting_us: i64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    lake: Option<Lake>,
    newest: Option<Newest>,
    /// Earlier epochs that were asked for, the last used first.
    earlier: Vec<Arc<Session>>,
    /// Those that somebody is opening. Who comes meanwhile waits for it, and goes on with it when the other leaves.
    opening: Vec<(i64, Weak<OnceCell<Arc<Session>>>)>,
}

struct Newest {
    session: Arc<Session>,
    looked_us: i64,
    opened_us: i64,
    /// What opening it took.
    took_us: i64,
}

/// Epochs other than the newest that stay open.
const EARLIER_MAX: usize = 4;
/// A client that asks many small questions in a row shall not look at the store for each.
const FRESH: Duration = Duration::from_millis(50);
/// A session that lasts is kept so many times as long as it took to open.
const LASTS_TIMES: i64 = 10;

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("lake", &self.place.location).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Opens nothing before it is asked; `runtime` bounds what all sessions together may use.
    #[must_use]
    pub fn new(place: LakeSettings, pipeline: &str, clock: Arc<dyn Clock>, runtime: Arc<RuntimeEnv>) -> Self {
        let fresh_us = i64::try_from(FRESH.as_micros()).unwrap_or(0);
        Self { place, pipeline: pipeline.to_owned(), clock, runtime, fresh_us, lasting_us: 0, held: Mutex::default() }
    }

    /// For readers that need not see each epoch: the newest session is kept for this long at least, and ten times as long as
    /// it took to open, so that opening takes a tenth of a core at most.
    #[must_use]
    pub fn lasting(mut self, least: Duration) -> Self {
        self.lasting_us = i64::try_from(least.as_micros()).unwrap_or(i64::MAX);
        self
    }

    #[must_use]
    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// The tables as of `epoch`, or the newest complete one.
    ///
    /// # Errors
    /// When there is no lake, or the epoch does not exist or is older than the history that is kept.
    pub async fn at(&self, epoch: Option<i64>) -> Result<Arc<Session>, LakeError> {
        if let Some(epoch) = epoch {
            return self.earlier(epoch).await;
        }
        let mut held = self.held.lock().await;
        let now_us = self.clock.now_us();
        self.find_lake(&mut held).await?;
        let Held { lake: Some(lake), newest, .. } = &mut *held else { return Err(no_lake(&self.place)) };
        if let Some(newest) = newest
            && self.lasting_us > 0
            && (0..self.lasting_us.max(newest.took_us.saturating_mul(LASTS_TIMES)))
                .contains(&now_us.saturating_sub(newest.opened_us))
        {
            return Ok(Arc::clone(&newest.session));
        }
        if let Some(newest) = newest
            && now_us.saturating_sub(newest.looked_us) < self.fresh_us
        {
            return Ok(Arc::clone(&newest.session));
        }
        if let Some(newest) = newest
            && newest.session.is_newest(lake).await?
        {
            newest.looked_us = now_us;
            return Ok(Arc::clone(&newest.session));
        }
        let session = Arc::new(self.open(lake, None, now_us).await?);
        let opened_us = self.clock.now_us();
        let took_us = opened_us.saturating_sub(now_us);
        *newest = Some(Newest { session: Arc::clone(&session), looked_us: now_us, opened_us, took_us });
        Ok(session)
    }

    /// Those who ask for other epochs do not wait for it.
    async fn earlier(&self, epoch: i64) -> Result<Arc<Session>, LakeError> {
        let mut held = self.held.lock().await;
        self.find_lake(&mut held).await?;
        let Held { lake: Some(lake), newest, earlier, opening } = &mut *held else {
            return Err(no_lake(&self.place));
        };
        let open = newest.iter().map(|newest| &newest.session).chain(&*earlier);
        let found = open.into_iter().find(|session| epoch_of(session) == epoch).map(Arc::clone);
        let session = if let Some(session) = found {
            session
        } else {
            opening.retain(|(_, cell)| cell.strong_count() > 0);
            let known = opening.iter().find(|(of, _)| *of == epoch).and_then(|(_, cell)| cell.upgrade());
            let cell = known.unwrap_or_else(|| {
                let cell = Arc::new(OnceCell::new());
                opening.push((epoch, Arc::downgrade(&cell)));
                cell
            });
            let lake = lake.clone();
            drop(held);
            let open = async || self.open(&lake, Some(epoch), self.clock.now_us()).await.map(Arc::new);
            let session = Arc::clone(cell.get_or_try_init(open).await?);
            held = self.held.lock().await;
            session
        };
        held.earlier.retain(|other| !Arc::ptr_eq(other, &session));
        held.earlier.insert(0, Arc::clone(&session));
        held.earlier.truncate(EARLIER_MAX);
        Ok(session)
    }

    async fn find_lake(&self, held: &mut Held) -> Result<(), LakeError> {
        if held.lake.is_none() {
            let lake = Lake::open(&self.place, &self.pipeline, false).await?;
            require_tables(&lake, &[EpochLedger::table_name()]).await?;
            held.lake = Some(lake);
        }
        Ok(())
    }

    async fn open(&self, lake: &Lake, epoch: Option<i64>, now_us: i64) -> Result<Session, LakeError> {
        open_session(lake, epoch, now_us / 1000, Some(Arc::clone(&self.runtime))).await
    }
}

/// 0 in a lake without a complete epoch.
fn epoch_of(session: &Session) -> i64 {
    session.record.as_ref().map_or(0, |record| record.epoch)
}

fn no_lake(place: &LakeSettings) -> LakeError {
    LakeError::NoLake { location: place.location.clone(), hint: "correct --lake".to_owned() }
}
