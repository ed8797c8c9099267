//! One configured upstream tracker: its queue, its circuit and its exchanges.

mod logging;
mod outcomes;
mod own_addresses;
mod promptness;
mod settings;
mod turn_queue;

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use self::logging::{Again, Consequence, LoggedExchange, Warning};
use self::outcomes::{call_outcome, exchange_outcome};
use self::own_addresses::OwnAddresses;
use self::promptness::Promptness;
use self::settings::Settings;
use self::turn_queue::TurnQueue;
use super::announce::{ClientKey, UpstreamAnnounce};
use super::circuit::{Admission, CallOutcome, Circuit, CircuitState};
use super::error::ForwardError;
use super::exchange::{ExchangeReply, ExchangeRequest};
use super::headers::PassedHeaders;
use super::health::Health;
use super::options::{AnnouncedIp, ForwarderOptions};
use super::queue::RequestSource;
use super::session::{ExchangeOutcome, UpstreamEvent};
use super::status::ForwarderStatus;
use super::upstream::UpstreamClient;
use crate::clock;
use crate::metrics::{ForwarderMetrics, ForwarderSample, Metrics};
use crate::topology::reach::is_outside;
use tracker_protocol::{AnnounceRequest, InfoHash};

/// A forwarder that is no longer configured checks this often whether it can be dropped.
const UNUSED_CHECK: Duration = Duration::from_mins(1);

/// One configured upstream tracker. Its sessions depend on uri, host, ip and ca, so only other settings may change.
pub(super) struct Forwarder {
    upstream: UpstreamClient,
    /// Which address of a client is sent to the upstream.
    ip: AnnouncedIp,
    settings: RwLock<Settings>,
    turns: TurnQueue<Exchange>,
    promptness: Promptness,
    own_addresses: Mutex<OwnAddresses>,
    sessions: AtomicI64,
    lists: AtomicI64,
    circuit: Mutex<Circuit>,
    health: Mutex<Health>,
    /// When the forwarder was removed from the configuration. Since then it only gets `stopped`, for each client it
    /// lists.
    retired: OnceLock<Instant>,
}

/// An exchange that waits for its turn, or is under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) forwarder: Arc<Forwarder>,
    /// How the circuit would have admitted the exchange when it was queued.
    pub(super) admission: Admission,
    pub(super) client: ClientKey,
    /// The serial of the torrent's state that began the exchange.
    pub(super) torrent: u64,
    /// The client's latest announce.
    pub(super) request: AnnounceRequest,
    /// The address that is sent to the upstream, if any.
    pub(super) ip: Option<IpAddr>,
    pub(super) source: RequestSource,
    pub(super) headers: PassedHeaders,
    pub(super) event: UpstreamEvent,
    /// The serial of the client's session with the forwarder.
    pub(super) session: u64,
    pub(super) tracker_id: Option<Vec<u8>>,
}

impl Exchange {
    /// Returns whether this exchange is expected to bring a list of peers. A `stopped` brings no list, and no list is
    /// expected of a probe.
    pub(super) fn brings_list(&self) -> bool {
        self.event != UpstreamEvent::Stopped && self.admission == Admission::Regular
    }
}

/// An exchange that may begin. It holds the permit until the exchange ends.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) exchange: Exchange,
    pub(super) admission: Admission,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Why an exchange does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// The forwarder's circuit is open.
    Open,
    /// The forwarder is paused.
    Paused,
}

impl Skipped {
    fn by(state: CircuitState) -> Self {
        match state {
            CircuitState::Paused { .. } => Self::Paused,
            CircuitState::Closed | CircuitState::Open { .. } | CircuitState::Probing => Self::Open,
        }
    }
}

impl Forwarder {
    pub(super) fn new(
        options: &ForwarderOptions,
        timeout: Duration,
        upstream: UpstreamClient,
        metrics: &Metrics,
    ) -> Self {
        Self {
            upstream,
            ip: options.ip,
            settings: RwLock::new(Settings::new(options, timeout, metrics)),
            turns: TurnQueue::new(),
            promptness: Promptness::default(),
            own_addresses: Mutex::new(OwnAddresses::new(options.ip)),
            sessions: AtomicI64::new(0),
            lists: AtomicI64::new(0),
            circuit: Mutex::new(Circuit::new(clock::now())),
            health: Mutex::default(),
            retired: OnceLock::new(),
        }
    }

