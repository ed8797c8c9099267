//! The decision: policy → store → forward → merge. Knows no framework, no bytes and no sockets.

mod merge;
pub mod policy;
#[cfg(test)]
mod simulation;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Once};

use crate::answer::Answer;
use crate::clock::Clock;
pub use crate::forward::ForwarderStatus;
use crate::forward::{Forwarders, PendingLists, UpstreamAnnounce, UpstreamPeerSet, UpstreamPeers};
use crate::metrics::{Metrics, UnlistedMetrics};
use crate::store::{Action, Announcement, Selection, Store};
use crate::topology::reach::Reach;
use crate::topology::{Addresses, SharedAddressDetector, Sighting, Topology, ZonedIp};
use tracker_protocol::via::Via;
use tracker_protocol::{AnnounceReply, AnnounceRequest, Event, ScrapeReply, ScrapeRequest};

use self::merge::Recipient;
pub use self::policy::Policy;

/// Who announces, as the frontend knows it.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The address that the announce came from: the socket's, or the one that a trusted proxy gave. Canonical: an
    /// IPv4-mapped address is IPv4.
    pub ip: IpAddr,
    /// What is known of who that is.
    pub standing: Standing,
    /// How many peers a reply has room for: those that are told at all are then picked as if no more were wanted.
    pub max_peers: usize,
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

/// An announce that is answered but for the peers of upstream trackers.
#[derive(Debug)]
pub struct PendingReply {
    reply: AnnounceReply,
    client: Recipient,
    lists: PendingLists,
}

/// One tracker: what all frontends share.
#[derive(Debug)]
pub struct Tracker {
    policy: Policy,
    topology: Topology,
    store: Arc<Store>,
    forwarders: Option<Forwarders>,
    clock: Clock,
    shared_addresses: SharedAddressDetector,
    unlisted: Unlisted,
}

impl Tracker {
    /// Puts the parts together. Without `forwarders`, announces are answered from the store alone.
    pub fn new(
        policy: Policy,
        topology: Topology,
        store: Arc<Store>,
        forwarders: Option<Forwarders>,
        metrics: &Metrics,
    ) -> Self {
        let shared_addresses = SharedAddressDetector::new(metrics.gateways.clone());
        let unlisted = Unlisted { metrics: metrics.unlisted.clone(), told: Once::new() };
        Self { policy, topology, store, forwarders, clock: Clock::start(), shared_addresses, unlisted }
    }

    /// What clients are told about when to come back; refusals carry it too.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What an announce would be answered from the store, which is left as it is.
    pub fn peek(&self, requester: Requester<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let Some(addresses) = self.addresses(requester, request) else {
            return self.answer_outsider(requester, request);
        };
        let want = self.policy.want(request.numwant).min(requester.max_peers);
        let announcement =
            Announcement { action: Action::Peek, ..self.announcement(requester, request, addresses, want) };
        let now = self.clock.now();
        let local = self.store.announce(now, &self.topology, request.info_hash, &announcement);
        let warning = self.shared_addresses.warning(now, addresses.ip).filter(|_| !addresses.is_claim);
        self.reply(addresses.ip, local, warning)
    }

