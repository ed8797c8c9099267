//! Tests the client with scripted servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, pause, resume};

use super::scripted::{
    Act, ScriptedServer, SeenRequest, bytes, bytes_and_close, client, client_with, head_reply, lookup, reply,
};
use super::*;

const SECRET: &str = "Bearer s3cret";

fn login() -> AskHeaders {
    AskHeaders::from_client([("authorization", SECRET.as_bytes()), ("accept", b"a/b"), ("accept", b"c/d")])
}

async fn get(client: &FetchClient, origin: &UpstreamOrigin, path: &str) -> Result<FetchReply, FetchError> {
    let headers = login();
    let (method, redirects) = (AskMethod::Get, Redirects::Follow);
    client.send(Ask { method, origin, path_and_query: path, headers: &headers, redirects }).await
}

async fn body(reply: FetchReply) -> Result<Bytes, FetchError> {
    reply.body.collect(1 << 20, Duration::from_hours(1)).await
}

async fn get_body(client: &FetchClient, origin: &UpstreamOrigin, path: &str) -> Result<Bytes, FetchFault> {
    match get(client, origin, path).await {
        Ok(reply) => body(reply).await,
        Err(error) => Err(error),
    }
    .map_err(|error| error.fault)
}

/// Returns the error of a task that must fail when this time has passed. The clock is paused: when all tasks wait, it
/// jumps to the next deadline.
async fn error_after<T: std::fmt::Debug>(time: Duration, task: JoinHandle<Result<T, FetchError>>) -> FetchError {
    pause();
    let start = Instant::now();
    let error = task.await.unwrap().unwrap_err();
    let passed = start.elapsed();
    // The task began to wait a moment before the clock stopped.
    assert!(passed > time / 2 && passed <= time + Duration::from_millis(1), "{passed:?}");
    error
}

/// Starts a server over plain HTTP that answers every request by the same script, and makes a client of the server.
async fn plain(
    script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static,
) -> (ScriptedServer, UpstreamOrigin, FetchClient) {
    let server = ScriptedServer::http(script).await;
    let origin = server.origin("http://listed.test");
    let client = client(&[&origin]);
    (server, origin, client)
}

#[tokio::test]
async fn needed_headers_pass_in_both_directions_and_the_connection_is_kept() {
    let headers = "Docker-Content-Digest: sha256:x\r\nSet-Cookie: a=b\r\nConnection: keep-alive\r\n";
    let (mut server, origin, client) = plain(move |_| reply(200, headers, "blob")).await;
    for _ in 0..2 {
        let reply = get(&client, &origin, "/v2/a/../b?x=%2F").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.content_length()), (200, Some(4)));
        let mut names: Vec<_> = reply.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "docker-content-digest"]);
        assert_eq!(body(reply).await.unwrap(), "blob");
    }
    let seen = server.seen();
    assert_eq!(seen.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(seen[0].target(), "GET /v2/a/../b?x=%2F");
    assert_eq!(seen[0].header("host"), [format!("listed.test:{}", server.port())]);
    assert_eq!(seen[0].header("authorization"), [SECRET]);
    assert_eq!(seen[0].header("accept"), ["a/b", "c/d"]);
    assert_eq!(seen[0].header("accept-encoding"), ["identity"]);
    assert!(seen[0].header("user-agent")[0].starts_with("torrent-cache/"));
}

