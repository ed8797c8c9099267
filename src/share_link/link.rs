//! The loop, which writes what this instance hears, and reads what all instances have written.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use redis::{Value, pipe};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::connection::EngineConnection;
use super::error::LinkError;
use super::exchange::{BatchExchange, Exchanged};
use super::forwarding;
use super::instances::{self, InstanceNote};
use super::keys::EngineKeys;
use super::parts::ShareParts;
use super::reply;
use super::sentinel;
use super::survey::EngineSurvey;
use super::target::ShareOptions;
use crate::clock::Timestamp;
use crate::forward::OtherInstances;
use crate::share::{EngineTime, Partition};

/// How often batches are written and read.
const TICK: Duration = Duration::from_millis(100);
/// How often the instance writes its note into the engine.
const BEAT: Duration = Duration::from_secs(10);
/// How often the loop asks for the engine's clock and all epochs. Each exchange asks for the epoch of the first log.
const SURVEY: Duration = Duration::from_mins(1);
/// The pauses before connecting again: the first and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// How long the last batches may take at the end of the process.
const LAST: Duration = Duration::from_secs(1);

/// The loop between this instance and the engine.
///
/// What can be lost, and what repairs it:
/// - A server without the last writes may become the primary. So after each loss of the connection, the loop writes
///   again what the engine acknowledged in the ten seconds before the loss, and reads again what it read in these
///   seconds. A record that is applied twice does no harm.
/// - The engine may have forgotten the logs, may be another server than before, may have set its clock, or may have been
///   away until records were dropped. Then each peer is shared once more, at its next announce
///   ([`SharedSwarms::resync`]).
/// - If another server has become the primary, this instance may have written to the old primary while other instances
///   already wrote to the new one. So this instance reads again what the new primary has got since this instance's
///   writes last reached it.
///
/// [`SharedSwarms::resync`]: crate::share::SharedSwarms::resync
#[derive(Debug)]
pub struct ShareLink {
    options: ShareOptions,
    logs: BatchExchange,
    /// The server that the instance has reached last.
    server: Option<String>,
    /// When this instance reached the engine for the first time, by the engine's clock.
    started: Option<EngineTime>,
    /// When the last exchange succeeded.
    exchanged: Timestamp,
    /// Whether this instance has already logged that it is alone.
    told: bool,
}

