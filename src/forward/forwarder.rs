//! One configured upstream tracker: whether it is asked at all, what it is asked, and what follows from the answer.

mod words;

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use self::words::{Again, Warning};
use super::circuit::{Admission, CallOutcome, Circuit, CircuitState};
use super::client::ClientKey;
use super::error::ForwardError;
use super::health::{Health, HealthChange};
use super::http::PassedHeaders;
use super::own::address_towards;
use super::queue::{ExchangeRate, FairQueue, MAX_WAITING, RequestSource};
use super::session::{ExchangeOutcome, UpstreamEvent};
use super::upstream::{Ask, Upstream, UpstreamAnswer};
use super::{AnnouncedIp, ForwarderOptions, ForwarderStatus, Torrents};
use crate::clock;
use crate::metrics::{ForwarderMetrics, ForwarderSample, Metrics};
use crate::topology::reach::is_outside;
use tracker_protocol::upstream::Retry;
use tracker_protocol::{AnnounceRequest, InfoHash};

/// Exchanges that may be under way with one forwarder. Others wait for their turn: an upstream that does not answer must
/// not hold more and more descriptors.
const MAX_IN_FLIGHT: usize = 256;

/// Exchanges that one forwarder is asked for in a second, unless its entry says otherwise.
const RATE: u32 = 200;

/// How often it is looked whether a forwarder that is no longer configured can be forgotten.
const UNUSED_CHECK: Duration = Duration::from_mins(1);

/// Peers that an upstream is asked for: as many as one client can get. What it gives is for all local clients.
pub(super) const NUMWANT: u32 = 200;

/// One configured upstream tracker. What it knows of our peers hangs on its uri, its host and its ip; all else of an entry
/// may change during its life.
pub(super) struct Forwarder {
    upstream: Upstream,
    /// What it is told of a client's address. Like its uri and its host, it stays as it is.
    ip: AnnouncedIp,
    settings: RwLock<Settings>,
    /// What waits for its turn.
    waiting: Mutex<FairQueue<Exchange>>,
    /// Told when something does.
    has_waiting: Notify,
    pace: Mutex<ExchangeRate>,
    /// Permits for the exchanges under way.
    permits: Arc<Semaphore>,
    /// Whether announces wait for it no longer, because one of them did so in vain.
    late: watch::Sender<bool>,
    /// Our addresses by family as it sees them (BEP 24).
    external_ips: Mutex<[Option<IpAddr>; 2]>,
    sessions: AtomicI64,
    lists: AtomicI64,
    circuit: Mutex<Circuit>,
    health: Mutex<Health>,
    /// When it ceased to be configured: its peers are signed off, and it is told of no others.
    retired: OnceLock<Instant>,
}

#[derive(Clone)]
struct Settings {
    options: ForwarderOptions,
    timeout: Duration,
    metrics: ForwarderMetrics,
    since: Instant,
}

/// An exchange that waits for its turn, or is under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) forwarder: Arc<Forwarder>,
    /// How it was to begin when it was due.
    pub(super) admission: Admission,
    /// Whose it is.
    pub(super) client: ClientKey,
    /// The serial of the torrent that it belongs to.
    pub(super) torrent: u64,
    /// The client's latest announce.
    pub(super) request: AnnounceRequest,
    /// The address that the upstream is told, if any.
    pub(super) ip: Option<IpAddr>,
    /// Who caused it.
    pub(super) source: RequestSource,
    pub(super) along: PassedHeaders,
    pub(super) event: UpstreamEvent,
    /// The serial of the session that it belongs to.
    pub(super) session: u64,
    pub(super) tracker_id: Option<Vec<u8>>,
}

impl Exchange {
    /// Whether there is hope for peers: not from a farewell, nor from a forwarder that has not answered for a while.
    pub(super) fn brings_a_list(&self) -> bool {
        self.event != UpstreamEvent::Stopped && self.admission == Admission::Regular
    }
}

