//! One torrent's peers.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use super::announcement::{Action, Announcement, Selection};
use super::arrival::{Arrival, Arriving, succeed};
use super::client_id::{ClientId, Prefixes};
use super::entry::{Entry, PeerKey};
use super::peers::{Peers, Swept};
use super::pick::Asking;
use super::shard::{Completions, CountDelta};
use super::{Rhythm, Tick, TtlTicks};
use crate::eviction::{Rank, Source, SourceWeights};
use crate::topology::{Topology, ZoneId, ZonedIp};
use tracker_protocol::{Endpoint, InfoHash, Ip, PeerLists, Role, SwarmCounts};

/// Peers of a long list that one announce looks at for those that have expired.
const SWEEP: usize = 64;

/// Clients whose first addresses have expired, and that are given another one at once. Others get theirs when they announce.
const HEIRS: usize = 64;

/// Peers of a swarm among which one is looked for that can make room.
const LOOKS: usize = 8;

/// What an announce meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    pub(super) now: Tick,
    pub(super) life: TtlTicks,
    pub(super) rhythm: Rhythm,
    pub(super) topology: &'a Topology,
}

/// How many peers there are: IPv4 and IPv6, of each the seeds and the others. Or how many more there are than before.
pub(super) type PeerCounts = [[i64; 2]; 2];

/// One torrent's peers, of both families. 64 bytes and the lists: there may be a swarm for every few peers. They are one
/// line of a processor's cache as a rule, and all that a scrape looks at. (To ask for that alignment would have the allocator
/// take 128 bytes for many of them.)
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) info_hash: InfoHash,
    /// Of the lists as they are. A client on both families counts once.
    counts: SwarmCounts,
    pub(super) asked: LastAsked,
    /// There is nothing to be swept before.
    next_sweep: Tick,
    v4: Peers<Ipv4Addr>,
    /// None while there is none: most networks have one family or one that few use.
    v6: Option<Box<Peers<Ipv6Addr>>>,
}

const _: () = assert!(size_of::<Swarm>() == 64);

/// When somebody announced or scraped a swarm last, and whether it was the first time.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastAsked(u16);

impl LastAsked {
    const ONCE: u16 = 1 << Tick::BITS;
    const AGAIN: u16 = 2 << Tick::BITS;

    fn never(now: Tick) -> Self {
        Self(now.0)
    }

    /// As it is when it is asked for now.
    fn once_more(self, now: Tick) -> Self {
        let before = self.0 & !Tick::MASK;
        Self(now.0 | if before == 0 { Self::ONCE } else { Self::AGAIN })
    }

    fn last(self) -> Tick {
        Tick(self.0 & Tick::MASK)
    }

    fn is_again(self) -> bool {
        self.0 & Self::AGAIN != 0
    }
}

/// A peer that can make room for another one, or a swarm that has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) info_hash: InfoHash,
    /// Where the peer is; none of a swarm without peers.
    pub(super) at: Option<(ZonedIp, NonZeroU16)>,
}

