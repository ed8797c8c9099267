//! One of our clients as upstream trackers know it: a peer id that listens on a port, at one host or at several.
//!
//! A session belongs to what its forwarder can tell apart: the peer id, the port, and the address that it is told, if it is
//! told one. A client on IPv4 and IPv6 is one peer to an upstream that sees our own address only.
//!
//! # Who is believed
//! A peer id is public. What another host says under the same id is its own affair: it does not change what is told of the
//! client, and does not end it. An address that was claimed with `ip=` gives way to the host that has it.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::forwarder::{Exchange, Forwarder, Skipped};
use super::http::PassedHeaders;
use super::queue::RequestSource;
use super::session::{ExchangeOutcome, Presence, Session, UpstreamEvent};
use super::{Generation, UpstreamAnnounce};
use tracker_protocol::{AnnounceRequest, Event, InfoHash, PeerId, Role};

/// For how long it is tried to tell a forwarder that cannot be asked that a peer has left.
const FAREWELLS_LAST: Duration = Duration::from_hours(1);

/// Hosts under one peer id and port that are told apart. A client has one of each family; more are strangers' under its id.
const MAX_HOSTS: usize = 4;

/// By what a client is found in its torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) peer_id: PeerId,
    pub(super) port: NonZeroU16,
}

/// One client.
#[derive(Debug)]
pub(super) struct ForwardedClient {
    key: ClientKey,
    /// Who sent its first announce.
    pub(super) source: RequestSource,
    info_hash: InfoHash,
    /// The first that is here speaks for the sessions of the address that they share.
    hosts: SmallVec<[Host; 1]>,
    pub(super) sessions: Vec<HeldSession>,
    /// Until when no forwarder has to be told anything new, and of which forwarders that was said.
    quiet: Option<(Instant, Generation)>,
    /// Whose place this client has taken: forwarders that know that one are told first that it has left.
    pub(super) behind: SmallVec<[ClientKey; 1]>,
    /// Who has taken this client's place.
    pub(super) before: Option<ClientKey>,
}

/// Where a client is, and what it said last from there.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) ip: IpAddr,
    /// Its address for those outside.
    outside: IpAddr,
    /// Whether the address is only claimed.
    is_claim: bool,
    /// Who sent it.
    pub(super) source: RequestSource,
    request: AnnounceRequest,
    along: PassedHeaders,
    pub(super) seen: Instant,
    /// When it left, while it is still to be signed off.
    pub(super) left: Option<Instant>,
}

/// A session, counted.
#[derive(Debug)]
pub(super) struct HeldSession {
    pub(super) forwarder: Arc<Forwarder>,
    /// The address that the forwarder is told.
    ip: Option<IpAddr>,
    pub(super) session: Session,
}

impl HeldSession {
    fn new(forwarder: &Arc<Forwarder>, ip: Option<IpAddr>) -> Self {
        forwarder.count_sessions(1);
        Self { forwarder: Arc::clone(forwarder), ip, session: Session::new() }
    }

    fn is_of(&self, host: &Host) -> bool {
        self.forwarder.announced_ip(host.outside) == self.ip
    }

    /// Who speaks for this session: the first host that is here, or else one that has left.
    fn speaker<'a>(&self, hosts: &'a [Host]) -> Option<&'a Host> {
        let own = || hosts.iter().filter(|host| self.is_of(host));
        own().find(|host| host.left.is_none()).or_else(|| own().next_back())
    }

    /// Whether the forwarder is to know of the client, and if not, since when.
    fn presence(&self, hosts: &[Host], info_hash: InfoHash) -> (Presence, Option<Instant>) {
        if let Some(since) = self.forwarder.leaves_out_since(info_hash) {
            return (Presence::Hidden, Some(since));
        }
        match self.speaker(hosts).map(|host| host.left) {
            Some(None) => (Presence::Here, None),
            Some(left) => (Presence::Left, left),
            None => (Presence::Left, None),
        }
    }

    /// An exchange that tells what is due and is to wait for its turn, if the forwarder may be asked.
    fn begin(
        &mut self,
        event: UpstreamEvent,
        host: &Host,
        client: ClientKey,
        torrent: u64,
        now: Instant,
    ) -> Result<Exchange, Skipped> {
        let admission = self.forwarder.would_admit(now)?;
        Ok(Exchange {
            forwarder: Arc::clone(&self.forwarder),
            admission,
            client,
            torrent,
            request: host.request.clone(),
            ip: self.ip,
            source: host.source,
            along: host.along.clone(),
            event,
            session: self.session.serial,
            tracker_id: self.session.begins(event, now),
        })
    }
}

