//! Questions on the engine's threads: a batch at a time, in turns, stopped by the client or the clock.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::failure::{Failure, state};
use super::measured::Protocol;
use crate::query::{Task, begin};

/// Batches between the engine and what sends them; two keep both busy.
pub(in crate::serve) const BATCHES_AHEAD: usize = 2;

/// Waits for a statement, and no longer than it may take.
pub(in crate::serve) struct Wait {
    protocol: Protocol,
    cancelled: watch::Receiver<u64>,
    /// What is left of the time; idling between two fetches does not count.
    left: Option<Duration>,
}

impl Wait {
    pub fn new(protocol: Protocol, mut cancelled: watch::Receiver<u64>, most: Option<Duration>) -> Self {
        cancelled.mark_unchanged();
        Self { protocol, cancelled, left: most }
    }

    pub async fn until<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let began = Instant::now();
        let left = self.left;
        let overdue = async {
            match left {
                #[expect(clippy::disallowed_methods, reason = "the deadline of a statement")]
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            biased;
            Ok(()) = self.cancelled.changed() => {
                Err(Failure::cancelled())
            }
            () = overdue => Err(Failure::overdue(self.protocol)),
            done = work => Ok(done),
        };
        self.left = left.map(|left| left.saturating_sub(began.elapsed()));
        done
    }

    /// Runs something on the engine's threads.
    pub async fn on<T: Send + 'static>(
        &mut self,
        runtime: &Handle,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut task = Task(runtime.spawn(work));
        let done = self.until(&mut task.0).await?;
        done.map_err(|error| Failure::new(state::INTERNAL, format!("the engine failed: {error}")))
    }
}

enum Question {
    Planned(Box<DataFrame>),
    Begun(SendableRecordBatchStream),
}

/// The rows of a question. A turn is taken for each batch: a client that reads slowly keeps nobody else waiting.
pub(in crate::serve) fn in_turns(
    frame: DataFrame,
    turns: Arc<Semaphore>,
) -> impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send {
    futures::stream::try_unfold(Question::Planned(Box::new(frame)), move |question| {
        let turns = Arc::clone(&turns);
        async move {
            let _turn = turns.acquire().await;
            let mut stream = match question {
                Question::Planned(frame) => begin(*frame).await?,
                Question::Begun(stream) => stream,
            };
            Ok(stream.next().await.transpose()?.map(|batch| (batch, Question::Begun(stream))))
        }
    })
}
