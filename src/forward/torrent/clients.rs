//! The clients of one torrent that are announced upstream.

mod elsewhere;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::occupancy::Occupancies;
use crate::forward::announce::{ClientKey, UpstreamAnnounce};
use crate::forward::client::ForwardedClient;
use crate::forward::forwarder::{Exchange, Forwarder};
use crate::forward::headers::PassedHeaders;
use crate::forward::own_peers::OwnPeers;
use crate::forward::queue::RequestSource;
use crate::forward::session::ExchangeOutcome;
use tracker_protocol::PeerId;

/// The most clients of one torrent that are announced upstream. More are of no use to an upstream. Further clients only
/// get the lists.
const MAX_CLIENTS: usize = 10_000;

/// How many clients a full torrent removes to make room for a new client. They belong to the source with the most
/// clients. Finding them takes a scan of all clients, so one scan removes several.
const REMOVED_AT_ONCE: usize = MAX_CLIENTS / 16;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The clients of one torrent.
#[derive(Debug)]
pub(super) struct Clients {
    /// The serial of the torrent's state.
    torrent: u64,
    /// Boxed, because a hash table has empty slots, which should be small.
    by_key: Map<ClientKey, Box<ForwardedClient>>,
    /// The peer id that announces from each endpoint.
    endpoints: Occupancies<(IpAddr, NonZeroU16), PeerId>,
    /// The port on which each peer id listens at an address.
    ports: Occupancies<(PeerId, IpAddr), NonZeroU16>,
    /// How many clients each source has, counted since the torrent was full.
    sources: Option<Box<Map<RequestSource, usize>>>,
}

