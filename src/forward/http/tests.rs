//! Exchanges over real sockets, with trackers that the tests start.

use std::net::SocketAddr;

use super::awc_client::{ConnectRoute, MAX_RAW};
use super::reply::MAX_BODY;
use super::route::UpstreamRoute;
use super::*;
use crate::forward::headers::{MAX_USER_AGENT, USER_AGENT};
use crate::forward::test_tls::acceptor;
use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracker_protocol::upstream::{Retry, UpstreamReply};

const BODY: &[u8] = b"d8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe1e";
/// [`BODY`] in gzip.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x4b\xb1\xb0\xca\xcc\x2b\x49\x2d\x2a\x4b\xcc\xc9\x34\xb4\x30\
    \x30\x48\x35\xb5\x2a\x48\x4d\x2d\x2a\x36\xb3\xe2\x62\x60\x60\x94\x7a\x98\x0a\0\x4c\xab\xcb\x1d\x21\0\0\0";
/// The beginning of a gzip bomb. Each zero byte that follows it inflates to 1,032 zeros.
const BOMB: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xec\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\x0a";
const QUERY: &str = "info_hash=%00%ffA&port=6881";
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

fn headers(user_agent: Option<&[u8]>) -> PassedHeaders {
    PassedHeaders::new(user_agent, "1.1 us")
}

fn new_upstream(uri: &Url, host: Option<&str>) -> Result<HttpUpstream, String> {
    HttpUpstream::new(uri, host, None, Arc::default())
}

fn url(url: &str) -> Url {
    Url::parse(url).unwrap()
}

fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(request).unwrap()
}

async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, reply: &[u8]) -> String {
    let request = read_request(&mut io).await;
    // The write fails if the client has read enough and has closed the connection.
    let _ = io.write_all(reply).await;
    let _ = io.flush().await;
    request
}

/// Starts a tracker that sends these replies, one per connection. Returns its address and the requests it gets.
async fn tracker(replies: Vec<Vec<u8>>) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::unbounded_channel();
    actix_web::rt::spawn(async move {
        for reply in replies {
            let request = serve(listener.accept().await.unwrap().0, &reply).await;
            let _ = sender.send(request);
        }
    });
    (address, requests)
}

fn route(addresses: &[SocketAddr]) -> UpstreamRoute {
    UpstreamRoute { addresses: addresses.to_vec(), proxy: None, connect: ConnectRoute::default(), authorization: None }
}

async fn ask(address: SocketAddr, timeout: Duration) -> Result<UpstreamReply, ForwardError> {
    let upstream = new_upstream(&url(&format!("http://{address}/announce")), None).unwrap();
    upstream.announce(QUERY, &headers(None), timeout).await.map(|answer| answer.reply)
}

async fn answer_to(reply: Vec<u8>) -> Result<UpstreamReply, ForwardError> {
    let (address, _requests) = tracker(vec![reply]).await;
    ask(address, LONG).await
}

#[test]
fn the_query_is_appended_to_the_uri_s() {
    let cases = [
        ("http://tracker.example", "/?Q"),
        ("http://tracker.example?passkey=x", "/?passkey=x&Q"),
        ("http://tracker.example/announce?", "/announce?Q"),
        ("http://tracker.example/announce?a=b&", "/announce?a=b&Q"),
        ("http://tracker.example/a b\"<>/é|^%zz?c d=\"<é>#e", "/a%20b%22%3C%3E/%C3%A9|^%zz?c%20d=%22%3C%C3%A9%3E&Q"),
        ("http://tracker.example/announce?info_hash=x&a=b", "/announce?info_hash=x&a=b"),
    ];
    for (uri, expected) in cases {
        let upstream = new_upstream(&url(uri), None).unwrap();
        let headers = headers(None);
        let request = upstream.request(upstream.router.start(), QUERY, &headers, None).unwrap();
        assert_eq!(request.uri.path_and_query().unwrap().as_str(), expected.replace('Q', QUERY), "{uri}");
    }
}