/// An exchange that may begin, and holds a permit until it ends.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) exchange: Exchange,
    pub(super) admission: Admission,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Why an exchange does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// The forwarder fails, and is left alone for a while.
    Open,
    /// It asked to be left alone for a while.
    Paused,
}

impl Forwarder {
    pub(super) fn new(options: &ForwarderOptions, timeout: Duration, upstream: Upstream, metrics: &Metrics) -> Self {
        Self {
            upstream,
            ip: options.ip,
            settings: RwLock::new(Settings::new(options, timeout, metrics)),
            waiting: Mutex::new(FairQueue::new(MAX_WAITING)),
            has_waiting: Notify::new(),
            pace: Mutex::new(ExchangeRate::new(Instant::now())),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            late: watch::Sender::new(false),
            external_ips: Mutex::default(),
            sessions: AtomicI64::new(0),
            lists: AtomicI64::new(0),
            circuit: Mutex::new(Circuit::new(clock::now())),
            health: Mutex::default(),
            retired: OnceLock::new(),
        }
    }

    /// Takes an entry over that differs in nothing that the upstream sees; false if it differs in more. `timeout` is for
    /// an entry that names none.
    pub(super) fn takes_over(&self, options: &ForwarderOptions, timeout: Duration, metrics: &Metrics) -> bool {
        let seen =
            |options: &ForwarderOptions| (options.uri.clone(), options.host.clone(), options.ip, options.ca.clone());
        let mut settings = self.settings.write();
        let same = seen(&settings.options) == seen(options);
        if same && settings.options != *options {
            *settings = Settings::new(options, timeout, metrics);
        }
        same
    }

    /// Whether it may be told of a torrent at all.
    pub(super) fn serves(&self, info_hash: InfoHash) -> bool {
        self.settings.read().serves(info_hash)
    }

    pub(super) fn retire(&self) {
        // Nobody does so twice.
        let _ = self.retired.set(clock::now());
        self.settings.write().metrics = ForwarderMetrics::unexposed();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get().is_some()
    }

    /// Done once it is no longer configured and there is nothing left to tell it.
    pub(super) async fn is_unused(&self) {
        loop {
            sleep(UNUSED_CHECK).await;
            let is_idle = self.sessions.load(Relaxed) == 0 && self.waiting.lock().len() == 0;
            if self.is_retired() && is_idle {
                return;
            }
        }
    }

    /// Since when it is no longer to know of a torrent, if that is so.
    pub(super) fn leaves_out_since(&self, info_hash: InfoHash) -> Option<Instant> {
        self.retired.get().copied().or_else(|| {
            let settings = self.settings.read();
            (!settings.serves(info_hash)).then_some(settings.since)
        })
    }

    pub(super) fn count_sessions(&self, change: i64) {
        self.sessions.fetch_add(change, Relaxed);
    }

    pub(super) fn count_lists(&self, change: i64) {
        self.lists.fetch_add(change, Relaxed);
    }

    /// How an exchange would begin that is due now, if it would.
    pub(super) fn would_admit(&self, now: Instant) -> Result<Admission, Skipped> {
        self.circuit.lock().would_admit(now).map_err(Skipped::by)
    }

    /// Has an exchange wait for its turn. Returns one that gives way because too many wait.
    pub(super) fn wait_for_turn(&self, exchange: Exchange) -> Option<Exchange> {
        let dropped = self.waiting.lock().push(exchange.source, exchange);
        if dropped.is_some() {
            self.settings.read().metrics.skipped_busy.inc();
        }
        self.has_waiting.notify_one();
        dropped
    }

    /// The next exchange whose turn it is, with its permit, as soon as the forwarder may be asked again.
    pub(super) async fn next_turn(&self) -> (Exchange, OwnedSemaphorePermit) {
        loop {
            while self.waiting.lock().len() == 0 {
                self.has_waiting.notified().await;
            }
            // A semaphore that is never closed gives a permit.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { std::future::pending().await };
            let rate = self.settings.read().options.rate.map_or(RATE, NonZeroU32::get);
            let turn = self.pace.lock().take(rate, Instant::now());
            sleep_until(turn).await;
            // Only now: those that have come meanwhile take turns with those that were there.
            let next = self.waiting.lock().pop();
            if let Some(exchange) = next {
                return (exchange, permit);
            }
        }
    }

