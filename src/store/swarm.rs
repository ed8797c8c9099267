//! One torrent's peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use super::announcement::{Action, Announcement, Selection};
use super::arrival::{Arrival, Arriving, Effect, succeed};
use super::client_id::{ClientId, Prefixes};
use super::completions::Completions;
use super::context::StoreContext;
use super::delta::{CountDelta, LostFirsts};
use super::entry::{Entry, PeerKey};
use super::last_use::LastUse;
use super::leaving::Leaving;
use super::peers::{Peers, Swept};
use super::pick::PeerQuery;
use super::time::{Tick, TtlTicks};
use crate::eviction::{Rank, Source, SourceWeights};
use crate::topology::{ZoneId, ZonedIp};
use tracker_protocol::{Endpoint, InfoHash, Ip, PeerLists, Role, SwarmCounts};

/// How many peers of a long list one announce checks for expiry.
pub(super) const SWEEP: usize = 64;

/// How many clients get another first address in the same call that removed their first address. The other clients get
/// a first address when they announce.
const MAX_SUCCESSORS: usize = 64;

/// How many peers of each family in a swarm are candidates for eviction.
const LOOKS: usize = 8;

/// One torrent's peers of both families. The struct takes only 64 bytes besides the lists, because there may be a swarm
/// for every few peers. A scrape reads only these bytes, usually one cache line. (If swarms were aligned to cache
/// lines, the allocator would take 128 bytes for many of them.)
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) info_hash: InfoHash,
    /// The counts of the lists. A client on both families counts once.
    pub(super) counts: SwarmCounts,
    pub(super) last_use: LastUse,
    /// No peer expires before this moment.
    pub(super) next_sweep: Tick,
    v4: Peers<Ipv4Addr>,
    /// `None` without IPv6 peers. Many networks have only IPv4.
    v6: Option<Box<Peers<Ipv6Addr>>>,
}

const _: () = assert!(size_of::<Swarm>() == 64);

/// What is removed to make room: a peer, or a swarm that has no peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) info_hash: InfoHash,
    /// The address, zone and port of the peer. `None` for a swarm that has no peers.
    pub(super) at: Option<(ZonedIp, NonZeroU16)>,
}