impl ShareLink {
    /// Makes the loop, which does nothing before [`Self::run`].
    pub fn new(options: ShareOptions, parts: ShareParts) -> Self {
        let exchanged = parts.clock.now();
        let logs = BatchExchange::new(EngineKeys::new(&options.name), parts);
        Self { options, logs, server: None, started: None, exchanged, told: false }
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
            if self.exchanged > before {
                failures = 0;
                self.logs.follower.step_back();
            } else {
                failures += 1;
            }
            self.note_failure(&error);
            sleep(pause(failures)).await;
        }
    }

    /// Connects to the engine, and exchanges batches until an exchange fails.
    async fn follow(&mut self) -> Result<Infallible, LinkError> {
        let mut engine = sentinel::connect(&self.options.target).await?;
        self.survey(&mut engine).await?;
        // Sends again the batches that were at risk when the engine last answered. It does not matter how long the
        // engine has been away since.
        self.logs.outbox.resend(self.exchanged);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut surveyed, mut beat) = (Instant::now(), None::<Instant>);
        loop {
            let Exchanged { is_behind, has_forgotten } = self.logs.exchange(&mut engine).await?;
            self.note_success(is_behind);
            if beat.is_none_or(|beat| beat.elapsed() >= BEAT) {
                self.beat(&mut engine).await?;
                beat = Some(Instant::now());
            }
            if has_forgotten || surveyed.elapsed() >= SURVEY {
                self.survey(&mut engine).await?;
                self.logs.follower.forget_zones();
                surveyed = Instant::now();
            }
            if !is_behind {
                tick.tick().await;
            }
        }
    }

    /// Checks whether the engine is still the same. If it is not, each peer is shared once more.
    async fn survey(&mut self, engine: &mut EngineConnection) -> Result<(), LinkError> {
        let names: Vec<_> = self.logs.parts.topology.zones().map(|(_, name)| name).collect();
        let names = serde_json::to_string(&names).unwrap_or_default();
        let udp_key = self.logs.parts.state.udp_key();
        let name = self.name();
        let survey =
            EngineSurvey::make(engine, &self.logs.keys, self.logs.zones_fingerprint, &names, &name, udp_key).await?;
        survey.udp_key.into_iter().for_each(|key| self.logs.parts.state.note_udp_key(key));
        let now = self.logs.parts.clock.now();
        let is_first = self.started.is_none();
        if self.logs.parts.shared.align(now, survey.time) && !is_first {
            self.logs.parts.metrics.resynced("clock");
        }
        self.started.get_or_insert(survey.time);
        let forgotten =
            survey.epochs.iter().filter(|(partition, epoch)| self.logs.follower.note_epoch(*partition, epoch));
        if forgotten.count() > 0 {
            self.resync("epoch");
        }
        if self.server.as_ref().is_some_and(|server| *server != survey.server) {
            self.logs.follower.read_again_since(survey.beat);
            self.resync("restart");
        }
        self.server = Some(survey.server);
        Ok(())
    }

    fn resync(&self, reason: &'static str) {
        self.logs.parts.shared.resync(self.logs.parts.clock.now());
        self.logs.parts.metrics.resynced(reason);
    }

    /// Writes the note of this instance, counts all instances, and removes the notes that are older than an hour.
    async fn beat(&self, engine: &mut EngineConnection) -> Result<(), LinkError> {
        let now = self.logs.parts.shared.engine_time(self.logs.parts.clock.now());
        let note = InstanceNote {
            addresses: self.logs.parts.addresses.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.unwrap_or_default().0,
            beat: now.0,
            upstream: forwarding::own_addresses(self.logs.parts.forwarding.as_ref()),
            via: self.logs.parts.forwarding.as_ref().map(OtherInstances::name).unwrap_or_default(),
        };
        let mut commands = pipe();
        commands.cmd("HSET").arg(self.logs.keys.instances()).arg(self.name()).arg(note.to_json());
        commands.cmd("HGETALL").arg(self.logs.keys.instances());
        let replies = engine.ask(&commands).await?;
        let [written, notes] = replies.as_slice() else { return Err(LinkError::Reply("none")) };
        reply::checked(written)?;
        let notes = reply::pairs(notes)?;
        let others = instances::others(&notes, &self.name(), now);
        forwarding::note_others(self.logs.parts.forwarding.as_ref(), &others);
        let (count, gone) = instances::count(&notes, now);
        self.logs.parts.metrics.instances.set(count);
        if !gone.is_empty() {
            let mut removal = pipe();
            removal.cmd("HDEL").arg(self.logs.keys.instances()).arg(gone);
            reply::checked(engine.ask(&removal).await?.first().unwrap_or(&Value::Nil))?;
        }
        Ok(())
    }

    /// Returns the name of this instance among all instances.
    fn name(&self) -> String {
        format!("{:016x}", self.logs.instance)
    }

    /// Writes the records that are left, and removes the note of this instance. The instance does not listen any more, so
    /// no further records come.
    async fn finish(&mut self) -> Result<(), LinkError> {
        let mut engine = sentinel::connect(&self.options.target).await?;
        self.logs.write_all(&mut engine).await?;
        let mut farewell = pipe();
        farewell.cmd("HDEL").arg(self.logs.keys.instances()).arg(self.name());
        reply::checked(engine.ask(&farewell).await?.first().unwrap_or(&Value::Nil))?;
        Ok(())
    }

    fn note_success(&mut self, is_behind: bool) {
        let ShareParts { state, metrics, shared, clock, .. } = &self.logs.parts;
        self.exchanged = clock.now();
        metrics.up.set(1);
        metrics.pending.set(i64::try_from(shared.pending().pending()).unwrap_or(i64::MAX));
        let engine_now = shared.engine_time(self.exchanged);
        let behind = Partition::all().map(|partition| self.logs.follower.position(partition).time).max();
        let lag = behind.filter(|_| is_behind).map_or(0, |behind| engine_now.0.saturating_sub(behind.0));
        metrics.lag.set(Duration::from_millis(lag).as_secs_f64());
        let target = &self.options.target;
        match state.end_alone() {
            Some(alone) if self.told => {
                let seconds = alone.since.elapsed().unwrap_or_default().as_secs();
                log::info!(
                    "share: no longer alone after {seconds} s: {target} answers again; this instance now writes the records that \
                     waited, and reads those of the others"
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
        if matches!(error, LinkError::Late) {
            self.logs.shrink();
        }
        let ShareParts { state, metrics, shared, clock, .. } = &self.logs.parts;
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
