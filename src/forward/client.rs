//! One of our clients as upstream trackers know it: a peer id and a port, at one address or several.
//!
//! A forwarder distinguishes clients by peer id, port and the address that we send, if any. Each client that a
//! forwarder can distinguish has one session. To an upstream that sees only our address, a client on IPv4 and IPv6 is
//! one peer.
//!
//! # Which announces count
//! Peer ids are public, so another host may announce with this client's id. That does not change what upstream trackers
//! know of this client. A claimed address (`ip=`) is ignored if a host announces from that address.

mod elsewhere;
mod held_session;
mod host;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::held_session::HeldSession;
use self::host::Host;
use super::announce::{ClientKey, UpstreamAnnounce};
use super::forwarder::{Exchange, Forwarder, Skipped};
use super::headers::PassedHeaders;
use super::queue::RequestSource;
use super::session::{ExchangeOutcome, Presence, UpstreamEvent};
use super::set::Generation;
use tracker_protocol::{AnnounceRequest, Event, InfoHash};

/// How long `stopped` stays due at a forwarder whose circuit is open.
const STOP_RETRY_PERIOD: Duration = Duration::from_hours(1);

/// The most hosts for one peer id and port. A client has one host in each address family. The others are strangers with
/// the same id.
const MAX_HOSTS: usize = 4;

/// One client.
#[derive(Debug)]
pub(super) struct ForwardedClient {
    key: ClientKey,
    /// The source of the client's first announce.
    pub(super) source: RequestSource,
    info_hash: InfoHash,
    /// The addresses that the client announces from. A forwarder that cannot tell hosts apart gets the announces of the
    /// first host in this list that is still here.
    hosts: SmallVec<[Host; 1]>,
    sessions: Vec<HeldSession>,
    /// No announce to a forwarder is due before this time, as long as the set of forwarders has this generation.
    quiet: Option<(Instant, Generation)>,
    /// Clients that this client has replaced. A forwarder that lists such a predecessor gets the predecessor's
    /// `stopped` before this client's announces.
    pub(super) predecessors: SmallVec<[ClientKey; 1]>,
    /// The client that has replaced this one.
    pub(super) successor: Option<ClientKey>,
}

/// What an announce changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostUpdate {
    /// The announce has replaced the earlier announce of its host.
    Updated,
    /// Nothing yet: the host is new to this client, or had left.
    NewHost,
    /// The announce is not forwarded: it claims the address of a known host with `ip=`.
    Ignored,
}

impl ForwardedClient {
    pub(super) fn new(key: ClientKey, announce: &UpstreamAnnounce<'_>, headers: PassedHeaders, now: Instant) -> Self {
        let mut client = Self {
            key,
            source: RequestSource::of(announce.source),
            info_hash: announce.request.info_hash,
            hosts: SmallVec::new(),
            sessions: Vec::new(),
            quiet: None,
            predecessors: SmallVec::new(),
            successor: None,
        };
        client.add_host(announce, headers, now);
        client
    }

    fn add_host(&mut self, announce: &UpstreamAnnounce<'_>, headers: PassedHeaders, now: Instant) {
        if self.hosts.len() == MAX_HOSTS {
            self.hosts.retain(|host| host.is_here());
            self.hosts.truncate(MAX_HOSTS - 1);
        }
        self.hosts.push(Host::new(announce, headers, now));
        self.update_sessions(self.hosts.len() - 1, announce.request.event == Some(Event::Completed));
    }

    /// Stores an announce of a host that is here.
    pub(super) fn update_host(&mut self, announce: &UpstreamAnnounce<'_>, now: Instant) -> HostUpdate {
        let Some(at) = self.hosts.iter().position(|host| host.ip == announce.ip) else { return HostUpdate::NewHost };
        let Some(host) = self.hosts.get_mut(at) else { return HostUpdate::NewHost };
        if !host.is_here() {
            // The host had left, so another client may have its endpoint. The caller checks that first.
            return HostUpdate::NewHost;
        }
        if announce.is_claim && !host.is_claim {
            return HostUpdate::Ignored;
        }
        let (was_seed, old_outside) = (host.is_seed(), host.outside);
        host.update(announce, now);
        let has_changed = was_seed != host.is_seed() || old_outside != host.outside;
        let completed = announce.request.event == Some(Event::Completed);
        if completed || has_changed {
            self.update_sessions(at, completed);
        }
        HostUpdate::Updated
    }

