//! One torrent as the upstream trackers know it through us: our clients, what each forwarder knows of them, and the peers
//! that each forwarder gave.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::circuit::Admission;
use super::forwarder::{Answer, Exchange, Forwarder};
use super::http::Along;
use super::list::{Lists, Ours, UpstreamPeers};
use super::session::{Heard, Session, Telling};
use super::{Known, Outbound};
use crate::bittorrent::{AnnounceRequest, Event, PeerId};
use crate::cache::Weigh;

/// Bytes that stand for one unit of weight.
pub(super) const UNIT: usize = 64;

/// What a torrent, a client and a session of it take at least, in bytes, as measured.
const TORRENT: usize = 600;
const CLIENT: usize = 450;
const SESSION: usize = 150;

/// One torrent.
#[derive(Debug, Default)]
pub(super) struct Torrent {
    at: Vec<AtForwarder>,
    clients: HashMap<PeerId, Client, foldhash::fast::RandomState>,
}

/// The torrent at one forwarder.
#[derive(Debug)]
struct AtForwarder {
    forwarder: Arc<Forwarder>,
    lists: Lists,
    under_way: usize,
}

/// One of our clients: what it said last, and what the forwarders know of it.
#[derive(Debug)]
struct Client {
    request: AnnounceRequest,
    ip: IpAddr,
    along: Along,
    seen: Instant,
    leaving: bool,
    sessions: Vec<Held>,
}

/// A session, counted.
#[derive(Debug)]
struct Held {
    forwarder: Arc<Forwarder>,
    session: Session,
}

impl Held {
    fn new(forwarder: &Arc<Forwarder>) -> Self {
        forwarder.metrics.sessions.inc();
        Self { forwarder: Arc::clone(forwarder), session: Session::new() }
    }