impl Clients {
    pub(super) fn new(torrent: u64) -> Self {
        let (endpoints, ports) = (Occupancies::new(), Occupancies::new());
        Self { torrent, by_key: Map::default(), endpoints, ports, sources: None }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns how many clients have a session at a forwarder, and when the next announce of one of them is due.
    pub(super) fn at(&self, forwarder: &Arc<Forwarder>, now: Instant) -> (usize, Option<Instant>) {
        let here = || self.by_key.values().filter(|client| client.is_at(forwarder));
        (here().count(), here().filter_map(|client| client.due_at(forwarder, now)).min())
    }

    pub(super) fn get_mut(&mut self, key: ClientKey) -> Option<&mut ForwardedClient> {
        self.by_key.get_mut(&key).map(|client| &mut **client)
    }

    /// Handles an announce from a host that is new, or had left. Begins `stopped` for replaced clients. Returns `false`
    /// if the client is not announced upstream: it claims the address of a host that announces, or there is no room.
    pub(super) fn host_arrived(
        &mut self,
        key: ClientKey,
        announce: &UpstreamAnnounce<'_>,
        headers: impl Fn() -> PassedHeaders,
        now: Instant,
        out: &mut Vec<Exchange>,
    ) -> bool {
        let ClientKey { peer_id, port } = key;
        let ip = announce.ip;
        let occupant = self.endpoints.current(&(ip, port)).filter(|&id| id != peer_id);
        let occupant = occupant.map(|peer_id| ClientKey { peer_id, port });
        if announce.is_claim && occupant.is_some_and(|other| self.announces_from(other, ip)) {
            return false;
        }
        if let Some(client) = self.by_key.get_mut(&key) {
            client.host_arrived(announce, headers, now);
        } else if self.make_room(RequestSource::of(announce.source)) {
            let client = ForwardedClient::new(key, announce, headers(), now);
            self.count_source(client.source, 1);
            self.by_key.insert(key, Box::new(client));
        } else {
            return false;
        }
        // Another retracker announces many clients from one address. None of them replaces another.
        if announce.via.hops() > 0 {
            return true;
        }
        let replaced = self.endpoints.occupy((ip, port), peer_id).map(|peer_id| ClientKey { peer_id, port });
        let moved = self.ports.occupy((peer_id, ip), port).map(|port| ClientKey { peer_id, port });
        let moved = moved.filter(|&from| !(announce.is_claim && self.announces_from(from, ip)));
        for old in [replaced, moved].into_iter().flatten() {
            self.vacate(old, ip);
            self.replace(old, key, ip, now, out);
        }
        true
    }

    fn announces_from(&self, client: ClientKey, ip: IpAddr) -> bool {
        self.by_key.get(&client).is_some_and(|client| client.announces_from(ip))
    }

    /// Records that `new` has replaced `old` at this address. `old` is announced as stopped first.
    fn replace(&mut self, old: ClientKey, new: ClientKey, ip: IpAddr, now: Instant, out: &mut Vec<Exchange>) {
        let Some(client) = self.by_key.get_mut(&old) else { return };
        client.host_left(ip, None, None, now);
        client.successor = Some(new);
        client.begin_stops(self.torrent, now, out);
        if client.is_gone() {
            self.remove(old);
        } else if let Some(client) = self.by_key.get_mut(&new).filter(|client| !client.predecessors.contains(&old)) {
            client.predecessors.push(old);
        }
    }

    /// The client `key` may have replaced other clients. Returns the forwarders that have still to get a `stopped` of a
    /// replaced client, before they may get an announce of `key`. Begins each such `stopped` that is due.
    pub(super) fn blocked_forwarders(
        &mut self,
        key: ClientKey,
        now: Instant,
        out: &mut Vec<Exchange>,
    ) -> Vec<Arc<Forwarder>> {
        let Some(client) = self.by_key.get_mut(&key).filter(|client| !client.predecessors.is_empty()) else {
            return Vec::new();
        };
        let mut predecessors = std::mem::take(&mut client.predecessors);
        let mut blocked = Vec::new();
        predecessors.retain(|old| {
            let Some(client) = self.by_key.get_mut(&*old) else { return false };
            client.begin_stops(self.torrent, now, out);
            let before = blocked.len();
            blocked.extend(client.unstopped_forwarders().cloned());
            blocked.len() > before
        });
        if let Some(client) = self.by_key.get_mut(&key) {
            client.predecessors = predecessors;
        }
        blocked
    }

    /// Records that a client no longer announces from this address.
    fn vacate(&mut self, ClientKey { peer_id, port }: ClientKey, ip: IpAddr) {
        let clients = &self.by_key;
        let is_here = |key: ClientKey| clients.get(&key).is_some_and(|client| client.is_here());
        self.endpoints.vacate((ip, port), peer_id, |peer_id| is_here(ClientKey { peer_id, port }));
        self.ports.vacate((peer_id, ip), port, |port| is_here(ClientKey { peer_id, port }));
    }

    /// If the `stopped` of `left` is still due, and another client has the same endpoint, announces the other client
    /// again after that `stopped`.
    fn announce_other_again(&mut self, left: ClientKey, ip: IpAddr) {
        let Some(peer_id) = self.endpoints.current(&(ip, left.port)) else { return };
        let other = ClientKey { peer_id, port: left.port };
        if self.by_key.get(&left).is_none_or(|client| client.unstopped_forwarders().next().is_none()) {
            return;
        }
        let Some(client) = self.by_key.get_mut(&other).filter(|client| client.is_here()) else { return };
        client.announce_again_after(left);
        if let Some(client) = self.by_key.get_mut(&left) {
            client.successor = Some(other);
        }
    }

    fn remove(&mut self, key: ClientKey) {
        let Some(client) = self.by_key.remove(&key) else { return };
        self.count_source(client.source, -1);
        client.hosts().iter().filter(|host| host.is_here()).for_each(|host| self.vacate(key, host.ip));
    }

    fn count_source(&mut self, source: RequestSource, change: isize) {
        let Some(sources) = &mut self.sources else { return };
        let count = sources.entry(source).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            sources.remove(&source);
        }
        self.sources.take_if(|_| self.by_key.len() < MAX_CLIENTS / 2);
    }

    /// Returns whether there is room for another client of this source. In a full torrent, the source with the most
    /// clients loses some: first those that no forwarder lists, then those silent for longest.
    fn make_room(&mut self, source: RequestSource) -> bool {
        if self.by_key.len() < MAX_CLIENTS {
            return true;
        }
        let clients = &self.by_key;
        let sources = self.sources.get_or_insert_with(|| {
            let mut sources = Map::default();
            clients.values().for_each(|client| *sources.entry(client.source).or_default() += 1);
            Box::new(sources)
        });
        let own = sources.get(&source).copied().unwrap_or(0);
        let Some((&heaviest, &most)) = sources.iter().max_by_key(|&(_, &count)| count) else { return false };
        if most <= own + 1 {
            return false;
        }
        let theirs = self.by_key.iter().filter(|(_, client)| client.source == heaviest);
        let mut theirs: Vec<_> =
            theirs.map(|(key, client)| (!client.is_unknown_upstream(), client.seen(), *key)).collect();
        theirs.sort_unstable_by_key(|&(is_listed, seen, _)| (is_listed, seen));
        let removed = REMOVED_AT_ONCE.min((most - own) / 2).max(1);
        theirs.into_iter().take(removed).for_each(|(_, _, key)| self.remove(key));
        true
    }

