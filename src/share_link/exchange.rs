//! One exchange with the engine: writes what this instance has heard, and reads what all instances have written.

use std::time::Duration;

use redis::{Pipeline, Value, pipe};
use tokio::time::Instant;

use super::connection::EngineConnection;
use super::error::LinkError;
use super::follower::{self, Follower};
use super::forwarding::client_elsewhere;
use super::keys::EngineKeys;
use super::outbox::ShareOutbox;
use super::parts::ShareParts;
use super::reply;
use super::survey;
use crate::share::{MAX_RECORDS, Partition, SharedRecord, ago, fingerprint, receive};

/// The most full batches that one exchange writes, and the most batches of one log that it reads.
const MOST_BATCHES: usize = 32;

/// After an exchange that took less than this, the next exchange may be twice as large. The larger exchange still ends
/// in time, because this duration is a quarter of the time that the engine has for an answer. Each exchange that is
/// late costs the connection.
const QUICK: Duration = Duration::from_millis(500);

/// What an exchange has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchanged {
    /// Whether there is more to write or to read.
    pub(super) is_behind: bool,
    /// Whether the engine has forgotten the logs.
    pub(super) has_forgotten: bool,
}

/// What this instance has written into the logs and read from them, and what is next.
#[derive(Debug)]
pub(super) struct BatchExchange {
    pub(super) parts: ShareParts,
    pub(super) keys: EngineKeys,
    /// The number of this process among all instances.
    pub(super) instance: u64,
    pub(super) zones_fingerprint: u64,
    pub(super) outbox: ShareOutbox,
    pub(super) follower: Follower,
    /// How many records had been dropped for lack of room when the last exchange began.
    lost: u64,
    /// The most full batches that are written and read at once. An exchange that takes too long halves this number.
    batches: usize,
}

impl BatchExchange {
    /// Makes a value that has written and read nothing yet.
    pub(super) fn new(keys: EngineKeys, parts: ShareParts) -> Self {
        Self {
            keys,
            instance: fastrand::u64(..),
            zones_fingerprint: fingerprint(parts.topology.zones().map(|(_, name)| name)),
            outbox: ShareOutbox::default(),
            follower: Follower::default(),
            lost: 0,
            batches: MOST_BATCHES,
            parts,
        }
    }

    /// An exchange took too long: the next ones are smaller.
    pub(super) fn shrink(&mut self) {
        self.batches = (self.batches / 2).max(1);
    }

    /// Writes batches and reads new ones.
    pub(super) async fn exchange(&mut self, engine: &mut EngineConnection) -> Result<Exchanged, LinkError> {
        self.note_lost_records();
        self.outbox.gather(self.parts.shared.pending());
        let mut commands = pipe();
        self.write(&mut commands);
        survey::ask_first_epoch(&mut commands, &self.keys);
        self.read(&mut commands);
        let start = Instant::now();
        let replies = engine.ask(&commands).await?;
        let took = start.elapsed();
        let [writes @ .., epoch, news] = replies.as_slice() else { return Err(LinkError::Reply("none")) };
        let has_forgotten = !self.follower.is_first_epoch(reply::optional_bytes(epoch)?);
        // What others have heard is applied even if the engine takes no writes.
        let is_behind = self.apply(engine, news).await?;
        let now = self.parts.clock.now();
        for write in writes {
            reply::text(write)?;
            self.outbox.acknowledge(now);
        }
        self.batches = next_batches(self.batches, took);
        let has_more = self.outbox.has_unsent() || self.parts.shared.pending().pending() > MAX_RECORDS;
        Ok(Exchanged { is_behind: is_behind || has_more, has_forgotten })
    }

    fn note_lost_records(&mut self) {
        let lost = self.parts.shared.pending().lost();
        if lost > self.lost {
            self.parts.metrics.dropped("outbox", usize::try_from(lost - self.lost).unwrap_or(usize::MAX));
            self.parts.metrics.resynced("outbox");
            self.lost = lost;
        }
    }