    /// Stores an announce of a host that is new, or that had left.
    pub(super) fn host_arrived(
        &mut self,
        announce: &UpstreamAnnounce<'_>,
        headers: impl FnOnce() -> PassedHeaders,
        now: Instant,
    ) {
        let known = self.hosts.iter().position(|host| host.ip == announce.ip);
        let Some(at) = known else { return self.add_host(announce, headers(), now) };
        if let Some(host) = self.hosts.get_mut(at) {
            host.update(announce, now);
        }
        self.update_sessions(at, announce.request.event == Some(Event::Completed));
    }

    /// Updates the sessions that announce the host with this index.
    fn update_sessions(&mut self, at: usize, completed: bool) {
        self.quiet = None;
        let Some(host) = self.hosts.get(at) else { return };
        for held in &mut self.sessions {
            if held.announcing_host(&self.hosts).is_some_and(|announcing| announcing.ip == host.ip) {
                held.session.client_is_here();
                held.session.set_seed(host.is_seed());
                if completed {
                    held.session.set_completed();
                }
            }
        }
    }

    /// Returns whether the latest [`Self::update_quiet`] found that no announce to a forwarder is due at the time
    /// `now`. The end of an exchange or a change of the client makes that result void.
    pub(super) fn is_quiet(&self, generation: Generation, now: Instant) -> bool {
        self.quiet.is_some_and(|(until, known)| now < until && known == generation)
    }

    /// Computes the time until which no announce is due, unless an exchange ends or the client changes before.
    pub(super) fn update_quiet(&mut self, generation: Generation, now: Instant) {
        let ends = self.sessions.iter().map(|held| held.session.quiet_until(now));
        let earliest = ends.reduce(|one, other| one.zip(other).map(|(one, other)| one.min(other)));
        self.quiet = earliest.flatten().map(|until| (until, generation));
    }

    /// Returns the session that announces the host at this address to a forwarder, a new one if necessary.
    pub(super) fn session(&mut self, forwarder: &Arc<Forwarder>, ip: IpAddr) -> Option<&mut HeldSession> {
        let sent = self.hosts.iter().find(|host| host.ip == ip).and_then(|host| forwarder.announced_ip(host.outside));
        let is_it = |held: &HeldSession| Arc::ptr_eq(&held.forwarder, forwarder) && held.ip == sent;
        if !self.sessions.iter().any(is_it) {
            // The first announce creates one session for each forwarder, so spare capacity would rarely be used.
            self.sessions.reserve_exact(1);
            let mut held = HeldSession::new(forwarder, sent);
            if let Some(host) = held.announcing_host(&self.hosts) {
                held.session.set_seed(host.is_seed());
                if host.request.event == Some(Event::Completed) {
                    held.session.set_completed();
                }
            }
            self.sessions.push(held);
        }
        self.sessions.iter_mut().find(|held| is_it(held))
    }

    /// Returns when to announce the client to a forwarder. `None` if it has no session there, or an exchange is under
    /// way.
    pub(super) fn due_at(&self, forwarder: &Arc<Forwarder>, now: Instant) -> Option<Instant> {
        self.sessions_at(forwarder).filter_map(|held| held.session.due_at(now)).min()
    }

    /// Returns whether the client has a session at a forwarder.
    pub(super) fn is_at(&self, forwarder: &Arc<Forwarder>) -> bool {
        self.sessions_at(forwarder).next().is_some()
    }

