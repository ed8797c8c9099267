//! The loop, which writes what this instance hears, and reads what all instances have written.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::{Pipeline, Value, pipe};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connection::EngineConnection;
use super::error::LinkError;
use super::follower::{self, Follower};
use super::forwarding::{self, client_elsewhere};
use super::instances::{self, InstanceNote};
use super::keys::EngineKeys;
use super::outbox::ShareOutbox;
use super::reply;
use super::sentinel;
use super::survey::EngineSurvey;
use super::target::ShareOptions;
use crate::clock::{Clock, Timestamp};
use crate::forward::OtherInstances;
use crate::metrics::ShareMetrics;
use crate::share::{EngineTime, Partition, ShareState, SharedRecord, SharedSwarms, ago, fingerprint, receive};
use crate::store::Store;
use crate::topology::Topology;

/// How often batches are written and read.
const TICK: Duration = Duration::from_millis(100);
/// How often the instance writes its note into the engine.
const BEAT: Duration = Duration::from_secs(10);
/// How often the loop asks for the engine's clock and the epochs.
const SURVEY: Duration = Duration::from_mins(1);
/// The most full batches that one exchange writes, and the most batches of one log that it reads.
const MOST_BATCHES: usize = 32;
/// The pauses before connecting again: the first and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// How long the last batches may take at the end of the process.
const LAST: Duration = Duration::from_secs(1);

/// The parts that the loop needs.
#[derive(Debug)]
pub struct ShareParts {
    /// The peers of this instance.
    pub store: Arc<Store>,
    /// The zones of this instance.
    pub topology: Topology,
    /// The clock that the tracker uses.
    pub clock: Clock,
    /// The records of announces, which the loop writes.
    pub shared: Arc<SharedSwarms>,
    /// Whether this instance hears the others. The loop sets the state, and the pages show it.
    pub state: Arc<ShareState>,
    /// The handles of the metrics.
    pub metrics: ShareMetrics,
    /// How long the logs are kept.
    pub retention: Duration,
    /// The addresses on which this instance listens.
    pub addresses: Vec<String>,
    /// Reaches the forwarders, if there are any.
    pub forwarding: Option<OtherInstances>,
}

/// The loop between this instance and the engine.
///
/// What can be lost, and what repairs it:
/// - A server without the last writes may become the primary. So after each loss of the connection, the loop writes again
///   what the engine acknowledged in the last ten seconds, and reads again what it read in that time. A record that is
///   applied twice does no harm.
/// - The engine may have forgotten the logs, may be another server than before, may have set its clock, or may have been
///   away until records were dropped. Then each peer is shared once more, at its next announce
///   ([`SharedSwarms::resync`]).
#[derive(Debug)]
pub struct ShareLink {
    options: ShareOptions,
    parts: ShareParts,
    keys: EngineKeys,
    /// The number of this process among all instances.
    instance: u64,
    zones_fingerprint: u64,
    outbox: ShareOutbox,
    follower: Follower,
    run_id: Option<String>,
    /// When this instance reached the engine for the first time, by the engine's clock.
    started: Option<EngineTime>,
    /// How many records had been dropped for lack of room at the previous exchange.
    lost: u64,
    /// The most full batches that an exchange writes, and the most batches of one log that it reads. The number is lower
    /// after an exchange that took too long.
    batches: usize,
    /// When the last exchange succeeded.
    exchanged: Timestamp,
    /// Whether the log says that this instance is alone.
    told: bool,
}

impl ShareLink {
    /// Makes the loop, which does nothing before [`Self::run`].
    pub fn new(options: ShareOptions, parts: ShareParts) -> Self {
        let zones_fingerprint = fingerprint(parts.topology.zones().map(|(_, name)| name));
        Self {
            keys: EngineKeys::new(&options.name),
            options,
            instance: fastrand::u64(..),
            zones_fingerprint,
            outbox: ShareOutbox::default(),
            follower: Follower::default(),
            run_id: None,
            started: None,
            lost: 0,
            batches: MOST_BATCHES,
            exchanged: parts.clock.now(),
            told: false,
            parts,
        }
    }

