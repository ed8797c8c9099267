//! One torrent as upstream trackers know it through us: our clients, their sessions, and the forwarders' lists.

mod at_forwarder;
mod clients;
mod lists;
mod occupancy;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::clients::Clients;
use self::lists::TorrentLists;
use super::announce::UpstreamAnnounce;
use super::client::HostUpdate;
use super::elsewhere::ClientElsewhere;
use super::forwarder::{Exchange, Forwarder};
use super::headers::PassedHeaders;
use super::list::UpstreamPeers;
use super::own_peers::OwnPeers;
use super::pending::{UpstreamLists, Wait};
use super::session::{ExchangeOutcome, UpstreamEvent};
use super::set::ForwarderSet;
use super::status::UpstreamTorrent;
use crate::cache::Weigh;
use tracker_protocol::upstream::UpstreamReply;

/// Bytes in one unit of a torrent's weight in the cache.
pub(super) const UNIT: u32 = 64;

/// The most bytes of a torrent, its state at one forwarder, a client, and a session. Lists are counted separately.
const TORRENT: usize = 700;
const AT_FORWARDER: usize = 400;
const CLIENT: usize = 1000;
const SESSION: usize = 280;

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    /// Tells this state's exchanges from those of an earlier state of the torrent, which was evicted.
    serial: u64,
    clients: Clients,
    lists: TorrentLists,
}

impl Default for Torrent {
    fn default() -> Self {
        let serial = fastrand::u64(..);
        Self { serial, clients: Clients::new(serial), lists: TorrentLists::default() }
    }
}

/// What an announce gets, and the exchanges that it begins.
#[derive(Default)]
pub(super) struct StartedExchanges {
    /// The lists that are available now: one of each forwarder that has one. If no exchange may begin, a single list
    /// combines them.
    pub(super) lists: UpstreamLists,
    /// The exchanges that the announce begins.
    pub(super) exchanges: Vec<Exchange>,
    /// The lists that the announce may wait for.
    pub(super) waits: Vec<Wait>,
    /// Whether a list is still to come that the announce does not wait for.
    pub(super) pending: bool,
}

impl Torrent {
    /// Handles an announce other than `stopped`. `headers` makes the headers that are passed on.
    pub(super) fn announce(
        &mut self,
        set: &ForwarderSet,
        announce: &UpstreamAnnounce<'_>,
        headers: impl Fn() -> PassedHeaders,
        now: Instant,
    ) -> StartedExchanges {
        let downloads = announce.request.role().downloads();
        let Some(key) = announce.client() else { return self.cached(set, downloads, now) };
        let update = match self.clients.get_mut(key) {
            Some(client) => {
                let update = client.update_host(announce, now);
                if update == HostUpdate::Updated && client.is_quiet(set.generation, now) {
                    return self.cached(set, downloads, now);
                }
                update
            }
            None => HostUpdate::NewHost,
        };
        let mut started = StartedExchanges::default();
        let is_forwarded = match update {
            HostUpdate::Updated => true,
            HostUpdate::NewHost => self.clients.host_arrived(key, announce, &headers, now, &mut started.exchanges),
            HostUpdate::Ignored => false,
        };
        if !is_forwarded {
            return self.cached(set, downloads, now);
        }
        let blocked = self.clients.blocked_forwarders(key, now, &mut started.exchanges);
        self.lists.count_begun(&started.exchanges);
        self.begin_due(set, announce, headers, &blocked, now, &mut started);
        started
    }

    /// Begins the exchanges that are due for the client of an announce, except those with `blocked` forwarders.
    fn begin_due(
        &mut self,
        set: &ForwarderSet,
        announce: &UpstreamAnnounce<'_>,
        new_headers: impl Fn() -> PassedHeaders,
        blocked: &[Arc<Forwarder>],
        now: Instant,
        started: &mut StartedExchanges,
    ) {
        let downloads = announce.request.role().downloads();
        let Some(client) = announce.client().and_then(|key| self.clients.get_mut(key)) else { return };
        let mut headers: Option<PassedHeaders> = None;
        for forwarder in set.forwarders.iter().filter(|forwarder| forwarder.is_told(announce)) {
            let serial = client.session(forwarder, announce.ip).map(|held| held.session.serial);
            let (Some(serial), Some(at)) = (serial, self.lists.at(forwarder)) else { continue };
            started.lists.extend(at.lists.best(downloads, now).cloned());
            let is_missing = at.lists.exact(downloads, now).is_none();
            let mut waits = false;
            if !blocked.iter().any(|other| Arc::ptr_eq(other, forwarder)) && client.is_due(serial, now) {
                if headers.is_none() {
                    client.set_headers(announce.ip, headers.insert(new_headers()).clone());
                }
                match client.begin(serial, self.serial, now) {
                    Some(Ok(exchange)) => {
                        waits = is_missing && exchange.brings_list() && forwarder.promptness().is_prompt();
                        self.lists.count_begun(std::slice::from_ref(&exchange));
                        started.exchanges.push(exchange);
                    }
                    Some(Err(skipped)) => forwarder.count_skipped(skipped),
                    None => {}
                }
            }
            let Some(at) = self.lists.at(forwarder) else { continue };
            if waits {
                let (sender, list) = oneshot::channel();
                at.add_waiter(serial, downloads, sender);
                started.waits.push(Wait { list, forwarder: Arc::clone(forwarder) });
            }
            started.pending |= !waits && at.under_way > 0;
        }
        client.update_quiet(set.generation, now);
    }

