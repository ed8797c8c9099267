//! What upstream trackers are told, and how often.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::client::{Announcer, Client, Peer, announce_all, contains, errors, run_all};
use crate::report::{Latencies, Ms, Row};
use crate::retracker::Retracker;
use crate::run;
use crate::upstream::{Behaviour, FIRST_PEER, Upstreams};

/// How long what is under way may take to reach an upstream.
const ARRIVAL: Duration = Duration::from_secs(20);

/// Nobody waits for an hour here: 10 s, the shortest interval that an upstream gets, stand for its 1800 s, and 250 ms for
/// the clients' 30 s.
pub(crate) fn requests_per_peer(upstreams: &Upstreams) -> Vec<Row> {
    const PEERS: usize = 20;
    const INTERVAL: u32 = 10;
    const PACE: Duration = Duration::from_millis(250);
    const LENGTH: Duration = Duration::from_secs(25);
    let upstream = upstreams.tracker(Behaviour::good(INTERVAL));
    run(async {
        let retracker = Retracker::start(&[("good", upstream.address)], &[]);
        let mut clients: Vec<_> =
            Peer::some(PEERS, 5).into_iter().map(|peer| Announcer::new(retracker.address, peer)).collect();
        let start = Instant::now();
        run_all(&mut clients, start, PACE, || start.elapsed() < LENGTH).await;
        let errors = errors(&clients);
        let announces = clients.iter_mut().map(|client| client.take().len()).sum::<usize>() / PEERS;
        let requests = upstream.requests();
        let (least, most) =
            (requests.values().min().copied().unwrap_or(0), requests.values().max().copied().unwrap_or(0));
        // At 0 s, 10 s and 20 s.
        let expected = LENGTH.as_secs().div_ceil(INTERVAL.into()) as usize;
        let measured = format!(
            "{least} to {most} per peer in {} s at an interval of {INTERVAL} s, of {announces} announces each: one per \
             interval, so 2 an hour at 1800 s",
            LENGTH.as_secs()
        );
        let what = "upstream requests per peer per hour, upstream interval 1800 s, client interval 30 s";
        let row = Row::new(what, "120", "2, plus one per event", measured);
        vec![row.must(requests.len() == PEERS && least == expected && most == expected && errors == 0)]
    })
}

/// The upstream is slow, so that whoever waits for it is seen.
pub(crate) fn second_peer(upstreams: &Upstreams) -> Vec<Row> {
    const SWARMS: usize = 20;
    const PAUSE: Duration = Duration::from_secs(1);
    let upstream = upstreams.tracker(Behaviour::slow(1800, PAUSE));
    run(async {
        let retracker = Retracker::start(&[("slow", upstream.address)], &[]);
        announce_all(retracker.address, &Peer::some(SWARMS, SWARMS), "started", SWARMS).await;
        let (mut latencies, mut served) = (Vec::new(), 0);
        let second = |torrent| Peer { torrent, number: SWARMS + torrent };
        for torrent in 0..SWARMS {
            let mut client = Client::new(retracker.address);
            let sent = Instant::now();
            let reply = client.exchange(&second(torrent).event("started")).await.unwrap();
            latencies.push(sent.elapsed());
            served += usize::from(contains(&reply, &FIRST_PEER));
        }
        let told = || (0..SWARMS).filter(|&torrent| upstream.knows(&second(torrent).id(), "started")).count();
        let told = arrives(SWARMS, told).await;
        let latencies = Latencies::new(latencies);
        let measured = format!(
            "of {SWARMS}, {told} told upstream with `started`; {served} served the cached list, in {} at the median and {} \
             at most, while the upstream takes {PAUSE:?}",
            Ms(latencies.quantile(0.5)),
            Ms(latencies.max())
        );
        let goal = "told upstream, and served the cached list at once";
        let row = Row::new("second LAN peer of a swarm", "told upstream", goal, measured);
        vec![row.must(told == SWARMS && served == SWARMS && latencies.max() < PAUSE)]
    })
}

pub(crate) fn completed_and_stopped(upstreams: &Upstreams) -> Vec<Row> {
    const PEERS: usize = 200;
    let upstream = upstreams.tracker(Behaviour::good(1800));
    run(async {
        let retracker = Retracker::start(&[("good", upstream.address)], &[]);
        let life = async |peer: Peer| {
            let mut client = Client::new(retracker.address);
            for event in ["started", "completed", "stopped"] {
                client.exchange(&peer.event(event)).await.unwrap();
            }
        };
        join_all(Peer::some(PEERS, 50).into_iter().map(life)).await;
        let stopped = arrives(PEERS, || upstream.told("stopped")).await;
        let completed = upstream.told("completed");
        let measured = format!("of {PEERS} peers each: {completed} `completed`, {stopped} `stopped`");
        let row = Row::new("`stopped`/`completed` told upstream", "never", "always", measured);
        vec![row.must(completed == PEERS && stopped == PEERS)]
    })
}

/// Peers that go without a word.
pub(crate) fn signed_off(upstreams: &Upstreams) -> Vec<Row> {
    vec![go_silent(upstreams, 200, Duration::ZERO, "peers that go silent")]
}

/// A part of the network that loses its power, and an upstream that is far away: far more farewells than may be under way
/// at a time.
pub(crate) fn signed_off_at_once(upstreams: &Upstreams) -> Vec<Row> {
    let what = "2000 peers that go silent together, the upstream 500 ms away";
    vec![go_silent(upstreams, 2_000, Duration::from_millis(500), what)]
}

fn go_silent(upstreams: &Upstreams, peers: usize, pause: Duration, what: &str) -> Row {
    /// Each has a swarm of its own and waits for the first list, so that upstream is told of all of them: no more than 256
    /// exchanges are under way with it.
    const AT_ONCE: usize = 200;
    /// Six seconds.
    const AGE: &str = "0.1";
    let upstream = upstreams.tracker(Behaviour::slow(1800, pause));
    run(async {
        let retracker = Retracker::start(&[("good", upstream.address)], &["-a", AGE]);
        announce_all(retracker.address, &Peer::some(peers, peers), "started", AT_ONCE).await;
        let silent = Instant::now();
        let stopped = arrives(peers, || upstream.told("stopped")).await;
        let (started, seconds) = (upstream.told("started"), silent.elapsed().as_secs_f64());
        let measured =
            format!("`stopped` for {stopped} of {started}, {seconds:.1} s after the last announce at an age of 6 s");
        let row = Row::new(format!("`stopped` told upstream for {what}"), "never", "always", measured);
        row.must(started == peers && stopped == peers)
    })
}

/// An announce on a connection of its own.
pub(crate) async fn announced(retracker: &Retracker, request: Vec<u8>) {
    Client::new(retracker.address).exchange(&request).await.unwrap();
}

/// Waits until a count is as it should be; gives what it is in the end.
pub(crate) async fn arrives(expected: usize, count: impl Fn() -> usize) -> usize {
    let end = Instant::now() + ARRIVAL;
    while count() < expected && Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
    }
    count()
}
