//! Exchanges over real sockets, with trackers that the tests start.

use super::*;
use crate::forward::headers::PassedHeaders;
use futures::future::join;
use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use tokio::net::UdpSocket;
use tracker_protocol::udp::{Request, TransactionId};
use tracker_protocol::via::Via;
use tracker_protocol::{AnnounceReply, AnnounceRequest, ClaimedIps, Event, InfoHash, NumWant, PeerId, PeerLists};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);
const ID: ConnectionId = ConnectionId(0xc0c1_c2c3_c4c5_c6c7);
const OTHER_ID: ConnectionId = ConnectionId(1);

/// A tracker that takes each step when the test says so.
struct ScriptedTracker {
    socket: UdpSocket,
    latest: Cell<Option<TransactionId>>,
}

/// An announce as it arrived.
struct ReceivedAnnounce {
    connection: ConnectionId,
    transaction: TransactionId,
    announce: AnnounceRequest,
    url_data: Vec<u8>,
    via: Via,
    from: SocketAddr,
}

impl ScriptedTracker {
    async fn new() -> Self {
        Self::at("127.0.0.1:0").await.unwrap()
    }

    async fn at(address: &str) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind(address).await?, latest: Cell::new(None) })
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn upstream(&self) -> UdpUpstream {
        self.upstream_at("/announce")
    }

    fn upstream_at(&self, path: &str) -> UdpUpstream {
        upstream(&format!("udp://{}{path}", self.address()))
    }

    async fn packet(&self) -> (Request, SocketAddr) {
        let mut buffer = [0; 4096];
        let (length, from) = self.socket.recv_from(&mut buffer).await.unwrap();
        (Request::parse(&buffer[..length]).unwrap(), from)
    }

    /// Returns the next request. Repetitions are skipped: on a busy machine, a late response causes them.
    async fn request(&self) -> (Request, SocketAddr) {
        loop {
            let (request, from) = self.packet().await;
            let transaction = match request {
                Request::Connect { transaction } | Request::Announce { transaction, .. } => transaction,
                Request::Scrape { .. } => panic!("{request:?}"),
            };
            if self.latest.replace(Some(transaction)) != Some(transaction) {
                return (request, from);
            }
        }
    }

    /// Returns whether no packet has come. Loopback delivers in order: once a later packet is answered, every earlier
    /// packet is here.
    fn has_received_nothing(&self) -> bool {
        self.socket.try_recv(&mut [0; 4096]).is_err()
    }

    /// Drops the packets that have come so far.
    fn drain(&self) {
        while !self.has_received_nothing() {}
    }

    async fn connect_request(&self) -> (TransactionId, SocketAddr) {
        match self.request().await {
            (Request::Connect { transaction }, from) => (transaction, from),
            other => panic!("{other:?}"),
        }
    }

    async fn announce_request(&self) -> ReceivedAnnounce {
        match self.request().await {
            (Request::Announce { connection, transaction, announce, url_data, via }, from) => {
                ReceivedAnnounce { connection, transaction, announce, url_data: url_data.into_vec(), via, from }
            }
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, response: &[u8], to: SocketAddr) {
        self.socket.send_to(response, to).await.unwrap();
    }

    async fn connects(&self, id: ConnectionId) {
        let (transaction, from) = self.connect_request().await;
        self.send(&udp::encode_connected(transaction, id), from).await;
    }

    /// Answers an announce with this interval, which identifies the answer.
    async fn answers(&self, arrived: &ReceivedAnnounce, interval: u32) {
        self.send(&udp::encode_announced(arrived.transaction, &reply(interval), arrived.from.ip()), arrived.from).await;
    }

    async fn refuses(&self, arrived: &ReceivedAnnounce, reason: &[u8]) {
        self.send(&udp::encode_refused(arrived.transaction, reason), arrived.from).await;
    }

    /// Answers a connect request and an announce.
    async fn serves(&self, id: ConnectionId, interval: u32) -> ReceivedAnnounce {
        self.connects(id).await;
        self.announces(id, interval).await
    }

    /// Answers an announce, which must have this connection id.
    async fn announces(&self, id: ConnectionId, interval: u32) -> ReceivedAnnounce {
        let arrived = self.announce_request().await;
        assert_eq!(arrived.connection, id);
        self.answers(&arrived, interval).await;
        arrived
    }
}

fn upstream(uri: &str) -> UdpUpstream {
    UdpUpstream::new(&Url::parse(uri).unwrap()).unwrap()
}

