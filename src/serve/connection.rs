//! A connection of a client of HTTP, encrypted or not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pgwire::tokio::TlsAcceptor;
use pgwire::tokio::tokio_rustls::Accept;
use pgwire::tokio::tokio_rustls::server::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::bounded::{BoundedStream, Login};

/// A handshake is two ways through the network; who takes longer holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The handshake is the first thing that reading does: whoever is slow with it keeps nobody else waiting.
pub(super) enum Connection {
    Plain(BoundedStream),
    Handshake {
        accept: Box<Accept<BoundedStream>>,
        deadline: Pin<Box<Sleep>>,
    },
    Encrypted(Box<TlsStream<BoundedStream>>),
    /// The handshake came to nothing.
    Failed,
}

impl Connection {
    pub(super) fn new(stream: BoundedStream, tls: Option<&TlsAcceptor>) -> Self {
        let Some(tls) = tls else { return Self::Plain(stream) };
        #[expect(clippy::disallowed_methods, reason = "the deadline of a handshake")]
        let deadline = Box::pin(tokio::time::sleep(HANDSHAKE));
        Self::Handshake { accept: Box::new(tls.accept(stream)), deadline }
    }

    /// Who is to hear that somebody was let in; absent where everybody is, or once the connection is over.
    pub(super) fn login(&self) -> Option<Login> {
        match self {
            Self::Plain(stream) => stream.login(),
            Self::Handshake { accept, .. } => accept.get_ref()?.login(),
            Self::Encrypted(stream) => stream.get_ref().0.login(),
            Self::Failed => None,
        }
    }

    /// Ready when bytes can go to and fro.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Handshake { accept, deadline } = self else { return Poll::Ready(Ok(())) };
        let done = match Pin::new(accept.as_mut()).poll(context) {
            Poll::Pending => {
                ready!(deadline.as_mut().poll(context));
                Err(io::ErrorKind::TimedOut.into())
            }
            Poll::Ready(done) => done,
        };
        let (state, told) = match done {
            Ok(stream) => (Self::Encrypted(Box::new(stream)), Ok(())),
            Err(error) => {
                tracing::debug!(%error, "a handshake failed");
                (Self::Failed, Err(error))
            }
        };
        *self = state;
        Poll::Ready(told)
    }
}

fn failed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
            Self::Handshake { .. } | Self::Failed => Poll::Ready(Err(failed())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
            Self::Handshake { .. } | Self::Failed => Poll::Ready(Err(failed())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, parts),
            Self::Handshake { .. } | Self::Failed => Poll::Ready(Err(failed())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            // Of what a handshake leads to.
            Self::Handshake { .. } | Self::Encrypted(_) | Self::Failed => true,
        }
    }

    /// Before the handshake is over nothing was written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Self::Handshake { .. } | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Self::Handshake { .. } | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}
