//! One configured upstream tracker: how it is asked, whether it is asked at all, and how it does.

use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::circuit::{self, Admission, Circuit, Sign, State};
use super::error::ForwardError;
use super::http::{Along, HttpUpstream};
use super::session::{Heard, Telling};
use super::udp::{UdpSockets, UdpUpstream};
use super::{AnnouncedIp, ForwarderOptions, ForwarderStatus, LastError, Torrents};
use crate::bittorrent::address::is_public;
use crate::bittorrent::{AnnounceRequest, InfoHash};
use crate::metrics::{ForwarderMetrics, Metrics};
use crate::wire::upstream::{self, UpstreamReply};

/// Exchanges that may be under way with one forwarder. Past it, exchanges are skipped, not queued: an upstream that does
/// not answer must not hold more and more descriptors.
const MAX_IN_FLIGHT: usize = 256;

/// Peers that an upstream is asked for: as many as one client can get. What it gives is for all local clients.
const NUMWANT: u32 = 200;

/// A forwarder that fails now and then is reported at most this often.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

/// One announce as it goes to an upstream tracker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// The announce, with the event that is to be told.
    pub(super) request: &'a AnnounceRequest,
    /// How many peers are asked for.
    pub(super) numwant: u32,
    /// The address that the upstream is to record.
    pub(super) ip: Option<IpAddr>,
    /// What it gave with its last reply, to be sent back. Over HTTP only.
    pub(super) tracker_id: Option<&'a [u8]>,
    /// Headers. Over HTTP only.
    pub(super) along: &'a Along,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The reply.
    pub(super) reply: UpstreamReply,
    /// The address that gave it.
    pub(super) from: SocketAddr,
}

/// How an upstream tracker is spoken to.
pub(super) enum Upstream {
    Http(Box<HttpUpstream>),
    Udp(Box<UdpUpstream>),
    /// In place of both, where time is simulated.
    #[cfg(test)]
    Simulated(super::simulation::Upstream),
}

impl Upstream {
    /// The error is a sentence for the operator that continues one which names the forwarder.
    pub(super) fn new(options: &ForwarderOptions, sockets: &Arc<UdpSockets>) -> Result<Self, String> {
        let ForwarderOptions { uri, host, ip, .. } = options;
        if uri.scheme() != "udp" {
            return HttpUpstream::new(uri, host.as_deref()).map(Box::new).map(Self::Http);
        }
        if host.is_some() {
            return Err("it has a host, which means nothing over UDP".to_owned());
        }
        if matches!(ip, AnnouncedIp::Fixed(IpAddr::V6(_))) {
            return Err("its ip is an IPv6 address, for which there is no room in UDP announces".to_owned());
        }
        UdpUpstream::new(uri, Arc::clone(sockets)).map(Box::new).map(Self::Udp)
    }

    pub(super) async fn announce(&self, ask: &Ask<'_>, timeout: Duration) -> Result<Answer, ForwardError> {
        match self {
            Self::Http(http) => {
                let mut query = String::with_capacity(512);
                upstream::put_query(&mut query, ask.request, ask.numwant, ask.ip, ask.tracker_id);
                http.announce(&query, ask.along, timeout).await
            }
            Self::Udp(udp) => udp.announce(ask, timeout).await,
            #[cfg(test)]
            Self::Simulated(upstream) => upstream.announce(ask, timeout).await,
        }
    }
}

/// One configured upstream tracker.
pub(super) struct Forwarder {
    options: ForwarderOptions,
    upstream: Upstream,
    timeout: Duration,
    in_flight: AtomicUsize,
    circuit: Mutex<Circuit>,
    health: Mutex<Health>,
    /// It is no longer configured: its peers are signed off, and it is not asked any more.
    retired: AtomicBool,
    pub(super) metrics: ForwarderMetrics,
}

/// How the forwarder did lately.
#[derive(Debug, Default)]
struct Health {
    answered: u64,
    failed: u64,
    last_error: Option<(String, Instant)>,
    /// What the log was told at the default level, where requests are not logged but faults are.
    reported_failing: bool,
    reported: Option<Instant>,
}

/// An exchange that is about to begin, or under way.
pub(super) struct Exchange {
    pub(super) place: Place,
    /// The client's latest announce.
    pub(super) request: AnnounceRequest,
    /// The client's address.
    pub(super) ip: IpAddr,
    pub(super) along: Along,
    pub(super) telling: Telling,
    pub(super) tracker_id: Option<Vec<u8>>,
}

