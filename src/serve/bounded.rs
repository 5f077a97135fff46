//! Connections are counted and may not idle: a forgotten or hostile client costs a bounded share of the service.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::either::Either;

use super::connection::Connection;
use super::{Socket, Tls};
use crate::telemetry::Metrics;

/// Parts of so many bytes together are joined: the system takes longer to gather them than it takes to copy them.
const JOINED_MAX: usize = 4 << 10;

pub(super) struct BoundedListener {
    listener: TcpListener,
    tls: Option<Tls>,
    socket: Option<Socket>,
    free: Arc<Semaphore>,
    idle: Duration,
    counted: Option<Counts>,
    login: Option<Duration>,
}

/// Of TCP, or of a Unix domain socket.
type Stream = Either<TcpStream, UnixStream>;

impl BoundedListener {
    /// Clients of TCP speak TLS where it is given.
    pub(super) fn new(listener: TcpListener, tls: Option<Tls>, connections_max: usize, idle: Duration) -> Self {
        let free = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { listener, tls, socket: None, free, idle, counted: None, login: None }
    }

    /// Takes clients of a Unix domain socket too, which have their places among the others.
    pub(super) fn beside(self, socket: Option<Socket>) -> Self {
        Self { socket, ..self }
    }

    /// Tells the metrics how many connections there are of clients of SQL that speak this protocol.
    pub(super) fn counted(self, metrics: Arc<Metrics>, protocol: &'static str) -> Self {
        Self { counted: Some(Counts { metrics, protocol }), ..self }
    }

    /// Ends a connection over which nobody was let in for so long, however lively it is.
    pub(super) fn within(self, login: Duration) -> Self {
        Self { login: Some(login), ..self }
    }

    /// The next client, once there is a place for it.
    pub(super) async fn next(&mut self) -> Accepted {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = self.free.clone().acquire_owned().await.ok();
        let (stream, tls) = tokio::select! {
            (stream, _) = Listener::accept(&mut self.listener) => {
                // Small answers go out at once; a socket that refuses this still works.
                let _ = stream.set_nodelay(true);
                (Either::Left(stream), self.tls.clone())
            }
            stream = from_socket(self.socket.as_mut()) => (Either::Right(stream), None),
        };
        let counted = self.counted.as_ref().map(Counts::one);
        Accepted { stream, idle: self.idle, tls, login: self.login, permit, counted }
    }
}

async fn from_socket(socket: Option<&mut Socket>) -> UnixStream {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

/// A client that has its place.
pub(super) struct Accepted {
    stream: Stream,
    idle: Duration,
    tls: Option<Tls>,
    login: Option<Duration>,
    permit: Option<OwnedSemaphorePermit>,
    counted: Option<Counted>,
}

impl Accepted {
    /// Its connection, moved to the runtime of the task that calls this.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub(super) fn open_here(mut self) -> io::Result<Connection> {
        self.stream = match self.stream {
            Either::Left(stream) => Either::Left(TcpStream::from_std(stream.into_std()?)?),
            Either::Right(stream) => Either::Right(UnixStream::from_std(stream.into_std()?)?),
        };
        Ok(self.open())
    }

    /// Its connection, on the runtime that accepted it.
    pub(super) fn open(self) -> Connection {
        let Self { stream, idle, tls, login, permit, counted } = self;
        #[expect(clippy::disallowed_methods, reason = "the deadline of a connection")]
        let deadline = Box::pin(tokio::time::sleep(idle));
        #[expect(clippy::disallowed_methods, reason = "the deadline of a login")]
        let login = login.map(|within| (Login::default(), Box::pin(tokio::time::sleep(within))));
        let moved = Instant::now();
        let (joined, _permit, _counted) = (Vec::new(), permit, counted);
        let stream = BoundedStream { stream, idle, moved, deadline, login, joined, _permit, _counted };
        Connection::new(stream, tls.as_ref().map(|tls| &tls.0))
    }
}

/// Whether somebody was let in over a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Login(Arc<AtomicBool>);

