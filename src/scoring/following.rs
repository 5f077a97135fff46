//! The aliases of a registry, looked at by a thread of its own: a store that answers late delays nobody.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::{Chosen, Models, ScoringPipeline};
use crate::telemetry::Metrics;

/// The thread that follows; it ends by itself after this is dropped, also in the middle of waiting for a store.
#[derive(Debug)]
pub struct ModelFollower {
    _end: Sender<()>,
}

impl ModelFollower {
    /// Looks at once, and then so often; `told` hears after each look what answers.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        models: Arc<Models>,
        pipeline: Arc<ScoringPipeline>,
        every: Duration,
        metrics: Arc<Metrics>,
        mut told: impl FnMut(&Chosen) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (end, ended) = bounded::<()>(0);
        let run = move || {
            loop {
                models.follow(&pipeline);
                let chosen = models.chosen();
                if chosen.unreadable.is_some() {
                    metrics.roles().registry_failed();
                }
                told(&chosen);
                if ended.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("assay-follow".to_owned()).spawn(run)?;
        Ok(Self { _end: end })
    }
}