    /// Adopts the settings of an entry and returns true. Returns false and changes nothing if the upstream would see a
    /// difference. `timeout` applies if the entry names none.
    pub(super) fn adopts(&self, options: &ForwarderOptions, timeout: Duration, metrics: &Metrics) -> bool {
        let mut settings = self.settings.write();
        let looks_same = settings.looks_like(options);
        if looks_same && settings.options != *options {
            *settings = Settings::new(options, timeout, metrics);
        }
        looks_same
    }

    /// Returns whether the torrent of this announce is announced to this forwarder.
    pub(super) fn is_told(&self, announce: &UpstreamAnnounce<'_>) -> bool {
        let settings = self.settings.read();
        settings.serves(announce.request.info_hash) && (!announce.is_confidential || settings.names_torrents())
    }

    /// Records that the forwarder is no longer configured.
    pub(super) fn retire(&self) {
        // `set` cannot fail, because a forwarder is retired only once.
        let _ = self.retired.set(clock::now());
        self.settings.write().metrics = ForwarderMetrics::unexposed();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get().is_some()
    }

    /// Waits until the forwarder is no longer configured and has nothing more to send.
    pub(super) async fn is_unused(&self) {
        loop {
            sleep(UNUSED_CHECK).await;
            let is_idle = self.sessions.load(Relaxed) == 0 && self.turns.waiting() == 0;
            if self.is_retired() && is_idle {
                return;
            }
        }
    }

