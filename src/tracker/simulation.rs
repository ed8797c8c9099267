//! Tests of a LAN and its upstream trackers in simulated time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join_all, pending, ready};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Policy, Requester, Standing, Tracker};
use crate::answer::Answer;
use crate::forward::simulation::SimulatedUpstream;
use crate::forward::{
    ClientElsewhere, ClientNews, ForwardError, ForwardOptions, ForwarderStatus, Forwarders, OtherInstances,
    UpstreamProxies,
};
use crate::metrics::Metrics;
use crate::share::SharedSwarms;
use crate::store::{Store, StoreOptions};
use crate::topology::Topology;
use tracker_protocol::upstream::{Retry, UpstreamReply};
use tracker_protocol::via::Via;
use tracker_protocol::{
    AnnounceReply, AnnounceRequest, ClaimedIps, Event, InfoHash, NumWant, PeerId, PeerLists, Protocol, Role,
};

const DEADLINE: Duration = Duration::from_secs(2);
const PEER_AGE: Duration = Duration::from_hours(3);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs a test in simulated time. The clock advances only when all tasks are idle.
fn simulate(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Returns `count` peers from outside the LAN.
fn strangers(count: u8) -> PeerLists {
    let mut peers = PeerLists::default();
    (1..=count).for_each(|n| peers.push([203, 0, 113, n].into(), NonZeroU16::MIN, None));
    peers
}

fn answer(interval: u32, count: u8) -> UpstreamReply {
    UpstreamReply { interval: Some(interval), peers: strangers(count), ..UpstreamReply::default() }
}

/// Makes an upstream that answers after `delay`, with `count` peers.
fn good(delay: Duration, interval: u32, count: u8) -> SimulatedUpstream {
    SimulatedUpstream::new(move |_| {
        async move { sleep(delay).map(|()| Ok(answer(interval, count))).await }.boxed_local()
    })
}

fn silent() -> SimulatedUpstream {
    SimulatedUpstream::new(|_| pending().boxed_local())
}

fn fails(error: impl Fn() -> ForwardError + Send + Sync + 'static) -> SimulatedUpstream {
    SimulatedUpstream::new(move |_| ready(Err(error())).boxed_local())
}

fn junk() -> SimulatedUpstream {
    fails(|| ForwardError::Junk { what: "it is no bencode".to_owned(), status: Some(200) })
}

/// Makes a tracker with these upstreams, and starts its forwarding engine.
fn tracker(upstreams: &[(&str, &SimulatedUpstream)]) -> Rc<Tracker> {
    let metrics = Metrics::unexposed();
    let options = ForwardOptions {
        forwarders: Vec::new(),
        deadline: DEADLINE,
        peer_age: PEER_AGE,
        max_exchanges: None,
        proxies: UpstreamProxies::default(),
    };
    let (forwarders, engine) = Forwarders::simulated(upstreams, &options, &metrics);
    spawn_local(engine.run(pending::<()>()));
    let policy = Policy::every(30);
    let announce_interval = Duration::from_secs(30);
    let store = Store::new(StoreOptions { peer_age: PEER_AGE, announce_interval, max_peers: 1_000_000 });
    Rc::new(Tracker::new(policy, Topology::default(), Arc::new(store), Some(forwarders), &metrics))
}

/// A client of the LAN in one swarm.
#[derive(Clone, Copy, Debug)]
struct Client {
    swarm: u8,
    number: u8,
    left: u64,
    /// The last byte of the client's address. `None`: the byte is `number`.
    address: Option<u8>,
}

fn client(swarm: u8, number: u8) -> Client {
    Client { swarm, number, left: 1, address: None }
}

impl Client {
    fn seed(self) -> Self {
        Self { left: 0, ..self }
    }

    fn request(self, event: Option<Event>) -> AnnounceRequest {
        let mut peer_id = [self.number; 20];
        peer_id[0] = self.swarm;
        AnnounceRequest {
            info_hash: InfoHash([self.swarm; 20]),
            peer_id: PeerId(peer_id),
            port: NonZeroU16::new(6881),
            uploaded: 0,
            downloaded: 0,
            left: Some(self.left),
            event,
            numwant: NumWant::Default,
            key: None,
            ids: false,
            claimed: ClaimedIps::default(),
        }
    }

    fn ip(self) -> IpAddr {
        [10, 0, self.swarm, self.address.unwrap_or(self.number)].into()
    }

    /// Returns what another instance tells this instance after the client has announced there.
    fn elsewhere(self, event: Option<Event>) -> ClientElsewhere {
        let AnnounceRequest { info_hash, peer_id, port, .. } = self.request(event);
        let news = match event {
            Some(Event::Stopped) => ClientNews::Left(port),
            _ => ClientNews::Announced(port.unwrap()),
        };
        ClientElsewhere { info_hash, ip: self.ip(), is_claim: false, peer_id, news }
    }

    /// Announces the client. Returns the reply, and how long it took.
    async fn announces(self, tracker: &Tracker, event: Option<Event>) -> (AnnounceReply, Duration) {
        let requester = Requester {
            ip: self.ip(),
            standing: Standing::Client,
            protocol: Protocol::Http,
            max_peers: usize::MAX,
            user_agent: None,
            via: &Via::default(),
            is_confidential: false,
        };
        let start = Instant::now();
        let reply = match tracker.announce(requester, &self.request(event)) {
            Answer::Ready(reply) => reply,
            Answer::Pending(pending) => tracker.finish(pending).await,
        };
        (reply, start.elapsed())
    }
}

fn strangers_in(reply: &AnnounceReply) -> usize {
    reply.peers.v4.iter().filter(|peer| peer.endpoint.ip.octets()[0] == 203).count()
}

fn status(tracker: &Tracker, name: &str) -> ForwarderStatus {
    tracker.forwarder_status().into_iter().find(|status| status.name == name).unwrap()
}

/// Waits until all background work that is due has finished.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[test]
fn two_minutes_of_a_lan_with_one_good_upstream_one_silent_one_and_one_that_answers_junk() {
    simulate(async {
        let (good, silent, junk) = (good(Duration::from_millis(80), 60, 3), silent(), junk());
        let tracker = tracker(&[("silent", &silent), ("junk", &junk), ("good", &good)]);
        let start = Instant::now();
        let clients = (0..50).flat_map(|swarm| (0..4).map(move |number| client(swarm, number)));
        let lives = clients.enumerate().map(|(n, client)| {
            let tracker = Rc::clone(&tracker);
            async move {
                // The first announces are spread over half a minute. Then each client announces every half minute.
                let first = start + Duration::from_millis(150) * u32::try_from(n).unwrap();
                let mut told = Vec::new();
                for time in 0..4 {
                    sleep_until(first + seconds(30) * time).await;
                    let event = (time == 0).then_some(Event::Started);
                    let (reply, took) = client.announces(&tracker, event).await;
                    told.push((strangers_in(&reply), took));
                }
                told
            }
        });
        let told = join_all(lives).await;
        assert!(start.elapsed() >= seconds(119), "{:?}", start.elapsed());
        for told in &told {
            let (_, first) = told[0];
            assert!(first <= DEADLINE, "{told:?}");
            for &(strangers, took) in &told[1..] {
                assert_eq!((strangers, took), (3, Duration::ZERO), "a warm announce: {told:?}");
            }
        }
        // However often a client announces, it is announced upstream only twice: at first, and after the upstream's
        // interval of a minute.
        assert_eq!([good.count_of(Some(Event::Started)), good.count_of(None), good.asked().len()], [200, 200, 400]);
        // An exchange that brings junk fails at once. After three such exchanges, the upstream gets only probes.
        assert!((3..12).contains(&junk.asked().len()), "{}", junk.asked().len());
        // An exchange with a silent upstream fails after ten seconds, in which 67 clients announce.
        assert!((3..80).contains(&silent.asked().len()), "{}", silent.asked().len());
        assert_eq!(status(&tracker, "good").state, "closed");
        assert!(["open", "probing"].contains(&status(&tracker, "junk").state));
        assert_eq!(status(&tracker, "good").sessions, 200);

        // All clients fall silent. The good upstream gets `stopped` for each.
        sleep(PEER_AGE + seconds(60)).await;
        assert_eq!(good.count_of(Some(Event::Stopped)), 200);
        // The other upstreams may have recorded the clients without an answer, so the tracker tries for a while to send
        // them `stopped`.
        sleep(seconds(3600)).await;
        for name in ["good", "junk", "silent"] {
            let status = status(&tracker, name);
            assert_eq!((status.sessions, status.lists, status.in_flight), (0, 0, 0), "{name}");
        }
    });
}

#[test]
fn the_first_announce_waits_for_all_that_answer_in_time_and_no_longer_than_it_must() {
    simulate(async {
        let (fast, slow) = (good(Duration::from_millis(100), 1800, 3), good(Duration::from_millis(900), 1800, 3));
        let (reply, took) = client(1, 1).announces(&tracker(&[("fast", &fast), ("slow", &slow)]), None).await;
        assert_eq!((took, strangers_in(&reply), reply.interval), (Duration::from_millis(900), 3, 30));

        let (many, silent) = (good(Duration::from_millis(100), 1800, 60), silent());
        let (reply, took) = client(1, 1).announces(&tracker(&[("silent", &silent), ("many", &many)]), None).await;
        assert_eq!((took, strangers_in(&reply), reply.interval), (Duration::from_millis(100), 50, 30), "enough");

        let (reply, took) = client(1, 1).announces(&tracker(&[("fast", &fast), ("silent", &silent)]), None).await;
        assert_eq!((took, strangers_in(&reply), reply.interval), (DEADLINE, 3, 5), "the deadline");
        assert_eq!(reply.min_interval, 5);

        let junk = junk();
        let (reply, took) = client(1, 1).announces(&tracker(&[("fast", &fast), ("junk", &junk)]), None).await;
        assert_eq!((took, strangers_in(&reply)), (Duration::from_millis(100), 3), "a failed upstream delays nothing");
    });
}

#[test]
fn one_announce_in_the_whole_process_waits_for_an_upstream_that_hangs() {
    simulate(async {
        let (good, hanging) = (good(Duration::from_millis(100), 1800, 3), silent());
        let tracker = tracker(&[("good", &good), ("hanging", &hanging)]);
        let (_, took) = client(1, 1).announces(&tracker, None).await;
        assert_eq!(took, DEADLINE);
        // The swarm's second client gets the good upstream's peers at once. First clients of new swarms wait only for
        // that upstream.
        let (reply, took) = client(1, 2).announces(&tracker, None).await;
        assert_eq!((took, strangers_in(&reply)), (Duration::ZERO, 3));
        for swarm in 2..20 {
            let (reply, took) = client(swarm, 1).announces(&tracker, None).await;
            assert_eq!((took, strangers_in(&reply)), (Duration::from_millis(100), 3), "swarm {swarm}");
        }
    });
}

#[test]
fn all_announces_that_wait_are_answered_when_an_upstream_turns_out_to_hang() {
    simulate(async {
        let hanging = silent();
        let tracker = tracker(&[("hanging", &hanging)]);
        let late = |swarm: u8| {
            let tracker = Rc::clone(&tracker);
            async move {
                sleep(Duration::from_millis(100) * u32::from(swarm)).await;
                client(swarm, 1).announces(&tracker, None).await
            }
        };
        for (n, (reply, took)) in join_all((0..10).map(late)).await.into_iter().enumerate() {
            let waited = Duration::from_millis(2000 - 100 * u64::try_from(n).unwrap());
            // The interval is short, because the upstream's peers may still come.
            assert_eq!((took, reply.interval), (waited, 5), "announce {n}");
        }
    });
}

#[test]
fn an_upstream_that_answers_in_time_again_is_waited_for_again() {
    simulate(async {
        let start = Instant::now();
        let upstream = SimulatedUpstream::new(move |_| {
            let delay = if start.elapsed() < seconds(60) { seconds(5) } else { Duration::from_millis(100) };
            async move { sleep(delay).map(|()| Ok(answer(1800, 3))).await }.boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        let took = |swarm| {
            let tracker = Rc::clone(&tracker);
            async move { client(swarm, 1).announces(&tracker, None).await.1 }
        };
        assert_eq!((took(1).await, took(2).await), (DEADLINE, Duration::ZERO));
        sleep(seconds(60)).await;
        assert_eq!(took(3).await, Duration::ZERO, "the upstream has not answered in time again yet");
        sleep(seconds(1)).await;
        assert_eq!(took(4).await, Duration::from_millis(100));
    });
}

#[test]
fn a_source_that_invents_clients_delays_only_itself() {
    simulate(async {
        let upstream = good(Duration::from_millis(10), 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let flood = |n: u32| {
            let mut request = client(1, 1).request(Some(Event::Started));
            request.peer_id.0[..4].copy_from_slice(&n.to_be_bytes());
            request.port = NonZeroU16::new(u16::try_from(n % 60_000 + 1).unwrap());
            request.info_hash.0[..4].copy_from_slice(&n.to_be_bytes());
            request
        };
        let from = IpAddr::from([10, 9, 9, 9]);
        let via = Via::default();
        let requester = Requester {
            ip: from,
            standing: Standing::Client,
            protocol: Protocol::Http,
            max_peers: usize::MAX,
            user_agent: None,
            via: &via,
            is_confidential: false,
        };
        for n in 0..20_000 {
            drop(tracker.announce(requester, &flood(n)));
        }
        let (_, took) = client(9, 9).announces(&tracker, None).await;
        assert!(took < seconds(1), "{took:?}");
        assert!(upstream.asked().len() < 500, "only one source's share of the flood was sent");
        let status = status(&tracker, "upstream");
        assert!(status.waiting <= 16 * 1024, "{}", status.waiting);
        // The tracker sends two hundred announces a second upstream. After 100 s, no announce waits any more.
        sleep(seconds(100)).await;
        let asked = upstream.asked().len();
        assert!(asked > 16_000 && asked < 20_000, "{asked}");
    });
}

#[test]
fn a_torrent_full_of_one_source_s_clients_has_room_for_others() {
    simulate(async {
        let upstream = good(Duration::from_millis(10), 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let via = Via::default();
        let announce = |ip: [u8; 4], n: u16| {
            let mut request = client(1, 1).request(None);
            request.peer_id.0[..2].copy_from_slice(&n.to_be_bytes());
            request.port = NonZeroU16::new(n + 1);
            let requester = Requester {
                ip: ip.into(),
                standing: Standing::Client,
                protocol: Protocol::Http,
                max_peers: usize::MAX,
                user_agent: None,
                via: &via,
                is_confidential: false,
            };
            drop(tracker.announce(requester, &request));
        };
        (0..12_000).for_each(|n| announce([10, 9, 9, 9], n));
        for n in 1..=200 {
            announce([10, 0, 1, n], 20_000 + u16::from(n));
        }
        sleep(seconds(5)).await;
        let real = upstream.asked().iter().filter(|request| request.port > NonZeroU16::new(20_000)).count();
        assert_eq!(real, 200);
    });
}

#[test]
fn a_late_list_is_there_for_the_next_announce() {
    simulate(async {
        let late = good(seconds(6), 1800, 3);
        let tracker = tracker(&[("late", &late)]);
        let (reply, took) = client(1, 1).announces(&tracker, Some(Event::Started)).await;
        assert_eq!((took, strangers_in(&reply), reply.interval), (DEADLINE, 0, 5));
        // The client's own exchange is under way. The second announce starts no other exchange, and does not wait.
        sleep(seconds(1)).await;
        let (reply, took) = client(1, 1).announces(&tracker, None).await;
        assert_eq!((took, strangers_in(&reply), reply.interval), (Duration::ZERO, 0, 5));
        sleep(seconds(5)).await;
        let (reply, took) = client(1, 1).announces(&tracker, None).await;
        assert_eq!((took, strangers_in(&reply), reply.interval), (Duration::ZERO, 3, 30));
        assert_eq!(late.asked().len(), 1);
    });
}

#[test]
fn the_second_client_is_announced_upstream_and_answered_at_once() {
    simulate(async {
        let upstream = good(Duration::from_millis(500), 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        let (reply, took) = client(1, 2).announces(&tracker, Some(Event::Started)).await;
        // The client gets one peer of the LAN and three of the upstream. The interval is short: the exchange that just
        // started may bring more.
        assert_eq!((took, strangers_in(&reply), reply.peers.len(), reply.interval), (Duration::ZERO, 3, 4, 5));
        sleep(seconds(1)).await;
        let asked: Vec<_> = upstream.asked().iter().map(|request| (request.peer_id, request.event)).collect();
        let started = |client: Client| (client.request(None).peer_id, Some(Event::Started));
        assert_eq!(asked, [started(client(1, 1)), started(client(1, 2))]);
    });
}

#[test]
fn a_seed_s_list_is_not_what_a_leecher_waits_for() {
    simulate(async {
        // Trackers give a seed only leechers, and this upstream has no leecher.
        let upstream = SimulatedUpstream::new(|request| {
            let count = if request.role() == Role::Seed { 0 } else { 3 };
            async move { sleep(seconds(1)).map(|()| Ok(answer(1800, count))).await }.boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        let (reply, _) = client(1, 1).seed().announces(&tracker, None).await;
        assert_eq!(strangers_in(&reply), 0);
        let (reply, took) = client(1, 2).announces(&tracker, None).await;
        assert_eq!((took, strangers_in(&reply)), (seconds(1), 3));
        // Another seed's announce brings a list for seeds. This list does not replace the list for leechers.
        client(1, 3).seed().announces(&tracker, None).await;
        sleep(seconds(2)).await;
        assert_eq!(strangers_in(&client(1, 2).announces(&tracker, None).await.0), 3);
    });
}

#[test]
fn an_upstream_gets_each_event_once_and_in_order() {
    simulate(async {
        let upstream = good(seconds(1), 600, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let events = || upstream.asked().iter().map(|request| request.event).collect::<Vec<_>>();
        let peer = client(1, 1);
        peer.announces(&tracker, Some(Event::Started)).await;
        peer.announces(&tracker, Some(Event::Started)).await;
        for _ in 0..30 {
            sleep(seconds(30)).await;
            peer.announces(&tracker, None).await;
        }
        settle().await;
        assert_eq!(events(), [Some(Event::Started), None], "15 minutes");
        sleep(seconds(2)).await;
        peer.seed().announces(&tracker, Some(Event::Completed)).await;
        peer.seed().announces(&tracker, Some(Event::Completed)).await;
        // The client stops while the exchange for `completed` is under way.
        peer.seed().announces(&tracker, Some(Event::Stopped)).await;
        peer.seed().announces(&tracker, Some(Event::Stopped)).await;
        sleep(seconds(5)).await;
        assert_eq!(events()[2..], [Some(Event::Completed), Some(Event::Stopped)]);
        assert_eq!(upstream.asked()[3].left, Some(0));
        assert_eq!(status(&tracker, "upstream").sessions, 0);
        // The tracker sends `stopped` only for a client that it has announced upstream.
        client(1, 2).announces(&tracker, Some(Event::Stopped)).await;
        sleep(seconds(60)).await;
        assert_eq!(events().len(), 4);
    });
}

#[test]
fn every_cause_has_its_consequence() {
    // Five clients announce. Each row has the cause of a failure, an upstream that fails for this cause, the
    // forwarder's state after the first and after the last announce, and the number of requests to the upstream.
    let refused = |retry, status, retry_after: Option<u64>| {
        fails(move || ForwardError::Refused {
            reason: b"no".to_vec(),
            retry,
            status: Some(status),
            retry_after: retry_after.map(seconds),
        })
    };
    let status_code = |code, retry_after: Option<u64>| {
        fails(move || ForwardError::Status { code, retry_after: retry_after.map(seconds) })
    };
    let table = [
        ("connect", fails(|| ForwardError::Connect("refused".to_owned())), "closed", "open", 3),
        ("dns", fails(|| ForwardError::Dns("unknown".to_owned())), "closed", "open", 3),
        ("tls", fails(|| ForwardError::Tls("expired".to_owned())), "closed", "open", 3),
        ("timeout", silent(), "closed", "open", 3),
        ("500", status_code(500, None), "closed", "open", 3),
        ("503 without Retry-After", status_code(503, None), "closed", "open", 3),
        ("junk", junk(), "closed", "open", 3),
        ("too large", fails(|| ForwardError::TooLarge { status: Some(200) }), "closed", "open", 3),
        ("truncated", fails(|| ForwardError::Truncated { status: Some(200) }), "closed", "open", 3),
        ("429", status_code(429, None), "paused", "paused", 1),
        ("429 with Retry-After", status_code(429, Some(300)), "paused", "paused", 1),
        ("503 with Retry-After", status_code(503, Some(300)), "paused", "paused", 1),
        ("refused with 429", refused(Retry::Unsaid, 429, None), "paused", "paused", 1),
        ("refused", refused(Retry::Unsaid, 200, None), "closed", "closed", 5),
        ("refused for ever", refused(Retry::Never, 403, None), "closed", "closed", 5),
        ("404", status_code(404, None), "closed", "closed", 5),
        ("too long", fails(|| ForwardError::TooLong), "closed", "closed", 5),
    ];
    simulate(async {
        for (name, odd, after_one, after_five, requests) in table {
            let good = good(Duration::from_millis(10), 1800, 3);
            let tracker = tracker(&[("odd", &odd), ("good", &good)]);
            for number in 1..=5 {
                let (reply, _) = client(1, number).announces(&tracker, Some(Event::Started)).await;
                assert_eq!(strangers_in(&reply), 3, "{name}: the peers of the good upstream arrive all the same");
                // With a silent upstream, the test waits for longer than an exchange may take. With another
                // upstream, it waits for less than the first back-off.
                sleep(if name == "timeout" { seconds(11) } else { Duration::from_millis(100) }).await;
                let state = status(&tracker, "odd").state;
                match number {
                    1 => assert_eq!(state, after_one, "{name}"),
                    3.. if name == "timeout" => assert_ne!(state, "closed"),
                    5 => assert_eq!(state, after_five, "{name}"),
                    _ => {}
                }
            }
            let asked = odd.asked().len();
            assert!(asked == requests || (name == "timeout" && asked <= 5), "{name}: {asked} requests");
            let error = status(&tracker, "odd").last_error;
            assert!(error.is_some_and(|error| !error.text.is_empty()), "{name}");
        }
    });
}

#[test]
fn a_probe_and_no_client_finds_out_that_an_upstream_works_again() {
    simulate(async {
        let start = Instant::now();
        let upstream = SimulatedUpstream::new(move |_| {
            let is_down = (seconds(60)..seconds(180)).contains(&start.elapsed());
            let answer =
                if is_down { Err(ForwardError::Connect("Connection refused".to_owned())) } else { Ok(answer(30, 3)) };
            ready(answer).boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        let mut states = BTreeSet::new();
        while start.elapsed() < seconds(400) {
            for number in 0..10 {
                let (reply, took) = client(1, number).announces(&tracker, None).await;
                assert_eq!((strangers_in(&reply), took), (3, Duration::ZERO), "at {:?}", start.elapsed());
            }
            states.insert((start.elapsed().as_secs() / 100, status(&tracker, "upstream").state));
            sleep(seconds(5)).await;
        }
        assert!(states.contains(&(1, "open")) && states.contains(&(3, "closed")), "{states:?}");
        assert!(!states.contains(&(3, "open")), "{states:?}");
    });
}

#[test]
fn a_refusing_upstream_is_asked_again_when_its_reply_says() {
    simulate(async {
        let upstream = fails(|| ForwardError::Refused {
            reason: b"not now".to_vec(),
            retry: Retry::Minutes(5),
            status: Some(200),
            retry_after: None,
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        for _ in 0..20 {
            client(1, 1).announces(&tracker, None).await;
            sleep(seconds(30)).await;
        }
        // The client is announced upstream at the beginning and after five minutes. Both announces have `started`,
        // because the upstream has not accepted the client yet.
        assert_eq!(upstream.count_of(Some(Event::Started)), 2);
        assert_eq!(upstream.asked().len(), 2);
    });
}

#[test]
fn a_stop_that_cannot_be_sent_at_once_is_sent_later() {
    simulate(async {
        let start = Instant::now();
        let upstream = SimulatedUpstream::new(move |_| {
            let is_down = (seconds(10)..seconds(15)).contains(&start.elapsed());
            let down = ForwardError::Connect("Connection refused".to_owned());
            ready(if is_down { Err(down) } else { Ok(answer(1800, 3)) }).boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        sleep(seconds(11)).await;
        client(1, 1).announces(&tracker, Some(Event::Stopped)).await;
        sleep(seconds(60)).await;
        assert_eq!(upstream.count_of(Some(Event::Stopped)), 2);
        assert_eq!(status(&tracker, "upstream").sessions, 0);
    });
}

#[test]
fn all_stops_are_sent_however_many_there_are_at_once() {
    simulate(async {
        let upstream = good(Duration::from_millis(50), 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        for swarm in 0..200 {
            join_all((0..10).map(|number| client(swarm, number).announces(&tracker, Some(Event::Started)))).await;
        }
        assert_eq!(upstream.count_of(Some(Event::Started)), 2000);
        sleep(PEER_AGE + seconds(60)).await;
        assert_eq!(upstream.count_of(Some(Event::Stopped)), 2000);
        assert_eq!(status(&tracker, "upstream").sessions, 0);
    });
}

#[test]
fn a_stop_during_a_pause_of_an_upstream_is_sent_afterwards() {
    simulate(async {
        let start = Instant::now();
        let upstream = SimulatedUpstream::new(move |request| {
            let is_tired = start.elapsed() < seconds(600) && request.peer_id.0[1] == 2;
            let tired = ForwardError::Status { code: 503, retry_after: Some(seconds(600)) };
            ready(if is_tired { Err(tired) } else { Ok(answer(1800, 3)) }).boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        client(1, 2).announces(&tracker, Some(Event::Started)).await;
        settle().await;
        assert_eq!(status(&tracker, "upstream").state, "paused");
        for number in 1..=2 {
            client(1, number).announces(&tracker, Some(Event::Stopped)).await;
        }
        sleep(seconds(590)).await;
        assert_eq!(upstream.asked().len(), 2);
        sleep(seconds(40)).await;
        // The upstream never recorded the second client, so it gets `stopped` only for the first.
        assert_eq!(upstream.asked()[2..].iter().map(|stop| stop.peer_id.0[1]).collect::<Vec<_>>(), [1]);
        assert_eq!(status(&tracker, "upstream").sessions, 0);
    });
}

#[test]
fn a_list_is_for_all_announces_that_wait_for_it() {
    simulate(async {
        // The upstream answers the announce of the first client soon, and all others late.
        let upstream = SimulatedUpstream::new(|request| {
            let delay = if request.peer_id.0[1] == 1 { 500 } else { 1900 };
            async move { sleep(Duration::from_millis(delay)).map(|()| Ok(answer(1800, 3))).await }.boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        let both = (1..=2).map(|number| client(1, number).announces(&tracker, Some(Event::Started)));
        for (reply, took) in join_all(both).await {
            assert_eq!((strangers_in(&reply), took), (3, Duration::from_millis(500)));
        }
    });
}

#[test]
fn a_panic_costs_one_exchange() {
    simulate(async {
        let start = Instant::now();
        let upstream = SimulatedUpstream::new(move |_| {
            async move {
                assert!(start.elapsed() > seconds(10), "a simulated bug");
                Ok(answer(1800, 3))
            }
            .boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        while start.elapsed() < seconds(30) {
            let (_, took) = client(1, 1).announces(&tracker, None).await;
            assert_eq!(took, Duration::ZERO);
            sleep(seconds(1)).await;
        }
        let status = status(&tracker, "upstream");
        assert_eq!((status.state, status.in_flight, status.sessions), ("closed", 0, 1));
        assert_eq!(strangers_in(&client(1, 1).announces(&tracker, None).await.0), 3);
    });
}

#[test]
fn our_own_peers_do_not_come_back() {
    simulate(async {
        // The upstream sees us at 203.0.113.9 and returns that address as `external ip`.
        let upstream = SimulatedUpstream::new(|_| {
            let mut reply = answer(1800, 9);
            reply.peers.v4.iter_mut().for_each(|peer| peer.endpoint.port = NonZeroU16::new(6881).unwrap());
            reply.external_ip = Some(Ipv4Addr::new(203, 0, 113, 9).into());
            ready(Ok(reply)).boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        client(1, 1).announces(&tracker, None).await;
        let (reply, _) = client(1, 2).announces(&tracker, None).await;
        assert_eq!(strangers_in(&reply), 8);
        assert_eq!(reply.peers.len(), 9);
    });
}

#[test]
fn other_instances_hear_of_announces_that_change_something() {
    simulate(async {
        let announce_interval = Duration::from_secs(30);
        let store = Store::new(StoreOptions { peer_age: PEER_AGE, announce_interval, max_peers: 1000 }).shared();
        let shared = Arc::new(SharedSwarms::new(PEER_AGE));
        let metrics = Metrics::unexposed();
        let tracker = Tracker::new(Policy::every(30), Topology::default(), Arc::new(store), None, &metrics);
        let tracker = tracker.sharing(Arc::clone(&shared), crate::metrics::ShareMetrics::register(None).sent);
        let peer = client(1, 1);
        for (event, is_seed, expected) in [
            (Some(Event::Started), false, 1),
            (None, false, 1),
            (Some(Event::Completed), true, 2),
            (None, true, 2),
            (Some(Event::Started), true, 3),
            (Some(Event::Stopped), true, 4),
        ] {
            let peer = if is_seed { peer.seed() } else { peer };
            peer.announces(&tracker, event).await;
            assert_eq!(shared.pending().pending(), expected, "{event:?}");
        }
    });
}

/// Returns the tracker's handle to the other instances, which have these peers in all torrents.
fn other_instances(tracker: &Tracker, peers: &'static [&str]) -> OtherInstances {
    tracker.forwarders().unwrap().other_instances(Box::new(|_, visit| {
        peers.iter().for_each(|peer| visit(peer.parse::<SocketAddr>().unwrap(), None));
    }))
}

/// Returns the events that the upstream got, in their order.
fn told(upstream: &SimulatedUpstream) -> Vec<Option<Event>> {
    upstream.asked().iter().map(|request| request.event).collect()
}

#[test]
fn a_client_that_moves_to_another_instance_is_signed_off_only_when_it_falls_silent_there() {
    simulate(async {
        let upstream = good(Duration::ZERO, 1800, 3);
        let [a, b] = [tracker(&[("upstream", &upstream)]), tracker(&[("upstream", &upstream)])];
        let heard_at_a = other_instances(&a, &[]);
        let mover = client(1, 1);
        mover.announces(&a, Some(Event::Started)).await;
        sleep(seconds(600)).await;
        // For longer than the peer age, only the other instance hears the client.
        for _ in 0..10 {
            mover.announces(&b, None).await;
            heard_at_a.heard(&mover.elsewhere(None), seconds(1));
            sleep(seconds(1800)).await;
        }
        assert_eq!(upstream.count_of(Some(Event::Stopped)), 0);
        assert_eq!(status(&a, "upstream").sessions, 0);
        sleep(PEER_AGE).await;
        assert_eq!(upstream.count_of(Some(Event::Stopped)), 1);
        // The client comes back to the first instance.
        mover.announces(&a, None).await;
        assert_eq!(told(&upstream).last(), Some(&Some(Event::Started)));
    });
}

#[test]
fn an_instance_keeps_a_client_that_it_has_heard_since_another_one_did() {
    simulate(async {
        let upstream = good(Duration::ZERO, 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let heard = other_instances(&tracker, &[]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        sleep(seconds(5)).await;
        for event in [None, Some(Event::Stopped)] {
            heard.heard(&client(1, 1).elsewhere(event), seconds(7));
            // A claim of an address does not count against the host that announces from that address.
            let claim = ClientElsewhere { is_claim: true, ..client(1, 1).elsewhere(event) };
            heard.heard(&claim, Duration::ZERO);
            // Nor does the same id at another address.
            let other = ClientElsewhere { ip: client(1, 2).ip(), ..client(1, 1).elsewhere(event) };
            heard.heard(&other, Duration::ZERO);
        }
        settle().await;
        assert_eq!((told(&upstream), status(&tracker, "upstream").sessions), (vec![Some(Event::Started)], 1));
        sleep(PEER_AGE + seconds(60)).await;
        assert_eq!(told(&upstream), [Some(Event::Started), Some(Event::Stopped)]);
    });
}

#[test]
fn of_two_instances_that_hear_a_client_at_the_same_time_both_keep_it_until_it_leaves() {
    simulate(async {
        let upstream = good(Duration::ZERO, 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let heard = other_instances(&tracker, &[]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        // A record's age is not exact. One of these records looks half a second newer than it is, and one half a second
        // older.
        sleep(Duration::from_millis(500)).await;
        for ago in [0, 1000] {
            heard.heard(&client(1, 1).elsewhere(None), Duration::from_millis(ago));
        }
        settle().await;
        assert_eq!((told(&upstream), status(&tracker, "upstream").sessions), (vec![Some(Event::Started)], 1));
        client(1, 1).announces(&tracker, None).await;
        heard.heard(&client(1, 1).elsewhere(Some(Event::Stopped)), Duration::from_millis(900));
        settle().await;
        assert_eq!(told(&upstream), [Some(Event::Started), Some(Event::Stopped)]);
    });
}

#[test]
fn a_client_that_leaves_at_another_instance_is_signed_off_by_the_one_that_announced_it() {
    simulate(async {
        let upstream = good(Duration::ZERO, 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let heard = other_instances(&tracker, &[]);
        for with_port in [true, false] {
            let before = upstream.asked().len();
            client(1, 1).announces(&tracker, Some(Event::Started)).await;
            sleep(seconds(5)).await;
            let mut left = client(1, 1).elsewhere(Some(Event::Stopped));
            if !with_port {
                left.news = ClientNews::Left(None);
            }
            // The record may come twice.
            heard.heard(&left, seconds(1));
            heard.heard(&left, seconds(1));
            heard.heard(&client(2, 1).elsewhere(Some(Event::Stopped)), seconds(1));
            settle().await;
            assert_eq!(told(&upstream)[before..], [Some(Event::Started), Some(Event::Stopped)], "port: {with_port}");
            assert_eq!(status(&tracker, "upstream").sessions, 0);
        }
    });
}

#[test]
fn what_a_client_was_before_it_moved_is_forgotten_too() {
    simulate(async {
        for (what, change) in [
            ("its id", (|client| client.peer_id = PeerId([9; 20])) as fn(&mut ClientElsewhere)),
            ("its port", |client| client.news = ClientNews::Announced(NonZeroU16::MIN)),
        ] {
            let upstream = good(Duration::ZERO, 1800, 3);
            let tracker = tracker(&[("upstream", &upstream)]);
            client(1, 1).announces(&tracker, Some(Event::Started)).await;
            sleep(seconds(5)).await;
            let mut elsewhere = client(1, 1).elsewhere(None);
            change(&mut elsewhere);
            other_instances(&tracker, &[]).heard(&elsewhere, Duration::ZERO);
            sleep(PEER_AGE * 2).await;
            assert_eq!(told(&upstream), [Some(Event::Started)], "{what}");
        }
    });
}

#[test]
fn a_client_that_changes_its_address_and_then_its_instance_is_not_signed_off() {
    simulate(async {
        let upstream = good(Duration::ZERO, 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let moved = Client { address: Some(77), ..client(1, 1) };
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        sleep(seconds(600)).await;
        moved.announces(&tracker, None).await;
        sleep(seconds(600)).await;
        other_instances(&tracker, &[]).heard(&moved.elsewhere(None), Duration::ZERO);
        sleep(PEER_AGE * 2).await;
        assert_eq!(told(&upstream), [Some(Event::Started)]);
    });
}

#[test]
fn a_stop_that_waits_is_not_sent_after_the_client_has_come_back_elsewhere() {
    simulate(async {
        let upstream = SimulatedUpstream::new(|request| {
            let lost = request.event == Some(Event::Stopped);
            ready(if lost { Err(ForwardError::Timeout) } else { Ok(answer(1800, 1)) }).boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        sleep(seconds(600)).await;
        client(1, 1).announces(&tracker, Some(Event::Stopped)).await;
        sleep(seconds(5)).await;
        assert_eq!(upstream.count_of(Some(Event::Stopped)), 1);
        other_instances(&tracker, &[]).heard(&client(1, 1).elsewhere(None), Duration::ZERO);
        sleep(PEER_AGE).await;
        assert_eq!(upstream.count_of(Some(Event::Stopped)), 1);
    });
}

#[test]
fn a_client_that_stops_and_starts_again_within_a_second_is_not_signed_off() {
    simulate(async {
        let upstream = good(Duration::ZERO, 1800, 3);
        let tracker = tracker(&[("upstream", &upstream)]);
        let heard = other_instances(&tracker, &[]);
        client(1, 1).announces(&tracker, Some(Event::Started)).await;
        sleep(Duration::from_millis(100)).await;
        heard.heard(&client(1, 1).elsewhere(Some(Event::Stopped)), Duration::from_millis(500));
        settle().await;
        assert_eq!((told(&upstream), status(&tracker, "upstream").sessions), (vec![Some(Event::Started)], 1));
    });
}

#[test]
fn an_announce_that_another_instance_passed_on_has_come_back() {
    simulate(async {
        let tracker = tracker(&[]);
        let others = other_instances(&tracker, &[]);
        others.set_names(vec!["other".to_owned()]);
        let is_loop = |names: &[&str]| {
            let via = Via::parse(names.iter().map(|name| name.as_bytes()));
            tracker.forwarders().unwrap().is_loop(&via)
        };
        assert!(is_loop(&["1.1 stranger, 1.1 other"]));
        assert!(!is_loop(&["1.1 stranger"]) && !is_loop(&[]));
    });
}

#[test]
fn the_peers_of_other_instances_do_not_come_back() {
    simulate(async {
        let upstream = SimulatedUpstream::new(|_| {
            let mut reply = answer(1800, 9);
            reply.peers.v4.iter_mut().for_each(|peer| peer.endpoint.port = NonZeroU16::new(7000).unwrap());
            // The upstream sees us at 203.0.113.9.
            reply.external_ip = Some(Ipv4Addr::new(203, 0, 113, 9).into());
            ready(Ok(reply)).boxed_local()
        });
        let tracker = tracker(&[("upstream", &upstream)]);
        let others = other_instances(&tracker, &["10.0.1.7:7000", "203.0.113.1:7000", "203.0.113.2:7001"]);
        others.set_addresses(|url| {
            assert_eq!(url, "http://192.0.2.1/announce");
            vec![[203, 0, 113, 8].into()]
        });
        // Three of the upstream's nine peers are clients of other instances: two at addresses of instances (.8 and .9),
        // and one at its own address (.1). At .2 the port differs from that of the other instances' client.
        let (reply, _) = client(1, 1).announces(&tracker, None).await;
        assert_eq!(strangers_in(&reply), 6);
        assert_eq!(others.addresses()[0].1[0], IpAddr::from([203, 0, 113, 9]));
    });
}
