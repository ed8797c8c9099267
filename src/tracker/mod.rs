//! The decision: policy → store → forward → merge. Knows no framework, no bytes and no sockets.

mod gateway;
mod merge;
pub mod policy;
#[cfg(test)]
mod simulation;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Once};

use crate::bittorrent::address::Reach;
use crate::bittorrent::{AnnounceReply, AnnounceRequest, Event, Place, ScrapeReply, ScrapeRequest, Views};
pub use crate::forward::ForwarderStatus;
use crate::forward::{Asked, Forwarders, Gathered, Outbound, UpstreamPeers, Waiting};
use crate::metrics::{Metrics, UnlistedMetrics};
use crate::store::{Action, Announcement, Clock, Picked, Store};
use crate::wire::via::Via;

use self::gateway::{GatewayWatch, Sighting};
use self::merge::Client;
pub use self::policy::{Addresses, IpParam, Policy};

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
    /// The announce came from its address, but what it claims does not count: a browser has sent it, or somebody behind a
    /// proxy that names its clients badly.
    NoClaims,
    /// The announce came from its address, but a web page has had it sent. It is no client's: nothing is changed by it, and it
    /// is told what the rest of the world is told.
    Page,
    /// The address is only that of a proxy that is trusted, and it is open for whom that speaks. The client is told of public
    /// peers only, is not listed as one, changes and ends nothing, and no upstream tracker hears of it.
    Unclear,
    /// The same, but the proxy is none of the trusted ones: it may as well be a client that makes up headers.
    Untrusted,
}

/// What a client is told whose address is not known.
const UNCLEAR: &str = "a proxy before this tracker does not say clearly which address you have, so you get public peers \
                       only and are not listed as one; the tracker's log tells the operator the remedy (TRUSTED_PROXIES, \
                       REAL_IP_HEADER)";

/// What a client is told whose announce came through a proxy that is not trusted.
const UNTRUSTED: &str = "a proxy passed on your announce that this tracker is not told to trust, so you get public peers only \
                         and are not listed as one; the operator can name the proxy with TRUSTED_PROXIES";

/// What a client is told whose announce a web page has sent.
const PAGE: &str = "a web page sent this announce, so it gets public peers only and is not listed as one";