    /// Carries out one announce. What can be said at once, which is nearly always everything, is said at once.
    pub fn announce(&self, requester: Requester<'_>, request: &AnnounceRequest) -> Answer<AnnounceReply, PendingReply> {
        let Some(addresses) = self.addresses(requester, request) else {
            return Answer::Ready(self.answer_outsider(requester, request));
        };
        let ip = addresses.ip;
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.policy.want(request.numwant).min(requester.max_peers) };
        let mut announcement = self.announcement(requester, request, addresses, want);
        let place = announcement.place;
        // What comes back to us is ours already, and need not go round again: it is answered, and no more.
        let is_loop = self.forwarders.as_ref().is_some_and(|forwarders| forwarders.is_loop(requester.via));
        if is_loop {
            announcement.action = Action::Peek;
        }
        let now = self.clock.now();
        let local = self.store.announce(now, &self.topology, request.info_hash, &announcement);
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
            self.shared_addresses.saw(now, &sighting)
        };
        let reply = self.reply(ip, local, warning);
        // Another retracker is told of our own swarm only: if it forwards to us as we do to it, each would add what
        // the other has counted, again and again.
        let counts = requester.via.hops() == 0;
        let client = Recipient { place, outside: addresses.outside, port: request.port, want, counts };
        let Some(forwarders) = self.forwarders.as_ref().filter(|_| !is_loop) else { return Answer::Ready(reply) };
        let Requester { ip: source, user_agent, via, .. } = requester;
        // In the world upstream trackers are, as a rule.
        let outside = addresses.outside.unwrap_or(ip);
        let announce = UpstreamAnnounce { request, ip, outside, is_claim: addresses.is_claim, source, user_agent, via };
        if stopped {
            forwarders.leave(&announce);
            return Answer::Ready(reply);
        }
        let want = self.policy.with_upstream(want, reply.peers.len(), reply.complete);
        let client = Recipient { want, ..client };
        match forwarders.announce(&announce) {
            Answer::Ready(upstream) => Answer::Ready(self.merge(reply, client, &upstream)),
            Answer::Pending(lists) => Answer::Pending(PendingReply { reply, client, lists }),
        }
    }

    /// Where a client is recorded; none if it is not a client, as far as is known.
    fn addresses(&self, requester: Requester<'_>, request: &AnnounceRequest) -> Option<Addresses> {
        match requester.standing {
            Standing::Client => {
                Some(self.policy.ip_param.addresses(requester.ip, &request.claimed, requester.via.hops() > 0))
            }
            Standing::NoClaims => Some(Addresses { ip: requester.ip, is_claim: false, outside: None }),
            Standing::Page | Standing::Unclear | Standing::Untrusted => None,
        }
    }

    fn announcement(
        &self,
        requester: Requester<'_>,
        request: &AnnounceRequest,
        addresses: Addresses,
        want: usize,
    ) -> Announcement {
        let Addresses { ip, is_claim, outside } = addresses;
        Announcement {
            place: self.topology.locate(ip, requester.ip),
            is_claim,
            outside: outside.map(|ip| self.topology.zoned(ip)),
            source: requester.ip,
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
    fn answer_outsider(&self, requester: Requester<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.policy.want(request.numwant).min(requester.max_peers) };
        let addresses = Addresses { ip: requester.ip, is_claim: false, outside: None };
        let announcement = Announcement {
            place: ZonedIp::nowhere(requester.ip.is_ipv6()),
            port: None,
            action: Action::Peek,
            ..self.announcement(requester, request, addresses, want)
        };
        let local = self.store.announce(self.clock.now(), &self.topology, request.info_hash, &announcement);
        log::debug!(
            "announce {} from {} ({:?}), peer {}, is not listed: {} public peers",
            request.info_hash,
            requester.ip,
            requester.standing,
            request.peer_id,
            local.peers.len()
        );
        let unlisted = &self.unlisted.metrics;
        let (count, warning) = match requester.standing {
            Standing::Page => (&unlisted.page, PAGE),
            Standing::Untrusted => (&unlisted.unclear, UNTRUSTED),
            _ => (&unlisted.unclear, UNCLEAR),
        };
        count.inc();
        let external_ip = (requester.standing != Standing::Unclear).then_some(requester.ip);
        AnnounceReply { external_ip, ..self.reply(requester.ip, local, Some(warning.into())) }
    }

    /// Waits for the upstream trackers, and gives the whole reply.
    pub async fn finish(&self, pending: PendingReply) -> AnnounceReply {
        let PendingReply { reply, client, lists } = pending;
        let enough = |given: &[_]| merge::enough(&reply.peers, client, &self.topology, given);
        let upstream = lists.gather(enough).await;
        self.merge(reply, client, &upstream)
    }

    fn merge(&self, mut reply: AnnounceReply, client: Recipient, upstream: &UpstreamPeerSet) -> AnnounceReply {
        match upstream.lists.as_slice() {
            [] => {}
            [only] => self.add(&mut reply, client, only),
            several => self.add(&mut reply, client, &UpstreamPeers::combined(several)),
        }
        if upstream.pending && reply.peers.len() < client.want {
            self.policy.shorten_interval(&mut reply);
        }
        reply
    }

    fn add(&self, reply: &mut AnnounceReply, client: Recipient, upstream: &UpstreamPeers) {
        merge::add_peers(&mut reply.peers, client, &self.topology, upstream);
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
        self.shared_addresses.notices(self.clock.now())
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

    fn reply(&self, ip: IpAddr, local: Selection, warning: Option<Cow<'static, str>>) -> AnnounceReply {
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
