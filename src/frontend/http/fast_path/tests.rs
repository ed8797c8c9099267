//! Connections from their first byte to their end. The time is simulated: it passes when all tasks wait.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::head::MAX_HEAD;
use super::super::rehearsal::{context, replies};
use super::super::socket::Listener;
use super::waiting::{GRACE, SHORT_GRACE};
use super::*;
use crate::frontend::connections::{ConnectionLimits, ConnectionTimeouts};

const USUAL: ConnectionTimeouts = ConnectionTimeouts::USUAL;

const ANNOUNCE: &[u8] =
    b"GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1 HTTP/1.1\r\nHost: x\r\n\r\n";

async fn worker(stop: StopReceiver) -> Worker {
    limited_worker(ConnectionLimits::up_to(10), stop).await
}

async fn limited_worker(limits: ConnectionLimits, stop: StopReceiver) -> Worker {
    let mut context = context();
    Arc::get_mut(&mut context).unwrap().connections.limits = limits;
    Worker { pages: Pages::new(&context).await.unwrap(), context, stop }
}

/// An accepted connection, and its other end.
async fn connection(worker: &Worker) -> (std::net::TcpStream, NewConnection<'_>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Accepted connections inherit this send buffer. A megabyte of replies does not fit into it.
    socket2::SockRef::from(&listener).set_send_buffer_size(4096).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (socket, source) = Listener::tcp(listener).unwrap().accept().await.unwrap();
    assert!(worker.context.connections.admit());
    (
        client,
        NewConnection {
            socket,
            source: Remote::new(source),
            unread: Vec::new(),
            open: worker.context.connections.opened(),
            audience: Audience::Clients,
        },
    )
}

/// Returns the bytes that a client receives after it has sent `sent`, and how long the connection lasts.
async fn served(sent: &[u8]) -> (String, Duration) {
    let (_stop, stopped) = watch::channel(false);
    served_by(&worker(stopped).await, sent).await
}

