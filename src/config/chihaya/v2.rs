//! Reads the keys below the top-level key `chihaya` in `chihaya.yaml` of Chihaya v2.

use std::time::Duration;

use super::hooks;
use super::keys::Keys;
use super::lint::{Lint, Outcome};
use super::model::{ChihayaConfig, ChihayaGeneration};
use super::outcomes;
use super::scalars::{self, duration, text, whole};
use super::sections::{self, Numbers};
use super::tree::{ConfigNode, KeyedNode, NodeValue, Place};
use crate::frontend::listen::Listen;
use crate::share_link::EngineTarget;

/// Chihaya's defaults for keys that are not in the file.
const INTERVAL: u32 = 30 * 60;
const PEER_AGE: Duration = Duration::from_mins(30);
const GC_INTERVAL: Duration = Duration::from_mins(3);

/// Returns which form the keys below `chihaya` are in.
pub(super) fn generation(entries: &[KeyedNode]) -> ChihayaGeneration {
    let value = |key: &str| entries.iter().rev().find(|entry| entry.key == key).map(|entry| &entry.value.value);
    let has = |entries: &[KeyedNode], key: &str| entries.iter().any(|entry| entry.key == key);
    let hooks = ["prehooks", "posthooks"].into_iter().filter_map(value);
    let has_options =
        hooks.filter_map(|hooks| if let NodeValue::List(hooks) = hooks { Some(hooks) } else { None }).any(|hooks| {
            hooks.iter().any(|hook| matches!(&hook.value, NodeValue::Section(entries) if has(entries, "options")))
        });
    match value("storage") {
        Some(NodeValue::Section(storage)) if !has(storage, "name") && !has_options => ChihayaGeneration::V2Rc1,
        _ => ChihayaGeneration::V2,
    }
}

/// Reads the keys below `chihaya`.
pub(super) fn read(entries: &[KeyedNode], lint: &mut Lint) -> ChihayaConfig {
    let generation = generation(entries);
    let is_rc1 = generation == ChihayaGeneration::V2Rc1;
    let mut keys = Keys::new("", entries);
    let interval = interval(&mut keys, lint, is_rc1);
    let min_interval = min_interval(&mut keys, lint, is_rc1, interval);
    let metrics = metrics(&mut keys, lint, is_rc1);
    let storage = storage(&mut keys, lint, is_rc1, interval);
    // rc.1 has one of these numbers below `storage`. rc.2 has all of them here. Newer versions have them below `http`
    // and `udp`.
    let common = if is_rc1 {
        keys.later(lint, &sections::NUMBERS, RC1);
        storage.numbers
    } else {
        Numbers::read(&mut keys, lint)
    };
    let http = sections::http(&mut keys, lint, is_rc1, common);
    let udp = sections::udp(&mut keys, lint, is_rc1, common);
    let hooks = hooks::read(&mut keys, lint, is_rc1);
    hooks::read_post(&mut keys, lint);
    keys.finish(lint);
    ChihayaConfig {
        generation,
        interval,
        min_interval,
        peer_age: storage.peer_age.unwrap_or(PEER_AGE),
        http,
        udp,
        metrics,
        api: None,
        tokens: hooks.tokens,
        clients: hooks.clients,
        torrents: hooks.torrents,
        create_on_announce: true,
        respect_address_family: false,
        interval_variation: hooks.interval_variation,
        share: storage.share,
    }
}

const RC1: &str = "v2.0.0-rc.1";

fn interval(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool) -> u32 {
    let parse = |node: &ConfigNode| scalars::interval(duration(node)?);
    let outcome = |interval: &Option<u32>| match interval {
        None => Outcome::Warns(format!("interval {INTERVAL} s"), "zero or less is no interval".to_owned()),
        Some(interval) if is_rc1 => {
            Outcome::Becomes(format!("interval and minimal interval {interval} s (--announce-interval)"))
        }
        Some(interval) => outcomes::interval(*interval),
    };
    keys.read(lint, "announce_interval", parse, outcome).flatten().unwrap_or(INTERVAL)
}

fn min_interval(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool, interval: u32) -> u32 {
    if is_rc1 {
        keys.later(lint, &["min_announce_interval"], RC1);
        return interval;
    }
    let parse = |node: &ConfigNode| scalars::interval(duration(node)?);
    let outcome = |min: &Option<u32>| outcomes::min_interval(min.unwrap_or(interval).into());
    keys.read(lint, "min_announce_interval", parse, outcome).flatten().unwrap_or(interval)
}

/// Reads the address for metrics: `metrics_addr`, or its older name `prometheus_addr`.
fn metrics(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool) -> Option<Listen> {
    let outcome = |listen: &Option<Listen>| match listen {
        None => Outcome::Becomes("no listener for metrics".to_owned()),
        Some(listen) => Outcome::Becomes(format!("/metrics at {listen}")),
    };
    let mut read = |key| keys.read(lint, key, |node| scalars::listen(&text(node)?), outcome).flatten();
    let old = read("prometheus_addr");
    if is_rc1 {
        keys.later(lint, &["metrics_addr"], RC1);
        return old;
    }
    read("metrics_addr").or(old)
}

#[derive(Debug, Default)]
struct StorageSection {
    peer_age: Option<Duration>,
    share: Option<EngineTarget>,
    numbers: Numbers,
}