    /// Returns what a forwarder knows of the torrent, with the list for a client that downloads, or for one that does
    /// not.
    pub(super) fn explain(&self, forwarder: &Arc<Forwarder>, downloads: bool, now: Instant) -> UpstreamTorrent {
        let (clients, due) = self.clients.at(forwarder, now);
        let at = self.lists.known_at(forwarder);
        let list = at.and_then(|at| at.lists.best(downloads, now)).cloned();
        UpstreamTorrent {
            clients,
            due_in: due.map(|due| due.saturating_duration_since(now)),
            under_way: at.map_or(0, |at| at.under_way),
            list_good_for: list.as_ref().map_or(Duration::ZERO, |list| list.good_for(now)),
            list,
        }
    }

    /// Returns what an announce gets if no exchange may begin for it.
    fn cached(&mut self, set: &ForwarderSet, downloads: bool, now: Instant) -> StartedExchanges {
        let list = self.combined_list(set, downloads, now);
        StartedExchanges {
            lists: list.into_iter().collect(),
            pending: self.lists.is_any_under_way(),
            ..StartedExchanges::default()
        }
    }

    /// Returns one list that combines the lists of all these forwarders; `None` if there is no list.
    pub(super) fn combined_list(
        &mut self,
        set: &ForwarderSet,
        downloads: bool,
        now: Instant,
    ) -> Option<Arc<UpstreamPeers>> {
        self.lists.combined(set, downloads, now)
    }

    /// Handles a client's `stopped`: begins a `stopped` exchange with each forwarder that lists the client.
    /// `open_stops` counts each `stopped` that has still to be sent.
    pub(super) fn client_left(
        &mut self,
        announce: &UpstreamAnnounce<'_>,
        open_stops: &TaskTracker,
        now: Instant,
    ) -> Vec<Exchange> {
        let exchanges = self.clients.client_left(announce, open_stops, now);
        self.lists.count_begun(&exchanges);
        exchanges
    }

    /// Records what another instance heard of a client at the time `at`. Returns the `stopped` exchanges that begin, if
    /// the client has left.
    pub(super) fn heard_elsewhere(
        &mut self,
        client: &ClientElsewhere,
        at: Instant,
        open_stops: &TaskTracker,
        now: Instant,
    ) -> Vec<Exchange> {
        let exchanges = self.clients.heard_elsewhere(client, at, open_stops, now);
        self.lists.count_begun(&exchanges);
        exchanges
    }

    /// Brings an exchange up to date when its turn comes. Returns false if the exchange is pointless: the client left
    /// before it was ever announced upstream.
    pub(super) fn refresh(&self, exchange: &mut Exchange) -> bool {
        if exchange.torrent != self.serial {
            return exchange.event == UpstreamEvent::Stopped;
        }
        self.clients.refresh(exchange)
    }

    /// Records that an exchange has ended, or was dropped before it began. `answer` is the upstream's reply, with those
    /// clients of the other instances that the reply may list. Returns the exchanges that begin now.
    pub(super) fn exchange_ended(
        &mut self,
        exchange: &Exchange,
        outcome: ExchangeOutcome,
        answer: Option<(UpstreamReply, OwnPeers)>,
        now: Instant,
    ) -> Vec<Exchange> {
        // The exchange belongs to an earlier, evicted state of this torrent.
        if exchange.torrent != self.serial {
            return Vec::new();
        }
        let list = answer.filter(|_| exchange.event != UpstreamEvent::Stopped).map(|(reply, mut own)| {
            let interval =
                if let ExchangeOutcome::Accepted { interval, .. } = outcome { interval } else { Duration::ZERO };
            self.clients.add_to(&mut own);
            Arc::new(UpstreamPeers::new(&reply, interval, &own, now))
        });
        let next = self.clients.exchange_ended(exchange, outcome, now);
        self.lists.exchange_ended(exchange, list.as_ref());
        self.lists.count_begun(&next);
        next
    }

    /// Returns the exchanges that announce `stopped`: for each client that has been silent for `age`, and for each client
    /// that a forwarder should no longer list. The exchanges count as begun. Drops expired lists.
    pub(super) fn sweep(&mut self, age: Duration, now: Instant) -> Vec<Exchange> {
        let exchanges = self.clients.expire(age, now);
        self.lists.count_begun(&exchanges);
        self.lists.expire(now);
        exchanges
    }
}

impl Weigh for Torrent {
    fn weight(&self) -> u32 {
        let forwarders = self.lists.forwarder_count();
        let clients = self.clients.len() * (CLIENT + forwarders * SESSION);
        let bytes = TORRENT + forwarders * AT_FORWARDER + clients + self.lists.bytes();
        u32::try_from(bytes).unwrap_or(u32::MAX) / UNIT
    }
}
