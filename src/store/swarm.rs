//! One torrent's peers.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use super::arrival::{Arrival, Arriving, succeed};
use super::client_id::{ClientId, Prefixes};
use super::entry::{Entry, Spot};
use super::peers::{Peers, Swept};
use super::ranked::Ranked;
use super::shard::{Change, Completions};
use super::weights::{Source, Weights};
use super::{Lifetime, Rhythm, Tick};
use crate::bittorrent::{
    Endpoint, InfoHash, Ip, Nearness, Peer, PeerId, PeerLists, Place, Role, SwarmCounts, Views, ZoneId,
};

/// Peers of a long list that one announce looks at for those that have expired.
const SWEEP: usize = 64;

/// Clients whose first addresses have expired, and that are given another one at once. Others get theirs when they announce.
const HEIRS: usize = 64;

/// Peers of a swarm among which one is looked for that can make room.
const LOOKS: usize = 8;

/// What an announce means for a swarm.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    /// Where the peer is: the address that it is recorded under, and its zone.
    pub place: Place,
    /// Whether the peer only claims that address, by `ip=`: the announce came from another one.
    pub is_claim: bool,
    /// A second address, for clients that cannot use the first: a public one that a peer in a private network claims.
    pub outside: Option<Place>,
    /// The address that the announce came from.
    pub source: IpAddr,
    /// Where it listens there.
    pub port: Option<NonZeroU16>,
    /// Its id.
    pub peer_id: PeerId,
    /// What it does in the swarm.
    pub role: Role,
    /// What becomes of it.
    pub action: Action,
    /// How many others it wants to be told of.
    pub want: usize,
    /// Whether it wants to know their ids.
    pub ids: bool,
}

/// What an announce meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    pub(super) now: Tick,
    pub(super) life: Lifetime,
    pub(super) rhythm: Rhythm,
    pub(super) views: &'a Views,
}

/// What becomes of a peer that announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is recorded, if it names a port. Others cannot connect to one that does not.
    Stay {
        /// Whether it has just finished its download.
        completed: bool,
    },
    /// It is removed.
    Leave,
    /// Nothing: it wants to be told of others only.
    Look,
}

/// What a swarm answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// The swarm after the announce.
    pub counts: SwarmCounts,
    /// Other peers, under the addresses by which the announcer reaches them: those of its own family before those of the
    /// other, of each the nearest first.
    pub peers: PeerLists,
    /// How many other clients are at the peer's address at the same time, as far as their announces tell; those that others
    /// claim for them do not count. Looked up when the peer is new in the swarm, or has turned out to announce at a slower
    /// pace, which is when it can be compared with the others; 0 at all other times.
    pub others_at_address: usize,
}

/// How many peers there are: IPv4 and IPv6, of each the seeds and the others. Or how many more there are than before.
pub(super) type Census = [[i64; 2]; 2];

/// One torrent's peers, of both families. 64 bytes and the lists: there may be a swarm for every few peers. They are one
/// line of a processor's cache as a rule, and all that a scrape looks at. (To ask for that alignment would have the allocator
/// take 128 bytes for many of them.)
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) info_hash: InfoHash,
    /// Of the lists as they are. A client on both families counts once.
    counts: SwarmCounts,
    pub(super) asked: Asked,
    /// There is nothing to be swept before.
    next_sweep: Tick,
    v4: Peers<Ipv4Addr>,
    /// None while there is none: most networks have one family or one that few use.
    v6: Option<Box<Peers<Ipv6Addr>>>,
}

const _: () = assert!(size_of::<Swarm>() == 64);

/// When somebody announced or scraped a swarm last, and whether it was the first time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked(u16);

impl Asked {
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
    pub(super) at: Option<(Place, NonZeroU16)>,
    /// How many peers its source has.
    pub(super) weight: u32,
    /// Whether its swarm was asked for more than once.
    pub(super) is_again: bool,
    /// How long its swarm has not been asked for.
    pub(super) idle: u16,
    /// How many peers its swarm has.
    pub(super) len: usize,
}

impl Victim {
    /// The one for whom there is no room.
    pub(super) fn newcomer(info_hash: InfoHash, at: Option<(Place, NonZeroU16)>) -> Self {
        Self { info_hash, at, weight: 0, is_again: false, idle: 0, len: 1 }
    }

    /// The greatest goes: a peer of the heaviest source; of those, one of a swarm that was asked for once, the oldest of them;
    /// or one of the smallest swarm, and of equally small ones of the one that has not been asked for longest.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let len = if self.is_again { self.len } else { 0 };
        (self.at.is_none(), self.weight, !self.is_again, std::cmp::Reverse(len), self.idle)
    }
}