impl Drop for HeldSession {
    fn drop(&mut self) {
        self.forwarder.count_sessions(-1);
    }
}

/// Whether an announce counts for what upstream trackers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// It does.
    Yes,
    /// It comes from a host that has not been heard of under this id and port.
    NewHost,
    /// It does not: it only claims an address that has a host of its own.
    No,
}

impl ForwardedClient {
    pub(super) fn new(key: ClientKey, announce: &UpstreamAnnounce<'_>, along: PassedHeaders, now: Instant) -> Self {
        let mut client = Self {
            key,
            source: RequestSource::of(announce.source),
            info_hash: announce.request.info_hash,
            hosts: SmallVec::new(),
            sessions: Vec::new(),
            quiet: None,
            behind: SmallVec::new(),
            before: None,
        };
        client.add(announce, along, now);
        client
    }

    /// It announces from a host that is new.
    pub(super) fn add(&mut self, announce: &UpstreamAnnounce<'_>, along: PassedHeaders, now: Instant) {
        if self.hosts.len() == MAX_HOSTS {
            self.hosts.retain(|host| host.left.is_none());
            self.hosts.truncate(MAX_HOSTS - 1);
        }
        self.hosts.push(Host {
            ip: announce.ip,
            outside: announce.outside,
            is_claim: announce.is_claim,
            source: RequestSource::of(announce.source),
            request: announce.request.clone(),
            along,
            seen: now,
            left: None,
        });
        self.quiet = None;
        self.note(self.hosts.len() - 1, announce.request.event == Some(Event::Completed));
    }

    /// It announces, and stays.
    pub(super) fn announces(&mut self, announce: &UpstreamAnnounce<'_>, now: Instant) -> Counts {
        let Some(at) = self.hosts.iter().position(|host| host.ip == announce.ip) else { return Counts::NewHost };
        let Some(host) = self.hosts.get_mut(at) else { return Counts::NewHost };
        if announce.is_claim && !host.is_claim && host.left.is_none() {
            return Counts::No;
        }
        if host.left.is_some() {
            // It may have lost its place, and has to win it back.
            return Counts::NewHost;
        }
        let was_seed = host.request.role() == Role::Seed;
        host.request.clone_from(announce.request);
        host.is_claim = announce.is_claim;
        host.seen = now;
        let has_moved = std::mem::replace(&mut host.outside, announce.outside) != announce.outside;
        let completed = announce.request.event == Some(Event::Completed);
        if completed || has_moved || was_seed != (announce.request.role() == Role::Seed) {
            self.note(at, completed);
        }
        Counts::Yes
    }

    /// A host that had left, or that is new, is here.
    pub(super) fn arrives(
        &mut self,
        announce: &UpstreamAnnounce<'_>,
        along: impl FnOnce() -> PassedHeaders,
        now: Instant,
    ) {
        let known = self.hosts.iter().position(|host| host.ip == announce.ip);
        let Some(at) = known else { return self.add(announce, along(), now) };
        if let Some(host) = self.hosts.get_mut(at) {
            host.left = None;
            host.seen = now;
            host.outside = announce.outside;
            host.is_claim = announce.is_claim;
            host.request.clone_from(announce.request);
        }
        self.note(at, announce.request.event == Some(Event::Completed));
    }

    /// Tells the sessions for which this host speaks what it has said.
    fn note(&mut self, at: usize, completed: bool) {
        self.quiet = None;
        let Some(host) = self.hosts.get(at) else { return };
        for held in &mut self.sessions {
            if held.speaker(&self.hosts).is_some_and(|speaker| speaker.ip == host.ip) {
                held.session.stays();
                held.session.is_seed(host.request.role() == Role::Seed);
                if completed {
                    held.session.completes();
                }
            }
        }
    }