fn reply(interval: u32) -> AnnounceReply {
    let mut peers = PeerLists::default();
    let port = NonZeroU16::new(6881).unwrap();
    peers.push([10, 0, 0, 1].into(), port, None);
    peers.push("fd00::1".parse().unwrap(), port, None);
    AnnounceReply {
        interval,
        min_interval: 0,
        complete: 7,
        incomplete: 9,
        downloaded: 0,
        external_ip: Some(Ipv4Addr::LOCALHOST.into()),
        warning: None,
        peers,
    }
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: NonZeroU16::new(6881),
        uploaded: 1,
        downloaded: 2,
        left: Some(3),
        event: Some(Event::Started),
        numwant: NumWant::Default,
        key: Some(b"0000BEEF"[..].into()),
        ids: false,
        claimed: ClaimedIps::default(),
    }
}

/// Announces `request`, and asks the tracker to record this address.
async fn announce_of(
    upstream: &UdpUpstream,
    request: &AnnounceRequest,
    ip: Option<IpAddr>,
    timeout: Duration,
) -> Result<ExchangeReply, ForwardError> {
    let headers = PassedHeaders::new(None, "1.1 us");
    let outgoing = ExchangeRequest { request, numwant: 50, ip, tracker_id: None, headers: &headers };
    upstream.announce(&outgoing, timeout).await
}

async fn announce(upstream: &UdpUpstream, timeout: Duration) -> Result<ExchangeReply, ForwardError> {
    announce_of(upstream, &request(), None, timeout).await
}

/// Returns the interval, which identifies an answer.
fn interval(answer: Result<ExchangeReply, ForwardError>) -> u32 {
    answer.unwrap().reply.interval.unwrap()
}

/// Announces to these addresses, without a look-up.
async fn in_turn(
    upstream: &UdpUpstream,
    ip: Option<IpAddr>,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<ExchangeReply, ForwardError> {
    let headers = PassedHeaders::new(None, "1.1 us");
    let outgoing = ExchangeRequest { request: &request(), numwant: 50, ip, tracker_id: None, headers: &headers };
    upstream.try_in_turn(&outgoing, addresses.to_vec(), Instant::now() + timeout).await
}

/// Advances the clock. No exchange may be under way meanwhile.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[test]
fn errors_in_the_configuration_do_not_show_the_passkey() {
    let long = format!("udp://tracker.example:80/{}", "secret".repeat(200));
    for uri in [
        "http://tracker.example:80/secret",
        "udp:tracker.example:80/secret",
        "udp:///secret",
        "udp://tracker.example/secret",
        "udp://tracker.example:0/secret",
        "udp://1.2.3.256:80/secret",
        long.as_str(),
    ] {
        let error = UdpUpstream::new(&Url::parse(uri).unwrap()).unwrap_err();
        assert!(error.starts_with("its uri ") && !error.contains("secret"), "{uri}: {error}");
    }
    let upstream = upstream("udp://me:secret@tracker.example:6969/secret?secret");
    assert_eq!(format!("{upstream:?}"), r#"UdpUpstream { host: "tracker.example:6969", .. }"#);
}

#[test]
fn url_data_is_what_follows_the_host() {
    for (uri, expected) in [
        ("udp://tracker.example:80", ""),
        ("udp://tracker.example:80/", ""),
        ("udp://tracker.example:80/announce", "/announce"),
        ("udp://tracker.example:80?a=b", "?a=b"),
        ("udp://tracker.example:80/?a=b#c", "/?a=b"),
        ("udp://tracker.example:80/a%20b/c?d=e&f", "/a%20b/c?d=e&f"),
    ] {
        assert_eq!(url_data(&Url::parse(uri).unwrap()), expected.as_bytes(), "{uri}");
    }
}

#[actix_web::test]
async fn names_and_addresses_are_resolved_with_their_ports() {
    for (uri, expected) in [
        ("udp://127.0.0.1:80", "127.0.0.1:80"),
        ("udp://[::1]:6969/announce", "[::1]:6969"),
        ("udp://LOCALHOST:443", "127.0.0.1:443"),
    ] {
        let upstream = upstream(uri);
        let found = upstream.resolver.addresses(&upstream.address).await.unwrap();
        assert!(found.contains(&expected.parse().unwrap()), "{uri}: {found:?}");
    }
}

#[actix_web::test]
async fn an_announce_is_complete_and_its_answer_is_read() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream_at("/announce?passkey=0123456789abcdef");
    let request = request();
    let ip = Ipv4Addr::new(192, 168, 1, 15).into();
    let exchange = announce_of(&upstream, &request, Some(ip), LONG);
    let (answer, arrived) = join(exchange, tracker.serves(ID, 1800)).await;
    let claimed = ClaimedIps { ip: Some(ip), ..ClaimedIps::default() };
    assert_eq!(arrived.announce, AnnounceRequest { numwant: NumWant::AtMost(50), claimed, ..request });
    assert_eq!(arrived.url_data, b"/announce?passkey=0123456789abcdef");
    assert!(arrived.via.names("us") && arrived.via.hops() == 1, "{:?}", arrived.via);
    let ExchangeReply { reply: read, from, .. } = answer.unwrap();
    assert_eq!(from, tracker.address());
    let peers = PeerLists { v6: Vec::new(), ..reply(0).peers };
    let expected =
        UpstreamReply { interval: Some(1800), complete: 7, incomplete: 9, peers, ..UpstreamReply::default() };
    assert_eq!(read, expected);
}

#[actix_web::test]
async fn over_ipv6_the_peers_are_of_ipv6() {
    // Not every host has IPv6.
    let Ok(tracker) = ScriptedTracker::at("[::1]:0").await else { return };
    let upstream = tracker.upstream();
    let request = request();
    let exchange = announce_of(&upstream, &request, Some(Ipv4Addr::new(192, 168, 1, 15).into()), LONG);
    let (answer, arrived) = join(exchange, tracker.serves(ID, 1800)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.reply.peers, PeerLists { v4: Vec::new(), ..reply(0).peers });
    assert_eq!(answer.from, tracker.address());
    // Over IPv6 an announce has no room for an address to record.
    assert_eq!(arrived.announce.claimed, ClaimedIps::default());
}

#[actix_web::test]
async fn a_connection_id_serves_for_two_minutes() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    join(announce(&upstream, LONG), tracker.serves(ID, 1)).await.0.unwrap();
    assert_eq!(interval(join(announce(&upstream, LONG), tracker.announces(ID, 2)).await.0), 2);
    later(Duration::from_secs(119)).await;
    assert_eq!(interval(join(announce(&upstream, LONG), tracker.announces(ID, 3)).await.0), 3);
    later(Duration::from_secs(1)).await;
    assert_eq!(interval(join(announce(&upstream, LONG), tracker.serves(OTHER_ID, 4)).await.0), 4);
}

