//! The decision: policy → store → forward → merge. Knows no framework, no bytes and no sockets.

mod gateway;
mod merge;
pub mod policy;
#[cfg(test)]
mod simulation;

use std::net::IpAddr;
use std::sync::Arc;

use crate::bittorrent::address::tellable;
use crate::bittorrent::{AnnounceReply, AnnounceRequest, Event, Place, ScrapeReply, ScrapeRequest, Views};
pub use crate::forward::ForwarderStatus;
use crate::forward::{Asked, Forwarders, Gathered, Outbound, UpstreamPeers, Waiting};
use crate::metrics::Metrics;
use crate::store::{Action, Announcement, Clock, Moment, Picked, Store};
use crate::wire::via::Via;

use self::gateway::GatewayWatch;
use self::merge::Client;
pub use self::policy::{IpParam, Policy};

/// Who announces, as the frontend knows it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The address that the announce came from: the socket's, or the one that a trusted proxy gave. Canonical: an
    /// IPv4-mapped address is IPv4.
    pub ip: IpAddr,
    /// What is known of who that is.
    pub standing: Standing,
    /// How many peers a reply has room for: those that are told at all are then picked as if no more were wanted.
    pub room: usize,
    /// The client's `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The other trackers that passed the announce on, if it does not come from a client itself.
    pub via: &'a Via,
}

/// What is known of who sends an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The announce came from its address. Whether what the client claims of its own address counts, [`Policy`] says.
    Client,
    /// The announce came from its address, but such claims do not count: a web page may have sent it.
    NoClaims,
    /// The address is only that of a proxy, and it is open for whom that speaks. The client is told of public peers only, is
    /// not listed as one, changes and ends nothing, and no upstream tracker hears of it.
    Unclear,
}

/// What a client is told whose address is not known.
const UNCLEAR: &str = "the proxy before this tracker does not say clearly which address you have, so you get public peers \
                       only and are not listed as one; the tracker's log tells the operator the remedy (REAL_IP_HEADER)";

/// What becomes of an announce.
#[derive(Debug)]
pub enum Announced {
    /// It is answered.
    Now(AnnounceReply),
    /// Upstream trackers are being asked: [`Tracker::finish`] waits for them, for as long as the deadline allows. They are
    /// asked whether or not anybody waits.
    Later(Pending),
}

/// An announce that is answered but for the peers of upstream trackers.
#[derive(Debug)]
pub struct Pending {
    reply: AnnounceReply,
    client: Client,
    waiting: Waiting,
}

/// One tracker: what all frontends share.
#[derive(Debug)]
pub struct Tracker {
    policy: Policy,
    views: Views,
    store: Arc<Store>,
    forwarders: Option<Forwarders>,
    clock: Clock,
    gateways: GatewayWatch,
}

impl Tracker {
    /// Puts the parts together. Without `forwarders`, announces are answered from the store alone.
    pub fn new(
        policy: Policy,
        views: Views,
        store: Arc<Store>,
        forwarders: Option<Forwarders>,
        metrics: &Metrics,
    ) -> Self {
        let gateways = GatewayWatch::new(metrics.gateways.clone());
        Self { policy, views, store, forwarders, clock: Clock::start(), gateways }
    }

    /// What clients are told about when to come back; refusals carry it too.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What an announce would be answered from the store, which is left as it is.
    pub fn peek(&self, caller: Caller<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let ip = match caller.standing {
            Standing::Client => self.policy.peer_ip(caller.ip, &request.claimed),
            Standing::NoClaims => caller.ip,
            Standing::Unclear => return self.answer_unclear(caller, request),
        };
        let want = self.policy.want(request.numwant).min(caller.room);
        let place = self.views.place_seen_from(ip, caller.ip);
        let announcement = Announcement { action: Action::Look, ..announcement(place, caller.ip, request, want) };
        let now = self.clock.now();
        let local = self.store.announce(now, &self.views, request.info_hash, &announcement);
        self.reply(now, ip, local)
    }

