//! Requests that the cache refuses, and hostile requests.

use std::io::Read as _;
use std::net::TcpStream;

use crate::client::{Connection, get, request};
use crate::program::CacheProgram;
use crate::upstream::{Content, Scripted, blob_path, noise};

fn upstream() -> Scripted {
    Content::default().with_blob("a", &noise(100, 1)).serve()
}

#[test]
fn methods_that_write() {
    let upstream = upstream();
    let program = CacheProgram::start(&upstream);
    for method in ["PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let got = request(program.address, method, "/v2/a/blobs/uploads/", &[("content-length", "0")]);
        assert_eq!((got.status, got.header("allow"), got.error().0.as_str()), (405, Some("GET, HEAD"), "UNSUPPORTED"));
    }
    let mut connection = Connection::open(program.address);
    connection.send("CONNECT", "registry-1.docker.io:443", &[]);
    let got = connection.reply(false);
    let (code, sentence) = got.error();
    assert_eq!((got.status, code.as_str()), (405, "UNSUPPORTED"));
    assert!(sentence.contains("contenturl") && sentence.contains("mirror"), "{sentence}");
    assert_eq!(upstream.take(), [""; 0]);
}

#[test]
fn hostile_paths_and_digests_do_not_go_upstream() {
    let upstream = upstream();
    let program = CacheProgram::start(&upstream);
    let hex = "ab".repeat(32);
    for (path, status) in [
        ("/v2/a/blobs/sha256:zz".to_owned(), 400),
        (format!("/v2/a/blobs/sha256:{}", hex.to_uppercase()), 400),
        (format!("/v2/a/blobs/sha256:{hex}/"), 404),
        (format!("/v2/../etc/blobs/sha256:{hex}"), 400),
        (format!("/v2/a/%2e%2e/blobs/sha256:{hex}"), 400),
        (format!("/v2/A/blobs/sha256:{hex}"), 400),
        (format!("/v2/{}/blobs/sha256:{hex}", "a".repeat(300)), 400),
        ("/v2/a/manifests/-t".to_owned(), 404),
        ("/v2/_catalog".to_owned(), 405),
        ("/v2/a/blobs/uploads/".to_owned(), 405),
        (format!("/v2/{}", "a/".repeat(600)), 414),
        ("/v2/a/tags/list?ns=x&ns=y".to_owned(), 400),
        ("//".to_owned(), 404),
        ("/status/".to_owned(), 404),
        ("/etc/passwd".to_owned(), 404),
        ("/v1/x".to_owned(), 404),
    ] {
        let got = get(program.address, &path);
        assert_eq!(got.status, status, "{path}");
        assert!(!got.error().1.is_empty(), "{path}");
        assert_eq!(request(program.address, "HEAD", &path, &[]).status, status, "{path}");
    }
    assert_eq!(upstream.take(), [""; 0]);
}

#[test]
fn hostile_heads_end_their_connection_only() {
    let upstream = upstream();
    let program = CacheProgram::start(&upstream);
    let huge = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 1 << 20], b"\r\n\r\n".to_vec()].concat();
    let many = ["GET / HTTP/1.1\r\n", &"x: y\r\n".repeat(1000), "\r\n"].concat();
    for bytes in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &huge, many.as_bytes()] {
        let mut stream = TcpStream::connect(program.address).unwrap();
        // The cache may close the connection before all bytes are written.
        let _ = std::io::Write::write_all(&mut stream, bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(!reply.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(get(program.address, "/health").text(), "ok\n");
}

#[test]
fn hostile_headers_change_nothing() {
    let blob = noise(100, 1);
    let upstream = upstream();
    let program = CacheProgram::start(&upstream);
    for headers in [
        [("range", "bytes=\u{e4}"), ("if-range", "\"")],
        [("if-none-match", "\"\"\"\"\""), ("range", "bytes=,,,,")],
        [("accept", ""), ("authorization", "Basic")],
        [("connection", "authorization, range"), ("x-forwarded-for", "127.0.0.1")],
    ] {
        let got = request(program.address, "GET", &blob_path("a", &blob), &headers);
        assert!(got.body.as_ref() == Ok(&blob), "{headers:?}: {got:?}");
    }
}

#[test]
fn a_client_that_sends_nothing_is_given_up() {
    let upstream = upstream();
    let program = CacheProgram::with(&upstream, &[("CLIENT_TIMEOUT", "1")]);
    for begun in ["", "GET /health HT"] {
        let mut stream = TcpStream::connect(program.address).unwrap();
        std::io::Write::write_all(&mut stream, begun.as_bytes()).unwrap();
        let mut reply = String::new();
        // The read ends because the cache closes the connection. Without the timeout the test would wait for ever.
        let _ = stream.read_to_string(&mut reply);
        assert!(!reply.contains("200"), "{reply}");
    }
}

#[test]
fn a_client_that_takes_nothing_is_given_up_and_hurts_no_other() {
    let blob = vec![7; 32 << 20];
    let upstream = Content::default().with_blob("a", &blob).serve();
    let program = CacheProgram::with(&upstream, &[("CLIENT_TIMEOUT", "1")]);
    let mut slow = Connection::open(program.address);
    slow.send("GET", &blob_path("a", &blob), &[]);
    assert_eq!(slow.head().status, 200);
    assert!(get(program.address, &blob_path("a", &blob)).body.as_ref() == Ok(&blob));
    // The connection that asks for the metrics is the only one left.
    while program.metric("torrent_cache_connections") != 1 {}
    assert!(slow.rest(blob.len(), 0).is_err());
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let upstream = upstream();
    let program = CacheProgram::with(&upstream, &[("MAX_CONNECTIONS", "1")]);
    let mut first = Connection::open(program.address);
    assert_eq!(first.request("GET", "/health", &[]).status, 200);
    let mut second = Connection::open(program.address);
    second.send("GET", "/health", &[]);
    assert_eq!(first.request("GET", "/metrics", &[]).status, 200);
    drop(first);
    assert_eq!(second.reply(false).status, 200);
}

#[test]
fn half_a_request_does_not_hold_its_connection() {
    let program = CacheProgram::with(&Content::default().serve(), &[("CLIENT_TIMEOUT", "1")]);
    let mut connection = Connection::open(program.address);
    assert_eq!(connection.request("GET", "/health", &[]).status, 200);
    // The test begins with a whole request, because the HTTP library limits the time of the first request itself.
    connection.raw(b"G");
    assert!(connection.is_closed());
}