#[actix_web::test]
async fn a_lost_packet_is_sent_again() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    // The clock is read before the first packet is sent, because on a busy machine that packet may arrive late.
    let start = Instant::now();
    let script = async {
        let (lost, _) = tracker.packet().await;
        let (again, from) = tracker.packet().await;
        assert_eq!(again, lost);
        assert!(start.elapsed() >= FIRST_WAIT, "{:?}", start.elapsed());
        let Request::Connect { transaction } = again else { panic!("{again:?}") };
        tracker.send(&udp::encode_connected(transaction, ID), from).await;
        tracker.announces(ID, 1).await;
    };
    assert_eq!(interval(join(announce(&upstream, LONG), script).await.0), 1);
}

#[test]
fn each_wait_is_twice_as_long_as_the_one_before() {
    let waits: Vec<_> = waits().map(|wait| wait.as_millis()).take(4).collect();
    assert_eq!(waits, [500, 1000, 2000, 4000]);
}

#[actix_web::test]
async fn only_the_tracker_s_answer_to_this_request_counts() {
    let (tracker, stranger) = (ScriptedTracker::new().await, ScriptedTracker::new().await);
    let upstream = tracker.upstream();
    let script = async {
        let (transaction, from) = tracker.connect_request().await;
        // Three responses that do not count: too short, for another request, from another address. Then the answer, and
        // a second answer, which does not count either.
        tracker.send(b"\0\0\0", from).await;
        tracker.send(&udp::encode_connected(TransactionId(!transaction.0), OTHER_ID), from).await;
        stranger.send(&udp::encode_connected(transaction, OTHER_ID), from).await;
        tracker.send(&udp::encode_connected(transaction, ID), from).await;
        tracker.send(&udp::encode_connected(transaction, OTHER_ID), from).await;
        tracker.announces(ID, 1).await;
    };
    assert_eq!(interval(join(announce(&upstream, LONG), script).await.0), 1);
}

