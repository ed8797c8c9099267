//! The cost of open pages: operators look at `/dashboard` while the tracker, with ten million peers, answers announces.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use load::client;
use load::crowd::Crowd;
use load::figures::{Sample, Samples};
use load::http::HttpLoad;
use load::http::requests::{RequestStyle, UniformAnnounces};
use load::machine::Placement;
use load::table::Row;

use super::announces::{COST, fill};
use super::bench::Bench;
use super::program::{Program, TrackerProcess};
use super::rounds::{self, by_turns};

/// How many browsers have the page open.
const BROWSERS: u32 = 10;

/// How often each of them asks, as the page's script does.
const PERIOD: Duration = Duration::from_secs(5);

/// What the page's script asks for each time.
const ASKED: [&str; 4] =
    ["/api/v1/status", "/api/v1/history", "/api/v1/history?step=60", "/api/v1/torrents?sort=peers&limit=10"];

/// The length of a round, in which each browser asks twice.
const LENGTH: Duration = Duration::from_secs(10);

/// The goal for the slowest reply to a browser, in milliseconds.
const GOAL: f64 = 100.0;

/// Compares announces with and without browsers at the same tracker, by turns.
pub(super) fn open(bench: &Bench) -> Result<Vec<Row>, String> {
    let crowd = Crowd::new(1_000_000, 10);
    let server = Program::retracker().start(&bench.cores, Placement::Server, &["-p", "--max-peers", "20000000"]);
    fill(&server, crowd)?;
    let [without, with] = by_turns(&[0, BROWSERS], |&browsers| announced(&server, crowd, browsers))?;
    let figure = "announces of 10 M peers while ten browsers show the dashboard, against none";
    let row = Row::new(figure, &format!("{} {COST}", with.values()))
        .theirs(format!("ours: {} {COST}", without.values()))
        .ratio(with.over(&without), 1.02)
        .noisy(with.is_noisy() || without.is_noisy());
    Ok(vec![row, slowest(&with)])
}

fn slowest(with: &Samples) -> Row {
    let slowest = with.0.iter().map(|sample| sample.aside).fold(0.0, f64::max);
    Row::new("slowest reply to these browsers", &format!("{slowest:.1} ms"))
        .goal(&format!("≤ {GOAL} ms"), slowest <= GOAL)
        .noisy(with.is_noisy())
}

/// Announces for [`LENGTH`]. The second figure of the sample is the slowest reply to a browser, in milliseconds.
fn announced(server: &TrackerProcess, crowd: Crowd, browsers: u32) -> Result<Sample, String> {
    let mut requests = UniformAnnounces::new(crowd, RequestStyle::new(server.address));
    let mut slowest = Ok(Duration::ZERO);
    let measured = rounds::measure(server, || {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let looking: Vec<_> = (0..browsers)
                .map(|n| PERIOD * n / browsers)
                .map(|first| {
                    let stop = &stop;
                    scope.spawn(move || look(server, first, stop))
                })
                .collect();
            let outcome = HttpLoad::new(server.address, LENGTH).run(&mut requests);
            stop.store(true, Relaxed);
            let looked = looking.into_iter().map(|thread| thread.join().unwrap());
            slowest = looked.fold(slowest.clone(), |slowest, looked| Ok(slowest?.max(looked?)));
            outcome
        })
    })?;
    let slowest: Result<Duration, String> = slowest;
    Ok(Sample { value: measured.cost(), aside: slowest?.as_secs_f64() * 1e3, noisy: measured.spent.is_disturbed() })
}

/// Asks as one browser does, until `stop` is set. Returns how long the slowest reply took.
fn look(server: &TrackerProcess, first: Duration, stop: &AtomicBool) -> Result<Duration, String> {
    const NAP: Duration = Duration::from_millis(50);
    let start = Instant::now();
    let (mut due, mut slowest) = (first, Duration::ZERO);
    while !stop.load(Relaxed) {
        if start.elapsed() < due {
            thread::sleep(NAP);
            continue;
        }
        due += PERIOD;
        for path in ASKED {
            let asked = Instant::now();
            let reply = client::get(server.address, path).map_err(|error| format!("{path}: {error}"))?;
            slowest = slowest.max(asked.elapsed());
            if !reply.starts_with("HTTP/1.1 200 ") {
                return Err(format!("{path}: {}", reply.lines().next().unwrap_or_default()));
            }
        }
    }
    Ok(slowest)
}
