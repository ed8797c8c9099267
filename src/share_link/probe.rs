//! Checks once whether instances can share swarms through an engine, for `retracker check`.

use std::time::Duration;

use redis::{Value, pipe};

use super::connection::EngineConnection;
use super::error::LinkError;
use super::keys::EngineKeys;
use super::reply;
use super::sentinel;
use super::survey::EngineSurvey;
use super::target::ShareOptions;
use crate::clock;
use crate::share::{EngineTime, Partition, RecordBatch, fingerprint};

/// The first version of Redis that can drop the entries of a log by their age, as the tracker needs.
const OLDEST: [u32; 2] = [6, 2];

/// If the engine's clock and ours differ by more than this, one of them is wrong.
const CLOCK: Duration = Duration::from_mins(1);

/// What the check found about the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareVerdict {
    /// The engine, without its password.
    pub target: String,
    /// The name and version of the engine. Empty if the engine does not answer.
    pub found: String,
    /// A sentence about each fault, with its remedy. Empty if the engine is usable.
    pub faults: Vec<String>,
}

/// Connects to the engine, and runs each command that the tracker needs. The batch that it writes into a log has no
/// records, so it changes nothing at other instances.
pub async fn probe(options: &ShareOptions) -> ShareVerdict {
    let mut verdict = ShareVerdict { target: options.target.to_string(), found: String::new(), faults: Vec::new() };
    if let Err(error) = fill(&mut verdict, options).await {
        verdict.faults.push(format!("It {error}. {}", error.remedy()));
    }
    verdict
}

async fn fill(verdict: &mut ShareVerdict, options: &ShareOptions) -> Result<(), LinkError> {
    let mut engine = sentinel::connect(&options.target).await?;
    let mut questions = pipe();
    questions.cmd("INFO").arg("server");
    questions.cmd("INFO").arg("memory");
    let replies = engine.ask(&questions).await?;
    let [server, memory] = replies.as_slice() else { return Err(LinkError::Reply("INFO")) };
    let (server, memory) = (reply::text(server)?, reply::text(memory)?);
    let version = reply::info(server, "redis_version").ok_or(LinkError::Reply("INFO"))?;
    let name = if reply::info(server, "valkey_version").is_some() { "Valkey" } else { "Redis" };
    let shown = reply::info(server, "valkey_version").unwrap_or(version);
    verdict.found = format!("{name} {}", shown.escape_debug());
    if !is_new_enough(version) {
        verdict.faults.push(format!(
            "Its version is {}, expected {}.{} or newer: install a newer version.",
            version.escape_debug(),
            OLDEST[0],
            OLDEST[1]
        ));
        return Ok(());
    }
    verdict.faults.extend(eviction_fault(memory));
    let keys = EngineKeys::new(&options.name);
    // The list of zones is empty, like the list of an instance without zones.
    let survey = EngineSurvey::make(&mut engine, &keys, fingerprint([]), "[]", "check", None).await?;
    verdict.faults.extend(clock_fault(survey.time));
    try_commands(&mut engine, &keys).await
}

/// Runs the commands that the survey does not run.
async fn try_commands(engine: &mut EngineConnection, keys: &EngineKeys) -> Result<(), LinkError> {
    let Some(partition) = Partition::all().next() else { return Ok(()) };
    let log = keys.log(partition);
    let mut batch = Vec::new();
    let empty = RecordBatch {
        flags: 0,
        instance: fastrand::u64(..),
        sequence: 0,
        age: Duration::ZERO,
        zones_fingerprint: fingerprint([]),
        records: Vec::new(),
    };
    empty.encode(&mut batch);
    let mut commands = pipe();
    commands.cmd("XADD").arg(&log).arg("MINID").arg("~").arg(0).arg("*").arg("b").arg(&batch[..]);
    commands.cmd("XREAD").arg("COUNT").arg(1).arg("STREAMS").arg(&log).arg("0-0");
    commands.cmd("HSET").arg(keys.instances()).arg("check").arg("{}");
    commands.cmd("HGETALL").arg(keys.instances());
    commands.cmd("HDEL").arg(keys.instances()).arg("check");
    let replies = engine.ask(&commands).await?;
    replies.iter().try_for_each(|reply: &Value| reply::checked(reply).map(drop))
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let found: [u32; 2] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    found >= OLDEST
}

/// Returns a fault if the engine may drop logs when its memory is full. An engine that is full must refuse writes
/// instead, because the instances would not notice that a log was dropped.
fn eviction_fault(memory: &str) -> Option<String> {
    let limit = reply::info(memory, "maxmemory").filter(|limit| *limit != "0")?;
    let policy = reply::info(memory, "maxmemory_policy").filter(|policy| *policy != "noeviction")?;
    let [limit, policy] = [limit, policy].map(|text| text.escape_debug().to_string());
    Some(format!(
        "With maxmemory {limit} and maxmemory-policy {policy} it may drop logs when it is full: set maxmemory-policy \
         noeviction."
    ))
}

fn clock_fault(engine: EngineTime) -> Option<String> {
    let difference = (engine.0 / 1000).abs_diff(clock::unix_time());
    (difference > CLOCK.as_secs()).then(|| {
        format!("Its clock and the clock of this host differ by {difference} s: let both follow a time server (NTP).")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_can_trim_logs_by_age() {
        for (version, expected) in
            [("7.0.15", true), ("6.2.0", true), ("6.0.16", false), ("5.0.7", false), ("10.0", true), ("x", false)]
        {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }

    #[test]
    fn a_policy_that_drops_logs_is_a_fault_only_with_a_limit() {
        let fault = |limit, policy| eviction_fault(&format!("maxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n"));
        assert_eq!(fault("0", "allkeys-lru"), None);
        assert_eq!(fault("1048576", "noeviction"), None);
        assert!(fault("1048576", "allkeys-lru").unwrap().contains("allkeys-lru"));
    }

    #[test]
    fn clocks_that_differ_are_a_fault() {
        let now = clock::unix_time() * 1000;
        assert_eq!(clock_fault(EngineTime(now)), None);
        assert!(clock_fault(EngineTime(now + 7_200_000)).is_some());
    }
}