/// A place among the exchanges under way with a forwarder, given back when the exchange ends, however it does.
pub(super) struct Place {
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) admission: Admission,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.forwarder.in_flight.fetch_sub(1, Relaxed);
        self.forwarder.metrics.in_flight.dec();
    }
}

impl Forwarder {
    pub(super) fn new(
        options: &ForwarderOptions,
        default_timeout: Duration,
        upstream: Upstream,
        metrics: &Metrics,
    ) -> Self {
        let metrics = metrics.forwarder(&options.name);
        metrics.circuit_is(State::Closed.label(), &circuit::LABELS);
        Self {
            options: options.clone(),
            upstream,
            timeout: options.timeout.unwrap_or(default_timeout),
            in_flight: AtomicUsize::new(0),
            circuit: Mutex::new(Circuit::new(Instant::now())),
            health: Mutex::default(),
            retired: AtomicBool::new(false),
            metrics,
        }
    }

    pub(super) fn options(&self) -> &ForwarderOptions {
        &self.options
    }

    /// Whether it may be told of a torrent at all.
    pub(super) fn serves(&self, info_hash: InfoHash) -> bool {
        match &self.options.torrents {
            Torrents::All => true,
            Torrents::Only(hashes) => hashes.contains(&info_hash),
            Torrents::Except(hashes) => !hashes.contains(&info_hash),
        }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Whether an exchange may begin. If not, it is counted as skipped.
    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let taken = self.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < MAX_IN_FLIGHT).then_some(n + 1));
        if taken.is_err() {
            self.metrics.exchange_skipped(ForwardError::Busy.label());
            return None;
        }
        self.metrics.in_flight.inc();
        let mut place = Place { forwarder: Arc::clone(self), admission: Admission::Regular };
        match self.change_circuit(|circuit| circuit.admit(now)) {
            Ok(admission) => {
                place.admission = admission;
                Some(place)
            }
            Err(against) => {
                self.metrics.exchange_skipped(against.label());
                None
            }
        }
    }

    fn change_circuit<T>(&self, change: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuit = self.circuit.lock();
        let before = circuit.state();
        let result = change(&mut circuit);
        let after = circuit.state();
        if before.label() != after.label() {
            self.metrics.circuit_is(after.label(), &circuit::LABELS);
        }
        result
    }

    /// Carries out an exchange, and takes note of how it went. The debug line tells the whole story of it.
    pub(super) async fn carry_out(&self, exchange: &Exchange) -> (Heard, Option<Answer>) {
        let Exchange { request, telling, .. } = exchange;
        let start = Instant::now();
        let request = AnnounceRequest { event: telling.event(request.event), ..request.clone() };
        let ask = Ask {
            request: &request,
            numwant: if *telling == Telling::Stopped { 0 } else { self.options.numwant.unwrap_or(NUMWANT) },
            ip: self.announced_ip(exchange.ip),
            tracker_id: exchange.tracker_id.as_deref(),
            along: &exchange.along,
        };
        let result = self.upstream.announce(&ask, self.timeout).await;
        let now = Instant::now();
        let elapsed = now - start;
        let sign = result.as_ref().map_or_else(sign, |_| Sign::Alive);
        self.change_circuit(|circuit| circuit.ended(exchange.place.admission, sign, now));
        self.report(result.as_ref().err(), now);
        let story = |what: &dyn Display| {
            let (name, telling) = (&self.options.name, telling.name());
            let probe = if exchange.place.admission == Admission::Probe { " as a probe" } else { "" };
            log::debug!(
                "forwarder {name}: {} {telling} for peer {}{probe}: {what} after {elapsed:.1?}",
                request.info_hash,
                request.peer_id
            );
        };
        match result {
            Ok(answer) => {
                let Answer { reply, from } = &answer;
                self.metrics.exchange_ended("ok", Some(200), elapsed, reply.peers.len());
                let heard = Heard::taken(reply);
                story(&format_args!(
                    "{} peers, {} seeds and {} others known, from {from}{}{}",
                    reply.peers.len(),
                    reply.complete,
                    reply.incomplete,
                    Interval(&heard),
                    Warning(reply.warning.as_deref())
                ));
                (heard, Some(answer))
            }
            Err(error) => {
                self.metrics.exchange_ended(error.label(), error.status(), elapsed, 0);
                story(&format_args!("{error}{}", self.consequence()));
                (heard(&error), None)
            }
        }
    }

    /// The address that the upstream is to record a client under, in place of the one that it sees.
    fn announced_ip(&self, client: IpAddr) -> Option<IpAddr> {
        match self.options.ip {
            AnnouncedIp::AsSeen => None,
            AnnouncedIp::Fixed(ip) => Some(ip),
            // The others of the upstream's swarm have no use for an address of a private network.
            AnnouncedIp::Client => is_public(client).then_some(client),
        }
    }

    /// The addresses under which the upstream that gave this answer knows our clients.
    pub(super) fn our_addresses(&self, answer: &Answer) -> Vec<IpAddr> {
        let fixed = match self.options.ip {
            AnnouncedIp::Fixed(ip) => Some(ip),
            AnnouncedIp::AsSeen | AnnouncedIp::Client => None,
        };
        [fixed, answer.reply.external_ip, address_towards(answer.from)].into_iter().flatten().collect()
    }

    /// Tells the operator when a forwarder begins to fail, and when it answers again.
    fn report(&self, error: Option<&ForwardError>, now: Instant) {
        let name = &self.options.name;
        let fault = error.filter(|error| error.is_the_forwarders());
        let mut health = self.health.lock();
        match error {
            Some(error) => {
                health.failed += 1;
                health.last_error = Some((error.to_string(), now));
            }
            None => health.answered += 1,
        }
        let told_lately = health.reported.is_some_and(|reported| now - reported < REPORT_PAUSE);
        if health.reported_failing == fault.is_some() || told_lately {
            return;
        }
        health.reported_failing = fault.is_some();
        health.reported = Some(now);
        drop(health);
        match fault {
            Some(error) => log::warn!("forwarder {name}: {error}; further failures are logged with -d"),
            None => log::info!("forwarder {name}: answers again"),
        }
    }

    /// For the log: what a failure means for the exchanges to come.
    fn consequence(&self) -> String {
        let now = Instant::now();
        match self.circuit.lock().state() {
            State::Closed | State::Probing => String::new(),
            State::Open { until } => format!("; it is probed in {:.0?}", until.saturating_duration_since(now)),
            State::Paused { until } => {
                format!("; it asked to be left alone for {:.0?}", until.saturating_duration_since(now))
            }
        }
    }

    pub(super) fn status_at(&self, now: Instant) -> ForwarderStatus {
        let circuit = self.circuit.lock();
        let health = self.health.lock();
        let (state, since) = (circuit.state(), circuit.since());
        ForwarderStatus {
            name: self.options.name.clone(),
            protocol: self.options.uri.scheme().to_owned(),
            state: state.label(),
            state_for: now.saturating_duration_since(since),
            next_probe_in: match state {
                State::Open { until } | State::Paused { until } => Some(until.saturating_duration_since(now)),
                State::Closed | State::Probing => None,
            },
            in_flight: self.in_flight.load(Relaxed),
            sessions: self.metrics.sessions.get(),
            lists: self.metrics.lists.get(),
            answered: health.answered,
            failed: health.failed,
            last_error: health
                .last_error
                .as_ref()
                .map(|(text, when)| LastError { text: text.clone(), ago: now.saturating_duration_since(*when) }),
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What an error says of the forwarder.
fn sign(error: &ForwardError) -> Sign {
    match error {
        ForwardError::TooLong | ForwardError::Busy => Sign::Nothing,
        ForwardError::Refused { .. } | ForwardError::Status { .. } => match (error.status(), error.retry_after()) {
            (Some(429), retry_after) => Sign::Pause(retry_after),
            (Some(503), Some(retry_after)) => Sign::Pause(Some(retry_after)),
            _ if matches!(error, ForwardError::Refused { .. }) => Sign::Alive,
            (Some(400..=499), _) => Sign::Alive,
            _ => Sign::Failed,
        },
        _ => Sign::Failed,
    }
}

/// What an error says of the peer's session.
fn heard(error: &ForwardError) -> Heard {
    match (error, sign(error)) {
        (ForwardError::Refused { retry, .. }, Sign::Alive) => Heard::refused(*retry),
        // A 4xx, or an announce that is too long: it will be the same next time.
        (_, Sign::Alive | Sign::Nothing) => Heard::refused(upstream::Retry::Unsaid),
        _ => Heard::Lost,
    }
}

/// The address of this host from which that one is reached: no packet is sent to find out.
fn address_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// `, again in 1800s`
struct Interval<'a>(&'a Heard);

impl Display for Interval<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Heard::Taken { interval, .. } => write!(f, ", again in {interval:?}"),
            _ => Ok(()),
        }
    }
}

struct Warning<'a>(Option<&'a [u8]>);

impl Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |text| write!(f, ", with the warning \"{}\"", text.escape_ascii()))
    }
}
