use std::net::SocketAddr;
use std::sync::Arc;

use assay::serve::postgres::{Postgres, PostgresError, PostgresParts};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::app::{App, usage};

/// The endpoint of PostgreSQL's protocol, until it is dropped.
pub struct PostgresServer {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    handle: Handle,
    /// Queries compute on threads of their own, fewer than there are cores: the pipeline goes on beside them.
    runtime: Option<Runtime>,
    pub address: SocketAddr,
}

impl PostgresServer {
    /// `None` where the settings name no address.
    pub fn start(app: &App) -> anyhow::Result<Option<Self>> {
        let settings = app.settings.postgres.clone();
        if settings.address.is_empty() {
            return Ok(None);
        }
        let contract = app.contract()?;
        let references = Arc::clone(&app.catalog(&contract)?.references);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if settings.threads == 0 { (cores / 2).max(1) } else { settings.threads };
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("assay-sql")
            .thread_stack_size(assay::query::STACK_BYTES)
            .enable_all()
            .build()?;
        let address = settings.address.clone();
        let parts = PostgresParts {
            settings,
            lake: app.settings.lake.clone(),
            pipeline: app.settings.pipeline.clone(),
            references,
            clock: Arc::clone(&app.clock),
            metrics: Arc::clone(&app.metrics),
            traces: app.traces.clone(),
            runtime: runtime.handle().clone(),
            threads,
        };
        let server = Postgres::new(parts).map_err(|error| match error {
            PostgresError::Engine(error) => error.into(),
            wrong => usage(wrong),
        })?;
        let listener = app.handle.block_on(TcpListener::bind(&address));
        let listener = listener.map_err(|e| usage(format!("postgres.address {address}: {e}")))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = app.handle.spawn(async move {
            let ended = server.serve(listener, async move {
                let _ = stopped.await;
            });
            if let Err(error) = ended.await {
                tracing::error!(%error, "the SQL endpoint stopped");
            }
        });
        tracing::info!(%address, "serving SQL");
        let (stop, task, handle, runtime) = (Some(stop), Some(task), app.handle.clone(), Some(runtime));
        Ok(Some(Self { stop, task, handle, runtime, address }))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // Statements under way are answered; the drain timeout bounds it.
        if let Some(task) = self.task.take() {
            let _ = self.handle.block_on(task);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
