//! One torrent as the upstream trackers know it through us: our clients, what each forwarder knows of them, and the peers
//! that each forwarder gave.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::forwarder::{Exchange, Forwarder, Skipped};
use super::http::Along;
use super::list::{Lists, Ours, UpstreamPeers};
use super::session::{Heard, Presence, Session, Telling};
use super::upstream::Answer;
use super::{Generation, Known, Outbound};
use crate::bittorrent::{AnnounceRequest, Event, InfoHash, PeerId};
use crate::cache::Weigh;
use crate::wire::upstream::UpstreamReply;

/// Bytes that stand for one unit of weight.
pub(super) const UNIT: usize = 64;

/// What a torrent, its lists at one forwarder, a client and a session of that take at most but for the peers of the lists,
/// in bytes.
const TORRENT: usize = 600;
const AT_FORWARDER: usize = 400;
const CLIENT: usize = 800;
const SESSION: usize = 250;

/// Clients of one torrent that are told upstream. More are served what is known: no upstream has a use for as many.
const MAX_CLIENTS: usize = 10_000;

/// For how long it is tried to tell a forwarder that cannot be asked that a peer has left.
const FAREWELLS_LAST: Duration = Duration::from_hours(1);

/// One torrent.
#[derive(Debug, Default)]
pub(super) struct Torrent {
    at: Vec<AtForwarder>,
    combined: Combined,
    /// Exchanges that are to bring a list, of all forwarders: an announce need not look at each.
    under_way: usize,
    /// Bytes of all these lists, so that a weight is known without a look at each.
    list_bytes: usize,
    /// Boxed, as a table has room for more than it holds.
    clients: HashMap<PeerId, Box<Client>, foldhash::fast::RandomState>,
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

/// The torrent at one forwarder.
#[derive(Debug)]
struct AtForwarder {
    forwarder: Arc<Forwarder>,
    lists: Lists,
    /// Exchanges that are to bring a list.
    under_way: usize,
    waiters: Vec<Waiter>,
}

/// An announce that waits for a list.
#[derive(Debug)]
struct Waiter {
    /// The session whose exchange it waits for; another one's may be faster.
    session: u64,
    downloads: bool,
    list: oneshot::Sender<Arc<UpstreamPeers>>,
}

/// One of our clients: what it said last, and what the forwarders know of it.
#[derive(Debug)]
struct Client {
    request: AnnounceRequest,
    /// Where its latest announce came from.
    ip: IpAddr,
    /// Its addresses by family, IPv4 first.
    ips: [Option<IpAddr>; 2],
    along: Along,
    seen: Instant,
    /// When it left, if it is still to be signed off.
    left: Option<Instant>,
    sessions: Vec<Held>,
    /// Until when no forwarder has to be told anything new, and of which forwarders that was said.
    quiet: Option<(Instant, Generation)>,
}

/// A session, counted.
#[derive(Debug)]
struct Held {
    forwarder: Arc<Forwarder>,
    session: Session,
}

impl Held {
    fn new(forwarder: &Arc<Forwarder>) -> Self {
        forwarder.count_sessions(1);
        Self { forwarder: Arc::clone(forwarder), session: Session::new() }
    }

    /// Tells what is due, if the forwarder may be asked.
    fn begin(&mut self, telling: Telling, said: Said<'_>, now: Instant) -> Result<Exchange, Skipped> {
        let place = self.forwarder.admit(now)?;
        Ok(Exchange {
            place,
            request: said.request.clone(),
            ip: said.ip,
            along: said.along.clone(),
            telling,
            session: self.session.serial,
            tracker_id: self.session.begins(telling, now),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forwarder.count_sessions(-1);
    }
}

/// What a client said last.
#[derive(Clone, Copy)]
struct Said<'a> {
    request: &'a AnnounceRequest,
    ip: IpAddr,
    along: &'a Along,
}

impl Client {
    fn new(outbound: &Outbound<'_>, along: Along, now: Instant) -> Self {
        Self {
            request: outbound.request.clone(),
            ip: outbound.ip,
            ips: [None; 2],
            along,
            seen: now,
            left: None,
            sessions: Vec::new(),
            quiet: None,
        }
    }

