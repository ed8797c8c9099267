//! One torrent's peers.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use super::client_id::{ClientId, Prefixes};
use super::entry::{Entry, Kind, Spot};
use super::peers::{Known, Peers, Swept, Upsert};
use super::ranked::Ranked;
use super::{Lifetime, Tick};
use crate::bittorrent::{
    Endpoint, InfoHash, Ip, Nearness, Peer, PeerId, PeerLists, Place, Role, SwarmCounts, Views, ZoneId,
};

/// Peers of a long list that one announce looks at for those that have expired.
const SWEEP: usize = 64;

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
    /// When the peer is new in the swarm: how many other clients are at its address.
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
    /// When somebody announced or scraped it last.
    pub(super) asked: Tick,
    /// There is nothing to be swept before.
    next_sweep: Tick,
    v4: Peers<Ipv4Addr>,
    /// None while there is none: most networks have one family or one that few use.
    v6: Option<Box<Peers<Ipv6Addr>>>,
}

const _: () = assert!(size_of::<Swarm>() == 64);

impl Swarm {
    pub(super) fn new(info_hash: InfoHash, now: Tick) -> Self {
        let counts = SwarmCounts::default();
        Self { info_hash, counts, asked: now, next_sweep: now, v4: Peers::default(), v6: None }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_over(&self, now: Tick, life: Lifetime) -> bool {
        self.len() == 0 && (self.counts.downloaded == 0 || life.is_over(now.since(self.asked)))
    }

    pub(super) fn announce(
        &mut self,
        present: Present<'_>,
        announcement: &Announcement,
        prefixes: &mut Prefixes,
        census: &mut Census,
    ) -> Picked {
        let Present { now, life, .. } = present;
        self.asked = now;
        self.sweep(now, life, SWEEP, census);
        let id = prefixes.shorten(announcement.peer_id);
        let others_at_address = match announcement.action {
            Action::Stay { completed } => self.stay(now, announcement, id, completed, census),
            Action::Leave => {
                self.leave(announcement, id, census);
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
                self.purge(now, life, census);
                peers = self.pick(&asking);
            }
        }
        Picked { counts: self.counts, peers, others_at_address }
    }

    /// The counts, for somebody who asks for no more.
    pub(super) fn scrape(&mut self, now: Tick, life: Lifetime, census: &mut Census) -> SwarmCounts {
        self.asked = now;
        self.sweep(now, life, SWEEP, census);
        self.counts
    }

    /// To be called when a list has changed.
    fn recount(&mut self) {
        let mut counts = self.v4.counts();
        if let Some(v6) = &self.v6 {
            let more = v6.counts().into_iter().zip(v6.second_addresses()).map(|(all, seconds)| all - seconds);
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
        let [leechers, partial_seeds, seeds] = counts;
        self.counts = SwarmCounts {
            complete: count(seeds),
            incomplete: count(leechers + partial_seeds),
            partial_seeds: count(partial_seeds),
            ..self.counts
        };
    }

    /// Peers by family and role.
    pub(super) fn census(&self) -> Census {
        let of = |[leechers, partial_seeds, seeds]: [usize; 3]| [seeds, leechers + partial_seeds].map(signed);
        [of(self.v4.counts()), self.v6.as_ref().map_or([0; 2], |v6| of(v6.counts()))]
    }

    /// Drops peers that have expired, `most` of a long list at the most. Costs nothing until the first of them can have.
    /// Tells whether there is more to be done.
    pub(super) fn sweep(&mut self, now: Tick, life: Lifetime, most: usize, census: &mut Census) -> bool {
        if !self.next_sweep.has_come(now) {
            return false;
        }
        let [v4_census, v6_census] = census;
        let mut singles = Singles::of(self.v6.is_some());
        let v4 = self.v4.sweep(now, life, most, |gone| singles.tally(v4_census, gone));
        let v6 = self.v6.as_mut().map(|v6| v6.sweep(now, life, most, |gone| tally(v6_census, gone.role, -1)));
        self.unpair(singles);
        self.v6.take_if(|v6| v6.len() == 0);
        self.recount();
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
    fn purge(&mut self, now: Tick, life: Lifetime, [v4_census, v6_census]: &mut Census) {
        let mut singles = Singles::of(self.v6.is_some());
        if self.v4.is_mostly_stale(now, life) {
            self.v4.purge(now, life, |gone| singles.tally(v4_census, gone));
        }
        if let Some(v6) = self.v6.as_mut().filter(|v6| v6.is_mostly_stale(now, life)) {
            v6.purge(now, life, |gone| tally(v6_census, gone.role, -1));
        }
        self.unpair(singles);
        self.v6.take_if(|v6| v6.len() == 0);
        self.recount();
    }

    fn stay(
        &mut self,
        now: Tick,
        announcement: &Announcement,
        id: ClientId,
        completed: bool,
        [v4_census, v6_census]: &mut Census,
    ) -> usize {
        let &Announcement { place: Place { ip, zone }, port, role, .. } = announcement;
        let Some(port) = port else { return 0 };
        // The other is what the client has said that it is under its address of the other family.
        let (joining, other) = match ip {
            IpAddr::V4(ip) => {
                let spot = Spot { endpoint: Endpoint { ip, port }, zone };
                let joining = join(&mut self.v4, spot, id, Kind::new(role, false), now, v4_census);
                if let Upsert::Refreshed(old) = joining.upsert {
                    self.pair(old.id);
                }
                self.pair(id);
                (joining, self.v6.as_ref().and_then(|v6| v6.role_of(id)))
            }
            IpAddr::V6(ip) => {
                let spot = Spot { endpoint: Endpoint { ip, port }, zone };
                let first = self.v4.role_of(id);
                let kind = Kind::new(role, first == Some(role));
                (join(self.v6.get_or_insert_default(), spot, id, kind, now, v6_census), first)
            }
        };
        // A client that says twice that it has finished has finished once.
        let was_seed = matches!(joining.upsert, Upsert::Refreshed(Known { role: Role::Seed, .. }));
        if completed && !was_seed && other != Some(Role::Seed) {
            self.counts.downloaded = self.counts.downloaded.saturating_add(1);
        }
        self.recount();
        joining.others_at_address
    }

    fn leave(&mut self, announcement: &Announcement, id: ClientId, [v4_census, v6_census]: &mut Census) {
        let &Announcement { place: Place { ip, zone }, port, .. } = announcement;
        let (removed, census) = match ip {
            IpAddr::V4(ip) => (self.v4.remove(ip, spot(ip, port, zone), id), v4_census),
            IpAddr::V6(ip) => (self.v6.as_mut().and_then(|v6| v6.remove(ip, spot(ip, port, zone), id)), v6_census),
        };
        self.is_gone(removed, census);
    }

    /// A peer that was in the list of a family no longer is.
    fn is_gone(&mut self, removed: Option<Known>, census: &mut [i64; 2]) {
        let Some(Known { role, id }) = removed else { return };
        tally(census, role, -1);
        self.v6.take_if(|v6| v6.len() == 0);
        self.pair(id);
        self.recount();
    }

    /// A client that has the same role under an address of either family counts once: under the IPv4 one.
    fn pair(&mut self, id: ClientId) {
        if let Some(v6) = &mut self.v6 {
            v6.pair(id, self.v4.role_of(id));
        }
    }

    fn unpair(&mut self, Singles(ids): Singles) {
        ids.into_iter().flatten().for_each(|id| self.pair(id));
    }

    /// Makes room by a peer at random, but not this one.
    pub(super) fn displace(&mut self, announcement: &Announcement, [v4_census, v6_census]: &mut Census) {
        let &Announcement { place: Place { ip, zone }, port, .. } = announcement;
        let (removed, census) = match ip {
            IpAddr::V4(ip) => (spot(ip, port, zone).and_then(|spot| self.v4.remove_any_but(spot)), v4_census),
            IpAddr::V6(ip) => {
                let others = spot(ip, port, zone).zip(self.v6.as_mut());
                (others.and_then(|(spot, v6)| v6.remove_any_but(spot)), v6_census)
            }
        };
        self.is_gone(removed, census);
    }

    /// The announcer's own family first: it is sure to reach that one.
    fn pick(&self, asking: &Asking<'_>) -> PeerLists {
        let Announcement { want, place, .. } = *asking.announcement;
        let none = Peers::default();
        let v6 = self.v6.as_deref().unwrap_or(&none);
        let mut peers = PeerLists::default();
        if place.ip.is_ipv4() {
            asking.pick(&self.v4, want, &mut peers.v4);
            asking.pick(v6, want - peers.v4.len(), &mut peers.v6);
        } else {
            asking.pick(v6, want, &mut peers.v6);
            asking.pick(&self.v4, want - peers.v6.len(), &mut peers.v4);
        }
        peers
    }
}

fn spot<A: Ip>(ip: A, port: Option<NonZeroU16>, zone: Option<ZoneId>) -> Option<Spot<A>> {
    port.map(|port| Spot { endpoint: Endpoint { ip, port }, zone })
}

/// What became of a peer that announced.
struct Joining {
    upsert: Upsert,
    /// When it is new, how many others are at its address.
    others_at_address: usize,
}

fn join<A: Ip>(
    peers: &mut Peers<A>,
    spot: Spot<A>,
    id: ClientId,
    kind: Kind,
    now: Tick,
    census: &mut [i64; 2],
) -> Joining {
    let upsert = peers.upsert(spot, id, kind, now);
    if let Upsert::Refreshed(old) = upsert {
        tally(census, old.role, -1);
    }
    tally(census, kind.role(), 1);
    let others_at_address = if upsert == Upsert::Joined { peers.others_at(spot.endpoint.ip, spot.zone, id) } else { 0 };
    Joining { upsert, others_at_address }
}

/// Clients whose IPv4 address has expired, so that from now on they count under their IPv6 one. Not kept where there is none.
struct Singles(Option<Vec<ClientId>>);

impl Singles {
    fn of(is_dual_stack: bool) -> Self {
        Self(is_dual_stack.then(Vec::new))
    }

    fn tally(&mut self, census: &mut [i64; 2], gone: Known) {
        tally(census, gone.role, -1);
        if let Some(ids) = &mut self.0 {
            ids.push(gone.id);
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
    fn pick<A: Ip>(&self, peers: &Peers<A>, want: usize, out: &mut Vec<Peer<A>>) {
        let &Announcement { place, role, .. } = self.announcement;
        let (own, zone, now) = (A::of(place.ip), place.zone, self.present.now);
        out.reserve_exact(want.min(peers.len()));
        let mut ranked = Ranked::new(out, want);
        let nearness = |entry: &Entry<A>| Nearness::of(own, zone, entry.ip, entry.zone);
        let nearest = Nearness::nearest(own, zone);
        peers.pick(role.downloads(), nearest, nearness, |entry| self.told(entry, now), &mut ranked);
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
        if entry.id == self.id || (peer == place && Some(endpoint.port) == port) {
            return None;
        }
        endpoint.ip = self.present.views.address_for(place, peer).and_then(A::of)?;
        Some(Peer { endpoint, id: if ids { self.prefixes.restore(entry.id) } else { None } })
    }
}

/// So many more peers of that role.
fn tally([seeds, others]: &mut [i64; 2], role: Role, more: i64) {
    *(if role == Role::Seed { seeds } else { others }) += more;
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