#[tokio::test]
async fn over_tls_the_named_authorities_are_trusted_and_others_not() {
    let server = ScriptedServer::https(|_| reply(200, "", "blob")).await;
    let origin = server.origin("listed.test");
    assert_eq!(get_body(&client(&[&origin]), &origin, "/").await.unwrap(), "blob");

    let stranger = client_with(&[&origin], |options| options.tls = FetchOptions::new(None).unwrap().tls);
    let error = get(&stranger, &origin, "/").await.unwrap_err();
    assert!(matches!(error.fault, FetchFault::Tls(_)), "{error}");
    assert_eq!(error.status(), 502);

    let wrong_name = server.origin("other.test");
    let error = get(&client(&[&wrong_name]), &wrong_name, "/").await.unwrap_err();
    assert!(matches!(error.fault, FetchFault::Tls(_)), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_origin_loses_the_credentials_for_good() {
    let mut cdn = ScriptedServer::https(|request| match request.target() {
        "GET /blob?sig=1" => reply(307, "Location: /elsewhere\r\n", ""),
        _ => reply(200, "", "blob"),
    })
    .await;
    let to = format!("Location: https://cdn.test:{}/blob?sig=1\r\n", cdn.port());
    let mut server = ScriptedServer::https(move |request| match request.target() {
        "GET /a" => reply(301, "Location: b\r\n", "ignored"),
        _ => reply(302, &to, ""),
    })
    .await;
    let origin = server.origin("listed.test");
    assert_eq!(get_body(&client(&[&origin]), &origin, "/a").await.unwrap(), "blob");
    let seen = server.seen();
    let logins: Vec<_> = seen.iter().map(|request| (request.target(), request.header("authorization").len())).collect();
    assert_eq!(logins, [("GET /a", 1), ("GET /b", 1)]);
    let seen = cdn.seen();
    let logins: Vec<_> = seen.iter().map(|request| (request.target(), request.header("authorization").len())).collect();
    assert_eq!(logins, [("GET /blob?sig=1", 0), ("GET /elsewhere", 0)]);
    assert_eq!(seen[0].header("accept"), ["a/b", "c/d"]);
}

#[tokio::test]
async fn credentials_do_not_come_back_with_a_redirect_back() {
    let mut server = ScriptedServer::https(|request| match request.target() {
        "GET /a" => {
            let port = request.header("host")[0].rsplit(':').next().unwrap();
            reply(307, &format!("Location: https://cdn.test:{port}/b\r\n"), "")
        }
        "GET /b" => {
            let port = request.header("host")[0].rsplit(':').next().unwrap();
            reply(307, &format!("Location: https://listed.test:{port}/c\r\n"), "")
        }
        _ => reply(200, "", "blob"),
    })
    .await;
    let origin = server.origin("listed.test");
    assert_eq!(get_body(&client(&[&origin]), &origin, "/a").await.unwrap(), "blob");
    let logins: Vec<_> = server.seen().iter().map(|request| request.header("authorization").len()).collect();
    assert_eq!(logins, [1, 0, 0]);
}

#[tokio::test]
async fn a_redirect_inside_is_refused_unless_that_host_is_listed() {
    let mut inside = ScriptedServer::https(|_| reply(200, "", "secret")).await;
    let names = ["private.test", "127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "0x7f.1"];
    for name in names {
        let to = format!("Location: https://{name}:{}/\r\n", inside.port());
        let server = ScriptedServer::https(move |_| reply(307, &to, "")).await;
        let origin = server.origin("listed.test");
        let error = get(&client(&[&origin]), &origin, "/").await.unwrap_err();
        assert!(matches!(error.fault, FetchFault::NotPublic(_)), "{name}: {error}");
        assert!(error.sentence().contains("UPSTREAMS"));
    }
    assert!(inside.targets().is_empty());

    let to = format!("Location: https://private.test:{}/\r\n", inside.port());
    let server = ScriptedServer::https(move |_| reply(307, &to, "")).await;
    let origin = server.origin("listed.test");
    let listed = inside.origin("private.test");
    assert_eq!(get_body(&client(&[&origin, &listed]), &origin, "/").await.unwrap(), "secret");
}

#[tokio::test]
async fn what_counts_is_the_address_that_is_dialled() {
    // The name has a public address at the first look-up, and a private address at the second.
    let answers = Arc::new(std::sync::Mutex::new(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)]));
    let mut cdn = ScriptedServer::https(|_| {
        vec![Act::Send(b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\nblob".to_vec()), Act::Close]
    })
    .await;
    let to = format!("Location: https://cdn.test:{}/\r\n", cdn.port());
    let server = ScriptedServer::https(move |_| reply(307, &to, "")).await;
    let origin = server.origin("listed.test");
    let client = client_with(&[&origin], |options| {
        options.lookup = lookup(move |host| match host {
            "cdn.test" => answers.lock().unwrap().pop().unwrap(),
            _ => Ipv4Addr::LOCALHOST,
        });
    });
    assert_eq!(get_body(&client, &origin, "/").await.unwrap(), "blob");
    assert_eq!(get_body(&client, &origin, "/").await, Err(FetchFault::NotPublic(Ipv4Addr::LOCALHOST.into())));
    assert_eq!(cdn.targets().len(), 1);
}

#[tokio::test]
async fn redirects_that_are_not_followed() {
    for (location, fault) in [
        ("Location: http://cdn.test/\r\n", RedirectFault::Downgrade),
        ("Location: https://user:s3cret@cdn.test/\r\n", RedirectFault::Login),
        ("Location: file:///etc/passwd\r\n", RedirectFault::Scheme),
        ("Location: https://\r\n", RedirectFault::Location),
        ("Location: https://\u{e9}\r\n", RedirectFault::Location),
        ("", RedirectFault::Location),
        ("Location: /again\r\n", RedirectFault::TooMany),
    ] {
        let mut server = ScriptedServer::https(move |_| reply(307, location, "")).await;
        let origin = server.origin("listed.test");
        let error = get(&client(&[&origin]), &origin, "/").await.unwrap_err();
        assert_eq!(error.fault, FetchFault::Redirect(fault), "{location}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert_eq!(server.targets().len(), if fault == RedirectFault::TooMany { 6 } else { 1 });
    }
}

#[tokio::test]
async fn a_redirect_can_be_the_reply() {
    let (_server, origin, client) = plain(|_| head_reply(307, "Location: http://127.0.0.1/\r\n")).await;
    let headers = login();
    let (method, redirects) = (AskMethod::Head, Redirects::Return);
    let reply = client.send(Ask { method, origin: &origin, path_and_query: "/", headers: &headers, redirects }).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status, 307);
    assert!(reply.headers.is_empty());
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_an_error() {
    for cut in [
        "HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nblob",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nblob\r\n",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nblob",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nblob",
    ] {
        let (_server, origin, client) = plain(move |_| bytes_and_close(cut)).await;
        let fault = get_body(&client, &origin, "/").await.unwrap_err();
        assert!(matches!(fault, FetchFault::Body(_)), "{cut}: {fault}");
    }
}

#[tokio::test]
async fn bytes_beyond_the_length_are_not_delivered_nor_taken_for_the_next_reply() {
    let stray = "HTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\nblobHTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\nevil";
    let (mut server, origin, client) = plain(move |_| bytes(stray)).await;
    for _ in 0..3 {
        assert_eq!(get_body(&client, &origin, "/").await.unwrap(), "blob");
    }
    assert_eq!(server.seen().iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn a_reply_without_a_length_is_read_to_its_end() {
    let (_server, origin, client) = plain(|_| bytes_and_close("HTTP/1.1 200 x\r\n\r\nblob")).await;
    assert_eq!(get_body(&client, &origin, "/").await.unwrap(), "blob");
}

#[tokio::test]
async fn over_tls_the_end_of_a_reply_without_a_length_cannot_be_forged() {
    const REPLY: &str = "HTTP/1.1 200 x\r\n\r\nblob";
    let server = ScriptedServer::https(|request| match request.target() {
        "GET /whole" => bytes_and_close(REPLY),
        _ => vec![Act::Send(REPLY.as_bytes().to_vec()), Act::Drop],
    })
    .await;
    let origin = server.origin("listed.test");
    let client = client(&[&origin]);
    assert_eq!(get_body(&client, &origin, "/whole").await.unwrap(), "blob");
    assert!(matches!(get_body(&client, &origin, "/forged").await, Err(FetchFault::Body(_))));
}

#[tokio::test]
async fn early_hints_are_not_the_reply() {
    let hints =
        "HTTP/1.1 103 x\r\nLink: <a>\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\nblob";
    let (_server, origin, client) = plain(move |_| bytes(hints)).await;
    let reply = get(&client, &origin, "/").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.headers.len()), (200, 1));
    assert_eq!(body(reply).await.unwrap(), "blob");
}

#[tokio::test]
async fn what_is_no_reply_is_an_error() {
    let many = format!("HTTP/1.1 200 x\r\n{}\r\n", "A: b\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 x\r\nA: {}\r\n\r\n", "b".repeat(300 << 10));
    for wrong in [
        "SSH-2.0-x\r\n\r\n".to_owned(),
        "HTTP/1.1 200 x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nblob".to_owned(),
        "HTTP/1.1 200 x\r\nContent-Length: -4\r\n\r\nblob".to_owned(),
        "HTTP/1.1 200 x\r\n broken\r\n\r\n".to_owned(),
        "HTTP/1.1 2".to_owned(),
        many,
        large,
    ] {
        let start: String = wrong.chars().take(60).collect();
        let (_server, origin, client) = plain(move |_| bytes_and_close(&wrong)).await;
        let error = get(&client, &origin, "/").await.expect_err(&start);
        assert!(matches!(error.fault, FetchFault::Head(_)), "{start}: {error}");
        assert_eq!(error.status(), 502);
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_a_reply_is_tried_once_more() {
    let (mut server, origin, client) = plain(|request| match request.connection {
        0 => vec![Act::Close],
        _ => reply(200, "", "blob"),
    })
    .await;
    assert_eq!(get_body(&client, &origin, "/").await.unwrap(), "blob");
    assert_eq!(server.targets().len(), 2);
    let (mut server, origin, client) = plain(|_| vec![Act::Close]).await;
    assert!(matches!(get_body(&client, &origin, "/").await, Err(FetchFault::Head(_))));
    assert_eq!(server.targets().len(), 2);
}

#[tokio::test]
async fn a_server_that_does_not_reply_is_given_up() {
    let stalled = Arc::new(Notify::new());
    let there = Arc::clone(&stalled);
    let (_server, origin, client) = plain(move |_| vec![Act::Stall(Arc::clone(&there))]).await;
    let waiting = tokio::spawn(async move { get(&client, &origin, "/").await });
    stalled.notified().await;
    let error = error_after(Duration::from_secs(40), waiting).await;
    assert_eq!((&error.fault, error.status()), (&FetchFault::HeadTimeout(Duration::from_secs(30)), 504));
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    // A server over plain HTTP waits for the end of a request. A TLS handshake has no such end, so the server never
    // answers.
    let server = ScriptedServer::http(|_| Vec::new()).await;
    let origin = server.origin("listed.test");
    let client = client(&[&origin]);
    let waiting = tokio::spawn(async move { get(&client, &origin, "/").await });
    tokio::task::yield_now().await;
    let error = error_after(Duration::from_secs(10), waiting).await;
    assert_eq!((&error.fault, error.status()), (&FetchFault::ConnectTimeout(Duration::from_secs(10)), 504));
}

#[tokio::test]
async fn a_body_may_be_slow_but_must_not_stand_still() {
    let next = Arc::new(Notify::new());
    let go = Arc::clone(&next);
    let (_server, origin, client) = plain(move |_| {
        let head = Act::Send(b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n".to_vec());
        let drip = |byte: u8| [Act::Wait(Arc::clone(&go)), Act::Send(vec![byte])];
        let drips = [b'1', b'2', b'3', b'4'].into_iter().flat_map(drip);
        [head].into_iter().chain(drips).chain([Act::Stall(Arc::default())]).collect()
    })
    .await;
    let mut reply = get(&client, &origin, "/").await.unwrap();
    for expected in ["1", "2", "3", "4"] {
        let drip = async {
            pause();
            advance(Duration::from_secs(25)).await;
            resume();
            next.notify_one();
        };
        let (chunk, ()) = tokio::join!(reply.body.chunk(), drip);
        assert_eq!(chunk.unwrap().unwrap(), expected);
    }
    let waiting = tokio::spawn(async move { reply.body.chunk().await });
    let error = error_after(Duration::from_secs(30), waiting).await;
    assert_eq!((&error.fault, error.status()), (&FetchFault::Stalled(Duration::from_secs(30)), 504));
}

#[tokio::test]
async fn the_next_address_is_tried_if_one_refuses() {
    // A socket that is bound but does not listen refuses connections.
    let refusing = TcpSocket::new_v4().unwrap();
    refusing.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let refusing = refusing.local_addr().map(|address| (refusing, address)).unwrap();
    let server = ScriptedServer::http(|_| reply(200, "", "blob")).await;
    let addresses = vec![refusing.1, SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))];
    let origin = server.origin("http://listed.test");
    let both: HostLookup = Arc::new(move |_, _| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    });
    let works = client_with(&[&origin], |options| options.lookup = both);
    assert_eq!(get_body(&works, &origin, "/").await.unwrap(), "blob");

    let one = refusing.1;
    let fails = client_with(&[&origin], |options| {
        options.lookup = Arc::new(move |_, _| Box::pin(async move { Ok(vec![one]) }));
    });
    let error = get(&fails, &origin, "/").await.unwrap_err();
    assert!(matches!(&error.fault, FetchFault::Connect(what) if what.contains(&one.to_string())), "{error}");
    assert_eq!(error.status(), 502);
    let nothing = client_with(&[&origin], |options| {
        options.lookup = Arc::new(|_, _| Box::pin(async { Ok(Vec::new()) }));
    });
    assert!(matches!(get(&nothing, &origin, "/").await.unwrap_err().fault, FetchFault::Name(_)));
}

#[tokio::test]
async fn a_request_that_cannot_be_written_is_refused() {
    let (mut server, origin, client) = plain(|_| reply(200, "", "")).await;
    for path in ["", "v2/", "@evil.example/", "/a b", "/a\r\nX: y", "/\u{0}"] {
        let error = get(&client, &origin, path).await.unwrap_err();
        assert!(matches!(error.fault, FetchFault::Request(_)), "{path:?}: {error}");
    }
    assert!(server.targets().is_empty());
}

#[tokio::test]
async fn a_collected_body_has_a_limit() {
    let (_server, origin, client) = plain(|_| reply(200, "", "12345")).await;
    let collect =
        async |limit| get(&client, &origin, "/").await.unwrap().body.collect(limit, Duration::from_secs(9)).await;
    assert_eq!(collect(5).await.unwrap(), "12345");
    assert!(matches!(collect(4).await.unwrap_err().fault, FetchFault::TooLarge(4)));
}

#[tokio::test]
async fn neither_errors_nor_replies_show_credentials_or_signed_urls() {
    let (_server, origin, client) = plain(|_| reply(307, "Location: ftp://x/?sig=s3cret\r\n", "")).await;
    let error = get(&client, &origin, "/?token=s3cret").await.unwrap_err();
    let headers = login();
    for text in [format!("{error} {error:?} {}", error.sentence()), format!("{headers:?} {client:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}
