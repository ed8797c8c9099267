//! The ends of connections, in time that passes when nobody has anything to do.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::super::socket::Listener;
use super::*;
use crate::bittorrent::Views;
use crate::frontend::client_address::{ClientAddress, ClientAddressOptions};
use crate::metrics::Metrics;
use crate::store::{Store, StoreOptions};
use crate::tracker::{Policy, Tracker};

const ANNOUNCE: &[u8] =
    b"GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1 HTTP/1.1\r\nHost: x\r\n\r\n";

fn context() -> Context {
    let metrics = Metrics::unexposed();
    let store = Store::new(StoreOptions { peer_age: Duration::from_hours(3), max_peers: 1_000 });
    Context {
        tracker: Tracker::new(Policy::default(), Views::default(), Arc::new(store), None, &metrics),
        metrics,
        registry: None,
        client_address: ClientAddress::new(ClientAddressOptions::default()),
        draining: AtomicBool::new(false),
        connections: TaskTracker::new(),
    }
}

/// A connection as it is accepted, and its other end.
async fn connection() -> (std::net::TcpStream, Socket, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // What is accepted inherits it: a megabyte is too much for it.
    socket2::SockRef::from(&listener).set_send_buffer_size(4096).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (socket, source) = Listener::new(listener).unwrap().accept().await.unwrap();
    (client, socket, source)
}

/// What a client is sent that has sent this, whether actix-web has to go on, and how long that takes.
async fn served(sent: &[u8]) -> (String, Option<Vec<u8>>, Duration) {
    let (mut client, socket, source) = connection().await;
    client.write_all(sent).unwrap();
    let (_stop, stopped) = watch::channel(false);
    let start = Instant::now();
    let handover = serve(socket, source, Vec::new(), &context(), &stopped).await.unwrap();
    let took = start.elapsed();
    let unread = handover.map(|(stream, unread)| {
        drop(stream);
        unread
    });
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).unwrap();
    (String::from_utf8_lossy(&reply).into_owned(), unread, took)
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    assert_eq!(served(b"").await, (String::new(), None, FIRST_BYTE));
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_may_ask_again_for_a_while() {
    let (reply, unread, took) = served(ANNOUNCE).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "), "{reply}");
    assert!((KEEP_ALIVE..=KEEP_ALIVE * 2).contains(&took), "{took:?}");
    assert_eq!(unread, None);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_something_else_is_handed_over_with_every_byte() {
    let (reply, unread, _) = served(&[ANNOUNCE, b"GET /health HTTP/1.1\r\n\r\n"].concat()).await;
    assert_eq!(reply.matches("HTTP/1.1 200 OK").count(), 1);
    assert_eq!(unread.as_deref(), Some(&b"GET /health HTTP/1.1\r\n\r\n"[..]));
    // A head that is not all there may still come.
    let (_, unread, _) = served(&ANNOUNCE[..ANNOUNCE.len() - 1]).await;
    assert_eq!(unread.as_deref(), Some(&ANNOUNCE[..ANNOUNCE.len() - 1]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_is_idle_and_answers_what_is_not() {
    let (mut client, socket, source) = connection().await;
    let (stop, stopped) = watch::channel(false);
    let context = context();
    let start = Instant::now();
    let stopping = async {
        // So long that the connection waits by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        context.draining.store(true, Relaxed);
        stop.send_replace(true);
    };
    let (ended, ()) = tokio::join!(serve(socket, source, Vec::new(), &context, &stopped), stopping);
    assert!(ended.unwrap().is_none());
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);

    let (mut client, socket, source) = connection().await;
    client.write_all(&ANNOUNCE.repeat(2)).unwrap();
    assert!(serve(socket, source, Vec::new(), &context, &stopped).await.unwrap().is_none());
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply.matches("Connection: close").count(), 1, "{reply}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_cut_off() {
    let (_stop, stopped) = watch::channel(false);
    let context = context();
    let announce = |n: u16, rest: &str| {
        let query = format!("info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbb{n:03}&port={n}&{rest}");
        format!("GET /announce?{query} HTTP/1.1\r\n\r\n")
    };
    for n in 1..=200 {
        let (mut client, socket, source) = connection().await;
        client.write_all(announce(n, "numwant=0").as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(serve(socket, source, Vec::new(), &context, &stopped).await.unwrap().is_none());
    }
    // Replies of a megabyte, for a client with room for a few kilobytes.
    let (mut client, socket, source) = connection().await;
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    client.write_all(announce(201, "numwant=200&compact=0").repeat(80).as_bytes()).unwrap();
    let start = Instant::now();
    let ended = serve(socket, source, Vec::new(), &context, &stopped).await;
    assert_eq!((ended.unwrap_err().kind(), start.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
}
