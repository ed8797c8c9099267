//! Decides what an announce changes and what its reply contains: topology → store → forward → merge. Knows no web
//! framework, no encoding and no sockets.

mod explain;
mod hearings;
mod largest;
mod merge;
pub mod policy;
mod requester;
mod sharing;
#[cfg(test)]
mod simulation;
mod unlisted;

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::answer::Answer;
use crate::clock::Clock;
pub use crate::forward::{
    ForwardLimits, ForwarderStatus, LimitUse, TorrentAtForwarder, UpstreamPeers, UpstreamTorrent,
};
use crate::forward::{Forwarders, PendingLists, UpstreamAnnounce, UpstreamPeerSet};
use crate::metrics::Metrics;
use crate::store::{Action, Announcement, Selection, Store, Totals};
pub use crate::store::{HiddenPeer, ListedPeer, PeerExplanation, PeerVerdict, SwarmExplanation, SwarmListing};
use crate::topology::reach::Reach;
use crate::topology::{Addresses, SharedAddressDetector, Sighting, Topology, ZoneId, ZonedIp};
use tracker_protocol::{AnnounceReply, AnnounceRequest, Event, InfoHash, NumWant, PeerId, Protocol, Role};
use tracker_protocol::{ScrapeReply, SwarmCounts};

use self::explain::given;
pub use self::explain::{Explanation, ForwarderExplanation, ListUse, TorrentView};
use self::hearings::SwarmSharing;
use self::largest::LargestTorrents;
pub use self::largest::TorrentOrder;
use self::merge::Recipient;
pub use self::policy::{IntervalVariation, Policy, RequestLimits, WantLimits};
pub use self::requester::{Requester, Standing};
use self::unlisted::Unlisted;

/// A reply that lacks only the peers of upstream trackers.
#[derive(Debug)]
pub struct PendingReply {
    reply: AnnounceReply,
    client: Recipient,
    lists: PendingLists,
}

/// The tracker, which all frontends share.
#[derive(Debug)]
pub struct Tracker {
    policy: Policy,
    topology: Topology,
    store: Arc<Store>,
    forwarders: Option<Forwarders>,
    swarm_sharing: Option<SwarmSharing>,
    clock: Clock,
    shared_addresses: SharedAddressDetector,
    unlisted: Unlisted,
    largest: LargestTorrents,
}

impl Tracker {
    /// Makes a tracker of these parts. Without `forwarders`, it answers from the store alone.
    pub fn new(
        policy: Policy,
        topology: Topology,
        store: Arc<Store>,
        forwarders: Option<Forwarders>,
        metrics: &Metrics,
    ) -> Self {
        let shared_addresses = SharedAddressDetector::new(metrics.gateways.clone());
        let unlisted = Unlisted::new(metrics.unlisted.clone());
        Self {
            policy,
            topology,
            store,
            forwarders,
            swarm_sharing: None,
            clock: Clock::start(),
            shared_addresses,
            unlisted,
            largest: LargestTorrents::default(),
        }
    }

    /// Returns the tracker's rules. Frontends put the interval into refusals, and apply the limits to requests.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the reply that an announce would get from the store, which does not change.
    pub fn peek(&self, requester: Requester<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let Some(addresses) = self.addresses(requester, request) else {
            return self.answer_outsider(requester, request);
        };
        let want = self.want(requester, request);
        let announcement =
            Announcement { action: Action::Peek, ..self.announcement(requester, request, addresses, want) };
        let now = self.clock.now();
        let local = self.store.announce(now, &self.topology, request.info_hash, &announcement);
        let warning = self.shared_addresses.warning(now, addresses.ip).filter(|_| !addresses.is_claim);
        self.reply(request, addresses.ip, local, warning)
    }

