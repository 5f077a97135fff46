use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Clock, Timeline};

/// Times the parts of work that several requests may share.
pub struct Stopwatch {
    clock: Arc<dyn Clock>,
    timeline: Mutex<Timeline>,
}

impl Stopwatch {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, timeline: Mutex::default() }
    }

    /// Another one, which goes on from here by itself.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { clock: Arc::clone(&self.clock), timeline: Mutex::new(self.timeline()) }
    }

    /// Does a part of the work; where nobody wants to know how long it takes, that is all.
    pub fn time<T>(watch: Option<&Self>, part: &'static str, work: impl FnOnce() -> T) -> T {
        let Some(watch) = watch else { return work() };
        let began_us = watch.clock.now_us();
        let done = work();
        watch.took(part, began_us, watch.clock.now_us());
        done
    }

    pub fn took(&self, part: &'static str, began_us: i64, ended_us: i64) {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).took(part, began_us, ended_us);
    }

    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stopwatch").field(&self.timeline()).finish()
    }
}
