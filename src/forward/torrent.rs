//! One torrent as the upstream trackers know it through us: our clients, what each forwarder knows of them, and the peers
//! that each forwarder gave.

mod at_forwarder;
mod occupancy;

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::at_forwarder::{AtForwarder, Waiter};
use self::occupancy::{Occupancy, leave, take};
use super::client::{ClientKey, Counts, ForwardedClient};
use super::forwarder::{Exchange, Forwarder};
use super::http::PassedHeaders;
use super::list::{Ours, UpstreamPeers};
use super::pending::{UpstreamLists, Wait};
use super::queue::RequestSource;
use super::session::{ExchangeOutcome, UpstreamEvent};
use super::upstream::UpstreamAnswer;
use super::{Generation, UpstreamAnnounce};
use crate::cache::Weigh;
use tracker_protocol::PeerId;
use tracker_protocol::upstream::UpstreamReply;

/// Bytes that stand for one unit of weight.
pub(super) const UNIT: u32 = 64;

/// What a torrent, its lists at one forwarder, a client and a session of that take at most but for the peers of the lists,
/// in bytes.
const TORRENT: usize = 700;
const AT_FORWARDER: usize = 400;
const CLIENT: usize = 1000;
const SESSION: usize = 280;

/// Clients of one torrent that are told upstream. More are served what is known: no upstream has a use for as many.
const MAX_CLIENTS: usize = 10_000;

/// When a newcomer finds no room, so many of the heaviest source's clients give way at once: it takes a look at all to
/// find them.
const GIVE_WAY: usize = MAX_CLIENTS / 16;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    /// By which an exchange knows its torrent: it may have been forgotten and begun anew.
    serial: u64,
    at: Vec<AtForwarder>,
    combined: Combined,
    /// Exchanges that are to bring a list, of all forwarders: an announce need not look at each.
    under_way: usize,
    /// Bytes of all these lists, so that a weight is known without a look at each.
    list_bytes: usize,
    /// Boxed, as a table has room for more than it holds.
    clients: Map<ClientKey, Box<ForwardedClient>>,
    /// Which id announces from an endpoint.
    endpoints: Map<(IpAddr, NonZeroU16), Occupancy<PeerId>>,
    /// Where an id listens at an address.
    homes: Map<(PeerId, IpAddr), Occupancy<NonZeroU16>>,
    /// Clients by source. Counted from when the torrent is full.
    sources: Option<Box<Map<RequestSource, usize>>>,
}

impl Default for Torrent {
    fn default() -> Self {
        Self {
            serial: fastrand::u64(..),
            at: Vec::new(),
            combined: Combined::default(),
            under_way: 0,
            list_bytes: 0,
            clients: Map::default(),
            endpoints: Map::default(),
            homes: Map::default(),
            sources: None,
        }
    }
}

/// The peers of all forwarders in one list each, as long as nothing has changed: nearly every announce is answered from
/// here.
#[derive(Debug, Default)]
struct Combined {
    /// The forwarders that they are of.
    generation: Generation,
    /// For those that download, and for those that do not.
    lists: [Option<Arc<UpstreamPeers>>; 2],
}

/// What an announce brings about.
#[derive(Default)]
pub(super) struct StartedExchanges {
    /// What is known already, of each forwarder if there is something to wait for, and of all together if there is not.
    pub(super) known: UpstreamLists,
    /// What has to be told now.
    pub(super) exchanges: Vec<Exchange>,
    /// What the announce may wait for.
    pub(super) waits: Vec<Wait>,
    /// Whether a list is under way that the announce does not wait for.
    pub(super) pending: bool,
}

