//! A server of SQL on a free port, over the lake of a lab.

use std::net::SocketAddr;
use std::sync::Arc;

use assay::domain::SystemClock;
use assay::refine::Catalog;
use assay::serve::sql::{PostgresSettings, Sql, SqlParts};
use assay::telemetry::Metrics;
use assay::telemetry::traces::Traces;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::kit::{Lab, RUNTIME, wait_for};

/// What both protocols ask.
pub fn engine(lab: &Lab, settings: PostgresSettings) -> (Sql, Arc<Metrics>) {
    let clock = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new("test", clock.clone()).unwrap());
    let parts = SqlParts {
        settings: PostgresSettings { address: "127.0.0.1:0".to_owned(), ..settings },
        lake: lab.lake.clone(),
        pipeline: "it".to_owned(),
        references: Arc::clone(&Catalog::load(None, &["bronze.transactions".parse().unwrap()]).unwrap().references),
        clock,
        metrics: Arc::clone(&metrics),
        traces: Traces::default(),
        runtime: RUNTIME.handle().clone(),
        threads: 1,
    };
    (Sql::new(parts).unwrap(), metrics)
}

/// A server that stops, and has ended well, when it is dropped.
pub struct Listening {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Listening {
    /// `serve` takes a listener and what tells it to stop.
    pub fn start<F>(serve: impl FnOnce(TcpListener, Stopped) -> F) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = wait_for(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped: Stopped = Box::pin(async move {
            let _ = stopped.await;
        });
        let task = RUNTIME.spawn(serve(listener, stopped));
        Self { address, stop: Some(stop), task: Some(task) }
    }
}

pub type Stopped = futures::future::BoxFuture<'static, ()>;

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            wait_for(task).unwrap().unwrap();
        }
    }
}
