//! The cost of forwarders for announces that are not due upstream, as most announces are not.

use std::time::{Duration, Instant};

use load::crowd::Crowd;
use load::http::HttpLoad;
use load::http::reply::Expect;
use load::http::requests::{EachOnce, PreparedRequests, RequestStyle};
use load::machine::Placement;
use load::table::Row;
use load::upstream::{FakeUpstream, FakeUpstreams, UpstreamBehaviour, forwarders_file};

use super::announces::{LENGTH, against, sample};
use super::bench::Bench;
use super::program::{Program, TrackerProcess};
use super::rounds::{self, by_turns};

const CROWD: Crowd = Crowd::new(1_000, 5);
const UPSTREAMS: usize = 5;

/// Announces per second while all peers are announced upstream. The limit on exchanges under way allows this rate.
const PACE: f64 = 500.0;

/// How long it may take to announce all peers upstream.
const FILL_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) fn warm(bench: &Bench) -> Result<Vec<Row>, String> {
    let fakes = FakeUpstreams::start();
    let [with, without] = by_turns(&[UPSTREAMS, 0], |&count| {
        let upstreams: Vec<_> = (0..count).map(|_| fakes.tracker(UpstreamBehaviour::good(1800))).collect();
        let file = forwarders_file(
            upstreams.iter().enumerate().map(|(n, upstream)| (format!("upstream-{n}"), upstream.address)),
            None,
        );
        let path = file.path().to_str().ok_or("the path of the temporary file is not UTF-8")?;
        let args: &[&str] = if count > 0 { &["-f", path] } else { &[] };
        let server = Program::retracker().start(&bench.cores, Placement::Server, args);
        announce_upstream(&server, &upstreams)?;
        let mut requests = PreparedRequests::announces(CROWD, &RequestStyle::new(server.address));
        rounds::measure(&server, || HttpLoad::new(server.address, LENGTH).run(&mut requests))
            .map(|measured| sample(&measured))
    })?;
    let figure = "announces of 1 k swarms that 5 upstream trackers know, against no forwarders";
    Ok(vec![against(figure, &with, &without, 1.15)])
}

/// Announces all peers again and again, until every upstream tracker has got every peer.
fn announce_upstream(server: &TrackerProcess, upstreams: &[FakeUpstream]) -> Result<(), String> {
    let load =
        HttpLoad { rate: Some(PACE), relaxed: true, expect: Expect::Anything, ..HttpLoad::filling(server.address) };
    let start = Instant::now();
    loop {
        load.run_all(&mut EachOnce::new(CROWD, RequestStyle::new(server.address)))?;
        let started = upstreams.iter().map(|upstream| upstream.peers_with_event("started")).min();
        if started.is_none_or(|started| started as u64 == CROWD.size()) {
            return Ok(());
        }
        if start.elapsed() > FILL_TIMEOUT {
            return Err(format!("an upstream tracker got only {started:?} of {} peers", CROWD.size()));
        }
    }
}