    fn announces(&mut self, outbound: &Outbound<'_>, now: Instant) {
        self.request.clone_from(outbound.request);
        self.ip = outbound.ip;
        let [v4, v6] = &mut self.ips;
        *(if outbound.ip.is_ipv4() { v4 } else { v6 }) = Some(outbound.ip);
        self.seen = now;
        if self.left.take().is_some() {
            self.sessions.iter_mut().for_each(|held| held.session.stays());
            self.quiet = None;
        }
        if outbound.request.event == Some(Event::Completed) {
            self.sessions.iter_mut().for_each(|held| held.session.completes());
            self.quiet = None;
        }
    }

    fn is_quiet(&self, generation: Generation, now: Instant) -> bool {
        self.quiet.is_some_and(|(until, known)| now < until && known == generation)
    }

    /// Works out until when there is nothing to be told.
    fn calm_down(&mut self, generation: Generation, now: Instant) {
        let ends = self.sessions.iter().map(|held| held.session.quiet_until(now));
        let earliest = ends.reduce(|one, other| one.zip(other).map(|(one, other)| one.min(other)));
        self.quiet = earliest.flatten().map(|until| (until, generation));
    }

    fn leaves(&mut self, request: &AnnounceRequest, telling: &TaskTracker, now: Instant) {
        // Clients leave without saying where they listened; their upstreams know them by that.
        let port = request.port.or(self.request.port);
        let key = request.key.clone().or(self.request.key.take());
        self.request = AnnounceRequest { port, key, ..request.clone() };
        self.left = Some(now);
        self.quiet = None;
        self.sessions.iter_mut().for_each(|held| held.session.leaves(telling.token()));
    }

    fn parts(&mut self) -> (Said<'_>, &mut Vec<Held>) {
        (Said { request: &self.request, ip: self.ip, along: &self.along }, &mut self.sessions)
    }

    /// Signs the client off wherever it is known and no longer to be, and forgets the sessions that are over. Returns
    /// whether it is worth to try again soon.
    fn sign_off(&mut self, now: Instant, out: &mut Vec<Exchange>) -> bool {
        let (left, info_hash) = (self.left, self.request.info_hash);
        let (said, sessions) = self.parts();
        let mut owes = false;
        sessions.retain_mut(|held| {
            let Some((presence, since)) = gone(left, &held.forwarder, info_hash) else { return true };
            if let Some(telling) = held.session.due(presence, now) {
                match held.begin(telling, said, now) {
                    Ok(exchange) => out.push(exchange),
                    Err(skipped) => {
                        held.session.nobody_waits();
                        owes |= skipped == Skipped::Busy;
                        return now.saturating_duration_since(since) < FAREWELLS_LAST;
                    }
                }
            }
            !held.session.is_over(presence)
        });
        owes
    }

    fn is_gone(&self) -> bool {
        self.left.is_some() && self.sessions.is_empty()
    }
}

impl AtForwarder {
    fn new(forwarder: &Arc<Forwarder>) -> Self {
        Self { forwarder: Arc::clone(forwarder), lists: Lists::default(), under_way: 0, waiters: Vec::new() }
    }

    /// Changes the lists, and keeps count of them.
    fn change(&mut self, change: impl FnOnce(&mut Lists)) {
        let before = self.lists.count();
        change(&mut self.lists);
        self.forwarder.count_lists(self.lists.count() - before);
    }

