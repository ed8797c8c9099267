//! An instance that shares its swarms, as a process.

use std::thread;
use std::time::{Duration, Instant};

use load::client::MetricsPage;
use load::machine::{Cores, Placement};
use load::redis::RedisProcess;

use super::super::program::{Program, TrackerProcess};

/// How long an instance may take to write what waits, or to read what is new.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Starts a Redis on the load generator's core.
pub(super) fn redis(cores: &Cores) -> Result<RedisProcess, String> {
    cores.pin(Placement::Load);
    RedisProcess::start()
}

/// Starts an instance with metrics. It shares through this Redis, if there is one.
pub(super) fn start(cores: &Cores, place: Placement, redis: Option<&RedisProcess>, args: &[&str]) -> TrackerProcess {
    Program::retracker().start(cores, place, &with_share(redis.map(RedisProcess::url).as_deref(), args))
}

/// Starts an instance as [`start`] does, with UDP on the same port.
pub(super) fn start_udp(cores: &Cores, redis: Option<&RedisProcess>, args: &[&str]) -> Result<TrackerProcess, String> {
    let place = Placement::Server;
    Program::retracker().start_udp(cores, place, false, &with_share(redis.map(RedisProcess::url).as_deref(), args))
}

fn with_share<'a>(url: Option<&'a str>, args: &[&'a str]) -> Vec<&'a str> {
    let share: Vec<_> = url.iter().flat_map(|url| ["--share", url]).collect();
    [&["-p"], args, &share].concat()
}

/// How many announces an instance has shared.
pub(super) fn sent(instance: &TrackerProcess) -> Result<u64, String> {
    Ok(MetricsPage::of(instance.address)?.sum("retracker_share_sent_total", &[]))
}

/// How many records of others an instance has applied.
pub(super) fn received(instance: &TrackerProcess) -> Result<u64, String> {
    Ok(MetricsPage::of(instance.address)?.sum("retracker_share_received_total", &[]))
}

/// Waits until an instance has written all that waits.
pub(super) fn wait_until_written(instance: &TrackerProcess) -> Result<(), String> {
    wait("nothing waits to be written", || {
        Ok(MetricsPage::of(instance.address)?.sum("retracker_share_pending", &[]) == 0)
    })
}

/// Waits until an instance has applied this many records of others.
pub(super) fn wait_until_received(instance: &TrackerProcess, records: u64) -> Result<(), String> {
    wait("all records are applied", || Ok(received(instance)? >= records))
}

fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let start = Instant::now();
    // The instance tells this a moment before it is so: an exchange may be under way.
    let pause = Duration::from_millis(300);
    loop {
        thread::sleep(pause);
        if is_so()? {
            return Ok(());
        }
        if start.elapsed() > TIMEOUT {
            return Err(format!("after {TIMEOUT:?} it is not so that {what}"));
        }
    }
}