#[actix_web::test]
async fn a_refusal_does_not_show_the_passkey() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream_at("/0123456789abcdef/announce");
    let refused = |reason: &[u8]| ForwardError::Refused {
        reason: reason.to_vec(),
        retry: Retry::Unsaid,
        status: None,
        retry_after: None,
    };
    let script = async {
        let (transaction, from) = tracker.connect_request().await;
        tracker.send(&udp::encode_refused(transaction, b"no 0123456789abcdef!"), from).await;
    };
    let error = join(announce(&upstream, LONG), script).await.0.unwrap_err();
    assert_eq!((error.status(), error), (None, refused(b"no ***!")));
    // The connection id is fresh, so the refusal is about the announce, not the id.
    for kept in [false, true] {
        let script = async {
            if kept {
                tracker.refuses(&tracker.announce_request().await, b"unknown connection id").await;
            }
            tracker.connects(if kept { OTHER_ID } else { ID }).await;
            tracker.refuses(&tracker.announce_request().await, b"unknown torrent\0").await;
        };
        let error = join(announce(&upstream, LONG), script).await.0.unwrap_err();
        assert_eq!(error, refused(b"unknown torrent"));
    }
}

#[actix_web::test]
async fn a_connection_id_that_is_refused_is_replaced() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    join(announce(&upstream, LONG), tracker.serves(ID, 1)).await.0.unwrap();
    let script = async {
        tracker.refuses(&tracker.announce_request().await, b"connection id mismatch").await;
        tracker.serves(OTHER_ID, 2).await;
    };
    assert_eq!(interval(join(announce(&upstream, LONG), script).await.0), 2);
    assert_eq!(upstream.link(tracker.address()).unwrap().id(), Some(OTHER_ID));
}

#[actix_web::test]
async fn a_connection_id_that_gets_no_answer_is_replaced() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    join(announce(&upstream, LONG), tracker.serves(ID, 1)).await.0.unwrap();
    let script = async {
        assert_eq!(tracker.announce_request().await.connection, ID);
        tracker.serves(OTHER_ID, 2).await;
    };
    assert_eq!(interval(join(announce(&upstream, LONG), script).await.0), 2);
    // The id is forgotten even if no time is left to get another one.
    assert_eq!(announce(&upstream, SHORT).await.unwrap_err(), ForwardError::Timeout);
    assert_eq!(upstream.link(tracker.address()).unwrap().id(), None);
}

#[actix_web::test]
async fn another_exchanges_connection_id_is_not_forgotten() {
    let link = Link::new(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
    link.set_id(ID);
    link.forget_id(OTHER_ID);
    assert_eq!(link.id(), Some(ID));
    link.forget_id(ID);
    assert_eq!(link.id(), None);
}

#[actix_web::test]
async fn each_upstream_has_a_port_of_its_own_and_a_new_one_every_two_minutes() {
    let tracker = ScriptedTracker::new().await;
    let (upstream, other) = (tracker.upstream(), tracker.upstream());
    let first = join(announce(&upstream, LONG), tracker.serves(ID, 1)).await.1.from;
    let second = join(announce(&upstream, LONG), tracker.announces(ID, 1)).await.1.from;
    assert_eq!(first, second);
    let others = join(announce(&other, LONG), tracker.serves(ID, 1)).await.1.from;
    assert_ne!(first, others);
    later(SOCKET_LIFETIME).await;
    let renewed = join(announce(&upstream, LONG), tracker.serves(OTHER_ID, 1)).await.1.from;
    assert_ne!(first, renewed);
    assert_eq!(upstream.links.lock().len(), 1);
}

#[actix_web::test]
async fn a_port_where_nothing_listens_fails_at_once() {
    let closed = ScriptedTracker::new().await.address();
    let upstream = upstream(&format!("udp://{closed}/announce"));
    // If the system's error were not noticed, the announce would end with a timeout.
    let error = announce(&upstream, LONG).await.unwrap_err();
    assert_eq!(error.label(), "connect", "{error}");
}

#[actix_web::test]
async fn responses_that_cannot_be_read_are_junk() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    let junk = |answer: Result<ExchangeReply, ForwardError>| match answer.unwrap_err() {
        ForwardError::Junk { what, status: None } => what,
        error => panic!("{error:?}"),
    };
    let script = async {
        let (transaction, from) = tracker.connect_request().await;
        tracker.send(&udp::encode_connected(transaction, ID)[..15], from).await;
    };
    assert_eq!(junk(join(announce(&upstream, LONG), script).await.0), "it is too short");
    let script = async {
        tracker.connects(ID).await;
        let arrived = tracker.announce_request().await;
        tracker.send(&udp::encode_connected(arrived.transaction, ID), arrived.from).await;
    };
    let what = junk(join(announce(&upstream, LONG), script).await.0);
    assert_eq!(what, "it answers a request with action 0, which was not made");
}

