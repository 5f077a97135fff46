//! Encryption by a certificate of the settings, for HTTP and for PostgreSQL's protocol.

use std::path::Path;
use std::sync::Arc;

use pgwire::tokio::TlsAcceptor;
use pgwire::tokio::tokio_rustls::rustls::ServerConfig;
use pgwire::tokio::tokio_rustls::rustls::crypto::ring::default_provider;
use pgwire::tokio::tokio_rustls::rustls::pki_types::pem::PemObject;
use pgwire::tokio::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ServeSettings;

/// A certificate or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{key} {path}: {cause}")]
pub struct TlsError {
    section: &'static str,
    key: &'static str,
    path: String,
    cause: String,
}

/// What makes HTTP TLS.
#[derive(Clone)]
pub struct Tls(pub(super) TlsAcceptor);

impl Tls {
    /// By the settings' certificate; `None` without one.
    ///
    /// # Errors
    /// When certificate or key cannot be read, or do not belong together.
    pub fn load(settings: &ServeSettings) -> Result<Option<Self>, TlsError> {
        let files = [settings.certificate_file.as_path(), settings.key_file.as_path()];
        Ok(acceptor("serve", files, b"http/1.1")?.map(Self))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// By a certificate with its chain and its key, both PEM, of a section of the settings; `None` where they are not given.
/// `protocol` is the name by which clients ask for it within TLS.
pub(super) fn acceptor(
    section: &'static str,
    [certificate, key]: [&Path; 2],
    protocol: &[u8],
) -> Result<Option<TlsAcceptor>, TlsError> {
    if certificate.as_os_str().is_empty() || key.as_os_str().is_empty() {
        return Ok(None);
    }
    let error = |name, path: &Path, cause: &dyn std::fmt::Display| {
        let (path, cause) = (path.display().to_string(), cause.to_string());
        TlsError { section, key: name, path, cause }
    };
    let of_certificate = |cause: &dyn std::fmt::Display| error("certificate_file", certificate, cause);
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|cause| of_certificate(&cause))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|cause| of_certificate(&cause))?;
    let own = PrivateKeyDer::from_pem_file(key).map_err(|cause| error("key_file", key, &cause))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, own))
        .map_err(|cause| of_certificate(&cause))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

#[cfg(test)]
mod tests;