    /// Whether an exchange whose turn it is may begin; then it must be carried out.
    pub(super) fn admit(&self, now: Instant) -> Option<Admission> {
        let admission = self.circuit.lock().admit(now).map_err(Skipped::by);
        admission.inspect_err(|&skipped| self.count_skipped(skipped)).ok()
    }

    /// Whether announces may wait for it: until one has done so in vain, and again once an exchange has ended in time.
    pub(super) fn is_prompt(&self) -> bool {
        !*self.late.borrow()
    }

    /// An announce has waited for it in vain. All others that wait for it go on without it.
    pub(super) fn is_late(&self) {
        let name = || self.settings.read().options.name.clone();
        if !self.late.send_replace(true) {
            log::info!("forwarder {}: answers too late to be waited for; its peers come with later announces", name());
        }
    }

    /// Done once announces no longer wait for it.
    pub(super) async fn becomes_late(&self) {
        // An error means that the forwarder is gone, which cannot be while it is borrowed.
        let _ = self.late.subscribe().wait_for(|late| *late).await;
    }

    fn exchange_took(&self, elapsed: Duration, deadline: Duration) {
        if elapsed <= deadline && !self.is_prompt() {
            self.late.send_replace(false);
        }
    }

    /// The address that it is told of a client at this one.
    pub(super) fn announced_ip(&self, client: IpAddr) -> Option<IpAddr> {
        match self.ip {
            AnnouncedIp::AsSeen => None,
            AnnouncedIp::Fixed(ip) => Some(ip),
            // The others of the upstream's swarm have no use for an address of a private network.
            AnnouncedIp::Client => is_outside(client).then_some(client),
        }
    }

    /// Counts an exchange that did not begin.
    pub(super) fn count_skipped(&self, skipped: Skipped) {
        let metrics = &self.settings.read().metrics;
        match skipped {
            Skipped::Open => metrics.skipped_open.inc(),
            Skipped::Paused => metrics.skipped_paused.inc(),
        };
    }

    /// Carries out an exchange, and takes note of how it went. The debug line tells the whole story of it.
    pub(super) async fn carry_out(
        &self,
        admitted: &Admitted,
        deadline: Duration,
    ) -> (ExchangeOutcome, Option<UpstreamAnswer>) {
        let settings = self.settings.read().clone();
        let Admitted { exchange, admission, .. } = admitted;
        let Exchange { request, event, .. } = exchange;
        let request = AnnounceRequest { event: event.for_client(request.event), ..request.clone() };
        let ask = Ask {
            request: &request,
            numwant: if *event == UpstreamEvent::Stopped { 0 } else { settings.options.numwant.unwrap_or(NUMWANT) },
            ip: exchange.ip,
            tracker_id: exchange.tracker_id.as_deref(),
            along: &exchange.along,
        };
        let start = Instant::now();
        let asked = AssertUnwindSafe(self.upstream.announce(&ask, settings.timeout)).catch_unwind().await;
        let result = asked.unwrap_or_else(|_| {
            // A bug of ours or of a library's; it costs this exchange, and its circuit must not wait for ever.
            log::error!("forwarder {}: an exchange ended in a panic", settings.options.name);
            Err(ForwardError::Junk { what: "what it sent cannot be handled".to_owned(), status: None })
        });
        let now = clock::now();
        let elapsed = start.elapsed();
        let call = result.as_ref().map_or_else(call_outcome, |_| CallOutcome::Alive);
        self.end_admission(&settings.options.name, *admission, call, now);
        self.exchange_took(elapsed, deadline);
        self.report(&settings.options.name, result.as_ref().err(), elapsed, now);
        let story = |what: &dyn Display| {
            let (name, event) = (&settings.options.name, event.name());
            let probe = if *admission == Admission::Probe { " as a probe" } else { "" };
            let Exchange { request: AnnounceRequest { info_hash, peer_id, .. }, .. } = exchange;
            log::debug!("forwarder {name}: {info_hash} {event} for peer {peer_id}{probe}, in {elapsed:.1?}: {what}");
        };
        match result {
            Ok(answer) => {
                let UpstreamAnswer { reply, from, .. } = &answer;
                // Over UDP too, where there is no status: the Go retracker's name for success.
                settings.metrics.exchange_ended("ok", Some(200), elapsed, reply.peers.len());
                let outcome = ExchangeOutcome::taken(reply);
                story(&format_args!(
                    "{} peers, {} seeds and {} others known, from {from}{}{}",
                    reply.peers.len(),
                    reply.complete,
                    reply.incomplete,
                    Again(*event, &outcome),
                    Warning(reply.warning.as_deref())
                ));
                (outcome, Some(answer))
            }
            Err(error) => {
                settings.metrics.exchange_ended(error.label(), error.status(), elapsed, 0);
                let outcome = exchange_outcome(&error);
                story(&format_args!("{error}{}{}", Again(*event, &outcome), self.consequence(now)));
                (outcome, None)
            }
        }
    }