/// What a client is told whose address means nothing to others.
const UNREACHABLE: &str =
    "you are not listed as a peer, because no other client can reach the address that you announce from";

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
    unlisted: Unlisted,
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
        let unlisted = Unlisted { metrics: metrics.unlisted.clone(), told: Once::new() };
        Self { policy, views, store, forwarders, clock: Clock::start(), gateways, unlisted }
    }

    /// What clients are told about when to come back; refusals carry it too.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What an announce would be answered from the store, which is left as it is.
    pub fn peek(&self, caller: Caller<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let Some(addresses) = self.addresses(caller, request) else { return self.answer_outsider(caller, request) };
        let want = self.policy.want(request.numwant).min(caller.room);
        let announcement = Announcement { action: Action::Look, ..self.announcement(caller, request, addresses, want) };
        let now = self.clock.now();
        let local = self.store.announce(now, &self.views, request.info_hash, &announcement);
        let warning = self.gateways.warning(now, addresses.ip).filter(|_| !addresses.is_claim);
        self.reply(addresses.ip, local, warning)
    }

    /// Carries out one announce. What can be said at once, which is nearly always everything, is said at once.
    pub fn announce(&self, caller: Caller<'_>, request: &AnnounceRequest) -> Announced {
        let Some(addresses) = self.addresses(caller, request) else {
            return Announced::Now(self.answer_outsider(caller, request));
        };
        let ip = addresses.ip;
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.policy.want(request.numwant).min(caller.room) };
        let mut announcement = self.announcement(caller, request, addresses, want);
        let place = announcement.place;
        // What comes back to us is ours already, and need not go round again: it is answered, and no more.
        let came_back = self.forwarders.as_ref().is_some_and(|forwarders| forwarders.have_passed_on(caller.via));
        if came_back {
            announcement.action = Action::Look;
        }
        let now = self.clock.now();
        let local = self.store.announce(now, &self.views, request.info_hash, &announcement);
        log::debug!(
            "announce {} from {ip} port {} peer {} {}: {} local peers",
            request.info_hash,
            request.port.map_or(0, Into::into),
            request.peer_id,
            request.event.map_or("update", Event::name),
            local.peers.len()
        );
        let warning = if addresses.is_claim {
            None
        } else if announcement.port.is_none() && request.port.is_some() {
            Some(self.unlisted.unreachable(ip))
        } else {
            let others = local.others_at_address;
            let sighting = Sighting { source: ip, swarm: request.info_hash, client: request.peer_id, others };
            self.gateways.saw(now, &sighting)
        };
        let reply = self.reply(ip, local, warning);
        // Another retracker is told of our own swarm only: if it forwards to us as we do to it, each would add what
        // the other has counted, again and again.
        let counts = caller.via.hops() == 0;
        let client = Client { place, outside: addresses.outside, port: request.port, want, counts };
        let Some(forwarders) = self.forwarders.as_ref().filter(|_| !came_back) else { return Announced::Now(reply) };
        let Caller { ip: source, user_agent, via, .. } = caller;
        // In the world upstream trackers are, as a rule.
        let outside = addresses.outside.unwrap_or(ip);
        let outbound = Outbound { request, ip, outside, is_claim: addresses.is_claim, source, user_agent, via };
        if stopped {
            forwarders.leave(&outbound);
            return Announced::Now(reply);
        }
        let want = self.policy.with_upstream(want, reply.peers.len(), reply.complete);
        let client = Client { want, ..client };
        match forwarders.announce(&outbound) {
            Asked::Known(upstream) => Announced::Now(self.merge(reply, client, &upstream)),
            Asked::Waiting(waiting) => Announced::Later(Pending { reply, client, waiting }),
        }
    }

    /// Where a client is recorded; none if it is not a client, as far as is known.
    fn addresses(&self, caller: Caller<'_>, request: &AnnounceRequest) -> Option<Addresses> {
        match caller.standing {
            Standing::Client => Some(self.policy.addresses(caller.ip, &request.claimed, caller.via.hops() > 0)),
            Standing::NoClaims => Some(Addresses { ip: caller.ip, is_claim: false, outside: None }),
            Standing::Page | Standing::Unclear | Standing::Untrusted => None,
        }
    }

    fn announcement(
        &self,
        caller: Caller<'_>,
        request: &AnnounceRequest,
        addresses: Addresses,
        want: usize,
    ) -> Announcement {
        let Addresses { ip, is_claim, outside } = addresses;
        Announcement {
            place: self.views.place_seen_from(ip, caller.ip),
            is_claim,
            outside: outside.map(|ip| self.views.place(ip)),
            source: caller.ip,
            // Who is at an address that means nothing to others is told of them, but not they of it.
            port: request.port.filter(|_| Reach::of(ip) != Reach::Nowhere),
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

    /// Answers somebody who is no client, as far as is known. It is told of public peers, and nothing comes of what it says.
    fn answer_outsider(&self, caller: Caller<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.policy.want(request.numwant).min(caller.room) };
        let addresses = Addresses { ip: caller.ip, is_claim: false, outside: None };
        let announcement = Announcement {
            place: Place::nowhere(caller.ip.is_ipv6()),
            port: None,
            action: Action::Look,
            ..self.announcement(caller, request, addresses, want)
        };
        let local = self.store.announce(self.clock.now(), &self.views, request.info_hash, &announcement);
        log::debug!(
            "announce {} from {} ({:?}), peer {}, is not listed: {} public peers",
            request.info_hash,
            caller.ip,
            caller.standing,
            request.peer_id,
            local.peers.len()
        );
        let unlisted = &self.unlisted.metrics;
        let (count, warning) = match caller.standing {
            Standing::Page => (&unlisted.page, PAGE),
            Standing::Untrusted => (&unlisted.unclear, UNTRUSTED),
            _ => (&unlisted.unclear, UNCLEAR),
        };
        count.inc();
        let external_ip = (caller.standing != Standing::Unclear).then_some(caller.ip);
        AnnounceReply { external_ip, ..self.reply(caller.ip, local, Some(warning.into())) }
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

    fn reply(&self, ip: IpAddr, local: Picked, warning: Option<Cow<'static, str>>) -> AnnounceReply {
        AnnounceReply {
            interval: self.policy.interval,
            // aria2 comes back at `min interval`, whatever `interval` says: anything less would only make it come early.
            min_interval: self.policy.interval,
            complete: local.counts.complete,
            incomplete: local.counts.incomplete,
            downloaded: local.counts.downloaded,
            external_ip: Some(ip),
            warning,
            peers: local.peers,
        }
    }
}

/// Keeps account of announces whose client is not listed as a peer.
#[derive(Debug)]
struct Unlisted {
    metrics: UnlistedMetrics,
    /// That somebody is at an address that nobody can reach, is logged once.
    told: Once,
}

impl Unlisted {
    /// A client is at an address that means nothing to others. Gives what it is to be told.
    fn unreachable(&self, ip: IpAddr) -> Cow<'static, str> {
        self.metrics.address.inc();
        log::debug!("a client at {ip} is not listed: nobody can reach that address");
        self.told.call_once(|| {
            log::info!(
                "clients such as the one at {ip} get peers but are not listed: no other client can reach that address. This is \
                 said once; retracker_announces_unlisted_total counts"
            );
        });
        UNREACHABLE.into()
    }
}