fn storage(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool, interval: u32) -> StorageSection {
    let Some((mut storage, entry)) = keys.section(lint, "storage") else { return StorageSection::default() };
    if is_rc1 {
        let peer_age = store(&mut storage, lint, true, interval);
        storage.later(lint, &["config"], RC1);
        let max_numwant = sections::number(&mut storage, lint, sections::MAX_NUMWANT);
        storage.finish(lint);
        return StorageSection { peer_age, share: None, numbers: Numbers { max_numwant, ..Numbers::default() } };
    }
    let name = storage_name(&mut storage, lint, entry.place);
    let mut has_broker = false;
    let (peer_age, share) = storage.section(lint, "config").map_or((None, None), |(mut config, _)| {
        let peer_age = store(&mut config, lint, false, interval);
        let share = own_keys(&mut config, lint, name.as_deref());
        has_broker = !config.is_absent("redis_broker");
        config.finish(lint);
        (peer_age, share)
    });
    // A wrong value of the key has an error of its own.
    if name.as_deref() == Some(REDIS) && !has_broker {
        lint.error(entry.place, NO_BROKER);
    }
    storage.finish(lint);
    StorageSection { peer_age, share, numbers: Numbers::default() }
}

const REDIS: &str = "redis";
const NO_BROKER: &str = "storage.name is redis and there is no server, expected storage.config.redis_broker such as \
                         redis://password@host:6379/0";
const STORES: [&str; 3] = ["memory", "memorybysubnet", REDIS];

fn storage_name(storage: &mut Keys<'_>, lint: &mut Lint, place: Place) -> Option<String> {
    let parse = |node: &ConfigNode| {
        let name = text(node)?;
        if STORES.contains(&name.as_str()) { Ok(name) } else { Err("memory, memorybysubnet or redis") }
    };
    let outcome = |name: &String| match name.as_str() {
        "memorybysubnet" => {
            Outcome::Becomes("the tracker's memory, which always gives the nearest peers first".to_owned())
        }
        REDIS => Outcome::Becomes(
            "the tracker's memory, which instances share through the server of redis_broker (--share)".to_owned(),
        ),
        _ => Outcome::Becomes("the tracker's memory".to_owned()),
    };
    let name = storage.read(lint, "name", parse, outcome);
    if storage.is_absent("name") {
        lint.warns(place, "storage has no name, which this version of Chihaya needs to start; here it is memory");
    }
    name
}

/// Reads the keys that every store has. Returns the age of peers.
fn store(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool, interval: u32) -> Option<Duration> {
    let parse = |node: &ConfigNode| match duration(node)? {
        None if is_rc1 => Err("a duration above 0 such as 14m: Chihaya's \"invalid garbage collection interval\""),
        interval => Ok(interval),
    };
    let outcome = |_: &Option<Duration>| Outcome::Nothing("a peer that is too old is never given out".to_owned());
    let gc_interval = keys.read(lint, "gc_interval", parse, outcome).flatten().unwrap_or(GC_INTERVAL);
    keys.check(lint, "shard_count", whole, "the store divides its work itself");
    let is_short = |age: Duration| age.as_secs() <= interval.into();
    let parse = |node: &ConfigNode| scalars::peer_age(duration(node)?);
    let outcome = |age: &Option<Duration>| {
        match age {
        Some(age) if is_short(*age) => Outcome::Warns(
            outcomes::peer_age_text(*age + gc_interval, "this and gc_interval together"),
            "peer_lifetime alone is no longer than the interval, so clients would be missing until they announce again; \
             Chihaya keeps them too, because it removes peers only every gc_interval"
                .to_owned(),
        ),
        Some(age) => outcomes::peer_age(*age, ""),
        None => Outcome::Warns(
            format!("peers are kept for {}", scalars::seconds(PEER_AGE)),
            "zero or less is no age".to_owned(),
        ),
    }
    };
    let age = keys.read(lint, "peer_lifetime", parse, outcome).flatten();
    age.map(|age| if is_short(age) { age + gc_interval } else { age })
}

/// Reads the keys that only some stores have. Returns the server that instances share.
fn own_keys(keys: &mut Keys<'_>, lint: &mut Lint, name: Option<&str>) -> Option<EngineTarget> {
    keys.check(lint, "prometheus_reporting_interval", duration, "metrics are always current when they are read");
    if name == Some("memorybysubnet") {
        let nearest = "peers of the client's own /24, or /64 of IPv6, always come first";
        keys.check(lint, "preferred_ipv4_subnet_mask_bits_set", whole, nearest);
        keys.check(lint, "preferred_ipv6_subnet_mask_bits_set", whole, nearest);
    }
    for key in ["redis_read_timeout", "redis_write_timeout", "redis_connect_timeout"] {
        keys.check(lint, key, duration, "no announce waits for the server");
    }
    if name != Some(REDIS) {
        keys.check(lint, "redis_broker", text, "only the store redis has a server");
        return None;
    }
    let parse = |node: &ConfigNode| {
        let target = text(node)?.parse::<EngineTarget>();
        target.map(EngineTarget::as_chihaya_means).map_err(|_| "a URL such as redis://password@host:6379/0")
    };
    keys.read(lint, "redis_broker", parse, |target| Outcome::Becomes(format!("--share {target}")))
}