    /// Shares swarms until the sender of `stopped` is dropped. Then writes the records that are left, within a second.
    pub async fn run(mut self, stopped: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.share() => {}
            _ = stopped => {}
        }
        match timeout(LAST, self.finish()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("share: the last records were not written: {} {error}", self.options.target),
            Err(_) => log::warn!("share: the last records were not written within {LAST:?}"),
        }
    }

    async fn share(&mut self) {
        let mut failures = 0;
        loop {
            let before = self.exchanged;
            let Err(error) = self.follow().await;
            failures = if self.exchanged > before { 0 } else { failures + 1 };
            self.note_failure(&error);
            sleep(pause(failures)).await;
        }
    }

    /// Connects to the engine, and exchanges batches until an exchange fails.
    async fn follow(&mut self) -> Result<Infallible, LinkError> {
        let mut engine = sentinel::connect(&self.options.target).await?;
        self.survey(&mut engine).await?;
        self.follower.step_back();
        self.outbox.resend(self.parts.clock.now());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut surveyed, mut beat) = (Instant::now(), None::<Instant>);
        loop {
            let is_behind = self.exchange(&mut engine).await?;
            self.note_success(is_behind);
            if beat.is_none_or(|beat| beat.elapsed() >= BEAT) {
                self.beat(&mut engine).await?;
                beat = Some(Instant::now());
            }
            if surveyed.elapsed() >= SURVEY {
                self.survey(&mut engine).await?;
                self.follower.forget_zones();
                surveyed = Instant::now();
            }
            if !is_behind {
                tick.tick().await;
            }
        }
    }

    /// Checks whether the engine is still the same. If it is not, each peer is shared once more.
    async fn survey(&mut self, engine: &mut EngineConnection) -> Result<(), LinkError> {
        let names: Vec<_> = self.parts.topology.zones().map(|(_, name)| name).collect();
        let names = serde_json::to_string(&names).unwrap_or_default();
        let udp_key = self.parts.state.udp_key();
        let survey = EngineSurvey::make(engine, &self.keys, self.zones_fingerprint, &names, udp_key).await?;
        survey.udp_key.into_iter().for_each(|key| self.parts.state.note_udp_key(key));
        let now = self.parts.clock.now();
        let is_first = self.started.is_none();
        if self.parts.shared.align(now, survey.time) && !is_first {
            self.parts.metrics.resynced("clock");
        }
        self.started.get_or_insert(survey.time);
        let forgotten = survey.epochs.iter().filter(|(partition, epoch)| self.follower.note_epoch(*partition, epoch));
        if forgotten.count() > 0 {
            self.resync("epoch");
        }
        if self.run_id.as_ref().is_some_and(|run_id| *run_id != survey.run_id) {
            self.resync("restart");
        }
        self.run_id = Some(survey.run_id);
        Ok(())
    }

    fn resync(&self, reason: &'static str) {
        self.parts.shared.resync(self.parts.clock.now());
        self.parts.metrics.resynced(reason);
    }

    /// Writes batches and reads new batches. Returns whether there is more to write or to read.
    async fn exchange(&mut self, engine: &mut EngineConnection) -> Result<bool, LinkError> {
        self.note_lost_records();
        self.outbox.gather(self.parts.shared.pending());
        let mut commands = pipe();
        self.write(&mut commands);
        let written = commands.len();
        self.read(&mut commands);
        let replies = engine.ask(&commands).await?;
        let Some((news, writes)) = replies.split_last() else { return Err(LinkError::Reply("none")) };
        // What other instances have heard is applied even if the engine refuses our writes.
        let is_behind = self.apply(engine, news).await?;
        let now = self.parts.clock.now();
        for write in writes.iter().take(written) {
            reply::text(write)?;
            self.outbox.acknowledge(now);
        }
        self.batches = (self.batches * 2).min(MOST_BATCHES);
        Ok(is_behind || self.outbox.has_unsent())
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

    /// Applies the entries that were read. Returns whether a log has more entries.
    async fn apply(&mut self, engine: &mut EngineConnection, news: &Value) -> Result<bool, LinkError> {
        let mut is_behind = false;
        for (key, entries) in reply::logs(news)? {
            let partition = Partition::all().find(|partition| self.keys.log(*partition).as_bytes() == key);
            let partition = partition.ok_or(LinkError::Reply("XREAD"))?;
            is_behind |= entries.len() >= self.batches;
            for entry in entries {
                if let Some(batch) = follower::read(&entry, self.instance, &self.parts.metrics) {
                    let zones = batch.zones_fingerprint;
                    if !self.follower.knows_zones(zones) {
                        self.look_up_zones(engine, zones).await?;
                    }
                    let ShareParts { store, topology, clock, shared, metrics, forwarding, .. } = &self.parts;
                    let now = clock.now();
                    let ago = ago(shared.engine_time(now), entry.id.time, batch.age);
                    let map = self.follower.zones(zones).cloned().unwrap_or_default();
                    let accepted = |record: &SharedRecord| {
                        forwarding.iter().for_each(|others| others.heard(&client_elsewhere(record), ago));
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

    /// Writes the note of this instance, counts all instances, and removes the notes of instances that are gone.
    async fn beat(&self, engine: &mut EngineConnection) -> Result<(), LinkError> {
        let now = self.parts.shared.engine_time(self.parts.clock.now());
        let note = InstanceNote {
            addresses: self.parts.addresses.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.unwrap_or_default().0,
            beat: now.0,
            upstream: forwarding::own_addresses(self.parts.forwarding.as_ref()),
        };
        let mut commands = pipe();
        commands.cmd("HSET").arg(self.keys.instances()).arg(self.name()).arg(note.to_json());
        commands.cmd("HGETALL").arg(self.keys.instances());
        let replies = engine.ask(&commands).await?;
        let [written, notes] = replies.as_slice() else { return Err(LinkError::Reply("none")) };
        reply::checked(written)?;
        let notes = reply::pairs(notes)?;
        forwarding::note_addresses(self.parts.forwarding.as_ref(), &notes, &self.name());
        let (count, gone) = instances::count(&notes, now);
        self.parts.metrics.instances.set(count);
        if !gone.is_empty() {
            let mut removal = pipe();
            removal.cmd("HDEL").arg(self.keys.instances()).arg(gone);
            reply::checked(engine.ask(&removal).await?.first().unwrap_or(&Value::Nil))?;
        }
        Ok(())
    }

    /// Returns the name of this instance among all instances.
    fn name(&self) -> String {
        format!("{:016x}", self.instance)
    }

    /// Writes the records that are left, and removes the note of this instance. The instance does not listen any more, so
    /// no further records come.
    async fn finish(&mut self) -> Result<(), LinkError> {
        let mut engine = sentinel::connect(&self.options.target).await?;
        loop {
            self.outbox.gather(self.parts.shared.pending());
            let mut commands = pipe();
            self.write(&mut commands);
            if commands.is_empty() {
                break;
            }
            for write in engine.ask(&commands).await? {
                reply::text(&write)?;
                self.outbox.acknowledge(self.parts.clock.now());
            }
        }
        let mut farewell = pipe();
        farewell.cmd("HDEL").arg(self.keys.instances()).arg(self.name());
        reply::checked(engine.ask(&farewell).await?.first().unwrap_or(&Value::Nil))?;
        Ok(())
    }

    fn note_success(&mut self, is_behind: bool) {
        let ShareParts { state, metrics, shared, clock, .. } = &self.parts;
        self.exchanged = clock.now();
        metrics.up.set(1);
        metrics.pending.set(i64::try_from(shared.pending().pending()).unwrap_or(i64::MAX));
        let engine_now = shared.engine_time(self.exchanged);
        let behind = Partition::all().map(|partition| self.follower.position(partition).time).max();
        let lag = behind.filter(|_| is_behind).map_or(0, |behind| engine_now.0.saturating_sub(behind.0));
        metrics.lag.set(Duration::from_millis(lag).as_secs_f64());
        let target = &self.options.target;
        match state.end_alone() {
            Some(alone) if self.told => {
                let seconds = alone.since.elapsed().unwrap_or_default().as_secs();
                log::info!(
                    "share: no longer alone after {seconds} s: {target} answers again, and missed records follow now"
                );
            }
            Some(_) => log::info!("share: this instance shares its swarms through {target}"),
            None => {}
        }
        self.told = false;
        if !is_behind && state.catch_up() {
            log::info!("share: caught up with the other instances, this instance is ready");
        }
    }

    fn note_failure(&mut self, error: &LinkError) {
        let ShareParts { state, metrics, shared, clock, .. } = &self.parts;
        if matches!(error, LinkError::Late) {
            self.batches = (self.batches / 2).max(1);
        }
        metrics.up.set(0);
        metrics.failed(error.reason());
        metrics.pending.set(i64::try_from(shared.pending().pending()).unwrap_or(i64::MAX));
        let silence = clock.now().tenths().saturating_sub(self.exchanged.tenths());
        metrics.lag.set(f64::from(silence) / 10.0);
        let why = format!("{} {error}. {}", self.options.target, error.remedy());
        if !self.told {
            log::warn!(
                "share: alone: {why} Meanwhile this instance answers announces from its own memory, and writes its records later"
            );
            self.told = true;
        }
        state.begin_alone(SystemTime::now(), why);
    }
}

/// Returns the pause before connecting again after this many failures in a row. The pause is random, because the
/// instances must not all connect at the same moment.
fn pause(failures: u32) -> Duration {
    let [first, longest] = BACK_OFF;
    let pause = first.saturating_mul(1 << failures.min(10)).min(longest);
    pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}