    /// The addresses under which the upstream that gave this answer knows our clients, as far as we can tell.
    pub(super) fn our_addresses(&self, answer: &UpstreamAnswer) -> Vec<IpAddr> {
        let fixed = match self.settings.read().options.ip {
            AnnouncedIp::Fixed(ip) => Some(ip),
            AnnouncedIp::AsSeen | AnnouncedIp::Client => None,
        };
        let mut external_ips = self.external_ips.lock();
        // What one upstream says is no matter of the others': it could have their peers taken for ours.
        if let Some(ip) = answer.reply.external_ip.filter(|&ip| is_outside(ip)) {
            let [v4, v6] = &mut *external_ips;
            *(if ip.is_ipv4() { v4 } else { v6 }) = Some(ip);
        }
        let seen = external_ips.iter().copied();
        seen.chain([fixed, answer.reply.external_ip, address_towards(answer.from)]).flatten().collect()
    }

    fn report(&self, name: &str, error: Option<&ForwardError>, elapsed: Duration, now: Instant) {
        let news = self.health.lock().note(error, elapsed, now);
        match (news, error) {
            (Some(HealthChange::Fails), Some(error)) => {
                log::warn!("forwarder {name}: {error}; further failures are logged with -d");
            }
            (Some(HealthChange::AnswersAgain), _) => log::info!("forwarder {name}: answers again"),
            _ => {}
        }
    }

    fn end_admission(&self, name: &str, admission: Admission, call: CallOutcome, now: Instant) {
        let mut circuit = self.circuit.lock();
        let before = circuit.state();
        circuit.ended(admission, call, now);
        let after = circuit.state();
        drop(circuit);
        // Each failed probe is not worth a line.
        match after {
            CircuitState::Open { until } if before == CircuitState::Closed => {
                log::info!("forwarder {name}: left alone for {:.0?}, and then probed", until - now);
            }
            CircuitState::Paused { until } if before.label() != after.label() => {
                log::info!("forwarder {name}: it asks for it, and is left alone for {:.0?}", until - now);
            }
            _ => {}
        }
    }

    /// For the log: what a failure means for the exchanges to come.
    fn consequence(&self, now: Instant) -> String {
        match self.circuit.lock().state() {
            CircuitState::Closed | CircuitState::Probing => String::new(),
            CircuitState::Open { until } => format!("; it is probed in {:.0?}", until.saturating_duration_since(now)),
            CircuitState::Paused { until } => {
                format!("; it is left alone for {:.0?}", until.saturating_duration_since(now))
            }
        }
    }