impl Torrent {
    /// A client announces, and stays. `along` makes the headers of what is passed on.
    pub(super) fn announced(
        &mut self,
        generation: Generation,
        forwarders: &[Arc<Forwarder>],
        announce: &UpstreamAnnounce<'_>,
        along: impl Fn() -> PassedHeaders,
        now: Instant,
    ) -> StartedExchanges {
        let request = announce.request;
        let downloads = request.role().downloads();
        // Other peers cannot connect to a client without a port: an upstream has no use for it.
        let Some(port) = request.port else { return self.begun(generation, forwarders, downloads, now) };
        let key = ClientKey { peer_id: request.peer_id, port };
        let counts = match self.clients.get_mut(&key) {
            Some(client) => {
                let counts = client.announces(announce, now);
                if counts == Counts::Yes && client.is_quiet(generation, now) {
                    return self.begun(generation, forwarders, downloads, now);
                }
                counts
            }
            None => Counts::NewHost,
        };
        let mut begun = StartedExchanges::default();
        let is_told = match counts {
            Counts::Yes => true,
            Counts::NewHost => self.arrives(key, announce, &along, now, &mut begun.exchanges),
            Counts::No => false,
        };
        if !is_told {
            return self.begun(generation, forwarders, downloads, now);
        }
        let blocked = self.blocked(key, now, &mut begun.exchanges);
        self.count(&begun.exchanges);
        let Some(client) = self.clients.get_mut(&key) else { return begun };
        let mut headers: Option<PassedHeaders> = None;
        for forwarder in forwarders.iter().filter(|forwarder| forwarder.serves(request.info_hash)) {
            let at = find(&mut self.at, |at| Arc::ptr_eq(&at.forwarder, forwarder), || AtForwarder::new(forwarder));
            let serial = client.session(forwarder, announce.ip).map(|held| held.session.serial);
            let Some((at, serial)) = at.zip(serial) else { continue };
            begun.known.extend(at.lists.best(downloads, now).cloned());
            let cold = at.lists.exact(downloads, now).is_none();
            let mut waits = false;
            if !blocked.iter().any(|other| Arc::ptr_eq(other, forwarder)) && client.is_due(serial, now) {
                if headers.is_none() {
                    client.put_along(announce.ip, headers.insert(along()).clone());
                }
                match client.begin(serial, self.serial, now) {
                    Some(Ok(exchange)) => {
                        let brings_a_list = exchange.brings_a_list();
                        at.under_way += usize::from(brings_a_list);
                        self.under_way += usize::from(brings_a_list);
                        waits = cold && brings_a_list && forwarder.is_prompt();
                        begun.exchanges.push(exchange);
                    }
                    Some(Err(skipped)) => forwarder.count_skipped(skipped),
                    None => {}
                }
            }
            if waits {
                let (list, wait) = oneshot::channel();
                at.waiters.push(Waiter { session: serial, downloads, list });
                begun.waits.push(Wait { list: wait, forwarder: Arc::clone(forwarder) });
            }
            begun.pending |= !waits && at.under_way > 0;
        }
        client.calm_down(generation, now);
        begun
    }

    /// A client announces from a host that is new, or that had left. Whom it takes the place of is signed off. False if it
    /// is not to be told of: it claims an address that has a host of its own, or there is no room.
    fn arrives(
        &mut self,
        key: ClientKey,
        announce: &UpstreamAnnounce<'_>,
        along: impl Fn() -> PassedHeaders,
        now: Instant,
        out: &mut Vec<Exchange>,
    ) -> bool {
        let ip = announce.ip;
        let has_a_host = |clients: &Map<ClientKey, Box<ForwardedClient>>, other: &ClientKey| {
            clients.get(other).is_some_and(|client| client.speaks_for_itself_at(ip))
        };
        let occupant = self.endpoints.get(&(ip, key.port)).map(|place| place.current).filter(|&id| id != key.peer_id);
        let occupant = occupant.map(|peer_id| ClientKey { peer_id, port: key.port });
        if announce.is_claim && occupant.is_some_and(|other| has_a_host(&self.clients, &other)) {
            return false;
        }
        if let Some(client) = self.clients.get_mut(&key) {
            client.arrives(announce, along, now);
        } else if self.make_room(RequestSource::of(announce.source)) {
            let client = ForwardedClient::new(key, announce, along(), now);
            self.count_source(client.source, 1);
            self.clients.insert(key, Box::new(client));
        } else {
            return false;
        }
        // Another retracker speaks for many clients from one address.
        if announce.via.hops() > 0 {
            return true;
        }
        let ClientKey { peer_id, port } = key;
        let before = take(&mut self.endpoints, (ip, port), peer_id).map(|peer_id| ClientKey { peer_id, port });
        let moved = take(&mut self.homes, (peer_id, ip), port).map(|port| ClientKey { peer_id, port });
        let moved = moved.filter(|from| !(announce.is_claim && has_a_host(&self.clients, from)));
        for old in [before, moved].into_iter().flatten() {
            self.depart(old, ip);
            self.replace(old, key, ip, now, out);
        }
        true
    }