    /// Returns when a torrent became hidden from this forwarder. Hidden torrents are not announced. `None` if it is not
    /// hidden.
    pub(super) fn hidden_since(&self, info_hash: InfoHash) -> Option<Instant> {
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

    /// Returns how the circuit would admit an exchange now.
    pub(super) fn would_admit(&self, now: Instant) -> Result<Admission, Skipped> {
        self.circuit.lock().would_admit(now).map_err(Skipped::by)
    }

    /// Queues an exchange. If too many exchanges wait, one of them is dropped and returned.
    pub(super) fn enqueue(&self, exchange: Exchange) -> Option<Exchange> {
        let dropped = self.turns.add(exchange.source, exchange);
        if dropped.is_some() {
            self.settings.read().metrics.skipped_busy.inc();
        }
        dropped
    }

    /// Returns the next exchange whose turn it is, with its permit.
    pub(super) async fn next_turn(&self) -> (Exchange, OwnedSemaphorePermit) {
        self.turns.next(|| self.settings.read().rate()).await
    }

    /// Returns how the circuit admits an exchange; `None` if it does not. An admitted exchange must be carried out.
    pub(super) fn admit(&self, now: Instant) -> Option<Admission> {
        let admission = self.circuit.lock().admit(now).map_err(Skipped::by);
        admission.inspect_err(|&skipped| self.count_skipped(skipped)).ok()
    }

    /// Returns the flag that says whether announces may wait for this forwarder.
    pub(super) fn promptness(&self) -> &Promptness {
        &self.promptness
    }

    /// Records that an announce has waited for this forwarder until the deadline and got no list of peers.
    pub(super) fn set_late(&self) {
        if self.promptness.set_late() {
            let name = &self.settings.read().options.name;
            log::info!("forwarder {name}: did not reply in time; no announce waits for it until it replies in time");
        }
    }

    /// Returns the address that is sent to the upstream for a client at this address.
    pub(super) fn announced_ip(&self, client: IpAddr) -> Option<IpAddr> {
        match self.ip {
            AnnouncedIp::AsSeen => None,
            AnnouncedIp::Fixed(ip) => Some(ip),
            // Other peers of the upstream cannot connect to an address of a private network.
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

    /// Carries out an exchange, and records how it went.
    pub(super) async fn carry_out(
        &self,
        admitted: &Admitted,
        deadline: Duration,
    ) -> (ExchangeOutcome, Option<ExchangeReply>) {
        let settings = self.settings.read().clone();
        let start = Instant::now();
        let result = self.send(&admitted.exchange, &settings).await;
        let (now, elapsed) = (clock::now(), start.elapsed());
        let name = &settings.options.name;
        let error = result.as_ref().err();
        self.end_admission(name, admitted.admission, error.map_or(CallOutcome::Alive, call_outcome), now);
        self.promptness.exchange_took(elapsed, deadline);
        let change = self.health.lock().record(error, elapsed, now);
        logging::health(name, change, error);
        let Admitted { exchange: Exchange { request, event, .. }, admission, .. } = admitted;
        let subject = LoggedExchange { request, event: *event, admission: *admission };
        match result {
            Ok(answer) => {
                let ExchangeReply { reply, from, .. } = &answer;
                // UDP has no status. The Go retracker counts success as 200, and so do we.
                settings.metrics.exchange_ended("ok", Some(200), elapsed, reply.peers.len());
                let outcome = ExchangeOutcome::accepted(reply);
                let (again, warning) = (Again(*event, &outcome), Warning(reply.warning.as_deref()));
                let (peers, seeds, others) = (reply.peers.len(), reply.complete, reply.incomplete);
                logging::exchange(
                    name,
                    &subject,
                    elapsed,
                    &format_args!(
                        "{peers} peers, {seeds} seeds and {others} others known, from {from}{again}{warning}"
                    ),
                );
                (outcome, Some(answer))
            }
            Err(error) => {
                settings.metrics.exchange_ended(error.label(), error.status(), elapsed, 0);
                let outcome = exchange_outcome(&error);
                let (again, consequence) = (Again(*event, &outcome), Consequence(self.circuit.lock().state(), now));
                logging::exchange(name, &subject, elapsed, &format_args!("{error}{again}{consequence}"));
                (outcome, None)
            }
        }
    }

    async fn send(&self, exchange: &Exchange, settings: &Settings) -> Result<ExchangeReply, ForwardError> {
        let Exchange { request, event, .. } = exchange;
        let request = AnnounceRequest { event: event.on_wire(request.event), ..request.clone() };
        let outgoing = ExchangeRequest {
            request: &request,
            numwant: if *event == UpstreamEvent::Stopped { 0 } else { settings.numwant() },
            ip: exchange.ip,
            tracker_id: exchange.tracker_id.as_deref(),
            headers: &exchange.headers,
        };
        let sent = AssertUnwindSafe(self.upstream.announce(&outgoing, settings.timeout)).catch_unwind().await;
        sent.unwrap_or_else(|_| {
            // A panic is a bug, ours or a library's. Without this outcome, a probe would keep the circuit open for
            // ever.
            log::error!("forwarder {}: an exchange panicked", settings.options.name);
            Err(ForwardError::Junk { what: "what it sent cannot be handled".to_owned(), status: None })
        })
    }

    /// Returns our addresses as the upstream sees them.
    pub(super) fn own_addresses(&self) -> MutexGuard<'_, OwnAddresses> {
        self.own_addresses.lock()
    }

    /// Returns the URL of the upstream.
    pub(super) fn url(&self) -> String {
        self.settings.read().options.uri.to_string()
    }

    fn end_admission(&self, name: &str, admission: Admission, call: CallOutcome, now: Instant) {
        let mut circuit = self.circuit.lock();
        let before = circuit.state();
        circuit.ended(admission, call, now);
        let after = circuit.state();
        drop(circuit);
        logging::circuit(name, before, after, now);
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
            in_flight: self.turns.in_flight(),
            waiting: self.turns.waiting(),
            sessions: self.sessions.load(Relaxed),
            lists: self.lists.load(Relaxed),
            exchanges: health.outcomes().clone(),
            mean_latency: health.mean_latency(),
            last_error: health.last_error(now),
        }
    }

    /// Returns how many exchanges wait for their turn, and how many the full queue dropped.
    pub(super) fn queue(&self) -> (usize, u64) {
        (self.turns.waiting(), self.settings.read().metrics.skipped_busy.get())
    }

    /// Returns the gauges of the metrics.
    pub(super) fn sample(&self) -> ForwarderSample {
        ForwarderSample {
            name: self.settings.read().options.name.clone(),
            in_flight: i64::try_from(self.turns.in_flight()).unwrap_or(i64::MAX),
            waiting: i64::try_from(self.turns.waiting()).unwrap_or(i64::MAX),
            sessions: self.sessions.load(Relaxed),
            lists: self.lists.load(Relaxed),
            circuit: self.circuit.lock().state().label(),
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("options", &self.settings.read().options).finish_non_exhaustive()
    }
}
