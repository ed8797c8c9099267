//! What an instance asks the engine when it connects, and then every minute: what the engine's clock shows, whether the
//! engine is the same server as before, and whether the engine has forgotten the logs.

use redis::{Pipeline, Value, pipe};

use super::connection::EngineConnection;
use super::error::LinkError;
use super::instances;
use super::keys::EngineKeys;
use super::reply;
use crate::share::{EngineTime, PARTITIONS, Partition};

/// How many seconds the engine keeps the names of zones after an instance last wrote them.
const ZONES_KEPT: u32 = 24 * 60 * 60;

/// What the engine says about itself.
#[derive(Clone)]
pub(super) struct EngineSurvey {
    /// What the engine's clock shows.
    pub(super) time: EngineTime,
    /// Names the server and its history: the random name that it gave itself when it started, and the random name that
    /// it gave itself when it last became the primary.
    pub(super) server: String,
    /// When this instance last wrote its note, according to this server. `None` if the server has no note of the
    /// instance.
    pub(super) beat: Option<EngineTime>,
    /// The key of UDP's connection ids. `None` if another version has written a key of another length, or if the system
    /// gives no random bytes.
    pub(super) udp_key: Option<[u8; 16]>,
    /// The epoch of each log.
    pub(super) epochs: Vec<(Partition, Vec<u8>)>,
}

impl EngineSurvey {
    /// Asks the engine, and writes the names of our zones. If a log has no epoch, or the engine has no key of connection
    /// ids, also writes these. `udp_key` is the key that the instances have used before, if this instance knows it.
    pub(super) async fn make(
        engine: &mut EngineConnection,
        keys: &EngineKeys,
        fingerprint: u64,
        zones: &str,
        instance: &str,
        udp_key: Option<[u8; 16]>,
    ) -> Result<Self, LinkError> {
        let mut questions = pipe();
        questions.cmd("SET").arg(keys.zones(fingerprint)).arg(zones).arg("EX").arg(ZONES_KEPT);
        questions.cmd("INFO").arg("server");
        questions.cmd("INFO").arg("replication");
        questions.cmd("HGETALL").arg(keys.instances());
        questions.cmd("GET").arg(keys.udp_key());
        Partition::all().for_each(|partition| ask_epoch(&mut questions, keys, partition));
        // The clock is asked last, so that the least time passes until its answer is used.
        questions.cmd("TIME");
        let replies = engine.ask(&questions).await?;
        let [written, server, replication, notes, kept_key, epochs @ .., time] = replies.as_slice() else {
            return Err(LinkError::Reply("none"));
        };
        reply::checked(written)?;
        let run_id = reply::info(reply::text(server)?, "run_id").ok_or(LinkError::Reply("INFO"))?;
        let history = reply::info(reply::text(replication)?, "master_replid").unwrap_or_default();
        let server = format!("{run_id} {history}");
        let beat = instances::beat_of(&reply::pairs(notes)?, instance);
        let mut time = reply::time(time)?;
        let mut known = Vec::with_capacity(PARTITIONS);
        let mut missing = Vec::new();
        let kept_key = reply::optional_bytes(kept_key)?.map(<[u8]>::to_vec);
        for (partition, epoch) in Partition::all().zip(epochs) {
            match reply::optional_bytes(epoch)? {
                Some(epoch) => known.push((partition, epoch.to_vec())),
                None => missing.push(partition),
            }
        }
        if !missing.is_empty() {
            let (created, now) = create_epochs(engine, keys, &missing).await?;
            known.extend(created);
            time = now;
        }
        let udp_key = match kept_key {
            Some(key) => Some(key),
            None => give_udp_key(engine, keys, udp_key).await?,
        };
        Ok(Self { time, server, beat, udp_key: udp_key.and_then(|key| key.try_into().ok()), epochs: known })
    }
}

/// Writes the key of connection ids: `known`, or else a random key. A key that another instance has just written stays.
/// Returns the key that the engine has then.
async fn give_udp_key(
    engine: &mut EngineConnection,
    keys: &EngineKeys,
    known: Option<[u8; 16]>,
) -> Result<Option<Vec<u8>>, LinkError> {
    let random = || {
        let mut key = [0; 16];
        getrandom::fill(&mut key).ok().map(|()| key)
    };
    let Some(key) = known.or_else(random) else { return Ok(None) };
    let mut questions = pipe();
    questions.cmd("SET").arg(keys.udp_key()).arg(&key[..]).arg("NX");
    questions.cmd("GET").arg(keys.udp_key());
    let replies = engine.ask(&questions).await?;
    let [written, key] = replies.as_slice() else { return Err(LinkError::Reply("none")) };
    if *written != Value::Nil {
        reply::checked(written)?;
    }
    Ok(Some(reply::bytes(key)?.to_vec()))
}

/// Asks for the epoch of the first log. An engine that forgets all logs forgets this epoch, too.
pub(super) fn ask_first_epoch(questions: &mut Pipeline, keys: &EngineKeys) {
    Partition::all().take(1).for_each(|partition| ask_epoch(questions, keys, partition));
}

fn ask_epoch(questions: &mut Pipeline, keys: &EngineKeys, partition: Partition) {
    questions.cmd("GET").arg(keys.epoch(partition));
}

/// Writes an epoch for each of these logs. An epoch that another instance has just written stays. Returns the epochs
/// that the engine has then, and what its clock shows then.
async fn create_epochs(
    engine: &mut EngineConnection,
    keys: &EngineKeys,
    partitions: &[Partition],
) -> Result<(Vec<(Partition, Vec<u8>)>, EngineTime), LinkError> {
    let mut questions = pipe();
    for partition in partitions {
        questions.cmd("SET").arg(keys.epoch(*partition)).arg(format!("{:032x}", fastrand::u128(..))).arg("NX");
        ask_epoch(&mut questions, keys, *partition);
    }
    questions.cmd("TIME");
    let replies = engine.ask(&questions).await?;
    let Some((time, epochs)) = replies.split_last() else { return Err(LinkError::Reply("none")) };
    let mut created = Vec::with_capacity(partitions.len());
    for (partition, pair) in partitions.iter().zip(epochs.chunks_exact(2)) {
        let [written, epoch] = pair else { return Err(LinkError::Reply("none")) };
        // If the epoch existed, `NX` kept it, and the reply is nil.
        if *written != Value::Nil {
            reply::checked(written)?;
        }
        created.push((*partition, reply::bytes(epoch)?.to_vec()));
    }
    Ok((created, reply::time(time)?))
}