    /// One client has taken the place of another at this address: forwarders are told first that the other has left.
    fn replace(&mut self, old: ClientKey, new: ClientKey, ip: IpAddr, now: Instant, out: &mut Vec<Exchange>) {
        let Some(client) = self.clients.get_mut(&old) else { return };
        client.leaves(ip, None, None, now);
        client.before = Some(new);
        client.sign_off(self.serial, now, out);
        if client.is_gone() {
            self.remove(old);
        } else if let Some(client) = self.clients.get_mut(&new).filter(|client| !client.behind.contains(&old)) {
            client.behind.push(old);
        }
    }

    /// The forwarders that have still to be told that somebody has left whose place this client has taken.
    fn blocked(&mut self, key: ClientKey, now: Instant, out: &mut Vec<Exchange>) -> Vec<Arc<Forwarder>> {
        let Some(client) = self.clients.get_mut(&key).filter(|client| !client.behind.is_empty()) else {
            return Vec::new();
        };
        let mut behind = std::mem::take(&mut client.behind);
        let mut blocked = Vec::new();
        behind.retain(|old| {
            let Some(client) = self.clients.get_mut(&*old) else { return false };
            client.sign_off(self.serial, now, out);
            let known = blocked.len();
            blocked.extend(client.not_yet_told().cloned());
            blocked.len() > known
        });
        if let Some(client) = self.clients.get_mut(&key) {
            client.behind = behind;
        }
        blocked
    }

    /// No id announces from there any more.
    fn depart(&mut self, ClientKey { peer_id, port }: ClientKey, ip: IpAddr) {
        let clients = &self.clients;
        let is_here = |key: ClientKey| clients.get(&key).is_some_and(|client| client.is_here());
        leave(&mut self.endpoints, (ip, port), peer_id, |peer_id| is_here(ClientKey { peer_id, port }));
        leave(&mut self.homes, (peer_id, ip), port, |port| is_here(ClientKey { peer_id, port }));
    }

    /// A client has left, and is being signed off. If another one has had the same endpoint it is told of again.
    fn tell_of_the_other(&mut self, left: ClientKey, ip: IpAddr) {
        let Some(place) = self.endpoints.get(&(ip, left.port)) else { return };
        let other = ClientKey { peer_id: place.current, port: left.port };
        if self.clients.get(&left).is_none_or(|client| client.not_yet_told().next().is_none()) {
            return;
        }
        let Some(client) = self.clients.get_mut(&other).filter(|client| client.is_here()) else { return };
        client.outlives(left);
        if let Some(client) = self.clients.get_mut(&left) {
            client.before = Some(other);
        }
    }

    fn remove(&mut self, key: ClientKey) {
        let Some(client) = self.clients.remove(&key) else { return };
        self.count_source(client.source, -1);
        client.hosts().iter().filter(|host| host.left.is_none()).for_each(|host| self.depart(key, host.ip));
    }

