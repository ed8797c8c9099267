//! What forwarders cost when nothing is due upstream, which is nearly always.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use super::Bench;
use super::announces::{LENGTH, against, sample};
use super::crowd::Crowd;
use super::load::Load;
use super::machine::Place;
use super::program::{Program, Server};
use super::reply::Expect;
use super::requests::{EachOnce, Prepared, Style};
use super::rounds::{self, by_turns};
use super::table::Row;
use super::upstream::{Behaviour, Upstream, Upstreams};

const CROWD: Crowd = Crowd::new(1_000, 5);
const UPSTREAMS: usize = 5;

/// Announces a second while upstream trackers are told: so many exchanges can be under way.
const PACE: f64 = 500.0;

/// How long that may take.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) fn warm(bench: &Bench) -> Result<Vec<Row>, String> {
    let fakes = Upstreams::start();
    let [with, without] = by_turns(&[UPSTREAMS, 0], |&count| {
        let upstreams: Vec<_> = (0..count).map(|_| fakes.tracker(Behaviour::good(1800))).collect();
        let file = forwards_file(upstreams.iter().map(|upstream| upstream.address));
        let path = file.path().to_str().ok_or("the temporary folder's name is no text")?;
        let args: &[&str] = if count > 0 { &["-f", path] } else { &[] };
        let server = Program::retracker().start(&bench.cores, Place::Server, args);
        tell_all(&server, &upstreams)?;
        let mut requests = Prepared::announces(CROWD, &Style::new(server.address));
        rounds::measure(&server, || Load::new(server.address, LENGTH).run(&mut requests))
            .map(|measured| sample(&measured))
    })?;
    let figure = "announces of 1 k swarms that 5 upstream trackers know, against no forwarders";
    Ok(vec![against(figure, &with, &without, 1.15)])
}

/// A file of forwarders, which goes when this goes.
pub(super) fn forwards_file(upstreams: impl Iterator<Item = SocketAddr>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for (n, address) in upstreams.enumerate() {
        writeln!(file, "- uri: http://{address}/announce\n  name: upstream-{n}").unwrap();
    }
    file
}

/// Has everybody announce until all upstream trackers know of all of them.
fn tell_all(server: &Server, upstreams: &[Upstream]) -> Result<(), String> {
    let load = Load { rate: Some(PACE), relaxed: true, expect: Expect::Anything, ..Load::filling(server.address) };
    let start = Instant::now();
    loop {
        load.run_all(&mut EachOnce::new(CROWD, Style::new(server.address)))?;
        let told = upstreams.iter().map(|upstream| upstream.told("started")).min();
        if told.is_none_or(|told| told as u64 == CROWD.size()) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("an upstream tracker was told of {told:?} peers of {}", CROWD.size()));
        }
    }
}