impl Swarm {
    pub(super) fn new(info_hash: InfoHash, now: Tick) -> Self {
        let counts = SwarmCounts::default();
        Self { info_hash, counts, asked: LastAsked::never(now), next_sweep: now, v4: Peers::default(), v6: None }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_over(&self, now: Tick, life: TtlTicks) -> bool {
        self.len() == 0 && (self.counts.downloaded == 0 || life.is_over(now.since(self.asked.last())))
    }

    pub(super) fn announce(
        &mut self,
        present: Present<'_>,
        announcement: &Announcement,
        prefixes: &mut Prefixes,
        completions: &mut Completions,
        change: &mut CountDelta<'_>,
    ) -> Selection {
        let Present { now, life, .. } = present;
        self.asked = self.asked.once_more(now);
        self.sweep(now, life, SWEEP, change);
        let is_kept = matches!(announcement.action, Action::Stay { .. }) && announcement.port.is_some();
        let id = prefixes.shorten(announcement.peer_id, now, is_kept);
        let others_at_address = match announcement.action {
            Action::Stay { completed } => self.stay(present, announcement, id, completed, completions, change),
            Action::Leave => {
                self.leave(announcement, id, change);
                0
            }
            Action::Peek => 0,
        };
        let mut peers = PeerLists::default();
        if announcement.want > 0 {
            let asking = Asking { announcement, present, id, prefixes, met_stale: Cell::new(false) };
            peers = self.pick(&asking);
            if asking.met_stale.get() && peers.is_empty() {
                // So many have expired of a long list that those who have not were not met.
                self.purge(now, life, change);
                peers = self.pick(&asking);
            }
        }
        Selection { counts: self.counts, peers, others_at_address }
    }

    /// The counts, for somebody who asks for no more.
    pub(super) fn scrape(&mut self, now: Tick, life: TtlTicks, change: &mut CountDelta<'_>) -> SwarmCounts {
        self.asked = self.asked.once_more(now);
        self.sweep(now, life, SWEEP, change);
        self.counts
    }

    /// To be called when a list has changed.
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

    /// All its peers are about to go with it.
    pub(super) fn forget(&self, change: &mut CountDelta<'_>) {
        self.v4.iter().for_each(|entry| change.gone(entry));
        self.v6.iter().flat_map(|v6| v6.iter()).for_each(|entry| change.gone(entry));
    }

    fn has_seconds(&self) -> bool {
        self.v4.has_seconds() || self.v6.as_ref().is_some_and(|v6| v6.has_seconds())
    }

    /// Drops peers that have expired, `most` of a long list at the most. Costs nothing until the first of them can have.
    /// Tells whether there is more to be done.
    pub(super) fn sweep(&mut self, now: Tick, life: TtlTicks, most: usize, change: &mut CountDelta<'_>) -> bool {
        if !self.next_sweep.has_come(now) {
            return false;
        }
        let mut bereft = Bereft::of(self.has_seconds());
        let v4 = self.v4.sweep(now, life, most, |gone| bereft.note(gone, change));
        let v6 = self.v6.as_mut().map(|v6| v6.sweep(now, life, most, |gone| bereft.note(gone, change)));
        self.are_gone(bereft, change);
        self.next_sweep = match (v4, v6) {
            (Swept::Whole(v4), None) => life.end(now, v4),
            (Swept::Whole(v4), Some(Swept::Whole(v6))) => life.end(now, v4.max(v6)),
            _ => return true,
        };
        // Of a long list only the end was looked at just now.
        if self.v4.is_long() || self.v6.as_ref().is_some_and(|v6| v6.is_long()) {
            self.next_sweep = life.soon(now);
        }
        false
    }

    /// Drops all peers of a long list that have expired, if those who have not are few, so that it takes a millisecond for
    /// half a million.
    fn purge(&mut self, now: Tick, life: TtlTicks, change: &mut CountDelta<'_>) {
        let mut bereft = Bereft::of(self.has_seconds());
        if self.v4.is_mostly_stale(now, life) {
            self.v4.purge(now, life, |gone| bereft.note(gone, change));
        }
        if let Some(v6) = self.v6.as_mut().filter(|v6| v6.is_mostly_stale(now, life)) {
            v6.purge(now, life, |gone| bereft.note(gone, change));
        }
        self.are_gone(bereft, change);
    }

    /// Peers have left the lists.
    fn are_gone(&mut self, Bereft(ids): Bereft, change: &mut CountDelta<'_>) {
        for id in ids.into_iter().flatten().take(HEIRS) {
            succeed(&mut self.v4, self.v6.as_deref_mut(), id, change);
        }
        self.v6.take_if(|v6| v6.len() == 0);
        self.recount();
    }

    fn stay(
        &mut self,
        present: Present<'_>,
        announcement: &Announcement,
        id: ClientId,
        completed: bool,
        completions: &mut Completions,
        change: &mut CountDelta<'_>,
    ) -> usize {
        let &Announcement { place, port, role, is_claim, outside, source, peer_id, .. } = announcement;
        let Some(port) = port else { return 0 };
        let was_seed = completed && self.is_seed(id);
        let claimant = Source::claimant;
        let arriving = Arriving { present, id, role, claim: is_claim.then(|| claimant(source)) };
        let arrival = self.arrive(&arriving, place, port, change);
        if let Some(outside) = outside.filter(|_| !is_claim) {
            // Its zone is that of the first address: who is told that one is told by it.
            let seen_from = ZonedIp { ip: outside.ip, zone: place.zone };
            if !self.speaks_for_itself(outside, port, present) {
                self.arrive(&Arriving { claim: Some(claimant(source)), ..arriving }, seen_from, port, change);
            }
        }
        let is_first_time = completed && arrival.is_recorded && !was_seed && arrival.before != Some(Role::Seed);
        // A client that says again that it has finished has finished once.
        if is_first_time && (completions.is_news(self.info_hash, peer_id) || self.counts.downloaded == 0) {
            self.counts.downloaded = self.counts.downloaded.saturating_add(1);
        }
        if arrival.changed || outside.is_some() {
            self.recount();
        }
        arrival.others_at_address
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
                let spot = PeerKey { endpoint: Endpoint { ip, port }, zone };
                arriving.join(spot, &mut self.v4, self.v6.as_deref_mut(), change)
            }
            IpAddr::V6(ip) => {
                let spot = PeerKey { endpoint: Endpoint { ip, port }, zone };
                arriving.join(spot, self.v6.get_or_insert_default(), Some(&mut self.v4), change)
            }
        }
    }

    /// Whether a client has its first address here, as a seed.
    fn is_seed(&self, id: ClientId) -> bool {
        let v4 = self.v4.first_of(id).map(|(_, first)| first.kind().role());
        let v6 = || self.v6.as_ref().and_then(|v6| v6.first_of(id)).map(|(_, first)| first.kind().role());
        v4.or_else(v6) == Some(Role::Seed)
    }

    /// Whether a peer announces from this endpoint, so that none other can be told under it by a claim.
    fn speaks_for_itself(
        &self,
        ZonedIp { ip, zone }: ZonedIp,
        port: NonZeroU16,
        Present { now, life, .. }: Present<'_>,
    ) -> bool {
        fn does<A: Ip>(entry: Option<(usize, Entry<A>)>, now: Tick, life: TtlTicks) -> bool {
            entry.is_some_and(|(_, entry)| !entry.is_claimed() && !life.is_over(now.since(entry.seen())))
        }
        match ip {
            IpAddr::V4(ip) => does(self.v4.at(PeerKey { endpoint: Endpoint { ip, port }, zone }), now, life),
            IpAddr::V6(ip) => {
                let spot = PeerKey { endpoint: Endpoint { ip, port }, zone };
                does(self.v6.as_ref().and_then(|v6| v6.at(spot)), now, life)
            }
        }
    }

    fn leave(&mut self, announcement: &Announcement, id: ClientId, change: &mut CountDelta<'_>) {
        let &Announcement { place, port, is_claim, outside, .. } = announcement;
        self.depart(place, port, id, is_claim, change);
        if let Some(ZonedIp { ip, .. }) = outside {
            self.depart(ZonedIp { ip, zone: place.zone }, port, id, true, change);
        }
    }

    /// Removes a client from an address.
    fn depart(
        &mut self,
        ZonedIp { ip, zone }: ZonedIp,
        port: Option<NonZeroU16>,
        id: ClientId,
        is_claim: bool,
        change: &mut CountDelta<'_>,
    ) {
        let mut bereft = Bereft::of(self.has_seconds());
        let before = self.len();
        match ip {
            IpAddr::V4(ip) => {
                let gone = |entry: &Entry<_>| bereft.note(entry, change);
                self.v4.remove((ip, zone), spot(ip, port, zone), id, is_claim, gone);
            }
            IpAddr::V6(ip) => {
                let gone = |entry: &Entry<_>| bereft.note(entry, change);
                if let Some(v6) = &mut self.v6 {
                    v6.remove((ip, zone), spot(ip, port, zone), id, is_claim, gone);
                }
            }
        }
        if self.len() < before {
            self.are_gone(bereft, change);
        }
    }

    /// The peer of the heaviest source, of a few, and how soon it gives way.
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
        let idle = now.since(self.asked.last()).into();
        let rank =
            heaviest.map_or_else(Rank::empty, |(weight, _)| Rank::new(weight, self.asked.is_again(), self.len(), idle));
        (rank, Victim { info_hash: self.info_hash, at: heaviest.map(|(_, at)| at) })
    }

    /// Removes a peer, to make room.
    pub(super) fn evict(&mut self, ZonedIp { ip, zone }: ZonedIp, port: NonZeroU16, change: &mut CountDelta<'_>) {
        let mut bereft = Bereft::of(self.has_seconds());
        match ip {
            IpAddr::V4(ip) => {
                let removed = self.v4.remove_spot(PeerKey { endpoint: Endpoint { ip, port }, zone });
                removed.into_iter().for_each(|gone| bereft.note(&gone, change));
            }
            IpAddr::V6(ip) => {
                let spot = PeerKey { endpoint: Endpoint { ip, port }, zone };
                let removed = self.v6.as_mut().and_then(|v6| v6.remove_spot(spot));
                removed.into_iter().for_each(|gone| bereft.note(&gone, change));
            }
        }
        self.are_gone(bereft, change);
    }

    /// The announcer's own family first: it is sure to reach that one. Second addresses come after all first ones.
    fn pick(&self, asking: &Asking<'_>) -> PeerLists {
        let Announcement { want, place, .. } = *asking.announcement;
        let none = Peers::default();
        let v6 = self.v6.as_deref().unwrap_or(&none);
        let mut peers = PeerLists::default();
        for is_second in [false, true] {
            let room = want.saturating_sub(peers.len());
            if room == 0 || (is_second && !self.has_seconds()) {
                break;
            }
            if place.ip.is_ipv4() {
                let told = asking.pick(&self.v4, is_second, room, &mut peers.v4);
                asking.pick(v6, is_second, room - told, &mut peers.v6);
            } else {
                let told = asking.pick(v6, is_second, room, &mut peers.v6);
                asking.pick(&self.v4, is_second, room - told, &mut peers.v4);
            }
        }
        peers
    }
}

fn spot<A: Ip>(ip: A, port: Option<NonZeroU16>, zone: Option<ZoneId>) -> Option<PeerKey<A>> {
    port.map(|port| PeerKey { endpoint: Endpoint { ip, port }, zone })
}

/// Clients whose first address is gone, so that they may count under another one. Not kept where nobody has another.
struct Bereft(Option<Vec<ClientId>>);

impl Bereft {
    fn of(has_seconds: bool) -> Self {
        Self(has_seconds.then(Vec::new))
    }

    fn note<A: Ip>(&mut self, gone: &Entry<A>, change: &mut CountDelta<'_>) {
        change.gone(gone);
        if let Some(ids) = self.0.as_mut().filter(|_| !gone.is_second()) {
            ids.push(gone.id());
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
