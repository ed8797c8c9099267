//! What a warm announce costs a client, beside a retracker that forwards nothing.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Announcer, Peer, errors, latencies, run_all};
use crate::report::{Latencies, Row, Spread};
use crate::retracker::Retracker;
use crate::run;
use crate::upstream::{Behaviour, Upstreams};

const CLIENTS: usize = 200;
const SWARMS: usize = 50;

/// Each client announces so often: one announce in three milliseconds for each of the three, which take turns, so that
/// what else the machine does is the same for all.
const PACE: Duration = Duration::from_millis(600);
const TURN: Duration = Duration::from_millis(1);

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);

/// How long a client may wait for upstream trackers. Who began to before a circuit opened has gone on.
const LONGEST_WAIT: Duration = Duration::from_millis(2_500);

/// The goal for the 99th percentile, as a multiple of that without forwarders.
const GOAL: f64 = 1.5;

pub(crate) fn warm(upstreams: &Upstreams) -> Vec<Row> {
    let silent = upstreams.tracker(Behaviour::Silent);
    let junk = upstreams.tracker(Behaviour::answers(b"<html>It works!</html>", Duration::ZERO));
    let good = upstreams.tracker(Behaviour::good(1800));
    let entries = [("silent", silent.address), ("junk", junk.address), ("good", good.address)];
    run(async {
        let mut alone = Subject::start(&[]);
        let mut three = Subject::start(&entries);
        let mut dead = Subject::start(&entries[..1]);
        tokio::join!(
            alone.warm_up(&[], 0),
            three.warm_up(&["silent", "junk"], SWARMS as u64),
            dead.warm_up(&["silent"], 0)
        );
        // The first one connects, and does not count.
        for round in 0..=ROUNDS {
            let start = Instant::now();
            tokio::join!(alone.round(start), three.round(start + TURN), dead.round(start + TURN * 2));
            if round == 0 {
                tokio::join!(alone.begin(), three.begin(), dead.begin());
            }
        }
        vec![
            three.compared("with three upstreams: one never answers, one sends junk, one is good", &alone).await,
            dead.compared("with one upstream, which accepts and never answers", &alone).await,
        ]
    })
}

/// A retracker, its clients, and how long their announces took in each round.
struct Subject {
    retracker: Retracker,
    clients: Vec<Announcer>,
    rounds: Vec<Latencies>,
    /// Announces that had to wait before the first round.
    waited: u64,
}

impl Subject {
    fn start(forwarders: &[(&str, SocketAddr)]) -> Self {
        let retracker = Retracker::start(forwarders, &[]);
        let clients =
            Peer::some(CLIENTS, SWARMS).into_iter().map(|peer| Announcer::new(retracker.address, peer)).collect();
        Self { retracker, clients, rounds: Vec::new(), waited: 0 }
    }

    /// Announces until these circuits are open and there are so many lists, and forgets how long that took.
    async fn warm_up(&mut self, broken: &[&str], lists: u64) {
        let Self { retracker, clients, .. } = self;
        let settled = async {
            loop {
                let metrics = retracker.metrics().await;
                let open = broken.iter().all(|name| metrics.circuit_is(name, "open"));
                if open && metrics.sum("retracker_forward_lists", &[]) == lists {
                    return sleep(LONGEST_WAIT).await;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = run_all(clients, Instant::now(), PACE, || true) => {}
            () = settled => {}
        }
        // Who was interrupted connects anew: its reply is still to come.
        let peers = Peer::some(CLIENTS, SWARMS);
        self.clients = peers.into_iter().map(|peer| Announcer::new(self.retracker.address, peer)).collect();
    }

    /// Forgets what was before.
    async fn begin(&mut self) {
        self.rounds.clear();
        self.waited = self.retracker.metrics().await.waited();
    }

    async fn round(&mut self, start: Instant) {
        run_all(&mut self.clients, start, PACE, || start.elapsed() < ROUND).await;
        self.rounds.push(latencies(&mut self.clients));
    }

    async fn compared(&self, what: &str, alone: &Self) -> Row {
        let [p50, p99] = [0.5, 0.99].map(|fraction| self.spread(fraction));
        let [alone_p50, alone_p99] = [0.5, 0.99].map(|fraction| alone.spread(fraction));
        let p99_of = |rounds: &[Latencies]| rounds.iter().map(|round| round.quantile(0.99).as_secs_f64()).collect();
        let (with, without): (Vec<_>, Vec<_>) = (p99_of(&self.rounds), p99_of(&alone.rounds));
        let ratio = Spread::of(with.iter().zip(without).map(|(with, without)| with / without));
        let waited = self.retracker.metrics().await.waited() - self.waited;
        let errors = errors(&self.clients) + errors(&alone.clients);
        let announces: usize = self.rounds.iter().map(Latencies::len).sum();
        let measured = format!(
            "p99 {ratio} times that without forwarders; p50 {p50} ms to {alone_p50} ms, p99 {p99} ms to {alone_p99} ms; \
             of {announces} announces {waited} waited, {errors} failed"
        );
        let what = format!("latency of a warm announce, {CLIENTS} clients in {SWARMS} swarms, {what}");
        Row::new(what, "2 s, every time", "none waits, p99 ≤ 1.5 times that without forwarders", measured)
            .must(waited == 0 && errors == 0 && announces > 0)
            .should(ratio.median <= GOAL)
    }

    /// One quantile of each round, in milliseconds.
    fn spread(&self, fraction: f64) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.quantile(fraction).as_secs_f64() * 1000.0))
    }
}