#[test]
fn errors_in_the_configuration_do_not_show_the_passkey() {
    let long = format!("http://tracker.example/{}", "secret".repeat(20_000));
    for (uri, host) in [
        ("udp://tracker.example/secret", None),
        ("http://tracker.example:0/secret", None),
        (long.as_str(), None),
        ("http://tracker.example/secret", Some("a b")),
        ("http://tracker.example/secret", Some("")),
        ("http://tracker.example/secret", Some("a/b")),
        ("http://tracker.example/secret", Some("user@a")),
        ("https://tracker.example/secret", Some("-.example")),
    ] {
        let error = new_upstream(&url(uri), host).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
    let upstream = new_upstream(&url("http://me:secret@tracker.example/secret"), None).unwrap();
    assert!(!format!("{upstream:?}").contains("secret"));
}

#[actix_web::test]
async fn a_request_is_complete_and_has_no_header_twice() {
    let (address, mut requests) = tracker(vec![reply("200 OK", BODY), reply("200 OK", BODY)]).await;
    let upstream = new_upstream(&url(&format!("http://{address}/announce")), None).unwrap();
    upstream.announce(QUERY, &headers(Some(b"Transmission/4.0")), LONG).await.unwrap();
    let request = requests.recv().await.unwrap();
    let mut lines: Vec<_> = request.lines().filter(|line| !line.starts_with("Date: ")).collect();
    lines[1..].sort_unstable();
    let host = format!("Host: {address}");
    assert_eq!(
        lines,
        [
            "GET /announce?info_hash=%00%ffA&port=6881 HTTP/1.1",
            "",
            "Accept-Encoding: gzip",
            "Connection: close",
            &host,
            "User-Agent: Transmission/4.0",
            "Via: 1.1 us",
        ]
    );

    let uri = url(&format!("http://me:p%40ss@{address}"));
    let upstream = new_upstream(&uri, Some("Tracker.Example")).unwrap();
    upstream.announce(QUERY, &headers(Some(b"bad\nagent")), LONG).await.unwrap();
    let request = requests.recv().await.unwrap();
    assert_eq!(request.matches("Host:").count(), 1, "{request}");
    assert!(request.contains("\r\nHost: tracker.example\r\n"), "{request}");
    assert!(request.contains("\r\nAuthorization: Basic bWU6cEBzcw==\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nUser-Agent: {USER_AGENT}\r\n")), "{request}");
}

#[actix_web::test]
async fn replies_with_every_framing_and_encoding_are_read() {
    let length = format!("200 OK\r\nContent-Length: {}", BODY.len());
    let chunked = [b"5\r\n", &BODY[..5], b"\r\n1C;ext\r\n", &BODY[5..], b"\r\n0\r\nTrailer: x\r\n\r\n"].concat();
    for reply in [
        reply(&length, BODY),
        reply("200 OK", BODY),
        reply("200 OK", &[BODY, b"\r\n"].concat()),
        reply("200 OK\r\nTransfer-Encoding: identity", BODY),
        reply("200 OK\r\nTransfer-Encoding: chunked", &chunked),
        // The last chunk is missing, but the body is complete.
        reply("200 OK\r\nTransfer-Encoding: chunked", chunked.strip_suffix(b"0\r\nTrailer: x\r\n\r\n").unwrap()),
        reply("200 OK\r\nContent-Encoding: gzip", GZIP),
        reply("200 OK\r\nContent-Encoding: gzip", &[GZIP, b"x"].concat()),
        reply(&format!("{length}\r\ncontent-length: {}", BODY.len()), BODY),
        reply(&format!("200 OK\r\nContent-Length: {0}, {0}", BODY.len()), BODY),
        reply(&format!("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}", GZIP.len()), GZIP),
        [&b"HTTP/1.0 200 OK\r\n\r\n"[..], BODY].concat(),
        [&b"HTTP/1.0 200 OK\n\n"[..], BODY].concat(),
        [&reply("100 Continue", b"")[..], &reply(&length, BODY)].concat(),
    ] {
        let got = answer_to(reply.clone()).await;
        let got = got.unwrap_or_else(|error| panic!("{error} from {}", reply.escape_ascii()));
        assert_eq!((got.interval, got.peers.len()), (Some(1800), 1));
    }
}

#[actix_web::test]
async fn incomplete_replies_are_errors() {
    let short = &BODY[..BODY.len() - 1];
    let truncated = |status| Err(ForwardError::Truncated { status });
    for (sent, expected) in [
        (reply("200 OK", short), Some(200)),
        (reply("200 OK\r\nContent-Length: 99", BODY), Some(200)),
        (reply("200 OK\r\nContent-Length: 99\r\nContent-Encoding: gzip", GZIP), Some(200)),
        (reply("200 OK\r\nTransfer-Encoding: chunked", &[b"21\r\n", short].concat()), Some(200)),
        (reply("200 OK\r\nContent-Encoding: gzip", &GZIP[..20]), Some(200)),
        (b"HTTP/1.1 200 OK\r\nContent-".to_vec(), None),
        (Vec::new(), None),
    ] {
        assert_eq!(answer_to(sent.clone()).await, truncated(expected), "{}", sent.escape_ascii());
    }
}