    fn count_source(&mut self, source: RequestSource, change: isize) {
        let Some(sources) = &mut self.sources else { return };
        let count = sources.entry(source).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            sources.remove(&source);
        }
        self.sources.take_if(|_| self.clients.len() < MAX_CLIENTS / 2);
    }

    /// Whether there is room for another client of this source. If there is none, clients of the heaviest source give way,
    /// those first that no forwarder knows, then those that have been silent for longest.
    fn make_room(&mut self, source: RequestSource) -> bool {
        if self.clients.len() < MAX_CLIENTS {
            return true;
        }
        let clients = &self.clients;
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
        let theirs = self.clients.iter().filter(|(_, client)| client.source == heaviest);
        let mut theirs: Vec<_> = theirs.map(|(key, client)| (!client.was_never_told(), client.seen(), *key)).collect();
        theirs.sort_unstable_by_key(|&(is_told, seen, _)| (is_told, seen));
        theirs.into_iter().take(GIVE_WAY.min((most - own) / 2).max(1)).for_each(|(_, _, key)| self.remove(key));
        true
    }

    /// What there is for somebody of whom nothing has to be told.
    fn begun(
        &mut self,
        generation: Generation,
        forwarders: &[Arc<Forwarder>],
        downloads: bool,
        now: Instant,
    ) -> StartedExchanges {
        let known = self.known(generation, forwarders, downloads, now);
        StartedExchanges {
            known: known.into_iter().collect(),
            pending: self.under_way > 0,
            ..StartedExchanges::default()
        }
    }

    /// The peers of all these forwarders in one list.
    pub(super) fn known(
        &mut self,
        generation: Generation,
        forwarders: &[Arc<Forwarder>],
        downloads: bool,
        now: Instant,
    ) -> Option<Arc<UpstreamPeers>> {
        if self.combined.generation != generation {
            self.combined = Combined { generation, ..Combined::default() };
        }
        let [of_all, of_leechers] = &mut self.combined.lists;
        let combined = if downloads { of_all } else { of_leechers };
        combined.take_if(|list| !list.is_good(now));
        if combined.is_none() {
            let at = |forwarder: &Arc<Forwarder>| self.at.iter().find(|at| Arc::ptr_eq(&at.forwarder, forwarder));
            let lists = forwarders.iter().filter_map(at).filter_map(|at| at.lists.best(downloads, now).cloned());
            let lists: UpstreamLists = lists.collect();
            *combined = (!lists.is_empty()).then(|| UpstreamPeers::combined(&lists));
            let known = combined.clone();
            self.weigh_lists();
            return known;
        }
        combined.clone()
    }

    fn weigh_lists(&mut self) {
        let combined = self.combined.lists.iter().flatten().map(|list| list.size());
        self.list_bytes = self.at.iter().map(|at| at.lists.size()).chain(combined).sum();
    }

    /// A client leaves: it is signed off wherever it is known. `open_stops` counts who is still to be told.
    pub(super) fn left(
        &mut self,
        announce: &UpstreamAnnounce<'_>,
        open_stops: &TaskTracker,
        now: Instant,
    ) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let UpstreamAnnounce { request, ip, is_claim, .. } = *announce;
        let peer_id = request.peer_id;
        let home = self.homes.get(&(peer_id, ip));
        let ports: SmallVec<[NonZeroU16; 2]> = match request.port {
            Some(port) => std::iter::once(port).collect(),
            None => home.into_iter().flat_map(Occupancy::all).collect(),
        };
        for key in ports.into_iter().map(|port| ClientKey { peer_id, port }) {
            let Some(client) = self.clients.get_mut(&key) else { continue };
            if client.leaves(ip, Some((request, is_claim)), Some(open_stops), now) {
                // What cannot be told now is told by one of the next sweeps.
                client.sign_off(self.serial, now, &mut exchanges);
                let is_gone = client.is_gone();
                self.depart(key, ip);
                if is_gone {
                    self.remove(key);
                } else {
                    self.tell_of_the_other(key, ip);
                }
            }
        }
        self.count(&exchanges);
        exchanges
    }

    /// Exchanges have begun, some of which bring a list.
    fn count(&mut self, exchanges: &[Exchange]) {
        for exchange in exchanges.iter().filter(|exchange| exchange.brings_a_list()) {
            let at = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, &exchange.forwarder));
            at.into_iter().for_each(|at| {
                at.under_way += 1;
                self.under_way += 1;
            });
        }
    }

    /// An exchange has its turn. False if there is nothing to be told any more: the client has left before its upstream
    /// heard of it. What it has said in the meantime is told.
    pub(super) fn has_its_turn(&mut self, exchange: &mut Exchange) -> bool {
        if exchange.torrent != self.serial {
            return exchange.event == UpstreamEvent::Stopped;
        }
        match self.clients.get(&exchange.client) {
            Some(client) => client.has_its_turn(exchange),
            None => false,
        }
    }

    /// An exchange has ended, or did not begin; `addresses` are those under which its forwarder knows us. Returns what has to
    /// be told next.
    pub(super) fn ended(
        &mut self,
        exchange: &Exchange,
        outcome: ExchangeOutcome,
        answer: Option<(&UpstreamAnswer, &[IpAddr])>,
        now: Instant,
    ) -> Vec<Exchange> {
        let forwarder = &exchange.forwarder;
        // The torrent may have been forgotten and begun anew in the meantime: then this is no affair of its.
        if exchange.torrent != self.serial {
            return Vec::new();
        }
        let list = answer.filter(|_| exchange.event != UpstreamEvent::Stopped).map(|(answer, addresses)| {
            let interval =
                if let ExchangeOutcome::Taken { interval, .. } = outcome { interval } else { Duration::ZERO };
            let ours = self.ours(&answer.reply, addresses);
            Arc::new(UpstreamPeers::new(&answer.reply, interval, &ours, now))
        });
        let next = self.session_ended(exchange, outcome, now);
        if let Some(at) = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, forwarder)) {
            let ended = usize::from(exchange.brings_a_list());
            debug_assert!(at.under_way >= ended && self.under_way >= at.under_way, "all that begin are counted");
            let ended = ended.min(at.under_way);
            at.under_way -= ended;
            self.under_way -= ended;
            if let Some(list) = list {
                self.combined = Combined::default();
                at.put(exchange.request.role().downloads(), &list);
            }
            at.waiters.retain(|waiter| waiter.session != exchange.session);
        }
        self.count(&next);
        self.weigh_lists();
        next
    }

    /// What has to be told next of a client, or of one who has taken its place and waited for that.
    fn session_ended(&mut self, exchange: &Exchange, outcome: ExchangeOutcome, now: Instant) -> Vec<Exchange> {
        let mut next = Vec::new();
        let Some(client) = self.clients.get_mut(&exchange.client) else { return next };
        next.extend(client.ended(exchange.session, self.serial, outcome, now));
        let is_told = !client.not_yet_told().any(|other| Arc::ptr_eq(other, &exchange.forwarder));
        let successor = client.before.filter(|_| is_told);
        if client.is_gone() {
            self.remove(exchange.client);
        }
        if let Some(successor) = successor.and_then(|key| self.clients.get_mut(&key)) {
            successor.begin_at(&exchange.forwarder, self.serial, now, &mut next);
        }
        next
    }

    /// Signs off those who have not been heard of for `age` and those whose forwarder is no longer to know of them, and
    /// forgets what is no longer good.
    pub(super) fn sweep(&mut self, age: Duration, now: Instant) -> Vec<Exchange> {
        let (mut exchanges, mut silent, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, client) in &mut self.clients {
            silent.extend(client.expire(age, now).into_iter().map(|ip| (*key, ip)));
            client.sign_off(self.serial, now, &mut exchanges);
            if client.is_gone() {
                gone.push(*key);
            }
        }
        for (key, ip) in silent {
            self.depart(key, ip);
            self.tell_of_the_other(key, ip);
        }
        gone.into_iter().for_each(|key| self.remove(key));
        self.count(&exchanges);
        for combined in &mut self.combined.lists {
            combined.take_if(|list| !list.is_good(now));
        }
        self.at.retain_mut(|at| {
            at.change(|lists| lists.expire(now));
            at.under_way > 0 || !at.forwarder.is_retired()
        });
        self.weigh_lists();
        exchanges
    }

    /// Which of our clients the reply may hold, under their own addresses or under those of ours that its forwarder sees.
    fn ours(&self, reply: &UpstreamReply, addresses: &[IpAddr]) -> Ours {
        let (v4, v6) = (&reply.peers.v4, &reply.peers.v6);
        let ports: HashSet<_> = v4.iter().map(|peer| peer.endpoint.port).collect();
        let ports: HashSet<_> = v6.iter().map(|peer| peer.endpoint.port).chain(ports).collect();
        let ids = v4.iter().filter_map(|peer| peer.id).chain(v6.iter().filter_map(|peer| peer.id));
        let ids: HashSet<PeerId> = ids.collect();
        let mut ours = Ours::default();
        for (ClientKey { peer_id, port }, client) in &self.clients {
            if ids.contains(peer_id) {
                ours.ids.insert(*peer_id);
            }
            if ports.contains(port) {
                let own = client.hosts().iter().map(|host| &host.ip);
                ours.endpoints.extend(own.chain(addresses).map(|&ip| (ip, *port)));
            }
        }
        ours
    }
}

/// The element that is looked for, new if there is none.
fn find<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> Option<&mut T> {
    if !all.iter().any(&is_it) {
        // There are as many as forwarders, from the first on.
        all.reserve_exact(1);
        all.push(new());
    }
    all.iter_mut().find(|element| is_it(element))
}

impl Weigh for Torrent {
    fn weight(&self) -> u32 {
        let clients = self.clients.len() * (CLIENT + self.at.len() * SESSION);
        let bytes = TORRENT + self.at.len() * AT_FORWARDER + clients + self.list_bytes;
        u32::try_from(bytes).unwrap_or(u32::MAX) / UNIT
    }
}