async fn served_by(worker: &Worker, sent: &[u8]) -> (String, Duration) {
    let (mut client, fresh) = connection(worker).await;
    client.write_all(sent).unwrap();
    let start = Instant::now();
    serve(fresh, worker).await.unwrap();
    let took = start.elapsed();
    assert_eq!(worker.context.connections.count(), 0);
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).unwrap();
    (String::from_utf8_lossy(&reply).into_owned(), took)
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    assert_eq!(served(b"").await, (String::new(), USUAL.first_byte));
    assert_eq!(served(b"\r\n\r\n\r\n").await, (String::new(), USUAL.first_byte));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_alive_for_a_while_after_a_request() {
    let (reply, took) = served(ANNOUNCE).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"), "{reply}");
    assert!((USUAL.idle..=USUAL.idle * 2).contains(&took), "{took:?}");
    let (reply, took) = served(&[ANNOUNCE, b"GET /health HTTP/1.1\r\n\r\n", ANNOUNCE].concat()).await;
    assert_eq!((reply.matches("HTTP/1.1 200 OK").count(), reply.matches("ok\n").count()), (3, 1), "{reply}");
    assert!((USUAL.idle..=USUAL.idle * 2).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_completed_in_time() {
    for head in [&b"G"[..], &ANNOUNCE[..ANNOUNCE.len() - 1], b"GET / HTTP/1.1\r\nX: y\r\n"] {
        assert_eq!(served(head).await, (String::new(), USUAL.rest));
        let (reply, took) = served(&[ANNOUNCE, head].concat()).await;
        assert_eq!((reply.matches("HTTP/1.1 200 OK").count(), took), (1, USUAL.rest));
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_may_be_others_and_a_connection_may_end_with_its_first_reply() {
    let (_stop, stopped) = watch::channel(false);
    let [first_byte, rest, send, idle] = [1, 2, 3, 40].map(Duration::from_secs);
    let timeouts = ConnectionTimeouts { first_byte, rest, send, idle };
    let limits = ConnectionLimits { timeouts, ..ConnectionLimits::up_to(10) };
    let worker = limited_worker(limits, stopped.clone()).await;
    assert_eq!(served_by(&worker, b"").await.1, first_byte);
    assert_eq!(served_by(&worker, b"G").await.1, rest);
    let (_, took) = served_by(&worker, ANNOUNCE).await;
    assert!((idle..=idle * 2).contains(&took), "{took:?}");
    let worker = limited_worker(ConnectionLimits { keep_alive: false, ..limits }, stopped).await;
    for sent in [ANNOUNCE.to_vec(), ANNOUNCE.repeat(3), b"GET /health HTTP/1.1\r\n\r\n".to_vec()] {
        let (reply, took) = served_by(&worker, &sent).await;
        let count = |text: &str| reply.to_ascii_lowercase().matches(text).count();
        assert_eq!((count("http/1.1 200 ok"), count("connection: close")), (1, 1), "{reply}");
        // A client that may still be sending gets time to read the reply.
        assert!(took <= LINGER * 2, "{took:?}");
    }
}

/// Sends `first`, and then `piece` after each `pause`, until the server closes the connection. Returns how long the
/// connection lasted.
async fn dripped(first: &[u8], piece: &[u8], pause: Duration) -> Duration {
    let (_stop, stopped) = watch::channel(false);
    let worker = worker(stopped).await;
    let (mut client, fresh) = connection(&worker).await;
    client.write_all(first).unwrap();
    let start = Instant::now();
    let drip = async {
        loop {
            sleep(pause).await;
            // Writing fails when the connection has been closed.
            let _ = client.write_all(piece);
        }
    };
    tokio::select! {
        ended = serve(fresh, &worker) => drop(ended),
        () = drip => unreachable!(),
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_slow_trickle_of_bytes_does_not_hold_a_connection() {
    let second = Duration::from_secs(1);
    assert!(dripped(b"", b"\r\n", second).await <= USUAL.first_byte + second);
    assert!(dripped(ANNOUNCE, b"\r\n", second * 14).await <= USUAL.idle * 2 + second * 14);
    assert!(dripped(b"", b"x", second).await <= USUAL.rest + second * 2);
    assert!(dripped(b"GET / HTTP/1.1\r\n", b"X: y\r\n", second).await <= USUAL.rest + second);
    // A client that completes each head in time is never disconnected, even if it begins a head before the previous
    // reply.
    for request in [ANNOUNCE, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let (beginning, rest) = request.split_at(10);
        let late = [rest, beginning].concat();
        let lasted = timeout(second * 600, dripped(beginning, &late, second * 9)).await;
        assert!(lasted.is_err(), "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_body_is_not_waited_for() {
    for header in ["Transfer-Encoding: chunked", "Content-Length: 5"] {
        for target in ["/", "/announce", "/health"] {
            let (reply, took) = served(format!("GET {target} HTTP/1.1\r\n{header}\r\n\r\n").as_bytes()).await;
            assert!(
                reply.starts_with("HTTP/1.1 200 OK") && reply.to_lowercase().contains("connection: close"),
                "{reply}"
            );
            assert_eq!(took, LINGER, "{header} {target}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_idle_connections_and_answers_the_others() {
    let (stop, stopped) = watch::channel(false);
    let worker = worker(stopped).await;
    let start = Instant::now();
    let stopping = async {
        // After this pause all connections wait.
        sleep(Duration::from_secs(1)).await;
        worker.context.draining.store(true, Relaxed);
        stop.send_replace(true);
    };
    let (mut idle, fresh) = connection(&worker).await;
    idle.write_all(ANNOUNCE).unwrap();
    let idle_ends = async { (serve(fresh, &worker).await.unwrap(), start.elapsed()).1 };
    // The server waits for a client that is about to send its first request.
    let (mut about_to_ask, fresh) = connection(&worker).await;
    let late_ends = async { (serve(fresh, &worker).await.unwrap(), start.elapsed()).1 };
    let asking = async {
        sleep(Duration::from_millis(1500)).await;
        about_to_ask.write_all(ANNOUNCE).unwrap();
    };
    // The server also waits for a client that has already sent a request, but not for long.
    let (mut asks_again, fresh) = connection(&worker).await;
    asks_again.write_all(ANNOUNCE).unwrap();
    let again_ends = async { (serve(fresh, &worker).await.unwrap(), start.elapsed()).1 };
    let asking_again = async {
        sleep(Duration::from_millis(1100)).await;
        asks_again.write_all(ANNOUNCE).unwrap();
    };
    let (_silent, fresh) = connection(&worker).await;
    let silent_ends = async { (serve(fresh, &worker).await.unwrap(), start.elapsed()).1 };
    let ends = tokio::join!(idle_ends, late_ends, silent_ends, again_ends, stopping, asking, asking_again);
    assert_eq!(ends.0, Duration::from_secs(1) + SHORT_GRACE);
    assert_eq!(ends.1, Duration::from_millis(1500));
    assert_eq!(ends.2, Duration::from_secs(1) + GRACE);
    assert_eq!(ends.3, Duration::from_millis(1100));
    let mut replies = String::new();
    asks_again.read_to_string(&mut replies).unwrap();
    assert_eq!((replies.matches("HTTP/1.1 200 OK").count(), replies.matches("Connection: close").count()), (2, 1));
    let mut reply = String::new();
    about_to_ask.read_to_string(&mut reply).unwrap();
    assert_eq!(reply.matches("Connection: close").count(), 1, "{reply}");

    // All requests that have arrived are answered, and the last reply says that it is the last.
    let (mut client, fresh) = connection(&worker).await;
    client.write_all(&ANNOUNCE.repeat(3)).unwrap();
    serve(fresh, &worker).await.unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(
        (reply.matches("HTTP/1.1 200 OK").count(), reply.matches("Connection: close").count()),
        (3, 1),
        "{reply}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected() {
    let (_stop, stopped) = watch::channel(false);
    let worker = worker(stopped).await;
    let announce = |n: u16, rest: &str| {
        let query = format!("info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbb{n:03}&port={n}&{rest}");
        format!("GET /announce?{query} HTTP/1.1\r\n\r\n")
    };
    for n in 1..=200 {
        let (mut client, fresh) = connection(&worker).await;
        client.write_all(announce(n, "numwant=0").as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        serve(fresh, &worker).await.unwrap();
    }
    // The replies take a megabyte, but the client's buffer holds only a few kilobytes.
    let (mut client, fresh) = connection(&worker).await;
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    client.write_all(announce(201, "numwant=200&compact=0").repeat(80).as_bytes()).unwrap();
    let start = Instant::now();
    let ended = serve(fresh, &worker).await;
    assert_eq!((ended.unwrap_err().kind(), start.elapsed()), (io::ErrorKind::TimedOut, USUAL.send));
}

#[tokio::test]
async fn a_connection_that_has_just_opened_outlasts_those_that_have_waited_longer() {
    let (_stop, stopped) = watch::channel(false);
    for held in [&b""[..], b"\r\n", b"GET /announce?info_hash=", &ANNOUNCE[..ANNOUNCE.len() - 1], ANNOUNCE] {
        let worker = limited_worker(ConnectionLimits::up_to(3), stopped.clone()).await;
        // Each connection waits after its first poll.
        let waits = |sent: &'static [u8]| async {
            let (mut client, fresh) = connection(&worker).await;
            client.write_all(sent).unwrap();
            let mut serving = Box::pin(serve(fresh, &worker));
            assert!(futures::poll!(&mut serving).is_pending());
            (client, serving)
        };
        let _held = [waits(held).await, waits(held).await];
        let (mut client, serving) = waits(b"").await;
        let _accepted_later = waits(held).await;
        client.write_all(ANNOUNCE).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        serving.await.unwrap();
        let mut reply = String::new();
        let _ = client.read_to_string(&mut reply);
        assert!(reply.starts_with("HTTP/1.1 200 OK"), "{}: {reply}", held.escape_ascii());
    }
}

#[tokio::test]
async fn a_pipelining_client_does_not_starve_others() {
    let (_stop, stopped) = watch::channel(false);
    let worker = worker(stopped).await;
    for request in [ANNOUNCE, b"GET /health HTTP/1.1\r\n\r\n", b"\r\n"] {
        let (mut client, fresh) = connection(&worker).await;
        let many = request.repeat(10_000);
        let mut to_server = client.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let _ = to_server.write_all(&many).and_then(|()| to_server.shutdown(Shutdown::Write));
        });
        let receiver = std::thread::spawn(move || client.read_to_end(&mut Vec::new()));
        let served = std::cell::Cell::new(0);
        // Each poll serves one turn of the connection.
        let mut serving = Box::pin(serve(fresh, &worker));
        let work = poll_fn(|cx| {
            served.set(served.get() + 1);
            serving.as_mut().poll(cx)
        });
        work.await.unwrap();
        drop(serving);
        sender.join().unwrap();
        receiver.join().unwrap().unwrap();
        let least = if request == b"\r\n" { 1 } else { 10_000 / QUANTUM };
        assert!(served.get() >= least, "{} turns for {}", served.get(), request.escape_ascii());
    }
}

// --- The same bytes, the same answer --------------------------------------------------------------------------

/// Returns the replies, without their dates, that a client gets if it sends these pieces to a new tracker.
fn answered(pieces: &[&[u8]]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let replies = runtime.block_on(replies(&context(), pieces)).unwrap();
    let replies = replies.escape_ascii().to_string();
    replies.split("\\r\\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = at.iter().map(|at| at % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    ends.sort_unstable();
    ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// Requests of all kinds that a client may send one after the other.
fn requests() -> Vec<Vec<u8>> {
    let query = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1";
    let heads = [
        "Host: x\r\n",
        "",
        "Host: x\r\nHost: y\r\n",
        "Host:\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, TE\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        "Expect: 100-continue\r\n",
        "X: a\r\n b\r\nY: c\r\n",
        " behind nothing\r\n",
        "no header\r\n",
        "cOnNeCtIoN: keep-alive\r\nvia: 1.1 x\r\n",
    ];
    let targets = [
        format!("/announce?{query}"),
        format!("//announce/?{query}"),
        format!("http://x/announce?{query}"),
        format!("/?{query}"),
        format!("/announce?{query}&x=a b\"<\u{fc}"),
        format!("/nowhere?{query}"),
        "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa".to_owned(),
        "/announce".to_owned(),
        "/health".to_owned(),
        "/".to_owned(),
        "/nowhere".to_owned(),
        format!("/announce?{query}&jwt={}", "x".repeat(20_000)),
        format!("/announce?{query}&jwt={}", "x".repeat(MAX_HEAD)),
    ];
    let lines = [
        "GET T HTTP/1.1",
        "HEAD T HTTP/1.1",
        "GET T HTTP/1.0",
        "POST T HTTP/1.1",
        "get  T  HTTP/1.1 ",
        "GET T",
        "\r\n\nGET T HTTP/1.1",
    ];
    let mut requests = Vec::new();
    for (n, target) in targets.iter().enumerate() {
        for (m, head) in heads.iter().enumerate() {
            let line = lines[(n + m) % lines.len()].replace('T', target);
            let request = format!("{line}\r\n{head}\r\n");
            requests.push(if m % 5 == 4 { request.replace("\r\n", "\n") } else { request }.into_bytes());
        }
    }
    requests.extend([
        b"\x16\x03\x01\x02\n".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        vec![b'x'; MAX_HEAD],
        b"GET / HT".to_vec(),
    ]);
    requests
}

#[test]
fn every_request_gets_the_same_reply_in_one_piece_in_two_and_byte_by_byte() {
    for request in requests() {
        let whole = answered(&[&request]);
        let start = request[..request.len().min(200)].escape_ascii().to_string();
        if request.len() < 1000 {
            assert_eq!(answered(&request.chunks(1).collect::<Vec<_>>()), whole, "byte by byte: {start}");
        }
        for at in [1, request.len() / 2, request.len() - 1, request.len().saturating_sub(3)] {
            assert_eq!(answered(&cut(&request, &[at])), whole, "cut at {at}: {start}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn segmentation_does_not_change_the_replies(
        which in proptest::collection::vec(any::<prop::sample::Index>(), 1..5),
        blemish in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
        others in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let all = requests();
        let mut bytes: Vec<u8> = which.iter().flat_map(|which| which.get(&all).clone()).collect();
        if let Some((at, byte)) = blemish {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = answered(&[&bytes]);
        prop_assert_eq!(answered(&cut(&bytes, &cuts)), &whole[..]);
        prop_assert_eq!(answered(&cut(&bytes, &others)), &whole[..]);
    }
}