#[actix_web::test]
async fn malformed_replies_are_junk() {
    for (sent, status) in [
        (reply("200 OK\r\nContent-Length: 0", b""), Some(200)),
        (reply("200 OK", b"<html>"), Some(200)),
        (reply("200 OK", b"le"), Some(200)),
        (reply("200 OK\r\nContent-Encoding: gzip", BODY), Some(200)),
        (reply("200 OK\r\nTransfer-Encoding: chunked", BODY), Some(200)),
        (reply("200 OK\r\nContent-Length: 33\r\nContent-Length: 32", BODY), None),
        (BODY.to_vec(), None),
        (b"SSH-2.0-OpenSSH_10.0\r\n".to_vec(), None),
    ] {
        let error = answer_to(sent.clone()).await.unwrap_err();
        assert_eq!((error.label(), error.status()), ("junk", status), "{error} from {}", sent.escape_ascii());
    }
}

#[actix_web::test]
async fn replies_that_are_too_large_are_dropped_at_the_bound() {
    let too_large = |status| Err(ForwardError::TooLarge { status });
    let million = vec![b'd'; MAX_BODY + 1];
    assert_eq!(answer_to(reply("200 OK", &million)).await, too_large(Some(200)));
    assert_eq!(answer_to(reply("200 OK\r\nContent-Length: 9999999999", b"d")).await, too_large(Some(200)));
    let bomb = [BOMB, &[0; 4096]].concat();
    assert_eq!(answer_to(reply("200 OK\r\nContent-Encoding: gzip", &bomb)).await, too_large(Some(200)));
    // Bytes that are not part of the body are bounded too: chunk extensions, trailers and chunk heads.
    let extensions = [&b"1;"[..], &vec![b'x'; 2 * MAX_RAW]].concat();
    let trailers = [&b"2\r\nde\r\n0\r\n"[..], &b"A: b\r\n".repeat(MAX_RAW / 2)].concat();
    for body in [extensions, trailers] {
        assert_eq!(answer_to(reply("200 OK\r\nTransfer-Encoding: chunked", &body)).await, too_large(Some(200)));
    }
    let chunks = b"1;xxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nd\r\n".repeat(MAX_RAW / 8);
    assert_eq!(answer_to(reply("200 OK\r\nTransfer-Encoding: chunked", &chunks)).await, too_large(Some(200)));
    // awc would panic at this header name.
    let name = "a".repeat(65_536);
    assert_eq!(answer_to(reply(&format!("200 OK\r\n{name}: b"), BODY)).await, too_large(None));
}