impl Swarm {
    pub(super) fn new(info_hash: InfoHash, now: Tick) -> Self {
        let counts = SwarmCounts::default();
        Self { info_hash, counts, asked: Asked::never(now), next_sweep: now, v4: Peers::default(), v6: None }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_over(&self, now: Tick, life: Lifetime) -> bool {
        self.len() == 0 && (self.counts.downloaded == 0 || life.is_over(now.since(self.asked.last())))
    }

    pub(super) fn announce(
        &mut self,
        present: Present<'_>,
        announcement: &Announcement,
        prefixes: &mut Prefixes,
        completions: &mut Completions,
        change: &mut Change<'_>,
    ) -> Picked {
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
            Action::Look => 0,
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
        Picked { counts: self.counts, peers, others_at_address }
    }

    /// The counts, for somebody who asks for no more.
    pub(super) fn scrape(&mut self, now: Tick, life: Lifetime, change: &mut Change<'_>) -> SwarmCounts {
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
    pub(super) fn forget(&self, change: &mut Change<'_>) {
        self.v4.iter().for_each(|entry| change.gone(entry));
        self.v6.iter().flat_map(|v6| v6.iter()).for_each(|entry| change.gone(entry));
    }

    fn has_seconds(&self) -> bool {
        self.v4.has_seconds() || self.v6.as_ref().is_some_and(|v6| v6.has_seconds())
    }

    /// Drops peers that have expired, `most` of a long list at the most. Costs nothing until the first of them can have.
    /// Tells whether there is more to be done.
    pub(super) fn sweep(&mut self, now: Tick, life: Lifetime, most: usize, change: &mut Change<'_>) -> bool {
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
    fn purge(&mut self, now: Tick, life: Lifetime, change: &mut Change<'_>) {
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
    fn are_gone(&mut self, Bereft(ids): Bereft, change: &mut Change<'_>) {
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
        change: &mut Change<'_>,
    ) -> usize {
        let &Announcement { place, port, role, is_claim, outside, source, peer_id, .. } = announcement;
        let Some(port) = port else { return 0 };
        let was_seed = completed && self.is_seed(id);
        let claimant = Source::claimant;
        let arriving = Arriving { present, id, role, claim: is_claim.then(|| claimant(source)) };
        let arrival = self.arrive(&arriving, place, port, change);
        if let Some(outside) = outside.filter(|_| !is_claim) {
            // Its zone is that of the first address: who is told that one is told by it.
            let seen_from = Place { ip: outside.ip, zone: place.zone };
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

    fn arrive(&mut self, arriving: &Arriving<'_>, place: Place, port: NonZeroU16, change: &mut Change<'_>) -> Arrival {
        let Place { ip, zone } = place;
        match ip {
            IpAddr::V4(ip) => {
                let spot = Spot { endpoint: Endpoint { ip, port }, zone };
                arriving.join(spot, &mut self.v4, self.v6.as_deref_mut(), change)
            }
            IpAddr::V6(ip) => {
                let spot = Spot { endpoint: Endpoint { ip, port }, zone };
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
        Place { ip, zone }: Place,
        port: NonZeroU16,
        Present { now, life, .. }: Present<'_>,
    ) -> bool {
        fn does<A: Ip>(entry: Option<(usize, Entry<A>)>, now: Tick, life: Lifetime) -> bool {
            entry.is_some_and(|(_, entry)| !entry.is_claimed() && !life.is_over(now.since(entry.seen())))
        }
        match ip {
            IpAddr::V4(ip) => does(self.v4.at(Spot { endpoint: Endpoint { ip, port }, zone }), now, life),
            IpAddr::V6(ip) => {
                let spot = Spot { endpoint: Endpoint { ip, port }, zone };
                does(self.v6.as_ref().and_then(|v6| v6.at(spot)), now, life)
            }
        }
    }

    fn leave(&mut self, announcement: &Announcement, id: ClientId, change: &mut Change<'_>) {
        let &Announcement { place, port, is_claim, outside, .. } = announcement;
        self.depart(place, port, id, is_claim, change);
        if let Some(Place { ip, .. }) = outside {
            self.depart(Place { ip, zone: place.zone }, port, id, true, change);
        }
    }

    /// Removes a client from an address.
    fn depart(
        &mut self,
        Place { ip, zone }: Place,
        port: Option<NonZeroU16>,
        id: ClientId,
        is_claim: bool,
        change: &mut Change<'_>,
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

    /// The peer of the heaviest source, of a few.
    pub(super) fn victim(&self, now: Tick, weights: &Weights) -> Victim {
        fn heaviest<A: Ip>(peers: &Peers<A>, weights: &Weights) -> Option<(u32, (Place, NonZeroU16))> {
            let of = |entry: &Entry<A>| {
                let Endpoint { ip, port } = entry.endpoint();
                (weights.of(entry.source()), (Place { ip: ip.into(), zone: entry.zone }, port))
            };
            peers.some(LOOKS).map(of).max_by_key(|(weight, _)| *weight)
        }
        let v4 = heaviest(&self.v4, weights);
        let v6 = self.v6.as_ref().and_then(|v6| heaviest(v6, weights));
        let heaviest = v4.into_iter().chain(v6).max_by_key(|(weight, _)| *weight);
        Victim {
            info_hash: self.info_hash,
            at: heaviest.map(|(_, at)| at),
            weight: heaviest.map_or(u32::MAX, |(weight, _)| weight),
            is_again: self.asked.is_again(),
            idle: now.since(self.asked.last()),
            len: self.len(),
        }
    }

    /// Removes a peer, to make room.
    pub(super) fn evict(&mut self, Place { ip, zone }: Place, port: NonZeroU16, change: &mut Change<'_>) {
        let mut bereft = Bereft::of(self.has_seconds());
        match ip {
            IpAddr::V4(ip) => {
                let removed = self.v4.remove_spot(Spot { endpoint: Endpoint { ip, port }, zone });
                removed.into_iter().for_each(|gone| bereft.note(&gone, change));
            }
            IpAddr::V6(ip) => {
                let spot = Spot { endpoint: Endpoint { ip, port }, zone };
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

fn spot<A: Ip>(ip: A, port: Option<NonZeroU16>, zone: Option<ZoneId>) -> Option<Spot<A>> {
    port.map(|port| Spot { endpoint: Endpoint { ip, port }, zone })
}

/// Clients whose first address is gone, so that they may count under another one. Not kept where nobody has another.
struct Bereft(Option<Vec<ClientId>>);

impl Bereft {
    fn of(has_seconds: bool) -> Self {
        Self(has_seconds.then(Vec::new))
    }

    fn note<A: Ip>(&mut self, gone: &Entry<A>, change: &mut Change<'_>) {
        change.gone(gone);
        if let Some(ids) = self.0.as_mut().filter(|_| !gone.is_second()) {
            ids.push(gone.id());
        }
    }
}

/// Who is to be told of whom.
struct Asking<'a> {
    announcement: &'a Announcement,
    present: Present<'a>,
    id: ClientId,
    prefixes: &'a Prefixes,
    /// Whether some were met that have expired.
    met_stale: Cell<bool>,
}

impl Asking<'_> {
    /// Adds peers of one list. Tells how many.
    fn pick<A: Ip>(&self, peers: &Peers<A>, is_second: bool, want: usize, out: &mut Vec<Peer<A>>) -> usize {
        let &Announcement { place, role, .. } = self.announcement;
        let (own, zone, now) = (A::of(place.ip), place.zone, self.present.now);
        let nearness = |entry: &Entry<A>| Nearness::of(own, zone, entry.ip, entry.zone);
        let nearest = Nearness::nearest(own, zone);
        let eligible = peers.eligible(role.downloads(), is_second);
        let told = |entry: &Entry<A>| self.told(entry, now);
        if is_second {
            let mut more = Vec::new();
            Peers::pick(eligible, nearest, nearness, told, &mut Ranked::new(&mut more, want));
            // Behind one NAT, others may have been told under the same address and port.
            more.retain(|peer| !out.iter().any(|other| other.endpoint == peer.endpoint));
            let told = more.len();
            out.append(&mut more);
            return told;
        }
        out.reserve_exact(want.min(eligible.len()));
        Peers::pick(eligible, nearest, nearness, told, &mut Ranked::new(out, want));
        out.len()
    }

    /// As what the announcer is told of a peer, unless it has expired, is the announcer itself or cannot be reached.
    fn told<A: Ip>(&self, entry: &Entry<A>, now: Tick) -> Option<Peer<A>> {
        let &Announcement { place, port, ids, .. } = self.announcement;
        if self.present.life.is_over(now.since(entry.seen())) {
            self.met_stale.set(true);
            return None;
        }
        let mut endpoint = entry.endpoint();
        let peer = Place { ip: endpoint.ip.into(), zone: entry.zone };
        if entry.is_of(self.id) || (peer == place && Some(endpoint.port) == port) {
            return None;
        }
        if entry.is_outside() && self.reaches_the_first_of(peer) {
            return None;
        }
        endpoint.ip = self.present.views.address_for(place, peer).and_then(A::of)?;
        Some(Peer { endpoint, id: if ids { self.prefixes.restore(entry.id()) } else { None } })
    }

    /// Whether the announcer can use the first address of a client whose public address this is, claimed for those who cannot.
    fn reaches_the_first_of(&self, outside: Place) -> bool {
        let ip = match outside.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        };
        let asks = self.announcement.place;
        self.present.views.address_for(asks, Place { ip, ..outside }).is_some()
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
