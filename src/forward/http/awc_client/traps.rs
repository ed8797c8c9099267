//! Each test shows what awc does without our stream and connector. When a test fails, awc has changed, and the
//! work-around for the fault in the test's name can go.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;

use awc::error::{PayloadError, SendRequestError};
use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The largest body that is read.
const MAX_BODY: usize = 64 * 1024;

/// Starts a server that sends these bytes to its first client. Returns the server's address.
async fn server(reply: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_web::rt::spawn(async move {
        let mut io = listener.accept().await.unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(io.read_u8().await.unwrap());
        }
        // The write fails if the client has closed the connection.
        let _ = io.write_all(&reply).await;
    });
    address
}

#[derive(Debug)]
#[expect(dead_code, reason = "errors are shown when a test fails")]
enum PlainError {
    Send(SendRequestError),
    Body(PayloadError),
}

/// Returns the status and the body that awc reads from a reply without our stream.
async fn plain(reply: &[u8]) -> Result<(u16, Vec<u8>), PlainError> {
    let uri = format!("http://{}/", server(reply.to_vec()).await);
    let mut response = awc::Client::new().get(uri).send().await.map_err(PlainError::Send)?;
    let body = response.body().limit(MAX_BODY).await.map_err(PlainError::Body)?;
    Ok((response.status().as_u16(), body.to_vec()))
}

#[actix_web::test]
async fn a_body_that_ends_with_the_connection_is_read_as_empty() {
    assert_eq!(plain(b"HTTP/1.1 200 OK\r\n\r\nde").await.unwrap(), (200, Vec::new()));
    // The same reply, as the module `response` rewrites it.
    assert_eq!(plain(b"HTTP/1.0 200 OK\r\n\r\nde").await.unwrap(), (200, b"de".to_vec()));
}

#[actix_web::test]
async fn a_truncated_body_is_no_error() {
    assert_eq!(plain(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nde").await.unwrap(), (200, b"de".to_vec()));
}

#[actix_web::test]
async fn an_interim_reply_is_taken_for_the_final_one() {
    let reply = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde";
    assert_eq!(plain(reply).await.unwrap().0, 103);
}

#[actix_web::test]
async fn equal_content_lengths_are_refused() {
    for lengths in ["Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2, 2"] {
        let reply = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nde");
        let error = plain(reply.as_bytes()).await.unwrap_err();
        assert!(matches!(error, PlainError::Send(SendRequestError::Response(_))), "{error:?}");
    }
}

#[actix_web::test]
async fn chunk_extensions_are_read_without_a_bound() {
    let extension = vec![b'x'; 4 * super::MAX_RAW];
    let chunks = [b"2;", &extension[..], b"\r\nde\r\n0\r\n\r\n"].concat();
    let reply = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &chunks].concat();
    assert_eq!(plain(&reply).await.unwrap(), (200, b"de".to_vec()));
}

#[actix_web::test]
async fn a_long_header_name_is_a_panic() {
    let reply = format!("HTTP/1.1 200 OK\r\n{}: b\r\nContent-Length: 2\r\n\r\nde", "a".repeat(65_536));
    assert!(AssertUnwindSafe(plain(reply.as_bytes())).catch_unwind().await.is_err());
}