    /// Carries out an announce. The reply is ready at once, unless it must wait for upstream peers.
    pub fn announce(&self, requester: Requester<'_>, request: &AnnounceRequest) -> Answer<AnnounceReply, PendingReply> {
        let Some(addresses) = self.addresses(requester, request) else {
            return Answer::Ready(self.answer_outsider(requester, request));
        };
        let Addresses { ip, is_claim, .. } = addresses;
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.want(requester, request) };
        let mut announcement = self.announcement(requester, request, addresses, want);
        // An announce that we forwarded may come back. Then it is answered, but neither recorded nor forwarded.
        let is_loop = self.forwarders.as_ref().is_some_and(|forwarders| forwarders.is_loop(requester.via));
        if is_loop {
            announcement.action = Action::Peek;
        }
        let now = self.clock.now();
        let local = self.store.announce(now, &self.topology, request.info_hash, &announcement);
        if let Some(sharing) = &self.swarm_sharing {
            sharing.heard(now, request.info_hash, &announcement, &local);
        }
        log::debug!(
            "announce {} from {ip} port {} peer {} {}: {} local peers",
            request.info_hash,
            request.port.map_or(0, Into::into),
            request.peer_id,
            request.event.map_or("update", Event::name),
            local.peers.len()
        );
        let warning = if is_claim {
            None
        } else if announcement.port.is_none() && request.port.is_some() {
            Some(self.unlisted.unreachable(ip))
        } else {
            let others = local.others_at_address;
            let sighting = Sighting { source: ip, swarm: request.info_hash, client: request.peer_id, others };
            self.shared_addresses.saw(now, &sighting)
        };
        let reply = self.reply(request, ip, local, warning);
        // Another retracker gets only our own counts. Otherwise two retrackers that forward to each other would add
        // each other's counts again and again.
        let counts = requester.via.hops() == 0;
        let client =
            Recipient { place: announcement.place, outside: addresses.outside, port: request.port, want, counts };
        let Some(forwarders) = self.forwarders.as_ref().filter(|_| !is_loop) else { return Answer::Ready(reply) };
        let Requester { ip: source, user_agent, via, is_confidential, .. } = requester;
        // Upstream trackers and their peers are usually outside the client's network, and reach the client only at this
        // address.
        let outside = addresses.outside.unwrap_or(ip);
        let announce = UpstreamAnnounce { request, ip, outside, is_claim, source, user_agent, via, is_confidential };
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

    /// Returns how many peers the sender gets at most.
    fn want(&self, Requester { protocol, max_peers, .. }: Requester<'_>, request: &AnnounceRequest) -> usize {
        self.policy.limits(protocol).want(request.numwant).min(max_peers)
    }

    /// Returns the addresses under which the sender is recorded. `None` if the sender is not known to be a client.
    fn addresses(&self, requester: Requester<'_>, request: &AnnounceRequest) -> Option<Addresses> {
        match requester.standing {
            Standing::Client => Some(self.policy.limits(requester.protocol).ip_param.addresses(
                requester.ip,
                &request.claimed,
                requester.via.hops() > 0,
            )),
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
            // A client that others cannot reach gets peers, but is not listed as one.
            port: request.port.filter(|_| Reach::of(ip) != Reach::Nowhere),
            peer_id: request.peer_id,
            role: request.role(),
            started: request.event == Some(Event::Started),
            action: match request.event {
                Some(Event::Stopped) => Action::Leave,
                event => Action::Stay { completed: event == Some(Event::Completed) },
            },
            want,
            ids: request.ids,
        }
    }

    /// Answers a sender not known to be a client: it gets public peers only, and is not recorded.
    fn answer_outsider(&self, requester: Requester<'_>, request: &AnnounceRequest) -> AnnounceReply {
        let stopped = request.event == Some(Event::Stopped);
        let want = if stopped { 0 } else { self.want(requester, request) };
        let addresses = Addresses { ip: requester.ip, is_claim: false, outside: None };
        let announcement = Announcement {
            place: ZonedIp::nowhere(requester.ip.is_ipv6()),
            port: None,
            action: Action::Peek,
            ..self.announcement(requester, request, addresses, want)
        };
        let local = self.store.announce(self.clock.now(), &self.topology, request.info_hash, &announcement);
        log::debug!(
            "announce {} from {} ({:?}), peer {}: the client is not listed and gets {} public peers",
            request.info_hash,
            requester.ip,
            requester.standing,
            request.peer_id,
            local.peers.len()
        );
        let warning = self.unlisted.outsider(requester.standing);
        let external_ip = (requester.standing != Standing::Unclear).then_some(requester.ip);
        AnnounceReply { external_ip, ..self.reply(request, requester.ip, local, Some(warning)) }
    }

    /// Waits for the upstream trackers, and returns the complete reply.
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

