//! Connections of HTTP, each served by one of a few threads, one a core, for as long as it lasts: what a transaction that is
//! scored alone touches stays with that core, and nobody is woken on another one.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use super::ServeState;
use super::bounded::{Accepted, BoundedListener};
use super::busy_poll::BusyPoll;
use super::connection::Connection;
use super::routes::Routes;
use super::timer::Timer;

/// The threads that connections are given to.
pub(super) struct Threads(Vec<Thread>);

impl Threads {
    /// One a core. What may take long to answer is left to the runtime that this is called in: it would keep the other
    /// connections of its thread waiting.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(state: &ServeState) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let beside = Handle::current();
        (0..cores).map(|number| Thread::start(number, state, &beside)).collect::<io::Result<_>>().map(Self)
    }

    /// Answers what comes until `shutdown` resolves, and then what is under way.
    pub async fn answer(self, mut listener: BoundedListener, shutdown: impl Future<Output = ()>) {
        let (closing, open) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.next() => accepted,
            };
            // Each connection holds the routes of its thread.
            if let Some(thread) = self.0.iter().min_by_key(|thread| Arc::strong_count(&thread.routes)) {
                thread.take(accepted, open.clone());
            }
        }
        drop((listener, open));
        closing.send_replace(());
        closing.closed().await;
    }
}

/// A thread with a runtime of its own, until it is dropped.
struct Thread {
    handle: Handle,
    routes: Arc<Routes>,
    _running: oneshot::Sender<()>,
}

impl Thread {
    fn start(number: usize, state: &ServeState, beside: &Handle) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("assay-http").build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        let busy_poll = Arc::new(BusyPoll::new(Duration::from_micros(state.settings.busy_poll_us)));
        let routes = Arc::new(Routes::new(state.of_thread(), beside.clone(), Arc::clone(&busy_poll)));
        std::thread::Builder::new().name(format!("assay-http-{number}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    // It resolves, to an error, when the sender is dropped.
                    _ = ended => {}
                    () = busy_poll.keep() => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, routes, _running: running })
    }

    fn take(&self, accepted: Accepted, open: watch::Receiver<()>) {
        let routes = Arc::clone(&self.routes);
        self.handle.spawn(async move {
            match accepted.open_here() {
                Ok(connection) => answer(connection, routes, open).await,
                Err(error) => tracing::debug!(%error, "a connection was lost"),
            }
        });
    }
}

/// Answers one request after the other, until the client has gone, or `open` says that no more are to be taken.
async fn answer(connection: Connection, routes: Arc<Routes>, mut open: watch::Receiver<()>) {
    let client = Arc::new((routes, Timer::default()));
    let service = service_fn(move |request: Request<Incoming>| {
        let client = Arc::clone(&client);
        async move {
            let (routes, timer) = &*client;
            Ok::<_, Infallible>(routes.answer(request, timer).await)
        }
    });
    let mut served = pin!(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        _ = open.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection failed");
    }
}