    pub(super) fn status(&self, now: Instant) -> ForwarderStatus {
        let options = self.settings.read().options.clone();
        let (state, since) = {
            let circuit = self.circuit.lock();
            (circuit.state(), circuit.since())
        };
        let health = self.health.lock();
        ForwarderStatus {
            name: options.name,
            protocol: options.uri.scheme().to_owned(),
            state: state.label(),
            state_for: now.saturating_duration_since(since),
            next_probe_in: match state {
                CircuitState::Open { until } | CircuitState::Paused { until } => {
                    Some(until.saturating_duration_since(now))
                }
                CircuitState::Closed | CircuitState::Probing => None,
            },
            in_flight: self.in_flight(),
            waiting: self.waiting.lock().len(),
            sessions: self.sessions.load(Relaxed),
            lists: self.lists.load(Relaxed),
            exchanges: health.outcomes().clone(),
            mean_latency: health.mean_latency(),
            last_error: health.last_error(now),
        }
    }

    fn in_flight(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.permits.available_permits())
    }

    /// For the metrics.
    pub(super) fn sample(&self) -> ForwarderSample {
        ForwarderSample {
            name: self.settings.read().options.name.clone(),
            in_flight: i64::try_from(self.in_flight()).unwrap_or(i64::MAX),
            waiting: i64::try_from(self.waiting.lock().len()).unwrap_or(i64::MAX),
            sessions: self.sessions.load(Relaxed),
            lists: self.lists.load(Relaxed),
            circuit: self.circuit.lock().state().label(),
        }
    }
}

impl Settings {
    fn new(options: &ForwarderOptions, timeout: Duration, metrics: &Metrics) -> Self {
        Self {
            options: options.clone(),
            timeout: options.timeout.unwrap_or(timeout),
            metrics: metrics.forwarder(&options.name),
            since: clock::now(),
        }
    }

    fn serves(&self, info_hash: InfoHash) -> bool {
        match &self.options.torrents {
            Torrents::All => true,
            Torrents::Only(hashes) => hashes.contains(&info_hash),
            Torrents::Except(hashes) => !hashes.contains(&info_hash),
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("options", &self.settings.read().options).finish_non_exhaustive()
    }
}

impl Skipped {
    fn by(against: CircuitState) -> Self {
        match against {
            CircuitState::Paused { .. } => Self::Paused,
            CircuitState::Closed | CircuitState::Open { .. } | CircuitState::Probing => Self::Open,
        }
    }
}

/// What an error says of the forwarder.
fn call_outcome(error: &ForwardError) -> CallOutcome {
    match error {
        ForwardError::TooLong | ForwardError::Local(_) => CallOutcome::Nothing,
        // Of the statuses that blame the request these do not mean it: too slow, the wrong connection, too early.
        ForwardError::Refused { status: Some(408 | 421 | 425), .. }
        | ForwardError::Status { code: 408 | 421 | 425, .. } => CallOutcome::Failed,
        ForwardError::Refused { .. } | ForwardError::Status { .. } => match (error.status(), error.retry_after()) {
            (Some(429), retry_after) => CallOutcome::Pause(retry_after),
            (Some(503), Some(retry_after)) => CallOutcome::Pause(Some(retry_after)),
            _ if matches!(error, ForwardError::Refused { .. }) => CallOutcome::Alive,
            (Some(400..=499), _) => CallOutcome::Alive,
            _ => CallOutcome::Failed,
        },
        _ => CallOutcome::Failed,
    }
}

/// What an error says of the peer's session.
fn exchange_outcome(error: &ForwardError) -> ExchangeOutcome {
    match (error, call_outcome(error)) {
        (ForwardError::Local(_) | ForwardError::Proxy(_), _) => ExchangeOutcome::Lost,
        (ForwardError::Refused { retry, .. }, CallOutcome::Alive) => ExchangeOutcome::refused(*retry),
        // A 4xx, or an announce that is too long: it will be the same next time.
        (_, CallOutcome::Alive | CallOutcome::Nothing) => ExchangeOutcome::refused(Retry::Unsaid),
        (_, CallOutcome::Pause(_)) | (ForwardError::Dns(_) | ForwardError::Connect(_) | ForwardError::Tls(_), _) => {
            ExchangeOutcome::Lost
        }
        (_, CallOutcome::Failed) => ExchangeOutcome::Unsure,
    }
}
