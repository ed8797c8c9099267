//! The latency of announces while an instance that has just started reads what the others have shared.

use std::thread;
use std::time::{Duration, Instant};

use load::client;
use load::crowd::Crowd;
use load::figures::{Sample, Samples};
use load::http::HttpLoad;
use load::http::reply::Expect;
use load::http::requests::{PreparedRequests, RequestStyle};
use load::machine::{CpuClock, Placement};
use load::redis::RedisProcess;
use load::table::Row;

use super::super::announces::fill;
use super::super::bench::Bench;
use super::super::program::TrackerProcess;
use super::super::rounds::{ROUNDS, by_turns};
use super::instance;

/// The peers whose records are in the logs: a million.
const CROWD: Crowd = Crowd::new(100_000, 10);

/// The peers that announce meanwhile are among them.
const ANNOUNCING: Crowd = Crowd { swarms: 100, ..CROWD };

const RATE: f64 = 1000.0;

/// How long announces are sent to the new instance: for longer than it reads.
const WATCH: Duration = Duration::from_secs(8);

/// The goal for the slowest announce, in milliseconds.
const GOAL: f64 = 20.0;

pub(crate) fn slowest(bench: &Bench) -> Result<Vec<Row>, String> {
    let redis = instance::redis(&bench.cores)?;
    let first = instance::start(&bench.cores, Placement::Server, Some(&redis), &[]);
    fill(&first, CROWD)?;
    instance::wait_until_written(&first)?;
    drop(first);
    let mut ready = Samples::default();
    let mut noisy = false;
    let [with, without] = by_turns(&[true, false], |&shares| {
        let ReplayLatency { slowest, p99, ready_after, is_disturbed } = watch(bench, shares.then_some(&redis))?;
        ready.0.extend(ready_after.map(|time| Sample { value: time.as_secs_f64(), aside: 0.0, noisy: is_disturbed }));
        noisy |= is_disturbed;
        Ok(Sample { value: slowest, aside: p99, noisy: is_disturbed })
    })?;
    let text = |samples: &Samples| format!("{} ms (p99 {} ms)", samples.values(), samples.asides());
    let most = with.0.iter().map(|sample| sample.value).fold(0.0, f64::max);
    let figure = "slowest announce of 1000 /s while a new instance reads 1 M records, in each of";
    let row =
        Row::new(&format!("{figure} {ROUNDS} rounds"), &text(&with)).theirs(format!("ours alone: {}", text(&without)));
    let row = row.goal(&format!("≤ {GOAL} ms"), most <= GOAL).noisy(noisy);
    let until_ready =
        Row::new("until a new instance with 1 M records to read is ready", &format!("{} s", ready.values()));
    Ok(vec![row, until_ready])
}

struct ReplayLatency {
    /// In milliseconds.
    slowest: f64,
    p99: f64,
    ready_after: Option<Duration>,
    is_disturbed: bool,
}

/// Starts an instance and sends announces from the first moment on.
fn watch(bench: &Bench, redis: Option<&RedisProcess>) -> Result<ReplayLatency, String> {
    let start = Instant::now();
    let new = instance::start(&bench.cores, Placement::Server, redis, &["--share-warm-up", "600"]);
    let load =
        HttpLoad { rate: Some(RATE), relaxed: true, expect: Expect::Anything, ..HttpLoad::new(new.address, WATCH) };
    let mut requests = PreparedRequests::announces(ANNOUNCING, &RequestStyle::new(new.address));
    let helpers: Vec<_> = redis.map(RedisProcess::pid).into_iter().collect();
    let clock = CpuClock::start_beside(&[new.pid()], &helpers);
    let (outcome, ready_after) = thread::scope(|scope| {
        let ready = scope.spawn(|| redis.and_then(|_| ready(&new, start)));
        let outcome = load.run(&mut requests);
        (outcome, ready.join().unwrap())
    });
    let spent = clock.stop();
    outcome.verdict()?;
    if redis.is_some() {
        let received = instance::received(&new)?;
        if received < CROWD.size() || ready_after.is_none() {
            return Err(format!("the new instance has applied {received} records of {}", CROWD.size()));
        }
    }
    let [slowest, p99] = [1.0, 0.99].map(|fraction| outcome.quantile(fraction));
    Ok(ReplayLatency { slowest, p99, ready_after, is_disturbed: spent.is_disturbed() })
}

/// When the instance says that it is ready; `None` if it does not while announces are sent.
fn ready(instance: &TrackerProcess, start: Instant) -> Option<Duration> {
    while start.elapsed() < WATCH {
        if client::get(instance.address, "/ready").is_ok_and(|reply| reply.starts_with("HTTP/1.1 200")) {
            return Some(start.elapsed());
        }
        thread::sleep(Duration::from_millis(50));
    }
    None
}