impl Login {
    pub(super) fn done(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that fails once nothing has moved on it for the idle time, or nobody was let in in time.
pub(super) struct BoundedStream {
    stream: Stream,
    idle: Duration,
    /// When something moved last.
    moved: Instant,
    /// Not later than `idle` after it.
    deadline: Pin<Box<Sleep>>,
    /// Until somebody is let in; absent where everybody is.
    login: Option<(Login, Pin<Box<Sleep>>)>,
    joined: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Option<Counted>,
}

struct Counts {
    metrics: Arc<Metrics>,
    protocol: &'static str,
}

impl Counts {
    fn one(&self) -> Counted {
        self.metrics.sql_connected(self.protocol, 1);
        Counted { metrics: Arc::clone(&self.metrics), protocol: self.protocol }
    }
}

/// A connection that the metrics know of, until it is dropped.
struct Counted {
    metrics: Arc<Metrics>,
    protocol: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.sql_connected(self.protocol, -1);
    }
}

impl BoundedStream {
    pub(super) fn login(&self) -> Option<Login> {
        self.login.as_ref().map(|(login, _)| login.clone())
    }

    /// Before any byte moves: an error must not come with bytes.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some((login, deadline)) = &mut self.login else { return Ok(()) };
        if login.is_done() {
            self.login = None;
        } else if deadline.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn bound<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.moved = Instant::now();
            return progress;
        }
        // The timer is set anew when it fires, not with every byte.
        while self.deadline.as_mut().poll(context).is_ready() {
            let deadline = self.moved + self.idle;
            if deadline <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.deadline.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        let progress = Pin::new(&mut self.stream).poll_read(context, into);
        self.bound(context, progress)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        let Self { stream, joined, .. } = &mut *self;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let progress = if bytes <= JOINED_MAX {
            joined.clear();
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            Pin::new(stream).poll_write(context, joined)
        } else {
            Pin::new(stream).poll_write_vectored(context, parts)
        };
        self.bound(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes of reading for ever from a client that never stops talking.
    async fn read_all(is_let_in: bool) -> Option<io::ErrorKind> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = BoundedListener::new(listener, None, 1, Duration::from_secs(60));
        let mut listener = listener.within(Duration::from_millis(20));
        let talking = tokio::spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            let mut every = tokio::time::interval(Duration::from_millis(1));
            // Longer than the deadline; then the client leaves by itself.
            for _ in 0..100 {
                every.tick().await;
                if client.write_all(b"ping").await.is_err() {
                    return;
                }
            }
        });
        let mut connection = listener.next().await.open();
        if is_let_in {
            connection.login().unwrap().done();
        }
        let mut bytes = Vec::new();
        let read = connection.read_to_end(&mut bytes).await;
        drop(connection);
        talking.await.unwrap();
        read.err().map(|error| error.kind())
    }

    #[tokio::test]
    async fn what_moves_outlives_the_idle_time_and_what_rests_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = BoundedListener::new(listener, None, 1, Duration::from_millis(500));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = listener.next().await.open();
        let mut bytes = [0; 4];
        let mut every = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..10 {
            every.tick().await;
            client.write_all(b"ping").await.unwrap();
            connection.read_exact(&mut bytes).await.unwrap();
        }
        let rested = connection.read_exact(&mut bytes).await;
        assert_eq!(rested.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn parts_come_as_they_are_however_long_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = BoundedListener::new(listener, None, 1, Duration::from_secs(60));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = listener.next().await.open();
        for length in [0, 1, JOINED_MAX - 1, JOINED_MAX, JOINED_MAX + 1, 4 << 20] {
            let bytes: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let mut read = vec![0; length];
            let write = async {
                let mut left = &bytes[..];
                while !left.is_empty() {
                    let (head, body) = left.split_at(left.len() / 3);
                    let written = connection.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]).await.unwrap();
                    left = &left[written..];
                }
            };
            tokio::join!(write, async { client.read_exact(&mut read).await.unwrap() });
            assert_eq!(read, bytes);
        }
    }

    #[tokio::test]
    async fn talking_keeps_no_connection_over_which_nobody_is_let_in() {
        assert_eq!(read_all(false).await, Some(io::ErrorKind::TimedOut));
        assert_eq!(read_all(true).await, None);
    }
}
