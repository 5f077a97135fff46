use pgwire::tokio::TlsAcceptor;

use crate::serve::sql::PostgresSettings;
use crate::serve::tls::{self, TlsError};

/// Encryption by the settings' certificate; `None` without one.
pub(super) fn acceptor(settings: &PostgresSettings) -> Result<Option<TlsAcceptor>, TlsError> {
    // Clients that begin with TLS at once ask for it by this name.
    tls::acceptor("postgres", [&settings.certificate_file, &settings.key_file], b"postgresql")
}
