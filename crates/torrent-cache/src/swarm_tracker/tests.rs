//! The client with scripted servers: what each call sends, how it reads each reply, and how much time a tracker that is
//! down costs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, pause};
use tracker_protocol::{Event, InfoHash, PeerId};
use url::{Host, Url};

use super::*;
use crate::digest::Digest;
use crate::upstream::scripted::{Act, ScriptedServer, SeenRequest, bytes, bytes_and_close, reply};
use crate::upstream::{FetchFault, FetchOptions, HostLookup};

/// The header of each reply of the tracker.
const BOOT: &str = "X-Boot: 0123456789abcdef\r\n";

const TOKEN: &str = "0123456789abcdef";

fn key() -> ShareKey {
    format!("sha256:{}", "0a".repeat(32)).parse().unwrap()
}

fn options(port: u16) -> TrackerOptions {
    let fetch = FetchOptions::new(None).unwrap();
    TrackerOptions {
        announce: Url::parse(&format!("http://127.0.0.1:{port}/announce")).unwrap(),
        torrents: (Host::Ipv4(Ipv4Addr::LOCALHOST), port),
        token: None,
        peer_id: PeerId(*b"-TC0100-0123456789\xff "),
        port: 6881.try_into().unwrap(),
        tls: fetch.tls,
        lookup: fetch.lookup,
    }
}

async fn tracker(
    script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static,
) -> (ScriptedServer, Arc<SwarmTracker>) {
    let server = ScriptedServer::http(script).await;
    let tracker = SwarmTracker::new(options(server.port())).unwrap();
    (server, Arc::new(tracker))
}

/// Starts a tracker that always sends the same reply.
async fn replying(status: u16, body: &str) -> (ScriptedServer, Arc<SwarmTracker>) {
    let body = body.to_owned();
    tracker(move |_| reply(status, BOOT, &body)).await
}

fn announce(event: Option<Event>) -> SwarmAnnounce {
    SwarmAnnounce { info_hash: InfoHash([0xab; 20]), event, uploaded: 1, downloaded: 2, left: 3, numwant: 50 }
}

/// Returns a port that refuses connections as long as the socket lives.
fn refusing() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Returns the fault of a task that must fail when this time has passed. The paused clock jumps to the next deadline
/// when all tasks wait.
async fn fault_after<T: std::fmt::Debug>(time: Duration, task: JoinHandle<Result<T, TrackerError>>) -> TrackerFault {
    pause();
    let start = Instant::now();
    let error = task.await.unwrap().unwrap_err();
    let passed = start.elapsed();
    // The task began to wait a moment before the clock stopped.
    assert!(passed > time / 2 && passed <= time + Duration::from_millis(1), "{passed:?}");
    error.fault
}