    /// Handles a client's `stopped`: begins a `stopped` exchange with each forwarder that lists the client.
    pub(super) fn client_left(
        &mut self,
        announce: &UpstreamAnnounce<'_>,
        open_stops: &TaskTracker,
        now: Instant,
    ) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let UpstreamAnnounce { request, ip, is_claim, .. } = *announce;
        let peer_id = request.peer_id;
        let ports: SmallVec<[NonZeroU16; 2]> = match request.port {
            Some(port) => std::iter::once(port).collect(),
            None => self.ports.all(&(peer_id, ip)).collect(),
        };
        for key in ports.into_iter().map(|port| ClientKey { peer_id, port }) {
            let Some(client) = self.by_key.get_mut(&key) else { continue };
            if client.host_left(ip, Some((request, is_claim)), Some(open_stops), now) {
                // A `stopped` that cannot be sent now is sent by one of the next sweeps.
                client.begin_stops(self.torrent, now, &mut exchanges);
                self.after_leaving(key, ip);
            }
        }
        exchanges
    }

    /// Removes a client that has left this address, unless its `stopped` has still to be sent.
    fn after_leaving(&mut self, key: ClientKey, ip: IpAddr) {
        self.vacate(key, ip);
        if self.by_key.get(&key).is_some_and(|client| client.is_gone()) {
            self.remove(key);
        } else {
            self.announce_other_again(key, ip);
        }
    }

    /// Brings an exchange up to date when its turn comes. Returns false if the exchange is pointless.
    pub(super) fn refresh(&self, exchange: &mut Exchange) -> bool {
        self.by_key.get(&exchange.client).is_some_and(|client| client.refresh(exchange))
    }

    /// Records that an exchange has ended. Returns the exchanges that begin now, for the same client, or for the client
    /// that replaced it and waited for its `stopped`.
    pub(super) fn exchange_ended(
        &mut self,
        exchange: &Exchange,
        outcome: ExchangeOutcome,
        now: Instant,
    ) -> Vec<Exchange> {
        let mut next = Vec::new();
        let Some(client) = self.by_key.get_mut(&exchange.client) else { return next };
        next.extend(client.exchange_ended(exchange.session, self.torrent, outcome, now));
        let is_stopped = !client.unstopped_forwarders().any(|other| Arc::ptr_eq(other, &exchange.forwarder));
        let successor = client.successor.filter(|_| is_stopped);
        if client.is_gone() {
            self.remove(exchange.client);
        }
        if let Some(successor) = successor.and_then(|key| self.by_key.get_mut(&key)) {
            successor.begin_at(&exchange.forwarder, self.torrent, now, &mut next);
        }
        next
    }

    /// Begins and returns `stopped` for each client that has been silent for `age`, and for each client that a
    /// forwarder should no longer list.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) -> Vec<Exchange> {
        let (mut exchanges, mut silent, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, client) in &mut self.by_key {
            silent.extend(client.expire(age, now).into_iter().map(|ip| (*key, ip)));
            client.begin_stops(self.torrent, now, &mut exchanges);
            if client.is_gone() {
                gone.push(*key);
            }
        }
        for (key, ip) in silent {
            self.vacate(key, ip);
            self.announce_other_again(key, ip);
        }
        gone.into_iter().for_each(|key| self.remove(key));
        exchanges
    }

    /// Adds the clients to our own clients that a reply may list.
    pub(super) fn add_to(&self, own: &mut OwnPeers) {
        for (ClientKey { peer_id, port }, client) in &self.by_key {
            own.add(Some(*peer_id), *port, client.hosts().iter().map(|host| host.ip));
        }
    }
}
