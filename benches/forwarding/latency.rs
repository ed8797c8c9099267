//! The latency of announces of torrents that the upstream trackers know, compared with a retracker without forwarders.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use load::crowd::Crowd;
use load::figures::{Sample, Samples};
use load::http::HttpLoad;
use load::http::reply::Expect;
use load::http::requests::{PreparedRequests, RequestStyle};
use load::table::Row;
use load::upstream::{FakeUpstreams, UpstreamBehaviour};

use crate::retracker::ForwardingRetracker;

const CROWD: Crowd = Crowd::new(50, 4);

/// Announces per second. The retrackers take turns of one second, so that a disturbance of the machine affects all of
/// them.
const RATE: f64 = 1000.0;
const TURN: Duration = Duration::from_secs(1);
const ROUNDS: usize = 20;

/// How long [`Subject::start`] may take.
const WARM_UP_TIMEOUT: Duration = Duration::from_mins(1);

/// Longer than any announce waits for upstream trackers. The measurement begins when this time has passed since the
/// circuits opened. By then, every announce from before the circuits opened has its reply.
const LONGEST_WAIT: Duration = Duration::from_millis(2_500);

/// The goal for the 99th percentile, as a multiple of the 99th percentile without forwarders.
const GOAL: f64 = 1.5;

pub(crate) fn warm_announces() -> Result<Vec<Row>, String> {
    let fakes = FakeUpstreams::start();
    let silent = fakes.tracker(UpstreamBehaviour::Silent);
    let junk = fakes.tracker(UpstreamBehaviour::answers(b"<html>It works!</html>", Duration::ZERO));
    let good = fakes.tracker(UpstreamBehaviour::good(1800));
    let entries = [("silent", &silent), ("junk", &junk), ("good", &good)];
    let entries = entries.map(|(name, upstream)| (name.to_owned(), upstream.address));
    let mut without = Subject::start(&[], &[], 0)?;
    let mut three = Subject::start(&entries, &["silent", "junk"], CROWD.swarms)?;
    let mut one = Subject::start(&entries[..1], &["silent"], 0)?;
    for _ in 0..ROUNDS {
        for subject in [&mut without, &mut three, &mut one] {
            subject.measure()?;
        }
    }
    let three = three.compare(&without, "three upstreams: one silent, one sends junk, one good")?;
    let one = one.compare(&without, "one upstream, which is silent")?;
    Ok(three.into_iter().chain(one).collect())
}

/// A retracker under measurement.
struct Subject {
    retracker: ForwardingRetracker,
    requests: PreparedRequests,
    samples: Samples,
    /// How many announces waited for an upstream before the measurement began.
    waited_before: u64,
}

impl Subject {
    /// Starts a retracker. Announces until the circuits of all `broken` forwarders are open and the good upstream has
    /// sent at least `lists` lists of peers.
    fn start(forwarders: &[(String, SocketAddr)], broken: &[&str], lists: u64) -> Result<Self, String> {
        let retracker = ForwardingRetracker::start(forwarders, &[]);
        let mut requests = PreparedRequests::announces(CROWD, &RequestStyle::new(retracker.address));
        // Each peer has a connection. Otherwise an announce that waits for the upstream trackers would delay those
        // behind it. The load is short, because the loop checks after each run whether the retracker is warm.
        let load = HttpLoad {
            connections: CROWD.size() as usize,
            rate: Some(RATE),
            expect: Expect::Anything,
            ..HttpLoad::new(retracker.address, TURN / 5)
        };
        let start = Instant::now();
        loop {
            load.run(&mut requests).verdict()?;
            let metrics = retracker.metrics()?;
            let is_open = |name: &&str| {
                let label = format!("forwarder=\"{name}\"");
                metrics.sum("retracker_forward_circuit", &[&label, r#"state="open""#]) == 1
            };
            let open = broken.iter().filter(|name| is_open(name)).count();
            let arrived = metrics.sum("retracker_forward_lists", &[r#"forwarder="good""#]);
            if open == broken.len() && arrived >= lists {
                break;
            }
            if start.elapsed() > WARM_UP_TIMEOUT {
                let broken = broken.len();
                return Err(format!(
                    "{open} of {broken} circuits are open, and {arrived} of {lists} lists have arrived"
                ));
            }
        }
        thread::sleep(LONGEST_WAIT);
        let waited_before = waited(&retracker)?;
        Ok(Self { retracker, requests, samples: Samples::default(), waited_before })
    }

    fn measure(&mut self) -> Result<(), String> {
        let load = HttpLoad { rate: Some(RATE), ..HttpLoad::new(self.retracker.address, TURN) };
        let outcome = load.run(&mut self.requests);
        outcome.verdict()?;
        let [p50, p99] = [0.5, 0.99].map(|fraction| outcome.quantile(fraction));
        self.samples.0.push(Sample { value: p99, aside: p50, noisy: false });
        Ok(())
    }

    fn compare(&self, without: &Self, forwarders: &str) -> Result<Vec<Row>, String> {
        let waited = waited(&self.retracker)? - self.waited_before;
        if waited > 0 {
            return Err(format!("{forwarders}: {waited} announces of known torrents waited for an upstream"));
        }
        let figure = format!("p99 of announces at {RATE} /s, {forwarders}");
        let p99 = Row::compared(&figure, "ms", &self.samples, Some(&without.samples), GOAL);
        let p50 = Row::new("p50 of the same announces", &format!("{} ms", self.samples.asides()));
        Ok(vec![p99, p50.theirs(format!("{} ms", without.samples.asides()))])
    }
}

/// Returns how many announces have waited for an upstream tracker.
fn waited(retracker: &ForwardingRetracker) -> Result<u64, String> {
    let metrics = retracker.metrics()?;
    let waits = |labels: &[&str]| metrics.sum("retracker_forward_waits_total", labels);
    Ok(waits(&[]) - waits(&[r#"outcome="saved""#]))
}