impl Swarm {
    pub(super) fn new(info_hash: InfoHash, now: Tick) -> Self {
        let counts = SwarmCounts::default();
        Self { info_hash, counts, last_use: LastUse::never(now), next_sweep: now, v4: Peers::default(), v6: None }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    /// Returns whether the swarm can be dropped: no peers, and a `downloaded` count that is 0 or expired.
    pub(super) fn is_over(&self, now: Tick, life: TtlTicks) -> bool {
        self.len() == 0 && (self.counts.downloaded == 0 || life.is_over(now.since(self.last_use.last())))
    }

    pub(super) fn announce(
        &mut self,
        context: StoreContext<'_>,
        announcement: &Announcement,
        prefixes: &mut Prefixes,
        completions: &mut Completions,
        change: &mut CountDelta<'_>,
    ) -> Selection {
        let StoreContext { now, life, .. } = context;
        self.last_use = self.last_use.again_at(now);
        self.sweep(now, life, SWEEP, change);
        let is_kept = matches!(announcement.action, Action::Stay { .. }) && announcement.port.is_some();
        let id = prefixes.shorten(announcement.peer_id, now, is_kept);
        let effect = match announcement.action {
            Action::Stay { completed } => self.stay(context, announcement, id, completed, completions, change),
            Action::Leave => {
                self.leave(announcement, id, change);
                Effect::LEFT
            }
            Action::Peek => Effect::default(),
        };
        let mut peers = PeerLists::default();
        if announcement.want > 0 {
            let query = PeerQuery::new(announcement, context, id, prefixes);
            peers = self.pick(&query);
            if query.found_expired.get() && peers.is_empty() {
                // Most peers of a long list have expired, and the search found no peer that has not.
                self.purge(now, life, change);
                peers = self.pick(&query);
            }
        }
        let others_at_address = effect.others_at_address;
        Selection { counts: self.counts, peers, others_at_address, hearing: effect.hearing(context) }
    }

    /// Returns the counts for a scrape.
    pub(super) fn scrape(&mut self, now: Tick, life: TtlTicks, change: &mut CountDelta<'_>) -> SwarmCounts {
        self.last_use = self.last_use.again_at(now);
        self.sweep(now, life, SWEEP, change);
        self.counts
    }

    /// Computes the counts again. Each method that changes a list must call this method.
    fn recount(&mut self) {
        let mut counts = self.v4.counts();
        if let Some(v6) = &self.v6 {
            counts.iter_mut().zip(v6.counts()).for_each(|(count, more)| *count += more);
        }
        let [leechers, partial_seeds, seeds] = counts;
        self.counts = SwarmCounts {
            complete: count(seeds),
            incomplete: count(leechers + partial_seeds),
            partial_seeds: count(partial_seeds),
            ..self.counts
        };
    }

    /// Counts all peers as gone, before the swarm is dropped.
    pub(super) fn forget(&self, change: &mut CountDelta<'_>) {
        self.v4.iter().for_each(|entry| change.gone(entry));
        self.v6.iter().flat_map(|v6| v6.iter()).for_each(|entry| change.gone(entry));
    }

    pub(super) fn counts(&self) -> SwarmCounts {
        self.counts
    }

    pub(super) fn v4(&self) -> &Peers<Ipv4Addr> {
        &self.v4
    }

    pub(super) fn v6(&self) -> Option<&Peers<Ipv6Addr>> {
        self.v6.as_deref()
    }

    fn has_seconds(&self) -> bool {
        self.v4.has_seconds() || self.v6.as_ref().is_some_and(|v6| v6.has_seconds())
    }

    /// Drops expired peers; of a long list, checks at most `most`. Costs nothing while no peer can have expired.
    /// Returns whether there is more to do.
    pub(super) fn sweep(&mut self, now: Tick, life: TtlTicks, most: usize, change: &mut CountDelta<'_>) -> bool {
        if !self.next_sweep.has_come(now) {
            return false;
        }
        let mut lost = LostFirsts::of(self.has_seconds());
        let v4 = self.v4.sweep(now, life, most, |gone| lost.note(gone, change));
        let v6 = self.v6.as_mut().map(|v6| v6.sweep(now, life, most, |gone| lost.note(gone, change)));
        self.after_removal(lost, change);
        self.next_sweep = match (v4, v6) {
            (Swept::Whole(v4), None) => life.end(now, v4),
            (Swept::Whole(v4), Some(Swept::Whole(v6))) => life.end(now, v4.max(v6)),
            _ => return true,
        };
        // Only a part of a long list may have been checked. The next sweep must be soon.
        if self.v4.is_long() || self.v6.as_ref().is_some_and(|v6| v6.is_long()) {
            self.next_sweep = life.soon(now);
        }
        false
    }

    /// Drops all expired peers of a long list, if nearly all have expired. Takes a millisecond for half a million
    /// peers.
    fn purge(&mut self, now: Tick, life: TtlTicks, change: &mut CountDelta<'_>) {
        let mut lost = LostFirsts::of(self.has_seconds());
        if self.v4.is_mostly_stale(now, life) {
            self.v4.purge(now, life, |gone| lost.note(gone, change));
        }
        if let Some(v6) = self.v6.as_mut().filter(|v6| v6.is_mostly_stale(now, life)) {
            v6.purge(now, life, |gone| lost.note(gone, change));
        }
        self.after_removal(lost, change);
    }

    /// Must be called after a removal. Gives the clients in `ids` another first address, and updates the counts.
    fn after_removal(&mut self, LostFirsts(ids): LostFirsts, change: &mut CountDelta<'_>) {
        for id in ids.into_iter().flatten().take(MAX_SUCCESSORS) {
            succeed(&mut self.v4, self.v6.as_deref_mut(), id, change);
        }
        self.v6.take_if(|v6| v6.len() == 0);
        self.recount();
    }

    pub(super) fn stay(
        &mut self,
        context: StoreContext<'_>,
        announcement: &Announcement,
        id: ClientId,
        completed: bool,
        completions: &mut Completions,
        change: &mut CountDelta<'_>,
    ) -> Effect {
        let &Announcement { place, port, role, is_claim, outside, source, peer_id, .. } = announcement;
        let Some(port) = port else { return Effect::default() };
        let claimant = Source::claimant;
        let claim = is_claim.then(|| claimant(source));
        let arriving = Arriving { context, id, role, claim, completed };
        let arrival = self.arrive(&arriving, place, port, change);
        if let Some(outside) = outside.filter(|_| !is_claim) {
            // The first address's zone decides which clients get the second address.
            let seen_from = ZonedIp { ip: outside.ip, zone: place.zone };
            if !self.announces_itself(outside, port, context) {
                self.arrive(&Arriving { claim: Some(claimant(source)), ..arriving }, seen_from, port, change);
            }
        }
        let is_first_time =
            completed && arrival.is_recorded && ![arrival.before_at_first, arrival.before].contains(&Some(Role::Seed));
        // A client that repeats `completed` counts once.
        let is_counted = is_first_time && (completions.insert(self.info_hash, peer_id) || self.counts.downloaded == 0);
        if is_counted {
            self.counts.downloaded = self.counts.downloaded.saturating_add(1);
        }
        if arrival.changed || outside.is_some() {
            self.recount();
        }
        arrival.effect(announcement, is_counted)
    }

    fn arrive(
        &mut self,
        arriving: &Arriving<'_>,
        place: ZonedIp,
        port: NonZeroU16,
        change: &mut CountDelta<'_>,
    ) -> Arrival {
        let ZonedIp { ip, zone } = place;
        match ip {
            IpAddr::V4(ip) => {
                let key = PeerKey { endpoint: Endpoint { ip, port }, zone };
                arriving.join(key, &mut self.v4, self.v6.as_deref_mut(), change)
            }
            IpAddr::V6(ip) => {
                let key = PeerKey { endpoint: Endpoint { ip, port }, zone };
                arriving.join(key, self.v6.get_or_insert_default(), Some(&mut self.v4), change)
            }
        }
    }

    /// Returns whether a peer announces from this endpoint. No claim may replace such a peer.
    fn announces_itself(
        &self,
        ZonedIp { ip, zone }: ZonedIp,
        port: NonZeroU16,
        StoreContext { now, life, .. }: StoreContext<'_>,
    ) -> bool {
        fn does<A: Ip>(entry: Option<(usize, Entry<A>)>, now: Tick, life: TtlTicks) -> bool {
            entry.is_some_and(|(_, entry)| !entry.is_claimed() && !life.is_over(now.since(entry.seen())))
        }
        match ip {
            IpAddr::V4(ip) => does(self.v4.at(PeerKey { endpoint: Endpoint { ip, port }, zone }), now, life),
            IpAddr::V6(ip) => {
                let key = PeerKey { endpoint: Endpoint { ip, port }, zone };
                does(self.v6.as_ref().and_then(|v6| v6.at(key)), now, life)
            }
        }
    }

    fn leave(&mut self, announcement: &Announcement, id: ClientId, change: &mut CountDelta<'_>) {
        let &Announcement { place, port, is_claim, outside, .. } = announcement;
        let leaving = Leaving { place, port, id, is_claim, heard: None };
        self.depart(&leaving, change);
        if let Some(ZonedIp { ip, .. }) = outside {
            let place = ZonedIp { ip, zone: place.zone };
            self.depart(&Leaving { place, is_claim: true, ..leaving }, change);
        }
    }

    pub(super) fn depart(&mut self, leaving: &Leaving, change: &mut CountDelta<'_>) {
        let &Leaving { place: ZonedIp { ip, zone }, port, id, .. } = leaving;
        let mut lost = LostFirsts::of(self.has_seconds());
        let before = self.len();
        match ip {
            IpAddr::V4(ip) => {
                let gone = |entry: &Entry<_>| lost.note(entry, change);
                self.v4.remove(key_of(ip, port, zone), id, |entry| leaving.removes(ip, entry), gone);
            }
            IpAddr::V6(ip) => {
                let gone = |entry: &Entry<_>| lost.note(entry, change);
                if let Some(v6) = &mut self.v6 {
                    v6.remove(key_of(ip, port, zone), id, |entry| leaving.removes(ip, entry), gone);
                }
            }
        }
        if self.len() < before {
            self.after_removal(lost, change);
        }
    }

    /// Looks at a few peers, and returns the peer whose source has the most peers. If the swarm has no peers, returns
    /// the swarm itself. The store compares the candidates of several swarms.
    pub(super) fn victim(&self, now: Tick, weights: &SourceWeights) -> (Rank, Victim) {
        fn heaviest<A: Ip>(peers: &Peers<A>, weights: &SourceWeights) -> Option<(u32, (ZonedIp, NonZeroU16))> {
            let of = |entry: &Entry<A>| {
                let Endpoint { ip, port } = entry.endpoint();
                (weights.of(entry.source()), (ZonedIp { ip: ip.into(), zone: entry.zone }, port))
            };
            peers.some(LOOKS).map(of).max_by_key(|(weight, _)| *weight)
        }
        let v4 = heaviest(&self.v4, weights);
        let v6 = self.v6.as_ref().and_then(|v6| heaviest(v6, weights));
        let heaviest = v4.into_iter().chain(v6).max_by_key(|(weight, _)| *weight);
        let idle = now.since(self.last_use.last()).into();
        let rank = heaviest
            .map_or_else(Rank::empty, |(weight, _)| Rank::new(weight, self.last_use.is_again(), self.len(), idle));
        (rank, Victim { info_hash: self.info_hash, at: heaviest.map(|(_, at)| at) })
    }

    pub(super) fn evict(&mut self, ZonedIp { ip, zone }: ZonedIp, port: NonZeroU16, change: &mut CountDelta<'_>) {
        let before = self.len();
        let mut lost = LostFirsts::of(self.has_seconds());
        match ip {
            IpAddr::V4(ip) => {
                let removed = self.v4.remove_key(PeerKey { endpoint: Endpoint { ip, port }, zone });
                removed.into_iter().for_each(|gone| lost.note(&gone, change));
            }
            IpAddr::V6(ip) => {
                let key = PeerKey { endpoint: Endpoint { ip, port }, zone };
                let removed = self.v6.as_mut().and_then(|v6| v6.remove_key(key));
                removed.into_iter().for_each(|gone| lost.note(&gone, change));
            }
        }
        change.evicted_peers += i64::from(self.len() < before);
        self.after_removal(lost, change);
    }

    /// Picks peers of the client's own family first, because the client can surely use this family. Second addresses
    /// come last.
    fn pick(&self, query: &PeerQuery<'_>) -> PeerLists {
        let Announcement { want, place, .. } = *query.announcement;
        let none = Peers::default();
        let v6 = self.v6.as_deref().unwrap_or(&none);
        let mut peers = PeerLists::default();
        for is_second in [false, true] {
            let room = want.saturating_sub(peers.len());
            if room == 0 || (is_second && !self.has_seconds()) {
                break;
            }
            let mixes_families = query.context.topology.mixes_families();
            let other = |visible: usize| if mixes_families { room - visible } else { 0 };
            if place.ip.is_ipv4() {
                let visible = query.pick(&self.v4, is_second, room, &mut peers.v4);
                query.pick(v6, is_second, other(visible), &mut peers.v6);
            } else {
                let visible = query.pick(v6, is_second, room, &mut peers.v6);
                query.pick(&self.v4, is_second, other(visible), &mut peers.v4);
            }
        }
        peers
    }
}

pub(super) fn key_of<A: Ip>(ip: A, port: Option<NonZeroU16>, zone: Option<ZoneId>) -> Option<PeerKey<A>> {
    port.map(|port| PeerKey { endpoint: Endpoint { ip, port }, zone })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