    /// A list has come: for all who wait for it.
    fn put(&mut self, downloads: bool, list: &Arc<UpstreamPeers>) {
        self.change(|lists| lists.put(downloads, Arc::clone(list)));
        for waiter in self.waiters.extract_if(.., |waiter| waiter.downloads == downloads) {
            // Whoever waited may have given up.
            let _ = waiter.list.send(Arc::clone(list));
        }
    }
}

impl Drop for AtForwarder {
    fn drop(&mut self) {
        self.change(|lists| *lists = Lists::default());
    }
}

/// What an announce brings about.
#[derive(Default)]
pub(super) struct Begun {
    /// What is known already, of each forwarder if there is something to wait for, and of all together if there is not.
    pub(super) known: Known,
    /// What has to be told now.
    pub(super) exchanges: Vec<Exchange>,
    /// What the announce may wait for.
    pub(super) waits: Vec<oneshot::Receiver<Arc<UpstreamPeers>>>,
    /// Whether a list is under way that the announce does not wait for.
    pub(super) pending: bool,
}

/// What a sweep brings about.
#[derive(Default)]
pub(super) struct Swept {
    /// What has to be told now.
    pub(super) exchanges: Vec<Exchange>,
    /// Whether it is worth to try again soon, as too much had to be told at once.
    pub(super) owes: bool,
}

impl Torrent {
    /// A client announces, and stays. `along` makes the headers of what is passed on.
    pub(super) fn announced(
        &mut self,
        generation: Generation,
        forwarders: &[Arc<Forwarder>],
        outbound: &Outbound<'_>,
        along: impl Fn() -> Along,
        now: Instant,
    ) -> Begun {
        let request = outbound.request;
        let downloads = request.role().downloads();
        let is_full = self.clients.len() >= MAX_CLIENTS;
        let client = match self.clients.entry(request.peer_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => return self.begun(generation, forwarders, downloads, now),
            Entry::Vacant(new) => new.insert(Box::new(Client::new(outbound, along(), now))),
        };
        client.announces(outbound, now);
        if client.is_quiet(generation, now) {
            return self.begun(generation, forwarders, downloads, now);
        }
        let mut begun = Begun::default();
        for forwarder in forwarders.iter().filter(|forwarder| forwarder.serves(request.info_hash)) {
            let at = find(&mut self.at, |at| Arc::ptr_eq(&at.forwarder, forwarder), || AtForwarder::new(forwarder));
            let is_it = |held: &Held| Arc::ptr_eq(&held.forwarder, forwarder);
            let held = find(&mut client.sessions, is_it, || Held::new(forwarder));
            let Some((at, held)) = at.zip(held) else { continue };
            begun.known.extend(at.lists.best(downloads, now).cloned());
            let cold = at.lists.exact(downloads, now).is_none();
            let mut waits = false;
            if let Some(telling) = held.session.due(Presence::Here, now) {
                client.along = along();
                let said = Said { request: &client.request, ip: client.ip, along: &client.along };
                match held.begin(telling, said, now) {
                    Ok(exchange) => {
                        at.under_way += usize::from(exchange.brings_a_list());
                        self.under_way += usize::from(exchange.brings_a_list());
                        waits = cold && exchange.brings_a_list();
                        begun.exchanges.push(exchange);
                    }
                    Err(skipped) => forwarder.count_skipped(skipped),
                }
            }
            if waits {
                let (list, wait) = oneshot::channel();
                at.waiters.push(Waiter { session: held.session.serial, downloads, list });
                begun.waits.push(wait);
            }
            begun.pending |= !waits && at.under_way > 0;
        }
        client.calm_down(generation, now);
        begun
    }

    /// What there is for somebody of whom nothing has to be told.
    fn begun(&mut self, generation: Generation, forwarders: &[Arc<Forwarder>], downloads: bool, now: Instant) -> Begun {
        let known = self.known(generation, forwarders, downloads, now);
        Begun { known: known.into_iter().collect(), pending: self.under_way > 0, ..Begun::default() }
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
            let lists: Known = lists.collect();
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

    /// A client leaves: it is signed off wherever it is known. `telling` counts who is still to be told.
    pub(super) fn left(&mut self, request: &AnnounceRequest, telling: &TaskTracker, now: Instant) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let Entry::Occupied(mut client) = self.clients.entry(request.peer_id) else { return exchanges };
        client.get_mut().leaves(request, telling, now);
        // What cannot be told now is told by one of the next sweeps.
        client.get_mut().sign_off(now, &mut exchanges);
        if client.get().is_gone() {
            client.remove();
        }
        self.count(&exchanges);
        exchanges
    }

    /// Farewells have begun, some with a last word that brings a list.
    fn count(&mut self, exchanges: &[Exchange]) {
        for exchange in exchanges.iter().filter(|exchange| exchange.brings_a_list()) {
            let at = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, &exchange.place.forwarder));
            at.into_iter().for_each(|at| {
                at.under_way += 1;
                self.under_way += 1;
            });
        }
    }