    /// Tells what is due, if the forwarder may be asked.
    fn begin(&mut self, telling: Telling, said: Said<'_>, now: Instant) -> Option<Exchange> {
        let place = self.forwarder.admit(now)?;
        Some(Exchange {
            place,
            request: said.request.clone(),
            ip: said.ip,
            along: said.along.clone(),
            telling,
            tracker_id: self.session.begins(telling, now),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forwarder.metrics.sessions.dec();
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
    fn parts(&mut self) -> (Said<'_>, &mut Vec<Held>) {
        (Said { request: &self.request, ip: self.ip, along: &self.along }, &mut self.sessions)
    }

    /// Signs the client off where it is known and no longer to be, and forgets the sessions that are over.
    fn sign_off(&mut self, farewell_fails: impl Fn(&mut Session), now: Instant, out: &mut Vec<Exchange>) {
        let leaving = self.leaving;
        let (said, sessions) = self.parts();
        sessions.retain_mut(|held| {
            let leaving = leaving || held.forwarder.is_retired();
            if let Some(telling @ Telling::Stopped) = held.session.due(leaving, now) {
                match held.begin(telling, said, now) {
                    Some(exchange) => out.push(exchange),
                    None => farewell_fails(&mut held.session),
                }
            }
            !(leaving && held.session.is_over())
        });
    }

    fn is_gone(&self) -> bool {
        self.leaving && self.sessions.is_empty()
    }
}

impl AtForwarder {
    fn new(forwarder: &Arc<Forwarder>) -> Self {
        Self { forwarder: Arc::clone(forwarder), lists: Lists::default(), under_way: 0 }
    }

    /// Changes the lists, and keeps count of them.
    fn change(&mut self, change: impl FnOnce(&mut Lists)) {
        let before = self.lists.count();
        change(&mut self.lists);
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.forwarder.metrics.lists.inc_by(count(self.lists.count()) - count(before));
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
    /// What is known already.
    pub(super) known: Known,
    /// What has to be told now, and whether the announce may wait for the answer.
    pub(super) exchanges: Vec<(Exchange, bool)>,
    /// Whether a forwarder is being asked whose answer the announce does not wait for.
    pub(super) pending: bool,
}

impl Torrent {
    /// A client announces, and stays. `along` makes the headers of what is passed on.
    pub(super) fn announced(
        &mut self,
        forwarders: &[Arc<Forwarder>],
        outbound: &Outbound<'_>,
        along: impl FnOnce() -> Along,
        now: Instant,
    ) -> Begun {
        let request = outbound.request;
        let downloads = request.role().downloads();
        let client = match self.clients.entry(request.peer_id) {
            Entry::Occupied(known) => {
                let client = known.into_mut();
                client.request.clone_from(request);
                client.ip = outbound.ip;
                client.seen = now;
                client.leaving = false;
                client
            }
            Entry::Vacant(new) => new.insert(Client {
                request: request.clone(),
                ip: outbound.ip,
                along: along(),
                seen: now,
                leaving: false,
                sessions: Vec::new(),
            }),
        };
        let mut begun = Begun::default();
        for forwarder in forwarders.iter().filter(|forwarder| forwarder.serves(request.info_hash)) {
            let at = find(&mut self.at, |at| Arc::ptr_eq(&at.forwarder, forwarder), || AtForwarder::new(forwarder));
            let (said, sessions) = client.parts();
            let held = find(sessions, |held| Arc::ptr_eq(&held.forwarder, forwarder), || Held::new(forwarder));
            let Some((at, held)) = at.zip(held) else { continue };
            begun.known.extend(at.lists.best(downloads, now).cloned());
            let cold = at.lists.exact(downloads, now).is_none();
            if request.event == Some(Event::Completed) {
                held.session.completes();
            }
            let exchange = held.session.due(false, now).and_then(|telling| held.begin(telling, said, now));
            let waits = cold && exchange.as_ref().is_some_and(|begun| begun.place.admission == Admission::Regular);
            if let Some(exchange) = exchange {
                at.under_way += 1;
                begun.exchanges.push((exchange, waits));
            }
            begun.pending |= !waits && at.under_way > 0;
        }
        begun
    }

    /// What is known, for somebody who is not told of upstream.
    pub(super) fn known(&self, forwarders: &[Arc<Forwarder>], downloads: bool, now: Instant) -> Known {
        let at = |forwarder| self.at.iter().find(|at| Arc::ptr_eq(&at.forwarder, forwarder));
        forwarders.iter().filter_map(at).filter_map(|at| at.lists.best(downloads, now).cloned()).collect()
    }

    /// A client leaves: it is signed off wherever it is known. `telling` counts who is still to be told.
    pub(super) fn left(&mut self, request: &AnnounceRequest, telling: &TaskTracker, now: Instant) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let Some(client) = self.clients.get_mut(&request.peer_id) else { return exchanges };
        client.request.clone_from(request);
        client.leaving = true;
        client.sessions.iter_mut().for_each(|held| held.session.leaves(telling.token()));
        // What cannot be told now is told by one of the next sweeps.
        client.sign_off(|_| {}, now, &mut exchanges);
        self.tidy(request.peer_id, &exchanges);
        exchanges
    }

    /// An exchange has ended. Returns the peers that it brought, and what has to be told next.
    pub(super) fn ended(
        &mut self,
        exchange: &Exchange,
        heard: Heard,
        answer: Option<&Answer>,
        now: Instant,
    ) -> (Option<Arc<UpstreamPeers>>, Option<Exchange>) {
        let forwarder = &exchange.place.forwarder;
        let list = answer.filter(|_| exchange.telling != Telling::Stopped).map(|answer| {
            let interval = if let Heard::Taken { interval, .. } = heard { interval } else { Duration::ZERO };
            let addresses = forwarder.our_addresses(answer);
            Arc::new(UpstreamPeers::new(&answer.reply, interval, &self.ours(&addresses), now))
        });
        if let Some(at) = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, forwarder)) {
            at.under_way = at.under_way.saturating_sub(1);
            if let Some(list) = &list {
                at.change(|lists| lists.put(exchange.request.role().downloads(), Arc::clone(list)));
            }
        }
        let peer_id = exchange.request.peer_id;
        let next = self.clients.get_mut(&peer_id).and_then(|client| {
            let leaving = client.leaving || forwarder.is_retired();
            let (said, sessions) = client.parts();
            let held = sessions.iter_mut().find(|held| Arc::ptr_eq(&held.forwarder, forwarder))?;
            let telling = held.session.ended(heard, leaving, now)?;
            held.begin(telling, said, now)
        });
        self.tidy(peer_id, next.as_slice());
        (list, next)
    }

    /// Signs off those who have not been heard of for `age` and those whose forwarder is no longer configured, and
    /// forgets what is no longer good.
    pub(super) fn sweep(&mut self, age: Duration, now: Instant) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        self.clients.retain(|_, client| {
            client.leaving |= now.saturating_duration_since(client.seen) >= age;
            client.sign_off(Session::farewell_fails, now, &mut exchanges);
            !client.is_gone()
        });
        for exchange in &exchanges {
            self.under_way(exchange);
        }
        self.at.retain_mut(|at| {
            at.change(|lists| lists.expire(now));
            at.under_way > 0 || !at.forwarder.is_retired()
        });
        exchanges
    }

    /// After exchanges of one client have begun or ended.
    fn tidy(&mut self, peer_id: PeerId, begun: &[Exchange]) {
        begun.iter().for_each(|exchange| self.under_way(exchange));
        if let Entry::Occupied(mut client) = self.clients.entry(peer_id) {
            let leaving = client.get().leaving;
            client.get_mut().sessions.retain(|held| !(leaving && held.session.is_over()));
            if client.get().is_gone() {
                client.remove();
            }
        }
    }

    fn under_way(&mut self, exchange: &Exchange) {
        let forwarder = &exchange.place.forwarder;
        if let Some(at) = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, forwarder)) {
            at.under_way += 1;
        }
    }

    fn ours<'a>(&self, addresses: &'a [IpAddr]) -> Ours<'a> {
        let endpoints = || self.clients.values().filter_map(|client| Some((client.ip, client.request.port?)));
        Ours {
            addresses,
            ids: self.clients.keys().copied().collect(),
            endpoints: endpoints().collect(),
            ports: endpoints().map(|(_, port)| port).collect(),
        }
    }
}

/// The element that is looked for, new if there is none.
fn find<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> Option<&mut T> {
    if !all.iter().any(&is_it) {
        all.push(new());
    }
    all.iter_mut().find(|element| is_it(element))
}

impl Weigh for Torrent {
    fn weight(&self) -> u32 {
        let lists: usize = self.at.iter().map(|at| at.lists.size()).sum();
        let bytes = TORRENT + self.clients.len() * (CLIENT + self.at.len() * SESSION) + lists;
        u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)
    }
}
