//! Ten thousand swarms whose peers go silent all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Announcer, Peer, announce_all, latencies};
use crate::events::announced;
use crate::report::{Latencies, Ms, Row};
use crate::retracker::{Metrics, Retracker};
use crate::run;
use crate::upstream::{Behaviour, Upstream, Upstreams};

const SWARMS: usize = 10_000;
const UPSTREAMS: usize = 5;

/// So many announces are under way at a time while the swarms are filled.
const AT_ONCE: usize = 128;

/// How long a peer is kept, in minutes and otherwise: longer than it takes to announce all of them.
const AGE: &str = "0.3";
const AGE_SECONDS: u64 = 18;

/// A peer's sessions end when it has expired, and a torrent goes when nothing has been heard of it for as long again. In
/// between come searches, an eighth of the age apart, of which three may be needed.
const GONE: Duration = Duration::from_secs(AGE_SECONDS * 4);

/// What counts what is known upstream.
const GAUGES: [&str; 2] = ["retracker_forward_sessions", "retracker_forward_lists"];

/// It stays when the others go.
const PROBER: Peer = Peer { torrent: SWARMS, number: SWARMS };
const PROBE_PACE: Duration = Duration::from_millis(2);

/// Upstream trackers are far away, so that exchanges are under way for a while.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// What an announce may take that does not wait for the machine itself.
const STALL: Duration = Duration::from_millis(20);

pub(crate) fn ten_thousand_swarms(upstreams: &Upstreams) -> Vec<Row> {
    let trackers: Vec<_> = (0..UPSTREAMS).map(|_| upstreams.tracker(Behaviour::slow(1800, ROUND_TRIP))).collect();
    let names: Vec<_> = (0..UPSTREAMS).map(|n| format!("upstream-{n}")).collect();
    let entries: Vec<_> =
        names.iter().zip(&trackers).map(|(name, upstream)| (name.as_str(), upstream.address)).collect();
    run(async {
        // Both have the same to do but for the upstreams.
        let both = [Retracker::start(&entries, &["-a", AGE]), Retracker::start(&[], &["-a", AGE])];
        let [forwarding, alone] = &both;
        for retracker in &both {
            announced(retracker, PROBER.announce()).await;
        }
        let empty = forwarding.metrics().await;
        let start = Instant::now();
        let probers = both.each_ref().map(Prober::start);
        for retracker in [alone, forwarding] {
            announce_all(retracker.address, &Peer::some(SWARMS, SWARMS), "started", AT_ONCE).await;
        }
        let filled = start.elapsed();
        let filling = probers.map(Prober::stop);
        let full = forwarding.metrics().await;
        let probers = both.each_ref().map(Prober::start);
        let after = when_gone(forwarding, Instant::now()).await;
        let expiring = probers.map(Prober::stop);
        let swarms = format!("{SWARMS} swarms at {UPSTREAMS} upstreams");
        vec![
            stalls(
                format!("longest stall while {swarms} are announced within {:.0} s", filled.as_secs_f64()),
                &filling,
            ),
            stalls(format!("longest stall while the peers of {swarms} expire"), &expiring),
            left_behind(format!("what {swarms} leave behind"), &trackers, [&empty, &full, &after]),
        ]
    })
}

/// Waits until only the prober's torrent is known upstream.
async fn when_gone(retracker: &Retracker, since: Instant) -> Metrics {
    loop {
        let metrics = retracker.metrics().await;
        let gone = metrics.sum(GAUGES[0], &[]) == UPSTREAMS as u64;
        if gone || since.elapsed() > GONE {
            return metrics;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn stalls(what: String, [with, without]: &[Latencies; 2]) -> Row {
    let measured = format!(
        "{} (p99.9 {}) in {} announces of a warm swarm; at the same time without forwarders {} (p99.9 {})",
        Ms(with.max()),
        Ms(with.quantile(0.999)),
        with.len(),
        Ms(without.max()),
        Ms(without.quantile(0.999))
    );
    let row = Row::new(what, "–", "none above 20 ms but of the machine's making", measured);
    // A stall of the machine's hits one of them as well as the other.
    row.should(with.max() <= STALL.max(without.max()))
}

fn left_behind(what: String, trackers: &[Upstream], [empty, full, after]: [&Metrics; 3]) -> Row {
    let [[sessions, lists], [sessions_after, lists_after]] =
        [full, after].map(|metrics| GAUGES.map(|gauge| metrics.sum(gauge, &[])));
    let [mib, full_mib, mib_after] = [empty, full, after].map(Metrics::resident_mib);
    let expected = SWARMS * UPSTREAMS;
    let [started, stopped] =
        ["started", "stopped"].map(|event| trackers.iter().map(|upstream| upstream.told(event)).sum::<usize>());
    let busy = after.sum("retracker_forward_skipped_total", &[r#"reason="busy""#]);
    let measured = format!(
        "{sessions} sessions, then {sessions_after}; {lists} lists, of which {lists_after} are kept for who comes next; {mib} \
         MiB, {full_mib} MiB, then {mib_after} MiB; upstream was told {started} `started` and {stopped} `stopped` of {expected} \
         each, {busy} times one could not be told at once"
    );
    let row = Row::new(what, "–", "no session but the prober's", measured);
    row.must(sessions_after == UPSTREAMS as u64)
}

/// One client on a thread of its own, which announces the same swarm all the time.
struct Prober {
    thread: JoinHandle<Latencies>,
    stop: Arc<AtomicBool>,
}

impl Prober {
    fn start(retracker: &Retracker) -> Self {
        let (address, stop) = (retracker.address, Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut announcer = Announcer::new(address, PROBER);
            run(announcer.run(Instant::now(), PROBE_PACE, || !stopped.load(Relaxed)));
            assert_eq!(announcer.errors, 0, "the prober was not answered");
            latencies(std::slice::from_mut(&mut announcer))
        });
        Self { thread, stop }
    }

    fn stop(self) -> Latencies {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}