    /// Explains what a client at `ip` would get now. If the swarm has a peer at `ip` (and at `port`, if given),
    /// explains what that peer would get. The store does not change.
    pub fn explain(&self, ip: IpAddr, port: Option<NonZeroU16>, info_hash: InfoHash) -> Explanation {
        let place = self.topology.zoned(ip);
        let usual = self.policy.limits(Protocol::Http).want(NumWant::Default);
        let announcement = Announcement {
            place,
            is_claim: false,
            outside: None,
            source: ip,
            port,
            peer_id: PeerId([0; 20]),
            role: Role::Leecher,
            started: false,
            action: Action::Peek,
            want: usual,
            ids: false,
        };
        let swarm = self.store.explain(self.clock.now(), &self.topology, info_hash, &announcement);
        let client = swarm.as_ref().and_then(|swarm| swarm.client);
        let role = client.map_or(Role::Leecher, |client| client.role);
        let port = client.map_or(port, |client| Some(client.port));
        let recipient = Recipient { place, outside: None, port, want: usual, counts: true };
        let local = given(swarm.as_ref());
        let forwarders = self.forwarders.as_ref().map(|all| all.explain(info_hash, role.downloads()));
        let explained = |at: TorrentAtForwarder| {
            let list = at.torrent.as_ref().and_then(|torrent| torrent.list.as_deref());
            let list = list.map(|list| merge::list_use(&local, recipient, &self.topology, list));
            ForwarderExplanation { at, list }
        };
        Explanation {
            ip,
            zone: place.zone.map(|zone| self.topology.zone_name(zone).to_owned()),
            role,
            usual,
            swarm,
            forwarders: forwarders.unwrap_or_default().into_iter().map(explained).collect(),
        }
    }

    /// Returns what the tracker knows of a torrent, for the operator; `None` if it knows nothing. The store does not
    /// change.
    pub fn torrent(&self, info_hash: InfoHash) -> Option<TorrentView> {
        let swarm = self.store.list(self.clock.now(), &self.topology, info_hash);
        let forwarders = self.forwarders.as_ref().map(|all| all.explain(info_hash, true)).unwrap_or_default();
        let is_known = swarm.is_some() || forwarders.iter().any(|at| at.torrent.is_some());
        is_known.then_some(TorrentView { swarm, forwarders })
    }

    /// Returns the largest torrents, the largest first: at most `most`, and at most 100. Counts are at most five
    /// seconds old. In a very large store, new torrents may be missing for some seconds.
    pub fn largest_torrents(&self, order: TorrentOrder, most: usize) -> Vec<(InfoHash, SwarmCounts)> {
        self.largest.look(self.clock.now(), &self.store, order, most)
    }

    /// Returns the name of a zone.
    pub fn zone_name(&self, zone: ZoneId) -> &str {
        self.topology.zone_name(zone)
    }

    /// Drops peers that have expired. The caller must call this once a second.
    pub fn housekeep(&self) {
        self.store.housekeep(self.clock.now());
    }

    /// Returns the upstream trackers, if a forwarders file is configured.
    pub fn forwarders(&self) -> Option<&Forwarders> {
        self.forwarders.as_ref()
    }

    /// Returns the state of each upstream tracker: none without a forwarders file.
    pub fn forwarder_status(&self) -> Vec<ForwarderStatus> {
        self.forwarders.as_ref().map(Forwarders::status).unwrap_or_default()
    }

    /// Returns the current faults and their remedies, for the operator, in plain text.
    pub fn notices(&self) -> Vec<String> {
        self.shared_addresses.notices(self.clock.now())
    }

    /// Returns the counts of one local swarm.
    pub fn counts(&self, info_hash: InfoHash) -> SwarmCounts {
        self.store.scrape(self.clock.now(), info_hash)
    }

    /// Removes a local swarm with all its peers. Returns whether the swarm existed.
    pub fn remove(&self, info_hash: InfoHash) -> bool {
        self.store.remove(info_hash)
    }

    /// Returns how many swarms and peers the store has.
    pub fn totals(&self) -> Totals {
        self.store.totals()
    }

    /// Returns each zone's name and numbers of seeds and other peers, in the order of the configuration.
    pub fn peers_by_zone(&self) -> impl Iterator<Item = (&str, [i64; 2])> {
        self.topology.zones().map(|(zone, name)| (name, self.store.peers_in(zone)))
    }

    /// Answers a scrape with the counts of the local swarms.
    pub fn scrape(&self, info_hashes: &[InfoHash]) -> ScrapeReply {
        let now = self.clock.now();
        let mut info_hashes = info_hashes.to_vec();
        info_hashes.sort_unstable();
        info_hashes.dedup();
        let files = info_hashes.into_iter().map(|hash| (hash, self.store.scrape(now, hash))).collect();
        ScrapeReply { files, min_request_interval: self.policy.interval }
    }

    fn reply(
        &self,
        request: &AnnounceRequest,
        ip: IpAddr,
        local: Selection,
        warning: Option<Cow<'static, str>>,
    ) -> AnnounceReply {
        let (interval, min_interval) = self.policy.intervals(request.info_hash, request.peer_id);
        AnnounceReply {
            interval,
            min_interval,
            complete: local.counts.complete,
            incomplete: local.counts.incomplete,
            downloaded: local.counts.downloaded,
            external_ip: Some(ip),
            warning,
            peers: local.peers,
        }
    }
}
