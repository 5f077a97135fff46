use std::net::SocketAddr;

use pgwire::tokio::tokio_rustls::TlsConnector;
use pgwire::tokio::tokio_rustls::client::TlsStream;
use pgwire::tokio::tokio_rustls::rustls::pki_types::ServerName;
use pgwire::tokio::tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::serve::tests::bare;
use crate::serve::{Listeners, Readiness, Socket, serve};

// Of localhost, until 2120, and of nobody: for these tests alone.
const CERTIFICATE: &str = include_str!("test_certificate.pem");
const KEY: &str = include_str!("test_key.pem");

fn settings(folder: &tempfile::TempDir) -> ServeSettings {
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    ServeSettings {
        certificate_file: file("certificate.pem", CERTIFICATE),
        key_file: file("key.pem", KEY),
        connections_max: 3,
        drain_timeout_ms: 200,
        ..ServeSettings::default()
    }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(settings: ServeSettings) -> Server {
    let tls = Tls::load(&settings).unwrap();
    assert!(tls.is_some());
    let state = bare(settings.clone(), Readiness::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = (!settings.socket.as_os_str().is_empty()).then(|| Socket::bind(&settings.socket).unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(
        serve(Listeners { tcp: listener, tls, socket }, state, async move {
            let _ = stopped.await;
        })
        .unwrap(),
    );
    Server { address, stop, task }
}

async fn connect(address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(CERTIFICATE.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
}

#[tokio::test]
async fn every_route_is_encrypted_and_a_shutdown_ends_what_idles() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(settings(&folder)).await;
    // Those who never finish their handshake, or speak no TLS, keep nobody else waiting.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(REQUEST).await.unwrap();
    let mut stream = connect(server.address).await.unwrap();
    ask(&mut stream).await;
    ask(&mut stream).await;
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told).await;
    assert!(!told.starts_with(b"HTTP"), "{told:?}");
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    let mut rest = Vec::new();
    // With its farewell: a connection that is cut would be an error.
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0);
    let _ = silent.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_socket_is_plain_beside_and_counts_among_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("assay.sock");
    let server = start(ServeSettings { socket: socket.clone(), ..settings(&folder) }).await;
    let mut beside = connect(server.address).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = UnixStream::connect(&socket).await.unwrap();
        ask(&mut client).await;
        ask(&mut client).await;
        clients.push(client);
    }
    ask(&mut beside).await;
    // All three places are taken: who comes now waits until one goes.
    let mut waiting = UnixStream::connect(&socket).await.unwrap();
    waiting.write_all(REQUEST).await.unwrap();
    let mut answer = [0; 12];
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), waiting.read_exact(&mut answer)).await;
    assert!(early.is_err());
    drop(beside);
    waiting.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert!(!socket.exists());
    assert_eq!(clients[0].read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let of = |change: &dyn Fn(&mut ServeSettings)| {
        let mut settings = settings(&folder);
        change(&mut settings);
        Tls::load(&settings).map(|tls| tls.is_some())
    };
    assert!(matches!(of(&|_| {}), Ok(true)));
    let none = |settings: &mut ServeSettings| {
        (settings.certificate_file, settings.key_file) = Default::default();
    };
    assert!(matches!(of(&none), Ok(false)));
    let missing = of(&|settings| settings.key_file = "/nowhere/key.pem".into()).unwrap_err().to_string();
    assert!(missing.starts_with("serve.key_file /nowhere/key.pem: "), "{missing}");
    let swapped = of(&|settings| std::mem::swap(&mut settings.key_file, &mut settings.certificate_file));
    assert!(swapped.unwrap_err().to_string().starts_with("serve."));
    let half = ServeSettings { key_file: "key.pem".into(), ..ServeSettings::default() };
    assert_eq!(half.problem().map(|(key, _)| key), Some("key_file"));
}
