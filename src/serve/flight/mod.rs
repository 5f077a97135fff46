//! The lake for clients of Arrow Flight SQL: ADBC, JDBC, whatever wants many rows at once. Read-only, complete epochs only.
//!
//! The protocol is arrow-flight's on tonic; statements are planned by the engine that answers clients of PostgreSQL, under the
//! same users, roles and limits. A question is planned when its FlightInfo is asked for, of one epoch, and is kept with it until
//! its ticket is fetched. Rows are encoded where they are computed, and travel as Arrow has them in memory.

mod admission;
mod asking;
mod bind;
mod catalog;
mod front;
mod kept;
mod rows;
mod service;
mod settings;
mod status;
mod values;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::Connected;

pub use settings::FlightSettings;

use super::bounded::{BoundedListener, Login};
use super::connection::Connection;
use super::keys::is_loopback;
use super::sql::measured::Protocol;
use super::sql::{PasswordError, Sql};
use super::tls::{self, Tls};
use crate::serve::TlsError;

use asking::State;
use front::Front;

/// A message of a client: a statement, or the values of one. Nobody sends rows here.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Calls of one connection at a time.
const STREAMS_MAX: u32 = 100;
/// A connection whose other end is gone is noticed in twice this time; TLS may take half of it.
const ALIVE: Duration = Duration::from_secs(20);
/// A connection over which nobody is let in for so long is ended, as PostgreSQL does.
const LOGIN: Duration = Duration::from_secs(60);
/// How often what is too old is let go.
const SWEEP: Duration = Duration::from_secs(5);

/// A server that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("what the endpoint says of itself cannot be written: {0}")]
    Internal(String),
}

/// The server, ready to listen.
pub struct Flight {
    state: Arc<State>,
    front: Front,
    tls: Option<Tls>,
}

impl Flight {
    /// Checks what the user wrote.
    ///
    /// # Errors
    /// When the certificate cannot be used, or anybody could connect from elsewhere without a password.
    pub fn new(sql: &Sql, settings: FlightSettings) -> Result<Self, FlightError> {
        let sql = Arc::clone(&sql.0);
        sql.passwords.check_address("flight", &settings.address)?;
        let (section, files) = settings.certificate(&sql.settings);
        let tls = tls::acceptor(section, files, b"h2")?.map(Tls);
        if tls.is_none() && !is_loopback(&settings.address) {
            let hint = "give flight.certificate_file and flight.key_file, or keep it behind a proxy that encrypts";
            tracing::warn!(
                address = settings.address,
                hint,
                "Flight SQL is not encrypted: passwords can be read on the way"
            );
        }
        let state = Arc::new(State::new(sql, settings));
        let front = Front::new(Arc::clone(&state));
        let front = front.map_err(|failure| FlightError::Internal(failure.message().to_owned()))?;
        Ok(Self { state, front, tls })
    }

    /// Whether clients must encrypt.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `shutdown` resolves and the statements under way are answered, or the drain timeout is over.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let Self { state, front, tls } = self;
        let settings = &state.settings;
        let listener = BoundedListener::new(listener, tls, settings.connections_max, ALIVE * 3);
        let listener = listener.counted(Arc::clone(&state.sql.metrics), Protocol::Flight.as_str()).within(LOGIN);
        let connections = futures::stream::unfold(listener, |mut listener| async {
            let connection = listener.next().await.open();
            Some((Ok::<_, io::Error>(connection), listener))
        });
        let service = FlightServiceServer::new(front)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(rows::MESSAGE_BYTES_MAX + MESSAGE_BYTES_MAX);
        let (stopping, stopped) = oneshot::channel();
        let serving = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(ALIVE))
            .http2_keepalive_timeout(Some(ALIVE))
            .add_service(service)
            .serve_with_incoming_shutdown(connections, async move {
                shutdown.await;
                let _ = stopping.send(());
            });
        let drain = Duration::from_millis(settings.drain_timeout_ms);
        let overdue = crate::serve::overdue(stopped, drain);
        let sweeping = async {
            let mut every = tokio::time::interval(SWEEP);
            loop {
                every.tick().await;
                state.sweep();
            }
        };
        tokio::select! {
            served = serving => served.map_err(io::Error::other),
            () = overdue => {
                tracing::warn!(drain_timeout_ms = drain.as_millis() as u64, "statements under way were cut off by the shutdown");
                state.cancel_all();
                Ok(())
            }
            () = sweeping => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Option<Login>;

    fn connect_info(&self) -> Option<Login> {
        self.login()
    }
}
