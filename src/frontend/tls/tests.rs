//! Connections over TLS. The time is simulated: it passes when all tasks wait.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use certificate::Certificate;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::frontend::client_address::Remote;
use crate::frontend::http::fast_path::{NewConnection, Worker, serve};
use crate::frontend::http::pages::Pages;
use crate::frontend::http::rehearsal::context;
use crate::frontend::http::socket::Listener;
use crate::frontend::listen::Audience;

/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A server, and a client that trusts it.
fn server() -> (TlsServer, TlsConnector) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pem = certificate.pem() + &key.serialize_pem();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = TlsServer::new(Certificate::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap()).unwrap();
    (server, TlsConnector::from(Arc::new(client)))
}

/// A TCP connection before the handshake. The system's buffers for the connection are small.
async fn connection() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket2::SockRef::from(&listener).set_send_buffer_size(4096).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (socket, _) = Listener::tcp(listener).unwrap().accept().await.unwrap();
    (client, socket)
}

/// Serves a client that sends these requests. Returns the client, the result of serving it, and how long that took.
async fn served(requests: &[u8]) -> (TlsStream<TcpStream>, io::Result<()>, Duration) {
    let (_stop, stop) = watch::channel(false);
    let context = context();
    let worker = Worker { pages: Pages::new(&context).await.unwrap(), context, stop };
    let (server, connector) = server();
    let (client, socket) = connection().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, socket) = tokio::join!(connector.connect(name, client), handshake(&server, socket, LIMIT));
    let (mut client, socket) = (client.unwrap(), socket.unwrap());
    client.write_all(requests).await.unwrap();
    client.flush().await.unwrap();
    worker.context.connections.admit();
    let (source, open) = (Remote::Ip(Ipv4Addr::LOCALHOST.into()), worker.context.connections.opened());
    let start = Instant::now();
    let fresh = NewConnection { socket, source, unread: Vec::new(), open, audience: Audience::Clients };
    let ended = serve(fresh, &worker).await;
    (client, ended, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_bounded() {
    let (server, _) = server();
    // The client sends one byte of a 512-byte record each second, or nothing.
    for drip in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and what a client sends further"] {
        let (mut client, socket) = connection().await;
        let start = Instant::now();
        let drip = async {
            for byte in drip {
                client.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            done = handshake(&server, socket, LIMIT) => done.unwrap_err(),
            () = drip => unreachable!(),
        };
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_end_with_a_message_that_they_end() {
    let request = b"GET /health HTTP/1.1\r\n\r\n";
    // The limits are as without TLS: 15 to 30 seconds after a request, 5 seconds before the first one, 10 seconds for
    // the rest of a head.
    for (requests, from, to) in [(&request[..], 15, 30), (b"", 5, 5), (&request[..9], 10, 10)] {
        let (mut client, ended, took) = served(requests).await;
        ended.unwrap();
        assert!((Duration::from_secs(from)..=Duration::from_secs(to)).contains(&took), "{took:?}");
        let mut received = Vec::new();
        // `read_to_end` fails if the message that ends the connection is missing.
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.is_empty(), from != 15);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected() {
    let (_client, ended, took) = served(&b"GET / HTTP/1.1\r\n\r\n".repeat(100)).await;
    assert_eq!((ended.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, Duration::from_secs(10)));
    // The system buffers enough for a small reply and the closing message.
    let (_client, ended, took) = served(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    ended.unwrap();
    assert_eq!(took, Duration::ZERO);
}
