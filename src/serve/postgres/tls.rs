use std::path::Path;
use std::sync::Arc;

use pgwire::tokio::TlsAcceptor;
use pgwire::tokio::tokio_rustls::rustls::ServerConfig;
use pgwire::tokio::tokio_rustls::rustls::crypto::ring::default_provider;
use pgwire::tokio::tokio_rustls::rustls::pki_types::pem::PemObject;
use pgwire::tokio::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{PostgresError, PostgresSettings};

/// Encryption by the settings' certificate; `None` without one.
pub(super) fn acceptor(settings: &PostgresSettings) -> Result<Option<TlsAcceptor>, PostgresError> {
    let (certificate, key) = (&settings.certificate_file, &settings.key_file);
    if certificate.as_os_str().is_empty() || key.as_os_str().is_empty() {
        return Ok(None);
    }
    let error = |name, path: &Path, cause: &dyn std::fmt::Display| {
        let (path, cause) = (path.display().to_string(), cause.to_string());
        PostgresError::Tls { key: name, path, cause }
    };
    let of_certificate = |cause: &dyn std::fmt::Display| error("certificate_file", certificate, cause);
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|cause| of_certificate(&cause))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|cause| of_certificate(&cause))?;
    let own = PrivateKeyDer::from_pem_file(key).map_err(|cause| error("key_file", key, &cause))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, own))
        .map_err(|cause| of_certificate(&cause))?;
    // Clients that begin with TLS at once ask for it by name.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