    fn write(&self, commands: &mut Pipeline) {
        let now = self.parts.clock.now();
        let kept = u64::try_from(self.parts.retention.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.parts.shared.engine_time(now).0.saturating_sub(kept);
        let mut bytes = Vec::new();
        for batch in self.outbox.next(self.batches) {
            bytes.clear();
            batch.seal(now, self.instance, self.zones_fingerprint).encode(&mut bytes);
            let key = self.keys.log(batch.partition);
            commands.cmd("XADD").arg(key).arg("MINID").arg("~").arg(oldest).arg("*").arg("b").arg(&bytes[..]);
        }
    }

    fn read(&self, commands: &mut Pipeline) {
        commands.cmd("XREAD").arg("COUNT").arg(self.batches).arg("STREAMS");
        for partition in Partition::all() {
            commands.arg(self.keys.log(partition));
        }
        for partition in Partition::all() {
            commands.arg(self.follower.position(partition).to_string());
        }
    }

    /// Applies what was read. Returns whether a log has more.
    async fn apply(&mut self, engine: &mut EngineConnection, news: &Value) -> Result<bool, LinkError> {
        let mut is_behind = false;
        for (key, entries) in reply::logs(news)? {
            let partition = Partition::all().find(|partition| self.keys.log(*partition).as_bytes() == key);
            let partition = partition.ok_or(LinkError::Reply("XREAD"))?;
            is_behind |= entries.len() >= self.batches;
            for entry in entries {
                let own = self.follower.is_new(partition, entry.id).then_some(self.instance);
                if let Some(batch) = follower::read(&entry, own, &self.parts.metrics) {
                    let zones = batch.zones_fingerprint;
                    if !self.follower.knows_zones(zones) {
                        self.look_up_zones(engine, zones).await?;
                    }
                    let ShareParts { store, topology, clock, shared, metrics, forwarding, .. } = &self.parts;
                    let now = clock.now();
                    let ago = ago(shared.engine_time(now), entry.id.time, batch.age);
                    let map = self.follower.zones(zones).cloned().unwrap_or_default();
                    // A record that this instance wrote itself does not mean that a client has gone to another
                    // instance.
                    let elsewhere = forwarding.iter().filter(|_| batch.instance != self.instance);
                    let accepted = |record: &SharedRecord| {
                        elsewhere.clone().for_each(|others| others.heard(&client_elsewhere(record), ago));
                    };
                    follower::count(receive(store, now, ago, topology, &map, &batch, accepted), metrics);
                }
                self.follower.advance(partition, entry.id);
            }
        }
        Ok(is_behind)
    }

    async fn look_up_zones(&mut self, engine: &mut EngineConnection, fingerprint: u64) -> Result<(), LinkError> {
        let mut question = pipe();
        question.cmd("GET").arg(self.keys.zones(fingerprint));
        let replies = engine.ask(&question).await?;
        let names = replies.first().map_or(Ok(None), reply::optional_bytes)?;
        self.follower.note_zones(fingerprint, names, &self.parts.topology);
        Ok(())
    }

    /// Writes all that waits.
    pub(super) async fn write_all(&mut self, engine: &mut EngineConnection) -> Result<(), LinkError> {
        loop {
            self.outbox.gather(self.parts.shared.pending());
            let mut commands = pipe();
            self.write(&mut commands);
            if commands.is_empty() {
                return Ok(());
            }
            for write in engine.ask(&commands).await? {
                reply::text(&write)?;
                self.outbox.acknowledge(self.parts.clock.now());
            }
        }
    }
}

/// Returns the most batches of the next exchange, after an exchange that `took` this long.
fn next_batches(batches: usize, took: Duration) -> usize {
    if took < QUICK { (batches * 2).min(MOST_BATCHES) } else { batches }
}

#[cfg(test)]
mod tests {
    use super::super::connection::PATIENCE;
    use super::*;

    #[test]
    fn exchanges_over_a_slow_link_stay_as_large_as_it_carries() {
        // Each batch takes this long. A late exchange halves the number of batches.
        for each in [Duration::from_millis(1), Duration::from_millis(100), Duration::from_millis(400)] {
            let (mut batches, mut late) = (MOST_BATCHES, 0);
            for _ in 0..100 {
                let took = each * u32::try_from(batches).unwrap();
                if took < PATIENCE {
                    batches = next_batches(batches, took);
                } else {
                    late += 1;
                    batches /= 2;
                }
            }
            assert!(late <= 3, "{each:?} {late}");
            assert!(
                batches == MOST_BATCHES || each * u32::try_from(batches).unwrap() >= QUICK / 2,
                "{each:?} {batches}"
            );
        }
    }
}