    /// Whether there is nothing to be told before an exchange ends or the client says something new.
    pub(super) fn is_quiet(&self, generation: Generation, now: Instant) -> bool {
        self.quiet.is_some_and(|(until, known)| now < until && known == generation)
    }

    /// Works out until when there is nothing to be told.
    pub(super) fn calm_down(&mut self, generation: Generation, now: Instant) {
        let ends = self.sessions.iter().map(|held| held.session.quiet_until(now));
        let earliest = ends.reduce(|one, other| one.zip(other).map(|(one, other)| one.min(other)));
        self.quiet = earliest.flatten().map(|until| (until, generation));
    }

    /// The session of the host at this address with a forwarder, new if there is none.
    pub(super) fn session(&mut self, forwarder: &Arc<Forwarder>, ip: IpAddr) -> Option<&mut HeldSession> {
        let told = self.hosts.iter().find(|host| host.ip == ip).and_then(|host| forwarder.announced_ip(host.outside));
        let is_it = |held: &HeldSession| Arc::ptr_eq(&held.forwarder, forwarder) && held.ip == told;
        if !self.sessions.iter().any(is_it) {
            // There are as many as forwarders, from the first on.
            self.sessions.reserve_exact(1);
            let mut held = HeldSession::new(forwarder, told);
            if let Some(host) = held.speaker(&self.hosts) {
                held.session.is_seed(host.request.role() == Role::Seed);
                if host.request.event == Some(Event::Completed) {
                    held.session.completes();
                }
            }
            self.sessions.push(held);
        }
        self.sessions.iter_mut().find(|held| is_it(held))
    }

    /// Whether something is to be told in the session that has this serial.
    pub(super) fn is_due(&self, serial: u64, now: Instant) -> bool {
        let held = self.sessions.iter().find(|held| held.session.serial == serial);
        held.is_some_and(|held| held.session.due(held.presence(&self.hosts, self.info_hash).0, now).is_some())
    }

    /// What is due in the session that has this serial, as an exchange. None if nothing is.
    pub(super) fn begin(&mut self, serial: u64, torrent: u64, now: Instant) -> Option<Result<Exchange, Skipped>> {
        let held = self.sessions.iter_mut().find(|held| held.session.serial == serial)?;
        let (presence, _) = held.presence(&self.hosts, self.info_hash);
        let event = held.session.due(presence, now)?;
        Some(held.begin(event, held.speaker(&self.hosts)?, self.key, torrent, now))
    }

    /// What is due with one forwarder, as exchanges.
    pub(super) fn begin_at(&mut self, forwarder: &Arc<Forwarder>, torrent: u64, now: Instant, out: &mut Vec<Exchange>) {
        self.quiet = None;
        let its = self.sessions.iter().filter(|held| Arc::ptr_eq(&held.forwarder, forwarder));
        let serials: SmallVec<[u64; 2]> = its.map(|held| held.session.serial).collect();
        out.extend(serials.into_iter().filter_map(|serial| self.begin(serial, torrent, now)?.ok()));
    }

    /// An exchange has its turn: what has been said since it was begun goes along. False if the client has left before its
    /// forwarder heard of it, or if there is no such session any more.
    pub(super) fn has_its_turn(&self, exchange: &mut Exchange) -> bool {
        let Some(held) = self.sessions.iter().find(|held| held.session.serial == exchange.session) else {
            return false;
        };
        let (presence, _) = held.presence(&self.hosts, self.info_hash);
        let Some(host) = held.speaker(&self.hosts) else { return false };
        if exchange.event == UpstreamEvent::Stopped {
            return true;
        }
        if presence == Presence::Here {
            exchange.request.clone_from(&host.request);
        }
        presence == Presence::Here || exchange.event == UpstreamEvent::Completed
    }