    /// An exchange has ended; `addresses` are those under which its forwarder knows us. Returns what has to be told next.
    pub(super) fn ended(
        &mut self,
        exchange: &Exchange,
        heard: Heard,
        answer: Option<(&Answer, &[IpAddr])>,
        now: Instant,
    ) -> Option<Exchange> {
        let forwarder = &exchange.place.forwarder;
        let list = answer.filter(|_| exchange.telling != Telling::Stopped).map(|(answer, addresses)| {
            let interval = if let Heard::Taken { interval, .. } = heard { interval } else { Duration::ZERO };
            let ours = self.ours(&answer.reply, addresses);
            Arc::new(UpstreamPeers::new(&answer.reply, interval, &ours, now))
        });
        let Entry::Occupied(mut client) = self.clients.entry(exchange.request.peer_id) else { return None };
        let gone = gone(client.get().left, forwarder, exchange.request.info_hash);
        let presence = gone.map_or(Presence::Here, |(presence, _)| presence);
        client.get_mut().quiet = None;
        let (said, sessions) = client.get_mut().parts();
        // The torrent may have been forgotten and begun anew in the meantime: then this is no affair of its.
        let is_it = |held: &&mut Held| held.session.serial == exchange.session;
        let held = sessions.iter_mut().find(is_it)?;
        let next = held.session.ended(heard, presence, now);
        let next = next.and_then(|telling| held.begin(telling, said, now).ok());
        sessions.retain(|held| presence == Presence::Here || !held.session.is_over(presence));
        if client.get().is_gone() {
            client.remove();
        }
        let Some(at) = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, forwarder)) else { return next };
        let ended = usize::from(exchange.brings_a_list());
        debug_assert!(at.under_way >= ended && self.under_way >= at.under_way, "all that begin are counted");
        let ended = ended.min(at.under_way);
        let begun = next.as_ref().map_or(0, |next| usize::from(next.brings_a_list()));
        at.under_way = at.under_way + begun - ended;
        self.under_way = self.under_way + begun - ended;
        if let Some(list) = list {
            self.combined = Combined::default();
            at.put(exchange.request.role().downloads(), &list);
        }
        at.waiters.retain(|waiter| waiter.session != exchange.session);
        self.weigh_lists();
        next
    }

    /// Signs off those who have not been heard of for `age` and those whose forwarder is no longer to know of them, and
    /// forgets what is no longer good.
    pub(super) fn sweep(&mut self, age: Duration, now: Instant) -> Swept {
        let mut swept = Swept::default();
        self.clients.retain(|_, client| {
            if now.saturating_duration_since(client.seen) >= age {
                client.left.get_or_insert(now);
            }
            swept.owes |= client.sign_off(now, &mut swept.exchanges);
            !client.is_gone()
        });
        self.count(&swept.exchanges);
        for combined in &mut self.combined.lists {
            combined.take_if(|list| !list.is_good(now));
        }
        self.at.retain_mut(|at| {
            at.change(|lists| lists.expire(now));
            at.under_way > 0 || !at.forwarder.is_retired()
        });
        self.weigh_lists();
        swept
    }

    /// Which of our clients the reply may hold, under their own addresses or under those of ours that its forwarder sees.
    fn ours(&self, reply: &UpstreamReply, addresses: &[IpAddr]) -> Ours {
        let (v4, v6) = (&reply.peers.v4, &reply.peers.v6);
        let ports: HashSet<_> = v4.iter().map(|peer| peer.endpoint.port).collect();
        let ports: HashSet<_> = v6.iter().map(|peer| peer.endpoint.port).chain(ports).collect();
        let ids = v4.iter().filter_map(|peer| peer.id).chain(v6.iter().filter_map(|peer| peer.id));
        let mut ours = Ours { ids: ids.filter(|id| self.clients.contains_key(id)).collect(), ..Ours::default() };
        for client in self.clients.values() {
            if let Some(port) = client.request.port.filter(|port| ports.contains(port)) {
                let own = client.ips.iter().flatten();
                ours.endpoints.extend(own.chain(addresses).map(|&ip| (ip, port)));
            }
        }
        ours
    }
}

/// Why and since when a forwarder is no longer to know of a client that left at this moment, or has not.
fn gone(left: Option<Instant>, forwarder: &Forwarder, info_hash: InfoHash) -> Option<(Presence, Instant)> {
    let hidden = forwarder.leaves_out_since(info_hash).map(|since| (Presence::Hidden, since));
    hidden.or_else(|| left.map(|since| (Presence::Left, since)))
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
        u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)
    }
}