    fn sessions_at(&self, forwarder: &Arc<Forwarder>) -> impl Iterator<Item = &HeldSession> {
        self.sessions.iter().filter(move |held| Arc::ptr_eq(&held.forwarder, forwarder))
    }

    /// Returns whether an announce is due in the session with this serial.
    pub(super) fn is_due(&self, serial: u64, now: Instant) -> bool {
        let held = self.sessions.iter().find(|held| held.session.serial == serial);
        held.is_some_and(|held| held.session.due(held.presence(&self.hosts, self.info_hash).0, now).is_some())
    }

    /// Begins the exchange that is due in the session with this serial. `None` if nothing is due.
    pub(super) fn begin(&mut self, serial: u64, torrent: u64, now: Instant) -> Option<Result<Exchange, Skipped>> {
        let held = self.sessions.iter_mut().find(|held| held.session.serial == serial)?;
        let (presence, _) = held.presence(&self.hosts, self.info_hash);
        let event = held.session.due(presence, now)?;
        Some(held.begin(event, held.announcing_host(&self.hosts)?, self.key, torrent, now))
    }

    /// Begins the exchanges that are due with one forwarder, and adds them to `out`.
    pub(super) fn begin_at(&mut self, forwarder: &Arc<Forwarder>, torrent: u64, now: Instant, out: &mut Vec<Exchange>) {
        self.quiet = None;
        let own = self.sessions.iter().filter(|held| Arc::ptr_eq(&held.forwarder, forwarder));
        let serials: SmallVec<[u64; 2]> = own.map(|held| held.session.serial).collect();
        out.extend(serials.into_iter().filter_map(|serial| self.begin(serial, torrent, now)?.ok()));
    }

    /// Brings an exchange up to date when its turn comes. Returns false if the exchange is pointless: the client left
    /// before it was ever announced upstream, or the session is gone.
    pub(super) fn refresh(&self, exchange: &mut Exchange) -> bool {
        let Some(held) = self.sessions.iter().find(|held| held.session.serial == exchange.session) else {
            return false;
        };
        let (presence, _) = held.presence(&self.hosts, self.info_hash);
        let Some(host) = held.announcing_host(&self.hosts) else { return false };
        if exchange.event == UpstreamEvent::Stopped {
            return true;
        }
        if presence == Presence::Here {
            exchange.request.clone_from(&host.request);
        }
        presence == Presence::Here || exchange.event == UpstreamEvent::Completed
    }