    /// The headers that go along with what is told for the host at this address.
    pub(super) fn put_along(&mut self, ip: IpAddr, along: PassedHeaders) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.ip == ip) {
            host.along = along;
        }
    }

    /// An exchange of the session with this serial has ended. Returns what has to be told next.
    pub(super) fn ended(
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
        let next = next.zip(held.speaker(&self.hosts));
        let next = next.and_then(|(event, host)| held.begin(event, host, self.key, torrent, now).ok());
        if presence != Presence::Here && held.session.is_over(presence) {
            self.sessions.remove(at);
        }
        next
    }

    /// The host at this address leaves, in words of its own if it said so. Returns whether it was here.
    pub(super) fn leaves(
        &mut self,
        ip: IpAddr,
        words: Option<(&AnnounceRequest, bool)>,
        open_stops: Option<&TaskTracker>,
        now: Instant,
    ) -> bool {
        let here = self.hosts.iter_mut().find(|host| host.ip == ip && host.left.is_none());
        let Some(host) = here else { return false };
        if let Some((request, is_claim)) = words {
            if is_claim && !host.is_claim {
                return false;
            }
            // Clients leave without saying where they listened; their upstreams know them by that.
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
                held.session.leaves(open_stops.token());
            }
        }
        true
    }

    /// Hosts that have not been heard of for `age` have left. Returns their addresses.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) -> SmallVec<[IpAddr; 2]> {
        let silent = |host: &&mut Host| host.left.is_none() && now.saturating_duration_since(host.seen) >= age;
        let gone: SmallVec<[IpAddr; 2]> = self
            .hosts
            .iter_mut()
            .filter(silent)
            .map(|host| {
                host.left = Some(now);
                host.ip
            })
            .collect();
        if !gone.is_empty() {
            self.quiet = None;
        }
        gone
    }

    /// Signs the client off wherever it is known and no longer to be, and forgets the sessions that are over.
    pub(super) fn sign_off(&mut self, torrent: u64, now: Instant, out: &mut Vec<Exchange>) {
        let Self { key, hosts, sessions, info_hash, .. } = self;
        sessions.retain_mut(|held| {
            let (presence, since) = held.presence(hosts, *info_hash);
            if presence == Presence::Here {
                return true;
            }
            let due = held.session.due(presence, now).zip(held.speaker(hosts));
            if let Some((event, host)) = due {
                let Ok(exchange) = held.begin(event, host, *key, torrent, now) else {
                    held.session.nobody_waits();
                    return since.is_none_or(|since| now.saturating_duration_since(since) < FAREWELLS_LAST);
                };
                out.push(exchange);
            }
            !held.session.is_over(presence)
        });
        if self.sessions.is_empty() {
            self.hosts.retain(|host| host.left.is_none());
        }
    }

    /// Another client has left the endpoint that both had. Forwarders that know endpoints and not ids are told of this one
    /// again, behind the farewell of that one.
    pub(super) fn outlives(&mut self, left: ClientKey) {
        self.quiet = None;
        self.sessions.iter_mut().for_each(|held| held.session.is_in_doubt());
        if !self.behind.contains(&left) {
            self.behind.push(left);
        }
    }

    /// Whether no forwarder knows of it.
    pub(super) fn was_never_told(&self) -> bool {
        self.sessions.iter().all(|held| held.session.is_over(Presence::Left))
    }

    /// Whether somebody is here.
    pub(super) fn is_here(&self) -> bool {
        self.hosts.iter().any(|host| host.left.is_none())
    }

    pub(super) fn is_gone(&self) -> bool {
        !self.is_here() && self.sessions.is_empty()
    }

    /// The forwarders that have still to be told that this client has left.
    pub(super) fn not_yet_told(&self) -> impl Iterator<Item = &Arc<Forwarder>> {
        let is_gone = |held: &&HeldSession| held.presence(&self.hosts, self.info_hash).0 != Presence::Here;
        self.sessions.iter().filter(is_gone).map(|held| &held.forwarder)
    }

    /// When it was heard of last.
    pub(super) fn seen(&self) -> Option<Instant> {
        self.hosts.iter().map(|host| host.seen).max()
    }

    /// Where it is.
    pub(super) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Whether the host at this address speaks for itself there.
    pub(super) fn speaks_for_itself_at(&self, ip: IpAddr) -> bool {
        self.hosts.iter().any(|host| host.ip == ip && host.left.is_none() && !host.is_claim)
    }
}
