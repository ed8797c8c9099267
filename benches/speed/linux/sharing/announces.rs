//! What announces cost an instance that shares, compared with one that does not.

use std::thread;
use std::time::Duration;

use load::crowd::Crowd;
use load::http::HttpLoad;
use load::http::requests::{PreparedRequests, RequestStyle};
use load::machine::Placement;
use load::redis::RedisProcess;
use load::table::Row;
use load::udp::{self, PreparedAnnounces, UdpLoad};

use super::super::announces::{LENGTH, against, fill, sample};
use super::super::bench::Bench;
use super::super::program::TrackerProcess;
use super::super::rounds::{self, Measured, by_turns};
use super::instance;

/// The peers, and the peer age in minutes. The load announces each peer again within seconds. With the first peer age, few
/// announces are shared, as if clients announced every thirty seconds.
///
/// The second peer age is half a minute. A peer is shared once in each quarter of it, so more than half of the announces are
/// shared, as if clients announced every half an hour. There are so many peers that each quarter has only one or two
/// announces of a peer.
const LOADS: [(Crowd, &str); 2] = [(Crowd::USUAL, "10"), (Crowd::new(50_000, 5), "0.5")];

const GOAL: f64 = 1.03;

pub(crate) fn over_http(bench: &Bench) -> Result<Vec<Row>, String> {
    let run = |redis: Option<&RedisProcess>, crowd, age: &'static str| {
        let server = instance::start(&bench.cores, Placement::Server, redis, &["-a", age]);
        let mut requests = PreparedRequests::announces(crowd, &RequestStyle::new(server.address));
        fill(&server, crowd)?;
        measure(&server, redis, || HttpLoad::new(server.address, LENGTH).run(&mut requests))
    };
    rows(bench, "announces over kept connections", run)
}

pub(crate) fn over_udp(bench: &Bench) -> Result<Vec<Row>, String> {
    let run = |redis: Option<&RedisProcess>, crowd, age: &'static str| {
        let server = instance::start_udp(&bench.cores, redis, &["-a", age])?;
        let mut announces = PreparedAnnounces::new(crowd, 30);
        udp::fill(server.address, crowd)?;
        measure(&server, redis, || UdpLoad::new(server.address, LENGTH).run(&mut announces))
    };
    rows(bench, "announces over UDP", run)
}

/// Makes a row for each load. The figure has the share of announces that were shared.
fn rows(
    bench: &Bench,
    what: &str,
    run: impl Fn(Option<&RedisProcess>, Crowd, &'static str) -> Result<(Measured, f64), String>,
) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (crowd, age) in LOADS {
        let mut parts = Vec::new();
        let [with, without] = by_turns(&[true, false], |&shares| {
            let redis = if shares { Some(instance::redis(&bench.cores)?) } else { None };
            let (measured, part) = run(redis.as_ref(), crowd, age)?;
            if shares {
                parts.push(part);
            }
            Ok(sample(&measured))
        })?;
        let part = parts.iter().copied().fold(0.0, f64::max) * 100.0;
        rows.push(against(&format!("{what} of which {part:.1} % are shared, against none"), &with, &without, GOAL));
    }
    Ok(rows)
}

/// Measures a load, and which part of its announces is shared.
fn measure(
    server: &TrackerProcess,
    redis: Option<&RedisProcess>,
    mut run: impl FnMut() -> load::outcome::LoadOutcome,
) -> Result<(Measured, f64), String> {
    // Each peer is shared once more after the start. The peers of the load claim their addresses, and the times of claimed
    // peers are rounded, so this takes a while.
    thread::sleep(Duration::from_secs(4));
    let before = instance::sent(server)?;
    let mut announces = 0;
    let helpers: Vec<_> = redis.map(RedisProcess::pid).into_iter().collect();
    let measured = rounds::measure_beside(server.name, &[server.pid()], &helpers, || {
        let outcome = run();
        announces += outcome.replies;
        outcome
    })?;
    let sent = instance::sent(server)? - before;
    Ok((measured, sent as f64 / announces as f64))
}
