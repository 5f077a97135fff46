//! A connection to the warehouse, encrypted as the settings say.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, NoTls};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::error::{WarehouseError, told};
use super::settings::{SslMode, Target, WarehouseSettings};

/// Connects, and says to the server who this is.
///
/// # Errors
/// When nobody answers, or not to this user.
pub async fn connect(settings: &WarehouseSettings, name: &str) -> Result<(Client, String), WarehouseError> {
    let Target { mut client, mode, shown } = settings.target()?;
    client.application_name(name);
    let failed = |error: tokio_postgres::Error| {
        let (code, cause) = told(&error);
        // It will not be another one the next time.
        if mode == SslMode::VerifyFull && cause.contains("peer certificate") {
            let cause = format!("does not vouch for {shown}: {cause}; give its authority, or the name that it is for");
            return WarehouseError::Setting { key: "ca_file", cause };
        }
        WarehouseError::Connect { place: shown.clone(), code, cause }
    };
    let client = if mode == SslMode::Disable {
        let (client, connection) = client.connect(NoTls).await.map_err(failed)?;
        tokio::spawn(connection);
        client
    } else {
        let tls = Tls::new(mode, &settings.ca_file)?;
        let (client, connection) = client.connect(tls).await.map_err(failed)?;
        tokio::spawn(connection);
        client
    };
    // A server that cannot look after its clients while it computes frees the lock of a killed one a little later.
    let _ = client.batch_execute("SET client_connection_check_interval = '1s'").await;
    Ok((client, shown))
}

#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

impl Tls {
    fn new(mode: SslMode, ca_file: &Path) -> Result<Self, WarehouseError> {
        let failed = |cause: String| WarehouseError::Setting { key: "ca_file", cause };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|cause| failed(cause.to_string()))?;
        let mut config = if mode == SslMode::VerifyFull {
            builder.with_root_certificates(roots(ca_file).map_err(failed)?).with_no_client_auth()
        } else {
            let any = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn roots(ca_file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if ca_file.as_os_str().is_empty() {
        let (known, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if known > 0 { Ok(roots) } else { Err("is empty, and the system trusts nobody".to_owned()) };
    }
    let told = |cause: &dyn std::fmt::Display| format!("{}: {cause}", ca_file.display());
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|cause| told(&cause))? {
        roots.add(certificate.map_err(|cause| told(&cause))?).map_err(|cause| told(&cause))?;
    }
    if roots.is_empty() { Err(told(&"holds no certificate")) } else { Ok(roots) }
}

/// Who takes any certificate, as PostgreSQL's `require` does. That the server has its key is proven all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, io::Error> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Handshake { connector: TlsConnector::from(Arc::clone(&self.0)), name })
    }
}

struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Encrypted(self.connector.connect(self.name, stream).await?)) })
    }
}

struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