#[actix_web::test]
async fn no_exchange_takes_longer_than_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_web::rt::spawn(async move {
        for head in [
            "HTTP/1.1 200 OK\r\nA: ",
            "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
        ] {
            let mut io = listener.accept().await.unwrap().0;
            read_request(&mut io).await;
            io.write_all(head.as_bytes()).await.unwrap();
            while io.write_all(b"H").await.is_ok() {
                // One byte each millisecond. Without a pause the bound on size would end the exchange first.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let start = Instant::now();
    assert_eq!(ask(address, SHORT).await, Err(ForwardError::Timeout));
    assert_eq!(ask(address, SHORT).await, Err(ForwardError::Timeout));
    // The status came in time, so it is reported although the body never ends.
    assert_eq!(ask(address, SHORT * 20).await, Err(ForwardError::Status { code: 404, retry_after: None }));
    // None of the three replies ever ends. The bound is generous because of busy machines.
    assert!(start.elapsed() < LONG * 3);
}

#[actix_web::test]
async fn refusals_keep_their_status_but_not_our_passkey() {
    const REASON: &[u8] = b"d14:failure reason26:no 0123456789abcdef \x1b[1m!!8:retry in5:nevere";
    let html = b"<html>not found</html>";
    let (address, _requests) = tracker(vec![
        reply("200 OK", REASON),
        reply("400 Bad Request", REASON),
        reply("404 Not Found", html),
        reply("503 Busy\r\nRetry-After: 7", html),
        reply("429 Busy\r\nRetry-After: 8", REASON),
        reply("500 Busy\r\nRetry-After: 9", BODY),
        reply("204 No Content", b""),
    ])
    .await;
    let uri = url(&format!("http://{address}/0123456789abcdef/announce"));
    let upstream = new_upstream(&uri, None).unwrap();
    let mut answers = Vec::new();
    for _ in 0..7 {
        answers.push(upstream.announce(QUERY, &headers(None), LONG).await.unwrap_err());
    }
    let refused = |status, retry_after| {
        let reason = b"no *** \x1b[1m!!".to_vec();
        ForwardError::Refused { reason, retry: Retry::Never, status: Some(status), retry_after }
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        answers,
        [
            refused(200, None),
            refused(400, None),
            ForwardError::Status { code: 404, retry_after: None },
            ForwardError::Status { code: 503, retry_after: seconds(7) },
            refused(429, seconds(8)),
            ForwardError::Status { code: 500, retry_after: None },
            ForwardError::Status { code: 204, retry_after: None },
        ]
    );
    assert_eq!(answers[0].to_string(), r"it refuses: no *** \x1b[1m!!");
}

#[actix_web::test]
async fn unreachable_addresses_are_skipped() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (live, _requests) = tracker(vec![reply("200 OK", BODY)]).await;
    let upstream = new_upstream(&url("http://tracker.example/announce"), None).unwrap();
    let passed = headers(None);
    let request = upstream.request(upstream.router.start(), QUERY, &passed, None).unwrap();
    let deadline = Instant::now() + LONG;
    assert_eq!(request.send(&route(&[dead, live]), deadline).await.unwrap().1, live);
    assert_eq!(request.send(&route(&[dead]), deadline).await.map(|_| ()).unwrap_err().label(), "connect");
    let upstream = new_upstream(&url("http://tracker.invalid/announce"), None).unwrap();
    assert_eq!(upstream.announce(QUERY, &headers(None), LONG).await.unwrap_err().label(), "dns");
}

#[actix_web::test]
async fn redirects_are_followed_and_only_the_upstream_itself_gets_host_and_login() {
    let (other, mut other_requests) = tracker(vec![reply("200 OK\r\nContent-Length: 2", b"de")]).await;
    let (address, mut requests) = tracker(vec![
        reply("301 x\r\nLocation: ../b?info_hash=theirs", b""),
        reply("307 x\r\nLocation: http://tracker.test:81/c?key=é \"x", b""),
        reply(&format!("302 x\r\nLocation: http://{other}/d#e"), b"<html>"),
    ])
    .await;
    let upstream = new_upstream(&url(&format!("http://me:pass@{address}/x/a")), Some("tracker.test:81")).unwrap();
    upstream.announce(QUERY, &headers(Some(b"agent")), LONG).await.unwrap();
    for path in ["/x/a?Q", "/b?info_hash=theirs", "/c?key=%C3%A9%20%22x&Q"] {
        let request = requests.recv().await.unwrap();
        assert!(request.starts_with(&format!("GET {} HTTP/1.1\r\n", path.replace('Q', QUERY))), "{request}");
        assert!(request.contains("\r\nHost: tracker.test:81\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: "), "{request}");
    }
    let request = other_requests.recv().await.unwrap();
    assert!(request.starts_with(&format!("GET /d?{QUERY} HTTP/1.1\r\n")), "{request}");
    assert!(request.contains(&format!("\r\nHost: {other}\r\n")), "{request}");
    assert!(request.contains("\r\nUser-Agent: agent\r\n"), "{request}");
    assert!(!request.contains("\r\nAuthorization: "), "{request}");
}

#[actix_web::test]
async fn a_cookie_that_a_redirect_sets_is_sent_back() {
    let set =
        "302 x\r\nLocation: /announce\r\nSet-Cookie: a=b; Path=/; HttpOnly\r\nSet-Cookie: c=\"d\"\r\nSet-Cookie: =e";
    let (address, mut requests) = tracker(vec![reply(set, b""), reply("200 OK", BODY)]).await;
    ask(address, LONG).await.unwrap();
    assert!(!requests.recv().await.unwrap().contains("Cookie"));
    let request = requests.recv().await.unwrap();
    assert!(request.contains("\r\nCookie: a=b; c=\"d\"\r\n"), "{request}");
    // The upstream gets the cookies and redirects again, so the exchange ends after two requests.
    let (address, mut requests) = tracker(vec![reply(set, b""); 7]).await;
    let circle = ForwardError::Redirect { why: BadRedirect::Circle, status: 302 };
    assert_eq!(ask(address, LONG).await, Err(circle));
    assert_eq!(std::iter::from_fn(|| requests.recv().now_or_never()).count(), 2);
    // The cookies are not sent to another host.
    let (other, mut others) = tracker(vec![reply("200 OK", BODY)]).await;
    let away = format!("302 x\r\nSet-Cookie: a=b\r\nLocation: http://localhost:{}/", other.port());
    let (address, _requests) = tracker(vec![reply(&away, b"")]).await;
    ask(address, LONG).await.unwrap();
    assert!(!others.recv().await.unwrap().contains("Cookie"));
}

#[test]
fn a_user_agent_is_always_sent() {
    let sent = |user_agent: Option<&[u8]>| headers(user_agent).user_agent.as_bytes().to_vec();
    let long = "x".repeat(150);
    for nothing in [None, Some(&b""[..]), Some(b" \t"), Some(b"a\nb"), Some(b"\0"), Some(b"a\x7f")] {
        assert_eq!(sent(nothing), USER_AGENT.as_bytes(), "{nothing:?}");
    }
    assert_eq!(sent(Some(long.as_bytes())), long.as_bytes()[..MAX_USER_AGENT]);
    assert_eq!(sent(Some(b" qB/4 ")), b"qB/4");
    assert_eq!(sent(Some("é".as_bytes())), "é".as_bytes());
}

#[actix_web::test]
async fn the_number_of_redirects_is_bounded() {
    let refused = |why, status| Err(ForwardError::Redirect { why, status });
    let endless = (0..7).map(|n| reply(&format!("308 x\r\nLocation: /{n}"), b"")).collect();
    let (address, mut requests) = tracker(endless).await;
    assert_eq!(ask(address, LONG).await, refused(BadRedirect::TooMany, 308));
    let asked = std::iter::from_fn(|| requests.recv().now_or_never()).count();
    assert_eq!(asked, MAX_REDIRECTS + 1);
    let (address, mut requests) = tracker(vec![reply("308 x\r\nLocation: /", b""); 7]).await;
    assert_eq!(ask(address, LONG).await, refused(BadRedirect::Circle, 308));
    assert_eq!(std::iter::from_fn(|| requests.recv().now_or_never()).count(), 2);
    for location in ["", "\r\nLocation: ftp://tracker.example/", "\r\nLocation: http://", "\r\nLocation: http://a:0/"] {
        let answer = answer_to(reply(&format!("302 x{location}"), b"")).await;
        assert_eq!(answer, refused(BadRedirect::Location, 302), "{location}");
    }
}

#[actix_web::test]
async fn tls_checks_the_name_in_host_and_accepts_an_end_without_close_notify() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut requests) = mpsc::unbounded_channel();
    actix_web::rt::spawn(async move {
        loop {
            let tcp = listener.accept().await.unwrap().0;
            if let Ok(tls) = acceptor().accept(tcp).await {
                let (_, session) = tls.get_ref();
                let name = session.server_name().map(str::to_owned);
                let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
                let _ = sender.send((name, protocol, serve(tls, &reply("200 OK", BODY)).await));
            }
        }
    });
    let uri = url(&format!("https://{address}/announce"));
    let upstream = new_upstream(&uri, Some("tracker.test")).unwrap();
    assert_eq!(upstream.announce(QUERY, &headers(None), LONG).await.unwrap().reply.interval, Some(1800));
    let (name, _, request) = requests.recv().await.unwrap();
    assert_eq!(name.as_deref(), Some("tracker.test"));
    assert!(request.contains("\r\nHost: tracker.test\r\n"), "{request}");

    let upstream = new_upstream(&uri, None).unwrap();
    assert_eq!(upstream.announce(QUERY, &headers(None), LONG).await.unwrap_err().label(), "tls");
    let (plain, _requests) = tracker(vec![reply("400 Bad Request", b"")]).await;
    let upstream = new_upstream(&url(&format!("https://{plain}/")), None).unwrap();
    assert_eq!(upstream.announce(QUERY, &headers(None), SHORT).await.unwrap_err().label(), "timeout");
}