#[actix_web::test]
async fn an_upstream_that_never_answers_takes_no_more_than_the_timeout() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    let start = Instant::now();
    assert_eq!(announce(&upstream, SHORT).await.unwrap_err(), ForwardError::Timeout);
    // The upper bound is generous, for busy machines.
    assert!((SHORT..LONG).contains(&start.elapsed()), "{:?}", start.elapsed());
    let (_, from) = tracker.packet().await;
    let (answer, arrived) = join(announce(&upstream, LONG), async {
        tracker.connects(ID).await;
        tracker.announces(ID, 1).await
    })
    .await;
    assert_eq!(interval(answer), 1);
    // The socket is still the same.
    assert_eq!(arrived.from, from);
}

#[actix_web::test]
async fn two_exchanges_at_once_get_their_own_answers() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    let requests = [1, 2].map(|n| AnnounceRequest { info_hash: InfoHash([n; 20]), ..request() });
    let exchanges =
        join(announce_of(&upstream, &requests[0], None, LONG), announce_of(&upstream, &requests[1], None, LONG));
    let script = async {
        let (first, from) = tracker.connect_request().await;
        let (second, _) = tracker.connect_request().await;
        assert_ne!(first, second);
        tracker.send(&udp::encode_connected(second, OTHER_ID), from).await;
        tracker.send(&udp::encode_connected(first, ID), from).await;
        let arrived = [tracker.announce_request().await, tracker.announce_request().await];
        for arrived in arrived.iter().rev() {
            tracker.answers(arrived, arrived.announce.info_hash.0[0].into()).await;
        }
    };
    let ((first, second), ()) = join(exchanges, script).await;
    assert_eq!((interval(first), interval(second)), (1, 2));
    assert_eq!(upstream.link(tracker.address()).unwrap().pending(), 0);
}

#[actix_web::test]
async fn a_dropped_exchange_is_no_longer_pending() {
    let tracker = ScriptedTracker::new().await;
    let upstream = tracker.upstream();
    let waiting = || upstream.link(tracker.address()).unwrap().pending();
    let mut exchange = Box::pin(announce(&upstream, LONG));
    assert!(futures::poll!(&mut exchange).is_pending());
    assert_eq!(waiting(), 1);
    drop(exchange);
    assert_eq!(waiting(), 0);
}

#[actix_web::test]
async fn addresses_are_tried_in_turn() {
    let (tracker, silent) = (ScriptedTracker::new().await, ScriptedTracker::new().await);
    let upstream = tracker.upstream();
    // The system does not send to a broadcast address without SO_BROADCAST.
    let broadcast = SocketAddr::from(([255; 4], 6969));
    let (answer, _) =
        join(in_turn(&upstream, None, &[broadcast, tracker.address()], LONG), tracker.serves(ID, 1)).await;
    assert_eq!(answer.unwrap().from, tracker.address());
    let error = in_turn(&upstream, None, &[broadcast], LONG).await.unwrap_err();
    assert!(matches!(&error, ForwardError::Local(why) if why.contains("denied")), "{error:?}");
    // If the first address does not answer, half the time remains for the second.
    let addresses = [silent.address(), tracker.address()];
    let (answer, _) = join(in_turn(&upstream, None, &addresses, 30 * SHORT), tracker.announces(ID, 2)).await;
    assert_eq!(interval(answer), 2);
    let addresses = [silent.address(), broadcast];
    assert_eq!(in_turn(&upstream, None, &addresses, SHORT).await.unwrap_err(), ForwardError::Timeout);
    // If the first address answers, the second is not tried.
    silent.drain();
    let addresses = [tracker.address(), silent.address()];
    let (answer, _) = join(in_turn(&upstream, None, &addresses, LONG), tracker.announces(ID, 3)).await;
    assert_eq!(interval(answer), 3);
    assert!(silent.has_received_nothing());
}

#[actix_web::test]
async fn an_ipv4_address_to_be_recorded_is_sent_over_ipv4() {
    let (tracker, Ok(other)) = (ScriptedTracker::new().await, ScriptedTracker::at("[::1]:0").await) else { return };
    let upstream = tracker.upstream();
    let ip = Ipv4Addr::new(192, 168, 1, 15).into();
    let addresses = [other.address(), tracker.address()];
    let (answer, arrived) = join(in_turn(&upstream, Some(ip), &addresses, LONG), tracker.serves(ID, 1)).await;
    assert_eq!(answer.unwrap().from, tracker.address());
    assert_eq!(arrived.announce.claimed.ip, Some(ip));
    assert!(other.has_received_nothing(), "the IPv6 address was tried first");
}
