use std::net::SocketAddr;
use std::sync::Arc;

use assay::serve::flight::{Flight, FlightError};
use assay::serve::postgres::Postgres;
use assay::serve::sql::{Sql, SqlError, SqlParts};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::{App, usage};

/// The endpoints that answer SQL, until they are dropped.
pub struct SqlServer {
    endpoints: Vec<Endpoint>,
    handle: Handle,
    /// Queries compute on threads of their own, fewer than there are cores: the pipeline goes on beside them.
    runtime: Option<Runtime>,
}

struct Endpoint {
    /// How a user gets there.
    way: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl SqlServer {
    /// `None` where the settings name no address.
    pub fn start(app: &App) -> anyhow::Result<Option<Self>> {
        let (settings, flight) = (app.settings.postgres.clone(), app.settings.flight.clone());
        if settings.address.is_empty() && flight.address.is_empty() {
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
        let parts = SqlParts {
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
        let sql = Sql::new(parts).map_err(|error| match error {
            SqlError::Engine(error) => error.into(),
            wrong => usage(wrong),
        })?;
        let mut server = Self { endpoints: Vec::new(), handle: app.handle.clone(), runtime: Some(runtime) };
        if !address.is_empty() {
            let postgres = Postgres::new(&sql).map_err(usage)?;
            let (listener, bound) = listen(app, "postgres", &address)?;
            let way = format!("psql -h {} -p {}", bound.ip(), bound.port());
            server.answer("postgres", way, |stopped| postgres.serve(listener, stopped));
        }
        if !flight.address.is_empty() {
            let address = flight.address.clone();
            let flight = Flight::new(&sql, flight).map_err(|error| match error {
                FlightError::Internal(_) => error.into(),
                wrong => usage(wrong),
            })?;
            let (listener, bound) = listen(app, "flight", &address)?;
            let scheme = if flight.is_encrypted() { "grpc+tls" } else { "grpc" };
            let way = format!("{scheme}://{bound} (Arrow Flight SQL)");
            server.answer("flight", way, |stopped| flight.serve(listener, stopped));
        }
        Ok(Some(server))
    }

    /// How users get there.
    pub fn ways(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.way.as_str())
    }

    fn answer<F>(&mut self, name: &'static str, way: String, serve: impl FnOnce(Stopped) -> F)
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let serving = serve(Box::pin(async move {
            let _ = stopped.await;
        }));
        let task = self.handle.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, name, "an endpoint of SQL stopped");
            }
        });
        tracing::info!(%way, "serving SQL");
        self.endpoints.push(Endpoint { way, stop, task });
    }
}

/// Resolves when the endpoint is to stop.
type Stopped = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn listen(app: &App, section: &str, address: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = app.handle.block_on(TcpListener::bind(address));
    let listener = listener.map_err(|e| usage(format!("{section}.address {address}: {e}")))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

impl Drop for SqlServer {
    fn drop(&mut self) {
        // Statements under way are answered; the drain timeout bounds it.
        let stopped: Vec<JoinHandle<()>> = self
            .endpoints
            .drain(..)
            .map(|Endpoint { stop, task, .. }| {
                let _ = stop.send(());
                task
            })
            .collect();
        for task in stopped {
            let _ = self.handle.block_on(task);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
