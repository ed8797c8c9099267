//! What a record costs the instance that receives it, and the Redis.

use std::thread;
use std::time::Duration;

use load::crowd::Crowd;
use load::figures::{Sample, Samples};
use load::http::HttpLoad;
use load::http::requests::{PreparedRequests, RequestStyle};
use load::machine::{CpuClock, CpuUsage, Placement, main_thread_cpu_time};
use load::redis::RedisProcess;
use load::table::Row;

use super::super::announces::{LENGTH, fill};
use super::super::bench::Bench;
use super::super::program::TrackerProcess;
use super::super::rounds::ROUNDS;
use super::instance;

/// A peer age of six seconds, so that about half of the announces are shared.
const AGE: &str = "0.1";

/// The peers, and how many announces a second they send. The second load is as fast as the instance answers. Each peer
/// announces often enough to stay.
const LOADS: [(Crowd, Option<f64>); 2] = [(Crowd::new(400, 5), Some(2000.0)), (Crowd::USUAL, None)];

/// The goals, in microseconds a record.
const RECEIVING: f64 = 1.0;
const KEEPING: f64 = 0.3;

/// How long two instances without clients are measured.
const IDLE: Duration = Duration::from_secs(10);

/// Two instances and their Redis.
struct SharingPair {
    redis: RedisProcess,
    /// It gets the announces.
    announced: TrackerProcess,
    /// It gets only the records.
    follower: TrackerProcess,
}

impl SharingPair {
    /// Starts them. The follower has a core of its own.
    fn start(bench: &Bench, args: &[&str]) -> Result<Self, String> {
        let redis = instance::redis(&bench.cores)?;
        let follower = instance::start(&bench.cores, Placement::Server, Some(&redis), args);
        let announced = instance::start(&bench.cores, Placement::Load, Some(&redis), args);
        Ok(Self { redis, announced, follower })
    }

    /// The CPU time of the follower and of the Redis while `run` runs.
    fn measure<R>(&self, run: impl FnOnce() -> Result<R, String>) -> Result<(R, CpuUsage, Duration), String> {
        let clock = CpuClock::start_beside(&[self.follower.pid()], &[self.redis.pid(), self.announced.pid()]);
        let redis = main_thread_cpu_time(self.redis.pid());
        let result = run()?;
        let redis = main_thread_cpu_time(self.redis.pid()).saturating_sub(redis);
        Ok((result, clock.stop(), redis))
    }
}

pub(crate) fn received(bench: &Bench) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (crowd, rate) in LOADS {
        let (mut receiving, mut keeping) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            let [receives, keeps] = round(bench, crowd, rate)?;
            receiving.0.push(receives);
            keeping.0.push(keeps);
        }
        let per_second = receiving.asides();
        rows.push(goal(&format!("receiving {per_second} records/s"), &receiving, RECEIVING));
        rows.push(goal(&format!("Redis with two instances and {per_second} records/s"), &keeping, KEEPING));
    }
    Ok(rows)
}

fn goal(figure: &str, samples: &Samples, goal: f64) -> Row {
    let met = samples.values().median <= goal;
    let row = Row::new(figure, &format!("{} µs CPU a record", samples.values()));
    row.goal(&format!("≤ {goal:.1} µs"), met).noisy(samples.is_noisy())
}

/// Measures what a record costs the follower and the Redis, in microseconds.
fn round(bench: &Bench, crowd: Crowd, rate: Option<f64>) -> Result<[Sample; 2], String> {
    let pair = SharingPair::start(bench, &["-a", AGE])?;
    fill(&pair.announced, crowd)?;
    let mut requests = PreparedRequests::announces(crowd, &RequestStyle::new(pair.announced.address));
    let load = HttpLoad { rate, relaxed: true, ..HttpLoad::new(pair.announced.address, LENGTH * 2) };
    instance::wait_until_written(&pair.announced)?;
    let (sent, before) = (instance::sent(&pair.announced)?, instance::received(&pair.follower)?);
    let (outcome, cpu, redis) = pair.measure(|| {
        let outcome = load.run(&mut requests);
        instance::wait_until_written(&pair.announced)?;
        let sent = instance::sent(&pair.announced)? - sent;
        instance::wait_until_received(&pair.follower, before + sent)?;
        Ok(outcome)
    })?;
    outcome.verdict()?;
    let records = (instance::received(&pair.follower)? - before) as f64;
    let aside = records / outcome.elapsed.as_secs_f64();
    let (announces, others) = (outcome.replies, cpu.others * 100.0);
    eprintln!("  {records} records of {announces} announces, {others:.0} % of a core for others");
    let each = |time: Duration| Sample { value: time.as_secs_f64() * 1e6 / records, aside, noisy: cpu.is_disturbed() };
    Ok([each(cpu.tracker), each(redis)])
}

/// What instances without clients cost: they read the logs ten times a second all the same.
pub(crate) fn idle(bench: &Bench) -> Result<Vec<Row>, String> {
    let (mut follower, mut keeper) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let pair = SharingPair::start(bench, &[])?;
        thread::sleep(Duration::from_secs(1));
        let ((), spent, redis) = pair.measure(|| {
            thread::sleep(IDLE);
            Ok(())
        })?;
        for (samples, time) in [(&mut follower, spent.tracker), (&mut keeper, redis)] {
            let value = time.as_secs_f64() * 1e3 / IDLE.as_secs_f64();
            samples.0.push(Sample { value, aside: 0.0, noisy: spent.is_disturbed() });
        }
    }
    let row = |figure, samples: &Samples| {
        Row::new(figure, &format!("{} ms CPU a second", samples.values())).noisy(samples.is_noisy())
    };
    Ok(vec![
        row("an instance that shares and has no clients", &follower),
        row("Redis with two such instances", &keeper),
    ])
}