#[tokio::test]
async fn each_call_is_one_request_on_a_connection_of_its_own() {
    let mut server = ScriptedServer::http(|request| match request.target() {
        target if target.starts_with("POST /leases/") => reply(201, BOOT, r#"{"generation":7,"ttl":15}"#),
        target if target.starts_with("GET /leases/") => reply(404, BOOT, ""),
        "POST /torrents/missing" => reply(200, BOOT, "[]"),
        target if target.starts_with("GET /torrents/") => reply(404, BOOT, ""),
        target if target.contains("/torrents/") && !target.ends_with("complaint") => reply(201, BOOT, "{}"),
        _ => reply(204, BOOT, ""),
    })
    .await;
    let token = Some(TOKEN.parse().unwrap());
    let tracker = SwarmTracker::new(TrackerOptions { token, ..options(server.port()) }).unwrap();
    let (key, hash) = (key(), InfoHash([0xab; 20]));
    tracker.metainfo(&key).await.unwrap();
    tracker.put_metainfo(&key, Bytes::from_static(b"d4:infodee")).await.unwrap();
    tracker.complain(&key).await.unwrap();
    tracker.missing(&[key, key]).await.unwrap();
    tracker.claim(&key, None, None).await.unwrap();
    tracker.claim(&key, Some(hash), Some(300)).await.unwrap();
    tracker.renew(&key, 7, 100, None).await.unwrap();
    tracker.renew(&key, 7, 100, Some(300)).await.unwrap();
    tracker.release(&key, 7).await.unwrap();
    tracker.state(&key, Duration::ZERO).await.unwrap();
    tracker.state(&key, Duration::from_millis(10_900)).await.unwrap();
    tracker.state(&key, Duration::from_hours(1)).await.unwrap();

    let seen = server.seen();
    let connections: Vec<_> = seen.iter().map(|request| request.connection).collect();
    assert_eq!(connections, (0..12).collect::<Vec<_>>());
    // One request is compared byte for byte. Of the other requests, only the parts that differ are compared.
    let agent = concat!("torrent-cache/", env!("CARGO_PKG_VERSION"));
    let first = format!(
        "PUT /torrents/{key} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nuser-agent: {agent}\r\nconnection: close\r\n\
         authorization: Bearer {TOKEN}\r\ncontent-type: application/x-bittorrent\r\ncontent-length: 10\r\n\r\n\
         d4:infodee",
        server.port()
    );
    assert_eq!(seen[1].text, first);
    let short: Vec<_> = seen
        .iter()
        .map(|request| {
            let body = request.text.split_once("\r\n\r\n").unwrap().1;
            assert_eq!(request.header("authorization"), [format!("Bearer {TOKEN}")]);
            format!("{} {body}", request.target()).replace(&key.to_string(), "KEY")
        })
        .collect();
    assert_eq!(
        short,
        [
            "GET /torrents/KEY ",
            "PUT /torrents/KEY d4:infodee",
            "POST /torrents/KEY/complaint ",
            r#"POST /torrents/missing ["KEY","KEY"]"#,
            r#"POST /leases/KEY {"port":6881}"#,
            r#"POST /leases/KEY {"port":6881,"size":300,"swarm":"abababababababababababababababababababab"}"#,
            r#"PUT /leases/KEY/7 {"have":100}"#,
            r#"PUT /leases/KEY/7 {"have":100,"size":300}"#,
            "DELETE /leases/KEY/7 ",
            "GET /leases/KEY ",
            "GET /leases/KEY?wait=10 ",
            "GET /leases/KEY?wait=30 ",
        ]
    );
    assert_eq!(seen[2].header("content-length"), ["0"]);
}

#[tokio::test]
async fn torrent_files_are_read_and_stored() {
    let (_server, tracker) = replying(200, "d4:infodee").await;
    assert_eq!(tracker.metainfo(&key()).await.unwrap().unwrap(), "d4:infodee");
    assert_eq!(tracker.put_metainfo(&key(), Bytes::new()).await, Ok(MetainfoPut::Same));
    let (_server, tracker) = replying(404, "{}").await;
    assert_eq!(tracker.metainfo(&key()).await, Ok(None));
    for (status, put) in [(201, MetainfoPut::New), (409, MetainfoPut::Conflict)] {
        let (_server, tracker) = replying(status, "{}").await;
        assert_eq!(tracker.put_metainfo(&key(), Bytes::new()).await, Ok(put));
    }
}

#[tokio::test]
async fn replies_are_bounded() {
    let (_server, longest) = replying(200, &"x".repeat(1 << 20)).await;
    assert_eq!(longest.metainfo(&key()).await.unwrap().unwrap().len(), 1 << 20);
    let (_server, longer) = replying(200, &"x".repeat((1 << 20) + 1)).await;
    let error = longer.metainfo(&key()).await.unwrap_err();
    assert_eq!(error.fault, TrackerFault::WrongReply("its body has more than 1048576 bytes".to_owned()));
    let (_server, long) = replying(200, &format!("[\"{}\"]", "x".repeat(128 << 10))).await;
    assert!(matches!(long.missing(&[key()]).await.unwrap_err().fault, TrackerFault::WrongReply(_)));
}

#[tokio::test]
async fn missing_keys_are_asked_for_a_thousand_at_a_time() {
    let keys: Vec<_> = (0_u32..1_001).map(|n| ShareKey::new("u p", Digest::of(&n.to_be_bytes()))).collect();
    // Each reply has the first key of its request, a key that is not in the request, and a text that is no key.
    let (mut server, tracker) = tracker(move |request| {
        let first = request.text.split('"').nth(1).unwrap();
        reply(200, BOOT, &format!(r#"["{first}","{}","x"]"#, key()))
    })
    .await;
    assert_eq!(tracker.missing(&keys).await.unwrap(), [keys[0], keys[1_000]]);
    let asked: Vec<_> = server.seen().iter().map(|request| request.text.matches("sha256:").count()).collect();
    assert_eq!(asked, [1_000, 1]);
    assert_eq!(tracker.missing(&[]).await, Ok(Vec::new()));
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn leases_are_granted_held_renewed_and_ended() {
    let (_server, tracker) = replying(201, r#"{"generation":1887436800000001,"ttl":15}"#).await;
    let granted = LeaseClaim::Granted { generation: 1_887_436_800_000_001, ttl: Duration::from_secs(15) };
    assert_eq!(tracker.claim(&key(), None, None).await, Ok(granted));

    let swarm = "ab".repeat(20);
    let held = format!(r#"{{"have":7,"leader":"[fd00::1]:6881","size":9,"swarm":"{swarm}","new":1}}"#);
    let (_server, tracker) = replying(409, &held).await;
    let leader = Some("[fd00::1]:6881".parse().unwrap());
    let view = LeaseView { leader, swarm: Some(InfoHash([0xab; 20])), have: 7, size: Some(9) };
    assert_eq!(tracker.claim(&key(), None, None).await, Ok(LeaseClaim::Held(view)));
    assert_eq!(tracker.renew(&key(), 1, 0, None).await, Ok(LeaseRenewal::Superseded));
    assert_eq!(tracker.release(&key(), 1).await, Ok(()));

    let (_server, tracker) = replying(409, r#"{"have":0,"leader":null,"size":null,"swarm":null}"#).await;
    assert_eq!(tracker.claim(&key(), None, None).await, Ok(LeaseClaim::Held(LeaseView::default())));

    let (_server, tracker) = replying(404, "{}").await;
    assert_eq!(tracker.renew(&key(), 1, 0, None).await, Ok(LeaseRenewal::Ended));
    assert_eq!(tracker.release(&key(), 1).await, Ok(()));
    let (_server, tracker) = replying(204, "").await;
    assert_eq!(tracker.renew(&key(), 1, 0, None).await, Ok(LeaseRenewal::Renewed));
}

#[tokio::test]
async fn the_state_of_a_blob() {
    let body = r#"{"have":0,"leader":"127.0.0.1:6881","size":null,"swarm":null,"torrent":true}"#;
    let (_server, tracker) = replying(200, body).await;
    let lease = LeaseView { leader: Some("127.0.0.1:6881".parse().unwrap()), ..LeaseView::default() };
    let expected = SwarmBlob { lease, has_torrent: true };
    assert_eq!(tracker.state(&key(), Duration::ZERO).await, Ok(Some(expected)));
    let (_server, tracker) = replying(404, "{}").await;
    assert_eq!(tracker.state(&key(), Duration::ZERO).await, Ok(None));
}

#[tokio::test]
async fn wrong_replies_are_no_outcome() {
    for (status, body) in [
        (201, r#"{"generation":-1,"ttl":15}"#),
        (201, "junk"),
        (409, r#"{"have":0,"leader":"nowhere","size":null,"swarm":null}"#),
        (409, r#"{"have":0,"leader":null,"size":null,"swarm":"xy"}"#),
        (409, "{}"),
        (200, "{}"),
        (400, r#"{"error":"the body is wrong"}"#),
        (302, ""),
        (500, ""),
        (502, "<html>"),
    ] {
        let (_server, tracker) = replying(status, body).await;
        let error = tracker.claim(&key(), None, None).await.unwrap_err();
        assert!(matches!(error.fault, TrackerFault::WrongReply(_)), "{status} {body}: {error}");
        assert!(!error.fault.is_down() && error.remedy().unwrap().contains("ETCD_HOST"), "{error}");
    }
    let (server, tracker) = replying(400, r#"{"error":"the body\nis wrong"}"#).await;
    let error = tracker.complain(&key()).await.unwrap_err();
    let expected = format!("http://127.0.0.1:{}: wrong reply: status 400: the body?is wrong", server.port());
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn refusals_say_what_the_operator_can_do() {
    let fault = async |status, headers: &'static str, body: &'static str| {
        let (_server, tracker) = tracker(move |_| reply(status, headers, body)).await;
        tracker.metainfo(&key()).await.unwrap_err()
    };
    let error = fault(401, BOOT, r#"{"error":"no token"}"#).await;
    assert_eq!(error.fault, TrackerFault::Token("no token".to_owned()));
    assert!(error.remedy().unwrap().contains("TORRENTS_TOKEN"));
    let error = fault(403, "", "web pages\x07").await;
    assert_eq!(error.fault, TrackerFault::Forbidden("web pages?".to_owned()));
    assert!(error.remedy().unwrap().contains("TORRENTS_FROM"));
    // Neither a tracker without --torrents nor another server sends a boot id.
    let error = fault(404, "", "").await;
    assert_eq!(error.fault, TrackerFault::NoTorrents(404));
    assert!(error.remedy().unwrap().contains("--torrents"));
    assert_eq!(fault(200, "", "<html>").await.fault, TrackerFault::NoTorrents(200));
    for (status, headers, seconds) in [
        (503, "Retry-After: 7\r\n", 7),
        (429, "Retry-After: 100000\r\n", 300),
        (503, "Retry-After: soon\r\n", 5),
        (503, "", 5),
    ] {
        let error = fault(status, headers, r#"{"error":"full"}"#).await;
        let retry_after = Duration::from_secs(seconds);
        assert_eq!(error.fault, TrackerFault::Busy { retry_after, sentence: "full".to_owned() });
        assert_eq!(error.remedy(), None);
    }
}

#[tokio::test]
async fn a_new_boot_id_is_noticed_in_any_reply() {
    let (_server, tracker) = tracker(|request| match request.target() {
        target if target.starts_with("GET /torrents/") => reply(200, "X-Boot: a\r\n", ""),
        target if target.starts_with("GET /leases/") => reply(503, "X-Boot: b\r\n", ""),
        _ => reply(204, &format!("X-Boot: {}\r\n", "c".repeat(65)), ""),
    })
    .await;
    let mut boot = tracker.boot();
    assert_eq!(boot.borrow_and_update().as_deref(), None);
    for _ in 0..2 {
        tracker.metainfo(&key()).await.unwrap();
    }
    assert!(boot.has_changed().unwrap());
    assert_eq!(boot.borrow_and_update().as_deref(), Some("a"));
    tracker.metainfo(&key()).await.unwrap();
    assert!(!boot.has_changed().unwrap());
    tracker.state(&key(), Duration::ZERO).await.unwrap_err();
    assert_eq!(boot.borrow_and_update().as_deref(), Some("b"));
    // A boot id that is too long does not count.
    tracker.complain(&key()).await.unwrap_err();
    assert!(!boot.has_changed().unwrap());
}

#[tokio::test]
async fn an_announce_is_the_request_of_a_bittorrent_client() {
    let mut server = ScriptedServer::http(|_| reply(200, "", "d8:intervali60ee")).await;
    let with = |path: &str| {
        let announce = Url::parse(&format!("http://127.0.0.1:{}{path}", server.port())).unwrap();
        SwarmTracker::new(TrackerOptions { announce, token: Some(TOKEN.parse().unwrap()), ..options(1) }).unwrap()
    };
    let (plain, with_query) = (with("/announce"), with("/a/passkey?x=1"));
    for event in [Some(Event::Started), Some(Event::Completed), Some(Event::Stopped), None] {
        plain.announce(&announce(event)).await.unwrap();
    }
    with_query.announce(&announce(None)).await.unwrap();
    let seen = server.seen();
    let hash = "%AB".repeat(20);
    let query = format!(
        "info_hash={hash}&peer_id=-TC0100-0123456789%FF%20&port=6881&uploaded=1&downloaded=2&left=3&compact=1&numwant=50"
    );
    let targets: Vec<_> = seen.iter().map(SeenRequest::target).collect();
    assert_eq!(
        targets,
        [
            format!("GET /announce?{query}&event=started"),
            format!("GET /announce?{query}&event=completed"),
            format!("GET /announce?{query}&event=stopped"),
            format!("GET /announce?{query}"),
            format!("GET /a/passkey?x=1&{query}"),
        ]
    );
    // The token is only for the server of the torrents, because another server can take the announces.
    assert!(seen.iter().all(|request| request.header("authorization").is_empty()));
}

#[tokio::test]
async fn peers_come_in_any_form() {
    let peers = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let compact = "d8:completei1e10:incompletei2e8:intervali1800e12:min intervali60e5:peers6:abcdef6:peers618:\
                   abcdefghijklmnopqre";
    let (_server, tracker) = replying(200, compact).await;
    let found = SwarmPeers {
        peers: peers(&["97.98.99.100:25958", "[6162:6364:6566:6768:696a:6b6c:6d6e:6f70]:29042"]),
        interval: Some(Duration::from_mins(30)),
        min_interval: Some(Duration::from_mins(1)),
        seeds: 1,
        leechers: 2,
    };
    assert_eq!(tracker.announce(&announce(None)).await, Ok(found));
    let dictionaries = "\r\nd5:peersld2:ip8:10.0.0.14:porti6881eed2:ip7:fd00::17:peer id3:xyz4:port4:6882e1:xee\n";
    let (_server, tracker) = replying(200, dictionaries).await;
    let found = SwarmPeers { peers: peers(&["10.0.0.1:6881", "[fd00::1]:6882"]), ..SwarmPeers::default() };
    assert_eq!(tracker.announce(&announce(None)).await, Ok(found));
}

#[tokio::test]
async fn announces_that_are_refused_or_answered_with_junk() {
    let fault = async |status, body: &str| {
        let (_server, tracker) = replying(status, body).await;
        tracker.announce(&announce(None)).await.unwrap_err()
    };
    for (status, retry, seconds) in [
        (200, "", None),
        (400, "8:retry ini5e", Some(300)),
        (200, "8:retry in5:never", Some(86_400)),
        (200, "8:intervali30e", Some(30)),
        (200, "8:retry ini999999999e", Some(86_400)),
    ] {
        let error = fault(status, &format!("d14:failure reason9:not\nlegal{retry}e")).await;
        let retry_after = seconds.map(Duration::from_secs);
        assert_eq!(error.fault, TrackerFault::Announce { reason: "not?legal".to_owned(), retry_after });
        assert_eq!(error.settings, "TRACKER");
    }
    for (status, body) in [(200, "<html>"), (200, "le"), (200, ""), (404, "de"), (500, "<html>")] {
        let error = fault(status, body).await;
        assert!(matches!(error.fault, TrackerFault::WrongReply(_)), "{status} {body}: {error}");
    }
}

#[tokio::test]
async fn a_reply_that_does_not_come_ends_the_call_in_time() {
    let there = Arc::new(Notify::new());
    let notify = Arc::clone(&there);
    let script = move |_: &SeenRequest| vec![Act::Send(b"HTTP/1.1 200 x\r\n".into()), Act::Stall(Arc::clone(&notify))];
    let (_server, silent) = tracker(script).await;
    let call = Arc::clone(&silent);
    let call = tokio::spawn(async move { call.metainfo(&key()).await });
    there.notified().await;
    let reply = Duration::from_secs(3);
    assert_eq!(fault_after(reply, call).await, TrackerFault::Timeout(reply));
}

#[tokio::test]
async fn a_long_poll_has_its_wait_in_addition() {
    let there = Arc::new(Notify::new());
    let notify = Arc::clone(&there);
    let (_server, silent) = tracker(move |_| vec![Act::Stall(Arc::clone(&notify))]).await;
    let call = Arc::clone(&silent);
    let call = tokio::spawn(async move { call.state(&key(), Duration::from_secs(10)).await });
    there.notified().await;
    let reply = Duration::from_secs(13);
    assert_eq!(fault_after(reply, call).await, TrackerFault::Timeout(reply));
}

#[tokio::test]
async fn an_announce_has_four_seconds_after_the_connection() {
    let there = Arc::new(Notify::new());
    let notify = Arc::clone(&there);
    let (_server, silent) = tracker(move |_| vec![Act::Stall(Arc::clone(&notify))]).await;
    let call = Arc::clone(&silent);
    let call = tokio::spawn(async move { call.announce(&announce(None)).await });
    there.notified().await;
    let reply = Duration::from_secs(4);
    assert_eq!(fault_after(reply, call).await, TrackerFault::Timeout(reply));
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_one_second_and_then_there_is_a_pause() {
    let lookup: HostLookup = Arc::new(|_, _| Box::pin(std::future::pending()));
    let torrents = (Host::Domain("tracker.test".to_owned()), 2378);
    let tracker = SwarmTracker::new(TrackerOptions { torrents, lookup, ..options(1) }).unwrap();
    let start = Instant::now();
    let fault = tracker.metainfo(&key()).await.unwrap_err().fault;
    assert_eq!(fault, TrackerFault::Unreachable(FetchFault::ConnectTimeout(Duration::from_secs(1))));
    assert_eq!(start.elapsed().as_secs(), 1);

    // Calls of all kinds fail without waiting, so the clock stands still.
    let start = Instant::now();
    let paused = TrackerFault::Paused(Duration::from_secs(2));
    assert_eq!(tracker.metainfo(&key()).await.unwrap_err().fault, paused);
    assert_eq!(tracker.claim(&key(), None, None).await.unwrap_err().fault, paused);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(paused.is_down());

    advance(Duration::from_secs(2)).await;
    assert!(matches!(tracker.metainfo(&key()).await.unwrap_err().fault, TrackerFault::Unreachable(_)));
}

#[tokio::test]
async fn a_tracker_that_is_down_is_asked_again_after_a_pause() {
    let (refusing, port) = refusing();
    let tracker = SwarmTracker::new(options(port)).unwrap();
    let error = tracker.metainfo(&key()).await.unwrap_err();
    assert!(matches!(&error.fault, TrackerFault::Unreachable(FetchFault::Connect(_))), "{error}");
    assert!(error.remedy().unwrap().contains("ETCD_HOST and ETCD_PORT"));
    assert!(tracker.metainfo(&key()).await.unwrap_err().fault.is_down());
    // The announce URL can name another server, so announces have a pause of their own.
    assert!(matches!(tracker.announce(&announce(None)).await.unwrap_err().fault, TrackerFault::Unreachable(_)));

    // Now a tracker listens at that port.
    let listener = refusing.listen(1).unwrap();
    pause();
    assert!(matches!(tracker.metainfo(&key()).await.unwrap_err().fault, TrackerFault::Paused(_)));
    advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let reply = format!("HTTP/1.1 404 x\r\nContent-Length: 0\r\n{BOOT}\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, reply.as_bytes()).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    assert_eq!(tracker.metainfo(&key()).await, Ok(None));
    assert_eq!(tracker.metainfo(&key()).await, Ok(None));
    server.await.unwrap();
}

#[tokio::test]
async fn a_tracker_that_answers_is_not_left_alone() {
    for reply in [reply(503, BOOT, ""), reply(401, BOOT, ""), reply(500, BOOT, ""), reply(404, "", "")] {
        let Some(Act::Send(reply)) = reply.into_iter().next() else { panic!() };
        let (mut server, tracker) = tracker(move |_| vec![Act::Send(reply.clone())]).await;
        for _ in 0..2 {
            assert!(!tracker.metainfo(&key()).await.unwrap_err().fault.is_down());
        }
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn replies_that_break_off_are_broken() {
    for text in [
        "",
        "HTTP/1.1 200 x\r\nX-Bo",
        "HTTP/1.1 200 x\r\nX-Boot: a\r\nContent-Length: 5\r\n\r\nfour",
        "HTTP/1.1 200 x\r\nX-Boot: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfour",
        "SSH-2.0-x\r\n",
    ] {
        let (_server, tracker) = tracker(move |_| bytes_and_close(text)).await;
        let error = tracker.metainfo(&key()).await.unwrap_err();
        assert!(matches!(error.fault, TrackerFault::Broken(_)), "{text:?}: {error}");
    }
    let long: &'static str = Box::leak(format!("HTTP/1.1 200 x\r\nA: {}", "x".repeat(100_000)).into_boxed_str());
    let (_server, tracker) = tracker(move |_| bytes(long)).await;
    assert!(matches!(tracker.metainfo(&key()).await.unwrap_err().fault, TrackerFault::Broken(_)));
}

#[tokio::test]
async fn a_reply_without_a_length_ends_with_the_connection() {
    let (_server, tracker) = tracker(|_| bytes_and_close("HTTP/1.1 200 x\r\nX-Boot: a\r\n\r\nwhole")).await;
    assert_eq!(tracker.metainfo(&key()).await.unwrap().unwrap(), "whole");
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let tracker = SwarmTracker::new(options(listener.local_addr().unwrap().port())).unwrap();
    let call = tokio::spawn(async move { tracker.state(&key(), MAX_WAIT).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'G');
    call.abort();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(call.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn the_runtime_of_the_first_call_may_end() {
    let (_server, tracker) = replying(200, "d4:infodee").await;
    for _ in 0..2 {
        let tracker = Arc::clone(&tracker);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tracker.metainfo(&key()).await.unwrap().unwrap() })
        });
        let found = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        assert_eq!(found, "d4:infodee");
    }
}

#[test]
fn settings_that_name_no_server_are_refused() {
    let with = |url: &str| {
        let announce = Url::parse(url).unwrap();
        SwarmTracker::new(TrackerOptions { announce, ..options(1) })
    };
    assert!(with("https://tracker.test/announce").is_ok());
    let error = with("udp://10.0.0.1:6969/announce").unwrap_err();
    assert!(error.to_string().starts_with("TRACKER is a udp URL, expected an http or https URL"));
    for host in [Host::Domain("tracker.test".to_owned()), Host::Ipv6("fd00::1".parse().unwrap())] {
        let options = TrackerOptions { torrents: (host.clone(), 2378), ..options(1) };
        assert!(SwarmTracker::new(options).is_ok(), "{host}");
    }
    let host = Host::Domain("a..b".to_owned());
    let wrong = SwarmTracker::new(TrackerOptions { torrents: (host.clone(), 2378), ..options(1) });
    assert_eq!(wrong.unwrap_err(), UnusableTracker::Torrents(host));
}