    /// Carries out one announce. What can be said at once, which is nearly always everything, is said at once.
    pub fn announce(&self, caller: Caller<'_>, request: &AnnounceRequest) -> Announced {
        let ip = match caller.standing {
            Standing::Client => self.policy.peer_ip(caller.ip, &request.claimed),
            Standing::NoClaims => caller.ip,
            Standing::Unclear => return Announced::Now(self.answer_unclear(caller, request)),
        };
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.policy.want(request.numwant).min(caller.room) };
        let place = self.views.place_seen_from(ip, caller.ip);
        let mut announcement = announcement(place, caller.ip, request, want);
        // What comes back to us is ours already, and need not go round again: it is answered, and no more.
        let came_back = self.forwarders.as_ref().is_some_and(|forwarders| forwarders.have_passed_on(caller.via));
        if came_back {
            announcement.action = Action::Look;
        }
        let now = self.clock.now();
        let local = self.store.announce(now, &self.views, request.info_hash, &announcement);
        self.gateways.joined(now, ip, local.others_at_address);
        log::debug!(
            "announce {} from {ip} port {} peer {} {}: {} local peers",
            request.info_hash,
            request.port.map_or(0, Into::into),
            request.peer_id,
            request.event.map_or("update", Event::name),
            local.peers.len()
        );
        let reply = self.reply(now, ip, local);
        // Another retracker is told of our own swarm only: if it forwards to us as we do to it, each would add what
        // the other has counted, again and again.
        let counts = caller.via.hops() == 0;
        let client = Client { place, port: request.port, want, counts };
        let Some(forwarders) = self.forwarders.as_ref().filter(|_| !came_back) else { return Announced::Now(reply) };
        if stopped {
            forwarders.leave(request);
            return Announced::Now(reply);
        }
        let outbound = Outbound { request, ip, user_agent: caller.user_agent, via: caller.via };
        let want = self.policy.with_upstream(want, reply.peers.len(), reply.complete);
        let client = Client { want, ..client };
        match forwarders.announce(&outbound) {
            Asked::Known(upstream) => Announced::Now(self.merge(reply, client, &upstream)),
            Asked::Waiting(waiting) => Announced::Later(Pending { reply, client, waiting }),
        }
    }

    /// Answers a client whose address is not known.
    fn answer_unclear(&self, caller: Caller<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.policy.want(request.numwant).min(caller.room) };
        let place = Place::nowhere(caller.ip.is_ipv6());
        let looks = Announcement { port: None, action: Action::Look, ..announcement(place, caller.ip, request, want) };
        let now = self.clock.now();
        let local = self.store.announce(now, &self.views, request.info_hash, &looks);
        log::debug!(
            "announce {} from a client that the proxy {} does not name, peer {}: {} public peers",
            request.info_hash,
            caller.ip,
            request.peer_id,
            local.peers.len()
        );
        AnnounceReply { external_ip: None, warning: Some(UNCLEAR.into()), ..self.reply(now, caller.ip, local) }
    }

    /// Waits for the upstream trackers, and gives the whole reply.
    pub async fn finish(&self, pending: Pending) -> AnnounceReply {
        let Pending { reply, client, waiting } = pending;
        let enough = |lists: &[_]| merge::enough(&reply.peers, client, &self.views, lists);
        let upstream = waiting.gather(enough).await;
        self.merge(reply, client, &upstream)
    }

    fn merge(&self, mut reply: AnnounceReply, client: Client, upstream: &Gathered) -> AnnounceReply {
        match upstream.lists.as_slice() {
            [] => {}
            [only] => self.add(&mut reply, client, only),
            several => self.add(&mut reply, client, &UpstreamPeers::combined(several)),
        }
        if upstream.pending && reply.peers.len() < client.want {
            self.policy.call_back(&mut reply);
        }
        reply
    }

    fn add(&self, reply: &mut AnnounceReply, client: Client, upstream: &UpstreamPeers) {
        merge::add_peers(&mut reply.peers, client, &self.views, upstream);
        if client.counts {
            merge::add_counts(reply, upstream);
        }
    }

    /// Drops peers that have expired. To be called once a second.
    pub fn housekeep(&self) {
        self.store.housekeep(self.clock.now());
    }

    /// The upstream trackers, if there is a file of them.
    pub fn forwarders(&self) -> Option<&Forwarders> {
        self.forwarders.as_ref()
    }

    /// How the upstream trackers do; nothing without a file of them.
    pub fn forwarder_status(&self) -> Vec<ForwarderStatus> {
        self.forwarders.as_ref().map(Forwarders::status).unwrap_or_default()
    }

    /// What is wrong at present, and how the operator can mend it: sentences of plain text.
    pub fn notices(&self) -> Vec<String> {
        self.gateways.notices(self.clock.now())
    }

    /// Carries out one scrape: the counts of the local swarms.
    pub fn scrape(&self, request: ScrapeRequest) -> ScrapeReply {
        let now = self.clock.now();
        let mut info_hashes = request.info_hashes;
        info_hashes.sort_unstable();
        info_hashes.dedup();
        let files = info_hashes.into_iter().map(|hash| (hash, self.store.scrape(now, hash))).collect();
        ScrapeReply { files, min_request_interval: self.policy.interval }
    }

    fn reply(&self, now: Moment, ip: IpAddr, local: Picked) -> AnnounceReply {
        AnnounceReply {
            interval: self.policy.interval,
            // aria2 comes back at `min interval`, whatever `interval` says: anything less would only make it come early.
            min_interval: self.policy.interval,
            complete: local.counts.complete,
            incomplete: local.counts.incomplete,
            downloaded: local.counts.downloaded,
            external_ip: Some(ip),
            warning: self.gateways.warning(now, ip),
            peers: local.peers,
        }
    }
}

fn announcement(place: Place, source: IpAddr, request: &AnnounceRequest, want: usize) -> Announcement {
    Announcement {
        place,
        is_claim: place.ip != source,
        outside: None,
        source,
        // Who is at an address that means nothing to others is told of them, but not they of it.
        port: request.port.filter(|_| tellable(place.ip)),
        peer_id: request.peer_id,
        role: request.role(),
        action: match request.event {
            Some(Event::Stopped) => Action::Leave,
            event => Action::Stay { completed: event == Some(Event::Completed) },
        },
        want,
        ids: request.ids,
    }
}
