//! The longest stall while 10,000 swarms are announced upstream, and while all their peers expire at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use load::crowd::Crowd;
use load::http::HttpLoad;
use load::http::reply::Expect;
use load::http::requests::{EachOnce, PreparedRequests, RequestStyle};
use load::machine::resident;
use load::outcome::LoadOutcome;
use load::table::Row;
use load::upstream::{FakeUpstreams, UpstreamBehaviour};

use crate::retracker::ForwardingRetracker;

const UPSTREAMS: usize = 5;
const CROWD: Crowd = Crowd::new(10_000, 1);

/// Announces under way while the swarms are filled.
const CONNECTIONS: usize = 128;

/// The peer age in minutes and in seconds. It is longer than it takes to fill the swarms, so all peers expire
/// afterwards.
const AGE: &str = "1.5";
const AGE_SECONDS: u64 = 90;

/// How long all sessions may take to end. A session ends when its peer expires. The store looks for expired peers eight
/// times per peer age, and may need three looks to remove all.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(AGE_SECONDS * 4);

/// The probe's peer, alone in its swarm. It announces all the time, so it does not expire.
const PROBE: Crowd = Crowd { first: 1 << 20, ..Crowd::new(1, 1) };
const PROBE_RATE: f64 = 500.0;

/// The pause before an upstream tracker answers. It imitates the distance of real trackers.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The goal for the longest stall, in milliseconds. If retracker without forwarders stalls as long, the machine causes
/// the stall, and the goal is met.
const GOAL: f64 = 20.0;

pub(crate) fn ten_thousand_swarms() -> Result<Vec<Row>, String> {
    let fakes = FakeUpstreams::start();
    let trackers: Vec<_> = (0..UPSTREAMS).map(|_| fakes.tracker(UpstreamBehaviour::slow(1800, ROUND_TRIP))).collect();
    let entries: Vec<_> =
        trackers.iter().enumerate().map(|(n, upstream)| (format!("upstream-{n}"), upstream.address)).collect();
    let both = [ForwardingRetracker::start(&entries, &["-a", AGE]), ForwardingRetracker::start(&[], &["-a", AGE])];
    let [with, without] = &both;
    let empty = resident(with.pid());
    let start = Instant::now();
    let probes = both.each_ref().map(|retracker| Probe::start(retracker.address));
    for retracker in [without, with] {
        let load = HttpLoad { connections: CONNECTIONS, ..HttpLoad::filling(retracker.address) };
        load.run_all(&mut EachOnce::new(CROWD, RequestStyle::new(retracker.address)))?;
    }
    let filled_in = start.elapsed().as_secs_f64();
    let filling = probes.map(Probe::stop);
    let sessions = with.metrics()?.sum("retracker_forward_sessions", &[]);
    let full = resident(with.pid());
    let probes = both.each_ref().map(|retracker| Probe::start(retracker.address));
    wait_for_expiry(with)?;
    let expiring = probes.map(Probe::stop);
    let swarms = format!("{} swarms at {UPSTREAMS} upstreams", CROWD.swarms);
    let memory = format!("{} MiB with {sessions} sessions", full.saturating_sub(empty) >> 20);
    Ok(vec![
        stall(&format!("longest stall while {swarms} are announced within {filled_in:.0} s"), filling)?,
        stall(&format!("longest stall while the peers of {swarms} expire"), expiring)?,
        Row::new(&format!("memory of {swarms}"), &memory),
    ])
}

/// Waits until only the probe's sessions are left.
fn wait_for_expiry(retracker: &ForwardingRetracker) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let sessions = retracker.metrics()?.sum("retracker_forward_sessions", &[]);
        if sessions == UPSTREAMS as u64 {
            return Ok(());
        }
        if start.elapsed() > EXPIRY_TIMEOUT {
            return Err(format!("{sessions} sessions are left, but only the probe's {UPSTREAMS} should be"));
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn stall(figure: &str, outcomes: [Result<LoadOutcome, String>; 2]) -> Result<Row, String> {
    let [with, without] = outcomes;
    let (with, without) = (with?, without?);
    let text =
        |outcome: &LoadOutcome| format!("{:.2} ms (p99.9 {:.2} ms)", outcome.quantile(1.0), outcome.quantile(0.999));
    let met = with.quantile(1.0) <= GOAL.max(without.quantile(1.0));
    let goal = format!("≤ {GOAL} ms, or as without forwarders");
    Ok(Row::new(figure, &text(&with)).theirs(text(&without)).goal(&goal, met))
}

/// A thread that announces one peer all the time.
struct Probe {
    thread: JoinHandle<Result<LoadOutcome, String>>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut requests = PreparedRequests::announces(PROBE, &RequestStyle::new(address));
            let load = HttpLoad {
                connections: 4,
                rate: Some(PROBE_RATE),
                expect: Expect::Anything,
                ..HttpLoad::new(address, Duration::from_secs(1))
            };
            // The outcome of this first load does not count, because its first announce waits for the upstream
            // trackers.
            load.run(&mut requests).verdict()?;
            let mut all = LoadOutcome::empty();
            while !stopped.load(Relaxed) {
                all = all.and(load.run(&mut requests));
            }
            all.verdict()?;
            Ok(all)
        });
        Self { thread, stop }
    }

    fn stop(self) -> Result<LoadOutcome, String> {
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| "the probe panicked")?
    }
}