    /// Sets the headers that are passed on for the host at this address.
    pub(super) fn set_headers(&mut self, ip: IpAddr, headers: PassedHeaders) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.ip == ip) {
            host.headers = headers;
        }
    }

    /// Records that an exchange of the session with this serial has ended. Returns the exchange that is due next.
    pub(super) fn exchange_ended(
        &mut self,
        serial: u64,
        torrent: u64,
        outcome: ExchangeOutcome,
        now: Instant,
    ) -> Option<Exchange> {
        self.quiet = None;
        let at = self.sessions.iter().position(|held| held.session.serial == serial)?;
        let held = self.sessions.get_mut(at)?;
        let (presence, _) = held.presence(&self.hosts, self.info_hash);
        let next = held.session.ended(outcome, presence, now);
        let next = next.zip(held.announcing_host(&self.hosts));
        let next = next.and_then(|(event, host)| held.begin(event, host, self.key, torrent, now).ok());
        if presence != Presence::Here && held.session.is_over(presence) {
            self.sessions.remove(at);
        }
        next
    }

    /// Records that the host at this address has left. `stopped` is the announce with which it left, if any, and
    /// whether that announce only claimed the address. Returns whether the host was here.
    pub(super) fn host_left(
        &mut self,
        ip: IpAddr,
        stopped: Option<(&AnnounceRequest, bool)>,
        open_stops: Option<&TaskTracker>,
        now: Instant,
    ) -> bool {
        let here = self.hosts.iter_mut().find(|host| host.ip == ip && host.is_here());
        let Some(host) = here else { return false };
        if let Some((request, is_claim)) = stopped {
            if is_claim && !host.is_claim {
                return false;
            }
            // Some clients leave without naming their port, but upstream trackers need the port to identify the client.
            let port = request.port.or(host.request.port);
            let key = request.key.clone().or(host.request.key.take());
            host.request = AnnounceRequest { port, key, ..request.clone() };
        }
        host.left = Some(now);
        self.quiet = None;
        for held in &mut self.sessions {
            if held.presence(&self.hosts, self.info_hash).0 == Presence::Left
                && let Some(open_stops) = open_stops
            {
                held.session.hold_open_stop(open_stops.token());
            }
        }
        true
    }

    /// A host that has not announced for the time `age` is marked as left. Returns the addresses of these hosts.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) -> SmallVec<[IpAddr; 2]> {
        let silent = |host: &&mut Host| host.is_here() && now.saturating_duration_since(host.seen) >= age;
        let expired: SmallVec<[IpAddr; 2]> = self
            .hosts
            .iter_mut()
            .filter(silent)
            .map(|host| {
                host.left = Some(now);
                host.ip
            })
            .collect();
        if !expired.is_empty() {
            self.quiet = None;
        }
        expired
    }

    /// Begins `stopped` at forwarders that list the client but should not. Drops sessions that are over.
    pub(super) fn begin_stops(&mut self, torrent: u64, now: Instant, out: &mut Vec<Exchange>) {
        let Self { key, hosts, sessions, info_hash, .. } = self;
        sessions.retain_mut(|held| {
            let (presence, since) = held.presence(hosts, *info_hash);
            if presence == Presence::Here {
                return true;
            }
            let due = held.session.due(presence, now).zip(held.announcing_host(hosts));
            if let Some((event, host)) = due {
                let Ok(exchange) = held.begin(event, host, *key, torrent, now) else {
                    held.session.release_open_stop();
                    return since.is_none_or(|since| now.saturating_duration_since(since) < STOP_RETRY_PERIOD);
                };
                out.push(exchange);
            }
            !held.session.is_over(presence)
        });
        if self.sessions.is_empty() {
            self.hosts.retain(|host| host.is_here());
        }
    }

    /// Announces this client again after the `stopped` of `left`, which had the same endpoint. A forwarder that
    /// identifies peers by endpoint removes both clients at that `stopped`.
    pub(super) fn announce_again_after(&mut self, left: ClientKey) {
        self.quiet = None;
        self.sessions.iter_mut().for_each(|held| held.session.set_unsure());
        if !self.predecessors.contains(&left) {
            self.predecessors.push(left);
        }
    }

    /// Returns whether no forwarder can list the client.
    pub(super) fn is_unknown_upstream(&self) -> bool {
        self.sessions.iter().all(|held| held.session.is_over(Presence::Left))
    }

    /// Returns whether one of the client's hosts is here.
    pub(super) fn is_here(&self) -> bool {
        self.hosts.iter().any(Host::is_here)
    }

    /// Returns whether the client can be forgotten.
    pub(super) fn is_gone(&self) -> bool {
        !self.is_here() && self.sessions.is_empty()
    }

    /// Returns the forwarders to which the client's `stopped` has still to be sent.
    pub(super) fn unstopped_forwarders(&self) -> impl Iterator<Item = &Arc<Forwarder>> {
        let is_gone = |held: &&HeldSession| held.presence(&self.hosts, self.info_hash).0 != Presence::Here;
        self.sessions.iter().filter(is_gone).map(|held| &held.forwarder)
    }

    /// Returns when the client announced last.
    pub(super) fn seen(&self) -> Option<Instant> {
        self.hosts.iter().map(|host| host.seen).max()
    }

    pub(super) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns whether a host announces from this address, as opposed to only claiming it.
    pub(super) fn announces_from(&self, ip: IpAddr) -> bool {
        self.hosts.iter().any(|host| host.ip == ip && host.is_here() && !host.is_claim)
    }
}
